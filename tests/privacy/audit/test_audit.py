"""The audit: exact bounds, honest on what holds, sharp on what does not."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats

from dayfly.privacy.audit import audit, audit_delta, clopper_pearson, delta_lower, epsilon_lower
from dayfly.privacy.audit.run import Draws
from dayfly.privacy.errors import AuditFailed, InvalidArgument


def laplace(centre: float, scale: float, seed: int) -> Draws:
    """NumPy's floating-point Laplace: good enough to audit an audit."""
    generator = np.random.default_rng(seed)
    return lambda count: generator.laplace(centre, scale, count)


@given(st.integers(1, 5_000), st.data(), st.sampled_from([0.9, 0.95, 0.999]))
def test_an_interval_is_the_one_that_scipy_gives(draws: int, data: st.DataObject, confidence: float) -> None:
    successes = data.draw(st.integers(0, draws))
    ours = clopper_pearson(successes, draws, confidence=confidence)
    theirs = stats.binomtest(successes, draws).proportion_ci(confidence_level=confidence, method="exact")
    assert ours.lower == pytest.approx(theirs.low, rel=1e-9, abs=1e-15)
    assert ours.upper == pytest.approx(theirs.high, rel=1e-9, abs=1e-15)


def test_an_event_never_seen_without_the_customer_bounds_epsilon_by_the_draws() -> None:
    assert epsilon_lower(1_000, 1_000, 0, 1_000, confidence=0.95) == pytest.approx(
        math.log(0.025 ** (1 / 1_000) / (1 - 0.025 ** (1 / 1_000)))
    )


def test_delta_is_taken_off_before_the_ratio() -> None:
    assert epsilon_lower(600, 1_000, 100, 1_000, delta=0.7, confidence=0.95) == 0
    assert epsilon_lower(600, 1_000, 100, 1_000, delta=0.2, confidence=0.95) < epsilon_lower(
        600, 1_000, 100, 1_000, confidence=0.95
    )


def test_delta_is_what_epsilon_does_not_explain() -> None:
    """Both ends of the interval by SciPy's own binomial test."""
    likely, rare = (
        stats.binomtest(seen, 1_000).proportion_ci(confidence_level=0.95, method="exact")
        for seen in (400, 100)
    )
    found = delta_lower(400, 1_000, 100, 1_000, epsilon=1, confidence=0.95)
    assert found == pytest.approx(likely.low - math.e * rare.high)
    assert delta_lower(400, 1_000, 100, 1_000, epsilon=5, confidence=0.95) == 0
    assert delta_lower(400, 1_000, 100, 1_000, epsilon=1e6, confidence=0.95) == 0


def test_a_true_claim_passes_and_nearly_all_of_it_is_seen() -> None:
    report = audit(laplace(1, 1, 1), laplace(0, 1, 2), epsilon=1, draws=200_000)
    report.check()
    assert report.power > 0.95


def test_noise_for_half_the_sensitivity_is_caught() -> None:
    report = audit(laplace(1, 0.5, 1), laplace(0, 0.5, 2), epsilon=1, draws=20_000)
    with pytest.raises(AuditFailed, match=r"epsilon=1 must not be less than .* stop releasing"):
        report.check()


def test_the_direction_of_a_release_of_many_groups_is_found() -> None:
    """One customer in every fourth of 40 groups: no single group shows it, their sum does."""
    every_fourth = (np.arange(40) % 4 == 0).astype(np.float64)

    def draws(change: NDArray[np.float64], seed: int) -> Draws:
        generator = np.random.default_rng(seed)

        def run(count: int) -> NDArray[np.float64]:
            return generator.normal(0, math.sqrt(10), (count, 40)) + change

        return run

    # The projection is one Gaussian query with sensitivity 1 and sigma 1: its epsilon at delta 0.05 is 1.57.
    report = audit(
        draws(every_fourth, 3), draws(0 * every_fourth, 4), epsilon=1.58, delta=0.05, draws=100_000
    )
    report.check()
    assert report.power > 0.8
    assert "projection" in report.event


def test_the_corner_where_all_columns_tell_is_found() -> None:
    """Two Laplace answers, half of epsilon each: no half-plane shows the whole loss, the quadrant does."""

    def draws(centre: float, seed: int) -> Draws:
        generator = np.random.default_rng(seed)
        return lambda count: generator.laplace(centre, 2 / 1.5, (count, 2)) * np.array([1.0, -1.0])

    report = audit(draws(1, 7), draws(0, 8), epsilon=1.5, draws=200_000)
    report.check()
    assert report.power > 0.94
    assert "the least of 2 columns" in report.event


def test_a_given_statistic_shows_what_directions_do_not() -> None:
    """The difference is in how far apart two numbers are, not in any of their means."""

    def draws(scale: float, seed: int) -> Draws:
        generator = np.random.default_rng(seed)
        return lambda count: (
            generator.choice([-1.0, 1.0], (count, 1)) * generator.laplace(scale, 1, (count, 2))
        )

    first, second = draws(2, 21), draws(0, 22)
    blind = audit(first, second, epsilon=4, draws=20_000)
    seeing = audit(first, second, epsilon=4, draws=20_000, statistic=lambda rows: np.abs(rows.sum(axis=1)))
    seeing.check()
    assert seeing.epsilon_lower > blind.epsilon_lower + 0.2
    assert seeing.event.startswith("statistic as")


def test_the_direction_of_correlated_noise_is_found() -> None:
    """A running total of three steps: the second difference, of opposite signs, shows what each total hides behind the first's noise."""

    def draws(change: float, seed: int) -> Draws:
        generator = np.random.default_rng(seed)
        scales, shift = np.array([10.0, 1.0, 10.0]), np.array([0.0, change, 0.0])
        return lambda count: np.cumsum(generator.normal(0, 1, (count, 3)) * scales + shift, axis=1)

    # One Gaussian number with sensitivity 2 and sigma 1 is all that tells: at delta 0.1 its epsilon is 3.80.
    report = audit(draws(2, 23), draws(0, 24), epsilon=3.81, delta=0.1, draws=100_000)
    report.check()
    assert report.power > 0.8


def test_a_delta_that_is_used_up_is_seen_and_a_larger_one_is_refused() -> None:
    """With the customer a key is shown in one of five draws, else never."""

    def draws(chance: float, seed: int) -> Draws:
        generator = np.random.default_rng(seed)
        return lambda count: np.where(generator.random(count) < chance, 7.0, np.nan)

    report = audit_delta(draws(0.2, 31), draws(0, 32), epsilon=1, delta=0.2, draws=100_000)
    report.check()
    assert report.epsilon_lower == 0
    assert report.power > 0.9
    with pytest.raises(AuditFailed, match=r"delta=0.15 must not be less than .* stop releasing"):
        audit_delta(draws(0.2, 33), draws(0, 34), epsilon=1, delta=0.15, draws=100_000).check()


def test_a_group_that_only_the_customer_brings_in_is_seen() -> None:
    """Unknown keys: what tells is that the group is there at all."""

    def draws(chance: float, seed: int) -> Draws:
        generator = np.random.default_rng(seed)
        return lambda count: np.where(generator.random(count) < chance, 7.0, np.nan)

    with pytest.raises(AuditFailed, match="epsilon=1 must not be less than"):
        audit(draws(0.3, 5), draws(0.01, 6), epsilon=1, draws=20_000).check()


@pytest.mark.slow
def test_a_true_claim_is_refused_no_more_often_than_the_confidence_allows() -> None:
    """A thousand audits of a tight claim at confidence 0.9: about a hundred may fail, 140 would be four sigma."""
    refused = 0
    for seed in range(1_000):
        report = audit(
            laplace(1, 1, 2 * seed), laplace(0, 1, 2 * seed + 1), epsilon=1, draws=2_000, confidence=0.9
        )
        refused += report.epsilon_lower > 1
    assert refused < 140


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"epsilon": 0}, "epsilon=0 must be a number above 0"),
        ({"epsilon": float("nan")}, "epsilon=nan must be a number above 0"),
        ({"epsilon": 1, "delta": 1}, "delta=1 must be at least 0 and less than 1"),
        ({"epsilon": 1, "draws": 99}, "draws=99 must be at least 100"),
        ({"epsilon": 1, "confidence": 1}, "confidence=1 must be between 0 and 1"),
    ],
)
def test_what_cannot_be_audited_is_refused(arguments: dict[str, float], message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        audit(laplace(0, 1, 1), laplace(0, 1, 2), **arguments)  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("delta", [0, 1, float("nan")])
def test_a_delta_that_cannot_be_is_refused(delta: float) -> None:
    with pytest.raises(InvalidArgument, match=f"delta={delta} must be above 0 and less than 1"):
        audit_delta(laplace(0, 1, 1), laplace(0, 1, 2), epsilon=1, delta=delta)


@pytest.mark.parametrize("epsilon", [0, float("nan")])
def test_an_epsilon_that_bounds_no_delta_is_refused(epsilon: float) -> None:
    with pytest.raises(InvalidArgument, match=f"epsilon={epsilon} must be a number above 0"):
        delta_lower(4, 10, 1, 10, epsilon=epsilon, confidence=0.95)


def test_counts_that_cannot_be_are_refused() -> None:
    with pytest.raises(InvalidArgument, match="successes=3 must be from 0 to draws=2"):
        clopper_pearson(3, 2)


def test_outputs_of_another_number_or_width_are_refused() -> None:
    with pytest.raises(InvalidArgument, match=r"shape=\(3, 1\) must be \(500,\)"):
        audit(lambda _: [1.0, 2.0, 3.0], laplace(0, 1, 1), epsilon=1, draws=1_000)
    with pytest.raises(InvalidArgument, match="columns=2 must be as many as the 1"):
        audit(lambda count: np.zeros((count, 2)), laplace(0, 1, 1), epsilon=1, draws=1_000)
