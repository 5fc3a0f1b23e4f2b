"""A universe has rows that are nobody's, and customers without a label: moments are those of the labelled rows all the same."""

import os
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from dayfly.federation.accounting import TrialBudget
from dayfly.federation.deployed.demo_world import breast_cancer
from dayfly.federation.errors import NotEstimable
from dayfly.federation.model import model_of_vertical
from dayfly.federation.runs import ChannelData, LocalFederation, Plan
from dayfly.federation.vertical import plan_noise, training
from dayfly.privacy.noise import OpenDpNoise
from tests.federation.vertical.runs import NOW_MS, RUN, Channels, prepared, small_world, spec_for, trained
from tests.federation.vertical.test_sensitivity import exact_counts, integer_rows

LABEL_SHARE = 0.6


def uncentred(rows: int, universe: int, *, shares: dict[str, float] | None = None) -> Channels:
    """Columns far from the middle of their bounds; channels lack customers, who are scattered over a universe with many rows of nobody."""
    world = small_world(rows)
    random = np.random.default_rng(8)
    places = random.permutation(universe)[:rows]
    columns, positions, labels = {}, {}, world.labels
    for name, values in world.columns.items():
        here = np.flatnonzero(random.random(rows) < (shares or {}).get(name, 1.0))
        columns[name], positions[name] = 3.0 + 0.5 * values[here], places[here]
        if name == world.label_channel:
            labels = world.labels[here]
    return Channels(columns, world.label_channel, labels, positions, universe)


def labelled_gram(world: Channels, spec: Any) -> np.ndarray:
    """Over the labelled rows, in units of rows of norm 1: what the opened one stands for."""
    rows, presence, _ = integer_rows(world, spec)
    wanted = rows[presence == 1]
    return np.asarray(wanted.T @ wanted / 4.0**spec.precision.row_bits)


def test_where_everybody_has_a_label_second_moments_are_exact_whatever_the_padding() -> None:
    world = uncentred(500, 5_000, shares={"app": 0.7, "wifi": 0.8})
    spec = spec_for(world, steps=0, bound=6.0, clip=3.0)
    fit, _ = trained(world, spec)
    assert fit.moments.gram == pytest.approx(labelled_gram(world, spec), rel=1e-12)


def test_uncentred_columns_with_much_padding_give_the_pooled_model() -> None:
    world = uncentred(2_000, 9_000)
    spec = spec_for(world, steps=5, bound=6.0, clip=3.0)
    model = model_of_vertical(trained(world, spec)[0], run=RUN, date="2026-11-23")
    rows = np.hstack([world.columns[name] for name in spec.names])
    peer = LogisticRegression(C=1e8, tol=1e-10, solver="newton-cholesky").fit(rows, world.labels)
    assert np.abs((model.coefficients - peer.coef_[0]) / model.standard_errors[1:]).max() < 0.25


def test_with_noise_second_moments_are_as_far_off_as_their_noise_is() -> None:
    world = uncentred(3_000, 20_000)
    noise = plan_noise(Fraction(16), Fraction(1, 10**6), 0)
    spec = spec_for(world, steps=0, bound=6.0, clip=3.0, noise=noise)
    moments = trained(world, spec)[0].moments
    exact = labelled_gram(world, spec)
    known = exact > moments.floor * np.eye(spec.size)  # all of them: none is hidden by noise
    assert known[np.triu_indices(spec.size)].mean() > 0.9
    values, vectors = np.linalg.eigh(exact)
    told = values > 3 * moments.floor  # what is raised is not as it was
    part = vectors[:, told]
    error = part.T @ (moments.gram - exact) @ part
    # counts are noisy, too: of a thousandth of the products
    assert np.abs(error).max() < 6 * moments.gram_deviation + 0.01 * values.max()


@pytest.mark.parametrize("other", [1.0, 0.8])
def test_customers_without_a_label_are_scaled_away_channel_by_channel(other: float) -> None:
    world = uncentred(8_000, 30_000, shares={"hotline": LABEL_SHARE, "wifi": other})
    spec = spec_for(world, steps=4, bound=6.0, clip=3.0)
    fit, _ = trained(world, spec)
    exact = labelled_gram(world, spec)
    assert np.diag(fit.moments.gram) == pytest.approx(np.diag(exact), rel=0.02)
    assert fit.moments.gram == pytest.approx(exact, rel=0.05, abs=0.05 * np.diag(exact).mean())
    assert np.linalg.eigvalsh(fit.moments.gram)[0] > 0


def test_customers_whom_a_channel_alone_has_do_not_count_for_another() -> None:
    """Half of app's customers have a label, and all of wifi's: one factor for both would be wrong for each."""
    world = uncentred(4_000, 9_000, shares={"hotline": 0.5})
    kept = np.isin(world.positions["wifi"], world.positions["hotline"])
    world.columns = {**world.columns, "wifi": world.columns["wifi"][kept]}
    world.positions = {**world.positions, "wifi": world.positions["wifi"][kept]}
    spec = spec_for(world, steps=0, bound=6.0, clip=3.0)
    gram, exact = trained(world, spec)[0].moments.gram, labelled_gram(world, spec)
    assert np.diag(gram) == pytest.approx(np.diag(exact), rel=0.03)


def test_few_labels_and_columns_far_from_the_middle_are_estimated_all_the_same() -> None:
    """Parts of different rows contradict each other in directions of next to no variance; that is no dependence of columns."""
    for seed in range(4):
        world = uncentred(150, 900, shares={"hotline": 0.5 + 0.1 * seed})
        world.columns = {name: 5.5 + 0.02 * (values - 3.0) for name, values in world.columns.items()}
        fit, _ = trained(world, spec_for(world, steps=1, bound=6.0, clip=3.0))
        assert np.linalg.eigvalsh(fit.moments.gram)[0] > 0


def test_columns_of_two_channels_that_determine_each_other_are_named_where_labels_are_missing_too() -> None:
    world = uncentred(600, 2_000, shares={"hotline": 0.5})
    app = np.column_stack([world.columns["app"][:, :2], world.columns["wifi"][:, 1]])
    world.columns = {**world.columns, "app": app}
    with pytest.raises(NotEstimable, match=r"features=\['app_2', 'wifi_1'\] must not determine each other"):
        trained(world, spec_for(world, steps=0, bound=6.0, clip=3.0))


def test_opened_counts_are_those_of_the_sets() -> None:
    world = uncentred(300, 1_000, shares={"hotline": 0.5, "app": 0.4, "wifi": 0.9})
    spec = spec_for(world, steps=0)
    ready = prepared(world)
    found = np.zeros(spec.count_words, np.uint64)

    class Watched(training._Coordinator):
        def _sum(self, release: str, requests: Any, size: int) -> Any:
            words = super()._sum(release, requests, size)
            found[:] = words[spec.gram_words : spec.second_words]
            return words

    Watched(ready.caller, spec, bytes(32), lambda _: None).begin()
    assert found.view(np.int64).tolist() == exact_counts(world, spec).tolist()


def test_patients_who_were_aligned_with_padding_give_the_pooled_model() -> None:
    """569 real patients in a universe of more than twice as many rows; bounds begin at 0, so columns are not centred."""
    world = breast_cancer()
    assert world is not None
    tables = world.tables(NOW_MS)
    channels = [ChannelData(name, table, tables.settings[name]) for name, table in tables.tables.items()]
    federation = LocalFederation(
        channels,
        budgets={name: TrialBudget() for name in tables.tables},
        random_bytes=os.urandom,
        noise=OpenDpNoise(),
        now_ms=lambda: NOW_MS,
    )
    aligned = federation.run(Plan(protocol="align", settings={"hours": 1}))
    patients = len(world.training_labels)
    assert aligned.document["universe"] > 2 * patients
    settings = world.plan(steps=6) | {
        "alignment": aligned.document["alignment"],
        "universe": aligned.document["universe"],
    }
    model = federation.run(Plan(protocol="vertical", settings=settings)).model
    assert model is not None
    order = {f"c{row:06d}": row for row in range(patients)}
    filled, judged = [], []
    for name in sorted(world.features):
        features = world.features[name]
        middle = np.array([sum(pair) / 2 for pair in features.values()])
        values = np.tile(middle, (patients, 1))
        table = tables.tables[name]
        here = [order[one] for one in table["customer"].to_pylist()]
        values[here] = np.column_stack([table[feature].to_numpy() for feature in features])
        filled.append(values)
        judged.append(world.testing[name])
    rows, testing = np.hstack(filled), np.hstack(judged)
    deviations = rows.std(axis=0)
    peer = LogisticRegression(C=1e8, max_iter=10_000, solver="newton-cholesky").fit(
        rows / deviations, world.training_labels
    )
    theirs = roc_auc_score(world.testing_labels, peer.decision_function(testing / deviations))
    assert roc_auc_score(world.testing_labels, model.score(testing)) == pytest.approx(theirs, abs=0.01)
