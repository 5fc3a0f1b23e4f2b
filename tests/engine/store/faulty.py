"""A disk that does what it is told until it is told to fail, and the keys and small settings that the tests share."""

import errno
import os
import random
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from dayfly.engine.store import LocalDisk, Log, LogSettings
from dayfly.privacy.keys import DataKeys, MemoryKeys

TENANT = bytes(range(16))
SMALL = LogSettings(segment_bytes=32_768, align_bytes=512, retry_seconds=0.01)


class FaultyDisk(LocalDisk):
    """The local disk, with faults: `fail(operation, path)` returns an error number, or 0."""

    def __init__(self, fail: Callable[[str, Path], int] = lambda _operation, _path: 0) -> None:
        self.fail = fail
        self.calls: Counter[str] = Counter()
        self._paths: dict[int, Path] = {}

    def open(self, path: Path, flags: int) -> int:
        self._check("open for writing" if flags & os.O_RDWR else "open", path)
        descriptor = super().open(path, flags)
        self._paths[descriptor] = path
        return descriptor

    def write(self, descriptor: int, data: bytes | bytearray | memoryview, offset: int) -> int:
        self._check("write", self._paths[descriptor])
        return super().write(descriptor, data, offset)

    def read(self, descriptor: int, size: int, offset: int) -> bytes:
        self._check("read", self._paths[descriptor])
        return super().read(descriptor, size, offset)

    def sync(self, descriptor: int) -> None:
        self._check("sync", self._paths[descriptor])
        super().sync(descriptor)

    def rename(self, old: Path, new: Path) -> None:
        self._check("rename", old)
        super().rename(old, new)

    def unlink(self, path: Path) -> None:
        self._check("unlink", path)
        super().unlink(path)

    def _check(self, operation: str, path: Path) -> None:
        self.calls[operation] += 1
        number = self.fail(operation, path)
        if number:
            raise OSError(number, os.strerror(number))


def memory_keys(seed: int = 1) -> MemoryKeys:
    return MemoryKeys(random_bytes=random.Random(seed).randbytes, now_ms=lambda: 0)


def open_log(
    folder: Path,
    keys: DataKeys,
    *,
    after: int = 0,
    tenant: bytes = TENANT,
    settings: LogSettings = SMALL,
    disk: LocalDisk | None = None,
) -> Log:
    return Log.open(folder, keys, tenant=tenant, after=after, settings=settings, disk=disk or LocalDisk())


def fill(log: Log, frames: int, size: int = 500) -> list[bytes]:
    """Append frames, each durable before the next, and return their payloads."""
    payloads = []
    for _ in range(frames):
        payload = random.Random(log.newest + 1).randbytes(size)
        log.wait(log.append(1, payload))
        payloads.append(payload)
    return payloads


def wait_until_prepared(log: Log) -> None:
    """Return when the segment behind the one in use is ready: closing earlier would give it up."""
    while log._preparer._ready is None:
        threading.Event().wait(0.001)


def failing_with(number: int, operation: str, part_of_name: str) -> Callable[[str, Path], int]:
    return lambda asked, path: number if asked == operation and part_of_name in path.name else 0


FULL, BROKEN, DENIED, READ_ONLY = errno.ENOSPC, errno.EIO, errno.EACCES, errno.EROFS
