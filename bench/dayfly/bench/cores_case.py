"""Durable throughput of two shards on two cores against one shard on one core: the same stream, in rounds that alternate."""

import os
import time
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager, nullcontext, suppress
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, Final

import numpy as np

from dayfly.engine.durable.outside import Outside
from dayfly.engine.inputs import Input
from dayfly.engine.sharded.engine import ShardedEngine
from dayfly.privacy.keys import BareSeal, FileKeyProvider

from .durable_store import BenchClock, BenchStore, bench_store
from .measuring import median, quiet_heap
from .rows import Row
from .workload import CHANNEL, HOUR_MS, START_MS, Batch, Stream, bench_policy, grants

__all__ = ["SharedClock", "one_core", "run"]

TAGS: Final = 200
BATCH: Final = 256
AHEAD: Final = 64
RATIO_BAR: Final = 1.7
SHARDS: Final = 2


def run(*, quick: bool) -> list[Row]:
    """One row: events per second of two shards on all cores, and the ratio to one shard on one core."""
    people, rounds, batches = (20_000, 3, 60) if quick else (200_000, 10, 400)
    policy = bench_policy(TAGS)
    source = Stream(people, 3 * (1 + rounds) * batches * BATCH, 48 * HOUR_MS).batches(BATCH)
    found: dict[str, list[float]] = {"pinned": [], "free": [], "split": []}
    with (
        bench_store(policy, people) as alone,
        bench_store(policy, people) as split,
        alone.open() as one,
        _open(split) as several,
        quiet_heap(),
    ):
        alone.enrol(one)
        _enrol(several, split)
        for number in range(rounds + 1):
            for name, rates in found.items():
                engine, store = (several, split) if name == "split" else (one, alone)
                with one_core() if name == "pinned" else nullcontext():
                    seconds = _sent(engine, store.clock, list(islice(source, batches)))
                if number:
                    rates.append(batches * BATCH / seconds)
    single, free, double = (median(rates) for rates in found.values())
    return [
        Row(
            suite="durable",
            case=f"durable throughput, {SHARDS} shards in processes, {TAGS} tags, batches of {BATCH}",
            measured=round(double),
            unit="events/s",
            peer="one shard on one core",
            ratio=round(double / single, 2),
            bar=f">= {RATIO_BAR:g} x one core",
            holds=double >= RATIO_BAR * single,
            note=f"one shard on one core {single:,.0f} events/s, on all cores {free:,.0f} (its log has a thread of its own);"
            f" {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}; {people:,} customers",
        )
    ]


@contextmanager
def one_core() -> Iterator[None]:
    """All threads of this process on one core within."""
    allowed = os.sched_getaffinity(0)
    _pin({min(allowed)})
    try:
        yield
    finally:
        _pin(allowed)


def _pin(cores: set[int]) -> None:
    for thread in Path("/proc/self/task").iterdir():
        with suppress(ProcessLookupError):
            os.sched_setaffinity(int(thread.name), cores)


class SharedClock(BenchClock):
    """The stream's clock for several processes: how far it is ahead stands in a file that all of them map."""

    def __init__(self, path: Path) -> None:
        if not path.exists():
            path.write_bytes(bytes(8))
        self._path = path
        self._cell = np.memmap(path, np.int64, "r+", shape=(1,))
        if not self._cell[0]:
            super().__init__()

    @property
    def offset_ms(self) -> int:
        """How far the stream is ahead of the wall clock."""
        return int(self._cell[0])

    @offset_ms.setter
    def offset_ms(self, offset_ms: int) -> None:
        self._cell[0] = offset_ms

    def __reduce__(self) -> tuple[type["SharedClock"], tuple[Path]]:
        """By its file."""
        return type(self), (self._path,)


def _open(store: BenchStore) -> ShardedEngine:
    path = store.folder.parent / "keys" / "bench.keys"
    store.clock = SharedClock(store.folder.parent / "clock")
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
