"""Fixed point: a value is `step` times an int64, so that sums are exact, in any order, and no float sum ever meets noise."""

from dataclasses import dataclass
from fractions import Fraction
from math import ceil, floor
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from dayfly.privacy.errors import InvalidArgument

from .frozen import frozen
from .kernels import NO_VALUE, round_to_lattice, scale_to_lattice

__all__ = ["NO_VALUE", "ROW_LIMIT", "UNIT_BITS", "Lattice"]

ROW_LIMIT: Final = 2**40
"""Largest magnitude of one row in lattice units; larger ones (infinities too) saturate.

One customer would need more than 8 million such rows in one group to wrap that total modulo 2^64, and even then the clamp holds.
"""

UNIT_BITS: Final = 42
"""Bits of a row's lattice units in two's complement: from -2^40 through 2^40."""

_EXACT: Final = 2**53
_INT64_MAX: Final = np.uint64(2**63 - 1)


@dataclass(frozen=True, slots=True)
class Lattice:
    """Multiples of `step`.

    A finite float goes to its nearest multiple (half to even; for steps that are no power of two after one rounding of the product). A
    value beyond `ROW_LIMIT` steps, and an infinity, becomes plus or minus `ROW_LIMIT`. Null and NaN have no value: `NO_VALUE`, and the row is
    left out of counts, sums and customers alike. All of this is decided row by row, so it never changes a sensitivity.

    Attributes:
        step: A positive decimal or binary fraction, such as `Fraction(1, 100)`, `Fraction(1, 1024)`, `Fraction(5)`.

    Raises:
        InvalidArgument: The step is not positive, has a denominator with primes other than 2 and 5, or needs more than 53 bits.

    Example:
        >>> from fractions import Fraction
        >>> import numpy as np
        >>> Lattice(Fraction(1, 100)).units(np.array([1.25, -0.004, np.inf])).tolist()
        [125, 0, 1099511627776]
    """

    step: Fraction = Fraction(1)

    def __post_init__(self) -> None:
        if not isinstance(self.step, Fraction) or self.step <= 0:
            raise InvalidArgument(f"step={self.step!r} must be a Fraction > 0; pass such as Fraction(1, 100)")
        rest = self.step.denominator
        for prime in (2, 5):
            while rest % prime == 0:
                rest //= prime
        if rest != 1 or max(self.step.numerator, self.step.denominator) > _EXACT:
            raise InvalidArgument(
                f"step={self.step} must be a decimal or binary fraction of at most 53 bits; round it, such as to Fraction(1, 1000)"
            )

    def units(self, values: NDArray[Any]) -> NDArray[np.int64]:
        """Values in lattice units.

        Args:
            values: Integers, floats or booleans, shape (rows,).

        Returns:
            int64, shape (rows,), within ±`ROW_LIMIT`, or `NO_VALUE`.

        Raises:
            InvalidArgument: The values are no numbers.
        """
        if values.dtype.kind not in "iufb":
            raise InvalidArgument(
                f"values of type {values.dtype} must be integers, floats or booleans; cast the column first"
            )
        out = np.empty(values.size, np.int64)
        if values.dtype.kind in "iub" and self.step.numerator == 1:
            whole = np.minimum(values, _INT64_MAX) if values.dtype == np.uint64 else values
            scale_to_lattice(frozen(whole, np.int64), self.step.denominator, ROW_LIMIT, out)
        else:
            floats = frozen(values, np.float64)
            round_to_lattice(floats, float(self.step.numerator), float(self.step.denominator), ROW_LIMIT, out)
        return out

    def lower(self, value: Fraction | int) -> int:
        """The largest unit not above `value`: a lower bound that cuts nothing."""
        return floor(Fraction(value) / self.step)

    def upper(self, value: Fraction | int) -> int:
        """The least unit not below `value`: an upper bound that cuts nothing."""
        return ceil(Fraction(value) / self.step)

    def value(self, units: int) -> Fraction:
        """What `units` stand for, exactly."""
        return self.step * units
