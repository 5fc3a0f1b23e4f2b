"""Open loop: from the planned arrival of an event to its sealed fragment, at three rates, one event in a hundred minting."""

from collections.abc import Sequence
from typing import Final

from .environment import load_average
from .load import TAGS, LoadedEngine, Measured
from .measuring import percentiles
from .rows import Row

__all__ = ["run"]

P99_BAR_MS: Final = 2.0
P999_BAR_MS: Final = 10.0
BAR_AT: Final = 10_000
RATES: Final = (1_000, 10_000, 50_000)


def run(*, quick: bool) -> list[Row]:
    """A row per rate; the bars stand at 10,000 events per second."""
    people, warm, seconds = (100_000, 80_000, 2.0) if quick else (1_000_000, 600_000, 10.0)
    loaded = LoadedEngine(people, warm)
    loaded.measure(BAR_AT, 0.5)
    return [_row(rate, loaded.measure(rate, seconds), people) for rate in RATES]


def _row(rate: int, measured: Measured, people: int) -> Row:
    sealed = {name: value * 1_000 for name, value in percentiles(measured.sealed_s.tolist()).items()}
    decided = percentiles(measured.loop.seconds.tolist())
    loop = measured.loop
    barred = rate == BAR_AT
    note = (
        f"{_shown(sealed)} ms over {measured.planned:,} fragments; decision p99.9 {decided['p99.9'] * 1_000:.2f} ms; "
        f"busy {loop.busy_s / loop.elapsed_s:.0%}, {len(loop.seconds) / loop.batches:.1f} events per batch, "
        f"{people:,} customers, {TAGS} tags, load average {load_average()}"
    )
    return Row(
        suite="realtime",
        case=f"event received to fragment sealed, open loop at {rate:,} events/s, p99",
        measured=round(sealed["p99"], 3),
        unit="ms",
        bar=f"p99 <= {P99_BAR_MS:g} ms and p99.9 <= {P999_BAR_MS:g} ms" if barred else None,
        holds=not barred or (sealed["p99"] <= P99_BAR_MS and sealed["p99.9"] <= P999_BAR_MS),
        note=note,
    )


def _shown(milliseconds: dict[str, float], names: Sequence[str] = ("p50", "p99", "p99.9", "max")) -> str:
    return ", ".join(f"{name} {milliseconds[name]:.2f}" for name in names)
