"""Mechanisms that make an answer private before it leaves the device.

| mechanism | report | least variance of a rare category, n reports | take it when |
| --- | --- | --- | --- |
| `RandomizedResponse` | a category | n (k - 2 + e) / (e - 1)^2 | categories k < 3 e + 2 |
| `UnaryEncoding` | one bit per category | 4 n e / (e - 1)^2 | categories are many, reports may be long |
| `HadamardResponse` | log2(k) bits | n ((e + 1) / (e - 1))^2 | reports must be short, or epsilon is small |

with e = e^epsilon. The unit of privacy is one report: any two values that a person could have are epsilon-indistinguishable
from it. A person who reports m times has spent m epsilon, also when the value was the same.
"""

from fractions import Fraction
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from dayfly.privacy._check import in_range
from dayfly.privacy.accounting import PureLoss
from dayfly.privacy.errors import InvalidArgument

from .estimates import FrequencyEstimate

__all__ = ["LocalMechanism", "checked", "histogram", "index_of"]

_MOST_CATEGORIES: Final = 1 << 20


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


def checked(categories: object, precision_bytes: int) -> None:
    """Refuse categories that cannot be told apart, and a precision out of range.

    Raises:
        InvalidArgument: One of these.
    """
    if not isinstance(categories, tuple):
        raise InvalidArgument(f"categories={categories!r} must be a tuple; pass a tuple of strings")
    in_range(2, _MOST_CATEGORIES, categories=len(categories))
    if len(set(categories)) != len(categories):
        raise InvalidArgument(f"categories={categories!r} must differ; leave duplicates out")
    in_range(1, 8, precision_bytes=precision_bytes)


def index_of(categories: tuple[str, ...], category: str) -> int:
    """Place of a category.

    Raises:
        InvalidArgument: Not one of them.
    """
    try:
        return categories.index(category)
    except ValueError:
        raise InvalidArgument(
            f"category={category!r} must be one of {categories!r}; map what is unknown to a category of its own first"
        ) from None


def histogram(reports: NDArray[np.int64], size: int) -> NDArray[np.int64]:
    """How often each number below `size` was reported: int64 (size,).

    Raises:
        InvalidArgument: No integers, or one out of range.
    """
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
