"""A cubic in integers that stands for the inverse link, and the exact bound of what it makes of a score.

Claim: `largest_residual` is the largest |P(t) - y| over all integer scores t within the limit and all labels y.
Argument: it is tried for every such integer, in Python's integers; there are a few thousand.
"""

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

__all__ = ["EVERYWHERE", "MOST_SCORES", "integers", "largest_residual", "value"]

Floats = NDArray[np.float64]
MOST_SCORES: Final = 1 << 18
"""Largest limit of a score, in integers."""
_DEGREE: Final = 3
_POINTS: Final = 401
EVERYWHERE: Final = 0.02
"""Weight of scores that hardly occur: they bound the residual, and with it the noise."""


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
    offset: float,
    mean: float,
    deviation: float,
    *,
    limit: float,
    score_bits: int,
    bits: int,
    everywhere: float = EVERYWHERE,
) -> tuple[int, ...]:
    """A cubic in integers near sigmoid(offset + t), for integer scores t 2^-score_bits, in units of 2^-bits.

    Over normal scores, it has the sigmoid's mean and its mean product with the score, so that normal scores give an unbiased model (Stein's
    lemma). What freedom is left brings it near the sigmoid, also where there are hardly any scores. The highest coefficients are rounded
    first, and the two lowest make up for that.

    Args:
        offset: The intercept.
        mean: Of the scores, about.
        deviation: Of the scores, about.
        limit: Largest score.
        score_bits: Binary places of a score.
        bits: Binary places of the value.
        everywhere: Weight of scores that hardly occur, beside 1 for the usual ones.
    """
    grid = np.linspace(-limit, limit, _POINTS)
    mean, deviation = min(max(mean, -limit), limit), max(deviation, 2 * limit / _POINTS)  # seen by the grid
    normal = np.exp(-0.5 * ((grid - mean) / deviation) ** 2)
    normal = normal / normal.sum()
    design = np.vander(grid, _DEGREE + 1, increasing=True)
    exact = expit(offset + grid)
    moments = np.stack([normal, normal * grid])
    weight = normal / normal.max() + everywhere
    # Least squares under two linear conditions: the solution of the conditions for their multipliers, too.
    left = np.block(
        [[design.T * weight @ design, (moments @ design).T], [moments @ design, np.zeros((2, 2))]]
    )
    solution = np.linalg.lstsq(left, np.concatenate([design.T * weight @ exact, moments @ exact]))[0]
    units = 2.0 ** (bits - score_bits * np.arange(_DEGREE + 1))
    found = np.zeros(_DEGREE + 1)
    found[2:] = np.rint(solution[2 : _DEGREE + 1] * units[2:])
    rest = exact - design[:, 2:] @ (found[2:] / units[2:])
    slope = np.linalg.solve(moments @ design[:, :2], moments @ rest)[1]
    found[1] = np.rint(slope * units[1])
    found[0] = np.rint(float(normal @ (rest - grid * found[1] / units[1])) * units[0])
    return tuple(int(number) for number in found)
