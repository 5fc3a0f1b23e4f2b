r"""One period's dead letters: an append-only file of sealed blocks under one data key.

Format 1, integers little-endian. Head, 68 bytes: ``DFDEAD1\n``, 16 bytes of the tenant's digest, period (i64), length of a period
in milliseconds (i64), key id (u64), id of the key that an erasure replaced by it (u64, or 0), 8 bytes that tell the key, CRC-32
of all before. Then blocks: length of what is sealed (u32),
log position (u64), 12 bytes nonce, CRC-32 of the 24 bytes before and the sealed bytes (u32), the sealed bytes. Sealed with
AES-256-GCM; head, block number and position are bound in. Inside: length of the counts (u32), counts, letters, both MessagePack.
"""

import hashlib
import os
import struct
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final, NamedTuple

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from dayfly.engine.errors import DeadLetterError
from dayfly.engine.intake.reasons import DeadLetterReason
from dayfly.engine.intake.results import RejectedEvent

__all__ = ["Count", "Head", "PeriodFile", "key_check"]

_MAGIC: Final = b"DFDEAD1\n"
_HEAD: Final = struct.Struct("<8s16sqqQQ8sI")
_BLOCK: Final = struct.Struct("<IQ12s")
_CHECK: Final = struct.Struct("<I")
_COUNTS: Final = struct.Struct("<I")
_HEAD_BYTES: Final = _HEAD.size
_BLOCK_BYTES: Final = _BLOCK.size + _CHECK.size
_MAX_SEALED: Final = 1 << 28

Count = tuple[str, str, int]
"""Channel, reason, number."""
_Letter = tuple[int, str, str, str, bytes, str]
_encode: Final = msgspec.msgpack.Encoder().encode
_decode_counts: Final = msgspec.msgpack.Decoder(list[Count]).decode
_decode_letters: Final = msgspec.msgpack.Decoder(list[_Letter]).decode


class Head(NamedTuple):
    """What a file says of itself."""

    tenant: bytes
    period: int
    period_ms: int
    key_id: int
    replaces: int
    key_check: bytes

    def encode(self) -> bytes:
        """Its bytes."""
        body = _HEAD.pack(_MAGIC, *self, 0)[: -_CHECK.size]
        return body + _CHECK.pack(zlib.crc32(body))

    @classmethod
    def read(cls, path: Path) -> "Head | None":
        """The head of a file, or None where a crash cut it while the file was made.

        Raises:
            DeadLetterError: Another kind of file, a newer version, or damaged.
        """
        with path.open("rb") as file:
            raw = file.read(_HEAD_BYTES)
        if len(raw) < _HEAD_BYTES or not any(raw):
            return None
        magic, tenant, period, period_ms, key_id, replaces, check, crc = _HEAD.unpack(raw)
        if magic != _MAGIC:
            raise DeadLetterError(
                f"file={path.name!r} must begin with {_MAGIC!r}, not {magic!r}; it is of another kind or a newer version"
            )
        if crc != zlib.crc32(raw[: -_CHECK.size]):
            raise DeadLetterError(f"file={path.name!r} must have a sound head; restore it from a copy")
        return cls(tenant, period, period_ms, key_id, replaces, check)


def key_check(key: bytes) -> bytes:
    """Eight bytes that tell one key from another."""
    return hashlib.blake2b(key=key, digest_size=8, person=b"dayfly-dead").digest()


class PeriodFile:
    """Blocks of one period over an open file.

    Args:
        path: The file; made if absent.
        head: Its head; what is in the file must agree.
        key: Its data key.
        random_bytes: For nonces.

    Raises:
        DeadLetterError: A block in the middle is damaged. A torn last block is cut off.
    """

    def __init__(self, path: Path, head: Head, key: bytes, random_bytes: Callable[[int], bytes]) -> None:
        self._path, self.head, self._bound = path, head, head.encode()
        self._cipher, self._random_bytes = AESGCM(key), random_bytes
        self.position = 0
        self.counts: list[Count] = []
        self._blocks = 0
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            if os.fstat(self._file).st_size < _HEAD_BYTES:
                os.ftruncate(self._file, 0)
                _write(self._file, self._bound, 0)
                os.fdatasync(self._file)
            self._end = _HEAD_BYTES
            for plain, position, end in self._plain_blocks():
                self.counts += _counts_in(plain)
                self.position, self._end = max(self.position, position), end
                self._blocks += 1
            os.ftruncate(self._file, self._end)
        except BaseException:
            os.close(self._file)
            raise

    def append(self, letters: Sequence[RejectedEvent], position: int) -> None:
        """Add a block; durable when this returns. An error leaves the file as it was, as far as it is read."""
        counts = _counted(letters)
        packed = _encode(counts)
        rows = [
            (letter.at_ms, letter.channel, letter.reason.value, letter.place, letter.digest, letter.detail)
            for letter in letters
        ]
        plain = _COUNTS.pack(len(packed)) + packed + _encode(rows)
        nonce = self._random_bytes(12)
        sealed = self._cipher.encrypt(nonce, plain, self._context(self._blocks, position))
        block = _BLOCK.pack(len(sealed), position, nonce)
        check = _CHECK.pack(zlib.crc32(sealed, zlib.crc32(block)))
        # Of what a full disk cut short, nothing may stand behind the next block.
        os.ftruncate(self._file, self._end)
        _write(self._file, block + check + sealed, self._end)
        os.fdatasync(self._file)
        self._end += _BLOCK_BYTES + len(sealed)
        self._blocks += 1
        self.counts += counts
        self.position = max(self.position, position)

    def letters(self) -> Iterator[tuple[int, list[RejectedEvent]]]:
        """Log position and letters of each block."""
        for plain, position, _ in self._plain_blocks():
            start = _COUNTS.size + _COUNTS.unpack_from(plain)[0]
            yield (
                position,
                [
                    RejectedEvent(at_ms, channel, DeadLetterReason(reason), place, digest, detail)
                    for at_ms, channel, reason, place, digest, detail in _decode_letters(plain[start:])
                ],
            )

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)

    def _plain_blocks(self) -> Iterator[tuple[bytes, int, int]]:
        """Content, position and end of each block up to the end or a torn last block."""
        size, at, number = os.fstat(self._file).st_size, _HEAD_BYTES, 0
        while at < size:
            raw = os.pread(self._file, _BLOCK_BYTES, at)
            length = _BLOCK.unpack_from(raw)[0] if len(raw) == _BLOCK_BYTES else 0
            end = at + _BLOCK_BYTES + length
            sealed = os.pread(self._file, length, at + _BLOCK_BYTES) if 0 < length <= _MAX_SEALED else b""
            if not sealed or len(sealed) < length or not _is_sound(raw, sealed):
                if end < size and 0 < length <= _MAX_SEALED:
                    raise self._damaged(number)
                return
            _, position, nonce = _BLOCK.unpack_from(raw)
            try:
                plain = self._cipher.decrypt(nonce, sealed, self._context(number, position))
            except InvalidTag:
                raise self._damaged(number) from None
            yield plain, position, end
            at, number = end, number + 1

    def _context(self, number: int, position: int) -> bytes:
        return self._bound + struct.pack("<QQ", number, position)

    def _damaged(self, number: int) -> DeadLetterError:
        return DeadLetterError(
            f"block={number} of {self._path.name!r} must open under its key; the file was altered, restore it from a copy"
        )


def _is_sound(raw: bytes, sealed: bytes) -> bool:
    check = zlib.crc32(sealed, zlib.crc32(raw[: _BLOCK.size]))
    return bool(_CHECK.unpack_from(raw, _BLOCK.size)[0] == check)


def _counts_in(plain: bytes) -> list[Count]:
    start, length = _COUNTS.size, _COUNTS.unpack_from(plain)[0]
    return _decode_counts(plain[start : start + length])


def _counted(letters: Sequence[RejectedEvent]) -> list[Count]:
    found: dict[tuple[str, str], int] = {}
    for letter in letters:
        key = letter.channel, letter.reason.value
        found[key] = found.get(key, 0) + 1
    return [(channel, reason, number) for (channel, reason), number in found.items()]


def _write(file: int, data: bytes, start: int) -> None:
    view = memoryview(data)
    while view:
        written = os.pwrite(file, view, start)
        view, start = view[written:], start + written
