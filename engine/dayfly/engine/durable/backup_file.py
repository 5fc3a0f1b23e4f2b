"""The file of a backup: named parts in one sealed stream, under a data key of its own.

::

    header     72 bytes: magic, version, key id, tenant, position, instant, key check, checksum
    chunk      head (16 bytes: length, kind, index, CRC-32) | ciphertext | tag (16 bytes)
    ...        NAME begins a part, DATA goes on with it, END is the last chunk of the file

Chunks are AES-256-GCM in the STREAM construction (Hoang, Reyhanitabar, Rogaway, Vizár 2015), as in snapshots: the nonce is a
counter and the kind, header and head are bound in. So nothing can be dropped, repeated, moved or cut off, and a key, which
encrypts one file once, never sees a nonce twice. Both directions stream: no part has to fit the memory.
"""

import os
import struct
import zlib
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from dayfly.engine.errors import StoreDamaged, StoreForeign, StoreVersion
from dayfly.engine.store.files import explained

__all__ = ["BackupHead", "Parts", "read_head", "read_parts", "write_parts"]

Parts = Iterable[tuple[str, Iterable[bytes | memoryview]]]
"""Names and contents, in pieces."""

_MAGIC: Final = b"DAYFLYBK"
_VERSION: Final = 1
_FIELDS: Final = struct.Struct("<8sHHQ16sQq")  # magic, version, -, key id, tenant, position, instant
_CHECKS: Final = struct.Struct("<16sI")  # GCM tag over the fields, CRC-32 of all before it
_HEAD_BYTES: Final = _FIELDS.size + _CHECKS.size
_CHUNK: Final = struct.Struct("<IIII")  # plain bytes, kind, index, CRC-32 of ciphertext and tag
_BOUND_BYTES: Final = 12  # of a chunk's head: what is known before it is encrypted
_TAG_BYTES: Final = 16
_DATA, _NAME, _END, _KEY_CHECK = 0, 1, 2, 3
_CHUNK_BYTES: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class BackupHead:
    """What a backup shows without its key.

    Attributes:
        key_id: Data key that it is sealed under, in the store's `keys.slots`.
        tenant: Whose it is, 16 bytes.
        position: Log position up to which it holds everything.
        at_ms: When it was taken, milliseconds UTC.
    """

    key_id: int
    tenant: bytes
    position: int
    at_ms: int

    def fields(self) -> bytes:
        """Everything in the header but its checks."""
        return _FIELDS.pack(_MAGIC, _VERSION, 0, self.key_id, self.tenant, self.position, self.at_ms)


def write_parts(path: Path, head: BackupHead, key: bytes, parts: Parts) -> int:
    """Write a backup to a new file; it is there, whole, read back and durable, or not there.

    Args:
        path: Must not exist; its folder must.
        head: What it shows.
        key: 32 bytes, never used before.
        parts: Consumed once, in order.

    Returns:
        Its size in bytes.

    Raises:
        StoreForeign: `path` exists.
        StoreFull, StoreUnusable: the system refuses.
        StoreDamaged: what was read back is not what was written.
    """
    if path.exists():
        raise StoreForeign(f"file={str(path)!r} must not exist; choose another name, or remove it")
    part = path.with_name(f".{path.name}.part")
    with explained(path, "writing a backup"):
        try:
            part.unlink(missing_ok=True)
            descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                _write(file, head, AESGCM(key), parts)
                file.flush()
                os.fsync(file.fileno())
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            for _ in read_parts(part, key):
                pass
            size = part.stat().st_size
            part.rename(path)
        except BaseException:
            with suppress(OSError):
                part.unlink()
            raise
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    return size


def _write(file: BinaryIO, head: BackupHead, cipher: AESGCM, parts: Parts) -> None:
    fields = head.fields()
    tag = cipher.encrypt(_nonce(0, _KEY_CHECK), b"", fields)
    file.write(fields + tag + struct.pack("<I", zlib.crc32(fields + tag)))
    for index, (kind, plain) in enumerate(_chunked(parts)):
        bound = _CHUNK.pack(len(plain), kind, index, 0)[:_BOUND_BYTES]
        body = cipher.encrypt(_nonce(index, kind), plain, fields + bound)
        file.write(bound + struct.pack("<I", zlib.crc32(body)) + body)


def _chunked(parts: Parts) -> Iterator[tuple[int, bytes | memoryview]]:
    """Kind and content of every chunk."""
    for name, pieces in parts:
        yield _NAME, name.encode()
        for piece in pieces:
            for start in range(0, len(piece), _CHUNK_BYTES):
                yield _DATA, piece[start : start + _CHUNK_BYTES]
    yield _END, b""


def read_head(path: Path) -> BackupHead:
    """What a backup shows without its key.

    Raises:
        StoreForeign: no backup.
        StoreVersion: written by a newer version.
        StoreDamaged: cut off or altered.
        StoreUnusable: the system refuses.
    """
    with explained(path, "reading a backup"), path.open("rb") as file:
        return _decoded(file.read(_HEAD_BYTES), path)


def _decoded(block: bytes, path: Path) -> BackupHead:
    if block[: len(_MAGIC)] != _MAGIC:
        raise StoreForeign(f"path={str(path)!r} must be a backup of a store; pass the file of one")
    if len(block) < _HEAD_BYTES:
        raise _damaged(path, len(block), "it must not end in its header")
    _, version, _, key_id, tenant, position, at_ms = _FIELDS.unpack_from(block)
    if version > _VERSION:
        raise StoreVersion(f"version={version} of {str(path)!r} must be <= {_VERSION}; upgrade dayfly")
    if _CHECKS.unpack_from(block, _FIELDS.size)[1] != zlib.crc32(block[:-4]):
        raise _damaged(path, 0, "checksum of the header must hold")
    return BackupHead(key_id, tenant, position, at_ms)


def read_parts(path: Path, key: bytes) -> Iterator[tuple[str, bytes]]:
    """Name of a part and a piece of it, piece by piece and in order; a part's first piece is empty.

    What was handed out is as it was written; that nothing is missing is known when the iteration ends without an error.

    Raises:
        StoreForeign: the key is another one.
        StoreDamaged: anything is missing, changed, or too much.
        StoreVersion, StoreUnusable: as `read_head`.
    """
    cipher = AESGCM(key)
    with explained(path, "reading a backup"), path.open("rb") as file:
        block = file.read(_HEAD_BYTES)
        head = _decoded(block, path)
        _check_key(block, cipher, head, path)
        name = ""
        for index, kind, plain in _opened(file, cipher, head.fields(), path):
            if kind == _NAME:
                name = plain.decode()
            elif kind == _DATA and not index:
                raise _damaged(path, _HEAD_BYTES, "a part must begin with its name")
            if kind != _END:
                yield name, plain if kind == _DATA else b""


def _check_key(block: bytes, cipher: AESGCM, head: BackupHead, path: Path) -> None:
    tag = _CHECKS.unpack_from(block, _FIELDS.size)[0]
    try:
        cipher.decrypt(_nonce(0, _KEY_CHECK), tag, block[: _FIELDS.size])
    except InvalidTag:
        raise StoreForeign(
            f"key_id={head.key_id} must be the key that {str(path)!r} was written under; pass the keys.slots of its store"
        ) from None


def _opened(file: BinaryIO, cipher: AESGCM, fields: bytes, path: Path) -> Iterator[tuple[int, int, bytes]]:
    """Index, kind and content of every chunk, up to and with the last."""
    index, kind = 0, _DATA
    while kind != _END:
        offset = file.tell()
        head = file.read(_CHUNK.size)
        if len(head) < _CHUNK.size:
            raise _damaged(path, offset, "it must not end here")
        size, kind, number, crc = _CHUNK.unpack(head)
        if number != index or kind not in {_DATA, _NAME, _END} or size > _CHUNK_BYTES:
            raise _damaged(path, offset, "head of a chunk must hold")
        body = file.read(size + _TAG_BYTES)
        if len(body) < size + _TAG_BYTES or zlib.crc32(body) != crc:
            raise _damaged(path, offset, "checksum of a chunk must hold")
        try:
            plain = cipher.decrypt(_nonce(index, kind), body, fields + head[:_BOUND_BYTES])
        except InvalidTag:
            raise _damaged(path, offset, "tag of a chunk must hold") from None
        yield index, kind, plain
        index += 1
    if file.read(1):
        raise _damaged(path, file.tell() - 1, "it must end here")


def _nonce(index: int, kind: int) -> bytes:
    return struct.pack(">7xIB", index, kind)


def _damaged(path: Path, offset: int, reason: str) -> StoreDamaged:
    return StoreDamaged(
        f"path={str(path)!r} must be as it was written, but at offset {offset}: {reason}; use another backup",
        path=str(path),
        offset=offset,
    )
