"""Loss events are values: exact, checked, and taken apart without loss."""

from fractions import Fraction
from typing import Any

import pytest

from dayfly.privacy.accounting import (
    ApproxLoss,
    ComposedLoss,
    GaussianLoss,
    LaplaceLoss,
    NoLoss,
    PoissonSampledLoss,
    PureLoss,
    RandomizedResponseLoss,
    RepeatedLoss,
    Sensitivity,
    ThresholdLoss,
    ZcdpLoss,
)
from dayfly.privacy.accounting.losses import leaves
from dayfly.privacy.errors import InvalidArgument

TENTH = PureLoss(Fraction(1, 10))
NO_EVENT: Any = 1
_Laplace: Any = LaplaceLoss
_Gaussian: Any = GaussianLoss
_Threshold: Any = ThresholdLoss
_Sampled: Any = PoissonSampledLoss


def test_bounded_contributions_have_the_norms_of_the_worst_vector() -> None:
    assert Sensitivity.bounded(4, 10) == Sensitivity(l0=4, l1=40, l2_squared=400, linf=10)


def test_laplace_epsilon_is_exact() -> None:
    assert LaplaceLoss(Fraction(3), 1).epsilon == Fraction(1, 3)


def test_gaussian_rho_is_exact() -> None:
    assert GaussianLoss(Fraction(3), 2).rho == Fraction(1, 9)


def test_randomised_response_odds_are_exact() -> None:
    assert RandomizedResponseLoss(Fraction(1, 2), 2).odds == 3
    assert RandomizedResponseLoss(Fraction(1), 5).odds == 1


def test_events_are_values() -> None:
    assert LaplaceLoss(Fraction(3), 1) == LaplaceLoss(3, Fraction(1))  # type: ignore[arg-type]
    assert len({GaussianLoss(Fraction(3), 1), GaussianLoss(Fraction(3), Fraction(1))}) == 1


def test_leaves_are_counted_through_composition_and_repetition() -> None:
    whole = ComposedLoss(
        (TENTH, RepeatedLoss(ComposedLoss((TENTH, RepeatedLoss(ZcdpLoss(Fraction(1)), 2))), 3), NoLoss())
    )
    assert list(leaves(whole)) == [(TENTH, 1), (TENTH, 3), (ZcdpLoss(Fraction(1)), 6)]
    assert list(leaves(RepeatedLoss(TENTH, 0))) == []


def test_a_sampled_event_is_a_leaf() -> None:
    sampled = PoissonSampledLoss(RepeatedLoss(TENTH, 2), Fraction(1, 2))
    assert list(leaves(sampled)) == [(sampled, 1)]


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: _Laplace(0, 1), r"scale=0 must be > 0"),
        (lambda: _Laplace(Fraction(-1), 1), r"scale=Fraction\(-1, 1\) must be > 0"),
        (lambda: _Laplace(0.5, 1), r"scale=0\.5 must be an int or a Fraction"),
        (
            lambda: _Laplace(Fraction(1), Fraction(1, 2)),
            r"l1=Fraction\(1, 2\) must be a whole number of lattice units",
        ),
        (lambda: _Laplace(Fraction(1), -1), r"l1=-1 must be >= 0"),
        (
            lambda: _Laplace(Fraction(1), 1, domain="floats"),
            r"domain='floats' must be 'integers' or 'reals'",
        ),
        (lambda: _Gaussian(float("nan"), 1), r"scale=nan must be an int or a Fraction"),
        (
            lambda: _Gaussian(Fraction(1), Fraction(1, 2)),
            r"l2_squared=Fraction\(1, 2\) must be a whole number",
        ),
        (lambda: PureLoss(Fraction(-1)), r"epsilon=Fraction\(-1, 1\) must be >= 0"),
        (lambda: ApproxLoss(Fraction(1), Fraction(2)), r"delta=Fraction\(2, 1\) must lie in \[0, 1\]"),
        (lambda: ZcdpLoss(Fraction(-1)), r"rho=Fraction\(-1, 1\) must be >= 0"),
        (
            lambda: _Threshold(TENTH, Fraction(0)),
            r"noise=PureLoss.* must be a LaplaceLoss or GaussianLoss",
        ),
        (lambda: RandomizedResponseLoss(Fraction(0), 2), r"noise=Fraction\(0, 1\) must be > 0"),
        (lambda: RandomizedResponseLoss(Fraction(1), 1), r"categories=1 must be an integer >= 2"),
        (lambda: _Sampled(TENTH, Fraction(3, 2)), r"rate=Fraction\(3, 2\) must lie in \[0, 1\]"),
        (lambda: _Sampled("x", Fraction(1)), r"part='x' must be a loss event"),
        (lambda: ComposedLoss((NO_EVENT,)), r"parts=1 must be a loss event"),
        (lambda: RepeatedLoss(TENTH, -1), r"times=-1 must be an integer >= 0"),
        (lambda: RepeatedLoss(TENTH, times=True), r"times=True must be an integer >= 0"),
        (lambda: Sensitivity(l0=1, l1=2, l2_squared=1, linf=1), r"l0=1 l1=2 .* must be norms of one vector"),
        (
            lambda: Sensitivity(l0=2, l1=2, l2_squared=3, linf=1),
            r"l2_squared=3 .* must be norms of one vector",
        ),
        (lambda: Sensitivity(l0=-1, l1=0, l2_squared=0, linf=0), r"l0=-1 must be an integer >= 0"),
    ],
)
def test_what_is_no_loss_is_refused(build: Any, message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        build()
