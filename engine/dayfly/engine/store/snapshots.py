"""Snapshots: named parts of any size at a position of the log, each snapshot under its own data key.

::

    header     4096 bytes: magic, version, chunk size, key id, tenant, position, key check, checksum
    chunk      head (16 bytes: length, last, CRC-32, index) | ciphertext | tag (16 bytes)
    ...        the parts, one after the other, each in chunks of its own
    last       the directory: name, number of chunks and size of each part

Chunks are AES-256-GCM in the STREAM construction (Hoang, Reyhanitabar, Rogaway, Vizár 2015): the nonce is a counter and a mark
for the last, so chunks cannot be dropped, repeated, moved or cut off. A key encrypts one snapshot, once, so counters cannot
repeat. The associated data bind each chunk to tenant and position; the key binds it to the file.

A snapshot is written under another name, synced, and renamed: under its own name it is whole.
"""

import struct
import threading
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from dayfly.engine.errors import StoreDamaged, StoreError, StoreForeign, StoreVersion
from dayfly.privacy.errors import InvalidArgument
from dayfly.privacy.keys import DataKeys

from .files import CREATE, LOCAL_DISK, READ, Buffer, Disk, explained, opened, write_all
from .reading import damaged, key_for
from .settings import check_tenant

__all__ = ["Snapshots"]

SUFFIX: Final = ".snap"
PART: Final = ".part"
_PURPOSE: Final = "snapshot"
_VERSION: Final = 1
_MAGIC: Final = b"DAYFLYSN"
_HEADER_BYTES: Final = 4096
_HEADER: Final = struct.Struct("<8sHHIQQ16s")  # magic, version, -, chunk size, key id, position, tenant
_CHECKS: Final = struct.Struct("<16sI")  # GCM tag over the fields, CRC-32 of all before it
_CHUNK: Final = struct.Struct("<IIII")  # plain bytes, last, index, CRC-32 of ciphertext and tag
_BOUND_BYTES: Final = 12  # of a chunk's head: what is known before it is encrypted
_TAG_BYTES: Final = 16
_DATA, _LAST, _KEY_CHECK = 0, 1, 2
_SYNC_BYTES: Final = 8 << 20

Content = Buffer | Iterable[Buffer]


class _Part(msgspec.Struct, frozen=True, array_like=True):
    """Line of the directory."""

    name: str
    chunks: int
    size: int


_encode_directory = msgspec.msgpack.Encoder().encode
_decode_directory = msgspec.msgpack.Decoder(list[_Part]).decode


@dataclass(frozen=True, slots=True)
class _Header:
    chunk_bytes: int
    key_id: int
    position: int
    tenant: bytes


class Snapshots:
    """The snapshots in a folder. Thread-safe; `write` may run beside everything else.

    Args:
        folder: Their own folder, made if absent.
        keys: Gives each its data key (purpose ``snapshot``).
        tenant: 16 bytes.
        report: Told of snapshots that `newest` passed over because they are damaged.
        chunk_bytes: 64 KiB to 16 MiB.
        disk: File operations.

    Raises:
        InvalidArgument: `tenant` is not 16 bytes long, or `chunk_bytes` out of range.

    Guarantees:
        What `newest` hands back is, byte for byte, what one `write` was given, or it raises. A crash in `write` leaves the
        snapshots before it as they were. When `drop_before` has returned, no key of what it dropped exists.
    """

    def __init__(
        self,
        folder: Path,
        keys: DataKeys,
        *,
        tenant: bytes,
        report: Callable[[StoreError], object] = lambda _: None,
        chunk_bytes: int = 1 << 20,
        disk: Disk = LOCAL_DISK,
    ) -> None:
        if not 1 << 16 <= chunk_bytes <= 1 << 24:
            raise InvalidArgument(
                f"chunk_bytes={chunk_bytes} must be 64 KiB to 16 MiB; take the default of 1 MiB"
            )
        self._folder = folder
        self._keys = keys
        self._tenant = check_tenant(tenant)
        self._report = report
        self._chunk_bytes = chunk_bytes
        self._disk = disk
        self._lock = threading.Lock()

    def positions(self) -> tuple[int, ...]:
        """Positions of the snapshots in the folder, rising, readable or not.

        Raises:
            StoreForeign: a file is not named as a snapshot.
            StoreUnusable: the system refuses.
        """
        with explained(self._folder, "reading snapshots"):
            return tuple(self._paths())

    def write(self, position: int, parts: Mapping[str, Content], *, verify: bool = False) -> None:
        """Write a snapshot; it is durable, and takes the place of one at the same position, when this returns.

        Args:
            position: Of the newest frame that it holds the effect of; it must be durable in the log.
            parts: Name to content. Iterables are consumed once, in order, and written as they come.
            verify: Read it back from the disk and compare its checks before it counts.

        Raises:
            StoreFull: no room; nothing is left of it.
            StoreUnusable: the system refuses; likewise.
            StoreDamaged: what was read back is not what was written; likewise.
        """
        with self._lock, explained(self._folder, "writing a snapshot"):
            disk = self._disk
            disk.make_folder(self._folder)
            self._remove_unfinished()
            path = self._folder / f"{position:08d}{SUFFIX}"
            replaced = self._key_of(path)
            part = path.with_name(path.name + PART)
            key_id, key = self._keys.create(_PURPOSE)
            try:
                header = _Header(self._chunk_bytes, key_id, position, self._tenant)
                with opened(disk, part, CREATE) as descriptor:
                    _Writer(disk, descriptor, header, AESGCM(key)).write(parts)
                    disk.forget_cached(descriptor)
                if verify:
                    self._verify(part, header, key)
                disk.rename(part, path)
            except BaseException:
                self._keys.destroy((key_id,))
                with suppress(OSError):
                    disk.unlink(part)
                raise
            disk.sync_folder(self._folder)
            if replaced is not None:
                self._keys.destroy((replaced,))

    def newest(self, *, log_oldest: int | None = None) -> tuple[int, Mapping[str, bytes]] | None:
        """Position and parts of the newest snapshot that can be read; None when there is none.

        Damaged ones are reported and passed over, as long as the log reaches back to an older one. Those whose key is
        destroyed do not count.

        Args:
            log_oldest: What `oldest_position` says of the log; None when there is no log.

        Raises:
            StoreDamaged: there are snapshots, and none that can be read and that the log goes on from.
            StoreForeign: another tenant's, or keys that do not fit.
            StoreVersion: written by a newer version.
            StoreUnusable: the system refuses.
        """
        passed: StoreDamaged | None = None
        with explained(self._folder, "reading snapshots"):
            live = set(self._keys.live(_PURPOSE))
            for position, path in reversed(self._paths().items()):
                if log_oldest is not None and position + 1 < log_oldest:
                    break
                try:
                    header = self._header(path, position)
                    if header.key_id in live:
                        return position, self._read(path, header, key_for(self._keys, header.key_id, path))
                except StoreDamaged as error:
                    passed = error
                    self._report(error)
        if passed is not None:
            raise passed
        return None

    def drop_before(self, position: int) -> None:
        """Forget snapshots below `position`, and every snapshot key that no snapshot from there on was written under.

        Raises:
            StoreError: a snapshot to be kept cannot be told apart, or the system refuses; calling again goes on.
        """
        with self._lock, explained(self._folder, "removing snapshots"):
            paths = self._paths()
            kept = {self._header(path, at).key_id for at, path in paths.items() if at >= position}
            self._keys.destroy([key_id for key_id in self._keys.live(_PURPOSE) if key_id not in kept])
            for at, path in paths.items():
                if at < position:
                    self._disk.unlink(path)
            if paths:
                self._remove_unfinished()
                self._disk.sync_folder(self._folder)

    def _paths(self) -> dict[int, Path]:
        """Position to file, rising."""
        try:
            names = self._disk.names(self._folder)
        except FileNotFoundError:
            return {}
        found: dict[int, Path] = {}
        for name in names:
            stem, dot, _ = name.partition(SUFFIX)
            if not dot or name.endswith(PART):
                continue
            path = self._folder / name
            if name != stem + SUFFIX or not stem.isdecimal() or name != f"{int(stem):08d}{SUFFIX}":
                raise StoreForeign(
                    f"path={str(path)!r} must be named by its position, as 00000001{SUFFIX}; remove what does not belong here"
                )
            found[int(stem)] = path
        return dict(sorted(found.items()))

    def _remove_unfinished(self) -> None:
        for name in self._disk.names(self._folder):
            if name.endswith(SUFFIX + PART):
                self._disk.unlink(self._folder / name)

    def _key_of(self, path: Path) -> int | None:
        """Key of the snapshot at `path`, if there is one that can be read."""
        try:
            return self._header(path, int(path.stem)).key_id
        except (FileNotFoundError, StoreDamaged):
            return None

    def _header(self, path: Path, position: int) -> _Header:
        with opened(self._disk, path, READ) as descriptor:
            header = _decode_header(self._disk.read(descriptor, _HEADER_BYTES, 0), path)
        if header.tenant != self._tenant:
            raise StoreForeign(
                f"tenant={header.tenant.hex()} of {str(path)!r} must be {self._tenant.hex()}; "
                "put each tenant's snapshots back into its own folder"
            )
        if header.position != position:
            raise damaged(path, 0, f"position={header.position} must be what its name says")
        return header

    def _read(self, path: Path, header: _Header, key: bytes) -> dict[str, bytes]:
        with opened(self._disk, path, READ) as descriptor:
            chunks = list(_chunks(self._disk, descriptor, path, header, AESGCM(key)))
        parts: dict[str, bytes] = {}
        start = 0
        for part in _directory(chunks, path):
            parts[part.name] = b"".join(chunks[start : start + part.chunks])
            start += part.chunks
        return parts

    def _verify(self, path: Path, header: _Header, key: bytes) -> None:
        with opened(self._disk, path, READ) as descriptor:
            for _ in _chunks(self._disk, descriptor, path, header, AESGCM(key)):
                pass


class _Writer:
    """Writes one snapshot file."""

    def __init__(self, disk: Disk, descriptor: int, header: _Header, cipher: AESGCM) -> None:
        self._disk = disk
        self._descriptor = descriptor
        self._header = header
        self._cipher = cipher
        self._index = 0
        self._offset = _HEADER_BYTES
        self._unsynced = 0
        self._buffer = memoryview(bytearray(_CHUNK.size + header.chunk_bytes + _TAG_BYTES))

    def write(self, parts: Mapping[str, Content]) -> None:
        """Write all parts and sync."""
        write_all(self._disk, self._descriptor, _encode_header(self._header, self._cipher), 0)
        directory = []
        for name, content in parts.items():
            first, size = self._index, 0
            for piece in _pieces(content, self._header.chunk_bytes):
                self._chunk(piece, _DATA)
                size += len(piece)
            directory.append(_Part(name, self._index - first, size))
        listed = _encode_directory(directory)
        if len(listed) > self._header.chunk_bytes:
            raise InvalidArgument(
                f"parts={len(directory)} must have names that fit one chunk; use fewer or shorter ones"
            )
        self._chunk(listed, _LAST)
        self._disk.sync(self._descriptor)

    def _chunk(self, plain: Buffer, mark: int) -> None:
        size = _CHUNK.size + len(plain) + _TAG_BYTES
        record = self._buffer[:size]
        _CHUNK.pack_into(record, 0, len(plain), mark, self._index, 0)
        bound = _bound(self._header, bytes(record[:_BOUND_BYTES]))
        body = record[_CHUNK.size :]
        self._cipher.encrypt_into(_nonce(self._index, mark), plain, bound, body)
        _CHUNK.pack_into(record, 0, len(plain), mark, self._index, zlib.crc32(body))
        write_all(self._disk, self._descriptor, record, self._offset)
        self._index += 1
        self._offset += size
        self._unsynced += size
        if (
            self._unsynced >= _SYNC_BYTES
        ):  # in steps, so that a commit of the log never waits behind all of it
            self._disk.sync(self._descriptor)
            self._unsynced = 0


def _pieces(content: Content, size: int) -> Iterator[Buffer]:
    """Content in pieces of `size` bytes; only the last is smaller."""
    if isinstance(content, bytes | bytearray | memoryview):
        view = memoryview(content).cast("B")
        for start in range(0, len(view), size):
            yield view[start : start + size]
        return
    gathered = bytearray()
    for item in content:
        gathered += item
        start = 0
        while len(gathered) - start >= size:
            yield bytes(memoryview(gathered)[start : start + size])
            start += size
        if start:
            gathered = gathered[start:]
    if gathered:
        yield gathered


def _chunks(disk: Disk, descriptor: int, path: Path, header: _Header, cipher: AESGCM) -> Iterator[bytes]:
    """Plain chunks, the directory last.

    Raises:
        StoreForeign: the key does not fit.
        StoreDamaged: anything is missing, changed, or too much.
    """
    block = disk.read(descriptor, _HEADER_BYTES, 0)
    tag = _CHECKS.unpack_from(block, _HEADER.size)[0]
    try:
        cipher.decrypt(_nonce(0, _KEY_CHECK), tag, block[: _HEADER.size])
    except InvalidTag:
        raise StoreForeign(
            f"key_id={header.key_id} must be the key that {str(path)!r} was written under; "
            "open the store with its own keys.slots and key-encryption key"
        ) from None
    offset, index, mark = _HEADER_BYTES, 0, _DATA
    while mark != _LAST:
        head = disk.read(descriptor, _CHUNK.size, offset)
        if len(head) < _CHUNK.size:
            raise damaged(path, offset, "the snapshot must not end here")
        size, mark, number, crc = _CHUNK.unpack(head)
        if number != index or mark not in (_DATA, _LAST) or size > header.chunk_bytes:
            raise damaged(path, offset, "head of a chunk must hold")
        body = disk.read(descriptor, size + _TAG_BYTES, offset + _CHUNK.size)
        if len(body) < size + _TAG_BYTES or zlib.crc32(body) != crc:
            raise damaged(path, offset, "checksum of a chunk must hold")
        try:
            yield cipher.decrypt(_nonce(index, mark), body, _bound(header, head[:_BOUND_BYTES]))
        except InvalidTag:
            raise damaged(path, offset, "tag of a chunk must hold") from None
        offset += _CHUNK.size + len(body)
        index += 1
    if disk.size(descriptor) != offset:
        raise damaged(path, offset, "the snapshot must end here")


def _directory(chunks: list[bytes], path: Path) -> list[_Part]:
    try:
        parts = _decode_directory(chunks[-1])
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise damaged(path, 0, f"directory must be readable: {error}") from error
    if sum(part.chunks for part in parts) != len(chunks) - 1:
        raise damaged(path, 0, "directory must name every chunk")
    return parts


def _nonce(index: int, mark: int) -> bytes:
    return struct.pack(">7xIB", index, mark)


def _bound(header: _Header, head: bytes) -> bytes:
    """Associated data of a chunk."""
    return header.tenant + struct.pack("<Q", header.position) + head


def _encode_header(header: _Header, cipher: AESGCM) -> bytes:
    fields = _HEADER.pack(
        _MAGIC, _VERSION, 0, header.chunk_bytes, header.key_id, header.position, header.tenant
    )
    tag = cipher.encrypt(_nonce(0, _KEY_CHECK), b"", fields)
    return (fields + tag + struct.pack("<I", zlib.crc32(fields + tag))).ljust(_HEADER_BYTES, b"\0")


def _decode_header(block: bytes, path: Path) -> _Header:
    if len(block) < _HEADER_BYTES:
        raise damaged(path, len(block), f"size must be at least {_HEADER_BYTES}")
    magic, version, _, chunk_bytes, key_id, position, tenant = _HEADER.unpack_from(block)
    if magic != _MAGIC:
        raise StoreForeign(
            f"path={str(path)!r} must be a snapshot of this store; remove what does not belong here"
        )
    if version > _VERSION:
        raise StoreVersion(f"version={version} of {str(path)!r} must be <= {_VERSION}; upgrade dayfly")
    end = _HEADER.size + _TAG_BYTES
    if _CHECKS.unpack_from(block, _HEADER.size)[1] != zlib.crc32(block[:end]):
        raise damaged(path, 0, "checksum of the header must hold")
    if any(block[end + 4 :]):
        raise damaged(path, end + 4, "rest of the header must be zero")
    return _Header(chunk_bytes, key_id, position, tenant)
