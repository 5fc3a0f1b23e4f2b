"""Runs of horizontal training in one process."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from dayfly.federation.accounting import TrialBudget
from dayfly.federation.horizontal import (
    ChannelParty,
    GlmFit,
    GlmSettings,
    GlmSpec,
    GlmWorkload,
    Shard,
    Workload,
    train_glm,
)
from dayfly.federation.identity import Identities, SigningIdentity
from dayfly.federation.local import LocalGrid
from dayfly.federation.wire import SERVER, Caller
from dayfly.privacy.accounting import LossEvent
from dayfly.privacy.errors import DayflyError
from tests.federation.secagg.sessions import digest

RUN = digest("run")[:16]
Rows = Mapping[str, tuple[np.ndarray, np.ndarray]]


class Paid:
    """Keeps every charge in order, or refuses all of them with one reason."""

    def __init__(self, refusal: str = "") -> None:
        self.refusal = refusal
        self.losses: list[LossEvent] = []
        self.releases: list[str] = []

    def spend(self, *, run: bytes, release: str, loss: LossEvent) -> None:
        assert run == RUN
        if self.refusal:
            raise DayflyError(self.refusal)
        self.losses.append(loss)
        self.releases.append(release)


def grid_of(workloads: Mapping[str, Workload], **grid: Any) -> tuple[LocalGrid, Caller]:
    keys = {name: SigningIdentity(name, digest("node", name)) for name in (*workloads, SERVER)}
    identities = Identities({name: key.public_key for name, key in keys.items()})
    parties = [
        ChannelParty(
            keys[name],
            identities,
            workload,
            run=RUN,
            random_bytes=lambda size, name=name: digest("root", name)[:size],  # type: ignore[misc]
        )
        for name, workload in workloads.items()
    ]
    local = LocalGrid(parties, **grid)
    return local, Caller(local, keys[SERVER], identities, run=RUN)


def trained(rows: Rows, settings: GlmSettings, **grid: Any) -> tuple[GlmFit, LocalGrid]:
    spec = settings.spec
    workloads = {
        name: GlmWorkload(
            Shard(name, spec.features, values, spec.label, labels), run=RUN, budget=TrialBudget()
        )
        for name, (values, labels) in rows.items()
    }
    local, caller = grid_of(workloads, **grid)
    return train_glm(caller, settings, session=digest("session")[:16]), local


def pooled(rows: Rows, *names: str) -> tuple[np.ndarray, np.ndarray]:
    chosen = names or tuple(rows)
    return np.concatenate([rows[name][0] for name in chosen]), np.concatenate(
        [rows[name][1] for name in chosen]
    )


def spec_of(rows: Rows, family: Any, *, largest_label: float = 1.0) -> GlmSpec:
    """Bounds a good deal wider than the data, as bounds that are agreed beforehand are."""
    values, _ = pooled(rows)
    low, high = values.min(axis=0), values.max(axis=0)
    room = 0.25 * (high - low) + 1.0
    return GlmSpec(
        family,
        "label",
        tuple(f"x{column}" for column in range(values.shape[1])),
        tuple(zip((low - room).tolist(), (high + room).tolist(), strict=True)),
        largest_label,
        40_000,
    )
