"""Directed rounding: each site moves against the one who asks, by little, and by nothing where nothing is needed."""

import math
from fractions import Fraction

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from mpmath import exp, log, mp, sqrt

from dayfly.privacy.accounting import rounding
from dayfly.privacy.errors import InvalidArgument

from ...oracles.dp_accounting_exact import number

FRACTIONS = st.fractions(min_value=Fraction(1, 10**12), max_value=10**12)


@given(FRACTIONS)
@example(Fraction(1, 3))
@example(Fraction(1, 10))
@example(Fraction(2**53 + 1))
def test_float_up_is_the_next_float_at_or_above(value: Fraction) -> None:
    up, down = rounding.float_up(value), rounding.float_down(value)
    assert down <= value <= up
    assert math.nextafter(up, -math.inf) < value < math.nextafter(down, math.inf)


def test_float_up_of_a_third_is_above_and_float_down_below() -> None:
    assert (
        Fraction(rounding.float_up(Fraction(1, 3)))
        > Fraction(1, 3)
        > Fraction(rounding.float_down(Fraction(1, 3)))
    )
    assert rounding.float_up(Fraction(-1, 3)) > Fraction(-1, 3) > rounding.float_down(Fraction(-1, 3))


def test_numbers_beyond_the_floats_round_outwards() -> None:
    assert rounding.float_up(10**400) == math.inf
    assert rounding.float_down(10**400) == 1.7976931348623157e308
    assert rounding.float_up(-(10**400)) == -1.7976931348623157e308
    assert rounding.float_down(-(10**400)) == -math.inf


@given(FRACTIONS)
@example(Fraction(2))
@example(Fraction(1, 2))
def test_square_roots_enclose(value: Fraction) -> None:
    up, down = rounding.sqrt_up(value), rounding.sqrt_down(value)
    assert down**2 <= value <= up**2
    assert up - down <= up / 2**60
    assert float(up) == pytest.approx(float(sqrt(number(value))))


@pytest.mark.parametrize("value", [0, 1, 4, Fraction(9, 16), Fraction(1, 10**20), 10**40])
def test_roots_of_squares_are_exact(value: Fraction) -> None:
    assert rounding.sqrt_up(value) == rounding.sqrt_down(value)
    assert rounding.sqrt_up(value) ** 2 == value


def test_root_of_two_is_rounded_in_the_direction_of_its_name() -> None:
    assert rounding.sqrt_up(2) ** 2 > 2 > rounding.sqrt_down(2) ** 2


@given(st.fractions(min_value=-100, max_value=100))
@example(Fraction(1, 10))
@example(Fraction(-1, 10**12))
def test_exponentials_enclose(value: Fraction) -> None:
    with mp.workdps(80):
        exact = exp(number(value))
        up, down = rounding.exp_up(value), rounding.exp_down(value)
        assert number(down) < exact < number(up)
        assert number(up - down) < exact * number(10) ** -46


@given(st.fractions(min_value=Fraction(1, 10**30), max_value=10**30))
@example(Fraction(1))
@example(1 + Fraction(1, 10**30))
def test_logarithms_enclose(value: Fraction) -> None:
    with mp.workdps(80):
        exact = log(number(value))
        up, down = rounding.ln_up(value), rounding.ln_down(value)
        assert number(down) < exact < number(up)
        assert number(up - down) < (1 + abs(exact)) * number(10) ** -48


def test_exponentials_of_far_arguments_stay_bounds() -> None:
    assert rounding.exp_down(-6000) == 0
    assert 0 < rounding.exp_up(-6000) < Fraction(1, 10**2000)
    with pytest.raises(InvalidArgument, match=r"value=6000\.0 must be <= 5000"):
        rounding.exp_up(6000)


@given(FRACTIONS)
@example(Fraction(1, 3))
@example(Fraction(2**64 - 1, 2**70))
def test_coarse_fractions_enclose_within_64_bits(value: Fraction) -> None:
    up, down = rounding.coarse_up(value), rounding.coarse_down(value)
    assert down <= value <= up
    assert up - down <= up / 2**61
    for coarse in (up, down):
        assert coarse.denominator & (coarse.denominator - 1) == 0
        assert coarse.numerator.bit_length() <= 66


def test_coarse_third_is_above_or_below_by_name() -> None:
    assert rounding.coarse_up(Fraction(1, 3)) > Fraction(1, 3) > rounding.coarse_down(Fraction(1, 3))
    assert rounding.coarse_up(0) == rounding.coarse_down(0) == 0


@pytest.mark.parametrize("value", [0.1, True, "1", None])
def test_only_exact_numbers_are_taken(value: object) -> None:
    with pytest.raises(InvalidArgument, match=r"x=.* must be an int or a Fraction; write Fraction\('0\.1'\)"):
        rounding.exact("x", value)


def test_ranges_are_checked() -> None:
    with pytest.raises(InvalidArgument, match=r"x=0 must be > 0"):
        rounding.positive_exact("x", 0)
    with pytest.raises(InvalidArgument, match=r"x=Fraction\(3, 2\) must lie in \[0, 1\]"):
        rounding.probability("x", Fraction(3, 2))
    with pytest.raises(InvalidArgument, match=r"value=-1 must be >= 0; a square root"):
        rounding.sqrt_up(-1)
    with pytest.raises(InvalidArgument, match=r"value=0 must be > 0; it has no logarithm"):
        rounding.ln_up(0)
