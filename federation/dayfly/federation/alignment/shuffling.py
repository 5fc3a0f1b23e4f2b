"""Orders that only who knows 32 random bytes can tell."""

from typing import Final

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms
from numpy.typing import NDArray

__all__ = ["permutation"]

_WORD_BYTES: Final = 8


def permutation(seed: bytes, size: int) -> NDArray[np.int64]:
    """A permutation of 0 .. size - 1, uniform for a uniform seed.

    Random words of ChaCha20 (RFC 8439) are sorted; the order of distinct words is uniform, and where two are equal new ones are drawn.

    Args:
        seed: 32 random bytes, used for this only.
        size: 0 or more.
    """
    encryptor = Cipher(algorithms.ChaCha20(seed, bytes(16)), mode=None).encryptor()
    while True:
        words = np.frombuffer(encryptor.update(bytes(_WORD_BYTES * size)), "<u8")
        order = np.argsort(words, kind="stable")
        ordered = words[order]
        if not (ordered[1:] == ordered[:-1]).any():
            return order.astype(np.int64, copy=False)
