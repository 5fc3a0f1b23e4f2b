"""How far noise reaches: half-widths of confidence intervals and variances, rounded outwards.

Claim:
    P(|noise| <= half_width(noise, alpha)) >= 1 - alpha, and on the integers no smaller whole half-width is returned than needed.

Argument:
    Twice the upper tail of `selection.tail_probability`, which is rounded up; noise is symmetric. On the reals: -b ln alpha for Laplace,
    and the normal quantile, each raised.

Source:
    Inusah and Kozubowski (2006) for the discrete Laplace; Canonne, Kamath, Steinke (2020) for the discrete Gaussian, whose variance is at
    most sigma^2.
"""

import math
from fractions import Fraction

from scipy.special import ndtri

from dayfly.privacy.errors import InvalidArgument

from .losses import GaussianLoss, LaplaceLoss
from .rounding import Exact, coarse_up, exact, exp_down, exp_up, ln_up
from .selection import tail_probability

__all__ = ["half_width", "noise_variance"]

Noise = LaplaceLoss | GaussianLoss


def half_width(noise: Noise, alpha: Exact) -> Fraction:
    """Distance that the noise exceeds with probability at most `alpha`, in lattice units.

    Args:
        noise: Which noise; its sensitivity plays no role.
        alpha: One minus the confidence level, in (0, 1).

    Returns:
        A whole number for noise on the integers.

    Raises:
        InvalidArgument: `alpha` is not exact or not in (0, 1).
    """
    miss = exact("alpha", alpha)
    if not 0 < miss < 1:
        raise InvalidArgument(
            f"alpha={alpha!r} must lie in (0, 1); pass Fraction(1, 20) for 95 percent intervals"
        )
    if isinstance(noise, LaplaceLoss):
        reach = noise.scale * ln_up(1 / miss)
    else:
        reach = noise.scale * Fraction(-float(ndtri(float(miss) / 2))) * (1 + Fraction(1, 1 << 44))
    if noise.domain == "reals":
        return reach
    return Fraction(_least_whole(noise, miss, math.ceil(reach)))


def _least_whole(noise: Noise, miss: Fraction, guess: int) -> int:
    def holds(reach: int) -> bool:
        return 2 * tail_probability(noise, reach + 1) <= miss

    while not holds(guess):
        guess += 1
    while guess > 0 and holds(guess - 1):
        guess -= 1
    return guess


def noise_variance(noise: Noise) -> Fraction:
    """Variance, rounded up: 2q/(1-q)^2 for the discrete Laplace with q = e^(-1/b), 2 b^2 on the reals, sigma^2 for Gaussians."""
    if isinstance(noise, GaussianLoss):
        return noise.scale * noise.scale
    if noise.domain == "reals":
        return 2 * noise.scale * noise.scale
    unit = 1 / noise.scale
    # 2q/(1-q)^2 = 2/(e^(a/2) - e^(-a/2))^2 is below 2 b^2.
    return min(2 * noise.scale * noise.scale, coarse_up(2 / (exp_down(unit / 2) - exp_up(-unit / 2)) ** 2))
