"""Backups: one sealed file with everything up to a log position, taken while the engine runs.

In it: the state of a snapshot at that position, audit log, tombstones with their signed checkpoints, lineage and dead letters.
Not in it: fragment keys, which are in memory only, and data keys, which are in `keys.slots` only. A backup is sealed under a
data key of its own; an erasure destroys that key, and with it every backup that could bring the person back.
"""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final

import msgspec

from dayfly.engine.durable.backup_file import BackupHead, write_parts
from dayfly.engine.durable.keeping import Content, Keeper
from dayfly.engine.durable.views import Views
from dayfly.engine.errors import BackupEnded
from dayfly.privacy.errors import KeyDestroyed
from dayfly.privacy.fragments.tombstones.log import TombstoneLog
from dayfly.privacy.keys import DataKeys

__all__ = ["ABOUT", "AUDIT", "LINEAGE", "NOTES", "PURPOSE", "STONES", "About", "BackupInfo", "Backups"]

PURPOSE: Final = "backup"
ABOUT: Final = "about"
AUDIT: Final = "audit.jsonl"
LINEAGE: Final = "lineage.db"
STONES: Final = "stones"
NOTES: Final = "notes"
"""Names of parts; those of the snapshot bear the names that they have there, files their paths in the store."""

_COPY: Final = ".lineage.db.backup"
_PIECE_BYTES: Final = 1 << 20
_STONES_AT_ONCE: Final = 4_096

Do = Callable[[Callable[[int], Any]], Any]


class About(msgspec.Struct, frozen=True):
    """First part of a backup.

    Attributes:
        snapshot: Names of the snapshot's parts.
        stones: Number of tombstones.
    """

    snapshot: tuple[str, ...]
    stones: int


@dataclass(frozen=True, slots=True)
class BackupInfo:
    """A backup that was written.

    Attributes:
        path: The file.
        position: Log position up to which it holds everything.
        at_ms: When it was taken.
        size_bytes: Its size.
        key_id: Data key that it is sealed under.
    """

    path: Path
    position: int
    at_ms: int
    size_bytes: int
    key_id: int


@dataclass(slots=True)
class _Held:
    """What was held fast on the engine's thread, to be read while the engine goes on."""

    at_ms: int
    position: int
    image: Callable[[], Mapping[str, Content]]
    stones: int
    notes: tuple[str, ...]
    files: list[tuple[str, BinaryIO, int]]


class Backups:
    """Takes backups of one engine.

    The engine stands still only while `lineage.db` is copied beside itself. Everything else in the folder is append-only, so an
    open file and its size hold it fast.

    Args:
        folder: Of the store.
        keys: Its data keys.
        tenant: 16 bytes.
        keeper: A backup begins with a snapshot.
        views: What is copied.
        stones: The tombstone log.
        settle: Ends the turn and makes the views durable up to it; on the engine's thread.
        erasing: Tells, by a number above 0, that an erasure is not complete: then state may still name the person.
    """

    def __init__(
        self,
        folder: Path,
        keys: DataKeys,
        *,
        tenant: bytes,
        keeper: Keeper,
        views: Views,
        stones: TombstoneLog,
        settle: Callable[[], object],
        erasing: Callable[[], int],
    ) -> None:
        self._folder: Final = folder
        self._keys: Final = keys
        self._tenant: Final = tenant
        self._keeper: Final = keeper
        self._views: Final = views
        self._stones: Final = stones
        self._settle: Final = settle
        self._erasing: Final = erasing

    def write(self, path: Path, do: Do) -> BackupInfo:
        """Write a backup to a new file, and read it back.

        Args:
            path: Must not exist.
            do: Runs something on the engine's thread and waits until it is durable.

        Raises:
            BackupEnded: an erasure came in between; write another one.
            StoreForeign: `path` exists.
            StoreFull, StoreUnusable: the system refuses.
        """
        key_id, key = self._keys.create(PURPOSE)
        try:
            with ExitStack() as stack:
                held: _Held = do(lambda now_ms: self._hold(now_ms, stack))
                image = held.image()
                self._keeper.write(held.position, lambda: dict(image))
                head = BackupHead(key_id, self._tenant, held.position, held.at_ms)
                size = write_parts(path, head, key, self._parts(held, image, do))
            self._keys.get(key_id)
        except KeyDestroyed:
            path.unlink(missing_ok=True)
            raise BackupEnded(
                f"file={str(path)!r} must be younger than the last erasure, which came while it was written; write it again"
            ) from None
        except BaseException:
            self._keys.destroy((key_id,))
            raise
        return BackupInfo(path, held.position, held.at_ms, size, key_id)

    def _hold(self, now_ms: int, stack: ExitStack) -> _Held:
        """Bring the views exactly to the newest log position, and hold fast what is there; on the engine's thread."""
        self._settle()
        if self._erasing():
            raise BackupEnded("backup must not begin within an erasure; write it when that is complete")
        position, image = self._keeper.image()
        files = [("lineage.secrets", "*"), ("dead", "*.dead")]
        names = [
            AUDIT,
            *(
                f"{sub}/{path.name}"
                for sub, form in files
                for path in sorted((self._folder / sub).glob(form))
            ),
        ]
        held = [_held(self._folder, name, stack) for name in names]
        held.append(self._lineage(stack))
        return _Held(now_ms, position, image, len(self._stones), tuple(self._stones.checkpoints()), held)

    def _lineage(self, stack: ExitStack) -> tuple[str, BinaryIO, int]:
        """A copy of the lineage database that loses its name at once: nothing is left of it after the backup."""
        path = self._folder / _COPY
        path.unlink(missing_ok=True)
        try:
            self._views.lineage.vault.copy(path)
            file = stack.enter_context(path.open("rb"))
        finally:
            path.unlink(missing_ok=True)
        return LINEAGE, file, os.fstat(file.fileno()).st_size

    def _parts(
        self, held: _Held, image: Mapping[str, Content], do: Do
    ) -> Iterator[tuple[str, Iterable[bytes | memoryview]]]:
        yield ABOUT, [msgspec.msgpack.encode(About(tuple(image), held.stones))]
        for name, content in image.items():
            yield name, [content] if isinstance(content, bytes) else content
        yield STONES, self._entries(held.stones, do)
        yield NOTES, [msgspec.json.encode(held.notes)]
        for name, file, size in held.files:
            yield name, _pieces(file, size)

    def _entries(self, count: int, do: Do) -> Iterator[bytes]:
        """Tombstones as lines, read in strides on the thread that owns their log."""
        for start in range(0, count, _STONES_AT_ONCE):
            end = min(start + _STONES_AT_ONCE, count)
            entries = do(lambda _, start=start, end=end: list(self._stones.entries(start, end)))  # type: ignore[misc]
            yield b"".join(entry + b"\n" for entry in entries)


def _held(folder: Path, name: str, stack: ExitStack) -> tuple[str, BinaryIO, int]:
    """An append-only file, held open with its size."""
    file = stack.enter_context((folder / name).open("rb"))
    return name, file, os.fstat(file.fileno()).st_size


def _pieces(file: BinaryIO, size: int) -> Iterator[bytes]:
    """The first `size` bytes."""
    at = 0
    while at < size:
        piece = os.pread(file.fileno(), min(_PIECE_BYTES, size - at), at)
        if not piece:
            raise OSError(f"file ended at {at} of {size} bytes while it was copied")
        yield piece
        at += len(piece)
