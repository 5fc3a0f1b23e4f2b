"""Append-only Merkle tree with inclusion and consistency proofs (RFC 9162 section 2.1)."""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Final

from dayfly.privacy.errors import InvalidArgument, InvalidReceipt

__all__ = [
    "HASH_BYTES",
    "MerkleProofs",
    "MerkleTree",
    "leaf_hash",
    "node_hash",
    "root_from_inclusion",
    "verify_consistency",
]

HASH_BYTES: Final = 32


def leaf_hash(entry: bytes) -> bytes:
    """SHA-256(0x00 || entry)."""
    return hashlib.sha256(b"\x00" + entry).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """SHA-256(0x01 || left || right)."""
    return hashlib.sha256(b"\x01" + left + right).digest()


class MerkleProofs(ABC):
    """Roots and proofs of a tree that can tell the hash of each of its complete subtrees, wherever these are kept."""

    @abstractmethod
    def __len__(self) -> int:
        """Number of entries."""

    @abstractmethod
    def complete(self, height: int, place: int) -> bytes:
        """Hash of the complete subtree over entries [place * 2**height, (place + 1) * 2**height)."""

    def root(self, size: int | None = None) -> bytes:
        """Root of the first `size` entries (default: all); SHA-256 of nothing for none."""
        size = self._checked(size)
        return self._subtree(0, size) if size else hashlib.sha256(b"").digest()

    def inclusion_proof(self, index: int, size: int) -> tuple[bytes, ...]:
        """PATH(index, D[size]) of RFC 9162 section 2.1.3.1.

        Raises:
            InvalidArgument: `index` or `size` outside the tree.
        """
        if not 0 <= index < self._checked(size):
            raise InvalidArgument(
                f"index={index!r} must lie in [0, {size}); take a checkpoint that covers it"
            )
        return tuple(self._path(index, 0, size))

    def consistency_proof(self, old_size: int, size: int) -> tuple[bytes, ...]:
        """PROOF(old_size, D[size]) of RFC 9162 section 2.1.4.1; empty where there is nothing to prove.

        Raises:
            InvalidArgument: `old_size` above `size`, or `size` outside the tree.
        """
        if not 0 <= old_size <= self._checked(size):
            raise InvalidArgument(
                f"old_size={old_size!r} must lie in [0, {size}]; pass the older checkpoint first"
            )
        if old_size in (0, size):
            return ()
        return tuple(self._subproof(old_size, 0, size, complete=True))

    def _checked(self, size: int | None) -> int:
        if size is None:
            return len(self)
        if not 0 <= size <= len(self):
            raise InvalidArgument(
                f"size={size!r} must lie in [0, {len(self)}]; pass the size of a checkpoint"
            )
        return size

    def _subtree(self, start: int, size: int) -> bytes:
        """Hash of entries [start, start + size); `start` is a multiple of the next power of two."""
        if size & (size - 1) == 0:
            return self.complete(size.bit_length() - 1, start // size)
        split = _split(size)
        return node_hash(self._subtree(start, split), self._subtree(start + split, size - split))

    def _path(self, index: int, start: int, size: int) -> list[bytes]:
        if size == 1:
            return []
        split = _split(size)
        if index < split:
            return [*self._path(index, start, split), self._subtree(start + split, size - split)]
        return [*self._path(index - split, start + split, size - split), self._subtree(start, split)]

    def _subproof(self, old: int, start: int, size: int, *, complete: bool) -> list[bytes]:
        if old == size:
            return [] if complete else [self._subtree(start, size)]
        split = _split(size)
        if old <= split:
            return [
                *self._subproof(old, start, split, complete=complete),
                self._subtree(start + split, size - split),
            ]
        return [
            *self._subproof(old - split, start + split, size - split, complete=False),
            self._subtree(start, split),
        ]


class MerkleTree(MerkleProofs):
    """Keeps the hash of every complete subtree in memory: 64 bytes per entry, proofs in O(log n).

    Not thread-safe: the owner holds its lock.
    """

    def __init__(self) -> None:
        self._levels: list[bytearray] = [bytearray()]

    def __len__(self) -> int:
        """Number of entries."""
        return len(self._levels[0]) // HASH_BYTES

    def append(self, entry: bytes) -> int:
        """Add an entry and return its index. Inner nodes are hashed when a root or a proof asks for them."""
        self._levels[0] += leaf_hash(entry)
        return len(self) - 1

    def complete(self, height: int, place: int) -> bytes:
        """Hash of a complete subtree."""
        start = place * HASH_BYTES
        return bytes(self._level(height)[start : start + HASH_BYTES])

    def _level(self, height: int) -> bytearray:
        """Hashes of the complete subtrees of 2**height entries, brought up to date."""
        if height == 0:
            return self._levels[0]
        below = self._level(height - 1)
        if len(self._levels) == height:
            self._levels.append(bytearray())
        level = self._levels[height]
        for start in range(2 * len(level), len(below) - 2 * HASH_BYTES + 1, 2 * HASH_BYTES):
            middle = start + HASH_BYTES
            level += node_hash(bytes(below[start:middle]), bytes(below[middle : middle + HASH_BYTES]))
        return level


def _split(size: int) -> int:
    """Largest power of two below `size` (RFC 9162 section 2.1.1)."""
    return 1 << ((size - 1).bit_length() - 1)


def root_from_inclusion(entry: bytes, index: int, size: int, proof: Sequence[bytes]) -> bytes:
    """The root that `proof` leads to (RFC 9162 section 2.1.3.2).

    Raises:
        InvalidReceipt: The proof has the wrong length for this place in the tree.
    """
    if not 0 <= index < size:
        raise InvalidReceipt(f"index={index!r} must lie in [0, {size}); ask for the receipt again")
    node, last, hashed = index, size - 1, leaf_hash(entry)
    for sibling in proof:
        if last == 0 or len(sibling) != HASH_BYTES:
            raise InvalidReceipt(
                f"len(proof)={len(proof)} must fit index and size; ask for the receipt again"
            )
        if node & 1 or node == last:
            hashed = node_hash(sibling, hashed)
            while not node & 1 and node:
                node, last = node >> 1, last >> 1
        else:
            hashed = node_hash(hashed, sibling)
        node, last = node >> 1, last >> 1
    if last != 0:
        raise InvalidReceipt(f"len(proof)={len(proof)} must fit index and size; ask for the receipt again")
    return hashed


def verify_consistency(
    old_size: int, old_root: bytes, size: int, root: bytes, proof: Sequence[bytes]
) -> None:
    """Check that the tree of `size` only grew from the tree of `old_size` (RFC 9162 section 2.1.4.2).

    Raises:
        InvalidReceipt: Something was changed, removed or reordered, or the proof is malformed.
    """
    if not 0 <= old_size <= size:
        raise InvalidReceipt(
            f"old_size={old_size!r} must lie in [0, {size}]; pass the older checkpoint first"
        )
    if old_size in (0, size):
        if proof or (old_size == size and old_root != root):
            raise InvalidReceipt(
                "proof must be empty and the roots of equal trees equal; the log was rewritten"
            )
        return
    path = [old_root, *proof] if old_size & (old_size - 1) == 0 else list(proof)
    if _both_roots(path, old_size - 1, size - 1) != (old_root, root):
        raise InvalidReceipt("proof must lead to both roots; the log was rewritten")


def _both_roots(path: Sequence[bytes], node: int, last: int) -> tuple[bytes, bytes] | None:
    """Old and new root that a consistency proof leads to; None where its length does not fit."""
    if not path:
        return None
    while node & 1:
        node, last = node >> 1, last >> 1
    old = new = path[0]
    for sibling in path[1:]:
        if last == 0:
            return None
        if node & 1 or node == last:
            old, new = node_hash(sibling, old), node_hash(sibling, new)
            while not node & 1 and node:
                node, last = node >> 1, last >> 1
        else:
            new = node_hash(new, sibling)
        node, last = node >> 1, last >> 1
    return (old, new) if last == 0 else None
