"""Purchases of many customers over many groups, for the sandbox's cases: a few buy much, most buy little."""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

__all__ = ["CATEGORIES", "CHANNELS", "LARGEST", "Purchases", "purchases"]

CHANNELS: Final = 12
CATEGORIES: Final = 100
"""Groups are all pairs of a channel and a category."""

LARGEST: Final = 10.0
"""The largest value."""


@dataclass(frozen=True, slots=True)
class Purchases:
    """Columns of one length.

    Attributes:
        customer: int32, from 0.
        channel: int32, below `CHANNELS`.
        category: int32, below `CATEGORIES`.
        value: float64, 0 to `LARGEST`.
    """

    customer: NDArray[np.int32]
    channel: NDArray[np.int32]
    category: NDArray[np.int32]
    value: NDArray[np.float64]


def purchases(rows: int, customers: int, *, seed: int = 1) -> Purchases:
    """Rows in random order: log-normal activity, Zipf-like groups, gamma values."""
    generator = np.random.default_rng(seed)
    activity = generator.lognormal(0.0, 1.1, customers)
    customer = generator.choice(customers, rows, p=activity / activity.sum()).astype(np.int32)
    liking = 1.0 / np.arange(1, CHANNELS * CATEGORIES + 1) ** 0.8
    group = generator.choice(CHANNELS * CATEGORIES, rows, p=generator.permutation(liking / liking.sum()))
    channel, category = np.divmod(group.astype(np.int32), CATEGORIES)
    return Purchases(customer, channel, category, np.minimum(generator.gamma(2.0, 1.0, rows), LARGEST))
