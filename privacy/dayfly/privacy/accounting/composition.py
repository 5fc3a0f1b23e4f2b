r"""Composition of privacy loss distributions by FFT, with a bound on everything that the transform may lose.

Claim:
    The composed distribution, with its mass at infinity and its doubt, has a profile nowhere below that of the parts together.

Argument:
    A profile that is above stays above under composition, for it is E[H(epsilon - L)] with L the other's loss. Losses outside a window weigh
    at most what Chernoff's bound says; that is added at infinity, and what wraps around the circle only adds mass. A fast Fourier transform
    of length n has a relative error of at most eta log2 n in the 2-norm (Higham 2002, section 24.1); by Parseval and |F| <= 1, k factors
    make k eta log2 n times the largest 2-norm of a factor, and by Cauchy-Schwarz sqrt(n) times that bounds the sum of all errors: the
    doubt. With a tilt t the transform works on the masses e^(t l) p_l / M, whose products are untilted afterwards: an error of a tilted
    mass at l counts e^(-t l) M^k, so its sum over l > epsilon is at most e^(-t epsilon) M^k times the same bound, which makes small deltas as
    sharp as large ones.

Source:
    Koskela, Jalko, Honkela (2020) for accounting by FFT; Higham, "Accuracy and Stability of Numerical Algorithms" (2002); Gopi, Lee,
    Wutschitz (2021) for windows.
"""

import math
from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from dayfly.privacy.errors import InvalidArgument

from .pld import MOST_CELLS, Doubt, LossDistribution

__all__ = ["compose", "saddle"]

Floats = NDArray[np.float64]

_ETA: Final = 12 * 2.0**-53
_CUT: Final = 1e-17
"""Chernoff bound of the mass that may leave the window, on each side."""


def compose(parts: Sequence[tuple[LossDistribution, int]], *, tilt: float = 0.0) -> LossDistribution:
    """Each distribution as many times as it says, on one grid.

    Args:
        parts: Discretised distributions and their multiplicities.
        tilt: Exponential tilt; zero is best for deltas far above the error of the transform, `saddle` for smaller ones.

    Raises:
        InvalidArgument: Nothing to compose, different grids, or a window of more than `MOST_CELLS` cells.
    """
    if not parts:
        raise InvalidArgument("parts=() must hold at least one distribution; pass what was released")
    step = parts[0][0].step
    if any(part.step != step for part, _ in parts):
        raise InvalidArgument(
            f"step={[part.step for part, _ in parts]!r} must be one grid; discretise all with one step"
        )
    if len(parts) == 1 and parts[0][1] == 1:
        return parts[0][0]
    if any(part.doubt.tilt for part, _ in parts):
        raise InvalidArgument("parts must not be tilted; compose them from the single events")
    infinite = math.fsum((part.infinite + math.exp(part.doubt.log_size)) * times for part, times in parts)
    low, high, cut = _window(parts)
    size = high - low + 1
    if size > MOST_CELLS:
        raise InvalidArgument(
            f"step={step!r} must be coarser for a window of {size} cells; pass a larger step"
        )
    length = fft.next_fast_len(max(size, 2), real=True)
    spectrum: NDArray[np.complex128] = np.ones(length // 2 + 1, dtype=np.complex128)
    largest = 0.0
    for part, times in parts:
        tilted = part.masses * np.exp(tilt * part.losses - _log_moment(part, tilt)) if tilt else part.masses
        spectrum *= _power(fft.rfft(_folded(tilted, length)), times)
        largest = max(largest, float(np.linalg.norm(tilted)))
    circle = np.asarray(fft.irfft(spectrum, length))
    origin = sum(part.first * times for part, times in parts)
    masses = np.maximum(np.roll(circle, (origin - low) % length), 0.0)
    weight = _log_moments(parts, tilt) if tilt else 0.0
    if tilt:
        place = (low + np.arange(length)) * step
        masses = masses * np.exp(np.minimum(weight - tilt * place, 700)) * (1 + 1e-9)
    factors = sum(times for _, times in parts) + 2
    error = math.sqrt(length) * factors * _ETA * math.log2(length) * largest * 1.5
    return LossDistribution(
        step=step,
        first=low,
        masses=masses,
        infinite=infinite + cut,
        doubt=Doubt(math.log(error) + weight + 1e-9, tilt),
    )


def saddle(parts: Sequence[tuple[LossDistribution, int]], delta: float) -> float:
    """The tilt under which the composed loss lies about where its tail weighs `delta`."""
    spread = _spread(parts)
    tilts = np.geomspace(1e-3 / spread, 3e3 / spread, 96)
    reaches = [(_log_moments(parts, float(tilt)) - math.log(delta)) / float(tilt) for tilt in tilts]
    return float(tilts[int(np.argmin(reaches))])


def _spread(parts: Sequence[tuple[LossDistribution, int]]) -> float:
    return max((part.masses.size * part.step) * math.sqrt(times) for part, times in parts)


def _folded(masses: Floats, length: int) -> Floats:
    padded = np.zeros(-(-masses.size // length) * length)
    padded[: masses.size] = masses
    return np.asarray(padded.reshape(-1, length).sum(axis=0))


def _power(base: NDArray[np.complex128], times: int) -> NDArray[np.complex128]:
    result = np.ones_like(base)
    while times:
        if times & 1:
            result = result * base
        times >>= 1
        if times:
            base = base * base
    return result


def _window(parts: Sequence[tuple[LossDistribution, int]]) -> tuple[int, int, float]:
    """First and last index outside of which the composition weighs at most the returned bound, by Chernoff's inequality."""
    step = parts[0][0].step
    low = sum(part.first * times for part, times in parts)
    high = sum((part.first + part.masses.size - 1) * times for part, times in parts)
    if high - low < 1 << 12:
        return low, high, 0.0
    spread = _spread(parts)
    cut = 0.0
    upper, lower = float(high) * step, float(low) * step
    for tilt in np.geomspace(1e-3 / spread, 3e3 / spread, 48):
        up = (_log_moments(parts, float(tilt)) - math.log(_CUT)) / tilt
        down = -(_log_moments(parts, -float(tilt)) - math.log(_CUT)) / tilt
        upper, lower = min(upper, up), max(lower, down)
    new_high, new_low = min(high, math.ceil(upper / step) + 1), max(low, math.floor(lower / step) - 1)
    if new_high < high or new_low > low:
        cut = 2 * _CUT
    return new_low, max(new_high, new_low + 1), cut


def _log_moment(part: LossDistribution, tilt: float) -> float:
    """Ln E[e^(tilt loss)] of the finite losses."""
    exponent = tilt * part.losses
    peak = float(exponent.max())
    return peak + math.log(float(part.masses @ np.exp(exponent - peak)))


def _log_moments(parts: Sequence[tuple[LossDistribution, int]], tilt: float) -> float:
    """The same of the sum of all losses, rounded up a little."""
    total = sum(times * (_log_moment(part, tilt) + 1e-12) for part, times in parts)
    return total + 1e-9 * (1 + abs(total))
