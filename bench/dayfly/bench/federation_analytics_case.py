"""Federated analytics: what noise costs in customers, and what the protocols cost in CPU, all parties together, in this process."""

import hashlib
import math
import os
import time
from typing import Final

import numpy as np
from numpy.typing import NDArray

from dayfly.bench.rows import Row
from dayfly.federation.accounting import TrialBudget
from dayfly.federation.alignment import Manifest, Rows
from dayfly.federation.analytics import (
    OverlapParty,
    OverlapSpec,
    QuantileSpec,
    QuantileWorkload,
    count_overlap,
    secure_quantiles,
)
from dayfly.federation.horizontal import ChannelParty
from dayfly.federation.identity import Identities, SigningIdentity
from dayfly.federation.local import LocalGrid
from dayfly.federation.wire import SERVER, Caller
from dayfly.privacy.noise import OpenDpNoise

__all__ = ["run"]

SUITE: Final = "federation"
CHANNELS: Final = ("app", "hotline", "shop", "wifi")
PURPOSE: Final = "joint-model"
EPSILON_ONE_RHO: Final = 0.0243
"""zCDP with which Gaussian noise is (1, 1e-6)-DP, rounded down; the scales below are those of this loss."""


def run(*, quick: bool) -> list[Row]:
    """Rows of an overlap and of quantiles over four channels."""
    customers = 10_000 if quick else 100_000
    _overlap(1_000)  # compiles the kernel
    return [*_overlap(customers), *_quantiles(customers)]


def _overlap(customers: int) -> list[Row]:
    generator = np.random.default_rng(1)
    universe = customers + customers // 8
    keys, identities = _keys()
    run_id, alignment = os.urandom(16), hashlib.sha256(b"alignment").digest()[:16]
    spec = OverlapSpec("everybody", CHANNELS, universe, alignment, PURPOSE, _scale(1))
    rows = {name: generator.permutation(universe)[: customers // 2] for name in CHANNELS}
    parties = [
        OverlapParty(
            keys[name],
            identities,
            np.ones(len(rows[name]), np.bool_),
            Rows(universe, rows[name].astype(np.int64), _manifest(keys[name], alignment, len(rows[name]))),
            run=run_id,
            random_bytes=os.urandom,
            noise=OpenDpNoise(),
            budget=TrialBudget(),
            now_ms=lambda: 1,
        )
        for name in CHANNELS
    ]
    caller = Caller(LocalGrid(parties), keys[SERVER], identities, run=run_id)
    begin = time.process_time()
    found = count_overlap(caller, spec, random_bytes=os.urandom)
    seconds = time.process_time() - begin
    truth = len(np.unique(np.concatenate(list(rows.values()))))
    told = f"rho {float(spec.loss.rho):.4f}, epsilon 1 at delta 1e-6; 15 cells"
    return [
        Row(
            suite=SUITE,
            case=f"overlap of 4 audiences of {customers // 2:,} customers: stated standard deviation of the reach",
            measured=found.deviation_of(len(found.cells)),
            unit="customers",
            note=f"{told}; this time {found.reach - truth:+d} of {truth:,}",
        ),
        Row(
            suite=SUITE,
            case=f"overlap of 4 audiences of {customers // 2:,} customers: CPU of all parties",
            measured=seconds,
            unit="s",
            note="three messages per channel, after an alignment",
        ),
    ]


def _quantiles(customers: int) -> list[Row]:
    generator = np.random.default_rng(2)
    keys, identities = _keys()
    depth, run_id = 10, os.urandom(16)
    spec = QuantileSpec("spend", 0.0, 512.0, depth, _scale(len(CHANNELS) ** 2 * (depth + 1)), len(CHANNELS))
    values = {name: generator.gamma(2.0, 40.0, customers // 2) for name in CHANNELS}
    parties = [
        ChannelParty(
            keys[name],
            identities,
            QuantileWorkload(
                name,
                dict(zip(map(str, range(len(column))), column.tolist(), strict=True)),
                noise=OpenDpNoise(),
                run=run_id,
                budget=TrialBudget(),
            ),
            run=run_id,
            random_bytes=os.urandom,
        )
        for name, column in values.items()
    ]
    caller = Caller(LocalGrid(parties), keys[SERVER], identities, run=run_id)
    begin = time.process_time()
    found = secure_quantiles(caller, spec, (0.1, 0.5, 0.9), session=os.urandom(16))
    seconds = time.process_time() - begin
    everybody = np.concatenate(list(values.values()))
    worst = max(abs(_share_below(everybody, one.value) - one.share) for one in found.quantiles)
    return [
        Row(
            suite=SUITE,
            case=f"three quantiles over 4 channels of {customers // 2:,} customers: largest error of a rank",
            measured=100 * worst,
            unit="% of customers",
            note=f"rho {float(found.loss.rho):.4f} for a customer of all channels; stated deviation of a rank {found.rank_deviation:.0f} customers,"
            f" 1,024 intervals; CPU of all parties {seconds:.2f} s",
        )
    ]


def _scale(l2_squared: int) -> tuple[int, int]:
    return math.ceil(1_000 * math.sqrt(l2_squared / (2 * EPSILON_ONE_RHO))), 1_000


def _share_below(values: NDArray[np.float64], edge: float) -> float:
    return float((values < edge).mean())


def _keys() -> tuple[dict[str, SigningIdentity], Identities]:
    names = (*CHANNELS, SERVER)
    keys = {name: SigningIdentity(name, hashlib.sha256(name.encode()).digest()) for name in names}
    return keys, Identities({name: key.public_key for name, key in keys.items()})


def _manifest(key: SigningIdentity, alignment: bytes, count: int) -> Manifest:
    return Manifest(key.name, alignment, PURPOSE, count, 0, 2, hashlib.sha256(b"points").digest()).signed(key)
