"""Renyi divergences against quadrature in fifty digits, and the conversion against its proof."""

import math

import numpy as np
import pytest

from dayfly.privacy.accounting.rdp import (
    ORDERS,
    epsilon_of_renyi,
    renyi_divergence,
    renyi_of_sampled_gaussian,
)
from dayfly.privacy.errors import InvalidArgument

from ...oracles.dp_accounting_exact import sampled_gaussian_renyi


@pytest.mark.parametrize(
    ("sigma", "rate", "order"),
    [
        (2.5, 0.01, 1.5),
        (2.5, 0.01, 5),
        (1.0, 0.2, 1.1),
        (0.6, 0.004, 3.7),
        (4.0, 0.01, 20),
        (1.0, 1.0, 2.5),
        (0.5, 0.9, 2),
    ],
)
def test_sampled_gaussian_divergence_is_the_integral_rounded_up(
    sigma: float, rate: float, order: float
) -> None:
    exact = sampled_gaussian_renyi(sigma, rate, order)
    told = renyi_of_sampled_gaussian(sigma, rate, order)
    assert exact <= told <= exact * (1 + 1e-9)


def test_dp_accounting_is_three_percent_above_the_integral_at_order_one_and_a_half() -> None:
    exact = 50 * float(sampled_gaussian_renyi(2.5, 0.01, 1.5))
    assert exact == pytest.approx(0.00065007089719)
    assert exact < 0.97 * 0.000670579741  # its published figure


def test_divergence_of_tables_is_the_definition() -> None:
    p, q = np.array([0.5, 0.3, 0.2]), np.array([0.2, 0.3, 0.5])
    assert renyi_divergence(p, q, 2) == pytest.approx(math.log(0.25 / 0.2 + 0.3 + 0.04 / 0.5))
    assert renyi_divergence(p, q, math.inf) == pytest.approx(math.log(2.5))
    assert renyi_divergence(p, p, 3) == pytest.approx(0, abs=1e-15)
    assert renyi_divergence(np.array([0.5, 0.5]), np.array([1.0, 0.0]), 2) == math.inf


def test_no_sampling_and_no_sample_are_the_ends() -> None:
    assert renyi_of_sampled_gaussian(2, 0, 3) == 0
    assert renyi_of_sampled_gaussian(2, 1, 3) == pytest.approx(3 / 8)
    assert renyi_of_sampled_gaussian(2, 1, 3) >= 3 / 8


def test_known_gaussian_gives_epsilon_one() -> None:
    divergences = [order / (2 * 4.530877117**2) for order in ORDERS]
    assert epsilon_of_renyi(ORDERS, divergences, 1e-6)[0] == pytest.approx(1, abs=1e-3)


def test_epsilon_is_never_below_zero() -> None:
    assert epsilon_of_renyi([2.0], [0.0], 0.9)[0] == 0


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: renyi_divergence(np.ones(1), np.ones(1), 1), r"order=1 must be > 1"),
        (lambda: renyi_of_sampled_gaussian(0, 0.5, 2), r"noise_multiplier=0 rate=0\.5 order=2 must be > 0"),
        (lambda: renyi_of_sampled_gaussian(1, 1.5, 2), r"rate=1\.5"),
        (lambda: epsilon_of_renyi([2.0], [], 0.1), r"orders=1 must be as many as divergences=0"),
        (lambda: epsilon_of_renyi([2.0], [1.0], 0), r"delta=0 must lie in \(0, 1\)"),
    ],
)
def test_questions_outside_are_refused(call: object, message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        call()  # type: ignore[operator]
