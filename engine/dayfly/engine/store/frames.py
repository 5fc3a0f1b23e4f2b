"""Bytes of a log segment: one header block, then records, each written by one write and durable before the next.

::

    header block   4096 bytes: magic, version, sizes, segment number, key id, tenant, key check, checksum
    record         head (52 bytes) | ciphertext | tag (16 bytes) | filler to the end of the sector | zeros to `align_bytes`
    zeros          up to `segment_bytes`

A record is what one commit wrote: `BEGIN` (first in a segment in use), `COMMIT` (frames), `SEAL` (last; the log goes on in the
next segment). Its head states the first position in it; since every earlier write was durable before this one was issued, all
positions before that were durable then. That is how recovery tells a torn last write from damage: what a valid record says
was before it must be there.

The body is one AES-256-GCM message under the segment's own key, for the tenant, segment, positions and record kind in its
associated data; kinds and lengths of frames are inside it. A nonce is a random 96-bit start, drawn each time a segment is opened
for writing, plus a counter: a torn record that is cut and written again never shares one with what it replaces.

Two CRC-32 (zlib's: 4 GB/s here, against 1 GB/s of BLAKE2b) stand outside the encryption, one over the head and one over the
body. They find torn writes without the key; whether bytes are ours is decided by the GCM tag alone. The filler is not zero, so
no sector of a written record is: a sector of zeros was never written (segments are zero-filled), one that is not but fails
its check was damaged.
"""

import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

__all__ = [
    "BEGIN",
    "COMMIT",
    "FRAME_HEAD_BYTES",
    "HEADER_BYTES",
    "HEAD_BYTES",
    "MAGIC",
    "SEAL",
    "SECTOR_BYTES",
    "TAG_BYTES",
    "BadBytes",
    "Frame",
    "RecordHead",
    "SegmentHeader",
    "decode_head",
    "decode_header",
    "encode_header",
    "encode_record",
    "header_opens",
    "open_body",
    "padded",
    "record_bytes",
    "split_body",
]

VERSION: Final = 1
HEADER_BYTES: Final = 4096
SECTOR_BYTES: Final = 512
TAG_BYTES: Final = 16
BEGIN, COMMIT, SEAL = 1, 2, 3
MAGIC: Final = b"DFR1"

_FILLER: Final = b"\xa5"
_HEADER_MAGIC: Final = b"DAYFLYLG"
_HEADER: Final = struct.Struct(
    "<8sHHIQQQ16s12s"
)  # magic, version, -, align, size, number, key id, tenant, nonce
_CHECKS: Final = struct.Struct("<16sI")  # GCM tag over the fields, CRC-32 of all before it
_HEAD: Final = struct.Struct(
    "<4sBxHIIQQ12sI"
)  # magic, kind, -, -, body, count, segment, first, nonce, body CRC
_AAD_BYTES: Final = _HEAD.size - 4  # everything that is known before the body is encrypted
_CRC: Final = struct.Struct("<I")
_FRAME: Final = struct.Struct("<BI")  # kind, length
HEAD_BYTES: Final = _HEAD.size + _CRC.size
FRAME_HEAD_BYTES: Final = _FRAME.size


class BadBytes(Exception):  # noqa: N818 - caught within the store and told with file and offset
    """Bytes that are not what they must be. `kind` is ``damaged``, ``foreign`` or ``version``."""

    def __init__(self, kind: str, reason: str) -> None:
        super().__init__(reason)
        self.kind = kind


@dataclass(frozen=True, slots=True)
class Frame:
    """One entry of the log.

    Attributes:
        position: Rises by one from frame to frame; the first ever is 1.
        kind: What the payload is, 0 to 255; the log does not look at it.
        payload: The content.
    """

    position: int
    kind: int
    payload: bytes


@dataclass(frozen=True, slots=True)
class SegmentHeader:
    """First block of a segment file. `nonce` is used once, for the key check."""

    number: int
    key_id: int
    tenant: bytes
    segment_bytes: int
    align_bytes: int
    nonce: bytes


@dataclass(frozen=True, slots=True)
class RecordHead:
    """Head of a record.

    Attributes:
        kind: `BEGIN`, `COMMIT` or `SEAL`.
        body_bytes: Ciphertext and tag.
        count: Frames in it; 0 unless a `COMMIT`.
        segment: Number of the segment it was written to.
        first: Position of its first frame; for `BEGIN` and `SEAL` the position of the next frame.
        nonce: 12 bytes.
        body_crc: CRC-32 of ciphertext and tag.
    """

    kind: int
    body_bytes: int
    count: int
    segment: int
    first: int
    nonce: bytes
    body_crc: int = 0


def padded(size: int, align_bytes: int) -> int:
    """`size` rounded up to a multiple of `align_bytes`."""
    return -(-size // align_bytes) * align_bytes


def record_bytes(frame_bytes: int, align_bytes: int) -> int:
    """Bytes on disk of a record whose frames (heads included) take `frame_bytes`."""
    return padded(HEAD_BYTES + frame_bytes + TAG_BYTES, align_bytes)


# --- segment header --------------------------------------------------------------------------------------------------


def encode_header(header: SegmentHeader, cipher: AESGCM) -> bytes:
    """The header block; its tag shows later that a key is the one the segment was made with."""
    fields = _HEADER.pack(
        _HEADER_MAGIC,
        VERSION,
        0,
        header.align_bytes,
        header.segment_bytes,
        header.number,
        header.key_id,
        header.tenant,
        header.nonce,
    )
    tag = cipher.encrypt(header.nonce, b"", fields)
    return (fields + tag + _CRC.pack(zlib.crc32(fields + tag))).ljust(HEADER_BYTES, b"\0")


def decode_header(block: bytes) -> SegmentHeader:
    """Read a header block; `header_opens` tells whether a key fits it.

    Raises:
        BadBytes: not a segment, a newer version, or damaged.
    """
    magic, version, _, align, size, number, key_id, tenant, nonce = _HEADER.unpack_from(block)
    if magic != _HEADER_MAGIC:
        raise BadBytes("foreign", f"magic={magic.hex()} must be {_HEADER_MAGIC.hex()}")
    if version > VERSION:
        raise BadBytes("version", f"version={version} must be <= {VERSION}")
    end = _HEADER.size + TAG_BYTES
    if _CRC.unpack_from(block, end)[0] != zlib.crc32(block[:end]):
        raise BadBytes("damaged", "checksum of the segment header must hold")
    if any(block[end + _CRC.size : HEADER_BYTES]):
        raise BadBytes("damaged", "rest of the segment header must be zero")
    return SegmentHeader(number, key_id, tenant, size, align, nonce)


def header_opens(block: bytes, cipher: AESGCM) -> bool:
    """Whether the segment was made under this key."""
    nonce = _HEADER.unpack_from(block)[-1]
    tag = _CHECKS.unpack_from(block, _HEADER.size)[0]
    try:
        cipher.decrypt(nonce, tag, block[: _HEADER.size])
    except InvalidTag:
        return False
    return True


# --- records ---------------------------------------------------------------------------------------------------------


def encode_record(
    head: RecordHead, frames: Sequence[tuple[int, bytes]], cipher: AESGCM, tenant: bytes, align_bytes: int
) -> bytearray:
    """The bytes that one write puts on the disk.

    Args:
        head: Its `body_bytes` and `body_crc` are worked out here.
        frames: Kind and payload of each frame.
        cipher: AES-256-GCM under the segment's key.
        tenant: 16 bytes.
        align_bytes: Records begin at multiples of this.
    """
    pieces: list[bytes] = []
    for kind, payload in frames:
        pieces.append(_FRAME.pack(kind, len(payload)))
        pieces.append(payload)
    plain = b"".join(pieces)
    body_bytes = len(plain) + TAG_BYTES
    used = HEAD_BYTES + body_bytes
    record = bytearray(padded(used, align_bytes))
    _HEAD.pack_into(
        record, 0, MAGIC, head.kind, 0, body_bytes, head.count, head.segment, head.first, head.nonce, 0
    )
    body = memoryview(record)[HEAD_BYTES:used]
    cipher.encrypt_into(head.nonce, plain, tenant + record[:_AAD_BYTES], body)
    filler = padded(used, SECTOR_BYTES) - used
    record[used : used + filler] = _FILLER * filler
    _CRC.pack_into(record, _AAD_BYTES, zlib.crc32(body))
    _CRC.pack_into(record, _HEAD.size, zlib.crc32(memoryview(record)[: _HEAD.size]))
    return record


def decode_head(data: bytes, offset: int = 0) -> RecordHead:
    """Read a record's head.

    Raises:
        BadBytes: no head, or damaged.
    """
    magic, kind, _, body, count, segment, first, nonce, crc = _HEAD.unpack_from(data, offset)
    if magic != MAGIC or _CRC.unpack_from(data, offset + _HEAD.size)[0] != zlib.crc32(
        data[offset : offset + _HEAD.size]
    ):
        raise BadBytes("damaged", "checksum of a record's head must hold")
    if body < TAG_BYTES or kind not in {BEGIN, COMMIT, SEAL}:
        raise BadBytes(
            "damaged", f"record kind={kind} with {body} bytes must be one that this version writes"
        )
    return RecordHead(kind, body, count, segment, first, nonce, crc)


def open_body(record: bytes, head: RecordHead, cipher: AESGCM, tenant: bytes) -> bytes | None:
    """Plain body of the record that begins `record`, or None when checksum or tag do not hold."""
    body = memoryview(record)[HEAD_BYTES : HEAD_BYTES + head.body_bytes]
    if len(body) != head.body_bytes or zlib.crc32(body) != head.body_crc:
        return None
    try:
        return cipher.decrypt(head.nonce, body, tenant + record[:_AAD_BYTES])
    except InvalidTag:
        return None


def split_body(plain: bytes, first: int, count: int) -> list[Frame]:
    """Frames of a body.

    Raises:
        BadBytes: the body does not hold exactly `count` frames.
    """
    frames: list[Frame] = []
    offset = 0
    while offset + _FRAME.size <= len(plain) and len(frames) < count:
        kind, size = _FRAME.unpack_from(plain, offset)
        offset += _FRAME.size
        frames.append(Frame(first + len(frames), kind, plain[offset : offset + size]))
        offset += size
    if offset != len(plain) or len(frames) != count:
        raise BadBytes("damaged", f"record at position {first} must hold exactly {count} frames")
    return frames
