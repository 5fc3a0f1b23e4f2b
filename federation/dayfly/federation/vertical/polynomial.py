"""A cubic in integers that stands for the inverse link, and the exact bound of what it makes of a score.

Claim: `largest_residual` is the largest |P(t) - y| over all integer scores t within the limit and all labels y.
Argument: it is tried for every such integer, in Python's integers; there are a few thousand.
"""

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

__all__ = ["MOST_SCORES", "integers", "largest_residual", "value"]

Floats = NDArray[np.float64]
MOST_SCORES: Final = 1 << 18
"""Largest limit of a score, in integers."""
_POINTS: Final = 401
_EVERYWHERE: Final = (
    0.02  # weight of scores that hardly occur: they bound the residual, and with it the noise
)


def value(coefficients: Sequence[int], score: int) -> int:
    """P(score), exactly; constant first."""
    found = 0
    for coefficient in reversed(coefficients):
        found = found * score + coefficient
    return found


def largest_residual(coefficients: Sequence[int], limit: int, labels: tuple[int, int]) -> int:
    """Largest |P(t) - y| over integers |t| <= limit and the lowest and highest label.

    Args:
        coefficients: Of P, constant first.
        limit: Of the score.
        labels: Lowest and highest, in the unit of P.
    """
    found = [value(coefficients, score) for score in range(-limit, limit + 1)]
    return max(max(found) - labels[0], labels[1] - min(found), 0)


def integers(
    offset: float, mean: float, deviation: float, *, limit: float, score_bits: int, bits: int
) -> tuple[int, ...]:
    """The cubic in integers nearest to sigmoid(offset + t) for integer scores t 2^-score_bits, in units of 2^-bits.

    The highest coefficient is rounded first, and those below it make up for that as well as they can.

    Args:
        offset: The intercept.
        mean: Of the scores, about.
        deviation: Of the scores, about; they are weighted as if they were normal.
        limit: Largest score.
        score_bits: Binary places of a score.
        bits: Binary places of the value.
    """
    grid = np.linspace(-limit, limit, _POINTS)
    weight = np.exp(-0.5 * ((grid - mean) / deviation) ** 2)
    root = np.sqrt(weight / weight.max() + _EVERYWHERE)
    left = expit(offset + grid)
    found: list[int] = []
    for power in (3, 2, 1, 0):
        design = np.vander(grid, power + 1, increasing=True)
        solution, *_ = np.linalg.lstsq(design * root[:, None], left * root, rcond=None)
        unit = 2.0 ** (bits - power * score_bits)
        found.append(round(float(solution[power]) * unit))
        left = left - found[-1] / unit * grid**power
    return tuple(reversed(found))
