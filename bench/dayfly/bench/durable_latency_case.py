"""Open loop over the durable engine: planned arrival -> submitted -> durable -> fragment in the subscriber's hands.

The same run with commits switched off, and bare synchronous writes of the same size, stand beside it.
"""

import os
import threading
import time
from concurrent.futures import Future
from dataclasses import dataclass, replace
from typing import Any, Final, Self

import numpy as np
import numpy.typing as npt

from dayfly.engine.delivery.items import FragmentReady
from dayfly.engine.durable import Engine, FeedItem, Subscription
from dayfly.engine.store import LOCAL_DISK

from .durable_store import BenchStore, Unsynced, bench_store
from .environment import load_average
from .measuring import percentiles, quiet_heap
from .open_loop import drive, poisson_arrivals
from .rows import Row
from .workload import CHANNEL, HOUR_MS, MINTING, Stream, bench_policy, grants

__all__ = ["DurableLoop", "run"]

TAGS: Final = 200
BAR_AT: Final = 5_000
BARS_MS: Final = {"p50": 2.0, "p99": 10.0, "p99.9": 50.0}
RATES: Final = (1_000, 5_000, 20_000)
WARM_BATCH: Final = 4_096


def run(*, quick: bool) -> list[Row]:
    """A row per rate, one through the iterator, one with commits switched off, one for the bare disk."""
    people, warm, seconds = (50_000, 40_000, 2.0) if quick else (1_000_000, 600_000, 20.0)
    rows: list[Row] = []
    policy = bench_policy(TAGS, minting=True)
    with bench_store(policy, people) as store, DurableLoop(store, warm) as loop:
        loop.measure(BAR_AT, 0.5)
        rows += [_row(rate, loop.measure(rate, seconds), people, "", barred=rate == BAR_AT) for rate in RATES]
        loop.read_beside()
        read = loop.measure(BAR_AT, seconds)
        rows.append(
            _row(BAR_AT, replace(read, handed_s=read.read_s), people, ", by another thread", barred=False)
        )
    with bench_store(policy, people, disk=Unsynced()) as store, DurableLoop(store, warm) as loop:
        loop.measure(BAR_AT, 0.5)
        rows.append(
            _row(BAR_AT, loop.measure(BAR_AT, seconds), people, ", commits switched off", barred=False)
        )
    rows.append(_bare(seconds))
    return rows


@dataclass(frozen=True, slots=True)
class Measured:
    """Seconds from planned arrival: of every event until durable, of every minted fragment until handed over.

    `handed_s` ends in the function that `Engine.listen` calls, `read_s` in a thread that reads the iterator (empty: none did).
    """

    durable_s: npt.NDArray[np.float64]
    handed_s: npt.NDArray[np.float64]
    read_s: npt.NDArray[np.float64]


class DurableLoop:
    """A warm engine with a subscriber."""

    def __init__(self, store: BenchStore, warm_events: int) -> None:
        self._store = store
        self.engine: Engine = store.open()
        self._subjects = store.enrol(self.engine)
        self._granted: set[int] = set()
        self._runs = 0
        warm = Stream(store.people, warm_events, 48 * HOUR_MS)
        for payloads, now_ms in warm.batches(WARM_BATCH):
            store.clock.at(now_ms)
            self.engine.submit(payloads, CHANNEL)
        self._handed: list[float] = []
        self._read: list[float] = []
        self._reads = False
        self.engine.listen(self._hear)

    def read_beside(self) -> None:
        """From now on a thread of its own also reads the feed through its iterator."""
        self._reads = True
        threading.Thread(target=self._reading, args=(self.engine.fragments(),), daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.engine.close()

    def _hear(self, item: FeedItem) -> None:
        if isinstance(item, FragmentReady):
            self._handed.append(time.perf_counter())

    def _reading(self, feed: Subscription) -> None:
        for item in feed:
            if isinstance(item, FragmentReady):
                self._read.append(time.perf_counter())

    def measure(self, rate: float, seconds: float) -> Measured:
        """Run one open loop at `rate` events per second."""
        self._runs += 1
        arrivals = poisson_arrivals(rate, seconds, np.random.default_rng(100 + self._runs))
        base_ms = self._store.clock() + 2_000
        stream = Stream(self._store.people, len(arrivals), 0, seed=1_000 + self._runs)
        payloads = list(stream.payloads(base_ms + (arrivals * 1_000).astype(np.int64)))
        minting = [index for index, payload in enumerate(payloads) if MINTING in payload]
        self._grant(stream.customers()[minting].tolist())
        self._store.clock.at(base_ms)
        self._handed.clear()
        self._read.clear()
        done = np.zeros(len(payloads))
        waiting: list[Future[Any]] = []

        def serve(start: int, end: int, _: float) -> None:
            future = self.engine.submit_later(payloads[start:end], CHANNEL)

            def note(_: "Future[Any]", start: int = start, end: int = end) -> None:
                done[start:end] = time.perf_counter()

            future.add_done_callback(note)
            waiting.append(future)

        with quiet_heap():
            begun = drive(arrivals, serve, spin_s=0.0).start_s
            for future in waiting:
                future.result()
            deadline = time.perf_counter() + 10
            while min(map(len, self._consumers())) < len(minting) and time.perf_counter() < deadline:
                time.sleep(0.01)
        handed, read = (np.array(times) - begun for times in (self._handed, self._read))
        if any(len(times) != len(minting) for times in self._consumers()):
            raise AssertionError(f"handed={len(handed)} must be {len(minting)}; workload and policy disagree")
        planned = arrivals[minting]
        return Measured(done - begun - arrivals, handed - planned, read - planned if self._reads else read)

    def _consumers(self) -> tuple[list[float], ...]:
        return (self._handed, self._read) if self._reads else (self._handed,)

    def _grant(self, people: list[int]) -> None:
        fresh = sorted(set(people) - self._granted)
        self._granted |= set(fresh)
        now_ms = self._store.clock()
        for given in grants([self._subjects[person] for person in fresh], now_ms):
            self.engine.consent(given.subject, given.record)


def _row(rate: int, measured: Measured, people: int, how: str, *, barred: bool) -> Row:
    handed = {name: value * 1_000 for name, value in percentiles(measured.handed_s.tolist()).items()}
    durable = {name: value * 1_000 for name, value in percentiles(measured.durable_s.tolist()).items()}
    shown = ", ".join(f"{name} {handed[name]:.2f}" for name in ("p50", "p99", "p99.9", "max"))
    acknowledged = ", ".join(f"{name} {durable[name]:.2f}" for name in ("p50", "p99", "p99.9"))
    return Row(
        suite="durable",
        case=f"submitted to fragment handed over, open loop at {rate:,} events/s{how}, p99",
        measured=round(handed["p99"], 3),
        unit="ms",
        bar=", ".join(f"{name} <= {bar:g} ms" for name, bar in BARS_MS.items()) if barred else None,
        holds=not barred or all(handed[name] <= bar for name, bar in BARS_MS.items()),
        note=(
            f"{shown} ms over {len(measured.handed_s):,} fragments; acknowledged {acknowledged} ms;"
            f" {people:,} customers, {TAGS} tags, load average {load_average()}"
        ),
    )


def _bare(seconds: float) -> Row:
    """One write of 4 KiB at a time into a zero-filled file with O_DSYNC, in the folder where the stores were."""
    with bench_store(bench_policy(1), 10) as store:
        path = store.folder.parent / "bare"
        path.write_bytes(bytes(16 << 20))
        descriptor = LOCAL_DISK.open(path, os.O_WRONLY | os.O_DSYNC)
        block = os.urandom(4_096)
        times: list[float] = []
        end = time.perf_counter() + min(seconds, 3.0)
        while (begin := time.perf_counter()) < end:
            os.pwrite(descriptor, block, 4_096 * (len(times) % 4_096))
            times.append(time.perf_counter() - begin)
        os.close(descriptor)
    shown = percentiles(times)
    note = ", ".join(f"{name} {shown[name] * 1_000:.3f}" for name in ("p50", "p99", "p99.9", "max"))
    return Row(
        suite="durable",
        case="bare O_DSYNC write of 4 KiB, p99",
        measured=round(shown["p99"] * 1_000, 3),
        unit="ms",
        note=f"{note} ms over {len(times):,} writes",
    )
