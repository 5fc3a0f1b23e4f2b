"""Profiles against the definition of delta, term by term: never below, close, and worst among all splits of a sensitivity."""

import math
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mpmath import exp, mpf

from dayfly.privacy.accounting import (
    ApproxLoss,
    ComposedLoss,
    GaussianLoss,
    LaplaceLoss,
    LossEvent,
    PoissonSampledLoss,
    PureLoss,
    RandomizedResponseLoss,
    ThresholdLoss,
    ZcdpLoss,
)
from dayfly.privacy.accounting.profiles import discrete_gaussian_pair, profile_of
from dayfly.privacy.errors import InvalidArgument

from ...oracles.dp_accounting_exact import (
    Table,
    discrete_gaussian,
    discrete_laplace,
    hockey_stick,
    laplace_delta,
    poisson_mixture,
    shifted,
    vector,
)

GRID = [-3.0, -1.0, -0.3, -0.05, 0.0, 0.01, 0.1, 0.25, 0.5, 0.9, 1.3, 2.0, 4.0]


def told(event: LossEvent, *, forward: bool = True) -> list[float]:
    profile = profile_of(event)
    return list((profile.forward if forward else profile.backward)(np.array(GRID)))


def agree(ours: list[float], above: Table, below: Table, *, slack: float = 1e-12) -> None:
    for epsilon, mine in zip(GRID, ours, strict=True):
        exact = hockey_stick(above, below, epsilon)
        assert mine >= exact
        assert mine <= exact + slack


def splits(whole: int, largest: int) -> Iterator[tuple[int, ...]]:
    if whole == 0:
        yield ()
    for first in range(min(whole, largest), 0, -1):
        for rest in splits(whole - first, first):
            yield (first, *rest)


@pytest.mark.parametrize(
    ("scale", "l1"), [(Fraction(1), 1), (Fraction(2), 3), (Fraction(5), 4), (Fraction(1, 2), 2)]
)
def test_discrete_laplace_is_the_definition(scale: Fraction, l1: int) -> None:
    table = discrete_laplace(scale, math.ceil(45 * scale) + l1)
    agree(told(LaplaceLoss(scale, l1)), shifted(table, l1), table)
    agree(told(LaplaceLoss(scale, l1), forward=False), table, shifted(table, l1))


def losses_of_shift(q: float, shift: int) -> dict[int, float]:
    """Losses of the discrete Laplace shifted by `shift`, in units of 1/b, in closed form."""
    losses = {shift: 1 / (1 + q), -shift: q**shift / (1 + q)}
    for i in range(1, shift):
        losses[shift - 2 * i] = losses.get(shift - 2 * i, 0.0) + (1 - q) / (1 + q) * q**i
    return losses


@pytest.mark.parametrize("scale", [Fraction(1, 2), Fraction(2), Fraction(20)])
@pytest.mark.parametrize("l1", range(1, 10))
def test_no_split_of_the_sensitivity_over_coordinates_is_worse_than_one_coordinate(
    scale: Fraction, l1: int
) -> None:
    q, grid = math.exp(-1 / scale), np.arange(-2 * l1 - 1, 2 * l1 + 2) / 2 / float(scale)
    worst = profile_of(LaplaceLoss(scale, l1)).forward(grid)
    for used in (l1, l1 - 1):  # a customer may also use less than the bound
        for split in splits(used, used):
            joint = {0: 1.0}
            for shift in split:
                joint = _convolve(joint, losses_of_shift(q, shift))
            losses = np.array(list(joint)) / float(scale)
            weights = np.array(list(joint.values()))
            delta = np.maximum(0, -np.expm1(np.minimum(0, grid[:, None] - losses))) @ weights
            assert np.all(delta <= worst + 1e-12)


def _convolve(first: dict[int, float], second: dict[int, float]) -> dict[int, float]:
    joint: dict[int, float] = {}
    for a, p in first.items():
        for b, r in second.items():
            joint[a + b] = joint.get(a + b, 0.0) + p * r
    return joint


@pytest.mark.parametrize("epsilon", ["0.1", "1", "3"])
def test_laplace_on_the_reals_is_the_closed_form(epsilon: str) -> None:
    ours = told(LaplaceLoss(1 / Fraction(epsilon), 1, domain="reals"))
    for at, mine in zip(GRID, ours, strict=True):
        exact = laplace_delta(Fraction(epsilon), at)
        assert exact <= mine <= exact + 1e-12


@given(st.integers(2, 400), st.integers(1, 40))
def test_finer_lattices_approach_the_reals_from_above(fineness: int, l1: int) -> None:
    grid = np.array(GRID)
    coarse = profile_of(LaplaceLoss(Fraction(10 * l1), l1)).forward(grid)
    fine = profile_of(LaplaceLoss(Fraction(10 * l1 * fineness), l1 * fineness)).forward(grid)
    reals = profile_of(LaplaceLoss(Fraction(10), 1, domain="reals")).forward(grid)
    assert np.all(fine <= coarse + 1e-13)
    assert np.all(reals <= fine + 1e-13)


@pytest.mark.parametrize(("scale", "shift"), [(Fraction(1), 1), (Fraction(5, 2), 1), (Fraction(1, 2), 1)])
def test_one_unit_of_discrete_gaussian_noise_is_the_definition(scale: Fraction, shift: int) -> None:
    table = discrete_gaussian(scale, math.ceil(14 * scale) + shift)
    agree(told(GaussianLoss(scale, shift**2)), shifted(table, shift), table)


@pytest.mark.parametrize("shift", [1, 2, 3])
def test_pairs_of_discrete_gaussians_are_the_definition(shift: int) -> None:
    table = discrete_gaussian(Fraction(2), 30)
    profile = discrete_gaussian_pair(Fraction(2), shift)
    agree(list(profile.forward(np.array(GRID))), shifted(table, shift), table)


@pytest.mark.parametrize("shift", [(2,), (1, 1), (1, 1, 1), (2, 1)])
@pytest.mark.parametrize("scale", [Fraction(1), Fraction(3), Fraction(8)])
def test_vectors_of_discrete_gaussian_noise_are_never_told_below(
    shift: tuple[int, ...], scale: Fraction
) -> None:
    reach = math.ceil(7 * scale) if len(shift) > 1 else math.ceil(14 * scale)
    if len(shift) > 2 and scale > 1:
        pytest.skip("a table of more than a hundred thousand rows in fifty digits")
    table = discrete_gaussian(scale, reach)
    above, below = vector([shifted(table, d) for d in shift]), vector([table for _ in shift])
    kept = {key: p for key, p in above.items() if key in below}
    for epsilon, mine in zip(GRID, told(GaussianLoss(scale, sum(d * d for d in shift))), strict=True):
        assert mine >= hockey_stick(kept, below, epsilon) - mpf(10) ** -10


def test_pure_and_approximate_dp_are_their_worst_coins() -> None:
    e = exp(mpf("0.5"))
    heads = {"y": e / (1 + e), "n": 1 / (1 + e)}
    tails = {"y": heads["n"], "n": heads["y"]}
    agree(told(PureLoss(Fraction(1, 2))), heads, tails)
    leak = mpf("0.125")
    leaky = {key: p * (1 - leak) for key, p in heads.items()} | {"leak": leak}
    other = {key: p * (1 - leak) for key, p in tails.items()} | {"other leak": leak}
    agree(told(ApproxLoss(Fraction(1, 2), Fraction(1, 8))), leaky, other)


def test_randomised_response_is_the_definition() -> None:
    event = RandomizedResponseLoss(Fraction(3, 10), 5)
    above = dict.fromkeys(range(5), mpf("0.06"))
    below = dict(above)
    above[0] += mpf("0.7")
    below[1] += mpf("0.7")
    agree(told(event), above, below)


@pytest.mark.parametrize("rate", [Fraction(1, 100), Fraction(3, 10), Fraction(9, 10), Fraction(1)])
@pytest.mark.parametrize(
    ("event", "shift"), [(LaplaceLoss(Fraction(2), 3), 3), (GaussianLoss(Fraction(3, 2), 1), 1)]
)
def test_poisson_samples_are_mixtures_in_both_directions(
    rate: Fraction, event: LaplaceLoss | GaussianLoss, shift: int
) -> None:
    make = discrete_laplace if isinstance(event, LaplaceLoss) else discrete_gaussian
    table = make(event.scale, 100 if isinstance(event, LaplaceLoss) else 30)
    mixture = poisson_mixture(shifted(table, shift), table, rate)
    sampled = PoissonSampledLoss(event, rate)
    agree(told(sampled), mixture, table)
    agree(told(sampled, forward=False), table, mixture)


@pytest.mark.parametrize("denominator", [3, 7, 11, 49, 1000])
def test_every_float_of_a_profile_is_at_or_above_its_fraction(denominator: int) -> None:
    part = Fraction(1, denominator)
    laplace: Any = profile_of(LaplaceLoss(Fraction(denominator), 1))
    assert Fraction(laplace.epsilon) >= part
    pure: Any = profile_of(PureLoss(part))
    assert Fraction(pure.epsilon) >= part
    gaussian: Any = profile_of(GaussianLoss(Fraction(denominator), 1, domain="reals"))
    assert Fraction(gaussian.mu) >= part
    zcdp: Any = profile_of(ZcdpLoss(part, part))
    threshold: Any = profile_of(ThresholdLoss(LaplaceLoss(Fraction(1), 1), part))
    assert Fraction(threshold.leak) >= part
    assert Fraction(zcdp.leak) >= part
    assert Fraction(zcdp.part.rho) >= part
    approximate: Any = profile_of(ApproxLoss(part, part))
    assert Fraction(approximate.leak) >= part
    sampled: Any = profile_of(PoissonSampledLoss(PureLoss(part), part))
    assert Fraction(sampled.rate) >= part


def test_a_threshold_leaks_with_its_delta() -> None:
    noise, leak = LaplaceLoss(Fraction(2), 1), Fraction(1, 1000)
    plain, leaky = told(noise), told(ThresholdLoss(noise, leak))
    assert leaky == pytest.approx([0.001 + 0.999 * delta for delta in plain])
    assert all(b >= 0.001 + 0.999 * a for a, b in zip(plain, leaky, strict=True))


@pytest.mark.parametrize("rho", ["0.02", "0.5"])
def test_zcdp_profile_bounds_the_gaussian_of_that_rho(rho: str) -> None:
    ours = told(ZcdpLoss(Fraction(rho)))
    gaussian = told(GaussianLoss(Fraction(1), 2 * Fraction(rho), domain="reals"))
    assert all(bound >= delta for bound, delta in zip(ours, gaussian, strict=True))


@given(
    st.sampled_from(
        [LaplaceLoss(Fraction(3), 2), GaussianLoss(Fraction(2), 1), RandomizedResponseLoss(Fraction(1, 3), 4)]
    )
)
def test_profiles_fall_from_one_to_zero(event: LossEvent) -> None:
    grid = np.linspace(-40, 40, 4001)
    delta = profile_of(event).forward(grid)
    assert delta[0] == pytest.approx(1)
    assert delta[-1] < 1e-12
    assert np.all(np.diff(delta) <= 1e-12)


def test_replacement_doubles_what_a_customer_can_change() -> None:
    at = np.array([0.5])
    once, twice = LaplaceLoss(Fraction(4), 1), LaplaceLoss(Fraction(4), 2)
    assert profile_of(once, adjacency="replace").forward(at) == profile_of(twice).forward(at)
    narrow, wide = GaussianLoss(Fraction(40), 1), GaussianLoss(Fraction(40), 4)
    assert profile_of(narrow, adjacency="replace").forward(at) == profile_of(wide).forward(at)


@pytest.mark.parametrize(
    "event", [ComposedLoss(()), PoissonSampledLoss(ComposedLoss((PureLoss(Fraction(1)),)), Fraction(1, 2))]
)
def test_compositions_have_no_single_profile(event: LossEvent) -> None:
    with pytest.raises(
        InvalidArgument, match=r"event=.*ComposedLoss.* must have a known profile; compose single events"
    ):
        profile_of(event)


def test_sampled_replacement_is_known_for_gaussians_on_the_reals_only() -> None:
    with pytest.raises(
        InvalidArgument, match=r"part=.* must be continuous Gaussian noise for adjacency='replace'"
    ):
        profile_of(PoissonSampledLoss(LaplaceLoss(Fraction(1), 1), Fraction(1, 2)), adjacency="replace")
