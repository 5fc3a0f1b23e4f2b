"""Durable throughput of two shards, each in a process of its own, against one: the same stream, in rounds that alternate."""

import os
import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future
from functools import partial
from itertools import islice
from typing import Any, Final

from dayfly.engine.durable.opening import Outside
from dayfly.engine.inputs import Input
from dayfly.engine.sharded.engine import ShardedEngine
from dayfly.privacy.keys import BareSeal, FileKeyProvider

from .durable_store import BenchStore, bench_store
from .measuring import median, quiet_heap
from .rows import Row
from .workload import CHANNEL, HOUR_MS, START_MS, Batch, Stream, bench_policy, grants

__all__ = ["run"]

TAGS: Final = 200
BATCH: Final = 256
AHEAD: Final = 64
RATIO_BAR: Final = 1.7
SHARDS: Final = 2


def run(*, quick: bool) -> list[Row]:
    """One row: events per second of two shards, and the ratio to one."""
    people, rounds, batches = (20_000, 6, 100) if quick else (200_000, 10, 400)
    policy = bench_policy(TAGS)
    source = Stream(people, (2 + 2 * rounds) * batches * BATCH, 48 * HOUR_MS).batches(BATCH)
    with (
        bench_store(policy, people) as alone,
        bench_store(policy, people) as split,
        alone.open() as one,
        _open(split) as several,
        quiet_heap(),
    ):
        alone.enrol(one)
        _enrol(several, split)
        rates: tuple[list[float], list[float]] = [], []
        for number in range(rounds + 1):
            for engine, store, found in zip((one, several), (alone, split), rates, strict=True):
                seconds = _sent(engine, store.clock, list(islice(source, batches)))
                if number:
                    found.append(batches * BATCH / seconds)
    single, double = (median(found) for found in rates)
    return [
        Row(
            suite="durable",
            case=f"durable throughput, {SHARDS} shards in processes, {TAGS} tags, batches of {BATCH}",
            measured=round(double),
            unit="events/s",
            peer="one shard in one process",
            ratio=round(double / single, 2),
            bar=f">= {RATIO_BAR:g} x one shard",
            holds=double >= RATIO_BAR * single,
            note=f"one shard {single:,.0f} events/s; {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}; {people:,} customers",
        )
    ]


def _open(store: BenchStore) -> ShardedEngine:
    path = store.folder.parent / "keys" / "bench.keys"
    return ShardedEngine.open(
        store.folder,
        partial(FileKeyProvider.open, path, seal=BareSeal(), random_bytes=os.urandom),
        shards=SHARDS,
        policy=store.policy,
        recipients=store.recipients,
        settings=store.settings,
        outside=Outside(now_ms=store.clock),
    )


def _enrol(engine: ShardedEngine, store: BenchStore) -> None:
    """Everybody consents to everything."""
    by_shard: dict[int, list[Input]] = {}
    for given in grants([store.subject(person) for person in range(store.people)], START_MS):
        by_shard.setdefault(engine.shard_of(given.subject), []).append(given)
    for shard, inputs in by_shard.items():
        for start in range(0, len(inputs), 1_000):
            engine.tell(shard, inputs[start : start + 1_000], START_MS)


def _sent(engine: Any, clock: Any, batches: Sequence[Batch]) -> float:
    waiting: deque[Future[Any]] = deque()
    begin = time.perf_counter()
    for payloads, now_ms in batches:
        clock.at(now_ms)
        waiting.append(engine.submit_later(payloads, CHANNEL))
        if len(waiting) >= AHEAD:
            waiting.popleft().result()
    while waiting:
        waiting.popleft().result()
    return time.perf_counter() - begin
