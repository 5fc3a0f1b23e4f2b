"""Shares of 256-bit seeds, many at once."""

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from dayfly.federation.errors import InvalidSetting
from dayfly.federation.secagg.kernels import PRIME, combine, evaluate

__all__ = ["SEED_BYTES", "WORDS", "from_words", "open_shares", "share", "to_words"]

SEED_BYTES: Final = 32
WORDS: Final = 5
"""Field elements of a seed: four of 52 bits and one of 48."""

_BITS: Final = 52
_MASK: Final = (1 << _BITS) - 1
_FIELD_BITS: Final = np.uint64(3)


def to_words(seeds: Sequence[bytes]) -> NDArray[np.uint64]:
    """Field elements of 32-byte seeds: uint64 (len(seeds) * 5,)."""
    raw = np.frombuffer(b"".join(seeds), np.uint8).reshape(len(seeds), SEED_BYTES)
    words = np.zeros((len(seeds), WORDS), np.uint64)
    quads = raw.copy().view("<u8")
    mask = np.uint64(_MASK)
    for number in range(WORDS):
        first, offset = divmod(number * _BITS, 64)
        value = quads[:, first] >> np.uint64(offset)
        if offset and first + 1 < quads.shape[1]:
            value = value | (quads[:, first + 1] << np.uint64(64 - offset))
        words[:, number] = value & mask
    return words.reshape(-1)


def from_words(words: NDArray[np.uint64]) -> list[bytes]:
    """The seeds again; what `to_words` made."""
    seeds = []
    for row in words.reshape(-1, WORDS).tolist():
        value = sum(word << (number * _BITS) for number, word in enumerate(row))
        seeds.append((value % (1 << (8 * SEED_BYTES))).to_bytes(SEED_BYTES, "little"))
    return seeds


def share(secrets: NDArray[np.uint64], threshold: int, parties: int, randomness: bytes) -> NDArray[np.uint64]:
    """Shares of every word for the points 1 to `parties`.

    Args:
        secrets: uint64 field elements, shape (words,).
        threshold: How many shares give a secret back.
        parties: How many shares to make.
        randomness: Uniform bytes, 8 * words * (threshold - 1), used for nothing else.

    Returns:
        uint64, shape (parties, words).
    """
    if len(randomness) != 8 * secrets.size * (threshold - 1):
        raise InvalidSetting(
            f"randomness={len(randomness)} bytes must be {8 * secrets.size * (threshold - 1)}; draw one word per coefficient"
        )
    coefficients = np.empty((threshold, secrets.size), np.uint64)
    coefficients[0] = secrets
    # 61 uniform bits are the one value that is no field element with probability 2^-61; it becomes zero.
    drawn = np.frombuffer(randomness, "<u8").reshape(threshold - 1, secrets.size) >> _FIELD_BITS
    coefficients[1:] = drawn % np.uint64(PRIME)
    shares = np.empty((parties, secrets.size), np.uint64)
    evaluate(coefficients, shares)
    return shares


def open_shares(points: Sequence[int], shares: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The secrets, from as many shares as the threshold.

    Args:
        points: Where each row was evaluated: distinct, from 1.
        shares: uint64 field elements, shape (len(points), words).

    Raises:
        InvalidSetting: points are not distinct and positive, or a share is no field element.
    """
    if len(set(points)) != len(points) or min(points, default=0) < 1:
        raise InvalidSetting(f"points={list(points)} must be distinct and positive; use each share once")
    if shares.size and int(shares.max()) >= PRIME:
        raise InvalidSetting(
            f"share={int(shares.max())} must be below 2^61 - 1; refuse the message it came in"
        )
    secrets = np.empty(shares.shape[1], np.uint64)
    combine(np.ascontiguousarray(shares), _weights(points), secrets)
    return secrets


def _weights(points: Sequence[int]) -> NDArray[np.uint64]:
    """Lagrange's coefficients at zero."""
    weights = []
    for point in points:
        above, below = 1, 1
        for other in points:
            if other != point:
                above = above * other % PRIME
                below = below * (other - point) % PRIME
        weights.append(above * pow(below, -1, PRIME) % PRIME)
    return np.array(weights, np.uint64)
