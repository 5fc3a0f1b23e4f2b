"""Thresholds and key selection: the exact tails, the optimal probabilities, and the inequalities that make them private."""

import math
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mpmath import exp, mpf
from scipy import stats

from dayfly.privacy.accounting import (
    ApproxLoss,
    GaussianLoss,
    KeySelection,
    LaplaceLoss,
    smallest_threshold,
    tail_probability,
    threshold_delta,
    threshold_loss,
)
from dayfly.privacy.errors import InvalidArgument

from ...oracles.dp_accounting_exact import discrete_gaussian, discrete_laplace, number

EPSILONS = st.fractions(min_value=Fraction(1, 20), max_value=5, max_denominator=1000)
DELTAS = st.fractions(min_value=Fraction(1, 10**8), max_value=Fraction(1, 4))


@pytest.mark.parametrize("scale", [Fraction(1, 2), Fraction(3), Fraction(40, 3)])
@pytest.mark.parametrize("edge", [-9, -1, 0, 1, 2, 17])
def test_laplace_tails_are_the_sums_rounded_up(scale: Fraction, edge: int) -> None:
    table = discrete_laplace(scale, math.ceil(120 * scale) + 20)
    exact = sum(p for x, p in table.items() if x >= edge)
    told = number(tail_probability(LaplaceLoss(scale, 1), edge))
    assert exact <= told <= exact * (1 + mpf(2) ** -50)


@pytest.mark.parametrize("scale", [Fraction(1, 2), Fraction(3), Fraction(12)])
@pytest.mark.parametrize("edge", [-9, -1, 0, 1, 2, 17, 40])
def test_gaussian_tails_are_the_sums_rounded_up(scale: Fraction, edge: int) -> None:
    table = discrete_gaussian(scale, math.ceil(20 * scale) + 60)
    exact = sum(p for x, p in table.items() if x >= edge)
    told = number(tail_probability(GaussianLoss(scale, 1), edge))
    assert exact <= told <= exact * (1 + mpf(10) ** -9) + mpf(10) ** -30


@pytest.mark.parametrize("edge", [-5, 0, 1, 40, 70, 71, 140, 300])
def test_gaussian_tails_of_wide_noise_are_never_below_the_sums_and_close(edge: int) -> None:
    sigma = 70
    outcomes = np.arange(-1000, 1001)
    weights = np.exp(-(outcomes**2) / (2 * sigma**2))
    exact = weights[outcomes >= edge].sum() / weights.sum()
    told = float(tail_probability(GaussianLoss(Fraction(sigma), 1), edge))
    assert told >= exact
    if edge > sigma:
        assert told <= exact * 1.002 + 1e-15


def test_a_threshold_counts_the_value_that_equals_it() -> None:
    noise = LaplaceLoss(Fraction(1), 1)
    exact = exp(-2) / (1 + exp(-1))  # value 1 plus noise of at least 2 is shown at threshold 3
    assert number(threshold_delta(noise, 3, l0=1, linf=1)) >= exact
    assert float(threshold_delta(noise, 3, l0=1, linf=1)) == pytest.approx(0.0989380198)


def test_opendp_shows_the_value_that_equals_its_threshold_but_does_not_charge_for_it() -> None:
    import opendp.prelude as dp

    dp.enable_features("contrib")
    space = dp.map_domain(dp.atom_domain(T="i64"), dp.atom_domain(T="i64"))
    metric = dp.l01inf_distance(dp.absolute_distance(T="i64"))
    release: Any = dp.m.make_laplace_threshold(space, metric, scale=1.0, threshold=3)
    keys = 20_000
    shown = len(release(dict.fromkeys(range(keys), 1))) / keys
    ours = float(threshold_delta(LaplaceLoss(Fraction(1), 1), 3, l0=1, linf=1))
    assert shown == pytest.approx(ours, abs=5 * math.sqrt(0.09 / keys))
    assert release.map((1, 1, 1))[1] < ours / 2
    assert ours >= release.map((1, 1, 1))[1]


def test_several_keys_leak_together_as_independent_ones() -> None:
    noise = LaplaceLoss(Fraction(1), 4)
    one = threshold_delta(noise, 3, l0=1, linf=1)
    assert 1 - (1 - one) ** 4 <= threshold_delta(noise, 3, l0=4, linf=1) <= 4 * one
    assert threshold_delta(noise, 3, l0=10**6, linf=1) == 1


@given(
    noise=st.one_of(
        st.builds(
            LaplaceLoss,
            st.fractions(min_value=Fraction(1, 2), max_value=10**6, max_denominator=9),
            st.just(1),
        ),
        st.builds(
            GaussianLoss,
            st.fractions(min_value=Fraction(1, 2), max_value=10**6, max_denominator=9),
            st.just(1),
        ),
    ),
    delta=DELTAS,
    l0=st.integers(1, 50),
    linf=st.integers(1, 1000),
)
def test_the_smallest_threshold_keeps_delta_and_one_less_does_not(
    noise: LaplaceLoss | GaussianLoss, delta: Fraction, l0: int, linf: int
) -> None:
    threshold = smallest_threshold(noise, delta, l0=l0, linf=linf)
    assert threshold_delta(noise, threshold, l0=l0, linf=linf) <= delta
    assert threshold == linf + 1 or threshold_delta(noise, threshold - 1, l0=l0, linf=linf) > delta
    assert threshold_loss(noise, threshold, l0=l0, linf=linf).delta <= delta


KNOWN = {
    1: 1e-5,
    2: 3.718281828e-5,
    5: 8.579102488e-4,
    10: 0.1281830805,
    15: 0.9880721172,
    20: 0.9999254111,
    25: 1.0,
}


def test_keep_probabilities_are_those_of_the_reference_rounded_down() -> None:
    selection = KeySelection(Fraction(1), Fraction(1, 10**5))
    for customers, expected in KNOWN.items():
        assert float(selection.keep_probability(customers)) == pytest.approx(expected, rel=1e-9)
    assert selection.keep_probability(1) <= Fraction(1, 10**5)
    assert selection.keep_probability(0) == 0


def test_keep_probabilities_are_those_of_google() -> None:
    selection = KeySelection(Fraction(1, 2), Fraction(2, 100))
    assert float(selection.keep_probability(6)) == pytest.approx(0.58840484458, abs=1e-10)
    assert float(selection.keep_probability(8)) == pytest.approx(0.86807080625, abs=1e-10)


@given(EPSILONS, DELTAS, st.integers(1, 9))
def test_each_key_is_private_by_the_definition_and_no_rule_keeps_more(
    epsilon: Fraction, delta: Fraction, l0: int
) -> None:
    selection = KeySelection(epsilon, delta, l0)
    ratio, leak = exp(number(epsilon / l0)), number(delta / l0)
    for customers in range(60):
        p, q = (
            number(selection.keep_probability(customers + 1)),
            number(selection.keep_probability(customers)),
        )
        assert p <= ratio * q + leak
        assert (1 - q) <= ratio * (1 - p) + leak
        assert p >= q
        best = min(mpf(1), ratio * q + leak, 1 - (1 - q - leak) / ratio)
        assert best - p <= mpf(2) ** -63


def test_keys_are_kept_as_often_as_told() -> None:
    selection = KeySelection(Fraction(1), Fraction(1, 100), 2)
    draws = 40_000
    for customers in (1, 5, 9):
        expected = float(selection.keep_probability(customers))
        kept = int(
            selection.select(
                np.full(draws, customers, dtype=np.int64), np.random.default_rng(customers).bytes
            ).sum()
        )
        assert stats.binomtest(kept, draws, expected).pvalue > 1e-6
        assert stats.binomtest(kept, draws, min(1.0, expected * 1.3)).pvalue < 1e-3 or expected > 0.75


def test_keys_without_customers_are_never_kept_and_well_known_keys_always() -> None:
    selection = KeySelection(Fraction(1), Fraction(1, 100))
    counts = np.array([0, 10**6, 0, 2**62], dtype=np.int64)
    assert selection.select(counts, lambda size: b"\x00" * size).tolist() == [False, True, False, True]
    assert selection.select(counts, lambda size: b"\xff" * size).tolist() == [False, True, False, True]


def test_a_coin_just_at_the_probability_does_not_keep() -> None:
    selection = KeySelection(Fraction(1), Fraction(1, 100))
    edge = int(selection.keep_probability(3) * 2**64)
    one = np.array([3], dtype=np.int64)
    assert not selection.select(one, lambda _: edge.to_bytes(8, "little"))[0]
    assert selection.select(one, lambda _: (edge - 1).to_bytes(8, "little"))[0]


def test_a_selection_costs_its_epsilon_and_delta() -> None:
    selection = KeySelection(Fraction(1), Fraction(1, 100), 4)
    assert selection.loss == ApproxLoss(Fraction(1), Fraction(1, 100))


NOISE = LaplaceLoss(Fraction(1), 1)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: KeySelection(Fraction(0), Fraction(1, 9)), r"epsilon=Fraction\(0, 1\) must be > 0"),
        (lambda: KeySelection(Fraction(1), Fraction(0)), r"delta=Fraction\(0, 1\) must be > 0"),
        (lambda: KeySelection(Fraction(1), Fraction(1, 9), 0), "l0=0 must be an integer >= 1"),
        (
            lambda: KeySelection(Fraction(1), Fraction(1, 2**70)).keep_probability(9),
            "must keep keys of a million customers",
        ),
        (lambda: KeySelection(Fraction(1), Fraction(1, 9)).keep_probability(-1), "customers=-1 must be >= 0"),
        (
            lambda: KeySelection(Fraction(1), Fraction(1, 9)).select(np.array([-2]), bytes),
            "customers=-2 must be >= 0",
        ),
        (
            lambda: smallest_threshold(NOISE, Fraction(0), l0=1, linf=1),
            r"delta=Fraction\(0, 1\) must lie in \(0, 1\)",
        ),
        (lambda: smallest_threshold(NOISE, Fraction(1, 9), l0=-1, linf=1), "l0=-1 must be an integer >= 1"),
        (lambda: smallest_threshold(NOISE, Fraction(1, 9), l0=1, linf=0), "linf=0 must be an integer >= 1"),
        (lambda: threshold_delta(NOISE, 3, l0=1, linf=-1), "linf=-1 must be >= 0"),
    ],
)
def test_impossible_selections_are_refused(call: Any, message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        call()
