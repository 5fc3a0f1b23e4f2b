"""A store's folder: whose it is, in which format, and that one process at a time writes to it."""

import fcntl
import os
import weakref
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import msgspec

from dayfly.engine.errors import StoreDamaged, StoreForeign, StoreLocked, StoreVersion
from dayfly.privacy.errors import InvalidArgument

from .files import LOCAL_DISK, READ, Disk, explained, opened, replace_file
from .settings import TENANT_BYTES, check_tenant

__all__ = ["LOCK_NAME", "MARKER_NAME", "StoreLock", "StoreMarker"]

MARKER_NAME: Final = "dayfly-store.json"
LOCK_NAME: Final = "LOCK"
_FORMAT: Final = "dayfly-store"
_VERSION: Final = 1
_LIMIT: Final = 4096


class _Kind(msgspec.Struct, frozen=True):
    """What every version's marker begins with."""

    format: str
    version: int


class StoreMarker(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """The file `dayfly-store.json`: read before anything else in the folder.

    Attributes:
        format, version: That this is a store, and of which version.
        tenant: Tenant id, 32 hexadecimal digits.
        created_ms: When, in milliseconds UTC.
        shards: Number of shards that the state is split into.
        shard: Which of them is in this folder; None in the folder of the whole store.
    """

    format: str
    version: int
    tenant: str
    created_ms: int
    shards: int
    shard: int | None = None

    @property
    def tenant_bytes(self) -> bytes:
        """Tenant id, 16 bytes."""
        return bytes.fromhex(self.tenant)

    @classmethod
    def create(
        cls,
        folder: Path,
        *,
        tenant: bytes,
        created_ms: int,
        shards: int = 1,
        shard: int | None = None,
        disk: Disk = LOCAL_DISK,
    ) -> Self:
        """Make `folder` a store; it is absent, empty, or holds a lock only.

        Raises:
            StoreForeign: the folder holds something else already.
            StoreFull, StoreUnusable: the system refuses.
            InvalidArgument: `tenant` is not 16 bytes long, or `shards` is not positive.
        """
        if shards < 1:
            raise InvalidArgument(f"shards={shards} must be >= 1; pass the number of shards")
        marker = cls(
            format=_FORMAT,
            version=_VERSION,
            tenant=check_tenant(tenant).hex(),
            created_ms=created_ms,
            shards=shards,
            shard=shard,
        )
        with explained(folder, "making a store"):
            disk.make_folder(folder)
            part = f".{MARKER_NAME}.part"
            others = sorted(set(disk.names(folder)) - {LOCK_NAME, part})
            if others:
                raise StoreForeign(
                    f"folder={str(folder)!r} must be empty to become a store but holds {others[0]!r}; choose another folder"
                )
            replace_file(disk, folder / MARKER_NAME, msgspec.json.format(msgspec.json.encode(marker)) + b"\n")
        return marker

    @classmethod
    def find(cls, folder: Path, *, disk: Disk = LOCAL_DISK) -> Self | None:
        """The marker in `folder`, or None when there is none.

        Raises:
            StoreForeign: the file is no marker.
            StoreVersion: written by a newer version.
            StoreDamaged: it cannot be read.
            StoreUnusable: the system refuses.
        """
        path = folder / MARKER_NAME
        with explained(path, "reading the store's marker"):
            try:
                with opened(disk, path, READ) as descriptor:
                    data = disk.read(descriptor, _LIMIT, 0)
            except (FileNotFoundError, NotADirectoryError):
                return None
        return cls._decoded(data, path)

    @classmethod
    def read(cls, folder: Path, *, tenant: bytes | None = None, disk: Disk = LOCAL_DISK) -> Self:
        """The marker in `folder`, which must be there and, where given, `tenant`'s.

        Raises:
            StoreForeign: no store, or another tenant's; and as `find`.
        """
        marker = cls.find(folder, disk=disk)
        if marker is None:
            raise StoreForeign(
                f"folder={str(folder)!r} must hold {MARKER_NAME} to be a store; pass the folder of a store, or make one"
            )
        if tenant is not None and marker.tenant_bytes != tenant:
            raise StoreForeign(
                f"tenant={marker.tenant} of {str(folder)!r} must be {tenant.hex()}; open this tenant's own folder"
            )
        return marker

    @classmethod
    def _decoded(cls, data: bytes, path: Path) -> Self:
        try:
            kind = msgspec.json.decode(data, type=_Kind)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise _unreadable(path, str(error)) from error
        if kind.format != _FORMAT:
            raise StoreForeign(
                f"format={kind.format!r} of {str(path)!r} must be {_FORMAT!r}; pass the folder of a store"
            )
        if kind.version > _VERSION:
            raise StoreVersion(
                f"version={kind.version} of {str(path)!r} must be <= {_VERSION}; upgrade dayfly"
            )
        try:
            marker = msgspec.json.decode(data, type=cls)
            sound = len(marker.tenant_bytes) == TENANT_BYTES and min(marker.shards, marker.version) >= 1
        except (msgspec.DecodeError, ValueError) as error:
            raise _unreadable(path, str(error)) from error
        if not sound:
            raise _unreadable(path, "tenant must have 16 bytes, shards and version must be positive")
        return marker


def _unreadable(path: Path, reason: str) -> StoreDamaged:
    return StoreDamaged(
        f"path={str(path)!r} must be a store's marker: {reason}; restore it from a backup",
        path=str(path),
        offset=0,
    )


class StoreLock:
    """Says that this process, and no other, writes to a folder. Ends with `release`, or with the process however it ends.

    A flock(2) on the file `LOCK`. The file itself stays and means nothing; it names the writer for the error message. A
    forked child does not hold the lock.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor: int | None = descriptor
        self._owner = os.getpid()
        held: weakref.ref[StoreLock] = weakref.ref(self)
        os.register_at_fork(after_in_child=lambda: _close_in_child(held))

    @classmethod
    def acquire(cls, folder: Path, *, started_ms: int) -> Self:
        """Lock `folder`, which must exist.

        Args:
            folder: Of the store.
            started_ms: When this writer started, for the message that others see.

        Raises:
            StoreLocked: another writer holds it; `pid` is its.
            StoreUnusable: the system refuses.
        """
        path = folder / LOCK_NAME
        with explained(path, "locking the store"):
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                os.ftruncate(descriptor, 0)
                os.pwrite(descriptor, b"%d %d\n" % (os.getpid(), started_ms), 0)
            except BlockingIOError:
                content = os.pread(descriptor, _LIMIT, 0)
                os.close(descriptor)
                raise _locked(folder, content) from None
            except OSError:
                os.close(descriptor)
                raise
        return cls(descriptor)

    def release(self) -> None:
        """Let others in. Calling it again does nothing."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            with suppress(OSError):
                os.ftruncate(descriptor, 0)
            os.close(descriptor)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


def _close_in_child(held: "weakref.ref[StoreLock]") -> None:
    """Close without unlocking: the lock belongs to the open file, which the parent still has."""
    lock = held()
    if lock is not None and lock._descriptor is not None:  # noqa: SLF001 - the lock's own other half
        with suppress(OSError):
            os.close(lock._descriptor)  # noqa: SLF001 - as above
        lock._descriptor = None  # noqa: SLF001 - as above


def _locked(folder: Path, content: bytes) -> StoreLocked:
    words = content.split()
    known = len(words) == 2 and all(word.isdigit() for word in words)
    pid = int(words[0]) if known else None
    who = f"process {pid}, which started at {int(words[1])} ms UTC" if known else "another process"
    return StoreLocked(
        f"folder={str(folder)!r} must have one writer, and {who}, writes to it; close that one first", pid=pid
    )
