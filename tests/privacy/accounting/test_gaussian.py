"""Gaussian noise: the closed form, its calibration, and the bridge from the integers to the reals."""

import math
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from mpmath import mpf

from dayfly.privacy.accounting import (
    analytic_gaussian_scale,
    delta_of_gaussian,
    epsilon_of_gaussian,
    gaussian,
)
from dayfly.privacy.accounting.gaussian import bridge_variance, discrete_gaussian_table, gaussian_delta
from dayfly.privacy.errors import InvalidArgument

from ...oracles.dp_accounting_exact import (
    discrete_gaussian,
    hockey_stick,
    number,
    shifted,
    vector,
)
from ...oracles.dp_accounting_exact import (
    gaussian_delta as exact_delta,
)

REFERENCE = {  # Balle and Wang's calibration at sensitivity 1: (epsilon, delta) -> sigma
    ("0.1", 5): 30.749566132,
    ("0.5", 5): 7.031826676,
    ("1", 5): 3.730631635,
    ("2", 5): 1.993812446,
    ("4", 5): 1.081161850,
    ("8", 5): 0.600229072,
    ("0.1", 6): 36.304690426,
    ("0.5", 6): 8.057618481,
    ("1", 6): 4.224678889,
    ("2", 6): 2.230476271,
    ("4", 6): 1.193518587,
    ("8", 6): 0.652935384,
}


@pytest.mark.parametrize(("epsilon", "digits"), REFERENCE)
def test_calibration_is_that_of_the_reference_table(epsilon: str, digits: int) -> None:
    told = analytic_gaussian_scale(1, Fraction(epsilon), Fraction(1, 10**digits))
    assert float(told) == pytest.approx(REFERENCE[epsilon, digits], abs=1e-8)


@pytest.mark.parametrize(("epsilon", "digits"), REFERENCE)
def test_calibrated_noise_holds_its_promise_in_fifty_digits(epsilon: str, digits: int) -> None:
    told = analytic_gaussian_scale(1, Fraction(epsilon), Fraction(1, 10**digits))
    assert exact_delta(1 / number(told), Fraction(epsilon)) <= mpf(10) ** -digits
    assert exact_delta(1 / (number(told) * (1 - mpf(10) ** -9)), Fraction(epsilon)) > mpf(10) ** -digits


@pytest.mark.parametrize(("digits", "epsilon"), [(3, 3.138670549), (5, 4.377178096), (6, 4.886554117)])
def test_epsilon_at_sigma_one_is_that_of_the_reference_and_never_below(digits: int, epsilon: float) -> None:
    told = epsilon_of_gaussian(1, 1, Fraction(1, 10**digits))
    assert told == pytest.approx(epsilon, abs=2e-9)
    assert exact_delta(1, Fraction(told)) <= mpf(10) ** -digits


@given(
    mu=st.floats(1e-4, 40, allow_nan=False),
    place=st.floats(-9, 9),
)
@example(mu=1.0, place=0.0)
@example(mu=1e-4, place=9.0)
@example(mu=40.0, place=-9.0)
def test_delta_is_never_below_fifty_digits_and_close(mu: float, place: float) -> None:
    epsilon = mu * mu / 2 + place * mu
    told = float(gaussian_delta(mu, np.array([epsilon]))[0])
    exact = exact_delta(mu, epsilon)
    assert told >= exact
    assert told <= exact * (1 + 1e-8) + 1e-14


def test_searches_end_on_a_float_that_was_seen_to_hold() -> None:
    seen: list[float] = []

    def holds(x: float) -> bool:
        seen.append(x)
        return x * x >= 2

    found = gaussian._last(holds, 0.0, 4.0)
    assert found in seen
    assert found * found >= 2 > math.nextafter(found, 0) ** 2


def test_mu_is_rounded_up() -> None:
    for scale in (Fraction(3), Fraction(7), Fraction(11, 3)):
        told = Fraction(gaussian._mu_up(scale, Fraction(1)))
        assert 1 / scale < told < 1 / scale * (1 + Fraction(1, 2**52))


def test_delta_without_sensitivity_is_the_trivial_one() -> None:
    assert list(gaussian_delta(0.0, np.array([-1.0, 0.0, 1.0]))) == pytest.approx([1 - math.exp(-1), 0, 0])


@given(
    scale=st.fractions(min_value=Fraction(1, 4), max_value=50),
    more=st.fractions(min_value=Fraction(1, 100), max_value=9),
    epsilon=st.fractions(min_value=0, max_value=5),
)
def test_more_noise_never_raises_delta(scale: Fraction, more: Fraction, epsilon: Fraction) -> None:
    assert delta_of_gaussian(scale + more, 1, epsilon) <= delta_of_gaussian(scale, 1, epsilon) + 1e-15


@pytest.mark.parametrize("shift", [(1,), (3,), (1, 1), (2, 1)])
def test_the_bridge_bounds_vectors_of_discrete_noise(shift: tuple[int, ...]) -> None:
    scale, length = Fraction(4), sum(d * d for d in shift)
    table = discrete_gaussian(scale, 44)
    above, below = vector([shifted(table, d) for d in shift]), vector([table for _ in shift])
    mu = math.sqrt(length / bridge_variance(scale, Fraction(length)))
    for epsilon in (0.0, 0.2, 0.5, 1.0, 2.0):
        bound = float(gaussian_delta(mu, np.array([epsilon]))[0])
        assert hockey_stick(above, below, epsilon) <= bound


def test_the_bridge_takes_what_its_proof_says() -> None:
    taken = 10**6 - float(bridge_variance(Fraction(1000), Fraction(1)))
    assert taken >= (60 + 0) / (2 * math.pi**2)
    assert taken <= 3.2
    taken = 10**12 - float(bridge_variance(Fraction(10**6), Fraction(10**9)))
    assert taken >= (60 + math.log(10**9)) / (2 * math.pi**2)
    assert bridge_variance(Fraction(1), Fraction(1)) < 0


def test_table_of_the_discrete_gaussian_is_the_definition() -> None:
    table = discrete_gaussian_table(Fraction(3, 2), 1)
    reach = (table.size - 1) // 2
    exact = discrete_gaussian(Fraction(3, 2), reach)
    assert table == pytest.approx([float(exact[x]) for x in range(-reach, reach + 1)], rel=1e-13)
    assert (
        sum(discrete_gaussian(Fraction(3, 2), reach + 40)[x] for x in range(reach - 1, reach + 41))
        < mpf(10) ** -19
    )


ZERO_POINT_ONE: Any = 0.1


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: analytic_gaussian_scale(0, 1, Fraction(1, 9)), "l2_squared=0 must be > 0"),
        (lambda: analytic_gaussian_scale(1, 0, Fraction(1, 9)), "epsilon=0 must be > 0"),
        (
            lambda: analytic_gaussian_scale(1, 1, 0),
            "delta=0 must be > 0; Gaussian noise has no finite epsilon",
        ),
        (
            lambda: analytic_gaussian_scale(1, ZERO_POINT_ONE, Fraction(1, 9)),
            "epsilon=0.1 must be an int or a Fraction",
        ),
        (lambda: epsilon_of_gaussian(1, 1, 2), r"delta=2 must lie in \[0, 1\]"),
        (lambda: delta_of_gaussian(0, 1, 1), "scale=0 must be > 0"),
    ],
)
def test_what_cannot_be_calibrated_is_refused(call: Any, message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        call()
