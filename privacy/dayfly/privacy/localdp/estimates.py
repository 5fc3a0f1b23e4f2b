"""From how many reports support each category to how many people chose it.

Claim:
    When a report supports the true category with probability p and any other with probability q, the estimate
    `(supports - n q) / (p - q)` is unbiased, with variance `(c p (1-p) + (n-c) q (1-q)) / (p-q)^2` for a category that
    `c` of `n` people have.

Argument:
    Linearity of expectation; reports are independent, each a Bernoulli(p) or Bernoulli(q) for the category.

Source:
    Wang, Blocki, Li, Jha, USENIX Security 2017 ("pure" protocols, equations 1 and 2).
"""

from dataclasses import dataclass
from fractions import Fraction
from statistics import NormalDist
from typing import Self

import numpy as np
from numpy.typing import NDArray

from dayfly.privacy._check import positive
from dayfly.privacy.errors import InvalidArgument

__all__ = ["FrequencyEstimate"]


@dataclass(frozen=True, slots=True, eq=False)
class FrequencyEstimate:
    """How many people are in each category, as far as their reports tell.

    Attributes:
        categories: Names, in the order of the arrays.
        reports: Number of reports.
        counts: Unbiased estimates: float64 (categories,). They may be negative or exceed `reports`.
        standard_errors: Of the counts: float64 (categories,), at the estimated counts.
    """

    categories: tuple[str, ...]
    reports: int
    counts: NDArray[np.float64]
    standard_errors: NDArray[np.float64]

    @classmethod
    def decoded(
        cls,
        categories: tuple[str, ...],
        supports: NDArray[np.int64],
        reports: int,
        *,
        keep: Fraction,
        stray: Fraction,
    ) -> Self:
        """Decode support counts.

        Args:
            categories: Names.
            supports: int64 (categories,), how many reports support each; sums of several batches will do.
            reports: Number of reports in them.
            keep: Probability that a report supports the true category.
            stray: Probability that it supports another given one.

        Raises:
            InvalidArgument: No reports, or supports that so many reports cannot give.
        """
        positive(reports=reports)
        if supports.shape != (len(categories),) or supports.min() < 0 or supports.max() > reports:
            raise InvalidArgument(
                f"supports={supports!r} must be {len(categories)} counts in [0, {reports}]; add up `supports` of each batch"
            )
        p, q, gap = float(keep), float(stray), float(keep - stray)
        counts: NDArray[np.float64] = (supports.astype(np.float64) - reports * q) / gap
        plausible = np.clip(counts, 0, reports)
        variance = plausible * p * (1 - p) + (reports - plausible) * q * (1 - q)
        errors: NDArray[np.float64] = np.sqrt(variance) / gap
        return cls(categories, reports, counts, errors)

    def interval(self, confidence: float = 0.95) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Lower and upper ends that each cover the true count with about this probability (normal approximation).

        Raises:
            InvalidArgument: A confidence outside (0, 1).
        """
        if not 0 < confidence < 1:
            raise InvalidArgument(f"confidence={confidence!r} must lie in (0, 1); pass 0.95 for 95 %")
        half = NormalDist().inv_cdf((1 + confidence) / 2) * self.standard_errors
        return self.counts - half, self.counts + half

    def count(self, category: str) -> float:
        """The estimate of one category.

        Raises:
            InvalidArgument: Not one of the categories.
        """
        if category not in self.categories:
            raise InvalidArgument(
                f"category={category!r} must be one of {self.categories!r}; ask for one of these"
            )
        return float(self.counts[self.categories.index(category)])
