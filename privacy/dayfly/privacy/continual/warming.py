"""Calls every kernel of this package once, with the types that streams use."""

import numpy as np

from .kernels import Shifts, blt_absorb, blt_centre, toeplitz_absorb, toeplitz_centre

__all__ = ["warm"]


def warm() -> None:
    """Compile or load the kernels."""
    one, four = np.zeros(1, np.int64), np.zeros(4, np.int64)
    buffers, shifts = np.zeros((4, 1), np.int64), Shifts(20, 12)
    blt_centre(buffers, four, one, shifts, one.copy())
    blt_absorb(buffers, four, one, one, shifts, one.copy())
    toeplitz_centre(buffers, four, one, shifts, one.copy())
    toeplitz_absorb(buffers[0], one, one, shifts, one.copy())
