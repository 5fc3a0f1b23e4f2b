"""Running totals for a year of hours: the error against a binary tree's, and the cost of a step."""

import math
import statistics
import time
from fractions import Fraction
from typing import Final, cast

import numpy as np
from numpy.typing import NDArray

from dayfly.privacy.continual import Participation, RunningTotals, StreamPlan
from dayfly.privacy.noise import NoiseSource

from .rows import Row, at_most

__all__ = ["run", "tree_error"]

HOURS: Final = 8_760
ERROR_BAR: Final = 3.97
STEP_BAR_NS: Final = 10.0
BYTES_BAR: Final = 32.0


class _NoNoise:
    """Adds nothing, so that a step's own cost shows; OpenDP's noise costs the same whatever uses it."""

    def gaussian(
        self, values: NDArray[np.int64], scale: Fraction, *, l2_squared: int = 1
    ) -> NDArray[np.int64]:
        del scale, l2_squared
        return values


def tree_error(steps: int) -> float:
    """Largest standard error of a binary tree's running totals, in sigma of one release.

    A total adds as many nodes as its number has binary ones, each with noise for all levels of the tree that a step is in.
    """
    most = max(step.bit_count() for step in range(1, steps + 1))
    return math.sqrt(most * steps.bit_length())


def run(*, quick: bool) -> list[Row]:
    """Three rows."""
    plan = StreamPlan.running(1, HOURS)
    tree = tree_error(HOURS)
    return [
        Row(
            suite="sandbox",
            case=f"{HOURS:,} hourly running totals: largest standard error",
            measured=round(plan.error_factor, 4),
            unit="sigma",
            peer="binary tree",
            ratio=round(tree / plan.error_factor, 2),
            note=f"binary tree {tree:.2f} sigma; roundings of the lattice included",
            **at_most(plan.error_factor, ERROR_BAR, "sigma"),
        ),
        *_step(series=100_000, steps=12 if quick else 48),
    ]


def _step(*, series: int, steps: int) -> list[Row]:
    plan = StreamPlan.running(series, HOURS, participation=Participation())
    totals = RunningTotals(plan, plan.scale(Fraction(1)))
    increments = np.random.default_rng(1).integers(0, 2, series)
    noise = cast("NoiseSource", _NoNoise())  # running totals draw nothing but Gaussians
    seconds = []
    for step in range(steps):
        begin = time.thread_time_ns()
        totals.publish(step, increments, noise)
        seconds.append(time.thread_time_ns() - begin)
    each = statistics.median(seconds[2:]) / series
    held = totals._state.nbytes / series  # noqa: SLF001 - what the claim is about
    return [
        Row(
            suite="sandbox",
            case=f"one step of {series:,} series, noise apart",
            measured=round(each, 2),
            unit="ns of CPU per series",
            note=f"median of {steps - 2} steps; buffers, totals and the digest of what is published",
            **at_most(each, STEP_BAR_NS, "ns"),
        ),
        Row(
            suite="sandbox",
            case="state of a running total",
            measured=round(held, 1),
            unit="bytes per series",
            note="buffers; the published totals, 8 bytes more, are public",
            **at_most(held, BYTES_BAR, "bytes"),
        ),
    ]
