"""Mechanisms that make an answer private before it leaves the device.

| mechanism | report | least variance of a rare category, n reports | take it when |
| --- | --- | --- | --- |
| `RandomizedResponse` | a category | n (k - 2 + e) / (e - 1)^2 | categories k < 3 e + 2 |
| `UnaryEncoding` | one bit per category | 4 n e / (e - 1)^2 | categories are many, reports may be long |
| `HadamardResponse` | log2(k) bits | n ((e + 1) / (e - 1))^2 | reports must be short, or epsilon is small |

with e = e^epsilon. The unit of privacy is one report: any two values that a person could have are epsilon-indistinguishable
from it. A person who reports m times has spent m epsilon, also when the value was the same.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from dayfly.privacy._check import in_range
from dayfly.privacy.accounting import PureLoss
from dayfly.privacy.accounting.rounding import sqrt_down
from dayfly.privacy.errors import InvalidArgument

from .coins import RandomBytes, draw, odds_of, share
from .estimates import FrequencyEstimate

__all__ = ["HadamardResponse", "LocalMechanism", "RandomizedResponse", "UnaryEncoding"]

_MOST_CATEGORIES: Final = 1 << 20
_CHUNK: Final = 4_096


class LocalMechanism(Protocol):
    """What the mechanisms share. Reports are integers, or bytes for `UnaryEncoding`."""

    @property
    def categories(self) -> tuple[str, ...]:
        """What a person can choose from; public."""
        ...

    @property
    def loss(self) -> PureLoss:
        """What one report costs."""
        ...

    @property
    def keep(self) -> Fraction:
        """Probability that a report supports the true category, exactly."""
        ...

    @property
    def stray(self) -> Fraction:
        """Probability that a report supports another given category, exactly."""
        ...

    def estimate(self, supports: NDArray[np.int64], reports: int) -> FrequencyEstimate:
        """Decode support counts of `reports` reports; those of several batches add up."""
        ...


def _checked(categories: object, precision_bytes: int) -> None:
    if not isinstance(categories, tuple):
        raise InvalidArgument(f"categories={categories!r} must be a tuple; pass a tuple of strings")
    in_range(2, _MOST_CATEGORIES, categories=len(categories))
    if len(set(categories)) != len(categories):
        raise InvalidArgument(f"categories={categories!r} must differ; leave duplicates out")
    in_range(1, 8, precision_bytes=precision_bytes)


def _index(categories: tuple[str, ...], category: str) -> int:
    try:
        return categories.index(category)
    except ValueError:
        raise InvalidArgument(
            f"category={category!r} must be one of {categories!r}; map what is unknown to a category of its own first"
        ) from None


def _histogram(reports: NDArray[np.int64], size: int) -> NDArray[np.int64]:
    if not isinstance(reports, np.ndarray) or reports.ndim != 1 or reports.dtype.kind not in "iu":
        kind = getattr(reports, "dtype", type(reports).__name__)
        raise InvalidArgument(
            f"reports={kind} must be a one-dimensional integer array; collect them into one"
        )
    wrong = np.flatnonzero((reports < 0) | (reports >= size))
    if wrong.size:
        raise InvalidArgument(
            f"reports[{wrong[0]}]={int(reports[wrong[0]])!r} must lie in [0, {size - 1}]; drop reports of other mechanisms"
        )
    return np.bincount(reports, minlength=size).astype(np.int64)


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
        _checked(self.categories, self.precision_bytes)
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
        true = _index(self.categories, category)
        other = draw(random_bytes, self.precision_bytes) // self._share
        if other >= len(self.categories) - 1:
            return true
        return other + (other >= true)

    def supports(self, reports: NDArray[np.int64]) -> NDArray[np.int64]:
        """How many reports support each category: int64 (categories,).

        Raises:
            InvalidArgument: No integers, or one that is no category.
        """
        return _histogram(reports, len(self.categories))

    def estimate(self, supports: NDArray[np.int64], reports: int) -> FrequencyEstimate:
        """Decode support counts of `reports` reports; those of several batches add up."""
        return FrequencyEstimate.decoded(self.categories, supports, reports, keep=self.keep, stray=self.stray)


@dataclass(frozen=True, slots=True)
class UnaryEncoding:
    """One noisy bit per category (RAPPOR's idea; optimised: Wang, Blocki, Li, Jha 2017).

    Attributes:
        categories: What a person can choose from; public.
        epsilon: Loss of one report, an exact number in (0, 64].
        symmetric: Flip ones and zeros alike (RAPPOR); else keep ones half the time and zeros as often as allowed,
            which has the least variance for rare categories.
        precision_bytes: Random bytes per bit, 1 to 8.

    Raises:
        InvalidArgument: Fewer than two or repeated categories, or an epsilon or precision out of range.

    Guarantees:
        Claim: a report is epsilon-DP for any two values. Argument: bits are independent, and two values differ in the odds
        of two bits only; the largest ratio is `p (1-q) / (q (1-p))`. Optimised: p = 1/2, so it is (1-q)/q; symmetric:
        p = 1-q, so it is its square. `coins.share` keeps both at most e^epsilon. Precondition: even, independent
        random bytes.
    """

    categories: tuple[str, ...]
    epsilon: Fraction | int
    symmetric: bool = False
    precision_bytes: int = 8
    _share: int = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        _checked(self.categories, self.precision_bytes)
        odds = odds_of(self.epsilon)
        if self.symmetric:
            odds = sqrt_down(odds)
        object.__setattr__(self, "_share", share(odds, 1, 8 * self.precision_bytes))

    @property
    def loss(self) -> PureLoss:
        """What one report costs."""
        return PureLoss(Fraction(self.epsilon))

    @property
    def keep(self) -> Fraction:
        """Probability that the bit of the true category is one, exactly."""
        return 1 - self.stray if self.symmetric else Fraction(1, 2)

    @property
    def stray(self) -> Fraction:
        """Probability that the bit of another given category is one, exactly."""
        return Fraction(self._share, 1 << 8 * self.precision_bytes)

    def encode(self, category: str, random_bytes: RandomBytes) -> bytes:
        """One person's report: a bit per category, the first in the highest bit of the first byte, zeros at the end.

        Raises:
            InvalidArgument: An unknown category, or a random source that gives too few bytes.
        """
        true, size, whole = (
            _index(self.categories, category),
            self.precision_bytes,
            1 << 8 * self.precision_bytes,
        )
        kept = whole - self._share if self.symmetric else whole // 2
        bits = [
            draw(random_bytes, size) < (kept if place == true else self._share)
            for place in range(len(self.categories))
        ]
        return np.packbits(np.array(bits)).tobytes()

    def supports(self, reports: Iterable[bytes]) -> NDArray[np.int64]:
        """How many reports support each category: int64 (categories,).

        Raises:
            InvalidArgument: A report of another length, or with ones after the last category.
        """
        count, size = len(self.categories), -(-len(self.categories) // 8)
        found, batch = np.zeros(8 * size, np.int64), list[bytes]()
        for place, report in enumerate(reports):
            if not isinstance(report, bytes) or len(report) != size:
                raise InvalidArgument(
                    f"reports[{place}]={report!r} must be {size} bytes; drop reports of other mechanisms"
                )
            batch.append(report)
            if len(batch) == _CHUNK:
                found += _bit_sums(batch, size)
                batch = []
        found += _bit_sums(batch, size)
        if found[count:].any():
            raise InvalidArgument(
                f"reports={int(found[count:].sum())!r} ones after category {count} must be 0; drop reports of other mechanisms"
            )
        return found[:count]

    def estimate(self, supports: NDArray[np.int64], reports: int) -> FrequencyEstimate:
        """Decode support counts of `reports` reports; those of several batches add up."""
        return FrequencyEstimate.decoded(self.categories, supports, reports, keep=self.keep, stray=self.stray)


def _bit_sums(batch: list[bytes], size: int) -> NDArray[np.int64]:
    rows = np.frombuffer(b"".join(batch), np.uint8).reshape(len(batch), size)
    sums: NDArray[np.int64] = np.unpackbits(rows, axis=1).sum(axis=0, dtype=np.int64)
    return sums


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
        _checked(self.categories, self.precision_bytes)
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
        row = _index(self.categories, category) + 1
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
        sums = _histogram(reports, self.words)
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
