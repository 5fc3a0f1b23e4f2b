"""Durable commits: the log beside a bare durable write, an appended file with fsync, SQLite and LMDB, one commit for each batch.

In the comparison each batch is one frame, and the next is appended when the one before is durable. Everybody writes the same
bytes to the same disk, in turns within each round, so that a slow moment hits all alike. Ours alone encrypts and authenticates.
Two more rows show the log as an engine uses it: frames appended without waiting, and an open loop of small frames at a steady
rate, where latency counts from when a frame was due.
"""

import os
import sqlite3
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

from dayfly.engine.store import Log
from dayfly.privacy.keys import MemoryKeys

from .measuring import percentile, quiet_heap
from .rows import Row, at_least, at_most, missing_peer

__all__ = ["run"]

SUITE: Final = "durable"
EVENT_BYTES: Final = 150
BATCHES: Final = (1, 100, 1_000)
EVENTS_BAR: Final = 100_000.0
RATE: Final = 5_000
FRAME_EVENTS: Final = (1, 2, 3, 4, 5)
P99_BAR_MS: Final = 10.0
BARE: Final = "bare O_DSYNC write"
LOG: Final = "log"
BLOCK: Final = 4096
_TENANT: Final = bytes(range(16))
_SEGMENT: Final = 16 << 20

Commit = Callable[[bytes], object]


def run(*, quick: bool = False) -> list[Row]:
    """Rows of the durable suite: for each batch size, every store beside the bare write; `quick` commits less often."""
    rows: list[Row] = []
    for events in BATCHES:
        seconds = _measure(events, rounds=60 if quick else 400)
        bare = percentile(seconds[BARE], 50)
        rows += [_row(name, events, found, bare) for name, found in seconds.items()]
    rows += [_sustained(events, seconds=1.0 if quick else 5.0) for events in BATCHES[1:]]
    rows.append(_open_loop(seconds=3.0 if quick else 20.0))
    if find_spec("lmdb") is None:
        rows.append(missing_peer(SUITE, "commit", "LMDB", "pip install lmdb"))
    return rows


def _sustained(events: int, *, seconds: float) -> Row:
    """Frames of one batch each, appended as fast as they are taken; time ends when the last is durable."""
    data = os.urandom(events * EVENT_BYTES)
    commits = 0
    with _opened_log() as log, quiet_heap():

        def count(_durable: int) -> None:
            nonlocal commits
            commits += 1

        log.on_durable(count)
        begin = time.perf_counter()
        position = log.append(1, data)
        while time.perf_counter() < begin + seconds:
            position = log.append(1, data)
        log.wait(position)
        rate = position * events / (time.perf_counter() - begin)
    return Row(
        suite=SUITE,
        case=f"log: frames of {events} events, without waiting",
        measured=round(rate),
        unit="events/s",
        note=f"{rate * EVENT_BYTES / 1e6:.0f} MB/s; {position / commits:.1f} frames for each commit",
        **at_least(rate, EVENTS_BAR, "events/s"),
    )


def _open_loop(*, seconds: float) -> Row:
    """Frames of one to five events at a steady rate, due whether the log keeps up or not."""
    due: list[float] = []
    found: list[float] = []
    with _opened_log() as log, quiet_heap():

        def note(durable: int) -> None:
            now = time.perf_counter()
            found.extend(now - due[at] for at in range(len(found), durable))

        log.on_durable(note)
        moment = begin = time.perf_counter()
        while moment < begin + seconds:
            events = FRAME_EVENTS[len(due) % len(FRAME_EVENTS)]
            time.sleep(max(moment - time.perf_counter(), 0))
            due.append(moment)
            log.append(1, bytes(events * EVENT_BYTES))
            moment += events / RATE
        log.wait(log.newest)
        log.turn()  # the callback of the last commit has run
    found.sort()
    p50, p99, p999 = (1e3 * percentile(found, at) for at in (50, 99, 99.9))
    return Row(
        suite=SUITE,
        case=f"log: {RATE} events/s in frames of 1 to 5, from due to durable, p99",
        measured=round(p99, 2),
        unit="ms",
        note=f"p50 {p50:.2f} ms, p99.9 {p999:.2f} ms, max {1e3 * found[-1]:.1f} ms of {len(found)} frames; open loop",
        **at_most(p99, P99_BAR_MS, "ms"),
    )


def _row(name: str, events: int, seconds: list[float], bare: float) -> Row:
    p50, p99 = percentile(seconds, 50), percentile(seconds, 99)
    rate = events * len(seconds) / sum(seconds)
    return Row(
        suite=SUITE,
        case=f"{name}: commit of {events} event{'s' * (events > 1)}",
        measured=round(rate),
        unit="events/s",
        peer=None if name == BARE else BARE,
        ratio=None if name == BARE else round(p50 / bare, 2),
        note=f"p50 {1e3 * p50:.3f} ms, p99 {1e3 * p99:.3f} ms of {len(seconds)} commits of {events * EVENT_BYTES} bytes; "
        "the ratio is of the medians",
    )


def _measure(events: int, *, rounds: int) -> dict[str, list[float]]:
    """Seconds of each commit, rising, by store."""
    data = os.urandom(events * EVENT_BYTES)
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder, ExitStack() as stack:
        stores = {
            name: stack.enter_context(opening(Path(folder))) for name, opening in _stores(events).items()
        }
        found: dict[str, list[float]] = {name: [] for name in stores}
        with quiet_heap():
            for number in range(rounds + rounds // 10):
                for name, commit in stores.items():
                    begin = time.perf_counter()
                    commit(data)
                    if number >= rounds // 10:
                        found[name].append(time.perf_counter() - begin)
    return {name: sorted(seconds) for name, seconds in found.items()}


def _stores(events: int) -> dict[str, Callable[[Path], Any]]:
    stores: dict[str, Callable[[Path], Any]] = {
        BARE: _bare,
        LOG: _log,
        "append and fsync": _append,
        "SQLite, WAL, FULL": partial(_sqlite, events=events),
    }
    if find_spec("lmdb") is not None:
        stores["LMDB"] = partial(_lmdb, events=events)
    return stores


@contextmanager
def _opened_log() -> Iterator[Log]:
    keys = MemoryKeys(random_bytes=os.urandom, now_ms=lambda: 0)
    with (
        tempfile.TemporaryDirectory(dir=Path.cwd()) as folder,
        Log.open(Path(folder) / "log", keys, tenant=_TENANT) as log,
    ):
        yield log


@contextmanager
def _log(_folder: Path) -> Iterator[Commit]:
    with _opened_log() as log:
        yield lambda data: log.wait(log.append(1, data))


@contextmanager
def _bare(folder: Path) -> Iterator[Commit]:
    """The floor: zero-filled and aligned as the log's segments, nothing else done."""
    path = folder / "bare"
    path.write_bytes(bytes(_SEGMENT))
    descriptor = os.open(path, os.O_RDWR | os.O_DSYNC)
    os.fsync(descriptor)
    offset = 0

    def commit(data: bytes) -> None:
        nonlocal offset
        block = data + bytes(-len(data) % BLOCK)
        if offset + len(block) > _SEGMENT:
            offset = 0
        os.pwrite(descriptor, block, offset)
        offset += len(block)

    try:
        yield commit
    finally:
        os.close(descriptor)


@contextmanager
def _append(folder: Path) -> Iterator[Commit]:
    with (folder / "appended").open("ab", buffering=0) as file:

        def commit(data: bytes) -> None:
            file.write(data)
            os.fsync(file.fileno())

        yield commit


@contextmanager
def _sqlite(folder: Path, *, events: int) -> Iterator[Commit]:
    """One row for each event, as a user would keep them."""
    connection = sqlite3.connect(folder / "events.db", isolation_level=None)
    for pragma in ("journal_mode=WAL", "synchronous=FULL"):
        connection.execute(f"PRAGMA {pragma}")
    connection.execute("CREATE TABLE events (position INTEGER PRIMARY KEY, payload BLOB)")

    def commit(data: bytes) -> None:
        connection.execute("BEGIN")
        connection.executemany(
            "INSERT INTO events (payload) VALUES (?)",
            [(data[at : at + EVENT_BYTES],) for at in range(0, events * EVENT_BYTES, EVENT_BYTES)],
        )
        connection.execute("COMMIT")

    try:
        yield commit
    finally:
        connection.close()


@contextmanager
def _lmdb(folder: Path, *, events: int) -> Iterator[Commit]:
    """One entry for each event."""
    environment = import_module("lmdb").open(str(folder / "lmdb"), map_size=1 << 32)
    following = 0

    def commit(data: bytes) -> None:
        nonlocal following
        with environment.begin(write=True) as transaction:
            for at in range(0, events * EVENT_BYTES, EVENT_BYTES):
                transaction.put(following.to_bytes(8, "big"), data[at : at + EVENT_BYTES], append=True)
                following += 1

    try:
        yield commit
    finally:
        environment.close()
