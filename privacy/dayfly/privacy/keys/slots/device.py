"""The little that the slot store asks of a file, and the real one. Tests put a disk in its place that loses power."""

import fcntl
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol, Self

from dayfly.privacy.errors import (
    KeyFileUnsafe,
    KeyStoreBusy,
    KeyStoreDamaged,
    KeyStoreExists,
    KeyStoreFailed,
)

__all__ = ["FolderFile", "RawFile", "sync_folder"]


class RawFile(Protocol):
    """A file of bytes with positioned reads and writes. Every method raises `KeyStoreFailed` when the disk refuses."""

    @property
    def name(self) -> str:
        """For messages."""
        ...

    def size(self) -> int:
        """Length in bytes."""
        ...

    def read(self, offset: int, count: int) -> bytes:
        """Up to `count` bytes; fewer at the end of the file."""
        ...

    def write(self, offset: int, data: bytes) -> None:
        """Write all of it. Durable after `sync` only."""
        ...

    def sync(self) -> None:
        """Make every write durable."""
        ...

    def read_from_disk(self, offset: int, count: int) -> bytes:
        """As `read`, past the page cache where the operating system allows to drop it."""
        ...

    def close(self) -> None:
        """Close; once more does nothing."""
        ...


@contextmanager
def _failing(action: str, path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise KeyStoreFailed(
            f"{action}={str(path)!r} must succeed, but {error.strerror or error}; repair the disk and open again"
        ) from error


class FolderFile:
    """A file of mode 0600 that belongs to us, locked against other writers."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self._path = path
        self._descriptor = descriptor

    @classmethod
    def open(cls, path: Path) -> Self:
        """Open an existing file for this process alone.

        Raises:
            KeyFileUnsafe: Not a regular file, another owner, or others may read or write it.
            KeyStoreDamaged: There is no such file.
            KeyStoreBusy: Another process has it open.
            KeyStoreFailed: The operating system refuses.
        """
        with _failing("open", path):
            try:
                descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
            except FileNotFoundError:
                raise KeyStoreDamaged(
                    f"path={str(path)!r} must exist; find it again, or make a new store"
                ) from None
        try:
            cls._check(path, descriptor)
        except BaseException:
            os.close(descriptor)
            raise
        return cls(path, descriptor)

    @staticmethod
    def _check(path: Path, descriptor: int) -> None:
        status = os.fstat(descriptor)
        mode = stat.S_IMODE(status.st_mode)
        if not stat.S_ISREG(status.st_mode) or mode & 0o077 or status.st_uid != os.geteuid():
            raise KeyFileUnsafe(
                f"mode={mode:#o} owner={status.st_uid} of {str(path)!r} must be 0o600 and {os.geteuid()}; "
                f"run chmod 600 and chown on it, and find out who read it"
            )
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise KeyStoreBusy(
                f"path={str(path)!r} must have one writer; close the other process first"
            ) from None

    @classmethod
    def make(cls, path: Path, content: bytes) -> None:
        """Make a new file: there, whole and durable, or not there.

        Raises:
            KeyStoreExists: It is there already.
            KeyStoreFailed: The operating system refuses.
        """
        unfinished = path.with_name(f"{path.name}.new")
        with _failing("create", path):
            unfinished.unlink(missing_ok=True)
            flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            new = cls(unfinished, os.open(unfinished, flags, 0o600))
            try:
                os.fchmod(new._descriptor, 0o600)  # whatever the umask took away
                new.write(0, content)
                new.sync()
            finally:
                new.close()
            try:
                path.hardlink_to(unfinished)  # unlike a rename it never replaces
            except FileExistsError:
                raise KeyStoreExists(f"path={str(path)!r} must not exist; open it instead") from None
            finally:
                unfinished.unlink()
        sync_folder(path.parent)

    @property
    def name(self) -> str:
        """The path."""
        return str(self._path)

    def size(self) -> int:
        """Length in bytes."""
        with _failing("stat", self._path):
            return os.fstat(self._descriptor).st_size

    def read(self, offset: int, count: int) -> bytes:
        """Up to `count` bytes; fewer at the end of the file."""
        pieces = []
        with _failing("read", self._path):
            while count and (piece := os.pread(self._descriptor, count, offset)):
                pieces.append(piece)
                offset += len(piece)
                count -= len(piece)
        return b"".join(pieces)

    def write(self, offset: int, data: bytes) -> None:
        """Write all of it."""
        view = memoryview(data)
        with _failing("write", self._path):
            while view:
                done = os.pwrite(self._descriptor, view, offset)
                view = view[done:]
                offset += done

    def sync(self) -> None:
        """fdatasync(2)."""
        with _failing("sync", self._path):
            os.fdatasync(self._descriptor)

    def read_from_disk(self, offset: int, count: int) -> bytes:
        """Drop the clean pages from the cache first, so the answer comes from the device where that is possible."""
        with _failing("read", self._path):
            os.posix_fadvise(self._descriptor, offset, count, os.POSIX_FADV_DONTNEED)
        return self.read(offset, count)

    def close(self) -> None:
        """Close and unlock."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def sync_folder(folder: Path) -> None:
    """Make names in a folder durable. Raises `KeyStoreFailed`."""
    with _failing("sync", folder):
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
