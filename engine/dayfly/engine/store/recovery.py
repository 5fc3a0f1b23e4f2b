"""What a log's folder holds, looked at without changing anything: how the log goes on, or why it cannot."""

import itertools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from dayfly.engine.errors import StoreDamaged, StoreForeign
from dayfly.privacy.keys import DataKeys

from .chain import ClosedSegment
from .files import LOCAL_DISK, READ, Disk, explained, opened
from .frames import SegmentHeader
from .reading import Tail, damaged, key_for, read_header, reading
from .segments import FREE, NEW, SEGMENT, PreparedSegment, segment_name

__all__ = ["Survey", "oldest_position", "survey"]

_NAME: Final = re.compile(r"[0-9]{8,}")


@dataclass(frozen=True, slots=True)
class Survey:
    """What was found.

    Attributes:
        closed: Full segments, oldest first.
        active: The segment in use, or None in a new log.
        tail: How it ends; None in a new log.
        ready: A segment prepared and not yet used.
        forgotten: Segments whose key is destroyed: what is left of forgetting them, or of preparing one.
        unfinished: Files under ``.new`` names.
        unfinished_key: The key made for one of them.
        spares: Files kept for reuse.
    """

    closed: tuple[ClosedSegment, ...]
    active: PreparedSegment | None
    first: int
    tail: Tail | None
    ready: PreparedSegment | None
    forgotten: tuple[Path, ...]
    unfinished: tuple[Path, ...]
    unfinished_key: int | None
    spares: tuple[Path, ...]


@dataclass(frozen=True, slots=True)
class _Seen:
    """A segment whose key is live. `begun`: position of its first frame, or None."""

    prepared: PreparedSegment
    begun: int | None

    @property
    def number(self) -> int:
        return self.prepared.header.number

    @property
    def path(self) -> Path:
        return self.prepared.path


def survey(disk: Disk, folder: Path, keys: DataKeys, *, tenant: bytes, after: int) -> Survey:
    """Look at a log's folder.

    Args:
        disk: Where.
        folder: Of the log.
        keys: Its keys.
        tenant: 16 bytes.
        after: Position up to which the caller has everything elsewhere.

    Raises:
        StoreForeign: files or keys of another store.
        StoreVersion: written by a newer version.
        StoreDamaged: the log does not hold all that was acknowledged behind `after`.
        OSError: as the system says.
    """
    paths = _paths(disk, folder)
    headers = {number: read_header(disk, path, tenant=tenant) for number, path in paths[SEGMENT].items()}
    live = set(keys.live("log"))
    seen = [
        _look(disk, paths[SEGMENT][number], header, keys)
        for number, header in headers.items()
        if header.key_id in live
    ]
    if headers and not seen:
        raise StoreForeign(
            f"keys={len(live)} live must hold those of the segments in {str(folder)!r}; open the store with its own keys.slots"
        )
    orphan = _orphan(live - {header.key_id for header in headers.values()}, bool(paths[NEW]), folder)
    _check_numbers(folder, headers, [item.number for item in seen])
    used = _used(folder, seen)
    ready = seen[len(used)].prepared if len(seen) > len(used) else None
    dead = [number for number, header in headers.items() if header.key_id not in live]
    tail = _tail(disk, used[-1], keys) if used else None
    _check_end(folder, tail, seen)
    _check_reach(folder, used, tail, after)
    return Survey(
        closed=tuple(
            ClosedSegment(item.path, item.prepared.header, _begun(item), _begun(later) - 1)
            for item, later in itertools.pairwise(used)
        ),
        active=used[-1].prepared if used else None,
        first=_begun(used[-1]) if used else after + 1,
        tail=tail,
        ready=ready,
        forgotten=tuple(paths[SEGMENT][number] for number in dead),
        unfinished=tuple(paths[NEW].values()),
        unfinished_key=orphan,
        spares=tuple(paths[FREE].values()),
    )


def oldest_position(folder: Path, keys: DataKeys, *, tenant: bytes, disk: Disk = LOCAL_DISK) -> int | None:
    """Oldest position that the log in `folder` holds, or the next one when it holds none; None when there is no log.

    For choosing a snapshot before the log is opened: one at position p will do when this is at most p + 1.

    Raises:
        StoreError: as `Log.open`, as far as the beginning of the log tells.
    """
    with explained(folder, "reading the log"):
        try:
            segments = _paths(disk, folder)[SEGMENT]
        except FileNotFoundError:
            return None
        live = set(keys.live("log"))
        for path in segments.values():
            header = read_header(disk, path, tenant=tenant)
            if header.key_id in live:
                return _look(disk, path, header, keys).begun
    return None


def _paths(disk: Disk, folder: Path) -> Mapping[str, dict[int, Path]]:
    """Suffix to segment number to file, rising; other files are left alone."""
    found: dict[str, dict[int, Path]] = {SEGMENT: {}, NEW: {}, FREE: {}}
    for path in sorted(folder / name for name in disk.names(folder)):
        if path.suffix not in found:
            continue
        if not _NAME.fullmatch(path.stem):
            raise StoreForeign(
                f"path={str(path)!r} must be named by its number, as 00000001{path.suffix}; remove what does not belong here"
            )
        found[path.suffix][int(path.stem)] = path
    return {suffix: dict(sorted(numbered.items())) for suffix, numbered in found.items()}


def _look(disk: Disk, path: Path, header: SegmentHeader, keys: DataKeys) -> _Seen:
    key = key_for(keys, header.key_id, path)
    with reading(disk, path, header, key) as reader:
        return _Seen(PreparedSegment(path, header, AESGCM(key)), reader.begun())


def _tail(disk: Disk, last: _Seen, keys: DataKeys) -> Tail:
    """End of the segment in use, as it is on the disk: what an ended process left in the cache is written first."""
    with opened(disk, last.path, READ) as descriptor:
        disk.sync(descriptor)
        disk.forget_cached(descriptor)
    header = last.prepared.header
    with reading(disk, last.path, header, key_for(keys, header.key_id, last.path)) as reader:
        return reader.tail(_begun(last))


def _begun(item: _Seen) -> int:
    assert item.begun is not None
    return item.begun


def _orphan(orphans: set[int], unfinished: bool, folder: Path) -> int | None:  # noqa: FBT001 - one caller, two lines up
    """The key of an unfinished segment; any other key without a segment says that its file is missing."""
    if not orphans:
        return None
    if unfinished and len(orphans) == 1:
        return orphans.pop()
    raise StoreDamaged(
        f"path={str(folder)!r} must hold the segments of keys {sorted(orphans)}, but their files are missing; "
        "put them back, or restore the store from a backup",
        path=str(folder),
    )


def _check_numbers(folder: Path, headers: Mapping[int, SegmentHeader], live: Sequence[int]) -> None:
    if not live:
        return
    for number in range(live[0], live[-1] + 1):
        if number not in live:
            what = "its key is destroyed" if number in headers else "it is missing"
            raise damaged(folder / segment_name(number), 0, f"{what}, but the log goes on behind it")


def _used(folder: Path, seen: Sequence[_Seen]) -> Sequence[_Seen]:
    """The segments in use: all but the last one, where that is prepared only."""
    used = [item for item in seen if item.begun is not None]
    if list(seen[: len(used)]) != used or len(seen) > len(used) + 1:
        raise StoreDamaged(
            f"path={str(folder)!r} must hold segments in use before the one prepared; restore the store from a backup",
            path=str(folder),
        )
    if seen and not used and seen[0].number != 1:
        raise damaged(folder / segment_name(seen[0].number - 1), 0, "it is missing, but the log went on")
    for item, later in itertools.pairwise(used):
        if _begun(later) < _begun(item):
            raise damaged(later.path, 0, f"position={later.begun} must be behind {item.begun}")
    return used


def _check_end(folder: Path, tail: Tail | None, seen: Sequence[_Seen]) -> None:
    """A sealed segment has a successor: it was ready before the seal was written."""
    if tail is not None and tail.sealed and seen[-1].begun is not None:
        raise damaged(
            folder / segment_name(seen[-1].number + 1), 0, "it is missing, but the log goes on in it"
        )


def _check_reach(folder: Path, used: Sequence[_Seen], tail: Tail | None, after: int) -> None:
    if tail is None:
        return
    oldest, newest = _begun(used[0]), tail.following - 1
    if oldest > after + 1:
        raise StoreDamaged(
            f"after={after} must be at least {oldest - 1}, which the log in {str(folder)!r} begins behind; "
            "open a newer snapshot, or restore the store from a backup",
            path=str(folder),
        )
    if newest < after:
        raise StoreDamaged(
            f"after={after} must be at most {newest}, where the log in {str(folder)!r} ends: its newest frames are missing; "
            "put the missing files back, or restore the store from a backup",
            path=str(folder),
        )
