"""How far noise moves a number: half widths of confidence intervals, from the noise's own distribution.

Claim: a sum of `terms` independent noises of one scale, each counted at most once, lies within ``half_width`` of zero with probability
at least ``1 - alpha``. Argument: one noise, `dayfly.privacy.accounting.intervals`. A sum of Laplace noises: Chernoff's bound with the
generating function of the continuous kind, 1 / (1 - b^2 t^2), which is no smaller than that of the discrete kind, because (cosh x - 1) /
x^2 grows; any t in (0, 1/b) is valid, so a grid of them is. A sum of Gaussian noises: the discrete kind is sub-Gaussian with the
same parameter (Canonne, Kamath, Steinke 2020, section 2.2), so P(|sum| > w) <= 2 exp(-w^2 / (2 terms sigma^2)).
The intervals are of noise alone: what bounding leaves out is told by `preview()`.
"""

import math
from fractions import Fraction
from functools import lru_cache
from typing import Final

from dayfly.privacy.accounting import GaussianLoss, LaplaceLoss
from dayfly.privacy.accounting.intervals import half_width as one_half_width

__all__ = ["half_width"]

_GRID: Final = tuple(step / 200 for step in range(1, 200))


@lru_cache(maxsize=1024)
def half_width(noise: LaplaceLoss | GaussianLoss, alpha: float, *, terms: int = 1) -> float:
    """Half width of an interval that holds the noise.

    Args:
        noise: Kind and scale of one noise.
        alpha: Probability that the noise is outside, in (0, 1).
        terms: Number of independent noises that were added.

    Returns:
        The half width, in lattice units.
    """
    if terms == 1:
        return float(one_half_width(noise, Fraction(alpha)))
    width, needed = float(noise.scale), math.log(2 / alpha)
    if isinstance(noise, GaussianLoss):
        return width * math.sqrt(2 * terms * needed)
    return width * min((needed - terms * math.log1p(-t * t)) / t for t in _GRID)
