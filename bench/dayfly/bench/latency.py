"""Latency on the user's own machine: an open loop, a histogram, and an exit status for scripts.

``dayfly bench latency --rate R --seconds S --target-ms 200`` and ``python -m dayfly.bench.latency R S TARGET_MS``.
"""

import sys
from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt
from rich.console import Console

from .errors import BadLoad
from .load import TAGS, LoadedEngine
from .measuring import percentiles

__all__ = ["histogram", "main"]

PEOPLE: Final = 100_000
WARM_EVENTS: Final = 80_000
BAR_WIDTH: Final = 50


def main(rate: float, seconds: float, target_ms: float) -> int:
    """Measure event received to fragment sealed at `rate` events per second and print how it was spread.

    Args:
        rate: Planned arrivals per second, Poisson; one in a hundred mints.
        seconds: Length of the measured loop.
        target_ms: What p99 must not exceed.

    Returns:
        0 when p99 is within the target, 1 when it is not.

    Raises:
        BadLoad: A number is not positive, or so small that nothing would be minted.
    """
    if not (np.isfinite(target_ms) and target_ms > 0):
        raise BadLoad(f"target_ms={target_ms!r} must be a positive number; pass for example 200")
    if not rate * seconds >= 1_000:
        raise BadLoad(
            f"rate={rate!r} for seconds={seconds!r} must bring at least 1,000 events (ten fragments); measure longer"
        )
    console = Console(highlight=False)
    console.print(f"setting up {PEOPLE:,} customers, {TAGS} tags, {WARM_EVENTS:,} events of warm-up")
    loaded = LoadedEngine(PEOPLE, WARM_EVENTS)
    loaded.measure(rate, min(seconds, 1_000 / rate))
    measured = loaded.measure(rate, seconds)
    milliseconds = measured.sealed_s * 1_000
    found = percentiles(milliseconds.tolist())
    console.print(
        f"{len(milliseconds):,} fragments at {rate:,.0f} events/s, planned arrival to sealed, in ms:"
    )
    console.print("\n".join(histogram(milliseconds)))
    console.print(", ".join(f"{name} {value:.2f} ms" for name, value in found.items()))
    met = found["p99"] <= target_ms
    console.print(f"p99 {found['p99']:.2f} ms {'within' if met else 'misses'} the target of {target_ms:g} ms")
    return 0 if met else 1


def histogram(milliseconds: npt.NDArray[np.float64]) -> list[str]:
    """Lines of a histogram whose classes double in width: lower edge, count, bar.

    >>> histogram(np.array([0.3, 0.4, 1.5]))[0].split()[:4]
    ['0.25', '-', '0.5', '2']
    """
    classes = np.floor(np.log2(np.maximum(milliseconds, 2.0**-10))).astype(int)
    lines = []
    counts = {
        int(number): int(count) for number, count in zip(*np.unique(classes, return_counts=True), strict=True)
    }
    for number in range(min(counts), max(counts) + 1):
        count = counts.get(number, 0)
        bar = "#" * -(-count * BAR_WIDTH // max(counts.values()))
        lines.append(f"{2.0**number:>10g} - {2.0 ** (number + 1):<10g} {count:>9,} {bar}")
    return lines


def _command(arguments: Sequence[str]) -> int:
    try:
        rate, seconds, target_ms = (float(item) for item in arguments)
    except ValueError:
        sys.stderr.write("usage: python -m dayfly.bench.latency RATE SECONDS TARGET_MS\n")
        return 2
    return main(rate, seconds, target_ms)


if __name__ == "__main__":
    sys.exit(_command(sys.argv[1:]))
