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
    "NAME_LENGTH",
    "NAME_WORDS",
    "NODE",
    "find",
    "hash_name",
    "name_word",
]

Bytes: TypeAlias = npt.NDArray[np.uint8]
Ints: TypeAlias = npt.NDArray[np.int64]

# Columns of an edge: node, length of the name, what it means there, node below it or -1, and the name itself as eight
# words of little-endian bytes. Longer names are not served.
NODE, NAME_LENGTH, MEANS, CHILD, FIRST_WORD = 0, 1, 2, 3, 4
NAME_WORDS = 8
EDGE_WORDS = FIRST_WORD + NAME_WORDS
MAX_NAME_BYTES = 8 * NAME_WORDS

K0, K1, K2 = u64(0x9E3779B97F4A7C15), u64(0xC2B2AE3D27D4EB4F), u64(0x165667B19E3779F9)
C32 = u64(32)
MASK63 = 0x7FFFFFFFFFFFFFFF


@inlined_kernel
def name_word(data: Bytes, at: int, length: int) -> Any:
    """Up to eight bytes of a name, of which `length` are left, zeros beyond its end; as int64.

    The mask is shifted in two halves, so that it needs no branch: shifting a word by all of its 64 bits is undefined.
    """
    half = u64(4 * (8 - min(length, 8)))
    return i64(load64(data, at) & ((MASK64 >> half) >> half))


@inlined_kernel
def hash_name(data: Bytes, at: int, length: int, node: int) -> Any:
    """Where to look for a name under a node; mixes its first and last eight bytes, its length and the node."""
    mixed = (u64(name_word(data, at, length) & MASK63) * K0) & MASK64
    mixed ^= (u64(length * 64 + node) * K1) & MASK64
    if length > 8:
        mixed ^= (load64(data, at + length - 8) * K2) & MASK64
    mixed = (mixed * K0) & MASK64
    return i64(mixed >> C32)


@inlined_kernel
def find(data: Bytes, at: int, length: int, node: int, edges: Ints, buckets: Ints) -> Any:
    """Edge of the name `data[at:at + length]` under `node`, -1 when it has no meaning there.

    Args:
        data: Bytes, with at least eight after the name.
        at: First byte of the name.
        length: Its length.
        node: Where it stands.
        edges: int64[E, 12], columns as named above.
        buckets: int64[B], hash to edge, -1 for none; B is a power of two.
    """
    if length > MAX_NAME_BYTES:
        return -1
    mask = len(buckets) - 1
    bucket = hash_name(data, at, length, node) & mask
    while True:
        edge = buckets[bucket]
        if edge < 0:
            return -1
        if edges[edge, NODE] == node and edges[edge, NAME_LENGTH] == length:
            i = 0
            while i < length and edges[edge, FIRST_WORD + (i >> 3)] == name_word(data, at + i, length - i):
                i += 8
            if i >= length:
                return edge
        bucket = (bucket + 1) & mask
