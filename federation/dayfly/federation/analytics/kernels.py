"""Counts of patterns from shares of tables; everything that an overlap does over all rows."""

import numpy as np
from numpy.typing import NDArray

from dayfly.privacy._jit import lean_kernel

__all__ = ["add_patterns"]


@lean_kernel
def add_patterns(tables: NDArray[np.uint64], shifted: NDArray[np.uint8], found: NDArray[np.uint64]) -> None:
    """Add to `found[p]`, over all rows, the row's table at its shifted place less p.

    Args:
        tables: Shape (rows, cells); cells is a power of two.
        shifted: Shape (rows,), below cells.
        found: Shape (cells,), added to modulo 2^64.
    """
    rows, cells = tables.shape
    for row in range(rows):
        place = np.int64(shifted[row])
        for pattern in range(cells):
            found[pattern] += tables[row, (place - pattern) & (cells - 1)]
