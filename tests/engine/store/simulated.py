"""A disk in memory that records what was asked of it, and can lose power at any moment of that record.

What it keeps after a loss of power is what `Disk` promises and nothing more: writes that were not synced are there, sector by
sector, or not, in any combination; names that were not synced likewise.
"""

import os
import random
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from dayfly.privacy.errors import UnknownKey

SECTOR: Final = 512
Choose = Callable[[], bool]
"""Whether one unsynced sector or name reached the disk."""


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened. `what`: create write written sync synced rename unlink folder key gone mark."""

    what: str
    inode: int = -1
    path: Path = Path()
    other: Path = Path()
    offset: int = 0
    data: bytes = b""
    number: int = 0


@dataclass
class State:
    """Content by inode, and inode by name."""

    content: dict[int, bytearray] = field(default_factory=dict)
    names: dict[Path, int] = field(default_factory=dict)
    keys: dict[int, tuple[str, bytes]] = field(default_factory=dict)
    next_key: int = 1


class SimulatedDisk:
    """A file system in memory. `record` is everything that happened to it, in order."""

    def __init__(self, state: State | None = None) -> None:
        found = state or State()
        self.start = State(
            {inode: bytearray(data) for inode, data in found.content.items()},
            dict(found.names),
            dict(found.keys),
            found.next_key,
        )
        self.content = {inode: bytearray(data) for inode, data in found.content.items()}
        self.inodes = dict(found.names)
        self.record: list[Event] = []
        self.lock = threading.RLock()
        self._descriptors: dict[int, tuple[int, int]] = {}
        self._next = 1

    def mark(self, number: int, path: str = "") -> None:
        """Note something of the caller's in the record."""
        self._add(Event("mark", number=number, path=Path(path)))

    def open(self, path: Path, flags: int) -> int:
        with self.lock:
            inode = self.inodes.get(path)
            if flags & os.O_EXCL and inode is not None:
                raise FileExistsError(17, "File exists", str(path))
            if inode is None:
                if not flags & os.O_CREAT:
                    raise FileNotFoundError(2, "No such file or directory", str(path))
                inode = 1 + max(self.content, default=0)
                self.content[inode] = bytearray()
                self.inodes[path] = inode
                self._add(Event("create", inode=inode, path=path))
            self._next += 1
            self._descriptors[self._next] = inode, flags
            return self._next

    def close(self, descriptor: int) -> None:
        with self.lock:
            del self._descriptors[descriptor]

    def read(self, descriptor: int, size: int, offset: int) -> bytes:
        with self.lock:
            return bytes(self.content[self._descriptors[descriptor][0]][offset : offset + size])

    def write(self, descriptor: int, data: bytes | bytearray | memoryview, offset: int) -> int:
        with self.lock:
            inode, flags = self._descriptors[descriptor]
            assert flags & os.O_RDWR
            number = len(self.record)
            self._add(Event("write", inode=inode, offset=offset, data=bytes(data), number=number))
            _put(self.content[inode], offset, bytes(data))
            if flags & os.O_DSYNC:
                self._add(Event("written", inode=inode, number=number))
            return len(data)

    def sync(self, descriptor: int) -> None:
        with self.lock:
            inode = self._descriptors[descriptor][0]
            self._add(Event("sync", inode=inode))
            self._add(Event("synced", inode=inode))

    def forget_cached(self, descriptor: int) -> None:
        pass

    def size(self, descriptor: int) -> int:
        with self.lock:
            return len(self.content[self._descriptors[descriptor][0]])

    def rename(self, old: Path, new: Path) -> None:
        with self.lock:
            if old not in self.inodes:
                raise FileNotFoundError(2, "No such file or directory", str(old))
            self.inodes[new] = self.inodes.pop(old)
            self._add(Event("rename", path=old, other=new))

    def unlink(self, path: Path) -> None:
        with self.lock:
            if path not in self.inodes:
                raise FileNotFoundError(2, "No such file or directory", str(path))
            del self.inodes[path]
            self._add(Event("unlink", path=path))

    def make_folder(self, path: Path) -> None:
        pass

    def sync_folder(self, path: Path) -> None:
        self._add(Event("folder", path=path))

    def names(self, folder: Path) -> list[str]:
        with self.lock:
            return [path.name for path in self.inodes if path.parent == folder]

    def _add(self, event: Event) -> None:
        with self.lock:
            self.record.append(event)


class SimulatedKeys:
    """Data keys on a `SimulatedDisk`: durable when a call returns, as `DataKeys` promises."""

    def __init__(self, disk: SimulatedDisk) -> None:
        self._disk = disk
        self._keys = dict(disk.start.keys)
        self._next = disk.start.next_key
        self._random = random.Random(self._next)

    def create(self, purpose: str) -> tuple[int, bytes]:
        with self._disk.lock:
            key_id, key = self._next, self._random.randbytes(32)
            self._next += 1
            self._keys[key_id] = purpose, key
            self._disk._add(Event("key", number=key_id, path=Path(purpose), data=key))
            return key_id, key

    def get(self, key_id: int) -> bytes:
        if key_id not in self._keys:
            raise UnknownKey(f"key_id={key_id} must be live; use one of `live`")
        return self._keys[key_id][1]

    def destroy(self, key_ids: Iterable[int]) -> None:
        with self._disk.lock:
            for key_id in key_ids:
                if self._keys.pop(key_id, None) is not None:
                    self._disk._add(Event("gone", number=key_id))

    def live(self, purpose: str) -> tuple[int, ...]:
        with self._disk.lock:
            return tuple(sorted(key_id for key_id, (name, _) in self._keys.items() if name == purpose))


class _Replay:
    """What a record has made durable so far, and what it has not."""

    def __init__(self, start: State) -> None:
        self.state = State(
            {inode: bytearray(data) for inode, data in start.content.items()},
            dict(start.names),
            dict(start.keys),
            start.next_key,
        )
        self.writes: dict[int, list[Event]] = {}
        self.names: list[Event] = []

    def create(self, event: Event) -> None:
        self.state.content[event.inode] = bytearray()
        self.names.append(event)

    def rename(self, event: Event) -> None:
        self.names.append(event)

    unlink = rename

    def write(self, event: Event) -> None:
        self.writes.setdefault(event.inode, []).append(event)

    def written(self, event: Event) -> None:
        done = next(item for item in self.writes[event.inode] if item.number == event.number)
        self.writes[event.inode].remove(done)
        _put(self.state.content[event.inode], done.offset, done.data)

    def synced(self, event: Event) -> None:
        for item in self.writes.pop(event.inode, []):
            _put(self.state.content[event.inode], item.offset, item.data)

    def folder(self, event: Event) -> None:
        for item in self.names:
            if item.path.parent == event.path:
                _rename(self.state.names, item)
        self.names = [item for item in self.names if item.path.parent != event.path]

    def key(self, event: Event) -> None:
        self.state.keys[event.number] = str(event.path), event.data
        self.state.next_key = event.number + 1

    def gone(self, event: Event) -> None:
        del self.state.keys[event.number]

    def sync(self, event: Event) -> None:
        pass

    mark = sync


def after_power_loss(start: State, record: Sequence[Event], chosen: Choose) -> State:
    """What is on the disk when the power goes after `record`."""
    replay = _Replay(start)
    for event in record:
        getattr(replay, event.what)(event)
    for items in replay.writes.values():
        for item in items:
            _tear(replay.state.content[item.inode], item, chosen)
    for item in replay.names:
        if chosen():
            _rename(replay.state.names, item)
    return replay.state


def marks(record: Iterable[Event], path: str = "") -> list[int]:
    """Numbers of the marks in a record."""
    return [event.number for event in record if event.what == "mark" and event.path == Path(path)]


def _put(content: bytearray, offset: int, data: bytes) -> None:
    if len(content) < offset:
        content.extend(bytes(offset - len(content)))
    content[offset : offset + len(data)] = data


def _tear(content: bytearray, write: Event, chosen: Choose) -> None:
    first = write.offset // SECTOR
    last = (write.offset + len(write.data) - 1) // SECTOR
    for sector in range(first, last + 1):
        if chosen():
            begin = max(sector * SECTOR, write.offset)
            end = min((sector + 1) * SECTOR, write.offset + len(write.data))
            _put(content, begin, write.data[begin - write.offset : end - write.offset])


def _rename(names: dict[Path, int], event: Event) -> None:
    if event.what == "create":
        names[event.path] = event.inode
    elif event.what == "unlink":
        names.pop(event.path, None)
    elif event.path in names:
        names[event.other] = names.pop(event.path)


def ways(seed: int) -> Mapping[str, Choose]:
    """Ways of losing power: nothing that was not synced is there, everything, or any part."""
    chance = random.Random(seed)
    return {
        "nothing": lambda: False,
        "everything": lambda: True,
        "half": lambda: chance.random() < 0.5,
        "most": lambda: chance.random() < 0.9,
    }
