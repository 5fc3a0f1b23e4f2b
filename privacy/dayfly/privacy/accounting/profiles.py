r"""Privacy profiles: delta as a function of epsilon for one loss event, in both directions, never below the exact value.

The profile of a pair P, Q is H(epsilon) = sum (P - e^epsilon Q)_+ for every real epsilon; it says all there is about the pair (Zhu, Dong,
Wang 2022). *Forward* compares the data with the customer to the data without, *backward* the other way round.

Claims:
    1. Discrete Laplace noise on integer vectors with L1 sensitivity D: the scalar shifted by D is the worst pair. With q = e^(-1/b),
       1 - H = q^((D - m)/2) at epsilon = m/b for m = -D, -D + 2, ..., D, and H is linear in e^epsilon between.
    2. On the reals: 1 - H = e^((epsilon - D/b)/2) for |epsilon| <= D/b.
    3. A Poisson sample of rate r: forward r H(ln((e^epsilon - 1 + r)/r)), backward (1 - e^epsilon (1 - r)) H'(-ln((e^-epsilon - 1 + r)/r)),
       H' being the backward profile of the whole.
    4. A leak of probability d turns H into d + (1 - d) H.

Argument:
    (1) By induction over coordinates (a worse pair composed with the same pair stays worse) it is enough to compare shifts (d1, d2),
    d1 <= d2, with d1 + d2. Both losses live on the lattice m/b with m of one parity, both profiles are linear in e^epsilon between, so knots
    are enough. At a knot 1 - H of the composition is E[u(m - L1)], u(j) = q^((d2 - j)/2) g(j), g(j) = q^max(0, (|j| - d2)/2), L1 the
    first loss. sqrt(P1 Q1) gives every interior loss the weight (1-q)/(1+q) q^(d1/2) and the two ends q^(d1/2)/(1+q); hence the
    composition is at least the scalar's q^((d1 + d2 - m)/2) iff S = g(ends) + (1 - q) sum g(interior) >= 1 + q. For m >= 0 the values of g, from
    L1 = d1 downwards, are 1 first and then q, q^2, ... from some place n on; S is least for n = 0, where it is
    1 + q^d1 + (1 - q)(q + ... + q^(d1 - 1)) = 1 + q. m < 0 is the mirror image. A shift below D is less private at no epsilon (chords).
    (2) is the limit of (1) on finer lattices. (3) Substitute the mixture in H; backward by H(-epsilon) of the swapped pair. (4) Convexity of H in
    the pair.

Source:
    Zhu, Dong, Wang (2022), "Optimal Accounting of DP via Characteristic Function"; Dong, Roth, Su (2022); claim 1 is ours, and the tests
    check it by enumeration of every split of D <= 9.
"""

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import Final, Literal, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from dayfly.privacy.errors import InvalidArgument

from .gaussian import ULP, bridge_variance, discrete_gaussian_table, gaussian_delta
from .losses import (
    ApproxLoss,
    GaussianLoss,
    LaplaceLoss,
    LossEvent,
    PoissonSampledLoss,
    PureLoss,
    RandomizedResponseLoss,
    ThresholdLoss,
    ZcdpLoss,
)
from .rounding import float_down, float_up, sqrt_up

__all__ = [
    "Adjacency",
    "Profile",
    "TablePair",
    "discrete_gaussian_pair",
    "exactly_summed",
    "gaussian_parts",
    "gaussian_profile",
    "pair_profile",
    "profile_of",
    "zcdp_profile",
]

Floats = NDArray[np.float64]
Adjacency = Literal["add_or_remove", "replace"]

_TAIL: Final = 9.5
"""Standard deviations beyond which a Gaussian loss is moved to infinity: weighs 1e-21."""
_EXACT_SCALE: Final = 64
"""Up to this sigma a scalar discrete Gaussian is summed, not bridged."""


class Profile(Protocol):
    """delta(epsilon) of one loss event, rounded up."""

    @property
    def symmetric(self) -> bool:
        """Backward equals forward."""
        ...

    @property
    def span(self) -> tuple[float, float]:
        """Least and largest loss, forward, that weigh more than next to nothing."""
        ...

    def forward(self, epsilon: Floats) -> Floats:
        """With the customer against without."""
        ...

    def backward(self, epsilon: Floats) -> Floats:
        """Without the customer against with."""
        ...


def _lifted(delta: Floats) -> Floats:
    return np.clip(delta * (1 + 64 * ULP) + 4 * ULP, 0.0, 1.0)


class _Symmetric:
    symmetric = True

    def forward(self, epsilon: Floats) -> Floats:
        raise NotImplementedError

    def backward(self, epsilon: Floats) -> Floats:
        return self.forward(epsilon)


@dataclass(frozen=True)
class _Laplace(_Symmetric):
    """Claims 1 and 2. `steps` is D on the integers and 0 on the reals."""

    epsilon: float
    steps: int

    @property
    def span(self) -> tuple[float, float]:
        return -self.epsilon, self.epsilon

    def forward(self, epsilon: Floats) -> Floats:
        inside = np.clip(epsilon, -self.epsilon, self.epsilon)
        if self.steps == 0:
            kept = np.exp((inside - self.epsilon) / 2)
        else:
            unit = self.epsilon / self.steps
            below = np.clip(np.floor((inside / unit + self.steps) / 2), 0, self.steps - 1)
            low = 2 * below - self.steps
            at_low, at_high = np.exp((low - self.steps) * unit / 2), np.exp((low + 2 - self.steps) * unit / 2)
            share = np.clip(np.expm1(inside - low * unit) / math.expm1(2 * unit), 0.0, 1.0)
            kept = at_low + (at_high - at_low) * share
        left = -np.expm1(np.minimum(epsilon, 0.0))
        return _lifted(
            np.where(epsilon >= self.epsilon, 0.0, np.where(epsilon <= -self.epsilon, left, 1 - kept))
        )


@dataclass(frozen=True)
class _Gaussian(_Symmetric):
    mu: float

    @property
    def span(self) -> tuple[float, float]:
        return self.mu * (self.mu / 2 - _TAIL), self.mu * (self.mu / 2 + _TAIL)

    def forward(self, epsilon: Floats) -> Floats:
        return _lifted(gaussian_delta(self.mu, epsilon))


@dataclass(frozen=True)
class TablePair:
    """Two tables of probabilities over the same outcomes: P and Q."""

    above: Floats
    below: Floats
    symmetric: bool

    @property
    def span(self) -> tuple[float, float]:
        """Least and largest finite loss of P against Q."""
        both = (self.above > 0) & (self.below > 0)
        losses = np.log(self.above[both] / self.below[both])
        return float(losses.min()) - 1e-9, float(losses.max()) + 1e-9

    def forward(self, epsilon: Floats) -> Floats:
        """P against Q."""
        return _hockey_stick(self.above, self.below, epsilon)

    def backward(self, epsilon: Floats) -> Floats:
        """Q against P."""
        return _hockey_stick(self.below, self.above, epsilon)


def _hockey_stick(above: Floats, below: Floats, epsilon: Floats) -> Floats:
    with np.errstate(divide="ignore", invalid="ignore"):
        losses = np.where(below > 0, np.log(above / below), np.inf)
        losses[(above == 0) & (below == 0)] = -np.inf
    order = np.argsort(losses, kind="stable")
    tail_above = np.append(np.cumsum(above[order][::-1].astype(np.longdouble))[::-1], 0)
    tail_below = np.append(np.cumsum(below[order][::-1].astype(np.longdouble))[::-1], 0)
    start = np.searchsorted(losses[order], epsilon, side="right")
    with np.errstate(over="ignore"):
        delta = tail_above[start] - np.where(tail_below[start] > 0, np.exp(epsilon) * tail_below[start], 0.0)
    return _lifted(np.asarray(delta, dtype=np.float64) + 1e-19)


@dataclass(frozen=True)
class _Response(_Symmetric):
    """Losses +-epsilon with probability `p_high`, `p_low`, else 0; the worst epsilon-DP pair has no zeros."""

    epsilon: float
    p_high: float
    p_low: float

    @property
    def span(self) -> tuple[float, float]:
        return -self.epsilon, self.epsilon

    def forward(self, epsilon: Floats) -> Floats:
        zero = max(0.0, 1 - self.p_high - self.p_low)
        with np.errstate(over="ignore"):
            ratio = np.exp(epsilon)
            losses = (
                np.maximum(0.0, self.p_high - ratio * self.p_low)
                + np.maximum(0.0, zero * (1 - ratio))
                + np.maximum(0.0, self.p_low - ratio * self.p_high)
            )
        return _lifted(losses)


def _pure(epsilon: Fraction) -> _Response:
    above = float_up(epsilon)
    high = 1 / (1 + math.exp(-above)) if above < 700 else 1.0
    return _Response(above, high, math.exp(-above) * high if above < 700 else 0.0)


@dataclass(frozen=True)
class _Leaky:
    """Claim 4."""

    part: Profile
    leak: float

    @property
    def symmetric(self) -> bool:
        return self.part.symmetric

    @property
    def span(self) -> tuple[float, float]:
        return self.part.span

    def forward(self, epsilon: Floats) -> Floats:
        return _lifted(self.leak + (1 - self.leak) * self.part.forward(epsilon))

    def backward(self, epsilon: Floats) -> Floats:
        return _lifted(self.leak + (1 - self.leak) * self.part.backward(epsilon))


@dataclass(frozen=True)
class _Sampled:
    """Claim 3."""

    part: Profile
    rate: float
    symmetric: bool = False

    @property
    def span(self) -> tuple[float, float]:
        low = math.log1p(-self.rate) if self.rate < 1 else self.part.span[0]
        return max(low, self.part.span[0]) - 1e-9, math.log1p(self.rate * math.expm1(self.part.span[1]))

    def forward(self, epsilon: Floats) -> Floats:
        return _lifted(
            np.where(
                self._reached(epsilon),
                self.rate * self.part.forward(self._inner(epsilon)),
                -np.expm1(np.minimum(epsilon, 0)),
            )
        )

    def backward(self, epsilon: Floats) -> Floats:
        weight = np.maximum(0.0, 1 - np.exp(np.minimum(epsilon, 700)) * (1 - self.rate))
        return _lifted(
            np.where(self._reached(-epsilon), weight * self.part.backward(-self._inner(-epsilon)), 0.0)
        )

    def _reached(self, epsilon: Floats) -> NDArray[np.bool_]:
        return np.expm1(epsilon) > -self.rate

    def _inner(self, epsilon: Floats) -> Floats:
        inside = np.where(self._reached(epsilon), np.expm1(epsilon) / self.rate, 0.0)
        return np.log1p(inside)


@dataclass(frozen=True)
class _SampledReplaceGaussian(_Symmetric):
    """(1-r) N(0) + r N(mu) against (1-r) N(0) + r N(-mu), unit variance: the customer's record replaced by its opposite."""

    mu: float
    rate: float

    @property
    def span(self) -> tuple[float, float]:
        edge = _TAIL + self.mu
        reach = float(self._loss(np.array([edge]))[0])
        return -reach, reach

    def _loss(self, outcome: Floats) -> Floats:
        keep, move = np.log1p(-self.rate) if self.rate < 1 else -np.inf, math.log(self.rate)
        up, down = self.mu * outcome - self.mu**2 / 2, -self.mu * outcome - self.mu**2 / 2
        return np.asarray(np.logaddexp(keep, move + up) - np.logaddexp(keep, move + down))

    def forward(self, epsilon: Floats) -> Floats:
        low = np.full(np.shape(epsilon), -60.0 - self.mu)
        high = -low
        for _ in range(
            70
        ):  # any cut gives a lower bound; at the best one the slope is zero, so the last bits do not matter
            middle = (low + high) / 2
            right = self._loss(middle) > epsilon
            low, high = np.where(right, low, middle), np.where(right, middle, high)
        stay = (1 - self.rate) * ndtr(-high)
        above, below = stay + self.rate * ndtr(self.mu - high), stay + self.rate * ndtr(-self.mu - high)
        return _lifted(above - np.exp(np.minimum(epsilon, 700)) * below + 64 * ULP)


@dataclass(frozen=True)
class _Zcdp(_Symmetric):
    """The best of 400 orders of the conversion in `conversions`, made symmetric."""

    rho: float

    @property
    def span(self) -> tuple[float, float]:
        reach = self.rho + 2 * math.sqrt(48 * self.rho)
        return -reach, reach

    def forward(self, epsilon: Floats) -> Floats:
        size = np.abs(epsilon)
        order = 1 + np.exp(np.linspace(-6, max(4.0, 2 - 0.5 * math.log(self.rho)), 400))[:, None]
        bound = np.full(size.shape, np.inf)
        flat, out = size.ravel(), bound.ravel()
        for start in range(0, flat.size, 4096):
            part = flat[start : start + 4096]
            exponent = (
                (order - 1) * (order * self.rho - part) + (order - 1) * np.log1p(-1 / order) - np.log(order)
            )
            out[start : start + 4096] = np.exp(np.minimum(exponent.min(axis=0), 0.0)) * (1 + 4096 * ULP)
        right = np.minimum(1.0, out.reshape(size.shape))
        # Symmetric noise: H(-e) = 1 - e^-e + e^-e H(e).
        return _lifted(np.where(epsilon >= 0, right, -np.expm1(-size) + np.exp(-size) * right))


def profile_of(event: LossEvent, *, adjacency: Adjacency = "add_or_remove") -> Profile:
    """The profile of one event that is no composition.

    Args:
        event: A leaf of `losses.leaves`.
        adjacency: `"replace"` doubles what `"add_or_remove"` allows a customer to change.

    Raises:
        InvalidArgument: A composition, or a relation for which no profile is known.
    """
    factor = 2 if adjacency == "replace" else 1
    match event:
        case LaplaceLoss():
            return _Laplace(
                float_up(event.epsilon * factor), int(event.l1) * factor if event.domain == "integers" else 0
            )
        case GaussianLoss():
            return _gaussian(event, factor)
        case PureLoss(epsilon):
            return _pure(epsilon * factor)
        case ApproxLoss(epsilon, delta) if factor == 1:
            return _Leaky(_pure(epsilon), float_up(delta))
        case RandomizedResponseLoss():
            return _randomized_response(event)
        case ThresholdLoss(noise, delta) if factor == 1:
            return _Leaky(profile_of(noise), float_up(delta))
        case ZcdpLoss(rho, delta) if factor == 1:
            return _Leaky(_Zcdp(float_up(rho)), float_up(Fraction(delta)))
        case PoissonSampledLoss(part, rate):
            return _sampled(part, rate, factor)
    raise InvalidArgument(
        f"event={event!r} adjacency={adjacency!r} must have a known profile; compose single events, or count it in zCDP"
    )


def _gaussian(event: GaussianLoss, factor: int) -> Profile:
    if exactly_summed(event, factor):
        return discrete_gaussian_pair(event.scale, 1)
    mu_squared, rho = gaussian_parts(event, factor)
    return zcdp_profile(rho) if rho else gaussian_profile(mu_squared)


def exactly_summed(event: GaussianLoss, factor: int) -> bool:
    """Whether the profile is that of one coordinate: with one unit of squared length only one can move."""
    return (
        event.domain == "integers"
        and Fraction(event.l2_squared) * factor == 1
        and event.scale <= _EXACT_SCALE
    )


def gaussian_parts(event: GaussianLoss, factor: int) -> tuple[Fraction, Fraction]:
    """(mu^2, 0) of a Gaussian on the reals that is no more private, or (0, rho) where the bridge costs more than zCDP's conversion.

    Squares of mu, and rhos, add under composition.
    """
    l2_squared, scale = Fraction(event.l2_squared) * factor * factor, event.scale
    if event.domain == "reals":
        return l2_squared / (scale * scale), Fraction(0)
    variance = bridge_variance(scale, l2_squared)
    if (
        variance > Fraction(7, 8) * scale * scale
    ):  # less than the seven percent of epsilon that zCDP's conversion takes
        return l2_squared / variance, Fraction(0)
    return Fraction(0), l2_squared / (2 * scale * scale)


def gaussian_profile(mu_squared: Fraction) -> Profile:
    """Of Gaussian noise on the reals."""
    return _Gaussian(float_up(sqrt_up(mu_squared)))


def zcdp_profile(rho: Fraction) -> Profile:
    """Of anything symmetric that is rho-zCDP."""
    return _Zcdp(float_up(rho))


def discrete_gaussian_pair(scale: Fraction, shift: int) -> TablePair:
    """The exact profile of a scalar discrete Gaussian shifted by `shift` (claim 2 of `gaussian`)."""
    table = discrete_gaussian_table(scale, shift)
    zeros = np.zeros(shift)
    return pair_profile(np.append(zeros, table), np.append(table, zeros), symmetric=True)


def pair_profile(above: Floats, below: Floats, *, symmetric: bool = False) -> TablePair:
    """The profile of two tables of probabilities over the same outcomes.

    Args:
        above: Probabilities with the customer, shape (n,).
        below: Probabilities without, shape (n,).
        symmetric: The tables mirror each other, so that both directions are one.
    """
    return TablePair(np.asarray(above, dtype=np.float64), np.asarray(below, dtype=np.float64), symmetric)


def _randomized_response(event: RandomizedResponseLoss) -> Profile:
    low = float_down(event.noise / event.categories)
    high = float_up(1 - event.noise + event.noise / event.categories)
    return _Response(math.log(high / low) * (1 + 4 * ULP), high, low)


def _sampled(part: LossEvent, rate: Fraction, factor: int) -> Profile:
    share = float_up(rate)
    if factor == 1:
        whole = profile_of(part)
        return whole if rate == 1 else _Sampled(whole, share)
    if isinstance(part, GaussianLoss) and part.domain == "reals":
        mu = float_up(sqrt_up(part.l2_squared) / part.scale)
        return _SampledReplaceGaussian(mu, share) if rate < 1 else _Gaussian(2 * mu)
    raise InvalidArgument(
        f"part={part!r} must be continuous Gaussian noise for adjacency='replace'; use 'add_or_remove'"
    )
