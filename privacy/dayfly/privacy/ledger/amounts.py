"""Exact amounts of privacy loss, and the grid on which they add up without growing.

Proof note.
    *Claim.* The sum that an account holds is never below the sum of the losses it was charged with, never has a
    denominator above `GRID`, and exceeds the exact sum of `n` losses by less than ``n / GRID`` (under ``n * 2e-52``).
    *Precondition.* Losses are finite rationals >= 0 (`exact` refuses all else, floats first of all).
    *Argument.* `round_up` maps ``x`` to the least multiple of ``1 / GRID`` that is >= ``x``, so each charge is >= its loss
    and less than ``1 / GRID`` above it. Multiples of ``1 / GRID`` are closed under addition, so a running total needs no
    further rounding and its reduced denominator divides `GRID`. As the charge is rounded up and the limit is compared as
    it was declared, exactly, ``sum of losses <= sum of charges <= limit``.
    *Exactness.* A loss whose denominator divides `GRID` is charged as it is: every decimal of up to 24 digits, every
    denominator up to 40 and every double of at least 2**-12. Ten times 1/10 and three times 1/3 are exactly 1.
"""

import math
import re
from fractions import Fraction
from typing import Final

from dayfly.privacy.errors import InvalidArgument

__all__ = ["GRID", "LARGEST", "exact", "parse", "round_up", "shown", "written"]

GRID: Final = math.lcm(*range(1, 41)) * 10**24 * 2**40
"""Amounts are multiples of ``1 / GRID``; about 5.9e51."""

LARGEST: Final = 10**12
"""Amounts above this are refused: they promise nothing to anybody."""

_DIGITS: Final = 200
_RATIONAL: Final = re.compile(r"(0|[1-9][0-9]*)/([1-9][0-9]*)", re.ASCII)


def exact(value: object, name: str) -> Fraction:
    """The value as an exact rational.

    Args:
        value: A `Fraction` or an int that is >= 0 and at most `LARGEST`.
        name: What to call it when it is refused.

    Raises:
        InvalidArgument: it is of another type (floats and decimals included), negative or too large.
    """
    if isinstance(value, bool) or not isinstance(value, int | Fraction):
        raise InvalidArgument(
            f"{name}={value!r} must be an exact Fraction or int; write Fraction('0.1') instead of 0.1"
        )
    if not 0 <= value <= LARGEST:
        raise InvalidArgument(
            f"{name}={shown(Fraction(value))} must lie in [0, {LARGEST}]; pass a value inside"
        )
    return value if isinstance(value, Fraction) else Fraction(value)


def round_up(value: Fraction) -> Fraction:
    """The least multiple of ``1 / GRID`` that is not below `value`."""
    if GRID % value.denominator == 0:
        return value
    return Fraction(-(-value.numerator * GRID // value.denominator), GRID)


def written(value: Fraction) -> str:
    """The one text of a rational: ``numerator/denominator``, reduced."""
    return f"{value.numerator}/{value.denominator}"


def parse(text: str) -> Fraction:
    """What `written` wrote.

    Raises:
        ValueError: it is not the one text of a rational >= 0.
    """
    found = _RATIONAL.fullmatch(text)
    if found is None or len(text) > 2 * _DIGITS:
        raise ValueError(f"rational={text[:40]!r} must read numerator/denominator")
    value = Fraction(int(found[1]), int(found[2]))
    if written(value) != text:
        raise ValueError(f"rational={text[:40]!r} must be reduced")
    return value


def shown(value: Fraction | None) -> str:
    """A rational for people: exact while it is short, else its leading digits."""
    if value is None:
        return "none"
    if abs(value.numerator) < 10**9 and value.denominator < 10**9:
        return str(value)
    if value > LARGEST:
        return f"above {LARGEST}"
    return f"about {float(value):.9g}"
