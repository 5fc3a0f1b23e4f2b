"""Stores as crashes leave them: logs cut anywhere, views that lag behind, whole folders taken apart."""

import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Event, Thread

from dayfly.engine.durable import Engine
from dayfly.engine.store import Frame, Log, LogSettings, Snapshots
from dayfly.engine.store.frames import BEGIN, HEAD_BYTES, HEADER_BYTES, decode_head, padded
from dayfly.privacy.keys import KeyProvider, SlotKeys

from .shop import Shop

ONE_BY_ONE = LogSettings(segment_bytes=1 << 20, align_bytes=512, max_commit_bytes=1)
"""Every frame is a record of its own, so that a crash can part inputs from their effects."""

VIEWS = ("audit.jsonl", "dead", "tombstones", "lineage.db", "lineage.db-wal", "lineage.db-shm")
"""What may lag behind the log."""


@dataclass(frozen=True, slots=True)
class Written:
    """A record in a segment file: where it begins and ends, its first position, and how many frames it holds."""

    path: Path
    start: int
    end: int
    first: int
    count: int


def records(segment: Path, *, align_bytes: int = 512) -> Iterator[Written]:
    """Records of a segment, read without its key; the one that begins it included."""
    data = segment.read_bytes()
    at = HEADER_BYTES
    while at < len(data) and any(data[at : at + HEAD_BYTES]):
        head = decode_head(data[at:])
        end = at + padded(HEAD_BYTES + head.body_bytes, align_bytes)
        yield Written(segment, at, end, head.first, head.count if head.kind != BEGIN else 0)
        at = end


def segments(store: Path) -> list[Path]:
    """Segments in use, oldest first."""
    return [path for path in sorted((store / "log").glob("*.seg")) if any(True for _ in records(path))]


def cut(segment: Path, offset: int, *, stop: int | None = None) -> None:
    """What was written behind an offset never reached the disk (up to `stop`, by default to the end)."""
    with segment.open("r+b") as file:
        size = segment.stat().st_size if stop is None else stop
        file.seek(offset)
        file.write(bytes(size - offset))


def with_views_of(log_of: Path, views_of: Path, made: Path) -> Path:
    """A store whose log is that of `log_of` and whose views are still those of `views_of`."""
    shutil.rmtree(made, ignore_errors=True)
    shutil.copytree(log_of, made)
    for name in VIEWS:
        here, there = made / name, views_of / name
        if here.is_dir():
            shutil.rmtree(here)
        elif here.exists():
            here.unlink()
        if there.is_dir():
            shutil.copytree(there, here)
        elif there.exists():
            shutil.copy2(there, here)
    return made


@dataclass(frozen=True, slots=True)
class Contents:
    """What a store's files hold: its newest snapshot, and the frames behind it."""

    position: int
    parts: Mapping[str, bytes]
    frames: tuple[Frame, ...]


def contents(store: Path, keys: KeyProvider) -> Contents:
    """Read a store without an engine. The log is repaired, so pass a copy."""
    with SlotKeys.open(
        store / "keys.slots", keys.keks(), tenant=keys.tenant_id, random_bytes=os.urandom, now_ms=lambda: 0
    ) as slots:
        found = Snapshots(store / "snapshots", slots, tenant=keys.tenant_id).newest()
        assert found is not None
        with Log.open(
            store / "log", slots, tenant=keys.tenant_id, after=found[0], settings=ONE_BY_ONE
        ) as log:
            return Contents(*found, tuple(log.frames(found[0])))


def quiet(shop: Shop) -> None:
    """No calls but the test's own wait in the queue: the health report's would be counted with them."""
    shop.settings = replace(shop.settings, health_seconds=0)


@contextmanager
def one_turn(engine: Engine) -> Iterator[None]:
    """Hold the engine's thread, so that everything queued meanwhile is done in one turn."""
    held, go_on = Event(), Event()

    def hold(_: int) -> None:
        held.set()
        go_on.wait(30)

    holder = Thread(target=engine._running.do, args=(hold,))
    holder.start()
    held.wait(30)
    try:
        yield
    finally:
        go_on.set()
        holder.join()


def wait_until(holds: Callable[[], bool], *, seconds: float = 30.0) -> None:
    """Wait for another thread."""
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "it must happen in time"
        time.sleep(0.001)
