"""Randomised response over k categories."""

from dataclasses import dataclass, field
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from dayfly.privacy.accounting import PureLoss

from .coins import RandomBytes, draw, odds_of, share
from .estimates import FrequencyEstimate
from .mechanism import checked, histogram, index_of

__all__ = ["RandomizedResponse"]


@dataclass(frozen=True, slots=True)
class RandomizedResponse:
    """The true category with the highest allowed odds, each other one alike (Warner 1965; k-ary: Kairouz et al. 2016).

    Attributes:
        categories: What a person can choose from; public.
        epsilon: Loss of one report, an exact number in (0, 64].
        precision_bytes: Random bytes of a report, 1 to 8.

    Raises:
        InvalidArgument: Fewer than two or repeated categories, or an epsilon or precision out of range.

    Guarantees:
        Claim: a report is epsilon-DP for any two values. Argument: the true category has `2^b - (k-1) w` of 2^b
        equally likely draws and each other `w`; the ratio of any two probabilities is 1 or that ratio or its inverse, which
        `coins.share` keeps at most e^epsilon. Precondition: even, independent random bytes.
    """

    categories: tuple[str, ...]
    epsilon: Fraction | int
    precision_bytes: int = 8
    _share: int = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        checked(self.categories, self.precision_bytes)
        others = len(self.categories) - 1
        object.__setattr__(self, "_share", share(odds_of(self.epsilon), others, 8 * self.precision_bytes))

    @property
    def loss(self) -> PureLoss:
        """What one report costs."""
        return PureLoss(Fraction(self.epsilon))

    @property
    def keep(self) -> Fraction:
        """Probability of the true category, exactly."""
        return 1 - (len(self.categories) - 1) * self.stray

    @property
    def stray(self) -> Fraction:
        """Probability of another given category, exactly."""
        return Fraction(self._share, 1 << 8 * self.precision_bytes)

    def encode(self, category: str, random_bytes: RandomBytes) -> int:
        """One person's report: the index of a category.

        Raises:
            InvalidArgument: An unknown category, or a random source that gives too few bytes.
        """
        true = index_of(self.categories, category)
        other = draw(random_bytes, self.precision_bytes) // self._share
        if other >= len(self.categories) - 1:
            return true
        return other + (other >= true)

    def supports(self, reports: NDArray[np.int64]) -> NDArray[np.int64]:
        """How many reports support each category: int64 (categories,).

        Raises:
            InvalidArgument: No integers, or one that is no category.
        """
        return histogram(reports, len(self.categories))

    def estimate(self, supports: NDArray[np.int64], reports: int) -> FrequencyEstimate:
        """Decode support counts of `reports` reports; those of several batches add up."""
        return FrequencyEstimate.decoded(self.categories, supports, reports, keep=self.keep, stray=self.stray)
