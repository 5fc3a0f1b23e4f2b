"""The sparse vector technique, for a claim of epsilon, as a mechanism outside our code; its historical mistakes are edits of it.

Lyu, Su and Li, "Understanding the Sparse Vector Technique for Differential Privacy" (VLDB 2017): algorithm 1 is the one here; 3 to
6 are those of other papers, and lose more than they claim.
"""

import numpy as np
from numpy.typing import NDArray

__all__ = ["above_threshold"]


def above_threshold(
    answers: NDArray[np.float64],
    draws: int,
    *,
    epsilon: float,
    cutoff: int,
    generator: np.random.Generator,
) -> NDArray[np.float64]:
    """Which of some queries of sensitivity 1 are at or above zero: 1 or 0, NaN after `cutoff` ones; shape (draws, queries)."""
    half = epsilon / 2
    threshold = generator.laplace(0, 1 / half, (draws, 1))
    noise = generator.laplace(0, 2 * cutoff / half, (draws, answers.size))
    noisy = answers + noise
    found = (noisy >= threshold).astype(np.float64)
    before = np.cumsum(found, axis=1) - found
    found[before >= cutoff] = np.nan
    return found
