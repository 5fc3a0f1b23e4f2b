r"""Privacy loss distributions: the sharpest accounting for parameters fixed ahead, by FFT, never below the exact value.

Claims:
    1. *Discretisation.* The returned masses, with the mass at infinity, have a profile that is nowhere below that of the event.
    2. *Composition.* The composed distribution has a profile that is nowhere below that of the events together.
    3. *Reading.* `delta(epsilon)` and `epsilon(delta)` round up.

Precondition:
    All parameters (scales, sensitivities, number of releases) are fixed before the first answer is seen. Where they depend on answers,
    use `filters`.

Argument:
    (1) A profile is convex in x = e^epsilon, so its chords over the grid lie above it. A chain of chords is the profile of the
    distribution with masses p_i = x_i (change of slope at x_i) (Doroshenko et al. 2022). Masses are differences and lose digits, so
    the profile of the masses as computed is evaluated again, in extended precision, and its largest shortfall at a knot is added at
    infinity: being above at every knot, it is above everywhere. (2) A profile that is above stays above under composition, for
    it is E[H(epsilon - L)] with L the other's loss. Losses outside a window weigh at most what Chernoff's bound says; that is added at
    infinity, and what wraps around the circle only adds mass. A fast Fourier transform of length n has a relative error of at most
    eta log2 n in the 2-norm (Higham 2002, section 24.1); by Parseval and |F| <= 1, k factors make k eta log2 n ||p||, and by
    Cauchy-Schwarz sqrt(n) times that bounds the sum of all errors, which is added at infinity. (3) Sums in extended precision, then one step up.

Source:
    Koskela, Jalko, Honkela (2020); Doroshenko, Ghazi, Kamath, Kumar, Manurangsi (2022), "Connect the Dots"; Higham, "Accuracy and Stability
    of Numerical Algorithms" (2002).
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from dayfly.privacy.errors import InvalidArgument

from .profiles import Profile

__all__ = ["LossDistribution", "compose", "discretise", "variance_of"]

Floats = NDArray[np.float64]
Wide = NDArray[np.longdouble]

_ETA: Final = 12 * 2.0**-53
_WIDE_ULP: Final = float(np.finfo(np.longdouble).eps)
_CUT: Final = 1e-17
"""Chernoff bound of the mass that may leave the window, on each side."""
_BENT: Final = 1e-8
"""Negative mass that rounding does not explain."""
MOST_CELLS: Final = 1 << 23


@dataclass(frozen=True)
class LossDistribution:
    """Masses of the privacy loss on the grid `step * (first + i)`, and of an infinite loss.

    Attributes:
        step: Grid spacing, in nats.
        first: Index of the first mass.
        masses: Non-negative; together with `infinite` at least one.
        infinite: Mass at infinity, with all slack.
    """

    step: float
    first: int
    masses: Floats
    infinite: float

    @property
    def losses(self) -> Floats:
        """Grid of losses, in nats."""
        return np.asarray((self.first + np.arange(self.masses.size)) * self.step, dtype=np.float64)

    @cached_property
    def _profile(self) -> Wide:
        """Delta at every grid point, rounded up."""
        delta = _profile_of_masses(self.masses, self.step)
        slack = 4 * (self.masses.size + 8) * _WIDE_ULP
        return (
            delta * np.longdouble(1 + slack)
            + np.longdouble(self.infinite) * np.longdouble(1 + slack)
            + np.longdouble(slack)
        )

    def delta(self, epsilon: float) -> float:
        """An upper bound of delta at `epsilon` >= 0.

        Raises:
            InvalidArgument: `epsilon` is negative or not finite.
        """
        if not 0 <= epsilon < math.inf:
            raise InvalidArgument(f"epsilon={epsilon!r} must be finite and >= 0; pass epsilon=0 or more")
        return min(1.0, self._at(epsilon))

    def _at(self, epsilon: float) -> float:
        place = epsilon / self.step - self.first
        left = math.floor(place)
        if left >= self.masses.size - 1:
            return math.nextafter(float(self._profile[-1]), math.inf)
        if left < 0:
            start = float(self._profile[0])
            share = math.exp(min(0.0, epsilon - self.first * self.step))  # chord from (0, total)
            return math.nextafter(
                (1 - share) * max(1.0, float(self.masses.sum()) + self.infinite) + share * start, math.inf
            )
        share = min(1.0, max(0.0, math.expm1((place - left) * self.step) / math.expm1(self.step)))
        low, high = float(self._profile[left]), float(self._profile[left + 1])
        return math.nextafter(low + (high - low) * share * (1 - 1e-12), math.inf)

    def epsilon(self, delta: float) -> float:
        """The least epsilon >= 0, rounded up, with `delta(epsilon) <= delta`; infinity when there is none.

        Raises:
            InvalidArgument: `delta` is not in [0, 1].
        """
        if not 0 <= delta <= 1:
            raise InvalidArgument(f"delta={delta!r} must lie in [0, 1]; pass a small probability")
        if self.delta(0.0) <= delta:
            return 0.0
        enough = np.flatnonzero(self._profile <= delta)
        if enough.size == 0:
            return math.inf
        right = int(enough[0])
        edge = (self.first + right) * self.step
        if right == 0:
            return max(0.0, edge)
        low, high = float(self._profile[right]), float(self._profile[right - 1])
        share = (delta - low) / (high - low) * (1 - 1e-12)
        inside = edge + math.log1p(share * math.expm1(-self.step))
        return max(0.0, min(edge, inside + 1e-12 * (1 + abs(inside))))


def _profile_of_masses(masses: Floats, step: float) -> Wide:
    """sum_(j > i) (1 - e^((i - j) step)) masses_j for every i, in extended precision."""
    wide = masses.astype(np.longdouble)
    above = np.cumsum(wide[::-1])[::-1] - wide
    # From the right, in blocks so that e^(-j step) neither overflows nor underflows.
    shrunk = np.zeros_like(wide)
    block = max(1, min(wide.size, int(2000 / step)))
    carry, right = np.longdouble(0), wide.size
    while right > 0:
        left = max(0, right - block)
        offset = np.arange(right - left, dtype=np.longdouble) * np.longdouble(step)
        weighted = wide[left:right] * np.exp(-offset)
        tail = np.cumsum(weighted[::-1])[::-1]
        here = (np.append(tail[1:], np.longdouble(0))) * np.exp(offset) + carry * np.exp(offset - offset[-1])
        shrunk[left:right] = here
        carry = np.exp(np.longdouble(-step)) * (here[0] + wide[left])
        right = left
    return np.asarray(np.maximum(above - shrunk, 0))


def discretise(
    profile: Callable[[Floats], Floats], span: tuple[float, float], step: float
) -> LossDistribution:
    """Claim 1.

    Args:
        profile: delta at each epsilon, rounded up.
        span: Losses outside weigh next to nothing.
        step: Grid spacing, in nats.

    Raises:
        InvalidArgument: The grid would have more than `MOST_CELLS` cells.
    """
    first, last = math.floor(span[0] / step), math.ceil(span[1] / step)
    if last - first + 1 > MOST_CELLS:
        raise InvalidArgument(f"step={step!r} must be coarser for losses in {span!r}; pass a larger step")
    delta = np.minimum.accumulate(profile(np.asarray(np.arange(first, last + 1) * step, dtype=np.float64)))
    masses = _chords(delta, step)
    if float(np.minimum(masses, 0.0).sum()) < -_BENT:
        # Bounds that are no profile themselves (conversions of zCDP) need not be convex; the profile below them is, so it is below their hull.
        delta = _hull(delta, step)
        masses = _chords(delta, step)
    return _certified(np.maximum(masses, 0.0), delta, first, step)


def _certified(masses: Floats, delta: Floats, first: int, step: float) -> LossDistribution:
    """The masses, with what they fall short of `delta` at infinity."""
    short = np.max(delta.astype(np.longdouble) - _profile_of_masses(masses, step))
    slack = 4 * (masses.size + 8) * _WIDE_ULP
    infinite = max(float(short) * (1 + 1e-15) + slack, 1 - math.fsum(masses) + 1e-15, 0.0)
    return LossDistribution(step=step, first=first, masses=masses, infinite=infinite)


def _chords(delta: Floats, step: float) -> Floats:
    """Masses whose profile is the chain of chords through `delta`; negative where rounding, or the input, bends them."""
    rise = np.diff(delta)
    growth = math.expm1(step)
    masses = np.zeros(delta.size)
    masses[0] = 1 - delta[0]
    if rise.size:
        masses[0] += rise[0] / growth
        masses[1:-1] = (rise[1:] - math.exp(step) * rise[:-1]) / growth
        masses[-1] = -math.exp(step) * rise[-1] / growth
    return masses


def _hull(delta: Floats, step: float) -> Floats:
    """The largest convex function of x = e^epsilon below the points, at every point, raised by rounding."""
    kept: list[int] = []
    for place in range(delta.size):
        while len(kept) > 1:
            before, middle = kept[-2], kept[-1]
            falling = (delta[middle] - delta[before]) / -math.expm1(-(middle - before) * step)
            following = (delta[place] - delta[middle]) / math.expm1(min(700.0, (place - middle) * step))
            if falling < following:
                break
            kept.pop()
        kept.append(place)
    left = np.searchsorted(kept, np.arange(delta.size), side="right") - 1
    left = np.minimum(left, len(kept) - 2)
    start, end = np.asarray(kept)[left], np.asarray(kept)[left + 1]
    share = np.expm1((np.arange(delta.size) - start) * step) / np.expm1(
        np.minimum(700.0, (end - start) * step)
    )
    return np.asarray(np.minimum(1.0, delta[start] + (delta[end] - delta[start]) * share + 1e-15))


def variance_of(profile: Profile, *, cells: int = 2000) -> float:
    """Rough variance of the loss, for the choice of a grid."""
    low, high = profile.span
    if high - low <= 0:
        return 0.0
    rough = discretise(profile.forward, (low, high), (high - low) / cells)
    weights = rough.masses / rough.masses.sum()
    mean = float(weights @ rough.losses)
    return float(weights @ np.square(rough.losses - mean))


def compose(parts: Sequence[tuple[LossDistribution, int]]) -> LossDistribution:
    """Claim 2: each distribution as many times as it says, on one grid.

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
    infinite = math.fsum(part.infinite * times for part, times in parts)
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
        spectrum *= _power(fft.rfft(_folded(part.masses, length)), times)
        largest = max(largest, float(np.linalg.norm(part.masses)))
    circle = np.asarray(fft.irfft(spectrum, length))
    origin = sum(part.first * times for part, times in parts)
    masses = np.maximum(np.roll(circle, (origin - low) % length), 0.0)
    factors = sum(times for _, times in parts) + 2
    error = math.sqrt(length) * factors * _ETA * math.log2(length) * largest * 1.5
    return LossDistribution(step=step, first=low, masses=masses, infinite=infinite + cut + error)


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
    spread = max((part.masses.size * step) * math.sqrt(times) for part, times in parts)
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


def _log_moments(parts: Sequence[tuple[LossDistribution, int]], tilt: float) -> float:
    """Sum of ln E[e^(tilt loss)], rounded up a little."""
    total = 0.0
    for part, times in parts:
        exponent = tilt * part.losses
        peak = float(exponent.max())
        total += times * (peak + math.log(float(part.masses @ np.exp(exponent - peak))) + 1e-12)
    return total + 1e-9 * (1 + abs(total))
