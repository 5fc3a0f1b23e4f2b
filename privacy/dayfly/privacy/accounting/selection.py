"""Which keys may be shown: thresholds on noisy values, and the optimal selection by a truncated geometric distribution.

Claims:
    1. A release that shows only keys whose noisy value is at least `threshold` shows a key that only one neighbour has with probability at
       most `threshold_delta(...)`; but for that event its loss is that of the noise.
    2. `KeySelection` is (epsilon, delta)-DP for customers with at most l0 keys each, and keeps every key with the largest probability that
       any such rule can have, up to the last of 64 bits.

Precondition:
    A customer has at most l0 keys, and changes each value by at most linf; a key that no customer has is never offered.

Argument:
    (1) A key of one customer alone has a value of at most linf, and is shown with probability at most p = P(Z >= threshold - linf); its
    noise is independent of the others', so some of at most l0 are shown with probability at most 1 - (1 - p)^l0.
    Discrete Laplace: P(Z >= t) = q^t / (1 + q) for t >= 1, q = e^(-1/b). Discrete Gaussian: summed for small sigma; else at most
    Phi(-(t - 1/2)/sigma) where the density is convex, because there a value is at most the mean over its unit interval, and the
    normalising sum is at least sigma sqrt(2 pi) (Poisson). OpenDP's map of a threshold on integers counts P(Z > threshold - linf), which is
    too small, because it shows a value that equals the threshold: a test draws it. Dayfly therefore charges this module's delta.
    (2) pi(0) = 0, pi(n+1) = min(1, e^eps pi(n) + delta, 1 - e^-eps (1 - pi(n) - delta)) with eps = epsilon / l0, delta / l0 is the
    largest sequence that keeps the four inequalities of (eps, delta)-DP; here every step rounds down, which keeps them, and basic
    composition over l0 keys does the rest.

Source:
    Rogers (2023), "A Unifying Privacy Analysis Framework for Unknown Domain Algorithms"; Desfontaines, Voss, Gipson, Mandayam (2022),
    "Differentially private partition selection", Theorem 1.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri

from dayfly.privacy.errors import InvalidArgument

from .losses import ApproxLoss, GaussianLoss, LaplaceLoss, ThresholdLoss
from .rounding import Exact, coarse_up, exact, exp_down, exp_up, positive_exact, probability

__all__ = ["KeySelection", "smallest_threshold", "tail_probability", "threshold_delta", "threshold_loss"]

Noise = LaplaceLoss | GaussianLoss

_SUMMED_SCALE: Final = 64
_MOST_COUNTS: Final = 1 << 20
_WORD: Final = 1 << 64


def tail_probability(noise: Noise, at_least: Exact) -> Fraction:
    """P(noise >= at_least), rounded up.

    Args:
        noise: Which noise; its sensitivity plays no role.
        at_least: A whole number of lattice units, or any number for noise on the reals.
    """
    edge = exact("at_least", at_least)
    if noise.domain == "integers":
        edge = Fraction(math.ceil(edge))
    if isinstance(noise, LaplaceLoss):
        return min(Fraction(1), coarse_up(_laplace_tail(noise, edge)))
    return min(Fraction(1), Fraction(_gaussian_tail(noise, edge)))


def _laplace_tail(noise: LaplaceLoss, edge: Fraction) -> Fraction:
    if noise.domain == "reals":
        return exp_up(-edge / noise.scale) / 2 if edge >= 0 else 1 - exp_down(edge / noise.scale) / 2
    whole = 1 + exp_down(-1 / noise.scale)
    if edge >= 1:
        return exp_up(-edge / noise.scale) / whole
    return 1 - exp_down((edge - 1) / noise.scale) / (1 + exp_up(-1 / noise.scale))


def _gaussian_tail(noise: GaussianLoss, edge: Fraction) -> float:
    sigma = float(noise.scale)
    if noise.domain == "reals":
        return _raised(float(ndtr(-float(edge) / sigma)))
    if noise.scale <= _SUMMED_SCALE:
        return _summed_tail(sigma, int(edge))
    if edge <= 0:
        return 1.0 if edge < 0 else 0.5 + 0.4 / sigma  # P(Z = 0) <= 1 / (sigma sqrt(2 pi)) splits around zero
    shift = 0.5 if edge - Fraction(1, 2) >= noise.scale else 1.0
    return _raised(float(ndtr(-(float(edge) - shift) / sigma)))


def _summed_tail(sigma: float, edge: int) -> float:
    reach = math.ceil(12 * sigma) + 2
    weights = np.exp(-np.square(np.arange(-reach, reach + 1) / sigma) / 2)
    above = math.fsum(weights[max(0, edge + reach) :]) if edge <= reach else 0.0
    return _raised(above / math.fsum(weights)) + 1e-31


def _raised(value: float) -> float:
    return min(1.0, value * (1 + 1e-12))


def threshold_delta(noise: Noise, threshold: Exact, *, l0: int, linf: Exact) -> Fraction:
    """Probability, rounded up, that a key of one customer alone is shown (claim 1).

    Raises:
        InvalidArgument: `l0` is below one, or `linf` negative or not exact.
    """
    _positive_count("l0", l0)
    if exact("linf", linf) < 0:
        raise InvalidArgument(
            f"linf={linf!r} must be >= 0; pass the largest value of one customer in one key"
        )
    one = tail_probability(noise, exact("threshold", threshold) - linf)
    return min(coarse_up(1 - (1 - one) ** l0), one * l0) if l0 <= 1 << 12 else min(Fraction(1), one * l0)


def _positive_count(name: str, value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise InvalidArgument(
            f"{name}={value!r} must be an integer >= 1; pass the most keys that one customer has"
        )
    return value


def smallest_threshold(noise: Noise, delta: Exact, *, l0: int, linf: int) -> int:
    """The least whole threshold above `linf` with `threshold_delta(...) <= delta`.

    A closed form gives a first guess; exact checks move it by the few units that rounding and the bounds leave.

    Raises:
        InvalidArgument: `delta` is not in (0, 1), or a count is not positive.
    """
    target = probability("delta", delta)
    if not 0 < target < 1:
        raise InvalidArgument(
            f"delta={delta!r} must lie in (0, 1); pass a small probability such as Fraction('1e-8')"
        )
    _positive_count("linf", linf)
    share = float(target) / _positive_count("l0", l0)
    if isinstance(noise, LaplaceLoss):
        reach = float(noise.scale) * -math.log(2 * share) if share < 0.5 else 0.0
    else:
        reach = float(noise.scale) * float(-ndtri(share)) if share < 0.5 else 0.0

    def holds(threshold: int) -> bool:
        return threshold_delta(noise, threshold, l0=l0, linf=linf) <= target

    high, stride = max(linf + 1, linf + math.floor(reach)), 1
    while not holds(high):
        high, stride = high + stride, 2 * stride
    low, stride = high, 1
    while low > linf + 1 and holds(max(linf + 1, low - stride)):
        low, stride = max(linf + 1, low - stride), 2 * stride
    low, high = max(linf, low - stride), low
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if holds(middle) else (middle, high)
    return high


def threshold_loss(noise: Noise, threshold: int, *, l0: int, linf: int) -> ThresholdLoss:
    """The loss event of a release that shows noisy values from `threshold` on."""
    return ThresholdLoss(noise, threshold_delta(noise, threshold, l0=l0, linf=linf))


@dataclass(frozen=True)
class KeySelection:
    """Keeps keys by their number of customers, with the largest probability that (epsilon, delta)-DP allows (claim 2).

    Attributes:
        epsilon: Of the whole selection.
        delta: Of the whole selection.
        l0: Most keys of one customer.

    Raises:
        InvalidArgument: A parameter is out of range or not exact, or the parameters need more than a million counts.
    """

    epsilon: Fraction
    delta: Fraction
    l0: int = 1

    def __post_init__(self) -> None:
        object.__setattr__(self, "epsilon", positive_exact("epsilon", self.epsilon))
        object.__setattr__(self, "delta", positive_exact("delta", probability("delta", self.delta)))
        _positive_count("l0", self.l0)

    @property
    def loss(self) -> ApproxLoss:
        """What one selection costs."""
        return ApproxLoss(self.epsilon, self.delta)

    @cached_property
    def _numerators(self) -> list[int]:
        """Numerators over 2^64 of the keep probabilities of 0, 1, 2, ... customers, up to the first that is kept always."""
        epsilon, delta = self.epsilon / self.l0, self.delta / self.l0
        growth, shrink = exp_down(epsilon), exp_up(-epsilon)
        kept = [0]
        while kept[-1] < _WORD:
            now = Fraction(kept[-1], _WORD)
            following = min(Fraction(1), growth * now + delta, 1 - shrink * (1 - now - delta))
            kept.append(math.floor(following * _WORD))
            if len(kept) > _MOST_COUNTS or kept[-1] <= kept[-2]:
                raise InvalidArgument(
                    f"epsilon={self.epsilon!r} delta={self.delta!r} l0={self.l0!r} must keep keys of a million customers; "
                    "pass larger ones, or bound l0 lower"
                )
        return kept

    def keep_probability(self, customers: int) -> Fraction:
        """Exact probability that a key of so many customers is kept.

        Raises:
            InvalidArgument: A negative number.
        """
        if customers < 0:
            raise InvalidArgument(f"customers={customers!r} must be >= 0; pass a number of customers")
        return Fraction(self._numerators[min(customers, len(self._numerators) - 1)], _WORD)

    def select(self, customers: NDArray[np.int64], random_bytes: Callable[[int], bytes]) -> NDArray[np.bool_]:
        """Which keys are kept.

        Args:
            customers: Number of customers of each key, shape (keys,).
            random_bytes: Secret randomness, eight bytes per key.

        Returns:
            Shape (keys,).

        Raises:
            InvalidArgument: A negative number.

        Guarantees:
            (epsilon, delta)-DP for customers with at most `l0` keys; each coin is exact to the last of 64 bits.
        """
        if customers.size and int(customers.min()) < 0:
            raise InvalidArgument(
                f"customers={int(customers.min())!r} must be >= 0; pass numbers of customers"
            )
        table = self._numerators
        always = len(table) - 1
        limits = np.array(table[:-1], dtype=np.uint64)
        coins = np.frombuffer(random_bytes(8 * customers.size), dtype="<u8")
        return np.asarray((customers >= always) | (coins < limits[np.minimum(customers, always - 1)]))
