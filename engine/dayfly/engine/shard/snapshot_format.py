"""The bytes of a snapshot: a head that names everything, then buffers, then a checksum.

::

    magic      16 bytes
    length     8 bytes, little-endian: of the head
    head       msgpack of `Head`, padded with zeros to a multiple of 8 bytes
    buffers    in the order of `Head.columns` and then of `Head.parts`, each padded likewise
    checksum   32 bytes: BLAKE2b over the CRC-32 of each MiB before it

The checksum finds damage; that nobody made the bytes up is for whoever stores them to see to (`engine.store` seals them).
"""

import hashlib
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Final, TypeAlias

import msgspec
import numpy as np
import numpy.typing as npt

from dayfly.engine.errors import SnapshotError
from dayfly.engine.shard.snapshot_columns import Column, narrowed, widened

__all__ = ["Buffer", "Head", "Page", "Sheet", "framed", "unframed"]

MAGIC: Final = b"dayfly-shard-2\n\0"
_LENGTH_BYTES: Final = 8
_DIGEST_BYTES: Final = 32
_ALIGNED: Final = 8
_LEAF: Final = 1 << 20

Words = npt.NDArray[np.int64]
Buffer: TypeAlias = bytes | memoryview
Size: TypeAlias = Annotated[int, msgspec.Meta(ge=0)]


class Head(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a snapshot is of, and where its parts are.

    Attributes:
        policy_version, policy_digest, tag_names: The policy in force.
        clock_ms, sequence: The instant, and the number of the newest decision.
        names: Lists of names that columns refer to, by name.
        columns: Columns by name.
        parts: Bytes of everything else, by name.
    """

    policy_version: int
    policy_digest: bytes
    tag_names: tuple[str, ...]
    clock_ms: int
    sequence: int
    names: dict[str, list[str]]
    columns: dict[str, Column]
    parts: dict[str, Size]


@dataclass(slots=True)
class Sheet:
    """Columns and parts on their way into a snapshot, and the bytes of each, in pieces."""

    columns: dict[str, Column] = field(default_factory=dict)
    parts: dict[str, Size] = field(default_factory=dict)
    names: dict[str, list[str]] = field(default_factory=dict)
    column_pieces: list[list[Buffer]] = field(default_factory=list)
    part_pieces: list[list[Buffer]] = field(default_factory=list)

    @property
    def buffers(self) -> list[list[Buffer]]:
        """The bytes of each column and of each part, in pieces."""
        return self.column_pieces + self.part_pieces

    def extend(self, other: "Sheet") -> None:
        """Put another sheet behind this one."""
        self.columns |= other.columns
        self.parts |= other.parts
        self.names |= other.names
        self.column_pieces += other.column_pieces
        self.part_pieces += other.part_pieces

    def column(self, name: str, values: Words, *, hole: int | None = None) -> None:
        """Write a column; `hole` is a value that may be far from all others."""
        self.columns[name], narrow = narrowed(values, hole=hole)
        self.column_pieces.append([_bytes_of(narrow)])

    def array(self, name: str, array: npt.NDArray[np.generic]) -> None:
        """Write an array as it is, little-endian."""
        self.pieces(name, [_bytes_of(array.astype(array.dtype.newbyteorder("<"), copy=False))])

    def pieces(self, name: str, pieces: Iterable[Buffer]) -> None:
        """Write bytes."""
        kept = list(pieces)
        self.parts[name] = sum(map(len, kept))
        self.part_pieces.append(kept)


@dataclass(frozen=True, slots=True)
class Page:
    """A snapshot that was checked, as it is read."""

    head: Head
    _buffers: dict[str, memoryview]

    def rows(self, name: str) -> int:
        """Length of a column.

        Raises:
            SnapshotError: there is none of this name.
        """
        if name not in self.head.columns:
            raise _malformed(f"column {name!r} is missing")
        return self.head.columns[name].rows

    def column(self, name: str) -> Words:
        """int64[rows], a column. Raises as `rows`."""
        values = np.empty(self.rows(name), np.int64)
        widened(self.head.columns[name], self._buffers[name], values)
        return values

    def short_column(self, name: str) -> npt.NDArray[np.int32]:
        """int32[rows], a column of small values. Raises as `rows`."""
        values = np.empty(self.rows(name), np.int32)
        widened(self.head.columns[name], self._buffers[name], values)
        return values

    def joined_columns(self, names: Sequence[str]) -> tuple[Words, Words]:
        """Several columns one behind the other, and where each begins. Raises as `rows`."""
        sizes = np.array([self.rows(name) for name in names], np.int64)
        ends = np.cumsum(sizes)
        values = np.empty(int(sizes.sum()), np.int64)
        for name, end, size in zip(names, ends.tolist(), sizes.tolist(), strict=True):
            widened(self.head.columns[name], self._buffers[name], values[end - size : end])
        return values, ends - sizes

    def part(self, name: str) -> memoryview:
        """Bytes.

        Raises:
            SnapshotError: there are none of this name.
        """
        if name not in self.head.parts:
            raise _malformed(f"part {name!r} is missing")
        return self._buffers[name]

    def array(self, name: str, kind: type[np.generic], width: int) -> npt.NDArray[np.generic]:
        """An array of rows of `width` cells; not to be written to. Raises as `part`."""
        found = np.frombuffer(self.part(name), np.dtype(kind).newbyteorder("<")).astype(kind, copy=False)
        flat = np.require(found, requirements="A")
        return flat if width == 1 else flat.reshape(-1, width)


def framed(head: Head, sheet: Sheet) -> list[Buffer]:
    """A snapshot in pieces."""
    encoded = msgspec.msgpack.encode(head)
    length = len(encoded).to_bytes(_LENGTH_BYTES, "little")
    pieces: list[Buffer] = [MAGIC, length, encoded, _padding(len(encoded))]
    for buffers in sheet.buffers:
        pieces += [*buffers, _padding(sum(map(len, buffers)))]
    pieces.append(_checksum(pieces))
    return [
        memoryview(piece)[start : start + _LEAF] for piece in pieces for start in range(0, len(piece), _LEAF)
    ]  # small enough to be written one by one


def unframed(data: bytes) -> Page:
    """What `framed` wrote.

    Raises:
        SnapshotError: foreign or damaged bytes, or another format version.
    """
    if not data.startswith(MAGIC):
        raise SnapshotError(
            f"data={data[:16]!r} must begin with {MAGIC!r}; it is no snapshot of this format version"
        )
    view = memoryview(data)
    if _checksum([view[:-_DIGEST_BYTES]]) != data[-_DIGEST_BYTES:]:
        raise SnapshotError(
            f"snapshot of {len(data)} bytes must match its checksum; it is damaged, use an older one"
        )
    start = len(MAGIC) + _LENGTH_BYTES
    length = int.from_bytes(data[len(MAGIC) : start], "little")
    try:
        head = msgspec.msgpack.decode(view[start : start + length], type=Head)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise _malformed(str(error)) from error
    at = start + length + len(_padding(length))
    buffers: dict[str, memoryview] = {}
    for name, size in [(name, column.size) for name, column in head.columns.items()] + list(
        head.parts.items()
    ):
        buffers[name] = view[at : at + size]
        at += size + len(_padding(size))
    if at != len(data) - _DIGEST_BYTES:
        raise _malformed(f"buffers of {at} bytes end elsewhere")
    return Page(head, buffers)


def _malformed(why: str) -> SnapshotError:
    return SnapshotError(f"snapshot must follow the format: {why}; use an older one")


def _bytes_of(array: npt.NDArray[np.generic]) -> memoryview:
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8).data


def _padding(size: int) -> bytes:
    return bytes(-size % _ALIGNED)


def _checksum(pieces: Iterable[Buffer]) -> bytes:
    digest = hashlib.blake2b(digest_size=_DIGEST_BYTES)
    for leaf in _leaves(pieces):
        crc = 0
        for part in leaf:
            crc = zlib.crc32(part, crc)
        digest.update(crc.to_bytes(4, "little"))
    return digest.digest()


def _leaves(pieces: Iterable[Buffer]) -> Iterator[list[memoryview]]:
    """The bytes of all pieces, a MiB at a time; the last leaf is smaller, or empty."""
    leaf: list[memoryview] = []
    room = _LEAF
    for piece in pieces:
        view = memoryview(piece)
        while len(view) >= room:
            yield [*leaf, view[:room]]
            view, leaf, room = view[room:], [], _LEAF
        leaf.append(view)
        room -= len(view)
    yield leaf
