"""Fixed point: floats to ring words modulo 2^64 whose sums cannot wrap around.

Claim: the decoded sum of up to `parties` encoded vectors is the sum of their values, each rounded once to a multiple of 2^-fraction_bits.
Argument: `parties * largest * 2^fraction_bits < 2^63` is checked when the encoder is made, and every value against `largest` when
it is encoded, so the exact sum of the rounded values lies inside the signed range that two's complement represents.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dayfly.federation.errors import InvalidSetting, RangeExceeded

__all__ = ["FixedPoint"]

_MOST_FRACTION_BITS = 52
_HALF_RING = 2**63


@dataclass(frozen=True, slots=True)
class FixedPoint:
    """An encoder of float64 vectors.

    Attributes:
        parties: Most vectors that are ever added up.
        largest: Largest magnitude of a value.
        fraction_bits: Binary places kept, 0 to 52.

    Raises:
        InvalidSetting: a sum could leave the ring, or a parameter is out of range.
    """

    parties: int
    largest: float
    fraction_bits: int = 32

    def __post_init__(self) -> None:
        if self.parties < 1:
            raise InvalidSetting(
                f"parties={self.parties} must be at least 1; pass how many vectors are added up"
            )
        if not 0 < self.largest < float("inf"):
            raise InvalidSetting(
                f"largest={self.largest} must be above 0 and finite; pass the bound of the values"
            )
        if not 0 <= self.fraction_bits <= _MOST_FRACTION_BITS:
            raise InvalidSetting(f"fraction_bits={self.fraction_bits} must be from 0 to 52; pass fewer")
        numerator, denominator = float(self.largest).as_integer_ratio()
        reach = self.parties * (
            (numerator << self.fraction_bits) + denominator
        )  # each value may round up by one unit
        if reach >= _HALF_RING * denominator:
            raise InvalidSetting(
                f"largest={self.largest:g} times parties={self.parties} times 2^{self.fraction_bits} must stay below 2^63;"
                " lower fraction_bits or scale the values"
            )

    def encode(self, values: ArrayLike) -> NDArray[np.uint64]:
        """Ring words of `values`, any shape.

        Raises:
            RangeExceeded: a value is not finite or larger than `largest`.
        """
        floats = np.asarray(values, np.float64)
        worst = float(np.max(np.abs(floats), initial=0.0))
        if not worst <= self.largest:
            raise RangeExceeded(
                f"value={worst} must be finite and at most {self.largest:g} in size; scale the features or raise `largest`"
            )
        return np.rint(np.ldexp(floats, self.fraction_bits)).astype(np.int64).view(np.uint64)

    def decode(self, words: NDArray[np.uint64]) -> NDArray[np.float64]:
        """Values of a sum of ring words."""
        return np.ldexp(words.view(np.int64).astype(np.float64), -self.fraction_bits)
