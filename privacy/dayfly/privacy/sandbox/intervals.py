"""How far noise moves a number: half widths of confidence intervals, from the noise's own distribution.

Claim: a sum of `terms` independent noises of one scale lies within ``half_width`` of zero with probability at least ``1 -
alpha``. Argument, for one discrete Laplace noise with q = exp(-1/b): P(|Z| > w) = 2 q^(w+1) / (1 + q), solved for w. For a sum
of Laplace noises: Chernoff's bound with the generating function of the continuous kind, 1 / (1 - b^2 t^2), which is no smaller
than that of the discrete kind, minimised over a grid of t (any t is valid). Gaussian: the discrete kind is sub-Gaussian with the
same parameter (Canonne, Kamath, Steinke 2020, Proposition 25 and Corollary 9), so P(|Z| > w) <= 2 exp(-w^2 / (2 terms sigma^2));
where sigma is at least 2 one noise has a normal's tail to within one unit, and the normal's quantile plus one is used.
The intervals are of noise alone: what bounding leaves out is told by `preview()`.
"""

import math
from fractions import Fraction
from statistics import NormalDist
from typing import Final

from .planning import Mechanism

__all__ = ["half_width", "ratio_interval"]

_GRID: Final = tuple(step / 200 for step in range(1, 200))


def half_width(mechanism: Mechanism, scale: Fraction, alpha: float, *, terms: int = 1) -> float:
    """Half width of an interval that holds the noise.

    Args:
        mechanism: Kind of noise.
        scale: Of one noise.
        alpha: Probability that the noise is outside, in (0, 1).
        terms: Number of independent noises that were added.

    Returns:
        The half width, in the unit of the scale.
    """
    width = float(scale)
    if mechanism == "gaussian":
        if terms == 1 and width >= 2:
            return math.ceil(NormalDist().inv_cdf(1 - alpha / 2) * width + 1)
        return math.ceil(width * math.sqrt(2 * terms * math.log(2 / alpha)))
    if terms == 1:
        q = math.exp(-1 / width)
        tail = math.log(alpha * (1 + q) / 2) * -width
        return max(0, math.ceil(tail - 1))
    needed = math.log(2 / alpha)
    return width * min((needed - terms * math.log1p(-t * t)) / t for t in _GRID)


def ratio_interval(top: tuple[float, float], bottom: tuple[float, float]) -> tuple[float, float]:
    """Least and largest quotient of two intervals; the lower one is cut at 1, because a mean is over at least one row."""
    low, high = max(1.0, bottom[0]), max(1.0, bottom[1])
    quotients = [edge / divisor for edge in top for divisor in (low, high)]
    return min(quotients), max(quotients)
