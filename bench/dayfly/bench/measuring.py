"""How the bench measures: thread CPU time in interleaved rounds, medians, and percentiles by nearest rank."""

import gc
import math
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Final

__all__ = ["interleaved", "median", "percentile", "percentiles", "quiet_heap", "stopwatch"]

SHOWN: Final = (50.0, 99.0, 99.9)


def stopwatch() -> int:
    """CPU nanoseconds of this thread: what neighbours on the machine take is not in it, the cache they share is."""
    return time.thread_time_ns()


def median(values: Sequence[float]) -> float:
    """Median of at least one value."""
    return float(statistics.median(values))


def interleaved(
    cases: Mapping[str, Callable[[], object]],
    *,
    rounds: int = 7,
    clock: Callable[[], int] = stopwatch,
) -> dict[str, float]:
    """Median seconds of each case over rounds that run every case once, so that a slow moment hits all alike.

    One round of warm-up is not counted.

    Args:
        cases: Name to what is run.
        rounds: Counted rounds.
        clock: Nanoseconds.
    """
    found: dict[str, list[float]] = {name: [] for name in cases}
    for number in range(rounds + 1):
        for name, case in cases.items():
            begin = clock()
            case()
            if number:
                found[name].append((clock() - begin) / 1e9)
    return {name: median(seconds) for name, seconds in found.items()}


def percentile(ordered: Sequence[float], percent: float) -> float:
    """Percentile by nearest rank (Hyndman and Fan's type 1): an observed value, never one in between.

    With fewer than 1 / (1 - percent / 100) values it is the largest.

    Args:
        ordered: At least one value, rising.
        percent: 0 to 100.
    """
    rank = math.ceil(round(percent * len(ordered) / 100, 9))
    return ordered[max(rank, 1) - 1]


def percentiles(values: Sequence[float]) -> dict[str, float]:
    """p50, p99, p99.9 and max of at least one value."""
    ordered = sorted(values)
    return {f"p{percent:g}": percentile(ordered, percent) for percent in SHOWN} | {"max": ordered[-1]}


@contextmanager
def quiet_heap() -> Iterator[None]:
    """No garbage collection within: what is there is frozen, what is made is collected afterwards."""
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        gc.unfreeze()
