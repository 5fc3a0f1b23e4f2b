"""Ways to hand the same inputs to an engine, and instants worth asking about."""

import random
from collections.abc import Iterable, Iterator
from dataclasses import replace

import numpy as np

from dayfly.engine.events import EventBatch
from dayfly.engine.inputs import Input
from tests.engine.workload_rules import (
    EPOCH_MS,
    SPANS_MS,
)

__all__ = ["as_batches", "edge_instants", "part_of"]


def as_batches(inputs: Iterable[Input], rng: random.Random) -> Iterator[tuple[list[Input], int]]:
    """The same inputs as (inputs, now_ms) of random `apply` calls; event batches are cut anywhere."""
    part: list[Input] = []
    now_ms = EPOCH_MS
    for item in inputs:
        for piece in _cut(item, rng):
            part.append(piece)
            now_ms = max(now_ms, _instant(piece))
            if rng.random() < 0.3:
                yield part, now_ms
                part = []
    if part:
        yield part, now_ms


def _cut(item: Input, rng: random.Random) -> Iterator[Input]:
    if not isinstance(item, EventBatch):
        yield item
        return
    start = 0
    while start < len(item):
        size = rng.choice((1, 2, 7, 64, 256, 1_000))
        yield part_of(item, start, min(start + size, len(item)))
        start += size


def part_of(batch: EventBatch, start: int, end: int) -> EventBatch:
    """Rows `start` to `end`; values and strings stay shared."""
    rows = slice(start, end)
    columns = (
        "received_ms",
        "time_ms",
        "subject",
        "link",
        "event_id",
        "digest",
        "type",
        "channel",
        "consent",
    )
    parts = {name: getattr(batch, name)[rows] for name in (*columns, "consent_digest", "value_offset")}
    return replace(batch, **parts)


def _instant(item: Input) -> int:
    return int(item.received_ms[-1]) if isinstance(item, EventBatch) else item.at_ms


def edge_instants(inputs: Iterable[Input], rng: random.Random, count: int) -> list[int]:
    """`count` rising instants: times of events plus a window constant plus -1, 0 or 1 ms."""
    times = np.concatenate([item.time_ms for item in inputs if isinstance(item, EventBatch)])
    picked = (
        int(rng.choice(times)) + rng.choice((0, *SPANS_MS)) + rng.randrange(-1, 2) for _ in range(count)
    )
    return sorted(picked)
