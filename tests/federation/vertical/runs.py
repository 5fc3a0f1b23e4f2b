"""Runs of vertical training in one process."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from dayfly.federation.accounting import ReleaseBudget, TrialBudget
from dayfly.federation.alignment import Manifest, Rows
from dayfly.federation.identity import Identities, SigningIdentity
from dayfly.federation.local import LocalGrid
from dayfly.federation.vertical import (
    ChannelColumns,
    VerticalData,
    VerticalFit,
    VerticalParty,
    VerticalSpec,
    agree,
    train_vertical,
)
from dayfly.federation.wire import SERVER, Caller
from dayfly.privacy.noise import NoiseSource, OpenDpNoise
from tests.federation.secagg.sessions import digest

RUN = digest("run")[:16]
ALIGNMENT = digest("alignment")[:16]
PURPOSE = "analytics.joint-model"
NOW_MS = 1_000
Floats = np.ndarray[Any, np.dtype[np.float64]]
Columns = Mapping[str, Floats]


@dataclass
class Channels:
    """A synthetic world: every channel's rows, the label, and who has whom."""

    columns: Columns
    label_channel: str
    labels: Floats
    positions: Mapping[str, np.ndarray[Any, np.dtype[np.int64]]]
    universe: int

    @classmethod
    def whole(cls, columns: Columns, label_channel: str, labels: Floats) -> "Channels":
        """Everybody is in every channel, at the same place."""
        rows = len(labels)
        return cls(columns, label_channel, labels, dict.fromkeys(columns, np.arange(rows)), rows)


def manifest_of(identity: SigningIdentity, **changes: Any) -> Manifest:
    """Signed by the channel, valid for an hour from time 0."""
    fields: dict[str, Any] = {
        "party": identity.name,
        "run": ALIGNMENT,
        "purpose": PURPOSE,
        "count": 1_000,
        "issued_ms": 0,
        "expires_ms": 3_600_000,
        "points_digest": digest("points", identity.name),
    }
    return Manifest(**(fields | changes)).signed(identity)


def names_of(channel: str, values: Floats) -> tuple[str, ...]:
    return tuple(f"{channel}_{column}" for column in range(values.shape[1]))


def channel_columns(columns: Columns, *, bound: float = 4.0, clip: float = 2.0) -> list[ChannelColumns]:
    return [
        ChannelColumns(name, names_of(name, values), ((-bound, bound),) * values.shape[1], clip)
        for name, values in columns.items()
    ]


def spec_for(world: Channels, **options: Any) -> VerticalSpec:
    shape = {name: options.pop(name) for name in ("bound", "clip") if name in options}
    given: dict[str, Any] = {
        "label": "bought",
        "label_channel": world.label_channel,
        "alignment": ALIGNMENT,
        "universe": world.universe,
        "purpose": PURPOSE,
        "noise": None,
        **options,
    }
    return agree(channel_columns(world.columns, **shape), **given)


@dataclass
class Run:
    """Everything of a run, before it is run."""

    grid: LocalGrid
    caller: Caller
    budgets: dict[str, ReleaseBudget]
    parties: dict[str, VerticalParty]


def party_data(world: Channels, name: str) -> VerticalData:
    values = world.columns[name]
    labelled = name == world.label_channel
    return VerticalData(
        name,
        names_of(name, values),
        values,
        label="bought" if labelled else None,
        labels=world.labels if labelled else None,
    )


def prepared(
    world: Channels,
    *,
    budgets: Mapping[str, ReleaseBudget] | None = None,
    noise: NoiseSource | None = None,
    run: bytes = RUN,
    seed: object = 0,
    now_ms: Callable[[], int] = lambda: NOW_MS,
    data: Mapping[str, VerticalData] | None = None,
    **grid: Any,
) -> Run:
    names: Sequence[str] = list(world.columns)
    keys = {name: SigningIdentity(name, digest("node", name)) for name in (*names, SERVER)}
    identities = Identities({name: key.public_key for name, key in keys.items()})
    paid: dict[str, ReleaseBudget] = {name: TrialBudget() for name in names} | dict(budgets or {})
    rechecks: Mapping[str, Callable[[int], object]] = grid.pop("rechecks", {})
    parties = {
        name: VerticalParty(
            keys[name],
            identities,
            (data or {}).get(name) or party_data(world, name),
            Rows(world.universe, world.positions[name], manifest_of(keys[name])),
            run=run,
            random_bytes=lambda size, name=name: digest("root", name, seed)[:size],  # type: ignore[misc]
            noise=noise or OpenDpNoise(),
            budget=paid[name],
            now_ms=now_ms,
            recheck=rechecks.get(name, lambda _: None),
        )
        for name in names
    }
    local = LocalGrid(parties.values(), **grid)
    return Run(local, Caller(local, keys[SERVER], identities, run=run), paid, parties)


def trained(world: Channels, spec: VerticalSpec, **options: Any) -> tuple[VerticalFit, Run]:
    seed = options.get("seed", 0)
    ready = prepared(world, **options)
    fit = train_vertical(ready.caller, spec, random_bytes=lambda size: digest("dealer", seed)[:size])
    return fit, ready


def small_world(rows: int = 600, *, seed: int = 1) -> Channels:
    random = np.random.default_rng(seed)
    traits = random.normal(size=(rows, 2))
    columns = {
        name: random.normal(size=(rows, width)) + 0.5 * traits @ random.normal(size=(2, width))
        for name, width in (("app", 3), ("hotline", 2), ("wifi", 4))
    }
    score = np.hstack(list(columns.values())) @ random.normal(size=9) * 0.5 - 1.0
    labels = (random.random(rows) < 1 / (1 + np.exp(-score))).astype(np.float64)
    return Channels.whole(columns, "hotline", labels)
