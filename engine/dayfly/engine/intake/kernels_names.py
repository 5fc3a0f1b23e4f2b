"""Names under nodes: what a member of an object means, by one probe of a hash table.

A name stands under a node: the members of the outermost object, the six calls, the event names, the members of `context`,
and per event type the members of its properties and of every object on the way to a declared field.

Oracle: dict (find)
"""

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from dayfly.engine.intake.kernels_memory import MASK64, i64, load64, u64
from dayfly.privacy._jit import inlined_kernel

__all__ = [
    "CHILD",
    "EDGE_WORDS",
    "FIRST_WORD",
    "MAX_NAME_BYTES",
    "MEANS",
    "NAME_WORDS",
    "find",
    "hash_name",
    "name_word",
]

Bytes: TypeAlias = npt.NDArray[np.uint8]
Ints: TypeAlias = npt.NDArray[np.int64]

# Columns of an edge: the node and the length of the name (-1 for a free row), what it means there, node below it or -1, and the
# name itself as eight words of little-endian bytes. Longer names are not served.
STANDS, MEANS, CHILD, FIRST_WORD = 0, 1, 2, 3
NAME_WORDS = 8
EDGE_WORDS = FIRST_WORD + NAME_WORDS
MAX_NAME_BYTES = 8 * NAME_WORDS
LENGTH_BITS = 7

K0, K1, K2 = u64(0x9E3779B97F4A7C15), u64(0xC2B2AE3D27D4EB4F), u64(0x165667B19E3779F9)
C32 = u64(32)


@inlined_kernel
def name_word(data: Bytes, at: int, length: int) -> Any:
    """Up to eight bytes of a name, of which `length` are left, zeros beyond its end; as int64.

    The mask is shifted in two halves, so that it needs no branch: shifting a word by all of its 64 bits is undefined.
    """
    half = u64(4 * (8 - min(max(length, 0), 8)))
    return i64(load64(data, at) & ((MASK64 >> half) >> half))


@inlined_kernel
def stands_of(node: int, length: int) -> int:
    """A node and the length of a name as one number."""
    return node << LENGTH_BITS | length


@inlined_kernel
def hash_name(stands: int, first: int, second: int) -> Any:
    """Where to look for a name: mixes its node and length and its first sixteen bytes."""
    mixed = (u64(first) * K0) & MASK64
    mixed ^= (u64(second) * K2) & MASK64
    mixed ^= (u64(stands) * K1) & MASK64
    return i64(((mixed * K0) & MASK64) >> C32)


@inlined_kernel
def find(data: Bytes, at: int, length: int, node: int, edges: Ints) -> Any:
    """Edge of the name `data[at:at + length]` under `node`, -1 when it has no meaning there.

    Nearly every name has at most sixteen bytes and is where its hash says: then one comparison of three words settles it.

    Args:
        data: Bytes, with at least 16 after the start of the name.
        at: First byte of the name.
        length: Its length.
        node: Where it stands.
        edges: int64[B, 11], open addressing, columns as named above; B is a power of two.
    """
    if length > MAX_NAME_BYTES:
        return -1
    stands = stands_of(node, length)
    first, second = name_word(data, at, length), name_word(data, at + 8, length - 8)
    mask = len(edges) - 1
    edge = hash_name(stands, first, second) & mask
    while edges[edge, STANDS] >= 0:
        differs = (
            edges[edge, STANDS] ^ stands
            | edges[edge, FIRST_WORD] ^ first
            | edges[edge, FIRST_WORD + 1] ^ second
        )
        if differs == 0:
            i = 16
            while i < length and edges[edge, FIRST_WORD + (i >> 3)] == name_word(data, at + i, length - i):
                i += 8
            if i >= length:
                return edge
        edge = (edge + 1) & mask
    return -1
