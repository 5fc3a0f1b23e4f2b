r"""The Merkle tree of the log in a file that is only appended to, read in O(log n) small reads.

Format 1: 16 bytes ``DFTREE1\r\n`` and zeros, then one record per entry. The record of entry n is the end offset of its bytes in
the entries file (u64, little-endian), its leaf hash, and the hashes of the complete subtrees that it completes, lowest first: as
many as n + 1 has trailing zero bits. So record n begins at 16 + 40 n + 32 (n - popcount(n)), and the complete subtree of height h
that ends in entry n stands 8 + 32 h bytes behind the beginning of that record.
"""

import os
import struct
from typing import Final

from .files import write_at
from .merkle import HASH_BYTES, MerkleProofs, leaf_hash, node_hash

__all__ = ["TREE_HEAD", "TreeFile", "grow", "leaf_start", "record_start"]

TREE_HEAD: Final = b"DFTREE1\r\n".ljust(16, b"\0")
_END: Final = struct.Struct("<Q")
_LEAF_BYTES: Final = _END.size + HASH_BYTES


def record_start(index: int) -> int:
    """Offset of the record of entry `index`, which is the length of a file of `index` entries.

    >>> [record_start(index) for index in range(4)]
    [16, 56, 128, 168]
    """
    return len(TREE_HEAD) + _LEAF_BYTES * index + HASH_BYTES * (index - index.bit_count())


def leaf_start(index: int) -> int:
    """Offset of the leaf hash of entry `index`."""
    return record_start(index) + _END.size


def grow(waiting: dict[int, bytes], index: int, leaf: bytes) -> bytes:
    """The leaf and the complete subtrees that entry `index` completes, lowest first.

    Args:
        waiting: Hash of the complete subtree of each height that still lacks its right sibling; brought up to date.
        index: Number of entries before it.
        leaf: Its leaf hash.
    """
    hashes, height = [leaf], 0
    while index >> height & 1:
        hashes.append(node_hash(waiting.pop(height), hashes[-1]))
        height += 1
    waiting[height] = hashes[-1]
    return b"".join(hashes)


class TreeFile(MerkleProofs):
    """A tree over an open file. Appends stay in memory until `flush`; reads see both.

    Not thread-safe, and it owns no file handle: the log does.

    Args:
        file: Handle of a file that begins with `TREE_HEAD` and holds at least `size` whole records.
        size: Entries to start from; what the file holds beyond them is overwritten.
    """

    def __init__(self, file: int, size: int) -> None:
        self._file = file
        self._size = self._flushed = size
        self._unwritten = bytearray()
        self._base = record_start(size)
        # With the left siblings at hand, an append reads nothing.
        self._waiting = {
            height: self.complete(height, (size >> height) - 1)
            for height in range(size.bit_length())
            if size >> height & 1
        }

    def __len__(self) -> int:
        """Number of entries, flushed or not."""
        return self._size

    @property
    def flushed(self) -> int:
        """Number of entries in the file."""
        return self._flushed

    def append(self, entry: bytes, end: int) -> int:
        """Add an entry whose bytes end at offset `end` of the entries file; returns its index."""
        index = self._size
        self._unwritten += _END.pack(end) + grow(self._waiting, index, leaf_hash(entry))
        self._size += 1
        return index

    def hashes(self, index: int) -> bytes:
        """What `grow` gave for entry `index`."""
        start = leaf_start(index)
        return self._read(start, record_start(index + 1) - start)

    def complete(self, height: int, place: int) -> bytes:
        """Hash of a complete subtree."""
        start = record_start(((place + 1) << height) - 1)
        return self._read(start + _END.size + HASH_BYTES * height)

    def leaf(self, index: int) -> bytes:
        """Leaf hash of entry `index`."""
        return self.complete(0, index)

    def end(self, index: int) -> int:
        """Offset at which the bytes of entry `index` end; 0 for index -1."""
        if index < 0:
            return 0
        return int(_END.unpack(self._read(record_start(index), _END.size))[0])

    def flush(self, size: int) -> None:
        """Write the records of the first `size` entries; a repeated call overwrites what an interrupted one wrote."""
        if size <= self._flushed:
            return
        count = record_start(size) - self._base
        write_at(self._file, bytes(self._unwritten[:count]), self._base)
        del self._unwritten[:count]
        self._base += count
        self._flushed = size

    def sync(self) -> None:
        """Make what was flushed durable."""
        os.fdatasync(self._file)

    def _read(self, start: int, count: int = HASH_BYTES) -> bytes:
        if start >= self._base:
            return bytes(self._unwritten[start - self._base : start - self._base + count])
        return os.pread(self._file, count, start)
