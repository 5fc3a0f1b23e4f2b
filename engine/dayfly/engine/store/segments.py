"""Segment files: made ready ahead of use (zero-filled, durable), written by one thread, one durable write at a time."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from dayfly.privacy.keys import DataKeys

from .files import CREATE, REUSE, WRITE, Disk, opened, write_all
from .frames import (
    BEGIN,
    COMMIT,
    FRAME_HEAD_BYTES,
    HEADER_BYTES,
    SEAL,
    TAG_BYTES,
    RecordHead,
    SegmentHeader,
    encode_header,
    encode_record,
    record_bytes,
)
from .settings import LogSettings

__all__ = [
    "FREE",
    "NEW",
    "SEGMENT",
    "PreparedSegment",
    "SegmentWriter",
    "Stopped",
    "frame_bytes",
    "prepare",
    "segment_name",
    "zero_fill",
]

SEGMENT, NEW, FREE = ".seg", ".new", ".free"
NONCE_BYTES: Final = 12
_ZEROS: Final = bytes(1 << 20)


class Stopped(Exception):  # noqa: N818 - a request, not an error
    """Preparing a segment was given up because the log closes."""


@dataclass(frozen=True, slots=True)
class PreparedSegment:
    """A segment that is durable under its name and holds a header and zeros."""

    path: Path
    header: SegmentHeader
    cipher: AESGCM


def segment_name(number: int, suffix: str = SEGMENT) -> str:
    """Name of a segment's file."""
    return f"{number:08d}{suffix}"


def zero_fill(disk: Disk, descriptor: int, size: int, stopped: Callable[[], bool]) -> None:
    """Fill a file with zeros, durably, in steps small enough for others to write between them.

    Zeros on allocated blocks make each later write an overwrite in place, which needs no journal commit; holes and
    preallocated extents do not.

    Raises:
        Stopped: `stopped` said so between two steps.
    """
    for offset in range(0, size, len(_ZEROS)):
        if stopped():
            raise Stopped
        write_all(disk, descriptor, memoryview(_ZEROS)[: min(len(_ZEROS), size - offset)], offset)
        disk.sync(descriptor)


def prepare(
    disk: Disk,
    folder: Path,
    number: int,
    keys: DataKeys,
    *,
    tenant: bytes,
    settings: LogSettings,
    random_bytes: Callable[[int], bytes],
    spare: Path | None = None,
    stopped: Callable[[], bool] = lambda: False,
) -> PreparedSegment:
    """Make segment `number` ready: durable under its final name when this returns.

    The file stands under a ``.new`` name, durably, before it is filled and its key is made: a crash leaves no key that nobody
    accounts for, and no segment whose content is gone.

    Args:
        disk: Where.
        folder: Of the log.
        number: The segment's.
        keys: Where its key comes from.
        tenant: 16 bytes.
        settings: Its size and alignment.
        random_bytes: Source of its nonce.
        spare: File of a forgotten segment of the same size to use again.
        stopped: Asked between steps.

    Raises:
        OSError: as the system says; nothing is left of the segment.
        Stopped: `stopped` said so; likewise.
    """
    part, path = folder / segment_name(number, NEW), folder / segment_name(number)
    made: int | None = None
    try:
        if spare is not None:
            disk.rename(spare, part)
        with opened(disk, part, CREATE if spare is None else REUSE) as descriptor:
            disk.sync_folder(folder)
            zero_fill(disk, descriptor, settings.segment_bytes, stopped)
            made, key = keys.create("log")
            header = SegmentHeader(
                number,
                made,
                tenant,
                settings.segment_bytes,
                settings.align_bytes,
                random_bytes(NONCE_BYTES),
            )
            cipher = AESGCM(key)
            write_all(disk, descriptor, encode_header(header, cipher), 0)
            disk.sync(descriptor)
        disk.rename(part, path)
        disk.sync_folder(folder)
    except BaseException:
        _give_up(disk, keys, made, (part, path))
        raise
    return PreparedSegment(path, header, cipher)


def _give_up(disk: Disk, keys: DataKeys, key_id: int | None, paths: Sequence[Path]) -> None:
    """Leave nothing of an unfinished segment: its key first, since a file without a key is harmless."""
    if key_id is not None:
        keys.destroy((key_id,))
    for path in paths:
        with suppress(OSError):
            disk.unlink(path)


class SegmentWriter:
    """Appends records to one segment. Not thread-safe; after an error it must not be used again."""

    def __init__(
        self,
        disk: Disk,
        segment: PreparedSegment,
        *,
        random_bytes: Callable[[int], bytes],
        end: int = HEADER_BYTES,
    ) -> None:
        self.segment = segment
        self.end = end
        self._disk = disk
        self._nonce = int.from_bytes(random_bytes(NONCE_BYTES), "big")
        self._descriptor = disk.open(segment.path, WRITE)

    @classmethod
    def begun(
        cls, disk: Disk, segment: PreparedSegment, first: int, *, random_bytes: Callable[[int], bytes]
    ) -> Self:
        """Take a prepared segment into use: its first frame will have position `first`."""
        writer = cls(disk, segment, random_bytes=random_bytes)
        try:
            writer._write(BEGIN, first, ())
        except OSError:
            writer.close()
            raise
        return writer

    @property
    def room(self) -> int:
        """Bytes that frames, their heads included, may take in the next commit; a seal still fits behind it."""
        header = self.segment.header
        seal = record_bytes(0, header.align_bytes)
        return header.segment_bytes - self.end - seal - record_bytes(0, 1)

    def commit(self, first: int, frames: Sequence[tuple[int, bytes]]) -> None:
        """Write frames that take at most `room`; they are durable when this returns."""
        self._write(COMMIT, first, frames)

    def seal(self, following: int) -> None:
        """State that the log goes on in the next segment with position `following`."""
        self._write(SEAL, following, ())

    def close(self) -> None:
        """Close the file."""
        self._disk.close(self._descriptor)

    def _write(self, kind: int, first: int, frames: Sequence[tuple[int, bytes]]) -> None:
        header = self.segment.header
        self._nonce = (self._nonce + 1) % (1 << 8 * NONCE_BYTES)
        nonce = self._nonce.to_bytes(NONCE_BYTES, "big")
        head = RecordHead(kind, TAG_BYTES, len(frames), header.number, first, nonce)
        record = encode_record(head, frames, self.segment.cipher, header.tenant, header.align_bytes)
        write_all(self._disk, self._descriptor, record, self.end)
        self.end += len(record)


def frame_bytes(payload: bytes) -> int:
    """Bytes that one frame takes in a record."""
    return FRAME_HEAD_BYTES + len(payload)
