"""Inner loops of continual release: correlated noise for every series of a stream, one step per call.

Integers only. Decays, scales and coefficients are multiples of 2^-30; a value `b` is multiplied by one of them as
`(b >> 30) * m + ((b & MASK) * m >> 30)`, which is the exact floor of `b m / 2^30` and never leaves int64 (both
operands of each product fit 32 bits, so the loops become vector instructions). Everything saturates:
`|clip(a) - clip(b)| <= |a - b|`, so the bounds of `dayfly.privacy.continual.factors` hold at the edges too, and at
no input does a value wrap.

Buffers are laid out as (4, series), so that four rows of 8 bytes, 32 bytes per series, are all that a BLT keeps.
"""

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dayfly.privacy._jit import inlined_kernel, kernel

__all__ = [
    "BUFFER_LIMIT",
    "NOISY_LIMIT",
    "RESIDUAL_LIMIT",
    "TOTAL_LIMIT",
    "Shifts",
    "blt_absorb",
    "blt_centre",
    "toeplitz_absorb",
    "toeplitz_centre",
]

BUFFER_LIMIT: Final = 1 << 60
NOISY_LIMIT: Final = 1 << 61
TOTAL_LIMIT: Final = 1 << 62
RESIDUAL_LIMIT: Final = 1 << 54
_MASK: Final = (1 << 30) - 1
_HALF: Final = 1 << 29


class Shifts(NamedTuple):
    """Positions of the binary point.

    Attributes:
        fraction: One unit of an increment is `2**fraction` points of the noise lattice.
        guard: Buffers hold this many bits below the noise lattice.
    """

    fraction: int
    guard: int


@inlined_kernel
def _clip(value: int, limit: int) -> int:
    return min(max(value, -limit), limit)


@inlined_kernel
def _high(value: int) -> int:
    return np.int64(np.int32(value >> 30))


@kernel
def blt_centre(
    buffers: NDArray[np.int64],
    scales: NDArray[np.int64],
    increments: NDArray[np.int64],
    shifts: Shifts,
    centres: NDArray[np.int64],
) -> None:
    """Write the value to which this step's noise is added: the increment less what earlier noise returns.

    Oracle: tests.oracles.dp_continual.ExactStream

    Args:
        buffers: int64 (4, series), guarded lattice units.
        scales: int64 (4,), multiples of 2^-30 below one.
        increments: int64 (series,), units.
        shifts: Positions of the binary point.
        centres: int64 (series,), written, lattice units.
    """
    limit = BUFFER_LIMIT >> shifts.fraction
    half = (1 << shifts.guard) >> 1
    row_0, row_1, row_2, row_3 = buffers[0], buffers[1], buffers[2], buffers[3]
    scale_0, scale_1, scale_2, scale_3 = (
        scales[0] & _MASK,
        scales[1] & _MASK,
        scales[2] & _MASK,
        scales[3] & _MASK,
    )
    for i in range(increments.shape[0]):
        b0, b1, b2, b3 = row_0[i], row_1[i], row_2[i], row_3[i]
        high = _high(b0) * scale_0 + _high(b1) * scale_1 + _high(b2) * scale_2 + _high(b3) * scale_3
        low = (
            (b0 & _MASK) * scale_0 + (b1 & _MASK) * scale_1 + (b2 & _MASK) * scale_2 + (b3 & _MASK) * scale_3
        )
        returned = (high + (low >> 30) + half) >> shifts.guard
        centres[i] = (_clip(increments[i], limit) << shifts.fraction) - returned


@inlined_kernel
def _decayed(buffer: int, decay: int, residual: int) -> int:
    product = _high(buffer) * decay + (((buffer & _MASK) * decay + _HALF) >> 30)
    return _clip(product + residual, BUFFER_LIMIT)


@kernel
def blt_absorb(
    buffers: NDArray[np.int64],
    decays: NDArray[np.int64],
    increments: NDArray[np.int64],
    noisy: NDArray[np.int64],
    shifts: Shifts,
    totals: NDArray[np.int64],
) -> None:
    """Take in the step's noisy values: move the buffers on, add to the public totals.

    Oracle: tests.oracles.dp_continual.ExactStream

    Args:
        buffers: int64 (4, series), changed.
        decays: int64 (4,), multiples of 2^-30 below one.
        increments: int64 (series,), the same that `blt_centre` got.
        noisy: int64 (series,), the centres with noise added.
        shifts: Positions of the binary point.
        totals: int64 (series,), lattice units, changed.
    """
    limit = BUFFER_LIMIT >> shifts.fraction
    residual_limit = BUFFER_LIMIT >> shifts.guard
    row_0, row_1, row_2, row_3 = buffers[0], buffers[1], buffers[2], buffers[3]
    decay_0, decay_1, decay_2, decay_3 = (
        decays[0] & _MASK,
        decays[1] & _MASK,
        decays[2] & _MASK,
        decays[3] & _MASK,
    )
    for i in range(increments.shape[0]):
        seen = _clip(noisy[i], NOISY_LIMIT)
        residual = seen - (_clip(increments[i], limit) << shifts.fraction)
        guarded = _clip(residual, residual_limit) << shifts.guard
        row_0[i] = _decayed(row_0[i], decay_0, guarded)
        row_1[i] = _decayed(row_1[i], decay_1, guarded)
        row_2[i] = _decayed(row_2[i], decay_2, guarded)
        row_3[i] = _decayed(row_3[i], decay_3, guarded)
        totals[i] = _clip(totals[i] + seen, TOTAL_LIMIT)


@kernel
def toeplitz_centre(
    residuals: NDArray[np.int64],
    coefficients: NDArray[np.int64],
    increments: NDArray[np.int64],
    shifts: Shifts,
    centres: NDArray[np.int64],
) -> None:
    """As `blt_centre`, from the whole history: one product per earlier step.

    Oracle: tests.oracles.dp_continual.ExactStream

    Args:
        residuals: int64 (earlier steps, series), lattice units within `RESIDUAL_LIMIT`.
        coefficients: int64, first column of the factor from its second entry on, multiples of 2^-30, whose sum is
            at most 256.
        increments: int64 (series,), units.
        shifts: Positions of the binary point; no guard bits.
        centres: int64 (series,), written, lattice units.
    """
    limit = BUFFER_LIMIT >> shifts.fraction
    series = increments.shape[0]
    steps = residuals.shape[0]
    low = np.zeros(series, np.int64)
    high = centres
    high[:] = 0
    for k in range(steps):
        row = residuals[k]
        coefficient = coefficients[steps - 1 - k] & _MASK
        for i in range(series):
            value = row[i]
            part = low[i] + (value & _MASK) * coefficient
            high[i] += _high(value) * coefficient + (part >> 30)
            low[i] = part & _MASK
    for i in range(series):
        returned = high[i] + ((low[i] + _HALF) >> 30)
        centres[i] = (_clip(increments[i], limit) << shifts.fraction) - returned


@kernel
def toeplitz_absorb(
    residuals: NDArray[np.int64],
    increments: NDArray[np.int64],
    noisy: NDArray[np.int64],
    shifts: Shifts,
    totals: NDArray[np.int64],
) -> None:
    """As `blt_absorb`: append to the history, add to the public totals.

    Oracle: tests.oracles.dp_continual.ExactStream

    Args:
        residuals: int64 (series,), the history's row of this step, written.
        increments: int64 (series,), the same that `toeplitz_centre` got.
        noisy: int64 (series,), the centres with noise added.
        shifts: Positions of the binary point.
        totals: int64 (series,), lattice units, changed.
    """
    limit = BUFFER_LIMIT >> shifts.fraction
    for i in range(increments.shape[0]):
        seen = _clip(noisy[i], NOISY_LIMIT)
        residuals[i] = _clip(seen - (_clip(increments[i], limit) << shifts.fraction), RESIDUAL_LIMIT)
        totals[i] = _clip(totals[i] + seen, TOTAL_LIMIT)
