r"""Gaussian noise exactly: the closed form on the reals, exact sums on the integers, and the bridge between them.

Claims:
    1. Reals, mu = l2 / sigma: delta(epsilon) = Phi(mu/2 - epsilon/mu) - e^epsilon Phi(-mu/2 - epsilon/mu), and it falls as sigma grows.
    2. Integers, one coordinate shifted by d: delta(epsilon) = P(Z >= c - d) - e^epsilon P(Z >= c) for the least integer c whose
       loss (2cd - d^2) / (2 sigma^2) exceeds epsilon.
    3. Integers, any vector shift with squared length l2^2 = n: delta(epsilon) is at most that of the reals with variance
       sigma^2 - s^2, s^2 = (60 + ln n) / (2 pi^2), plus 1e-24.

Argument:
    (1) Balle and Wang (2018), Theorem 8. Written with Mills' ratio R(x) = Phi(-x)/phi(x) it is phi(a) (R(a) - R(a + mu)), a =
    epsilon/mu - mu/2, which loses no digits where both terms are tiny. (2) Neyman and Pearson: the loss rises with the outcome.
    (3) Round a real y ~ N(d, sigma^2 - s^2) to an integer z with probability proportional to exp(-(z-y)^2 / (2 s^2)), coordinate by coordinate.
    By Poisson summation the normalising sum is s sqrt(2 pi) within a factor 1 +- eta, eta <= 2.01 e^(-2 pi^2 s^2) <= 2.01 e^-60 / n,
    wherever y lies, so z has, within that factor, a density that is a Gaussian of variance sigma^2 sampled at the integers: the discrete
    Gaussian. Rounding is post-processing; at most n coordinates move; (1 + eta)^(3n) - 1 < 1e-24.

Source:
    Balle and Wang (2018), https://arxiv.org/abs/1805.06530; Canonne, Kamath, Steinke (2020); the smoothing lemma of Micciancio and
    Regev (2007) and the convolution of Peikert (2010) for claim 3.
"""

import math
from collections.abc import Callable
from fractions import Fraction
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.special import erfcx, log_ndtr, ndtr

from dayfly.privacy.errors import InvalidArgument

from .rounding import Exact, float_down, float_up, positive_exact, probability, sqrt_up

__all__ = [
    "analytic_gaussian_scale",
    "bridge_variance",
    "delta_of_gaussian",
    "discrete_gaussian_table",
    "epsilon_of_gaussian",
    "gaussian_delta",
]

Floats = NDArray[np.float64]

_SQRT_HALF: Final = math.sqrt(0.5)
_MILLS: Final = math.sqrt(math.pi / 2)
ULP: Final = 2.0**-52
_STEPS: Final = 200


def gaussian_delta(mu: float, epsilon: Floats) -> Floats:
    """delta(epsilon) of Gaussian noise on the reals, rounded up, for any real epsilon.

    Assumes that `erfcx`, `ndtr` and `exp` of SciPy and NumPy are within eight units of the last place, and adds that error.

    Args:
        mu: l2 / sigma, rounded up.
        epsilon: Any shape.

    Returns:
        Upper bounds in [0, 1], same shape.
    """
    if mu <= 0:
        return np.maximum(0.0, -np.expm1(epsilon) * (1 + 4 * ULP))
    near, far = epsilon / mu - mu / 2, epsilon / mu + mu / 2
    with np.errstate(over="ignore", under="ignore"):
        density = np.exp(-np.square(near) / 2) / math.sqrt(2 * math.pi)
        ratio_near, ratio_far = (
            _MILLS * erfcx(np.abs(near) * _SQRT_HALF),
            _MILLS * erfcx(np.abs(far) * _SQRT_HALF),
        )
        tail = density * (
            (ratio_near - ratio_far) + (32 + 2 * np.square(near)) * ULP * (ratio_near + ratio_far)
        )
        # Left of the middle the first term is near one and nothing cancels.
        exponent = epsilon + log_ndtr(-far)
        middle = ndtr(-near) - np.exp(exponent) * (
            1 - (32 + 4 * np.abs(epsilon) + 4 * np.abs(exponent)) * ULP
        )
    return np.clip(np.where(near > 0, tail, middle + 16 * ULP), 0.0, 1.0)


def delta_of_gaussian(scale: Exact, l2_squared: Exact, epsilon: Exact) -> float:
    """delta(epsilon) of continuous Gaussian noise, rounded up (claim 1).

    Raises:
        InvalidArgument: `scale` or `l2_squared` is not above zero, or something is not exact.
    """
    mu = _mu_up(positive_exact("scale", scale), positive_exact("l2_squared", l2_squared))
    return float(gaussian_delta(mu, np.array([float_down(epsilon)]))[0])


def _mu_up(scale: Fraction, l2_squared: Fraction) -> float:
    return float_up(sqrt_up(l2_squared) / scale)


def epsilon_of_gaussian(scale: Exact, l2_squared: Exact, delta: Exact) -> float:
    """The least epsilon >= 0 with delta(epsilon) <= delta for continuous Gaussian noise, rounded up.

    Raises:
        InvalidArgument: `scale` or `l2_squared` is not above zero, `delta` is not in (0, 1], or something is not exact.
    """
    mu = _mu_up(positive_exact("scale", scale), positive_exact("l2_squared", l2_squared))
    target = float_down(_above_zero("delta", delta))
    high = 1.0
    while float(gaussian_delta(mu, np.array([high]))[0]) > target:
        high *= 2
    return _last(lambda epsilon: float(gaussian_delta(mu, np.array([epsilon]))[0]) <= target, 0.0, high)


def analytic_gaussian_scale(l2_squared: Exact, epsilon: Exact, delta: Exact) -> Fraction:
    """The least sigma of continuous Gaussian noise that is (epsilon, delta)-DP, rounded up (Balle and Wang's calibration).

    Raises:
        InvalidArgument: A parameter is not above zero or not exact, or `delta` is above 1.
    """
    length, e = sqrt_up(positive_exact("l2_squared", l2_squared)), positive_exact("epsilon", epsilon)
    target, e_down = float_down(_above_zero("delta", delta)), float_down(e)

    def holds(inverse_mu: float) -> bool:
        return float(gaussian_delta(float_up(1 / Fraction(inverse_mu)), np.array([e_down]))[0]) <= target

    high = 1.0
    while not holds(high):
        high *= 2
    return Fraction(_last(holds, 0.0, high)) * length


def _above_zero(name: str, value: object) -> Fraction:
    checked = probability(name, value)
    if checked == 0:
        raise InvalidArgument(
            f"{name}={value!r} must be > 0; Gaussian noise has no finite epsilon at delta 0"
        )
    return checked


def _last(holds: Callable[[float], bool], low: float, high: float) -> float:
    """The least float in (low, high] that was seen to hold; `high` must hold."""
    if low > 0 and holds(low):
        return low
    for _ in range(_STEPS):
        middle = (low + high) / 2
        if not low < middle < high:
            break
        low, high = (low, middle) if middle > 0 and holds(middle) else (middle, high)
    return high


def bridge_variance(scale: Fraction, l2_squared: Fraction) -> Fraction:
    """sigma^2 - s^2 of claim 3, rounded down; zero or less where sigma is too small for it."""
    coordinates = max(Fraction(1), l2_squared)
    natural = Fraction(int(coordinates).bit_length() * 7, 10)  # ln 2 < 0.7
    return scale * scale - (60 + natural) / Fraction(1973, 100)  # 2 pi^2 > 19.73


def discrete_gaussian_table(scale: Fraction, shift: int) -> Floats:
    """Probabilities of the discrete Gaussian on -r..r, r so wide that what is left out weighs below 1e-19, also shifted."""
    reach = math.ceil(10 * float_up(scale)) + shift + 2
    outcomes = np.arange(-reach, reach + 1, dtype=np.float64)
    weights = np.exp(-np.square(outcomes / float(scale)) / 2)
    return np.asarray(weights / math.fsum(weights))
