"""Checks of noise, accounting and thresholds: exact sums over probabilities, and directions of rounding in fractions."""

import math
from fractions import Fraction
from itertools import pairwise

import numpy as np
from scipy import stats

from dayfly.privacy.accounting import (
    ApproxLoss,
    Cost,
    GaussianLoss,
    KeySelection,
    LaplaceLoss,
    Plan,
    PoissonSampledLoss,
    PureFilter,
    PureLoss,
    RandomizedResponseLoss,
    ZcdpFilter,
    cost_of,
    gaussian_scale,
    laplace_scale,
    rho_of_epsilon_delta,
    smallest_threshold,
    threshold_delta,
)
from dayfly.privacy.errors import FilterExceeded
from dayfly.privacy.noise import OpenDpNoise

Masses = dict[int, float]


def discrete(kind: str, scale: float, *, reach: int = 400) -> Masses:
    """Probabilities of discrete Laplace or Gaussian noise, from its definition."""

    def weight(x: int) -> float:
        return math.exp(-abs(x) / scale if kind == "laplace" else -x * x / (2 * scale * scale))

    weights = {x: weight(x) for x in range(-reach, reach + 1)}
    total = math.fsum(weights.values())
    return {x: weight / total for x, weight in weights.items()}


def divergence(masses: Masses, shift: int, order: float) -> float:
    """Renyi divergence of noise from itself moved by `shift`."""
    terms = (
        math.exp(order * math.log(mass) + (1 - order) * math.log(masses[x - shift]))
        for x, mass in masses.items()
        if masses.get(x - shift, 0.0) > 0 and mass > 0
    )
    return math.log(math.fsum(terms)) / (order - 1)


def rho_bounds_every_divergence() -> None:
    """zCDP says: at most order * rho, for every order; of Gaussian and Laplace noise and of randomised response."""
    orders = (1.001, 1.5, 2.0, 8.0)
    for sigma in (2, 5):
        claimed, masses = float(GaussianLoss(Fraction(sigma), 9).rho), discrete("gaussian", sigma, reach=60)
        assert all(divergence(masses, 3, order) <= order * claimed * (1 + 1e-9) for order in orders)
    for scale in (1, 4):
        claimed = float(cost_of(LaplaceLoss(Fraction(scale), 2)).rho)
        masses = discrete("laplace", scale, reach=200)
        assert all(divergence(masses, 2, order) <= order * claimed * (1 + 1e-9) for order in orders)
    for epsilon in (Fraction(1, 2), Fraction(2)):
        true = math.exp(epsilon) / (1 + math.exp(epsilon))
        claimed = float(cost_of(PureLoss(epsilon)).rho)
        for order in orders:
            terms = true**order * (1 - true) ** (1 - order) + (1 - true) ** order * true ** (1 - order)
            assert math.log(terms) / (order - 1) <= order * claimed * (1 + 1e-9)


def scales_are_rounded_up() -> None:
    """In fractions: the noise of a scale never loses more than was asked for."""
    for number in range(1, 60):
        rho, l2_squared = Fraction(number, 97), 1 + number % 7
        assert Fraction(l2_squared) <= 2 * rho * gaussian_scale(l2_squared, rho) ** 2
        assert laplace_scale(number, Fraction(1, 7)) * Fraction(1, 7) >= number


def conversion_covers_the_gaussian() -> None:
    """Noise of the rho that (epsilon, delta) is turned into has a delta of at most that, by the exact Gaussian formula."""
    for epsilon, delta in ((1, 1e-6), (4, 1e-5), (16, 1e-5), (40, 1e-5)):
        rho = float(rho_of_epsilon_delta(Fraction(epsilon), Fraction(delta)))
        assert rho > 0
        sigma = math.sqrt(1 / (2 * rho))
        first, second = 1 / (2 * sigma) - epsilon * sigma, -1 / (2 * sigma) - epsilon * sigma
        exact = stats.norm.cdf(first) - math.exp(epsilon + stats.norm.logcdf(second))
        assert exact <= delta


def a_key_of_one_customer_is_shown_no_more_often_than_delta() -> None:
    """Brute force over the noise: some of a customer's own keys reaches the threshold, which is shown when equalled."""
    for kind, noise in (("laplace", LaplaceLoss(Fraction(4), 4)), ("gaussian", GaussianLoss(Fraction(3), 4))):
        masses = discrete(kind, float(noise.scale))
        for l0 in (1, 4):
            for delta in (Fraction(1, 50), Fraction(1, 10**5)):
                threshold = smallest_threshold(noise, delta, l0=l0, linf=1)
                shown = math.fsum(mass for x, mass in masses.items() if 1 + x >= threshold)
                exact = -math.expm1(l0 * math.log1p(-shown))
                assert exact <= float(delta)
                assert exact * 0.999 <= float(threshold_delta(noise, threshold, l0=l0, linf=1))


def a_selection_of_keys_keeps_no_lone_key_too_often() -> None:
    """Neighbouring numbers of customers: the probabilities differ by e^epsilon and delta, shared among the keys of one."""
    epsilon, delta, l0 = Fraction(1), Fraction(1, 1000), 5
    selection = KeySelection(epsilon, delta, l0)
    assert selection.keep_probability(0) == 0
    assert selection.keep_probability(1) * l0 <= delta
    growth, slack = math.exp(float(epsilon) / l0), float(delta) / l0
    for before, after in pairwise(float(selection.keep_probability(count)) for count in range(80)):
        assert before <= after <= growth * before + slack * (1 + 1e-12)
        assert 1 - before <= growth * (1 - after) + slack * (1 + 1e-12)


def losses_add_up() -> None:
    """Of two releases about the same customer both losses are paid."""
    one, other = Cost(Fraction(1, 2), Fraction(1, 8), Fraction(1, 100)), Cost(Fraction(1, 3), Fraction(1, 50))
    both = one + other
    assert both.epsilon == Fraction(5, 6)
    assert both.rho == Fraction(1, 8) + Fraction(1, 50)
    assert (one + one).delta == Fraction(1, 50)
    assert cost_of(ApproxLoss(Fraction(1), Fraction(1, 10))).delta == Fraction(1, 10)


def a_filter_lets_nothing_pass_its_budget() -> None:
    """Also not the one spend that begins within it and ends beyond."""
    for filter_, cost in (
        (PureFilter(Fraction(1)), Cost(Fraction(3, 5), Fraction(1, 9))),
        (ZcdpFilter(Fraction(1)), Cost(Fraction(1), Fraction(3, 5))),
    ):
        filter_.spend(cost)
        before = filter_.spent
        try:
            filter_.spend(cost)
        except FilterExceeded:
            assert filter_.spent == before
        else:
            raise AssertionError(f"{filter_} let more than its budget pass")


def a_distribution_of_losses_is_never_below_the_exact_loss() -> None:
    """One Laplace and composed Gaussian releases have closed forms."""
    for delta in (Fraction(1, 1000), Fraction(1, 10**6)):
        exact = 1 + 2 * math.log1p(-float(delta))
        told = Plan.of([LaplaceLoss(Fraction(1), 1, domain="reals")]).epsilon(delta)
        assert exact <= told <= exact + 2e-3
    for count in (1, 4):
        sigma, epsilon = 2 / math.sqrt(count), 1.0
        exact = stats.norm.cdf(0.5 / sigma - sigma) - math.e * stats.norm.cdf(-0.5 / sigma - sigma)
        plan = Plan.of([GaussianLoss(Fraction(2), 1, domain="reals")] * count)
        assert exact <= plan.delta(Fraction(epsilon)) <= exact * 1.01


def a_sample_amplifies_no_more_than_it_does() -> None:
    """Randomised response about one customer who is in the sample with probability q: all its probabilities, enumerated."""
    for odds, rate in ((Fraction(3), Fraction(1, 2)), (Fraction(20), Fraction(1, 10))):
        claimed = cost_of(
            PoissonSampledLoss(PureLoss(Fraction(math.log(odds)).limit_denominator(10**9)), rate)
        )
        with_customer = rate * odds / (1 + odds) + (1 - rate) / (1 + odds)
        exact = math.log(with_customer * (1 + odds))
        assert claimed.epsilon is not None
        assert exact <= float(claimed.epsilon) * (1 + 1e-8)


def randomised_response_is_counted_with_its_true_odds() -> None:
    """k answers, drawn evenly with some probability: the ratio of the likeliest to another, in fractions."""
    for categories, noise in ((2, Fraction(1, 2)), (5, Fraction(1, 4))):
        other = noise / categories
        odds = (1 - noise + other) / other
        claimed = cost_of(RandomizedResponseLoss(noise, categories)).epsilon
        assert claimed is not None
        assert math.exp(float(claimed)) >= float(odds) * (1 - 1e-12)


def noise_has_the_probabilities_that_are_claimed() -> None:
    """Chi-square against the definition: what floats round to, or clip, is another distribution."""
    draws = 6_000
    for kind, scale in (("laplace", 1), ("gaussian", 1)):
        noise = getattr(OpenDpNoise(), kind)(np.zeros(draws, np.int64), Fraction(scale))
        masses = discrete(kind, scale)
        cells = range(-2, 3)
        expected = [draws * masses[x] for x in cells]
        seen = [int((noise == x).sum()) for x in cells]
        expected.append(draws - sum(expected))
        seen.append(draws - sum(seen))
        assert stats.chisquare(seen, expected).pvalue > 1e-7


def noise_is_drawn_anew_each_time() -> None:
    """Twice the same release: other noise; and no seed of NumPy's decides it."""
    for kind in ("laplace", "gaussian"):
        drawn = []
        for _ in range(2):
            np.random.seed(7)  # noqa: NPY002 - the old global generator is what one must not depend on
            drawn.append(getattr(OpenDpNoise(), kind)(np.zeros(40, np.int64), Fraction(1000)))
        assert (drawn[0] != drawn[1]).sum() > 30
