"""Half-widths cover what they promise and no whole unit more; variances are those of the distributions."""

import math
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mpmath import mpf

from dayfly.privacy.accounting import GaussianLoss, LaplaceLoss, half_width, noise_variance, tail_probability
from dayfly.privacy.errors import InvalidArgument

from ...oracles.dp_accounting_exact import discrete_gaussian, discrete_laplace, number

ALPHAS = [Fraction(1, 2), Fraction(1, 20), Fraction(1, 100), Fraction(1, 10**6)]


@pytest.mark.parametrize("alpha", ALPHAS)
@pytest.mark.parametrize(
    "noise", [LaplaceLoss(Fraction(7, 3), 1), LaplaceLoss(Fraction(1, 3), 1), GaussianLoss(Fraction(5, 2), 1)]
)
def test_half_widths_are_the_exact_quantiles(noise: LaplaceLoss | GaussianLoss, alpha: Fraction) -> None:
    make = discrete_laplace if isinstance(noise, LaplaceLoss) else discrete_gaussian
    table = make(noise.scale, math.ceil(60 * noise.scale) + 10)
    reach = half_width(noise, alpha)
    assert reach.denominator == 1

    def missed(width: int) -> Any:
        return sum(p for x, p in table.items() if abs(x) > width)

    assert missed(int(reach)) <= number(alpha)
    assert reach == 0 or missed(int(reach) - 1) > number(alpha) * (1 - mpf(10) ** -9)


def test_ninety_five_percent_of_known_noise() -> None:
    assert half_width(LaplaceLoss(Fraction(40), 1), Fraction(1, 20)) == 120
    assert half_width(GaussianLoss(Fraction(20), 1), Fraction(1, 20)) == 39


@given(st.fractions(min_value=Fraction(1, 9), max_value=10**9), st.sampled_from(ALPHAS))
def test_half_widths_of_any_scale_cover(scale: Fraction, alpha: Fraction) -> None:
    for noise in (LaplaceLoss(scale, 1), GaussianLoss(scale, 1)):
        reach = half_width(noise, alpha)
        assert 2 * tail_probability(noise, reach + 1) <= alpha
        assert reach <= 15 * scale + 2


def test_half_widths_on_the_reals_are_raised_quantiles() -> None:
    told = half_width(GaussianLoss(Fraction(1), 1, domain="reals"), Fraction(1, 20))
    assert told > Fraction("1.9599639845400542")
    assert float(told) == pytest.approx(1.959963984540054, rel=1e-12)


@pytest.mark.parametrize("scale", [Fraction(1, 4), Fraction(1), Fraction(13, 3)])
def test_variances_are_those_of_the_tables(scale: Fraction) -> None:
    laplace = discrete_laplace(scale, math.ceil(130 * scale))
    exact = sum(p * x * x for x, p in laplace.items())
    assert exact <= number(noise_variance(LaplaceLoss(scale, 1))) <= exact * (1 + mpf(10) ** -12)
    gaussian = discrete_gaussian(scale, math.ceil(30 * scale))
    assert sum(p * x * x for x, p in gaussian.items()) <= number(noise_variance(GaussianLoss(scale, 1)))
    assert noise_variance(LaplaceLoss(scale, 1, domain="reals")) == 2 * scale**2


INEXACT: Any = 0.05


@pytest.mark.parametrize(
    ("alpha", "message"),
    [
        (Fraction(0), r"alpha=Fraction\(0, 1\) must lie in \(0, 1\)"),
        (Fraction(1), r"alpha=Fraction\(1, 1\) must lie in \(0, 1\)"),
        (INEXACT, "alpha=0.05 must be an int or a Fraction"),
    ],
)
def test_levels_outside_are_refused(alpha: Fraction, message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        half_width(LaplaceLoss(Fraction(1), 1), alpha)
