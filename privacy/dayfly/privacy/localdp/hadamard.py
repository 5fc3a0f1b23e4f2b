"""Hadamard response: one word of log2(k) bits."""

from dataclasses import dataclass, field
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from dayfly.privacy.accounting import PureLoss

from .coins import RandomBytes, draw, odds_of, share
from .estimates import FrequencyEstimate
from .mechanism import checked, histogram, index_of

__all__ = ["HadamardResponse"]


@dataclass(frozen=True, slots=True)
class HadamardResponse:
    """One of K words, mostly from the half that the true category's Hadamard row marks (Acharya, Sun, Zhang 2019).

    K is the smallest power of two above the number of categories.

    Attributes:
        categories: What a person can choose from; public.
        epsilon: Loss of one report, an exact number in (0, 64].
        precision_bytes: Random bytes of the coin, 1 to 8; as many as K needs are drawn besides.

    Raises:
        InvalidArgument: Fewer than two or repeated categories, or an epsilon or precision out of range.

    Guarantees:
        Claim: a report is epsilon-DP for any two values. Argument: for every value, half of the K words have probability
        `2 p / K` and half `2 (1-p) / K`; the ratio p / (1-p) is kept at most e^epsilon by `coins.share`. A word is drawn
        evenly, and where its parity with the row is not what the coin asked for, one bit in which the row is one is
        flipped: a bijection between the halves, so each half is even. Precondition: even, independent random bytes.
    """

    categories: tuple[str, ...]
    epsilon: Fraction | int
    precision_bytes: int = 8
    _share: int = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        checked(self.categories, self.precision_bytes)
        object.__setattr__(self, "_share", share(odds_of(self.epsilon), 1, 8 * self.precision_bytes))

    @property
    def words(self) -> int:
        """K."""
        return 1 << len(self.categories).bit_length()

    @property
    def loss(self) -> PureLoss:
        """What one report costs."""
        return PureLoss(Fraction(self.epsilon))

    @property
    def keep(self) -> Fraction:
        """Probability that a report is in the half of the true category, exactly."""
        return 1 - Fraction(self._share, 1 << 8 * self.precision_bytes)

    @property
    def stray(self) -> Fraction:
        """Probability that a report is in the half of another given category: two different rows agree on half."""
        return Fraction(1, 2)

    def encode(self, category: str, random_bytes: RandomBytes) -> int:
        """One person's report: a word below K.

        Raises:
            InvalidArgument: An unknown category, or a random source that gives too few bytes.
        """
        row = index_of(self.categories, category) + 1
        word_bytes = -(-(self.words.bit_length() - 1) // 8)
        word = draw(random_bytes, word_bytes) & (self.words - 1)
        outside = draw(random_bytes, self.precision_bytes) < self._share
        wrong = ((word & row).bit_count() & 1) != outside
        return word ^ ((row & -row) if wrong else 0)

    def supports(self, reports: NDArray[np.int64]) -> NDArray[np.int64]:
        """How many reports are in the half of each category: int64 (categories,), by a fast Walsh-Hadamard transform.

        Raises:
            InvalidArgument: No integers, or one that is no word.
        """
        sums = histogram(reports, self.words)
        step = 1
        while step < self.words:
            pairs = sums.reshape(-1, 2, step)
            sums = np.stack([pairs[:, 0] + pairs[:, 1], pairs[:, 0] - pairs[:, 1]], axis=1).reshape(-1)
            step *= 2
        supports: NDArray[np.int64] = (len(reports) + sums[1 : len(self.categories) + 1]) // 2
        return supports

    def estimate(self, supports: NDArray[np.int64], reports: int) -> FrequencyEstimate:
        """Decode support counts of `reports` reports; those of several batches add up."""
        return FrequencyEstimate.decoded(self.categories, supports, reports, keep=self.keep, stray=self.stray)
