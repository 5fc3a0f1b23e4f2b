r"""Noise that nobody knows: every party adds a discrete Gaussian share to its integers before they are masked.

Claim: the sum modulo 2^64 of integers and shares is rho-zCDP for neighbours whose integers differ by at most sqrt(l2_squared) in the L2
norm, with the rho of `loss`, also toward parties that know their own shares, as long as `honest` of those whose inputs were summed keep theirs.
Precondition: at least `honest` honest parties are in every sum (the threshold of secure aggregation, less those who may collude);
nothing but the sum is seen. Not counted: that OpenDP clamps a share to int64, which at the scales allowed happens with a probability below 2^-10000.
Argument: let h honest shares have parameter s each, S^2 = h s^2, P the law of their sum in one coordinate, G(x) ~ exp(-x^2 / (2 S^2)).
    1. P is G up to a ripple. Completing the square, a discrete Gaussian of variance v (parameter squared) convolved with one of w has at
       x the weight exp(-x^2 / (2 (v + w))) theta(x v / (v + w)), theta(t) = sum over y of exp(-(y - t)^2 / (2u)), u = v w / (v + w). By
       Poisson's summation theta(t) is proportional to 1 + 2 sum over k of q^(k^2) cos(2 pi k t), q = exp(-2 pi^2 u), so it varies by at most
       eta = ln((1 + 2r) / (1 - 2r)) in its logarithm, r = q / (1 - q^3). With v = k s^2, w = s^2: u = s^2 k / (k + 1) >= s^2 / 2 and q <=
       exp(-pi^2 s^2) < 2^-(14 s^2), as pi^2 / ln 2 > 14; and eta <= 5q for q <= 1/100. Convolution with one more share keeps
       the span of a ratio (it averages), so ln(P / G) has over all x a span of at most omega = 5 (h - 1) 2^-(14 s^2).
    2. The tails are Gaussian: sum over x of exp(t x - x^2 / (2 s^2)) = exp(t^2 s^2 / 2) sum of exp(-(x - t s^2)^2 / (2 s^2)), and the
       last sum is largest at t = 0 (Poisson again). So a share has E exp(tX) <= exp(t^2 s^2 / 2), and h of them exp(t^2 S^2 / 2).
    3. Neighbours shift the sum by an integer vector D, |D|^2 <= l2_squared, in m <= min(dimensions, l2_squared) coordinates; the others
       are alike and fall away. The privacy loss at x is (|D|^2 - 2 x.D) / (2 S^2) plus a ripple of at most m omega. With a = alpha - 1,
       (2) gives E exp(a loss) <= exp(a |D|^2 / (2 S^2) + a^2 |D|^2 / (2 S^2) + a m omega) = exp(a alpha rho_G + a m omega), rho_G = |D|^2 / (2 S^2).
       So D_alpha <= alpha rho_G + m omega <= alpha (rho_G + m omega) for every alpha > 1: that is the rho of `loss`.
    Shares of further parties are independent and added on top, and reduction modulo 2^64 is applied to the sum: both are post-processing.
    (1) is that of Kairouz, Liu and Steinke, whose Proposition 14 has D_alpha <= alpha rho_G + tau d with tau = 10 sum of q; ours is half of that.
    The tests compare with the exact divergence, by convolution in 60 digits, also where s is so small that the ripple is seen.
Source: Kairouz, Liu, Steinke, The Distributed Discrete Gaussian Mechanism, ICML 2021; Canonne, Kamath, Steinke, NeurIPS 2020.
"""

from dataclasses import dataclass
from fractions import Fraction
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray

from dayfly.federation.errors import InvalidSetting
from dayfly.privacy.accounting import ZcdpLoss
from dayfly.privacy.accounting.rounding import sqrt_up
from dayfly.privacy.noise import NoiseSource

__all__ = ["NoiseShares", "loss_of_sum", "ripple"]

_LEAST_VARIANCE: Final = 4
_BITS_PER_VARIANCE: Final = 14
_MOST_BITS: Final = 256  # smaller terms are rounded up to this
_LARGEST_SHARE: Final = (
    1 << 56
)  # 2^7 standard deviations below the end of int64: exp(-2^13) is below 2^-10000
_REACH: Final = 64  # standard deviations of every share for which the ring has room


def ripple(variance: Fraction, honest: int) -> Fraction:
    """Omega of the module's argument: the span of ln(P / G), rounded up.

    Args:
        variance: s^2 of a share, at least 1/2 (so that q <= 1/100).
        honest: h.
    """
    shift = min(int(_BITS_PER_VARIANCE * variance), _MOST_BITS)
    return Fraction(5 * (honest - 1), 1 << shift)


def loss_of_sum(variance: Fraction, honest: int, l2_squared: int, dimensions: int) -> ZcdpLoss:
    """rho_G + m omega of the module's argument.

    Args:
        variance: s^2 of a share, at least 1/2.
        honest: h.
        l2_squared: Squared L2 sensitivity in units of the integers.
        dimensions: How many integers.
    """
    moved = min(dimensions, l2_squared)
    return ZcdpLoss(Fraction(l2_squared) / (2 * honest * variance) + moved * ripple(variance, honest))


@dataclass(frozen=True, slots=True)
class NoiseShares:
    """How a total noise is spread over parties.

    Attributes:
        scale: Standard-deviation parameter that the honest shares reach together, in units of the integers.
        honest: Fewest honest parties in a sum.

    Raises:
        InvalidSetting: no honest party is left, or a share would be too small for the bound, or too large for int64.
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
        if self.share_scale > _LARGEST_SHARE:
            raise InvalidSetting(
                f"scale={float(self.scale):g} must give shares below 2^56; count in coarser units"
            )

    @classmethod
    def among(cls, scale: Fraction, *, members: int, colluding: int) -> Self:
        """The noise of sums over `members` parties, of whom `colluding` may tell others their shares.

        Args:
            scale: That the other parties reach together.
            members: Fewest parties in a sum.
            colluding: At least 0, and fewer than `members`.

        Raises:
            InvalidSetting: nobody honest is left, or fewer than none collude; or see the class.
        """
        if colluding < 0:
            raise InvalidSetting(
                f"colluding={colluding} must be at least 0; more honest parties than there are add no noise"
            )
        return cls(scale, members - colluding)

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
        return loss_of_sum(self.share_scale**2, self.honest, l2_squared, dimensions)

    def check_room(self, largest: int, *, parties: int) -> None:
        """Insist that the opened sum is the sum, not the sum less a multiple of 2^64.

        Every share is given 64 standard deviations, which it passes with a probability below 2 exp(-2048). Where the sum wraps, it is wrong; no more
        is lost of anybody's privacy.

        Args:
            largest: Largest magnitude of the sum of all parties' integers, without noise.
            parties: Most parties in a sum.

        Raises:
            InvalidSetting: there is no room.
        """
        if largest + parties * _REACH * (int(self.share_scale) + 1) >= 1 << 63:
            raise InvalidSetting(
                f"largest={largest} must leave room below 2^63 for the noise of {parties} parties of scale {float(self.share_scale):g};"
                " count in coarser units"
            )

    def add(self, values: NDArray[np.int64], noise: NoiseSource) -> NDArray[np.int64]:
        """A party's integers and its share, modulo 2^64, int64 of the same shape (n,).

        The noise is drawn by itself, so that no value of the party decides whether it is clamped.
        """
        share = noise.gaussian(np.zeros(values.shape, np.int64), self.share_scale)
        return (values.view(np.uint64) + share.view(np.uint64)).view(np.int64)
