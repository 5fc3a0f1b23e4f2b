"""Conversions never flatter: each is checked against fifty digits, OpenDP and dp-accounting."""

from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mpmath import exp, log, mpf

from dayfly.privacy.accounting import (
    conversions,
    delta_of_rho,
    epsilon_of_rho,
    exact_epsilon_of_rho,
    gaussian_scale,
    group_loss,
    laplace_scale,
    rho_of_epsilon_delta,
)
from dayfly.privacy.errors import InvalidArgument

from ...oracles.dp_accounting_exact import number, zcdp_delta

MILLIONTH = Fraction(1, 10**6)
FLOAT: Any = 0.5
NAN: Any = float("nan")
RHOS = st.fractions(min_value=Fraction(1, 10**4), max_value=20)
DELTAS = st.fractions(min_value=Fraction(1, 10**12), max_value=Fraction(1, 10))


def test_rho_one_half_is_what_opendp_tells_or_a_little_less() -> None:
    import opendp.prelude as dp

    dp.enable_features("contrib")
    noise = dp.m.make_gaussian(dp.vector_domain(dp.atom_domain(T="i64")), dp.l2_distance(T="f64"), scale=1.0)
    profile: Any = dp.c.make_zCDP_to_approxDP(noise)
    theirs = profile.map(1.0).epsilon(1e-6)
    ours = epsilon_of_rho(Fraction(1, 2), MILLIONTH)
    assert ours == pytest.approx(theirs, rel=1e-9)
    assert ours == pytest.approx(5.22153444453, rel=1e-8)


@pytest.mark.parametrize(("rho", "epsilon"), [("0.5", "5"), ("0.01", "0.3"), ("2", "1"), ("0.001", "0.01")])
def test_delta_of_rho_is_the_best_order_rounded_up(rho: str, epsilon: str) -> None:
    exact = zcdp_delta(Fraction(rho), Fraction(epsilon))
    assert (
        exact * (1 - mpf(10) ** -3)
        <= delta_of_rho(Fraction(rho), Fraction(epsilon))
        <= exact * (1 + mpf(10) ** -12)
    )


@given(RHOS, DELTAS)
def test_epsilon_of_rho_and_delta_of_rho_undo_each_other_and_never_flatter(
    rho: Fraction, delta: Fraction
) -> None:
    epsilon = exact_epsilon_of_rho(rho, delta)
    if epsilon > 0:
        back = Fraction(delta_of_rho(rho, epsilon))
        assert delta * Fraction(999_999, 10**6) <= back <= delta * Fraction(1_000_001, 10**6)
    assert epsilon_of_rho(rho, delta) >= epsilon


@given(RHOS, DELTAS)
def test_epsilon_of_rho_is_no_less_than_the_true_infimum(rho: Fraction, delta: Fraction) -> None:
    epsilon = exact_epsilon_of_rho(rho, delta)
    if epsilon > 0:
        # The infimum over orders at a slightly smaller epsilon is above delta: so this epsilon is not below it.
        assert Fraction(delta_of_rho(rho, epsilon * Fraction(9999, 10000))) > delta * Fraction(9999, 10000)


@given(st.fractions(min_value=Fraction(1, 100), max_value=20), DELTAS)
def test_rho_of_epsilon_delta_stays_within_epsilon_and_wastes_little(
    epsilon: Fraction, delta: Fraction
) -> None:
    rho = rho_of_epsilon_delta(epsilon, delta)
    if rho > 0:
        assert exact_epsilon_of_rho(rho * (1 - Fraction(1, 10**9)), delta) <= epsilon
        assert exact_epsilon_of_rho(rho * (1 + Fraction(1, 10**6)), delta) > epsilon


def test_rho_of_epsilon_delta_is_rounded_down() -> None:
    rho = rho_of_epsilon_delta(1, MILLIONTH)
    assert rho.denominator & (rho.denominator - 1) == 0
    # At the order it was found with, the exact epsilon of this rho is at most one.
    assert number(zcdp_delta(rho, 1)) <= number(MILLIONTH) * (1 + mpf(10) ** -3)
    assert exact_epsilon_of_rho(rho, MILLIONTH) <= 1 + Fraction(1, 10**12)


@given(RHOS, RHOS, DELTAS)
def test_epsilon_grows_with_rho(rho: Fraction, more: Fraction, delta: Fraction) -> None:
    assert exact_epsilon_of_rho(rho + more, delta) >= exact_epsilon_of_rho(rho, delta)


@pytest.mark.parametrize("order", [Fraction(101, 100), Fraction(7, 3), Fraction(40)])
@pytest.mark.parametrize(("rho", "epsilon", "delta"), [("1/3", "7", "1e-6"), ("1/700", "1/3", "1/10007")])
def test_each_conversion_is_the_formula_at_its_order_rounded_against_the_asker(
    order: Fraction, rho: str, epsilon: str, delta: str
) -> None:
    r, e, d, a = (number(Fraction(text)) for text in (rho, epsilon, delta, order))
    escape = (a - 1) * log(1 - 1 / a) - log(a)
    ulp = mpf(2) ** -60
    exact = a * r + (escape - log(d)) / (a - 1)
    told = number(conversions._epsilon_at(order, Fraction(rho), Fraction(delta)))
    assert exact < told < exact * (1 + ulp)
    exact = exp((a - 1) * (a * r - e) + escape)
    if exact < 1:
        told = number(Fraction(conversions._delta_at(order, Fraction(rho), Fraction(epsilon))))
        assert exact < told < exact * (1 + mpf(2) ** -51)
    exact = (e - (escape - log(d)) / (a - 1)) / a
    told = number(conversions._rho_at(order, Fraction(epsilon), Fraction(delta)))
    assert told == 0 if exact <= 0 else exact * (1 - ulp) < told < exact


def test_no_rho_is_no_loss() -> None:
    assert exact_epsilon_of_rho(0, MILLIONTH) == 0
    assert delta_of_rho(0, 0) == 0.0


def test_delta_is_never_above_one() -> None:
    assert delta_of_rho(100, 0) == 1.0


@pytest.mark.parametrize("size", [1, 2, 5])
def test_group_of_k_pays_k_epsilon_and_the_sum_of_powers(size: int) -> None:
    epsilon, delta = group_loss(Fraction(1, 2), Fraction(1, 10**6), size)
    assert epsilon == Fraction(size, 2)
    assert number(delta) > sum(mpf(10) ** -6 * exp(mpf(i) / 2) for i in range(size))
    assert float(delta) == pytest.approx(1e-6 * sum(2.718281828459045 ** (i / 2) for i in range(size)))


def test_group_loss_beyond_reason_is_total() -> None:
    assert group_loss(1000, MILLIONTH, 2) == (Fraction(2000), Fraction(1))


def test_laplace_scale_is_exact() -> None:
    assert laplace_scale(40, Fraction(3)) == Fraction(40, 3)


@given(st.integers(1, 10**12), st.fractions(min_value=Fraction(1, 10**6), max_value=10**3))
def test_gaussian_scale_is_rounded_up(l2_squared: int, rho: Fraction) -> None:
    scale = gaussian_scale(l2_squared, rho)
    assert Fraction(l2_squared) / (2 * scale**2) <= rho
    smaller = scale * (1 - Fraction(1, 2**58))
    assert Fraction(l2_squared) / (2 * smaller**2) > rho


def test_gaussian_scale_of_an_irrational_root_is_above_it() -> None:
    assert gaussian_scale(1, Fraction(1, 4)) ** 2 > 2
    assert gaussian_scale(4, Fraction(1, 2)) == 2


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: exact_epsilon_of_rho(-1, MILLIONTH), "rho=.* must be >= 0"),
        (lambda: exact_epsilon_of_rho(1, 0), r"delta=0 must lie in \(0, 1\)"),
        (lambda: exact_epsilon_of_rho(1, 1), r"delta=1 must lie in \(0, 1\)"),
        (lambda: exact_epsilon_of_rho(FLOAT, MILLIONTH), r"rho=0\.5 must be an int or a Fraction"),
        (lambda: delta_of_rho(1, -1), "must both be >= 0"),
        (lambda: rho_of_epsilon_delta(0, MILLIONTH), "epsilon=0 must be > 0"),
        (lambda: group_loss(1, MILLIONTH, 0), "size=0 must be an integer >= 1"),
        (lambda: laplace_scale(0, 1), "l1=0 must be > 0"),
        (lambda: laplace_scale(1, NAN), "epsilon=nan must be an int or a Fraction"),
        (lambda: gaussian_scale(1, 0), "rho=0 must be > 0"),
    ],
)
def test_what_cannot_be_converted_is_refused(call: Any, message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        call()
