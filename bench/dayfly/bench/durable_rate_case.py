"""Sustained durable throughput of one shard, against the same engine in memory."""

import os
import time
from collections import deque
from concurrent.futures import Future
from dataclasses import replace
from itertools import islice
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric import ec

from dayfly.engine.runtime import EngineKeys, MemoryEngine
from dayfly.privacy.fragments.wire import thumbprint

from .durable_store import bench_store
from .measuring import median, quiet_heap
from .population import bench_intake_keys, enrol_all, subjects_of
from .rows import Row
from .workload import AUDIENCE, CHANNEL, HOUR_MS, Batch, Stream, bench_policy

__all__ = ["run"]

TAGS: Final = 200
BATCH: Final = 256
AHEAD: Final = 16
RATE_BAR: Final = 100_000.0
RATIO_BAR: Final = 0.5


def run(*, quick: bool) -> list[Row]:
    """One row: events per second, wall time, and the ratio to memory in rounds that alternate."""
    people, rounds, batches = (50_000, 6, 60) if quick else (1_000_000, 10, 400)
    policy = bench_policy(TAGS)
    stream = Stream(people, (2 + 2 * rounds) * batches * BATCH, 48 * HOUR_MS)
    source = stream.batches(BATCH)
    keys = replace(EngineKeys.generate("bench", os.urandom), intake=bench_intake_keys())
    memory = MemoryEngine(
        policy,
        keys,
        recipients={AUDIENCE: thumbprint(ec.generate_private_key(ec.SECP256R1()).public_key())},
        random_bytes=os.urandom,
        expected_people=people,
    )
    enrol_all(memory.shard, subjects_of(range(people)))
    with bench_store(policy, people) as store, store.open() as engine:
        store.enrol(engine)
        durable, plain = [], []
        with quiet_heap():
            for number in range(rounds + 1):
                mine, theirs = list(islice(source, batches)), list(islice(source, batches))
                durable_s = _durable(engine, store.clock, mine)
                memory_s = _memory(memory, theirs)
                if number:
                    durable.append(batches * BATCH / durable_s)
                    plain.append(batches * BATCH / memory_s)
    memory.close()
    rate, in_memory = median(durable), median(plain)
    return [
        Row(
            suite="durable",
            case=f"sustained durable throughput, one shard, {TAGS} tags, batches of {BATCH}",
            measured=round(rate),
            unit="events/s",
            peer="the engine in memory",
            ratio=round(rate / in_memory, 2),
            bar=f">= {RATE_BAR:,.0f} events/s and >= {RATIO_BAR:g} x memory",
            holds=rate >= RATE_BAR and rate >= RATIO_BAR * in_memory,
            note=f"in memory {in_memory:,.0f} events/s; raw Segment JSON to decision, {AHEAD} batches ahead, {people:,} customers",
        )
    ]


def _durable(engine: Any, clock: Any, batches: list[Batch]) -> float:
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


def _memory(engine: MemoryEngine, batches: list[Batch]) -> float:
    begin = time.perf_counter()
    for payloads, now_ms in batches:
        engine.segment(payloads, CHANNEL, now_ms)
    return time.perf_counter() - begin
