"""Noise that nobody knows: every party adds a discrete Gaussian share to its integers before they are masked.

Claim: the sum of integers and shares is rho-zCDP for neighbours whose integers differ by at most sqrt(l2_squared) in the L2 norm, with
the rho of `rho`, also toward parties that know their own shares, as long as `honest` of those whose inputs were summed keep theirs.
Precondition: at least `honest` honest parties are in every sum (the threshold of secure aggregation, less those who may collude);
nothing but the sum is seen.
Argument: a sum of h discrete Gaussians of parameter s is not a discrete Gaussian, but within (l2^2 / (h s^2) + tau d / 2) / 2 of zCDP,
tau = 10 * sum over k < h of exp(-2 pi^2 s^2 k / (k + 1)). k / (k + 1) is at least 1/2 and pi^2 / ln 2 above 14, so every term is below
2^-(14 s^2): we round s^2 down and stay in fractions. Shares of further parties are independent noise on top, which is post-processing.
Source: Kairouz, Liu, Steinke, The Distributed Discrete Gaussian Mechanism, ICML 2021, Theorem 1.
"""

from dataclasses import dataclass
from fractions import Fraction
from typing import Final

import numpy as np
from numpy.typing import NDArray

from dayfly.federation.errors import InvalidSetting
from dayfly.privacy.accounting import ZcdpLoss
from dayfly.privacy.accounting.rounding import sqrt_up
from dayfly.privacy.noise import NoiseSource

__all__ = ["NoiseShares"]

_LEAST_VARIANCE: Final = 4
_BITS_PER_VARIANCE: Final = 14
_MOST_BITS: Final = 256  # smaller terms are rounded up to this


@dataclass(frozen=True, slots=True)
class NoiseShares:
    """How a total noise is spread over parties.

    Attributes:
        scale: Standard-deviation parameter that the honest shares reach together, in units of the integers.
        honest: Fewest honest parties in a sum.

    Raises:
        InvalidSetting: no honest party is left, or a share would be too small for the bound.
    """

    scale: Fraction
    honest: int

    def __post_init__(self) -> None:
        if self.honest < 1:
            raise InvalidSetting(
                f"honest={self.honest} must be at least 1; raise the threshold or let fewer parties collude"
            )
        if self.scale**2 < _LEAST_VARIANCE * self.honest:
            raise InvalidSetting(
                f"scale={float(self.scale):g} must be at least {2 * self.honest**0.5:.3g} with {self.honest} honest parties;"
                " count in finer units"
            )

    @property
    def share_scale(self) -> Fraction:
        """Parameter of one party's share, rounded up."""
        return sqrt_up(self.scale**2 / self.honest)

    def loss(self, l2_squared: int, dimensions: int) -> ZcdpLoss:
        """What a sum loses.

        Args:
            l2_squared: Squared L2 sensitivity in units of the integers.
            dimensions: How many integers.
        """
        variance = self.share_scale**2
        shift = min(_BITS_PER_VARIANCE * int(variance), _MOST_BITS)
        tau = Fraction(10 * (self.honest - 1), 1 << shift)
        return ZcdpLoss((Fraction(l2_squared) / (self.honest * variance) + tau * dimensions / 2) / 2)

    def add(self, values: NDArray[np.int64], noise: NoiseSource) -> NDArray[np.int64]:
        """A party's integers and its share, int64 of the same shape (n,)."""
        return noise.gaussian(values, self.share_scale)
