"""Vertical training: the pooled model, with noise as wide as it says, paid for once in every channel."""

from fractions import Fraction

import numpy as np
import pytest
from scipy import stats
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.metrics import roc_auc_score

from dayfly.federation.accounting import EXACT, TrialBudget
from dayfly.federation.model import model_of_vertical
from dayfly.federation.vertical import VerticalSpec, plan_noise
from dayfly.federation.vertical.newton import Moments
from tests.federation.vertical.runs import RUN, Channels, small_world, spec_for, trained
from tests.federation.vertical.test_sensitivity import exact_counts, integer_rows


def pooled(world: Channels, spec: VerticalSpec) -> np.ndarray:
    return np.hstack([world.columns[name] for name in spec.names])


def exact_moments(world: Channels, spec: VerticalSpec) -> np.ndarray:
    rows, _, labels = integer_rows(world, spec)
    gram = rows.T @ rows
    return np.concatenate([gram[np.triu_indices(spec.size)], exact_counts(world, spec), rows.T @ labels])


def test_without_noise_the_coefficients_are_those_of_the_pooled_model() -> None:
    world = small_world(4_000)
    spec = spec_for(world, steps=4, bound=6.0, clip=3.0)
    fit, run = trained(world, spec)
    model = model_of_vertical(fit, run=RUN, date="2026-11-23")
    rows = pooled(world, spec)
    peer = LogisticRegression(C=1e8, tol=1e-10, solver="newton-cholesky").fit(rows, world.labels)
    errors = model.standard_errors[1:]
    assert np.abs((model.coefficients - peer.coef_[0]) / errors).max() < 0.25
    theirs = roc_auc_score(world.labels, peer.decision_function(rows))
    assert roc_auc_score(world.labels, model.score(rows)) == pytest.approx(theirs, abs=2e-4)
    assert set(run.grid.messages.values()) == {3 + 3 * spec.steps}


def test_opened_moments_are_exact_in_the_ring() -> None:
    world = small_world(300)
    spec = spec_for(world, steps=0)
    fit, _ = trained(world, spec)
    assert np.array_equal(fit.moments.gram, Moments.of(spec, exact_moments(world, spec).view(np.uint64)).gram)
    assert np.array_equal(
        fit.moments.cross, Moments.of(spec, exact_moments(world, spec).view(np.uint64)).cross
    )


def test_a_linear_model_is_that_of_least_squares() -> None:
    world = small_world(3_000)
    random = np.random.default_rng(4)
    probe = spec_for(world, steps=0)
    rows = pooled(world, probe)
    labels = rows @ random.normal(size=rows.shape[1]) + 20 + random.normal(size=len(rows))
    world = Channels.whole(world.columns, world.label_channel, labels)
    spec = spec_for(world, family="linear", label_bounds=(0.0, 40.0), steps=1, bound=6.0, clip=3.0)
    fit, _ = trained(world, spec)
    model = model_of_vertical(fit, run=RUN, date="2026-11-23")
    peer = LinearRegression().fit(rows, labels)
    assert np.abs(model.coefficients - peer.coef_).max() < 0.02
    assert model.intercept == pytest.approx(peer.intercept_, abs=0.05)
    residual = labels - peer.predict(rows)
    design = np.column_stack([np.ones(len(rows)), rows])
    covariance = np.linalg.inv(design.T @ design) * (residual @ residual) / (len(rows) - design.shape[1])
    assert model.standard_errors == pytest.approx(np.sqrt(np.diag(covariance)), rel=0.15)


def test_customers_that_a_channel_lacks_are_zeros_and_unlabelled_rows_do_not_count() -> None:
    """Everybody is somewhere; the label's channel has a third fewer customers than the others, in an order of its own."""
    world = small_world(6_000)
    random = np.random.default_rng(3)
    columns, positions = {}, {}
    for name, values in world.columns.items():
        here = np.flatnonzero(random.random(6_000) < (0.66 if name == world.label_channel else 0.9))
        here = random.permutation(here)
        columns[name], positions[name] = values[here], here
    labels = world.labels[positions[world.label_channel]]
    partial = Channels(columns, world.label_channel, labels, positions, 7_000)
    spec = spec_for(partial, steps=4, bound=6.0, clip=3.0)
    fit, _ = trained(partial, spec)
    model = model_of_vertical(fit, run=RUN, date="2026-11-23")
    whole = {name: np.zeros((7_000, values.shape[1])) for name, values in columns.items()}
    for name, values in columns.items():
        whole[name][positions[name]] = values
    labelled = positions[world.label_channel]
    rows = np.hstack([whole[name][labelled] for name in spec.names])
    peer = LogisticRegression(C=1e8, tol=1e-10, solver="newton-cholesky").fit(rows, labels)
    assert np.abs((model.coefficients - peer.coef_[0]) / model.standard_errors[1:]).max() < 1


def test_noise_has_the_variance_that_is_stated() -> None:
    """Opened moments less the true ones: every channel's share is in, none is counted twice."""
    world = small_world(400)
    noise = plan_noise(Fraction(1), Fraction(1, 10**6), 0)
    spec = spec_for(world, steps=0, noise=noise, accept_few_rows=True)
    exact = exact_moments(world, spec)
    opened = []
    for seed in range(4):
        fit, _ = trained(world, spec, seed=seed)
        opened.append(fit)
    raw = np.concatenate([(fit.moments.cross * 2 * 4096) for fit in opened])
    errors = raw - np.tile(exact[spec.second_words :], 4)
    shares = spec.shares(noise.cross, spec.cross_l2_squared)
    variance = 3.0 * float(shares.share_scale**2)
    statistic = float(np.sum(errors**2)) / variance
    low, high = (float(stats.chi2.ppf(tail, len(errors))) for tail in (1e-6, 1 - 1e-6))
    assert low < statistic < high
    # were one channel's share left out, or counted twice, the variance would be 2/3 or 5/3 of it
    assert opened[0].moments.cross_deviation == pytest.approx(variance**0.5 / 4096 / 2, rel=1e-6)


def test_every_channel_pays_for_every_release_and_for_nothing_else() -> None:
    world = small_world(400)
    noise = plan_noise(Fraction(2), Fraction(1, 10**6), 2)
    spec = spec_for(world, steps=2, noise=noise, accept_few_rows=True)
    budgets = {name: TrialBudget() for name in world.columns}
    fit, _ = trained(world, spec, budgets=budgets)
    expected = {(RUN, release.name): release.loss for release in fit.releases}
    assert list(expected) == [(RUN, "moments"), (RUN, "gradient 1"), (RUN, "gradient 2")]
    for budget in budgets.values():
        assert budget.spent == expected
    model = model_of_vertical(fit, run=RUN, date="2026-11-23", delta=Fraction(1, 10**6))
    assert model.card.private
    assert model.card.epsilon == pytest.approx(2, rel=1e-6)
    assert model.card.epsilon <= 2  # type: ignore[operator]


def test_exact_sums_are_asked_for_as_such() -> None:
    world = small_world(300)
    budgets = {name: TrialBudget() for name in world.columns}
    fit, _ = trained(world, spec_for(world, steps=1), budgets=budgets)
    for budget in budgets.values():
        assert set(budget.spent.values()) == {EXACT}
    card = model_of_vertical(fit, run=RUN, date="2026-11-23").card
    assert (card.private, card.epsilon) == (False, None)
    assert any("no differential privacy" in note for note in card.notes)


def test_the_same_draws_give_the_same_model_bit_for_bit() -> None:
    world = small_world(400)
    first, again = (trained(world, spec_for(world, steps=2))[0] for _ in range(2))
    assert first.weights.tobytes() == again.weights.tobytes()


def test_two_channels_are_enough() -> None:
    world = small_world(2_000)
    columns = {name: world.columns[name] for name in ("app", "hotline")}
    spec = spec_for(Channels.whole(columns, "hotline", world.labels), steps=3)
    fit, _ = trained(Channels.whole(columns, "hotline", world.labels), spec)
    rows = np.hstack([columns[name] for name in spec.names])
    peer = LogisticRegression(C=1e8).fit(rows, world.labels)
    ours = model_of_vertical(fit, run=RUN, date="2026-11-23").score(rows)
    assert roc_auc_score(world.labels, ours) == pytest.approx(
        roc_auc_score(world.labels, peer.decision_function(rows)), abs=1e-3
    )


@pytest.mark.slow
def test_with_noise_intervals_cover_the_true_coefficients() -> None:
    """Twelve worlds, nine coefficients: about 95 % of 95 % intervals hold the truth; without the noise's part far fewer would."""
    covered, covered_by_sampling_alone = [], []
    truth = np.random.default_rng(5).normal(size=9) * 0.5
    spec = None
    for seed in range(12):
        random = np.random.default_rng(1_000 + seed)
        rows = np.clip(random.normal(size=(12_000, 9)) * 0.6, -2, 2)
        labels = (random.random(12_000) < 1 / (1 + np.exp(0.7 - rows @ truth))).astype(float)
        columns = {"app": rows[:, :3], "hotline": rows[:, 3:6], "wifi": rows[:, 6:]}
        world = Channels.whole(columns, "hotline", labels)
        noise = plan_noise(Fraction(1), Fraction(1, 10**6), 3)
        spec = spec_for(world, steps=3, noise=noise, bound=2.0, clip=1.3)
        fit, _ = trained(world, spec, seed=seed)
        model = model_of_vertical(fit, run=RUN, date="2026-11-23", delta=Fraction(1, 10**6))
        errors = np.abs(model.coefficients - truth)
        covered.append(errors < 1.96 * model.standard_errors[1:])
        sampling = np.sqrt(np.diag(np.linalg.inv(fit.moments.information(spec, fit.weights))))
        scale = 0.5 / float(spec.length_squared) ** 0.5
        kept = [place for place in range(spec.size) if place != spec.intercept]
        covered_by_sampling_alone.append(errors < 1.96 * sampling[kept] * scale)
    assert 0.88 < np.mean(covered) <= 1.0
    assert np.mean(covered_by_sampling_alone) < np.mean(covered) - 0.05
