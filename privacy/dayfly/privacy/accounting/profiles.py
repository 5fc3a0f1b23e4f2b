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
from fractions import Fraction
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from dayfly.privacy.errors import InvalidArgument

from .gaussian import ULP, bridge_variance, discrete_gaussian_table
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
from .shapes import (
    GaussianProfile,
    LaplaceProfile,
    LeakyProfile,
    Profile,
    ReplacedGaussianProfile,
    ResponseProfile,
    SampledProfile,
    TablePair,
    ZcdpProfile,
)

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

_EXACT_SCALE: Final = 64
"""Up to this sigma a scalar discrete Gaussian is summed, not bridged."""


def _pure(epsilon: Fraction) -> ResponseProfile:
    above = float_up(epsilon)
    high = 1 / (1 + math.exp(-above)) if above < 700 else 1.0
    return ResponseProfile(above, high, math.exp(-above) * high if above < 700 else 0.0)


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
            return LaplaceProfile(
                float_up(event.epsilon * factor), int(event.l1) * factor if event.domain == "integers" else 0
            )
        case GaussianLoss():
            return _gaussian(event, factor)
        case PureLoss(epsilon):
            return _pure(epsilon * factor)
        case ApproxLoss(epsilon, delta) if factor == 1:
            return LeakyProfile(_pure(epsilon), float_up(delta))
        case RandomizedResponseLoss():
            return _randomized_response(event)
        case ThresholdLoss(noise, delta) if factor == 1:
            return LeakyProfile(profile_of(noise), float_up(delta))
        case ZcdpLoss(rho, delta) if factor == 1:
            return LeakyProfile(ZcdpProfile(float_up(rho)), float_up(Fraction(delta)))
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
    return GaussianProfile(float_up(sqrt_up(mu_squared)))


def zcdp_profile(rho: Fraction) -> Profile:
    """Of anything symmetric that is rho-zCDP."""
    return ZcdpProfile(float_up(rho))


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
    return ResponseProfile(math.log(high / low) * (1 + 4 * ULP), high, low)


def _sampled(part: LossEvent, rate: Fraction, factor: int) -> Profile:
    share = float_up(rate)
    if factor == 1:
        whole = profile_of(part)
        return whole if rate == 1 else SampledProfile(whole, share)
    if isinstance(part, GaussianLoss) and part.domain == "reals":
        mu = float_up(sqrt_up(part.l2_squared) / part.scale)
        return ReplacedGaussianProfile(mu, share) if rate < 1 else GaussianProfile(2 * mu)
    raise InvalidArgument(
        f"part={part!r} must be continuous Gaussian noise for adjacency='replace'; use 'add_or_remove'"
    )
