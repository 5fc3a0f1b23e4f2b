"""Costs: exact, rounded up, never below the divergence that brute force finds."""

import math
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mpmath import exp, mpf, tanh

from dayfly.privacy.accounting import (
    ApproxLoss,
    ComposedLoss,
    Cost,
    GaussianLoss,
    LaplaceLoss,
    LossEvent,
    NoLoss,
    PoissonSampledLoss,
    PureLoss,
    RandomizedResponseLoss,
    RepeatedLoss,
    ThresholdLoss,
    ZcdpLoss,
    cost_of,
)
from dayfly.privacy.accounting.costs import laplace_rho, pure_rho
from dayfly.privacy.errors import InvalidArgument

from ...oracles.dp_accounting_exact import discrete_gaussian, discrete_laplace, number, renyi, shifted

ORDERS = [1, 1.001, 1.1, 1.5, 2, 3, 5, 10, 50, 400]


def worst_rho(above: dict[int, object], below: dict[int, object]) -> object:
    return max(renyi(above, below, order) / mpf(order) for order in ORDERS)


@pytest.mark.parametrize(
    ("scale", "l1"),
    [(Fraction(1), 1), (Fraction(10), 1), (Fraction(2), 5), (Fraction(1, 3), 2), (Fraction(5), 12)],
)
def test_discrete_laplace_rho_is_the_largest_divergence_per_order_rounded_up(
    scale: Fraction, l1: int
) -> None:
    table = discrete_laplace(scale, math.ceil(60 * scale) + 3 * l1)
    both = {key: weight for key, weight in shifted(table, l1).items() if key in table}
    worst = worst_rho(both, table)
    told = number(laplace_rho(LaplaceLoss(scale, l1)))
    assert worst * (1 - mpf(10) ** -15) <= told <= worst * (1 + mpf(10) ** -14)


@pytest.mark.parametrize("epsilon", ["0.001", "0.1", "1", "4"])
def test_laplace_rho_on_the_reals_is_the_known_closed_form_rounded_up(epsilon: str) -> None:
    exact = number(Fraction(epsilon)) + exp(-number(Fraction(epsilon))) - 1
    told = number(laplace_rho(LaplaceLoss(1 / Fraction(epsilon), 1, domain="reals")))
    assert exact < told <= exact * (1 + mpf(2) ** -60)


@pytest.mark.parametrize("epsilon", ["1e-9", "0.1", "1", "3", "20"])
def test_pure_rho_is_epsilon_times_tanh_of_its_half_rounded_up(epsilon: str) -> None:
    exact = number(Fraction(epsilon)) * tanh(number(Fraction(epsilon)) / 2)
    assert exact < number(pure_rho(Fraction(epsilon))) <= exact * (1 + mpf(2) ** -60)


@given(st.fractions(min_value=Fraction(1, 10**9), max_value=50))
def test_pure_rho_is_below_half_the_square_and_above_every_divergence_of_coin_flips(
    epsilon: Fraction,
) -> None:
    told = pure_rho(epsilon)
    assert told <= epsilon**2 / 2
    e = number(epsilon)
    heads = {1: exp(e) / (1 + exp(e)), 0: 1 / (1 + exp(e))}
    tails = {1: heads[0], 0: heads[1]}
    assert all(
        renyi(heads, tails, order) <= mpf(order) * number(told) * (1 + mpf(10) ** -30)
        for order in (1, 1.5, 4, 100)
    )


@given(scale=st.fractions(min_value=Fraction(1, 50), max_value=10**9), l1=st.integers(0, 10**6))
def test_rho_of_laplace_noise_lies_between_the_reals_and_the_coin(scale: Fraction, l1: int) -> None:
    integers, reals = laplace_rho(LaplaceLoss(scale, l1)), laplace_rho(LaplaceLoss(scale, l1, domain="reals"))
    assert reals * (1 - Fraction(1, 2**50)) <= integers <= pure_rho(Fraction(l1) / scale)


@pytest.mark.parametrize("scale", [Fraction(1, 10**6), Fraction(1, 10**9)])
def test_rho_of_next_to_no_noise_is_still_told(scale: Fraction) -> None:
    assert laplace_rho(LaplaceLoss(scale, 3)) == pytest.approx(3 / scale)


@pytest.mark.parametrize(("scale", "shift"), [(Fraction(1), 1), (Fraction(1, 2), 2), (Fraction(3), 5)])
def test_gaussian_rho_is_no_less_than_any_divergence(scale: Fraction, shift: int) -> None:
    table = discrete_gaussian(scale, math.ceil(40 * scale) + shift * 12)
    both = {key: weight for key, weight in shifted(table, shift).items() if key in table}
    event = GaussianLoss(scale, shift**2)
    for order in (1, 1.5, 2, 3.3, 8):
        assert renyi(both, table, order) <= mpf(order) * number(event.rho) * (1 + mpf(10) ** -20)
    assert cost_of(event) == Cost(epsilon=None, rho=Fraction(shift**2) / (2 * scale**2))


def test_costs_of_the_other_events() -> None:
    third = Fraction(1, 3)
    assert cost_of(NoLoss()) == Cost.zero()
    assert cost_of(PureLoss(third)) == Cost(epsilon=third, rho=pure_rho(third))
    assert cost_of(ApproxLoss(third, Fraction(1, 9))) == Cost(
        epsilon=third, rho=pure_rho(third), delta=Fraction(1, 9)
    )
    assert cost_of(ZcdpLoss(third, Fraction(1, 9))) == Cost(epsilon=None, rho=third, delta=Fraction(1, 9))
    noise = LaplaceLoss(Fraction(3), 1)
    assert cost_of(ThresholdLoss(noise, Fraction(1, 9))) == Cost(
        epsilon=third, rho=laplace_rho(noise), delta=Fraction(1, 9)
    )
    assert (
        cost_of(ComposedLoss((noise, noise)))
        == cost_of(RepeatedLoss(noise, 2))
        == cost_of(noise) + cost_of(noise)
    )


def test_randomised_response_costs_the_logarithm_of_its_odds_rounded_up() -> None:
    told = cost_of(RandomizedResponseLoss(Fraction(1, 2), 2)).epsilon
    assert told is not None
    assert exp(number(told)) > 3
    assert float(told) == pytest.approx(math.log(3))


def test_nothing_sensitive_costs_nothing() -> None:
    assert (
        cost_of(LaplaceLoss(Fraction(3), 0))
        == cost_of(GaussianLoss(Fraction(3), 0))
        == cost_of(ZcdpLoss(Fraction(0)))
        == Cost.zero()
    )


def test_sampling_amplifies_epsilon_as_li_qardaji_su_say_rounded_up() -> None:
    whole, rate = PureLoss(Fraction(1)), Fraction(1, 10)
    told = cost_of(PoissonSampledLoss(whole, rate))
    exact = mpf("0.1") * (exp(1) - 1) + 1
    assert told.epsilon is not None
    assert exp(number(told.epsilon)) >= exact
    assert float(told.epsilon) == pytest.approx(math.log1p(0.1 * math.expm1(1)))
    assert told.rho == pure_rho(told.epsilon)


def test_sampling_thins_deltas_and_never_raises_rho() -> None:
    event = ThresholdLoss(GaussianLoss(Fraction(1), 1), Fraction(1, 100))
    assert cost_of(PoissonSampledLoss(event, Fraction(1, 10))) == Cost(
        epsilon=None, rho=Fraction(1, 2), delta=Fraction(1, 1000)
    )
    assert cost_of(PoissonSampledLoss(event, Fraction(0))) == Cost.zero()
    assert cost_of(PoissonSampledLoss(PureLoss(Fraction(10**6)), Fraction(1, 2))).epsilon == 10**6


EVENTS: st.SearchStrategy[LossEvent] = st.one_of(
    st.builds(LaplaceLoss, st.fractions(min_value=Fraction(1, 9), max_value=99), st.integers(0, 9)),
    st.builds(GaussianLoss, st.fractions(min_value=Fraction(1, 9), max_value=99), st.integers(0, 9)),
    st.builds(ApproxLoss, st.fractions(min_value=0, max_value=3), st.fractions(min_value=0, max_value=1)),
)


@given(st.lists(EVENTS, max_size=6), st.randoms())
def test_costs_add_up_in_any_order_and_grouping(events: list[LossEvent], order: object) -> None:
    shuffled = list(events)
    order.shuffle(shuffled)  # type: ignore[attr-defined]
    one = sum((cost_of(event) for event in events), start=Cost.zero())
    assert one == cost_of(ComposedLoss(tuple(shuffled)))
    assert one == cost_of(
        ComposedLoss((ComposedLoss(tuple(shuffled[:2])), ComposedLoss(tuple(shuffled[2:]))))
    )


@given(EVENTS, st.integers(0, 20))
def test_repetition_is_addition(event: LossEvent, times: int) -> None:
    assert cost_of(RepeatedLoss(event, times)) == sum(
        (cost_of(event) for _ in range(times)), start=Cost.zero()
    )


@given(
    scale=st.fractions(min_value=Fraction(1, 9), max_value=99),
    more=st.fractions(min_value=Fraction(1, 99), max_value=9),
    l1=st.integers(1, 50),
)
def test_more_noise_never_costs_more(scale: Fraction, more: Fraction, l1: int) -> None:
    wide, narrow = cost_of(LaplaceLoss(scale + more, l1)), cost_of(LaplaceLoss(scale, l1))
    assert wide.epsilon is not None
    assert narrow.epsilon is not None
    assert wide.epsilon < narrow.epsilon
    assert wide.rho <= narrow.rho


def test_rho_stays_a_short_fraction() -> None:
    total = sum((cost_of(LaplaceLoss(Fraction(10 + i, 7), 3)) for i in range(200)), start=Cost.zero())
    assert total.rho.denominator.bit_length() < 90


@pytest.mark.parametrize("name", ["epsilon", "rho", "delta"])
def test_a_cost_below_zero_is_refused(name: str) -> None:
    values = {"epsilon": Fraction(1), "rho": Fraction(1), "delta": Fraction(0), name: Fraction(-1)}
    with pytest.raises(
        InvalidArgument, match=rf"{name}=Fraction\(-1, 1\) must be >= 0; a privacy loss is never given back"
    ):
        Cost(**values)


def test_costs_add_only_to_costs() -> None:
    with pytest.raises(TypeError):
        Cost.zero() + 1  # type: ignore[operator]
    with pytest.raises(TypeError):
        Cost.zero() * 1.5  # type: ignore[operator]
