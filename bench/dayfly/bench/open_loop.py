"""An open loop: arrivals follow their own clock, and latency counts from the arrival that was planned.

A closed loop, which sends the next event when the last one is done, hides every stall: while the engine stands still nobody
arrives ("coordinated omission"). Here those who would have arrived meanwhile wait, and their waiting is measured.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from .errors import BadLoad

__all__ = ["Latencies", "drive", "poisson_arrivals"]

MAX_BATCH: Final = 4_096
SPIN_S: Final = 0.0005
"""Closer to an arrival than this the loop polls instead of sleeping: a sleep is only this exact."""


@dataclass(frozen=True, slots=True)
class Latencies:
    """What one run of the loop saw.

    Attributes:
        seconds: float64[events], from planned arrival until the batch that held the event was done.
        elapsed_s: From the first planned arrival's zero to the end of the last batch.
        busy_s: Of this the time spent in batches.
        batches: Number of batches.
    """

    seconds: npt.NDArray[np.float64]
    elapsed_s: float
    busy_s: float
    batches: int


def poisson_arrivals(rate: float, seconds: float, draw: np.random.Generator) -> npt.NDArray[np.float64]:
    """float64[n]: planned arrivals of a Poisson process, seconds from the start, rising.

    Raises:
        BadLoad: Rate or duration is not positive and finite, or nothing would arrive.
    """
    for name, value in (("rate", rate), ("seconds", seconds)):
        if not (np.isfinite(value) and value > 0):
            raise BadLoad(f"{name}={value!r} must be a positive number; pass for example 1000 and 5")
    gaps = draw.exponential(1 / rate, int(rate * seconds + 6 * np.sqrt(rate * seconds) + 10))
    arrivals = np.cumsum(gaps)
    arrivals = arrivals[arrivals < seconds]
    if not len(arrivals):
        raise BadLoad(f"rate={rate!r} for seconds={seconds!r} must bring at least one event; measure longer")
    return arrivals


def drive(
    arrivals: Sequence[float] | npt.NDArray[np.float64],
    serve: Callable[[int, int, float], object],
    *,
    clock: Callable[[], float] = time.perf_counter,
    sleep: Callable[[float], object] = time.sleep,
    max_batch: int = MAX_BATCH,
    spin_s: float = SPIN_S,
) -> Latencies:
    """Serve every event as soon as possible after its planned arrival, in batches of whatever is waiting.

    Args:
        arrivals: Planned arrivals in seconds from the start, rising.
        serve: Called with the range of events `[start, end)` and the seconds since the start.
        clock: Seconds of a monotonic clock.
        sleep: Waits so many seconds.
        max_batch: Most events of one batch.
        spin_s: Poll when an arrival is closer than this. 0 where the served work runs on other threads of this process:
            a polling thread would keep the interpreter from them.
    """
    planned = np.asarray(arrivals, np.float64)
    times = planned.tolist()
    done = np.empty(len(times), np.float64)
    start, busy, batches = clock(), 0.0, 0
    at, end = 0, 0
    while at < len(times):
        now = clock() - start
        wait = times[at] - now
        if wait > 0:
            if wait > spin_s:
                sleep(wait - spin_s)
            continue
        end = max(end, at)
        while end < len(times) and end - at < max_batch and times[end] <= now:
            end += 1
        serve(at, end, now)
        finished = clock() - start
        done[at:end] = finished
        busy += finished - now
        batches += 1
        at = end
    return Latencies(done - planned, float(done[-1]), busy, batches)
