r"""Where lineage records lie: in memory, or in one append-only file whose records can be zeroed in place.

File format: 8 bytes ``DFLIN1\r\n``, then records. Each is a 13-byte little-endian head (payload length u32, kind u8, CRC-32 of
the payload u32, CRC-32 of those nine bytes u32) and the payload. Kind 0 is an erased record: its payload is zeros.
"""

import os
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Final, Protocol

from dayfly.engine.errors import LineageError

__all__ = ["ERASED", "FileRecords", "MemoryRecords", "Records"]

ERASED: Final = 0
MAGIC: Final = b"DFLIN1\r\n"
_HEAD: Final = struct.Struct("<IBI")
_CHECK: Final = struct.Struct("<I")
_HEAD_BYTES: Final = _HEAD.size + _CHECK.size
_ZERO_STEP: Final = 1 << 16


class Records(Protocol):
    """Append-only records, each found by its position and erasable in place."""

    def append(self, kind: int, payload: bytes) -> int:
        """Add a record of `kind` (1 to 255) and return its position."""
        ...

    def read(self, position: int) -> bytes:
        """Payload of the record at `position`."""
        ...

    def erase(self, position: int) -> None:
        """Destroy the payload of the record at `position`."""
        ...

    def scan(self) -> Iterator[tuple[int, int, bytes]]:
        """Position, kind and payload of every record that is not erased, in the order of writing."""
        ...

    def sync(self) -> None:
        """Make everything so far durable."""
        ...

    def close(self) -> None:
        """Release what is held; further calls are errors."""
        ...


class MemoryRecords:
    """Records that end with the process."""

    def __init__(self) -> None:
        self._records: dict[int, tuple[int, bytes]] = {}
        self._next = 0

    def append(self, kind: int, payload: bytes) -> int:
        """Add a record and return its position."""
        position, self._next = self._next, self._next + 1
        self._records[position] = (kind, payload)
        return position

    def read(self, position: int) -> bytes:
        """Payload of a record."""
        return self._records[position][1]

    def erase(self, position: int) -> None:
        """Drop a record."""
        del self._records[position]

    def scan(self) -> Iterator[tuple[int, int, bytes]]:
        """All records in order."""
        for position, (kind, payload) in list(self._records.items()):
            yield position, kind, payload

    def sync(self) -> None:
        """Nothing to do: memory is not durable."""

    def close(self) -> None:
        """Drop everything."""
        self._records.clear()


class FileRecords:
    """Records in one file, which only this object may write.

    A record cut short by a crash at the end of the file is removed on opening; damage anywhere else is an error, so that
    lineage is never lost unnoticed.

    Raises:
        LineageError: the file is something else, or damaged.
        OSError: the file cannot be opened or written.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            self._end = self._recover()
        except BaseException:
            os.close(self._file)
            raise

    def append(self, kind: int, payload: bytes) -> int:
        """Write a record at the end and return its offset."""
        position = self._end
        self._write(position, _head(kind, payload) + payload)
        self._end += _HEAD_BYTES + len(payload)
        return position

    def read(self, position: int) -> bytes:
        """Payload of the record at offset `position`, checked."""
        length, _, check = self._read_head(position)
        payload = os.pread(self._file, length, position + _HEAD_BYTES)
        if zlib.crc32(payload) != check:
            raise LineageError(f"{self._at(position)} must match its checksum; restore the file from a copy")
        return payload

    def erase(self, position: int) -> None:
        """Mark the record, then overwrite its payload with zeros; a crash between is finished on opening."""
        length, _, _ = self._read_head(position)
        mark = _HEAD.pack(length, ERASED, 0)
        self._write(position, mark + _CHECK.pack(zlib.crc32(mark)))
        self._zero(position, length)

    def scan(self) -> Iterator[tuple[int, int, bytes]]:
        """All records that are not erased."""
        position = len(MAGIC)
        while position < self._end:
            length, kind, _ = self._read_head(position)
            if kind != ERASED:
                yield position, kind, self.read(position)
            position += _HEAD_BYTES + length

    def sync(self) -> None:
        """Flush to the device."""
        os.fdatasync(self._file)

    def close(self) -> None:
        """Flush and close."""
        os.fdatasync(self._file)
        os.close(self._file)

    def _recover(self) -> int:
        """Offset of the end of the last whole record; finishes erasures and cuts a torn tail."""
        size = os.fstat(self._file).st_size
        if size == 0:
            self._write(0, MAGIC)
            return len(MAGIC)
        if os.pread(self._file, len(MAGIC), 0) != MAGIC:
            raise LineageError(
                f"path={self._path.name!r} must be a lineage file of this version; choose another path"
            )
        position = len(MAGIC)
        while position < size:
            if size - position < _HEAD_BYTES or self._is_zero(position, size):
                break
            length, kind, _ = self._read_head(position)
            if position + _HEAD_BYTES + length > size:
                break
            if kind == ERASED:
                self._zero(position, length)
            position += _HEAD_BYTES + length
        os.ftruncate(self._file, position)
        return position

    def _read_head(self, position: int) -> tuple[int, int, int]:
        raw = os.pread(self._file, _HEAD_BYTES, position)
        if len(raw) < _HEAD_BYTES or _CHECK.unpack_from(raw, _HEAD.size)[0] != zlib.crc32(raw[: _HEAD.size]):
            raise LineageError(
                f"{self._at(position)} must begin with a sound head; restore the file from a copy"
            )
        length, kind, check = _HEAD.unpack_from(raw)
        return int(length), int(kind), int(check)

    def _is_zero(self, position: int, size: int) -> bool:
        """Whether nothing but zeros follows: space that a crash left allocated and unwritten."""
        while position < size:
            part = os.pread(self._file, _ZERO_STEP, position)
            if part.strip(b"\0"):
                return False
            position += len(part)
        return True

    def _zero(self, position: int, length: int) -> None:
        self._write(position + _HEAD_BYTES, bytes(length))

    def _write(self, position: int, data: bytes) -> None:
        view = memoryview(data)
        while view:
            written = os.pwrite(self._file, view, position)
            view, position = view[written:], position + written

    def _at(self, position: int) -> str:
        return f"record at byte {position} of {self._path.name!r}"


def _head(kind: int, payload: bytes) -> bytes:
    head = _HEAD.pack(len(payload), kind, zlib.crc32(payload))
    return head + _CHECK.pack(zlib.crc32(head))
