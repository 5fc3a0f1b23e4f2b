"""Vertical training: as good as the pooled model without noise, nearly so with it, and what it costs."""

import hashlib
import importlib.util
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from dayfly.federation.accounting import TrialBudget
from dayfly.federation.alignment import Manifest, Rows
from dayfly.federation.identity import Identities, SigningIdentity
from dayfly.federation.local import LocalGrid
from dayfly.federation.model import JointModel, model_of_vertical
from dayfly.federation.vertical import (
    ChannelColumns,
    VerticalData,
    VerticalFit,
    VerticalParty,
    VerticalSpec,
    agree,
    plan_noise,
    train_vertical,
)
from dayfly.federation.wire import SERVER, Caller
from dayfly.privacy.noise import OpenDpNoise

from .federation_vertical_worlds import (
    VerticalWorld,
    bank_marketing,
    complete_journey,
    default_credit,
    four_channels,
)
from .rows import Row, at_least, at_most, missing_peer

__all__ = ["run"]

SUITE: Final = "federation"
EXACT_BAR, PRIVATE_BAR, ABOVE_SINGLE_BAR = 0.002, 0.005, 0.04
RELEASE_BAR, MESSAGE_BAR, SECONDS_BAR = 8, 14, 5.0
DELTA: Final = Fraction(1, 10**6)
STEPS: Final = 3
DATE: Final = "2026-11-23"
_PURPOSE: Final = "analytics.joint-model"
PEER: Final = "scikit-learn on the pooled rows"

Floats = NDArray[np.float64]
Picked = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class _Trained:
    """What a training gave and took."""

    fit: VerticalFit
    model: JointModel
    cpu_seconds: float
    messages: int
    megabytes: float


def run(*, quick: bool) -> list[Row]:
    """Rows of accuracy with and without noise, and of time."""
    if importlib.util.find_spec("sklearn") is None:
        return [missing_peer(SUITE, "vertical logistic", "scikit-learn", "install the test group")]
    rows = []
    root = _data()
    worlds: tuple[Callable[[Path], VerticalWorld], ...] = (bank_marketing, default_credit, complete_journey)
    if root is None:
        why = "set DAYFLY_SHARED_DATA to a copy of the data"
        rows.append(missing_peer(SUITE, "vertical logistic without noise", "the public data", why))
    else:
        rows += [_exact(world(root)) for world in worlds]
    for customers, epsilon in ((100_000, 1), (20_000, 4)):
        rows += _private(customers, epsilon, seeds=1 if quick else 3)
    return [*rows, *_cost()]


def _data() -> Path | None:
    named = os.environ.get("DAYFLY_SHARED_DATA")
    for root in (Path(named) if named else None, Path("../shared/data")):
        if root is not None and (root / "bank_marketing").is_dir():
            return root
    return None


def _digest(*parts: object) -> bytes:
    return hashlib.sha256(repr(parts).encode()).digest()


def _spec(world: VerticalWorld, rows: int, *, epsilon: int | None, clip: float) -> VerticalSpec:
    columns = [
        ChannelColumns(name, part.names, part.bounds, clip * len(part.names) ** 0.5)
        for name, part in world.channels.items()
    ]
    return agree(
        columns,
        label="label",
        label_channel=world.label_channel,
        alignment=_digest("alignment")[:16],
        universe=rows,
        purpose=_PURPOSE,
        steps=STEPS,
        noise=None if epsilon is None else plan_noise(Fraction(epsilon), DELTA, STEPS),
    )


def _trained(world: VerticalWorld, spec: VerticalSpec, picked: Picked) -> _Trained:
    """Train in one process: every frame is signed, sealed and checked as it would be between machines."""
    names = tuple(world.channels)
    keys = {name: SigningIdentity(name, _digest("node", name)) for name in (*names, SERVER)}
    identities = Identities({name: key.public_key for name, key in keys.items()})
    run_id = _digest("run")[:16]
    places = np.flatnonzero(picked)
    parties = []
    begin = time.process_time()
    for name, part in world.channels.items():
        here = np.flatnonzero(part.present[places])
        labelled = name == world.label_channel
        data = VerticalData(
            name,
            part.names,
            part.values[places[here]],
            label="label" if labelled else None,
            labels=world.labels[places[here]] if labelled else None,
        )
        manifest = Manifest(name, spec.alignment, _PURPOSE, len(here), 0, 2, bytes(32)).signed(keys[name])
        parties.append(
            VerticalParty(
                keys[name],
                identities,
                data,
                Rows(spec.universe, here, manifest),
                run=run_id,
                random_bytes=os.urandom,
                noise=OpenDpNoise(),
                budget=TrialBudget(),
                now_ms=lambda: 1,
            )
        )
    grid = LocalGrid(parties)
    fit = train_vertical(Caller(grid, keys[SERVER], identities, run=run_id), spec, random_bytes=os.urandom)
    seconds = time.process_time() - begin
    model = model_of_vertical(fit, run=run_id, date=DATE, delta=DELTA)
    megabytes = sum(grid.bytes_answered.values()) / 1e6
    return _Trained(fit, model, seconds, max(grid.messages.values()), megabytes)


def _peer(values: Floats, labels: Floats, picked: Picked) -> float:
    """AUC of scikit-learn's logistic regression on the rows that were not picked for training."""
    from sklearn.linear_model import LogisticRegression  # noqa: PLC0415 - a peer, not a dependency
    from sklearn.metrics import roc_auc_score  # noqa: PLC0415 - as above
    from sklearn.preprocessing import StandardScaler  # noqa: PLC0415 - as above

    scaler = StandardScaler().fit(values[picked])
    peer = LogisticRegression(max_iter=1_000).fit(scaler.transform(values[picked]), labels[picked])
    return float(roc_auc_score(labels[~picked], peer.decision_function(scaler.transform(values[~picked]))))


def _ours(world: VerticalWorld, model: JointModel, picked: Picked) -> float:
    from sklearn.metrics import roc_auc_score  # noqa: PLC0415 - as above

    return float(roc_auc_score(world.labels[~picked], model.score(_whole(world)[~picked])))


def _whole(world: VerticalWorld) -> Floats:
    return np.hstack([world.channels[name].filled for name in sorted(world.channels)])


def _exact(world: VerticalWorld) -> Row:
    picked = np.arange(len(world.labels)) % 5 != 0
    spec = _spec(world, int(picked.sum()), epsilon=None, clip=1.0)
    found = _trained(world, spec, picked)
    ours, theirs = _ours(world, found.model, picked), _peer(_whole(world), world.labels, picked)
    channels = ", ".join(f"{name} {len(part.names)}" for name, part in world.channels.items())
    few = "; with noise it is refused: fewer than 10,000 rows" if picked.sum() < 10_000 else ""
    return Row(
        suite=SUITE,
        case=f"vertical logistic on {world.name}, without noise: AUC difference to pooled",
        measured=round(abs(ours - theirs), 5),
        unit="AUC",
        peer=PEER,
        note=f"{ours:.4f} against {theirs:.4f} on every fifth row, both of columns cut at the same public bounds; columns: {channels}; {spec.universe:,} rows, {found.cpu_seconds:.1f} CPU s,"
        f" {found.messages} messages per channel{few}",
        **at_most(abs(ours - theirs), EXACT_BAR, "AUC"),
    )


def _private(customers: int, epsilon: int, *, seeds: int) -> list[Row]:
    below, above, note, releases, spent = [], [], [], 0, 0.0
    for seed in range(1, seeds + 1):
        world = four_channels(customers, seed)
        picked = np.arange(customers) < 0.7 * customers
        spec = _spec(world, int(picked.sum()), epsilon=epsilon, clip=0.5)
        found = _trained(world, spec, picked)
        ours, pooled = _ours(world, found.model, picked), _peer(_whole(world), world.labels, picked)
        single = max(_peer(part.filled, world.labels, picked) for part in world.channels.values())
        below.append(pooled - ours)
        above.append(ours - single)
        note.append(f"{ours:.4f} (pooled {pooled:.4f}, best channel {single:.4f})")
        releases, spent = len(found.fit.releases), found.model.card.epsilon or 0.0
    case = f"vertical logistic, {customers:,} customers in four channels, epsilon {epsilon}, delta 1e-6"
    told = f"worst of {seeds}, 70/30: {', '.join(note)}; epsilon spent {spent:.4f}, one channel may tell its noise"
    return [
        Row(
            suite=SUITE,
            case=f"{case}: AUC below pooled without privacy",
            measured=round(max(below), 5),
            unit="AUC",
            peer=PEER,
            note=told,
            **at_most(max(below), PRIVATE_BAR, "AUC"),
        ),
        Row(
            suite=SUITE,
            case=f"{case}: AUC above the best single channel",
            measured=round(min(above), 5),
            unit="AUC",
            note=told,
            **at_least(min(above), ABOVE_SINGLE_BAR, "AUC"),
        ),
        Row(
            suite=SUITE,
            case=f"{case}: releases",
            measured=releases,
            unit="releases",
            **at_most(releases, RELEASE_BAR, "releases"),
        ),
    ]


def _cost() -> list[Row]:
    world = four_channels(100_000, 1)
    picked = np.ones(100_000, np.bool_)
    spec = _spec(world, 100_000, epsilon=1, clip=0.5)
    found = _trained(world, spec, picked)  # the cases before it have compiled the kernels
    case = "vertical logistic with noise, 100,000 x 36 in four channels, in one process"
    note = (
        f"{found.messages} messages per channel, {found.megabytes:.0f} MB answered by all channels together"
    )
    return [
        Row(
            suite=SUITE,
            case=f"{case}: CPU of all channels and the coordinator",
            measured=round(found.cpu_seconds, 2),
            unit="s",
            note=note,
            **at_most(found.cpu_seconds, SECONDS_BAR, "s"),
        ),
        Row(
            suite=SUITE,
            case=f"{case}: messages per channel",
            measured=found.messages,
            unit="messages",
            **at_most(found.messages, MESSAGE_BAR, "messages"),
        ),
    ]
