"""Recovery: replay of the log alone, and a large population from its snapshot; and an erasure in a large store."""

import shutil
import time
from typing import Final

from dayfly.engine.durable import Engine

from .durable_store import BenchStore, bench_store
from .rows import Row, at_least, at_most
from .workload import CHANNEL, HOUR_MS, Stream, bench_policy

__all__ = ["run"]

TAGS: Final = 200
BATCH: Final = 1_024
REPLAY_BAR: Final = 500_000.0
SNAPSHOT_BAR_S: Final = 5.0
ERASURE_BAR_S: Final = 5.0


def run(*, quick: bool) -> list[Row]:
    """Three rows."""
    people, events = (50_000, 150_000) if quick else (1_000_000, 10_000_000)
    with bench_store(bench_policy(TAGS), people) as store:
        return [*_recovery(store, events), _erasure(store, erasures=5 if quick else 20)]


def _recovery(store: BenchStore, events: int) -> list[Row]:
    engine = store.open()
    store.enrol(engine)
    engine.snapshot()
    for payloads, now_ms in Stream(store.people, events, 48 * HOUR_MS).batches(BATCH):
        store.clock.at(now_ms)
        engine.submit(payloads, CHANNEL)
    crashed = store.folder.with_name("crashed")
    shutil.copytree(store.folder, crashed)
    engine.close()
    store.folder, closed = crashed, store.folder
    engine, replay_s = _opened(store)
    replayed = engine._running.recovered.events  # noqa: SLF001 - what recovery itself counted
    engine.close()
    store.folder = closed
    engine, snapshot_s = _opened(store)
    engine.close()
    rate = replayed / max(replay_s - snapshot_s, 1e-9)
    return [
        Row(
            suite="durable",
            case="recovery: replay of the log",
            measured=round(rate),
            unit="events/s",
            note=f"{replayed:,} events; opening from the crash {replay_s:.2f} s, from the closing snapshot {snapshot_s:.2f} s",
            **at_least(rate, REPLAY_BAR, "events/s"),
        ),
        Row(
            suite="durable",
            case=f"recovery: {store.people:,} customers from a snapshot",
            measured=round(snapshot_s, 2),
            unit="s",
            note=f"{replayed:,} events in the retained history; whole opening",
            **at_most(snapshot_s, SNAPSHOT_BAR_S, "s"),
        ),
    ]


def _opened(store: BenchStore) -> tuple[Engine, float]:
    begin = time.perf_counter()
    engine = store.open()
    return engine, time.perf_counter() - begin


def _erasure(store: BenchStore, *, erasures: int) -> Row:
    times = []
    with store.open() as engine:
        for person in range(erasures):
            begin = time.perf_counter()
            engine.erase(store.subject(person))
            times.append(time.perf_counter() - begin)
    worst = max(times)
    return Row(
        suite="durable",
        case="erasure of one person, certificate in hand, slowest",
        measured=round(worst, 2),
        unit="s",
        note=f"{erasures} erasures one after the other, fastest {min(times):.2f} s",
        **at_most(worst, ERASURE_BAR_S, "s"),
    )
