"""Files that only their owner may read, replaced atomically; what was replaced is overwritten."""

import fcntl
import hashlib
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from dayfly.privacy.errors import KeyFileUnsafe, KeyStoreBusy, KeyStoreExists, KeyStoreFailed

__all__ = ["make_private", "read_private", "replace_private"]

_MAX_BYTES: Final = 1 << 20
_FLAGS: Final = os.O_NOFOLLOW | os.O_CLOEXEC


@contextmanager
def _in_folder(path: Path) -> Iterator[None]:
    """Hold the folder's lock and turn what the operating system says into our error."""
    try:
        descriptor = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            _check_safe(path.parent, os.fstat(descriptor), folder=True)
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            _clean_up(path, descriptor)
            yield
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise KeyStoreFailed(
            f"path={str(path)!r} must be within reach, but {error.strerror or error}; repair it and try again"
        ) from error


def _check_safe(path: Path, status: os.stat_result, *, folder: bool) -> None:
    mode, wanted = stat.S_IMODE(status.st_mode), 0o700 if folder else 0o600
    if status.st_uid != os.geteuid():
        raise KeyFileUnsafe(
            f"owner={status.st_uid} of {str(path)!r} must be {os.geteuid()}; run chown on it, and find out who wrote it"
        )
    if mode & 0o077:
        raise KeyFileUnsafe(
            f"mode={mode:#o} of {str(path)!r} must be {wanted:#o}; run chmod {wanted:o} {str(path)!r}"
        )
    if not folder and not stat.S_ISREG(status.st_mode):
        raise KeyFileUnsafe(f"path={str(path)!r} must be a regular file; give the file itself")


def _old(path: Path) -> Path:
    return path.with_name(f"{path.name}.old")


def _new(path: Path) -> Path:
    return path.with_name(f"{path.name}.new")


def _clean_up(path: Path, folder: int) -> None:
    """Overwrite and remove what a crash in the middle of a replacement left. Names of the living file are only removed."""
    for left in (_old(path), _new(path)):
        try:
            descriptor = os.open(left, os.O_RDWR | _FLAGS)
        except FileNotFoundError:
            continue
        try:
            living = path.exists() and os.path.samestat(os.fstat(descriptor), path.stat())
            if not living:
                _overwrite(descriptor)
        finally:
            os.close(descriptor)
        left.unlink()
        os.fsync(folder)


def _overwrite(descriptor: int) -> None:
    size = os.fstat(descriptor).st_size
    os.pwrite(descriptor, bytes(size), 0)
    os.fdatasync(descriptor)


def _read(path: Path) -> bytes:
    try:
        descriptor = os.open(path, os.O_RDONLY | _FLAGS)
    except OSError as error:
        if path.is_symlink():
            raise KeyFileUnsafe(
                f"path={str(path)!r} must not be a symbolic link; give the file itself"
            ) from error
        raise
    with os.fdopen(descriptor, "rb") as file:
        _check_safe(path, os.fstat(descriptor), folder=False)
        return file.read(_MAX_BYTES)


def read_private(path: Path) -> bytes:
    """Content of a private file.

    Raises:
        KeyFileUnsafe: The file or its folder lets others in, or it is a link.
        KeyStoreFailed: It is missing, or the operating system refuses.
    """
    with _in_folder(path):
        return _read(path)


def _write_new(path: Path, content: bytes) -> None:
    descriptor = os.open(_new(path), os.O_WRONLY | os.O_CREAT | os.O_EXCL | _FLAGS, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        os.fchmod(descriptor, 0o600)  # whatever the umask took away
        file.write(content)
        file.flush()
        os.fsync(descriptor)


def make_private(path: Path, content: bytes) -> None:
    """Make a private file, durably; a missing folder is made with mode 0700.

    Raises:
        KeyStoreExists: There is a file already.
        KeyFileUnsafe: The folder lets others in.
        KeyStoreFailed: The operating system refuses.
    """
    try:
        path.parent.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise KeyStoreFailed(
            f"folder={str(path.parent)!r} must be a folder, but {error.strerror or error}; make it with mode 0700"
        ) from error
    with _in_folder(path):
        _write_new(path, content)
        try:
            path.hardlink_to(_new(path))  # unlike a rename it never replaces
        except FileExistsError:
            raise KeyStoreExists(f"path={str(path)!r} must not exist; open it instead") from None
        finally:
            _new(path).unlink()


def replace_private(path: Path, content: bytes, *, expected: bytes) -> None:
    """Replace a private file atomically, then overwrite the bytes of the old one.

    Args:
        path: The file.
        content: What it holds from now on.
        expected: SHA-256 of what it must hold until now.

    Raises:
        KeyStoreBusy: Somebody else has changed it.
        KeyFileUnsafe: The file or its folder lets others in.
        KeyStoreFailed: The operating system refuses; the file is the old one or the new one, and whole.
    """
    with _in_folder(path):
        if hashlib.sha256(_read(path)).digest() != expected:
            raise KeyStoreBusy(
                f"path={str(path)!r} must be as it was read, but another process changed it; open it again and repeat"
            )
        _write_new(path, content)
        _old(path).hardlink_to(path)
        _new(path).replace(path)
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(folder)
            _clean_up(path, folder)
        finally:
            os.close(folder)
