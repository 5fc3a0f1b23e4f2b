r"""Privacy loss distributions on a grid: the sharpest accounting for parameters fixed ahead, never below the exact value.

Claims:
    1. *Discretisation.* The returned masses, with the mass at infinity, have a profile that is nowhere below that of the event.
    2. *Reading.* `delta(epsilon)` and `epsilon(delta)` round up.

Precondition:
    All parameters (scales, sensitivities, number of releases) are fixed before the first answer is seen. Where they depend on answers,
    use `filters`.

Argument:
    (1) A profile is convex in x = e^epsilon, so its chords over the grid lie above it. A chain of chords is the profile of the
    distribution with masses p_i = x_i (change of slope at x_i) (Doroshenko et al. 2022). Masses are differences and lose digits, so
    the profile of the masses as computed is evaluated again, in extended precision, and its largest shortfall at a knot is added at
    infinity: being above at every knot, it is above everywhere. (2) Sums in extended precision, then one step up; `doubt` is added, and as
    a power of x it is convex, so that its chords are above it too.

Source:
    Doroshenko, Ghazi, Kamath, Kumar, Manurangsi (2022), "Connect the Dots: Tighter Discrete Approximations of Privacy Loss Distributions".
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dayfly.privacy.errors import InvalidArgument

from .shapes import Profile

__all__ = ["MOST_CELLS", "Doubt", "LossDistribution", "discretise", "variance_of"]

Floats = NDArray[np.float64]
Wide = NDArray[np.longdouble]

_WIDE_ULP: Final = float(np.finfo(np.longdouble).eps)
_BENT: Final = 1e-8
"""Negative mass that rounding does not explain."""
MOST_CELLS: Final = 1 << 23


class Doubt(NamedTuple):
    """What rounding may have taken from delta(epsilon): at most e^(log_size - tilt * epsilon).

    Attributes:
        log_size: Natural logarithm of the bound at epsilon 0.
        tilt: How fast it falls.
    """

    log_size: float = -math.inf
    tilt: float = 0.0


_CERTAIN: Final = Doubt()


@dataclass(frozen=True)
class LossDistribution:
    """Masses of the privacy loss on the grid `step * (first + i)`, and of an infinite loss.

    Attributes:
        step: Grid spacing, in nats.
        first: Index of the first mass.
        masses: Non-negative; together with `infinite` at least one.
        infinite: Mass at infinity, with all slack.
        doubt: What rounding may have taken from the masses.
    """

    step: float
    first: int
    masses: Floats
    infinite: float
    doubt: Doubt = _CERTAIN

    @property
    def losses(self) -> Floats:
        """Grid of losses, in nats."""
        return np.asarray((self.first + np.arange(self.masses.size)) * self.step, dtype=np.float64)

    @cached_property
    def _profile(self) -> Wide:
        """Delta at every grid point, rounded up."""
        doubt = np.exp(np.minimum(self.doubt.log_size - self.doubt.tilt * self.losses, 700))
        delta = _profile_of_masses(self.masses, self.step) + doubt.astype(np.longdouble)
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
