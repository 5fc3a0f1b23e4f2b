"""Filters never let more through than their budget, whatever is asked; odometers never tell less than was spent."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dayfly.privacy.accounting import (
    Cost,
    GaussianLoss,
    LaplaceLoss,
    Odometer,
    PureFilter,
    ZcdpFilter,
    cost_of,
    epsilon_of_rho,
)
from dayfly.privacy.errors import FilterExceeded, InvalidArgument

THIRD = Fraction(1, 3)
COSTS = st.builds(
    Cost,
    epsilon=st.one_of(st.none(), st.fractions(min_value=0, max_value=1)),
    rho=st.fractions(min_value=0, max_value=1),
    delta=st.fractions(min_value=0, max_value=Fraction(1, 10)),
)


@given(st.lists(COSTS, max_size=30), st.fractions(min_value=Fraction(1, 100), max_value=4))
def test_a_zcdp_filter_never_passes_its_budgets_and_refuses_only_what_would(
    costs: list[Cost], rho: Fraction
) -> None:
    budget = ZcdpFilter(rho, Fraction(1, 5))
    for cost in costs:
        before = budget.spent
        if before.rho + cost.rho > rho or before.delta + cost.delta > Fraction(1, 5):
            with pytest.raises(FilterExceeded) as refused:
                budget.spend(cost)
            assert budget.spent == before
            assert refused.value.asked == cost
        else:
            budget.spend(cost)
            assert budget.spent == before + cost
        assert budget.spent.rho <= rho
        assert budget.spent.delta <= Fraction(1, 5)


@given(st.lists(COSTS, max_size=30), st.fractions(min_value=Fraction(1, 100), max_value=4))
def test_a_pure_filter_never_passes_its_budgets(costs: list[Cost], epsilon: Fraction) -> None:
    budget = PureFilter(epsilon, Fraction(1, 5))
    for cost in costs:
        before = budget.spent
        try:
            budget.spend(cost)
        except FilterExceeded:
            assert budget.spent == before
        assert budget.spent.epsilon is not None
        assert budget.spent.epsilon <= epsilon
        assert budget.spent.delta <= Fraction(1, 5)


def test_three_thirds_fit_exactly_and_nothing_more() -> None:
    budget = PureFilter(Fraction(1))
    for _ in range(3):
        budget.spend(cost_of(LaplaceLoss(Fraction(3), 1)))
    with pytest.raises(
        FilterExceeded,
        match=r"epsilon=1e-30 must be <= what is left, 0\.0; ask with more noise, or stop here",
    ):
        budget.spend(Cost(epsilon=Fraction(1, 10**30), rho=Fraction(0)))


def test_a_refusal_names_what_is_left() -> None:
    budget = ZcdpFilter(Fraction(1, 2))
    budget.spend(Cost(epsilon=None, rho=Fraction(1, 3)))
    with pytest.raises(
        FilterExceeded, match=r"rho=0\.3333333333333\d* must be <= what is left, 0\.1666"
    ) as refused:
        budget.spend(Cost(epsilon=None, rho=THIRD))
    assert refused.value.left == Fraction(1, 6)
    with pytest.raises(FilterExceeded, match=r"delta=0.1 must be <= what is left"):
        budget.spend(Cost(epsilon=None, rho=Fraction(0), delta=Fraction(1, 10)))


def test_gaussian_noise_does_not_fit_a_filter_of_epsilon() -> None:
    with pytest.raises(
        FilterExceeded, match=r"epsilon=None must be finite for a filter of epsilon; use a ZcdpFilter"
    ):
        PureFilter(Fraction(1)).spend(cost_of(GaussianLoss(Fraction(10), 1)))


def test_checks_do_not_grow_with_history() -> None:
    budget = ZcdpFilter(Fraction(10**6))
    cost = cost_of(LaplaceLoss(Fraction(7), 3))
    for _ in range(3000):
        budget.spend(cost)
    assert budget.spent.rho == 3000 * cost.rho
    assert budget.spent.rho.denominator.bit_length() < 90


@given(st.lists(COSTS, min_size=1, max_size=12))
def test_an_odometer_tells_no_less_than_a_filter_of_what_was_spent(costs: list[Cost]) -> None:
    odometer, last = Odometer(Fraction(1, 10**6)), 0.0
    for cost in costs:
        odometer.spend(cost)
        now = odometer.epsilon()
        assert now >= last
        assert now >= epsilon_of_rho(odometer.spent.rho, Fraction(1, 10**6))
        last = now


def test_an_odometer_pays_for_its_levels() -> None:
    delta, first = Fraction(1, 10**6), Fraction(1, 100)
    odometer = Odometer(delta, first)
    assert odometer.epsilon() == 0.0
    odometer.spend(Cost(epsilon=None, rho=first))
    assert odometer.epsilon() == epsilon_of_rho(first, delta / 2)
    odometer.spend(Cost(epsilon=None, rho=Fraction(1, 10**9)))
    assert odometer.epsilon() == epsilon_of_rho(2 * first, delta / 6)
    odometer.spend(Cost(epsilon=None, rho=first))
    assert odometer.epsilon() == epsilon_of_rho(4 * first, delta / 12)


def test_budgets_must_make_sense() -> None:
    with pytest.raises(InvalidArgument, match="rho=0 must be > 0"):
        ZcdpFilter(0)  # type: ignore[arg-type]
    with pytest.raises(InvalidArgument, match="epsilon=nan must be an int or a Fraction"):
        PureFilter(float("nan"))  # type: ignore[arg-type]
    with pytest.raises(InvalidArgument, match=r"delta=Fraction\(0, 1\) must lie in \(0, 1\)"):
        Odometer(Fraction(0))
