"""Sums of products modulo 2^64: everything that the ring does over all rows.

Unsigned machine words wrap around by themselves, so a product of matrices in the ring is the product of the words; NumPy has no
fast one for integers.
"""

import numpy as np
from numpy.typing import NDArray

from dayfly.privacy._jit import lean_kernel

__all__ = ["add_gram", "add_product"]

Words = NDArray[np.uint64]


@lean_kernel
def add_gram(left: Words, right: Words, found: Words) -> None:
    """Add `left' right` to `found`.

    Args:
        left: Shape (rows, p).
        right: Shape (rows, q).
        found: Shape (p, q), added to.
    """
    rows, columns = right.shape
    for row in range(rows):
        for first in range(left.shape[1]):
            factor = left[row, first]
            for second in range(columns):
                found[first, second] += factor * right[row, second]


@lean_kernel
def add_product(matrix: Words, vector: Words, found: Words) -> None:
    """Add `matrix' vector` to `found`.

    Args:
        matrix: Shape (rows, p).
        vector: Shape (rows,).
        found: Shape (p,), added to.
    """
    for row in range(matrix.shape[0]):
        factor = vector[row]
        for column in range(matrix.shape[1]):
            found[column] += factor * matrix[row, column]
