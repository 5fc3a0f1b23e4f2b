"""File operations of the store behind one seam, so that tests can lose power, fill the disk and break it."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final, Protocol, TypeAlias

from dayfly.engine.errors import StoreError, StoreFull, StoreUnusable

__all__ = [
    "CREATE",
    "LOCAL_DISK",
    "READ",
    "REUSE",
    "WRITE",
    "Buffer",
    "Disk",
    "LocalDisk",
    "explained",
    "opened",
    "read_exactly",
    "replace_file",
    "store_error",
    "write_all",
]

Buffer: TypeAlias = bytes | bytearray | memoryview

READ: Final = os.O_RDONLY
WRITE: Final = os.O_RDWR | os.O_DSYNC
"""Each write is on the disk when it returns."""
CREATE: Final = os.O_RDWR | os.O_CREAT | os.O_EXCL
"""A new file, to be synced by `Disk.sync`."""
REUSE: Final = os.O_RDWR
"""An old file, likewise."""

_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


class Disk(Protocol):
    """What the store asks of a file system. Methods raise `OSError` as `os` does.

    Order: a write through a file opened with `WRITE` is durable when it returns. Other writes are durable after `sync`; names
    (made, renamed, removed) after `sync_folder`. Until then the disk may keep, drop or reorder them.
    """

    def open(self, path: Path, flags: int) -> int:
        """A descriptor, not inherited by child programs."""
        ...

    def close(self, descriptor: int) -> None:
        """Give a descriptor back."""
        ...

    def read(self, descriptor: int, size: int, offset: int) -> bytes:
        """Up to `size` bytes; fewer only at the end of the file."""
        ...

    def write(self, descriptor: int, data: Buffer, offset: int) -> int:
        """Number of bytes written, at least one."""
        ...

    def sync(self, descriptor: int) -> None:
        """Make the file's content and size durable."""
        ...

    def forget_cached(self, descriptor: int) -> None:
        """Make the next read come from the disk where that is possible."""
        ...

    def size(self, descriptor: int) -> int:
        """Size of the file in bytes."""
        ...

    def rename(self, old: Path, new: Path) -> None:
        """Give a file another name, replacing what is there."""
        ...

    def unlink(self, path: Path) -> None:
        """Remove a file."""
        ...

    def make_folder(self, path: Path) -> None:
        """Make a folder and its parents, if absent."""
        ...

    def sync_folder(self, path: Path) -> None:
        """Make the names in a folder durable."""
        ...

    def names(self, folder: Path) -> list[str]:
        """Names in a folder, in any order."""
        ...


class LocalDisk:
    """The file system of this machine."""

    def open(self, path: Path, flags: int) -> int:
        """Open, readable by the owner only when made."""
        return os.open(path, flags | os.O_CLOEXEC, 0o600)

    def close(self, descriptor: int) -> None:
        """Close."""
        os.close(descriptor)

    def read(self, descriptor: int, size: int, offset: int) -> bytes:
        """Read, repeating short reads."""
        data = os.pread(descriptor, size, offset)
        if len(data) == size or not data:
            return data
        parts = [data]
        done = len(data)
        while done < size and (data := os.pread(descriptor, size - done, offset + done)):
            parts.append(data)
            done += len(data)
        return b"".join(parts)

    def write(self, descriptor: int, data: Buffer, offset: int) -> int:
        """Write once."""
        return os.pwrite(descriptor, data, offset)

    def sync(self, descriptor: int) -> None:
        """fsync: content, size and whatever else the file needs to be found again."""
        os.fsync(descriptor)

    def forget_cached(self, descriptor: int) -> None:
        """Drop clean pages: after a failed write the cache may hold, as clean, what never reached the disk."""
        with suppress(OSError):
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)

    def size(self, descriptor: int) -> int:
        """Size in bytes."""
        return os.fstat(descriptor).st_size

    def rename(self, old: Path, new: Path) -> None:
        """Rename."""
        old.rename(new)

    def unlink(self, path: Path) -> None:
        """Unlink."""
        path.unlink()

    def make_folder(self, path: Path) -> None:
        """Make a folder that only the owner may enter."""
        if path.is_dir():
            return
        self.make_folder(path.parent)
        path.mkdir(mode=0o700, exist_ok=True)
        self.sync_folder(path.parent)

    def sync_folder(self, path: Path) -> None:
        """Fsync of the folder."""
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def names(self, folder: Path) -> list[str]:
        """Names in the folder."""
        return [path.name for path in folder.iterdir()]


LOCAL_DISK: Final[Disk] = LocalDisk()


@contextmanager
def opened(disk: Disk, path: Path, flags: int) -> Iterator[int]:
    """A descriptor that is closed at the end."""
    descriptor = disk.open(path, flags)
    try:
        yield descriptor
    finally:
        disk.close(descriptor)


def write_all(disk: Disk, descriptor: int, data: Buffer, offset: int) -> None:
    """Write all of `data`, repeating short writes."""
    done = disk.write(descriptor, data, offset)
    if done == len(data):
        return
    rest = memoryview(data)
    while done < len(rest):
        done += disk.write(descriptor, rest[done:], offset + done)


def read_exactly(disk: Disk, descriptor: int, size: int, offset: int) -> bytes:
    """Exactly `size` bytes.

    Raises:
        EOFError: the file ends before.
    """
    data = disk.read(descriptor, size, offset)
    if len(data) != size:
        raise EOFError(f"size={size} at offset {offset} must lie within the file; it ends after {len(data)}")
    return data


def replace_file(disk: Disk, path: Path, data: bytes) -> None:
    """Put `data` in the place of `path`: after a crash there is the old content or the new, whole and durable.

    Raises:
        OSError: as the system says; the old content is still there.
    """
    part = path.with_name(f".{path.name}.part")
    with suppress(FileNotFoundError):
        disk.unlink(part)
    try:
        with opened(disk, part, CREATE) as descriptor:
            write_all(disk, descriptor, data, 0)
            disk.sync(descriptor)
        disk.rename(part, path)
    except OSError:
        with suppress(OSError):
            disk.unlink(part)
        raise
    disk.sync_folder(path.parent)


@contextmanager
def explained(path: Path, doing: str) -> Iterator[None]:
    """Turn what the system refuses into the store's errors.

    Args:
        path: What the work is on.
        doing: What is done, as in ``writing a log segment``.

    Raises:
        StoreFull: no room.
        StoreUnusable: everything else that the system refused.
    """
    try:
        yield
    except OSError as error:
        raise store_error(error, path, doing) from error


def store_error(error: OSError, path: Path, doing: str) -> StoreError:
    """The store's error for what the system said."""
    reason = error.strerror or str(error)
    if error.errno in _FULL:
        return StoreFull(f"path={str(path)!r} must have room for {doing}: {reason}; free or add disk space")
    return StoreUnusable(
        f"path={str(path)!r} must allow {doing}: {reason}; check that the disk is mounted for writing, healthy, "
        "and that this user may read and write it",
        errno=error.errno,
    )
