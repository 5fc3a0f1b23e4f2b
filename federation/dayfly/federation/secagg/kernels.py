"""Shamir's sharing of many words at once over the field of 2^61 - 1 elements.

Claim: fewer than `t` shares of a word say nothing about it; any `t` give it back exactly.
Precondition: coefficients of degree one and above are uniform in the field and used once; points are distinct and not zero.
Argument: a polynomial of degree t - 1 is determined by t points, and for any t - 1 points and any secret there is one polynomial.
Source: Shamir, CACM 22(11), 1979. Product modulo 2^61 - 1: 2^61 = 1, so the high part of a 122-bit product is added to the low part.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from dayfly.privacy._jit import inlined_kernel, lean_kernel

__all__ = ["PRIME", "combine", "evaluate"]

PRIME: Final = 2**61 - 1

_P: Final = np.uint64(PRIME)
_LOW_31: Final = np.uint64(2**31 - 1)
_LOW_30: Final = np.uint64(2**30 - 1)
_S1: Final = np.uint64(1)
_S30: Final = np.uint64(30)
_S31: Final = np.uint64(31)
_S61: Final = np.uint64(61)


@inlined_kernel
def _reduced(value: np.uint64) -> np.uint64:
    """A 64-bit value modulo the prime."""
    folded = (value >> _S61) + (value & _P)
    return folded - _P if folded >= _P else folded


@inlined_kernel
def _product(left: np.uint64, right: np.uint64) -> np.uint64:
    """Product of two field elements. With 31-bit halves no partial sum passes 2^64."""
    left_high, left_low = left >> _S31, left & _LOW_31
    right_high, right_low = right >> _S31, right & _LOW_31
    middle = left_low * right_high + left_high * right_low
    return _reduced(
        ((left_high * right_high) << _S1)
        + (middle >> _S30)
        + ((middle & _LOW_30) << _S31)
        + left_low * right_low
    )


@lean_kernel
def evaluate(coefficients: NDArray[np.uint64], shares: NDArray[np.uint64]) -> None:
    """Write the shares for the points 1, 2, ... by Horner's rule.

    Args:
        coefficients: uint64 field elements, shape (t, words); row 0 holds the secrets.
        shares: uint64, shape (parties, words), written.
    """
    degree, words = coefficients.shape
    for party in range(shares.shape[0]):
        point = np.uint64(party + 1)
        for word in range(words):
            value = np.uint64(0)
            for power in range(degree - 1, -1, -1):
                value = _reduced(_product(value, point) + coefficients[power, word])
            shares[party, word] = value


@lean_kernel
def combine(shares: NDArray[np.uint64], weights: NDArray[np.uint64], secrets: NDArray[np.uint64]) -> None:
    """Write the weighted sum of shares: the secrets, when the weights are Lagrange's at zero.

    Args:
        shares: uint64 field elements, shape (t, words).
        weights: uint64 field elements, shape (t,).
        secrets: uint64, shape (words,), written.
    """
    for word in range(shares.shape[1]):
        value = np.uint64(0)
        for party in range(shares.shape[0]):
            value = _reduced(value + _product(shares[party, word], weights[party]))
        secrets[word] = value
