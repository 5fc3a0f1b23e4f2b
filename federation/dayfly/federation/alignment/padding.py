"""Padding: customers who do not exist, so that sizes of sets and of their intersections say little about anybody who does.

Claim: everything that the coordinator sees, and everything that any one channel sees beyond its own set, is (epsilon, delta)-DP in what
channels one customer is in, for any change of that.
Precondition: products of hashed points look random to whoever lacks one of the scalars (the decisional Diffie-Hellman assumption on
Curve25519 and its twist, `party`); parties keep to the protocol, and channels do not tell each other or the coordinator what they saw.
Argument: then a view is a function of counts: of the customers in each *cell*, which is a region (exactly these channels) and a side (curve or
twist, one bit of the hashed customer). One member of a region draws how many padding points every member of it adds to each side: m = max(0, s + L)
with discrete Laplace noise L of scale b; the coordinator draws as many empty rows for the universe. When one customer's channels change
from A to B, moving one padding point from B's cell to A's, and one empty row, makes the same view: noise in at most three places
changes by one. This holds for the coordinator, who knows no m of a cell, and for a channel c, where A and B are the regions without c:
there it knows no m, and the empty rows make up for what it knows of the others. Without the cut at zero the loss is 3 / b = epsilon;
the cut happens with probability p = P(L < -s) in each of the three places, so delta = 3 (1 + e^epsilon) p suffices (distance to the
mechanism without cut, once on either side).
Not claimed: anything about the coordinator together with a channel, or two channels together (see `party`).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from typing import Final

import numpy as np
from numpy.typing import NDArray

from dayfly.federation.errors import InvalidSetting
from dayfly.privacy.accounting import ApproxLoss, LaplaceLoss, tail_probability
from dayfly.privacy.accounting.rounding import exp_up
from dayfly.privacy.noise import NoiseSource

__all__ = ["Padding", "members_of", "regions_led_by", "regions_of"]

_PLACES: Final = 3
_LARGEST_EPSILON: Final = 64
_LEAST_DELTA: Final = Fraction(1, 1 << 64)
_TAILS: Final = 64
"""More scales than these beyond the shift are cut too; below 2^-90."""


@dataclass(frozen=True)
class Padding:
    """How much is padded.

    Attributes:
        epsilon, delta: What one customer loses by the whole alignment.

    Raises:
        InvalidSetting: epsilon is not above 0 and at most 64, or delta is not between 2^-64 and 1.
    """

    epsilon: Fraction
    delta: Fraction

    def __post_init__(self) -> None:
        if not 0 < self.epsilon <= _LARGEST_EPSILON or not _LEAST_DELTA <= self.delta < 1:
            raise InvalidSetting(
                f"epsilon={float(self.epsilon):g} delta={float(self.delta):g} must be above 0 and at most 64, and delta from 2^-64 to below 1;"
                " pass epsilon=1 and delta=1e-9, or less for more padding"
            )

    @property
    def scale(self) -> Fraction:
        """Scale b of the noise of a cell."""
        return _PLACES / self.epsilon

    @cached_property
    def shift(self) -> int:
        """Smallest s whose cuts at zero and at `most` cost no more than delta."""
        noise = LaplaceLoss(self.scale, 1)
        factor = _PLACES * (1 + exp_up(self.epsilon))
        start = float(self.scale) * (math.log(float(factor / self.delta)) - 1)  # one scale below suffices
        shift = max(0, math.floor(start) - 2)
        above = tail_probability(noise, _TAILS * math.ceil(self.scale) + 1)
        while factor * (tail_probability(noise, shift + 1) + above) > self.delta:
            shift += 1
        return shift

    @property
    def most(self) -> int:
        """No honest draw of a cell is larger."""
        return self.shift + _TAILS * math.ceil(self.scale)

    @property
    def loss(self) -> ApproxLoss:
        """For the ledger of each channel."""
        return ApproxLoss(self.epsilon, self.delta)

    def draw(self, cells: int, noise: NoiseSource) -> NDArray[np.int64]:
        """Padding of so many cells, int64 (cells,), none below zero or above `most`."""
        drawn = noise.laplace(np.full(cells, self.shift, np.int64), self.scale, l1=1)
        return np.clip(drawn, 0, self.most)


def regions_of(channel: int, channels: int) -> list[int]:
    """Regions that a channel is in, ascending; a region is a mask of the channels that are in it."""
    return [mask for mask in range(1, 1 << channels) if mask >> channel & 1]


def regions_led_by(channel: int, channels: int) -> list[int]:
    """Regions whose padding a channel draws: those of which it is the first member."""
    return [mask for mask in regions_of(channel, channels) if mask & -mask == 1 << channel]


def members_of(mask: int, names: Sequence[str]) -> tuple[str, ...]:
    """Names of a region's channels."""
    return tuple(name for place, name in enumerate(names) if mask >> place & 1)
