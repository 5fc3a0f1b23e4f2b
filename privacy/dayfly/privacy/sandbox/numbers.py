"""Exact numbers of queries and budgets: what is written as 0.1 is one tenth."""

import math
from decimal import Decimal, InvalidOperation
from fractions import Fraction
from typing import Final, TypeAlias

import msgspec

from dayfly.privacy.errors import InvalidQuery

__all__ = ["Budget", "Number", "exact", "whole"]

Number: TypeAlias = int | float | str
"""A number as documents hold it: a JSON number, or a text such as ``"1e-6"`` or ``"1/3"``."""

_LONGEST: Final = 64
_EXPONENT: Final = 400


def exact(value: "Number | Fraction | Decimal", name: str) -> Fraction:
    """The number that is written: a float means its shortest decimal form, so 0.1 is 1/10.

    Args:
        value: A number, or a text of one.
        name: What it is, for the message.

    Raises:
        InvalidQuery: it is none, or not finite.
    """
    if isinstance(value, Fraction):
        return value
    if isinstance(value, int) and not isinstance(value, bool):
        return Fraction(value)
    if isinstance(value, float) and math.isfinite(value):
        return Fraction(repr(value))
    if isinstance(value, Decimal) and value.is_finite():
        return _fraction(str(value), name)
    if isinstance(value, str):
        return _fraction(value, name)
    raise InvalidQuery(f"{name}={value!r} must be a finite number; write one such as 0.5 or '1/3'")


def _fraction(text: str, name: str) -> Fraction:
    wrong = InvalidQuery(
        f"{name}={text[:_LONGEST]!r} must be a finite number; write one such as 0.5 or '1/3'"
    )
    if len(text) > _LONGEST:
        raise wrong
    try:
        if (
            "/" not in text and abs(Decimal(text).adjusted()) > _EXPONENT
        ):  # a huge exponent would fill the memory
            raise wrong
        return Fraction(text)
    except (ValueError, ZeroDivisionError, InvalidOperation):
        raise wrong from None


def whole(value: int, name: str, *, least: int = 1, most: int = 1 << 31) -> int:
    """A whole number within limits.

    Raises:
        InvalidQuery: it is none.
    """
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise InvalidQuery(f"{name}={value!r} must be a whole number in [{least}, {most}]; choose one inside")
    return value


class Budget(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    """What a release may cost, and how its parts share it.

    Attributes:
        epsilon: Of pure DP, or of approximate DP where `delta` is given.
        delta: Probability with which the guarantee of `epsilon` (or `rho`) may fail; needed for unknown keys.
        rho: Of zero-concentrated DP, instead of `epsilon`.
        shares: Weight of a column of the answer, by its name; 1 where none is given. ``keys`` is the selection of unknown
            keys.
    """

    epsilon: Number | None = None
    delta: Number | None = None
    rho: Number | None = None
    shares: dict[str, Number] = {}

    @property
    def exact_epsilon(self) -> Fraction | None:
        """Epsilon as it is written.

        Raises:
            InvalidQuery: not above zero.
        """
        return None if self.epsilon is None else _above_zero(exact(self.epsilon, "epsilon"), "epsilon")

    @property
    def exact_rho(self) -> Fraction | None:
        """Rho as it is written.

        Raises:
            InvalidQuery: not above zero.
        """
        return None if self.rho is None else _above_zero(exact(self.rho, "rho"), "rho")

    @property
    def exact_delta(self) -> Fraction:
        """Delta as it is written; zero where there is none.

        Raises:
            InvalidQuery: not in [0, 1).
        """
        if self.delta is None:
            return Fraction(0)
        delta = exact(self.delta, "delta")
        if not 0 <= delta < 1:
            raise InvalidQuery(
                f"delta={self.delta!r} must lie in [0, 1); take one below 1 / number of customers"
            )
        return delta


def _above_zero(value: Fraction, name: str) -> Fraction:
    if value <= 0:
        raise InvalidQuery(
            f"{name}={float(value)!r} must be > 0; less loss means more noise, none is impossible"
        )
    return value
