"""Unary encoding: a noisy bit per category."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Final

import numpy as np
from numpy.typing import NDArray

from dayfly.privacy.accounting import PureLoss
from dayfly.privacy.accounting.rounding import sqrt_down
from dayfly.privacy.errors import InvalidArgument

from .coins import RandomBytes, draw, odds_of, share
from .estimates import FrequencyEstimate
from .mechanism import checked, index_of

__all__ = ["UnaryEncoding"]

_CHUNK: Final = 4_096


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
        checked(self.categories, self.precision_bytes)
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
            index_of(self.categories, category),
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
