"""Reading segments back: frames in order, and where the log ends after a crash.

What may be found behind the last whole record follows from how records are written: one write at a time, each durable before
the next, into zeros. So it is either nothing, or some sectors of one write, of which nothing was acknowledged. Everything else
is damage, and is refused:

- a whole record further on says that all before it was durable;
- a record whose sectors have all been written, and which still fails its checks, has changed since;
- a head whose sector was written, and which fails its checks, has changed since: a sector is written whole or not at all.

What cannot be told from a torn write: the last record, when whole sectors of it turned into zeros.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from dayfly.engine.errors import StoreDamaged, StoreForeign, StoreVersion
from dayfly.privacy.errors import WrongKey
from dayfly.privacy.keys import DataKeys

from .files import READ, Disk, opened, read_exactly
from .frames import (
    BEGIN,
    COMMIT,
    HEAD_BYTES,
    HEADER_BYTES,
    MAGIC,
    SEAL,
    SECTOR_BYTES,
    BadBytes,
    Frame,
    RecordHead,
    SegmentHeader,
    decode_head,
    decode_header,
    header_opens,
    open_body,
    padded,
    split_body,
)

__all__ = ["Record", "SegmentReader", "Tail", "damaged", "key_for", "read_header", "reading"]

_WINDOW: Final = 1 << 20
_AHEAD: Final = 1 << 18
_ZEROS: Final = bytes(_WINDOW)
_RESTORE: Final = "restore the store from a backup"


@dataclass(frozen=True, slots=True)
class Record:
    """A whole record: its head, plain body, and the offset behind it."""

    head: RecordHead
    plain: bytes
    end: int

    def frames(self) -> list[Frame]:
        """The frames in it."""
        return split_body(self.plain, self.head.first, self.head.count)


@dataclass(frozen=True, slots=True)
class Tail:
    """How a segment ends.

    Attributes:
        end: Offset behind the last whole record.
        following: Position of the next frame to be written.
        sealed: Whether the log goes on in the next segment.
        torn: Offset behind the last byte of a torn write, or `end` when there is none.
    """

    end: int
    following: int
    sealed: bool
    torn: int


def read_header(disk: Disk, path: Path, *, tenant: bytes) -> SegmentHeader:
    """Header of a segment file, checked against name, size and tenant.

    Raises:
        StoreForeign: no segment, or another tenant's.
        StoreVersion: a newer version's.
        StoreDamaged: cut off, damaged, or under another segment's name.
        OSError: as the system says.
    """
    with opened(disk, path, READ) as descriptor:
        size = disk.size(descriptor)
        block = disk.read(descriptor, HEADER_BYTES, 0)
    if len(block) < HEADER_BYTES:
        raise damaged(path, 0, f"size={size} must be at least {HEADER_BYTES}")
    try:
        header = decode_header(block)
    except BadBytes as error:
        raise _told(error, path) from error
    if header.tenant != tenant:
        raise StoreForeign(
            f"tenant={header.tenant.hex()} of {str(path)!r} must be {tenant.hex()}; "
            "put each tenant's segments back into its own folder"
        )
    if path.name.partition(".")[0] != f"{header.number:08d}":
        raise damaged(path, 0, f"segment={header.number} must be what its name says")
    if size != header.segment_bytes:
        raise damaged(path, min(size, header.segment_bytes), f"size={size} must be {header.segment_bytes}")
    return header


def key_for(keys: DataKeys, key_id: int, path: Path) -> bytes:
    """The key that a file was written under.

    Raises:
        StoreForeign: the key-encryption key is not the one that wrapped it.
        DayflyError: whatever else the keys say.
    """
    try:
        return keys.get(key_id)
    except WrongKey as error:
        raise StoreForeign(
            f"key_id={key_id} of {str(path)!r} must open under the key-encryption key given: {error}; "
            "open the store with the key that it was made with"
        ) from error


@contextmanager
def reading(disk: Disk, path: Path, header: SegmentHeader, key: bytes) -> Iterator["SegmentReader"]:
    """A reader of a segment.

    Raises:
        StoreForeign: the key is not the one that the segment was made with.
    """
    cipher = AESGCM(key)
    with opened(disk, path, READ) as descriptor:
        reader = SegmentReader(disk, descriptor, path, header, cipher)
        if not header_opens(reader.bytes_at(0, HEADER_BYTES), cipher):
            raise StoreForeign(
                f"key_id={header.key_id} must be the key that {str(path)!r} was written under; "
                "open the store with its own keys.slots and key-encryption key"
            )
        yield reader


def damaged(path: Path, offset: int, reason: str) -> StoreDamaged:
    """The error of a damaged file."""
    return StoreDamaged(
        f"path={str(path)!r} must be as it was written, but at offset {offset}: {reason}; {_RESTORE}",
        path=str(path),
        offset=offset,
    )


def _told(error: BadBytes, path: Path) -> StoreForeign | StoreVersion | StoreDamaged:
    if error.kind == "foreign":
        return StoreForeign(
            f"path={str(path)!r} must be a file of this store: {error}; remove what does not belong here"
        )
    if error.kind == "version":
        return StoreVersion(
            f"path={str(path)!r} must be of a version that this one reads: {error}; upgrade dayfly"
        )
    return damaged(path, 0, str(error))


class SegmentReader:
    """Reads one open segment."""

    def __init__(
        self, disk: Disk, descriptor: int, path: Path, header: SegmentHeader, cipher: AESGCM
    ) -> None:
        self._disk = disk
        self._descriptor = descriptor
        self._path = path
        self._header = header
        self._cipher = cipher
        self._ahead, self._ahead_at = b"", 0

    def bytes_at(self, offset: int, size: int) -> bytes:
        """Bytes of the file.

        Raises:
            StoreDamaged: the file ends before.
        """
        try:
            return read_exactly(self._disk, self._descriptor, size, offset)
        except EOFError as error:
            raise damaged(self._path, offset, str(error)) from error

    def _next_bytes(self, offset: int, size: int) -> bytes:
        """As `bytes_at`, read ahead: records are read one after the other, and what is durable does not change."""
        start = offset - self._ahead_at
        if start < 0 or start + size > len(self._ahead):
            self._ahead = self._disk.read(self._descriptor, max(size, _AHEAD), offset)
            self._ahead_at, start = offset, 0
        if start + size > len(self._ahead):
            raise damaged(self._path, offset, f"{size} bytes must lie within the file")
        return self._ahead[start : start + size]

    def begun(self) -> int | None:
        """Position of the first frame, or None when the segment was prepared and not taken into use.

        Raises:
            StoreDamaged: neither a beginning nor zeros.
        """
        record = self._record(HEADER_BYTES)
        if record is None:
            if self._written_end(HEADER_BYTES) is not None:
                raise damaged(self._path, HEADER_BYTES, "a segment in use must begin with its first position")
            return None
        if record.head.kind != BEGIN:
            raise damaged(self._path, HEADER_BYTES, "a segment must begin with its first position")
        return record.head.first

    def records(self, first: int) -> Iterator[Record]:
        """Whole records behind the beginning, in order, up to and with the seal; stops where there is none.

        Raises:
            StoreDamaged: a record does not follow from the one before it.
        """
        following = first
        offset = HEADER_BYTES + padded(HEAD_BYTES, self._header.align_bytes)
        while (record := self._record(offset)) is not None:
            head = record.head
            if head.first != following or head.kind == BEGIN:
                raise damaged(self._path, offset, f"position={head.first} must be {following}")
            yield record
            if head.kind == SEAL:
                return
            following += head.count
            offset = record.end

    def tail(self, first: int) -> Tail:
        """Where the segment ends.

        Args:
            first: What `begun` said.

        Raises:
            StoreDamaged: what was acknowledged is not there as it was written.
        """
        end = HEADER_BYTES + padded(HEAD_BYTES, self._header.align_bytes)
        following = first
        for record in self.records(first):
            record.frames()
            end, following = record.end, following + record.head.count
            if record.head.kind == SEAL:
                return Tail(end, following, sealed=True, torn=end)
        return Tail(end, following, sealed=False, torn=self._torn(end))

    def _record(self, offset: int) -> Record | None:
        """The whole record at `offset`; None where nothing, or a torn write, is."""
        size = self._header.segment_bytes
        if offset >= size:
            return None
        sector = self._next_bytes(offset, SECTOR_BYTES)
        if not any(sector):
            return None
        head = self._head(sector, offset)
        end = offset + padded(HEAD_BYTES + head.body_bytes, self._header.align_bytes)
        if end > size:
            raise damaged(self._path, offset, "a record must end within its segment")
        data = self._next_bytes(offset, HEAD_BYTES + head.body_bytes)
        plain = open_body(data, head, self._cipher, self._header.tenant)
        if plain is not None:
            return Record(head, plain, end)
        if all(any(data[at : at + SECTOR_BYTES]) for at in range(0, len(data), SECTOR_BYTES)):
            raise damaged(self._path, offset, "checksum and tag of a record must hold")
        return None

    def _head(self, sector: bytes, offset: int) -> RecordHead:
        try:
            head = decode_head(sector)
        except BadBytes as error:
            raise damaged(self._path, offset, str(error)) from error
        if head.segment != self._header.number:
            raise damaged(
                self._path, offset, f"segment={head.segment} of a record must be {self._header.number}"
            )
        return head

    def _torn(self, end: int) -> int:
        """End of the torn write behind `end`, or `end`.

        Raises:
            StoreDamaged: it is no torn write.
        """
        written = self._written_end(end)
        if written is None:
            return end
        sector = self.bytes_at(end, SECTOR_BYTES)
        if any(sector):
            head = self._head(sector, end)
            limit = end + padded(HEAD_BYTES + head.body_bytes, self._header.align_bytes)
            if written > limit:
                raise damaged(self._path, end, "a torn write must be the last")
        later = self._whole_head_behind(end + SECTOR_BYTES)
        if later is not None:
            raise damaged(self._path, end, f"what the record at offset {later} follows must be there")
        return written

    def _written_end(self, offset: int) -> int | None:
        """Offset behind the last sector at or after `offset` that is not zero."""
        found: int | None = None
        for at in range(offset, self._header.segment_bytes, _WINDOW):
            window = self.bytes_at(at, min(_WINDOW, self._header.segment_bytes - at))
            if window != _ZEROS[: len(window)]:
                found = at + padded(len(window.rstrip(b"\0")), SECTOR_BYTES)
        return found

    def _whole_head_behind(self, offset: int) -> int | None:
        """Offset of a record's head at or after `offset`, where one could begin."""
        align = self._header.align_bytes
        start = padded(offset, align)
        for at in range(start, self._header.segment_bytes, _WINDOW):
            window = self.bytes_at(at, min(_WINDOW, self._header.segment_bytes - at))
            place = window.find(MAGIC)
            while place >= 0:
                if place % align == 0 and self._is_head(window, place):
                    return at + place
                place = window.find(MAGIC, place + 1)
        return None

    def _is_head(self, window: bytes, place: int) -> bool:
        try:
            head = decode_head(window, place)
        except BadBytes:
            return False
        return head.segment == self._header.number and head.kind in {COMMIT, SEAL}
