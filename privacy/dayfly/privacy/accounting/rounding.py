"""Directed rounding: every number that leaves exact arithmetic is moved against the party that asks, never in its favour.

Claim:
    `float_up(x) >= x >= float_down(x)`, `sqrt_up(x)**2 >= x >= sqrt_down(x)**2`, and `upper(f) >= f >= lower(f)` for each
    formula below.

Argument:
    Python divides integers correctly rounded, so a float nearest to a fraction is at most one neighbour off, and the comparison
    of a `Fraction` with a float is exact: one `nextafter` repairs it. Integer square roots are exact floors. The General Decimal
    Arithmetic specification asks for `exp` and `ln` correctly rounded; each is therefore less than one unit of the
    last place from the truth, and `DIGITS` carries `GUARD` digits more than the relative slack `SLACK` that `up` and `down` add.

Source:
    Python reference, `decimal` (`exp`, `ln`: "correctly rounded using the ROUND_HALF_EVEN rounding mode"); Mironov (2012) for
    why the last bit matters.
"""

import math
import sys
from decimal import ROUND_HALF_EVEN, Context, Decimal
from fractions import Fraction
from typing import Final

from dayfly.privacy.errors import InvalidArgument

__all__ = [
    "Exact",
    "coarse_down",
    "coarse_up",
    "exact",
    "exp_down",
    "exp_up",
    "float_down",
    "float_up",
    "ln_down",
    "ln_up",
    "positive_exact",
    "probability",
    "sqrt_down",
    "sqrt_up",
]

Exact = int | Fraction

DIGITS: Final = 60
GUARD: Final = 10
SLACK: Final = Fraction(1, 10 ** (DIGITS - GUARD))
_BITS: Final = 64
_FARTHEST: Final = 5_000
_WORK: Final = Context(prec=DIGITS, rounding=ROUND_HALF_EVEN, Emin=-999_999, Emax=999_999)


def exact(name: str, value: object) -> Fraction:
    """`value` as a fraction; floats are refused because their rounding has no direction.

    Raises:
        InvalidArgument: Not an integer or a `Fraction`.
    """
    if isinstance(value, bool) or not isinstance(value, int | Fraction):
        raise InvalidArgument(
            f"{name}={value!r} must be an int or a Fraction; write Fraction('0.1') for a tenth, so that nothing is rounded"
        )
    return value if isinstance(value, Fraction) else Fraction(value)


def positive_exact(name: str, value: object) -> Fraction:
    """`exact`, and above zero.

    Raises:
        InvalidArgument: Not exact, or not above zero.
    """
    checked = exact(name, value)
    if checked <= 0:
        raise InvalidArgument(f"{name}={value!r} must be > 0; pass a larger {name}")
    return checked


def probability(name: str, value: object) -> Fraction:
    """`exact`, and in `[0, 1]`.

    Raises:
        InvalidArgument: Not exact, or outside.
    """
    checked = exact(name, value)
    if not 0 <= checked <= 1:
        raise InvalidArgument(f"{name}={value!r} must lie in [0, 1]; pass a probability")
    return checked


def float_up(value: Exact) -> float:
    """The smallest float that is not below `value`; infinity when there is none."""
    try:
        nearest = float(value)
    except OverflowError:
        return math.inf if value > 0 else -sys.float_info.max
    return nearest if nearest >= value else math.nextafter(nearest, math.inf)


def float_down(value: Exact) -> float:
    """The largest float that is not above `value`; minus infinity when there is none."""
    return -float_up(-value)


def sqrt_up(value: Exact) -> Fraction:
    """A fraction with at least 64 significant bits whose square is not below `value`."""
    floor = sqrt_down(value)
    return floor if floor * floor == value else floor + Fraction(1, _root_scale(value))


def sqrt_down(value: Exact) -> Fraction:
    """A fraction with at least 64 significant bits whose square is not above `value`."""
    scale = _root_scale(value)
    fraction = Fraction(value)
    return Fraction(math.isqrt(fraction.numerator * scale * scale // fraction.denominator), scale)


def _root_scale(value: Exact) -> int:
    fraction = Fraction(value)
    if fraction < 0:
        raise InvalidArgument(f"value={value!r} must be >= 0; a square root of it does not exist")
    # An exact root of p/q needs the denominator of q's root; 2^k * sqrt(q) keeps perfect squares exact.
    root = math.isqrt(fraction.denominator)
    exact_root = root if root * root == fraction.denominator else 1
    small = max(0, fraction.denominator.bit_length() - fraction.numerator.bit_length())
    return exact_root << (_BITS + small)


def _decimal(value: Exact) -> Decimal:
    fraction = Fraction(value)
    return _WORK.divide(Decimal(fraction.numerator), Decimal(fraction.denominator))


def exp_up(value: Exact) -> Fraction:
    """An upper bound of e^value; relative error below 1e-45 down to e^-5000, where it stops falling.

    Raises:
        InvalidArgument: `value` is above 5,000.
    """
    near = max(Fraction(value), Fraction(-_FARTHEST))
    return _exp(near) * (1 + SLACK * (1 + abs(near)))


def exp_down(value: Exact) -> Fraction:
    """A lower bound of e^value; relative error below 1e-45, and zero below e^-5000.

    Raises:
        InvalidArgument: `value` is above 5,000.
    """
    near = Fraction(value)
    return _exp(near) * (1 - SLACK * (1 + abs(near))) if near >= -_FARTHEST else Fraction(0)


def _exp(value: Fraction) -> Fraction:
    if value > _FARTHEST:
        raise InvalidArgument(
            f"value={float_up(value)!r} must be <= {_FARTHEST}; such a loss is no privacy, ask for less"
        )
    return Fraction(_WORK.exp(_decimal(value)))


def ln_up(value: Exact) -> Fraction:
    """An upper bound of the natural logarithm of a positive `value`."""
    return _ln(value) + SLACK * (1 + abs(_ln(value)))


def ln_down(value: Exact) -> Fraction:
    """A lower bound of the natural logarithm of a positive `value`."""
    return _ln(value) - SLACK * (1 + abs(_ln(value)))


def _ln(value: Exact) -> Fraction:
    if value <= 0:
        raise InvalidArgument(f"value={value!r} must be > 0; it has no logarithm")
    return Fraction(_WORK.ln(_decimal(value)))


def coarse_up(value: Exact, *, bits: int = _BITS) -> Fraction:
    """The smallest dyadic rational of `bits` significant bits that is not below a non-negative `value`.

    Sums of fractions with unrelated denominators grow without end; sums of dyadic ones do not.
    """
    fraction = Fraction(value)
    if fraction <= 0:
        return Fraction(0)
    shift = bits - (fraction.numerator.bit_length() - fraction.denominator.bit_length())
    scaled = fraction * (1 << shift) if shift >= 0 else fraction / (1 << -shift)
    whole = -(-scaled.numerator // scaled.denominator)
    return Fraction(whole, 1 << shift) if shift >= 0 else Fraction(whole << -shift)


def coarse_down(value: Exact, *, bits: int = _BITS) -> Fraction:
    """The largest dyadic rational of `bits` significant bits that is not above a non-negative `value`."""
    fraction = Fraction(value)
    if fraction <= 0:
        return Fraction(0)
    shift = bits - (fraction.numerator.bit_length() - fraction.denominator.bit_length())
    scaled = fraction * (1 << shift) if shift >= 0 else fraction / (1 << -shift)
    whole = scaled.numerator // scaled.denominator
    return Fraction(whole, 1 << shift) if shift >= 0 else Fraction(whole << -shift)
