"""Privacy loss distributions: never below the exact value, near it, and independent of order; checked by enumeration and dp-accounting."""

import importlib
import itertools
import math
from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mpmath import exp, log

from dayfly.privacy.accounting import (
    ApproxLoss,
    ComposedLoss,
    GaussianLoss,
    LaplaceLoss,
    LossEvent,
    NoLoss,
    Plan,
    PoissonSampledLoss,
    PureLoss,
    RandomizedResponseLoss,
    RepeatedLoss,
    ThresholdLoss,
    ZcdpLoss,
    composition,
    epsilon_of_gaussian,
    epsilon_of_rho,
    loss_distribution,
)
from dayfly.privacy.accounting.composition import compose, saddle
from dayfly.privacy.accounting.pld import Doubt, LossDistribution, discretise
from dayfly.privacy.accounting.profiles import Profile, profile_of
from dayfly.privacy.errors import InvalidArgument

from ...oracles.dp_accounting_exact import (
    compose_losses,
    delta_of_losses,
    discrete_gaussian,
    discrete_laplace,
    losses_of,
    number,
    poisson_mixture,
    shifted,
)

MILLIONTH = Fraction(1, 10**6)
TENTHS = LaplaceLoss(Fraction(10), 1, domain="reals")


def test_a_hundred_laplace_answers_at_a_tenth_report_at_most_four_point_seven() -> None:
    below = theirs([(TENTHS, 100)], 1e-4, pessimistic=False).get_epsilon_for_delta(1e-6)
    assert below == pytest.approx(4.6927, abs=1e-3)
    for event in (TENTHS, LaplaceLoss(Fraction(1000), 100)):
        told = Plan((RepeatedLoss(event, 100),)).epsilon(MILLIONTH)
        assert below <= told <= 4.70
        assert told <= 4.6928


def test_a_hundred_counts_on_the_bare_lattice_report_what_is_exact_for_them() -> None:
    assert Plan((RepeatedLoss(LaplaceLoss(Fraction(10), 1), 100),)).epsilon(MILLIONTH) == pytest.approx(
        4.774567588, abs=1e-3
    )


@pytest.mark.parametrize(("times", "exact"), [(1, 0.1), (10, 0.9990), (100, 4.6927), (1000, 18.9503)])
def test_laplace_composition_is_that_of_the_reference(times: int, exact: float) -> None:
    told = Plan((RepeatedLoss(TENTHS, times),)).epsilon(MILLIONTH)
    assert exact - 1e-4 <= told <= exact * 1.001


@pytest.mark.parametrize("times", [1, 10, 100, 1000])
def test_gaussian_composition_is_the_closed_form_and_never_below(times: int) -> None:
    exact = epsilon_of_gaussian(10, times, MILLIONTH)
    told = loss_distribution(RepeatedLoss(GaussianLoss(Fraction(10), 1, domain="reals"), times)).epsilon(1e-6)
    assert exact <= told + 1e-9
    assert told <= exact + 1e-4


@pytest.mark.parametrize("digits", [9, 10])
def test_tilted_transforms_are_sharp_at_small_deltas(digits: int) -> None:
    plan = Plan((RepeatedLoss(TENTHS, 100),))
    told = plan.epsilon(Fraction(1, 10**digits))
    peer = theirs([(TENTHS, 100)], 2e-4).get_epsilon_for_delta(10.0**-digits)
    assert told == pytest.approx(peer, abs=1e-2)
    assert told < plan.loss.epsilon(10.0**-digits)
    assert told < 0.95 * epsilon_of_rho(plan.cost.rho, Fraction(1, 10**digits))


def test_tilted_and_plain_transforms_agree_where_both_are_sharp() -> None:
    event = ComposedLoss(
        (RepeatedLoss(TENTHS, 30), RepeatedLoss(PoissonSampledLoss(TENTHS, Fraction(1, 3)), 20))
    )
    plain, tilted = loss_distribution(event), loss_distribution(event, near=1e-5)
    for epsilon in (1.0, 1.5, 2.0):
        assert tilted.delta(epsilon) == pytest.approx(plain.delta(epsilon), rel=1e-4)


def test_a_discrete_gaussian_is_that_of_the_reference() -> None:
    told = loss_distribution(GaussianLoss(Fraction(1), 1)).epsilon(1e-6)
    assert told == pytest.approx(4.499590982, abs=1e-6)


def losses(event: LaplaceLoss | GaussianLoss, shift: int, rate: Fraction | None = None) -> Any:
    make: Any = discrete_laplace if isinstance(event, LaplaceLoss) else discrete_gaussian
    table = make(
        event.scale,
        math.ceil(40 * event.scale) if isinstance(event, LaplaceLoss) else math.ceil(12 * event.scale),
    )
    above = shifted(table, shift)
    if rate is not None:
        above = poisson_mixture(above, table, rate)
    return losses_of(above, table)


@pytest.mark.parametrize("times", [1, 2, 3])
@pytest.mark.parametrize(
    ("event", "shift"),
    [
        (LaplaceLoss(Fraction(3), 1), 1),
        (LaplaceLoss(Fraction(7, 3), 4), 4),
        (GaussianLoss(Fraction(1), 1), 1),
    ],
)
def test_composition_is_never_below_the_enumeration(
    event: LaplaceLoss | GaussianLoss, shift: int, times: int
) -> None:
    one = losses(event, shift)
    together = one
    for _ in range(times - 1):
        together = compose_losses(together, one)
    told = loss_distribution(RepeatedLoss(event, times))
    for epsilon in (0.0, 0.1, 0.33, 0.7, 1.5, 3.0):
        exact = delta_of_losses(together, epsilon)
        assert told.delta(epsilon) >= exact - 1e-17
        assert told.delta(epsilon) <= exact + 2e-4


@pytest.mark.parametrize("rate", [Fraction(1, 10), Fraction(1, 2)])
def test_sampled_composition_is_never_below_the_enumeration(rate: Fraction) -> None:
    event = LaplaceLoss(Fraction(2), 2)
    one = losses(event, 2, rate)
    told = loss_distribution(RepeatedLoss(PoissonSampledLoss(event, rate), 2)).remove
    for epsilon in (0.0, 0.05, 0.2, 0.5, 1.0):
        exact = delta_of_losses(compose_losses(one, one), epsilon)
        assert exact - 1e-17 <= told.delta(epsilon) <= exact + 2e-4


MIXED: list[tuple[LossEvent, int]] = [
    (LaplaceLoss(Fraction(5), 1, domain="reals"), 12),
    (GaussianLoss(Fraction(4), 1, domain="reals"), 7),
    (PoissonSampledLoss(GaussianLoss(Fraction(1), 1, domain="reals"), Fraction(1, 20)), 30),
]


def theirs(events: list[tuple[LossEvent, int]], interval: float, *, pessimistic: bool = True) -> Any:
    lib: Any = importlib.import_module("dp_accounting.pld.privacy_loss_distribution")

    whole: Any = None
    for event, times in events:
        rate, part = (
            (float(event.rate), event.part) if isinstance(event, PoissonSampledLoss) else (1.0, event)
        )
        if isinstance(part, LaplaceLoss):
            one: Any = lib.from_laplace_mechanism(
                float(part.scale),
                value_discretization_interval=interval,
                sampling_prob=rate,
                pessimistic_estimate=pessimistic,
            )
        else:
            assert isinstance(part, GaussianLoss)
            one = lib.from_gaussian_mechanism(
                float(part.scale),
                value_discretization_interval=interval,
                sampling_prob=rate,
                pessimistic_estimate=pessimistic,
            )
        many = one.self_compose(times)
        whole = many if whole is None else whole.compose(many)
    return whole


def test_a_mixed_plan_agrees_with_dp_accounting() -> None:
    peer = theirs(MIXED, 5e-4)
    ours = loss_distribution(ComposedLoss(tuple(RepeatedLoss(event, times) for event, times in MIXED)))
    for delta in (1e-3, 1e-5, 1e-7):
        assert ours.epsilon(delta) == pytest.approx(peer.get_epsilon_for_delta(delta), abs=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("rate", "sigma", "steps", "delta", "published"),
    [
        (Fraction(256, 60_000), Fraction(112, 100), 14_063, 1e-5, 2.3102),
        (Fraction(256, 60_000), Fraction(6, 10), 7_032, 1e-5, 7.6900),
        (Fraction(256, 60_000), Fraction(12, 10), 2_344, 1e-5, 0.7923),
        (Fraction(1, 100), Fraction(4), 10_000, 1e-5, 0.9470),
    ],
)
def test_dp_sgd_is_that_of_dp_accounting(
    rate: Fraction, sigma: Fraction, steps: int, delta: float, published: float
) -> None:
    event = PoissonSampledLoss(GaussianLoss(sigma, 1, domain="reals"), rate)
    assert loss_distribution(RepeatedLoss(event, steps)).epsilon(delta) == pytest.approx(published, rel=1e-3)


EVENTS: st.SearchStrategy[LossEvent] = st.one_of(
    st.builds(LaplaceLoss, st.fractions(min_value=1, max_value=30, max_denominator=50), st.integers(1, 9)),
    st.builds(GaussianLoss, st.fractions(min_value=1, max_value=30, max_denominator=50), st.integers(1, 9)),
    st.builds(PureLoss, st.fractions(min_value=Fraction(1, 100), max_value=1)),
    st.builds(
        ApproxLoss,
        st.fractions(min_value=Fraction(1, 100), max_value=1),
        st.sampled_from([Fraction(1, 10**4)]),
    ),
    st.builds(ZcdpLoss, st.fractions(min_value=Fraction(1, 1000), max_value=Fraction(1, 4))),
)


@settings(max_examples=10)
@given(st.lists(EVENTS, min_size=1, max_size=5), st.randoms())
def test_order_does_not_matter(events: list[LossEvent], order: Any) -> None:
    other = list(events)
    order.shuffle(other)
    one, two = Plan.of(events), Plan.of(other)
    assert one.epsilon(MILLIONTH) == pytest.approx(two.epsilon(MILLIONTH), rel=1e-9)


@settings(max_examples=10)
@given(st.lists(EVENTS, min_size=1, max_size=4), EVENTS)
def test_one_more_release_never_costs_less(events: list[LossEvent], more: LossEvent) -> None:
    less, whole = Plan.of(events), Plan.of([*events, more])
    assert whole.epsilon(Fraction(1, 1000)) >= less.epsilon(Fraction(1, 1000)) * (1 - 1e-4) - 1e-4


@settings(max_examples=10)
@given(st.lists(EVENTS, min_size=1, max_size=5), st.fractions(min_value=0, max_value=3))
def test_a_plan_is_no_worse_than_basic_composition_or_zcdp(
    events: list[LossEvent], epsilon: Fraction
) -> None:
    from dayfly.privacy.accounting import delta_of_rho

    plan = Plan.of(events)
    assert plan.delta(epsilon) <= delta_of_rho(plan.cost.rho, epsilon) + float(plan.cost.delta) + 1e-15
    if plan.cost.epsilon is not None:
        assert plan.epsilon(plan.cost.delta) <= float(plan.cost.epsilon) + 1e-12


@settings(max_examples=8)
@given(st.lists(EVENTS, min_size=1, max_size=3))
def test_a_finer_grid_is_sharper_and_both_stay_above_it(events: list[LossEvent]) -> None:
    event = ComposedLoss(tuple(events))
    coarse, fine = loss_distribution(event, step=2e-2), loss_distribution(event, step=1e-3)
    for epsilon in (0.0, 0.3, 1.0):
        assert coarse.delta(epsilon) >= fine.delta(epsilon) - 1e-9


@pytest.mark.slow
def test_a_million_small_releases_still_fit_a_grid() -> None:
    plan = Plan((RepeatedLoss(LaplaceLoss(Fraction(1000), 1, domain="reals"), 10**6),))
    told = plan.epsilon(MILLIONTH)
    assert (
        epsilon_of_gaussian(1000, 10**6, MILLIONTH) * 0.999 < told < epsilon_of_rho(plan.cost.rho, MILLIONTH)
    )


def test_epsilon_and_delta_are_the_two_sides_of_one_curve() -> None:
    loss = loss_distribution(RepeatedLoss(TENTHS, 20))
    for delta in (1e-2, 1e-4, 1e-6):
        epsilon = loss.epsilon(delta)
        assert loss.delta(epsilon) <= delta * (1 + 1e-9)
        assert loss.delta(epsilon - 1e-6) > delta


def test_leaks_compose_as_independent_coins() -> None:
    loss = loss_distribution(RepeatedLoss(ApproxLoss(Fraction(0), Fraction(1, 10)), 3))
    assert loss.delta(0.0) == pytest.approx(1 - 0.9**3)
    assert loss.delta(0.0) >= 1 - 0.9**3
    assert loss.epsilon(0.2) == math.inf


def test_thresholds_keep_the_loss_of_their_noise() -> None:
    noise = GaussianLoss(Fraction(30), 9)
    plain, leaky = loss_distribution(noise), loss_distribution(ThresholdLoss(noise, MILLIONTH))
    assert leaky.delta(0.1) == pytest.approx(plain.delta(0.1) * (1 - 1e-6) + 1e-6)


def test_nothing_private_costs_nothing() -> None:
    assert Plan((NoLoss(),)).epsilon(0) == 0
    assert Plan(()).delta(0) == 0
    assert loss_distribution(LaplaceLoss(Fraction(1), 0)).epsilon(1e-9) == 0


def test_randomised_response_composes_under_replacement() -> None:
    event = RandomizedResponseLoss(Fraction(1, 2), 3)
    one = math.log(4)
    loss = loss_distribution(RepeatedLoss(event, 2), adjacency="replace")
    p, q = 2 / 3, 1 / 6
    exact = sum(
        max(0.0, a * b - math.exp(1.0) * c * d)
        for (a, c), (b, d) in itertools.product([(p, q), (q, p), (q, q)], repeat=2)
    )
    assert exact <= loss.delta(1.0) <= exact + 1e-5
    assert loss.delta(2 * one + 1e-6) < 1e-3  # a knot next to the edge keeps a little; `Plan` knows the edge


def test_adding_a_customer_is_accounted_apart_from_removing_one() -> None:
    event = PoissonSampledLoss(GaussianLoss(Fraction(1, 2), 1, domain="reals"), Fraction(1, 5))
    loss = loss_distribution(RepeatedLoss(event, 3))
    assert loss.remove.delta(1.0) > 10 * loss.add.delta(1.0)
    assert loss.delta(1.0) == loss.remove.delta(1.0)


def test_gaussian_noise_at_delta_zero_has_no_epsilon() -> None:
    assert Plan((GaussianLoss(Fraction(1), 1),)).epsilon(0) == math.inf


def told_profile(event: LossEvent) -> Profile:
    if isinstance(event, ZcdpLoss):
        return profile_of(GaussianLoss(Fraction(1), 2 * event.rho, domain="reals"))
    return profile_of(event)


def test_masses_as_discretised_are_certified_at_every_knot() -> None:
    for event in (
        TENTHS,
        GaussianLoss(Fraction(3), 1),
        PoissonSampledLoss(TENTHS, Fraction(1, 7)),
        ZcdpLoss(Fraction(1, 50)),
    ):
        profile = profile_of(event)
        loss = discretise(profile.forward, profile.span, 1e-3)
        knots = loss.losses
        # Bounds of zCDP are no profile; what must not be passed is the profile of a release that is rho-zCDP.
        true = told_profile(event).forward(knots)
        for place in range(0, knots.size, 7):
            if knots[place] >= 0:
                assert loss.delta(float(knots[place])) >= true[place]


def test_a_window_that_cuts_tails_pays_for_them(monkeypatch: pytest.MonkeyPatch) -> None:
    profile = profile_of(LaplaceLoss(Fraction(2), 1, domain="reals"))
    part = discretise(profile.forward, profile.span, 1e-3)
    whole = compose([(part, 40)])
    monkeypatch.setattr(composition, "_CUT", 1e-3)
    cut = compose([(part, 40)])
    assert cut.masses.size < whole.masses.size
    assert cut.infinite >= whole.infinite + 1.9e-3  # Chernoff's bound of both tails
    for epsilon in (0.0, 2.0, 5.0, 8.0):
        assert cut.delta(epsilon) >= whole.delta(epsilon) - whole.infinite


@pytest.mark.parametrize("delta", ["0.1", "0.37", "0.6", "0.000001"])
def test_reading_between_knots_is_the_exact_curve_rounded_up(delta: str) -> None:
    one = LossDistribution(1.0, 0, np.array([0.0, 1.0]), 0.0)  # a loss of one: delta = 1 - e^(epsilon - 1)
    exact = 1 + log(1 - number(Fraction(delta)))
    told = one.epsilon(float(delta))
    assert exact < told < exact + 1e-11
    assert one.delta(told) <= float(delta)
    back = one.delta(float(exact))
    assert 1 - exp(number(Fraction(float(exact))) - 1) <= back <= float(delta) + 1e-11


def test_infinite_losses_add_up() -> None:
    profile = profile_of(TENTHS)
    part = replace(discretise(profile.forward, profile.span, 1e-3), infinite=0.01)
    assert compose([(part, 3)]).delta(5.0) >= 1 - 0.99**3
    assert compose([(part, 3), (part, 2)]).delta(5.0) >= 1 - 0.99**5


def test_doubt_is_part_of_every_delta() -> None:
    sure = LossDistribution(0.5, 0, np.array([1.0, 0.0, 0.0]), 0.0)
    flat = replace(sure, doubt=Doubt(math.log(0.25)))
    assert sure.delta(0.5) < 1e-15
    assert flat.delta(0.5) == pytest.approx(0.25)
    assert flat.delta(9.0) >= 0.25
    falling = replace(sure, doubt=Doubt(math.log(0.25), 2.0))
    assert falling.delta(0.5) == pytest.approx(0.25 / math.e)
    assert compose([(flat, 2)]).delta(9.0) >= 0.5


def test_slack_of_the_transform_covers_its_error() -> None:
    profile = profile_of(TENTHS)
    part = discretise(profile.forward, profile.span, 2e-3)
    once: Any = part.masses.astype(np.longdouble)
    direct = once
    for _ in range(11):
        direct = np.convolve(direct, once)
    composed = compose([(part, 12)])
    start = composed.first - part.first * 12
    same = direct[start : start + composed.masses.size]
    assert float(np.abs(composed.masses[: same.size] - same).sum()) <= math.exp(composed.doubt.log_size)
    tilt = saddle([(part, 12)], 1e-3)
    tilted = compose([(part, 12)], tilt=tilt)
    assert tilted.doubt.tilt == tilt > 1
    losses = tilted.losses[: same.size]
    for epsilon in (0.3, 0.6, 0.9):
        above = losses > epsilon
        missing = float(np.maximum(same - tilted.masses[: same.size], 0)[above].sum())
        assert missing <= math.exp(tilted.doubt.log_size - tilt * epsilon)
        error = float(np.abs(tilted.masses[: same.size] - same)[above].sum())
        # Relative, not absolute: that is what the tilt is for.
        assert error <= 1e-7 * float(same[above].sum()) + 1e-25


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda loss: loss.delta(-1.0), r"epsilon=-1\.0 must be finite and >= 0"),
        (lambda loss: loss.delta(math.nan), r"epsilon=nan must be finite and >= 0"),
        (lambda loss: loss.epsilon(2.0), r"delta=2\.0 must lie in \[0, 1\]"),
        (lambda _: compose([]), r"parts=\(\) must hold at least one distribution"),
        (
            lambda loss: compose([(loss, 1), (LossDistribution(1.0, 0, loss.masses, 0.0), 1)]),
            "must be one grid",
        ),
        (lambda _: discretise(lambda e: 0 * e, (0.0, 1.0), 1e-9), "step=1e-09 must be coarser for losses"),
        (lambda loss: compose([(loss, 10**9)]), "must be coarser for a window"),
        (
            lambda loss: compose([(compose([(loss, 2)], tilt=1.0), 2)]),
            "parts must not be tilted; compose them from the single events",
        ),
    ],
)
def test_bad_questions_are_refused(call: Any, message: str) -> None:
    profile = profile_of(TENTHS)
    with pytest.raises(InvalidArgument, match=message):
        call(discretise(profile.forward, profile.span, 1e-3))


def test_a_plan_takes_exact_deltas_only() -> None:
    inexact: Any = 1e-6
    with pytest.raises(InvalidArgument, match="delta=1e-06 must be an int or a Fraction"):
        Plan((TENTHS,)).epsilon(inexact)
