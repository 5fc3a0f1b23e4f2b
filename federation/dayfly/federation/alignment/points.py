"""From identifiers to points, and what a set of points must look like.

Claim: without the key nobody can tell a customer's point from a random one, but for one bit; and nobody, with the key or without, knows
how a customer's point is a multiple of another point.
Precondition: BLAKE2b (RFC 7693) behaves as a random function.
Argument: 32 bytes of keyed BLAKE2b are taken as a u-coordinate. Every u is that of a point either of Curve25519 or of its quadratic twist; both
have a subgroup of large prime order with cofactor 8 and 4, and scalars are multiples of 8, so that products lie in these subgroups and
tell nothing about the scalar modulo small numbers (Bernstein 2006, section 3; RFC 7748, section 7). Which of the two curves a point is on
stays the same under multiplication: this one bit of a customer is fresh for each run, because the key is, and `padding` hides how many
customers there are with either value. A hash times the base point would have no such bit, but whoever knows one customer's
product could work out everybody's.
Refused: points of small order (their product is zero, X25519 raises), coordinates not below 2^255 - 19, and points that come twice.
"""

import hashlib
from collections.abc import Iterable
from typing import Final

import numpy as np
from numpy.typing import NDArray

from dayfly.federation.alignment.multiplication import POINT_BYTES

__all__ = ["are_canonical", "are_distinct", "group_equal", "hashed", "on_curve", "padding_points"]

_PRIME: Final = 2**255 - 19
_A: Final = 486_662
_CUSTOMER: Final = b"dayfly customer"
_PADDING: Final = b"dayfly padding"
_TOP: Final = np.uint64(2**63 - 1)
_FULL: Final = np.uint64(2**64 - 1)
_LOW: Final = np.uint64(2**64 - 19)


def hashed(key: bytes, kind: str, identifiers: Iterable[bytes]) -> bytes:
    """Packed points of normalised identifiers, in order.

    Args:
        key: 32 bytes that all channels of the run know, and the coordinator does not.
        kind: Of identifier; the same text of another kind is another point.
        identifiers: UTF-8.
    """
    state = hashlib.blake2b(key=key, digest_size=POINT_BYTES, person=_CUSTOMER)
    state.update(len(kind).to_bytes(1) + kind.encode())
    fresh = state.copy

    def point(identifier: bytes) -> bytes:
        one = fresh()
        one.update(identifier)
        return one.digest()

    return _masked(b"".join([point(identifier) for identifier in identifiers]))


def padding_points(key: bytes, seed: bytes, counts: tuple[int, int]) -> bytes:
    """Points of nobody: as many on the curve and on the twist as asked for, in this order.

    They are hashed like customers, in a domain of their own: a point whose discrete logarithm to the base point somebody knows could be
    found again among products.
    """
    found: tuple[list[bytes], list[bytes]] = ([], [])
    number = 0
    while len(found[0]) < counts[0] or len(found[1]) < counts[1]:
        digest = hashlib.blake2b(
            seed + number.to_bytes(8), key=key, digest_size=POINT_BYTES, person=_PADDING
        ).digest()
        point = _masked(digest)
        side = 0 if on_curve(point) else 1
        if len(found[side]) < counts[side]:
            found[side].append(point)
        number += 1
    return b"".join(found[0] + found[1])


def on_curve(point: bytes) -> bool:
    """Whether a u-coordinate is that of a point of the curve, not of its twist: u^3 + A u^2 + u is a square (Euler's criterion)."""
    u = int.from_bytes(point, "little") % _PRIME
    return pow(u * (u * (u + _A) + 1), (_PRIME - 1) // 2, _PRIME) != _PRIME - 1


def are_canonical(points: bytes) -> bool:
    """Whether all coordinates are below 2^255 - 19: the one form that X25519 writes."""
    words = _words(points)
    top = words[:, 3]
    largest = (top == _TOP) & (words[:, 2] == _FULL) & (words[:, 1] == _FULL) & (words[:, 0] >= _LOW)
    return not bool(((top > _TOP) | largest).any())


def are_distinct(points: bytes) -> bool:
    """Whether no point comes twice."""
    groups, count = group_equal(points)
    return count == groups.size


def group_equal(points: bytes) -> tuple[NDArray[np.int64], int]:
    """A number for each point, equal for equal points, from 0 in an order that says nothing; and how many there are."""
    words = _words(points)
    if not len(words):
        return np.zeros(0, np.int64), 0
    order = np.argsort(words[:, 0], kind="stable")
    ordered = words[order]
    same_start = ordered[1:, 0] == ordered[:-1, 0]
    same = (ordered[1:] == ordered[:-1]).all(axis=1)
    if not np.array_equal(same_start, same):  # different points with one first word: only made on purpose
        order = np.lexsort(words.T)
        ordered = words[order]
        same = (ordered[1:] == ordered[:-1]).all(axis=1)
    groups = np.empty(len(words), np.int64)
    groups[order] = np.concatenate(([0], np.cumsum(~same)))
    return groups, int(groups.max()) + 1


def _words(points: bytes) -> NDArray[np.uint64]:
    return np.frombuffer(points, "<u8").reshape(-1, 4)


def _masked(points: bytes) -> bytes:
    """Coordinates below 2^255: X25519 would ignore the highest bit."""
    words = _words(points).copy()
    words[:, 3] &= _TOP
    return words.tobytes()
