"""Amounts: exact where they can be, rounded up where they must, never growing."""

from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dayfly.privacy.errors import InvalidArgument
from dayfly.privacy.ledger import GRID
from dayfly.privacy.ledger.amounts import LARGEST, exact, parse, round_up, shown, written

rationals = st.fractions(min_value=0, max_value=1000, max_denominator=10**60)


@given(st.lists(rationals, min_size=1, max_size=30))
def test_the_sum_of_charges_is_never_below_the_sum_of_losses_and_hardly_above(losses: list[Fraction]) -> None:
    charged = sum((round_up(one) for one in losses), Fraction(0))
    assert 0 <= charged - sum(losses, Fraction(0)) < Fraction(len(losses), GRID)
    assert GRID % charged.denominator == 0


@given(rationals)
def test_a_charge_is_the_least_grid_point_that_is_not_below(loss: Fraction) -> None:
    charged = round_up(loss)
    assert charged - Fraction(1, GRID) < loss <= charged


@pytest.mark.parametrize(
    "value",
    [
        Fraction(1, 3),
        Fraction(7, 39),
        Fraction("0.123456789012345678901234"),
        Fraction(2.0**-12 * 1.1),
        Fraction(0.1),
    ],
)
def test_usual_fractions_decimals_and_doubles_are_charged_exactly(value: Fraction) -> None:
    assert round_up(value) == value


def test_what_the_grid_does_not_hold_is_rounded_up() -> None:
    assert round_up(Fraction(1, 41)) > Fraction(1, 41)


@given(rationals)
def test_text_of_a_rational_reads_back(value: Fraction) -> None:
    assert parse(written(value)) == value


@pytest.mark.parametrize(
    "text", ["1", "01/2", "-1/2", "1/0", "2/4", "1 /2", "1/2\n", "١/2", "1.5/2", "", "1/" + "1" * 500]
)
def test_only_the_one_text_of_a_rational_is_read(text: str) -> None:
    with pytest.raises((ValueError, ZeroDivisionError)):
        parse(text)


@pytest.mark.parametrize("value", [0.1, float("nan"), "1/2", True, None])
def test_inexact_amounts_are_refused(value: Any) -> None:
    with pytest.raises(InvalidArgument, match=r"epsilon=.* must be an exact Fraction or int; write Fraction"):
        exact(value, "epsilon")


@pytest.mark.parametrize("value", [-1, Fraction(-1, 10**40), LARGEST + 1])
def test_negative_and_absurd_amounts_are_refused(value: Any) -> None:
    with pytest.raises(InvalidArgument, match=r"epsilon=.* must lie in \[0, 1000000000000\]"):
        exact(value, "epsilon")
    assert exact(LARGEST, "epsilon") == LARGEST


def test_long_rationals_are_shown_short() -> None:
    assert shown(Fraction(1, 3)) == "1/3"
    assert shown(Fraction(10**50, 3 * 10**50 + 1)) == "about 0.333333333"
    assert shown(Fraction(10**400)) == "above 1000000000000"
    assert shown(None) == "none"
