"""Memory: bytes of window state for each active (customer, feature), and of history for each event kept."""

from typing import Final

from dayfly.engine.intake import Intake
from dayfly.engine.shard import Shard, kernels_layout

from .population import bench_intake_keys, enrol_all, subjects_of
from .rows import Row, at_most
from .workload import CHANNEL, HOUR_MS, Stream, bench_policy

__all__ = ["run"]

LINE_BAR: Final = 128.0
TAGS: Final = 50
BATCH: Final = 4_096
WORD: Final = 8


def run(*, quick: bool) -> list[Row]:
    """Window state with its bar, history without one. Table rows not in use are counted, pages never touched as well."""
    people, events = (50_000, 200_000) if quick else (1_000_000, 1_000_000)
    policy = bench_policy(TAGS)
    shard = Shard(policy, expected_people=people)
    enrol_all(shard, subjects_of(range(people)))
    intake = Intake(policy, bench_intake_keys())
    for payloads, now_ms in Stream(people, events, 48 * HOUR_MS).batches(BATCH):
        shard.apply([intake.segment(payloads, CHANNEL, now_ms).batch], now_ms)
    return [_windows(shard), _history(shard)]


def _windows(shard: Shard) -> Row:
    lines = shard.arrays.core.world.lines
    active = int(lines.meta[0])
    arena = int(lines.meta[1]) * WORD
    each = (lines.table.nbytes + arena) / active
    people = int(shard.arrays.core.control[kernels_layout.PEOPLE])
    return Row(
        suite="realtime",
        case="window state for each active (customer, feature)",
        measured=round(each, 1),
        unit="bytes",
        note=f"{active:,} lines of {people:,} customers in {len(lines.table):,} rows of 64 bytes, "
        f"overflow {arena / active:.1f} bytes each",
        **at_most(each, LINE_BAR, "bytes"),
    )


def _history(shard: Shard) -> Row:
    core, control = shard.arrays.core, shard.arrays.core.control
    events, values = int(control[kernels_layout.EVENTS]), int(control[kernels_layout.VALUES]) * WORD
    row_bytes = core.history.nbytes // len(core.history)
    return Row(
        suite="realtime",
        case="history for each event kept",
        measured=round(row_bytes + values / events, 1),
        unit="bytes",
        note=f"row {row_bytes}, values {values / events:.1f}; {events:,} events; interned texts shared",
    )
