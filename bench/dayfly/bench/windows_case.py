"""Window updates, kernels only: bare updates by the million, and what ten times as many tags cost.

Bare updates call the shard's own `find_line` and `insert` with prefetching; the tags run through the shard's event loop on
batches whose strings are interned, so that nothing but compiled code is timed.
"""

from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import numpy.typing as npt

from dayfly.engine.intake import Intake
from dayfly.engine.policy.model import Policy
from dayfly.engine.shard import Shard, kernels_layout
from dayfly.engine.shard import kernels_run as kernels
from dayfly.engine.shard.batches import columns_of
from dayfly.engine.shard.kernels_core import Batch
from dayfly.engine.shard.kernels_lines import Lines
from dayfly.engine.shard.state import aligned_rows

from .kernels_bench import update_windows
from .measuring import interleaved, median, quiet_heap, stopwatch
from .population import bench_intake_keys, enrol_all, subjects_of
from .rows import Row, at_least, at_most
from .workload import CHANNEL, HOUR_MS, START_MS, Stream, bench_policy, zipf

__all__ = ["counting_policy", "run"]

UPDATES_BAR: Final = 20e6
TAGS_BAR: Final = 3.0
CUSTOMERS: Final = 1_000_000
FEATURES: Final = 32
BATCH: Final = 4_096
FEW, MANY = 50, 500


def run(*, quick: bool) -> list[Row]:
    """One row for bare updates, one for 500 tags against 50."""
    return [_updates(quick=quick), _tags(quick=quick)]


# --- bare updates -----------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Updates:
    """A window state and the updates that go on arriving."""

    lines: Lines
    customers: npt.NDArray[np.int64]
    features: npt.NDArray[np.int32]
    times: npt.NDArray[np.int64]
    thresholds: npt.NDArray[np.int64]
    at: int = 0

    def batches(self, count: int) -> None:
        """Take in the next `count` batches."""
        for _ in range(count):
            part = slice(self.at, self.at + BATCH)
            update_windows(
                self.lines, self.customers[part], self.features[part], self.times[part], self.thresholds
            )
            self.at += BATCH


def _updates(*, quick: bool) -> Row:
    warm, rounds, batches = (320, 7, 20) if quick else (1_000, 15, 40)
    total = (warm + (rounds + 1) * batches) * BATCH
    draw = np.random.default_rng(7)
    weights = 1 / np.arange(1, FEATURES + 1)
    updates = _Updates(
        _empty_lines(1 << 21),
        zipf(CUSTOMERS, total, draw),
        draw.choice(FEATURES, total, p=weights / weights.sum()).astype(np.int32),
        START_MS + np.arange(total, dtype=np.int64) * (7 * 24 * HOUR_MS) // total,
        np.array([[24 * HOUR_MS, 2], [7 * 24 * HOUR_MS, 4]], np.int64),
    )
    updates.batches(warm)
    seconds = interleaved({"update": lambda: updates.batches(batches)}, rounds=rounds)["update"]
    rate = batches * BATCH / seconds
    active = int(updates.lines.meta[0])
    return Row(
        suite="realtime",
        case="window updates with two thresholds each, kernel only",
        measured=round(rate),
        unit="updates/s per core",
        note=f"{CUSTOMERS:,} customers, Zipf 1.05, {FEATURES} features, {active:,} active lines, batches of {BATCH}",
        **at_least(rate, UPDATES_BAR, "updates/s"),
    )


def _empty_lines(capacity: int) -> Lines:
    table = aligned_rows(capacity)
    return Lines(
        table,
        table.reshape(-1),
        np.zeros(1 << 20, np.int64),
        np.full(64, -1, np.int64),
        np.zeros(4, np.int64),
    )


# --- many tags --------------------------------------------------------------------------------------------------------


def counting_policy(tags: int) -> Policy:
    """The count thresholds and conjunctions of the mix, `tags` of them."""
    policy = bench_policy(-(-tags * 5 // 3))
    counting = [tag for tag in policy.tags if int(tag.name.removeprefix("tag-")) % 50 < 30]
    return replace(policy, tags=tuple(counting[:tags]))


class _Loop:
    """A shard whose event loop is driven without the Python around it."""

    def __init__(self, tags: int, stream: Stream, warm: int) -> None:
        policy = counting_policy(tags)
        self._shard = Shard(policy, expected_people=stream.people)
        enrol_all(self._shard, subjects_of(range(stream.people)))
        intake = Intake(policy, bench_intake_keys())
        source = stream.batches(BATCH)
        self.entered = 0
        for _ in range(warm):
            payloads, now_ms = next(source)
            batch = intake.segment(payloads, CHANNEL, now_ms).batch
            self._drive(columns_of(self._shard.arrays, batch), now_ms)
        self._batches = [
            (columns_of(self._shard.arrays, intake.segment(payloads, CHANNEL, now_ms).batch), now_ms)
            for payloads, now_ms in source
        ]
        self._next = 0
        self.entered = 0

    def step(self, count: int) -> float:
        """Take in the next `count` batches; nanoseconds per event."""
        begin = stopwatch()
        for columns, now_ms in self._batches[self._next : self._next + count]:
            self._drive(columns, now_ms)
        self._next += count
        return (stopwatch() - begin) / count / BATCH

    def _drive(self, columns: Batch, now_ms: int) -> None:
        arrays, index, code = self._shard.arrays, 0, kernels_layout.FLUSH
        while code != kernels_layout.DONE:
            code, index = kernels.run(arrays.handle, columns, index, now_ms)
            self.entered += int(arrays.core.control[kernels_layout.EMITTED])
            arrays.core.control[kernels_layout.EMITTED] = 0
            if code == kernels_layout.GROW:
                arrays.grow()


def _tags(*, quick: bool) -> Row:
    people, warm, rounds, batches = (100_000, 10, 7, 2) if quick else (1_000_000, 120, 11, 4)
    stream = Stream(people, (warm + rounds * batches) * BATCH, 48 * HOUR_MS)
    few, many = _Loop(FEW, stream, warm), _Loop(MANY, stream, warm)
    with quiet_heap():
        pairs = [(few.step(batches), many.step(batches)) for _ in range(rounds)]
    small, large = (median(times) for times in zip(*pairs, strict=True))
    return Row(
        suite="realtime",
        case="500 tags against 50, event loop in compiled code",
        measured=round(large, 1),
        unit="ns/event",
        peer="the same with 50 tags",
        ratio=round(large / small, 2),
        note=f"50 tags {small:.0f} ns; changes {few.entered:,} and {many.entered:,}; {people:,} customers, batches of {BATCH}",
        **at_most(large / small, TAGS_BAR, "x 50 tags"),
    )
