"""Families, families' sums against finite differences and peers, and what ends a run with an error."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import approx_fprime
from sklearn.linear_model import LinearRegression, PoissonRegressor, Ridge
from sklearn.preprocessing import StandardScaler

from dayfly.federation.errors import (
    Declined,
    InvalidData,
    InvalidSetting,
    NotConverged,
    NotEstimable,
    Replayed,
    TooFewParties,
)
from dayfly.federation.horizontal import GlmSettings, GlmSpec, Shard
from dayfly.federation.horizontal.messages import GlmTask
from dayfly.federation.horizontal.sums import GlmSums, sums_of, width
from dayfly.federation.local import replay

from .runs import Rows, pooled, spec_of, trained


def shops(
    family: str, *, seed: int = 0, count: int = 4, features: int = 3, rows: int = 400, offset: float = 5.0
) -> Rows:
    """Channels whose customers differ in level, with labels of one model."""
    generator = np.random.default_rng(seed)
    truth = generator.normal(0, 0.5, features)
    found = {}
    for number in range(count):
        values = generator.normal(number / 2, 1.0 + number / 3, (rows + 10 * number, features)) + offset
        predictor = 0.3 + (values - offset) @ truth
        noise = generator.normal(0, 0.7, len(predictor))
        labels = {
            "linear": predictor + noise,
            "logistic": (generator.random(len(predictor)) < 1 / (1 + np.exp(-predictor))).astype(float),
            "poisson": generator.poisson(np.exp(np.clip(predictor, -5, 3))).astype(float),
        }[family]
        found[f"shop-{number}"] = (values, labels)
    return found


@settings(max_examples=10)
@given(seed=st.integers(0, 1_000), count=st.integers(2, 6))
def test_linear_models_are_the_pooled_least_squares_in_two_rounds(seed: int, count: int) -> None:
    rows = shops("linear", seed=seed, count=count)
    fit, _ = trained(rows, GlmSettings(spec_of(rows, "linear", largest_label=100.0)))
    peer = LinearRegression().fit(*pooled(rows))
    np.testing.assert_allclose(fit.coefficients, peer.coef_, atol=1e-8)
    assert fit.intercept == pytest.approx(peer.intercept_, abs=1e-7)
    assert len(fit.rounds) == 2


def test_ridge_on_features_as_they_are_is_scikit_learns() -> None:
    rows = shops("linear")
    fit, _ = trained(
        rows, GlmSettings(spec_of(rows, "linear", largest_label=1.0 * 100), ridge=7.0, penalised="original")
    )
    peer = Ridge(alpha=7.0, solver="cholesky").fit(*pooled(rows))
    np.testing.assert_allclose(fit.coefficients, peer.coef_, atol=1e-8)


@pytest.mark.parametrize("ridge", [0.0, 1.0])
def test_poisson_models_are_scikit_learns(ridge: float) -> None:
    rows = shops("poisson")
    values, labels = pooled(rows)
    fit, _ = trained(
        rows, GlmSettings(spec_of(rows, "poisson", largest_label=60.0), ridge=ridge, most_rounds=12)
    )
    scaled = StandardScaler().fit_transform(values)
    peer = PoissonRegressor(alpha=ridge / len(labels), solver="newton-cholesky", tol=1e-12).fit(
        scaled, labels
    )
    np.testing.assert_allclose(fit.standardised, peer.coef_, atol=1e-6)


def test_standard_errors_are_those_of_least_squares() -> None:
    rows = shops("linear")
    fit, _ = trained(rows, GlmSettings(spec_of(rows, "linear", largest_label=100.0)))
    values, labels = pooled(rows)
    design = np.column_stack([np.ones(len(values)), values])
    _, residual, _, _ = np.linalg.lstsq(design, labels, rcond=None)
    variance = residual[0] / (len(labels) - design.shape[1])
    expected = np.sqrt(np.diag(variance * np.linalg.inv(design.T @ design)))
    np.testing.assert_allclose(fit.standard_errors, expected, rtol=1e-6)
    assert fit.deviance == pytest.approx(residual[0], rel=1e-6)


def test_standard_errors_of_a_logistic_model_are_those_that_simulation_shows() -> None:
    """One feature, two values: the coefficient is a log odds ratio, whose variance is the sum of reciprocal counts."""
    counts = np.array([[30, 70], [55, 45]])
    values = np.repeat([0.0, 0.0, 1.0, 1.0], counts.ravel())[:, None]
    labels = np.repeat([0.0, 1.0, 0.0, 1.0], counts.ravel())
    rows = {"a": (values[::2], labels[::2]), "b": (values[1::2], labels[1::2])}
    fit, _ = trained(rows, GlmSettings(spec_of(rows, "logistic")))
    assert fit.coefficients[0] == pytest.approx(np.log(55 / 45 / (30 / 70)) * -1, abs=1e-9)
    assert fit.standard_errors[1] == pytest.approx(np.sqrt((1 / counts).sum()), rel=1e-6)


@pytest.mark.parametrize("family", ["linear", "logistic", "poisson"])
def test_gradient_and_information_are_derivatives_of_the_deviance(family: Any) -> None:
    (values, labels) = shops(family)["shop-0"]
    shard = Shard("shop-0", ("a", "b", "c"), values, "label", labels)
    point = np.array([0.1, -0.2, 0.05, 0.1])

    def at(coefficients: np.ndarray) -> GlmSums:
        return sums_of(
            shard, GlmTask(1, family, (5.0,) * 3, (2.0,) * 3, tuple(coefficients.tolist()), (), 1.0, 0)
        )

    def likelihood(where: np.ndarray) -> float:
        return -at(where).deviance / 2

    sums = at(point)
    slope = approx_fprime(point, likelihood, 1e-6)
    np.testing.assert_allclose(sums.gradient, slope, rtol=1e-3, atol=0.05)
    for column in range(4):
        shift = np.eye(4)[column] * 1e-5
        change = (at(point - shift).gradient - at(point + shift).gradient) / 2e-5
        np.testing.assert_allclose(sums.information[column], change, rtol=1e-4, atol=1e-3)


@given(st.integers(1, 12))
def test_packed_sums_are_unpacked_again(features: int) -> None:
    generator = np.random.default_rng(features)
    square = generator.normal(size=(features + 1, features + 1))
    sums = GlmSums(
        3.0,
        2.0,
        generator.normal(size=features + 1),
        square + square.T,
        generator.normal(size=features),
        generator.normal(size=features),
    )
    vector = sums.packed()
    assert len(vector) == width(features)
    np.testing.assert_array_equal(GlmSums.unpacked(vector, features).packed(), vector)
    np.testing.assert_array_equal(GlmSums.unpacked(vector, features).information, sums.information)


NAMES, GOOD, LABELS = ("a", "b"), np.arange(6.0).reshape(3, 2), np.array([0.0, 1.0, 1.0])


@pytest.mark.parametrize(
    ("changes", "cause"),
    [
        ({"values": GOOD[:2]}, r"features of shape \(2, 2\) and labels of shape \(3,\)"),
        ({"values": GOOD[:, :1]}, r"must be \(rows, 2\) and \(rows,\)"),
        ({"labels": LABELS[:, None]}, r"labels of shape \(3, 1\)"),
        ({"values": np.where(GOOD == 3, np.nan, GOOD)}, r"NaN or infinite values in \['b'\]"),
        ({"values": np.where(GOOD == 2, np.inf, GOOD)}, r"NaN or infinite values in \['a'\]"),
        ({"labels": np.array([0.0, np.nan, 1.0])}, "has 1 rows without a label 'label'"),
        ({"labels": None}, "has no label 'label'"),
        ({"values": GOOD[:0], "labels": LABELS[:0]}, "has no rows"),
        ({"features": ("a", "a")}, r"names columns \['a'\] twice"),
        ({"features": ("a", "label")}, r"names columns \['label'\] twice"),
        ({"features": (), "values": GOOD[:, :0]}, "has no features"),
        ({"values": [["x", "y"]] * 3}, "features that are no rectangle of numbers"),
        ({"labels": ["yes", "no", "no"]}, "label 'label' that are no rectangle of numbers"),
    ],
)
def test_rows_that_cannot_be_trained_on_name_the_party_and_the_cause(changes: Any, cause: str) -> None:
    given_ = {"features": NAMES, "values": GOOD, "label": "label", "labels": LABELS} | changes
    with pytest.raises(InvalidData, match=f"party='shop' .*{cause}"):
        Shard("shop", **given_)


SPEC = GlmSpec("logistic", "label", NAMES, ((0.0, 4.0), (0.0, 5.0)), 1.0, 3)


@pytest.mark.parametrize(
    ("changes", "cause"),
    [
        ({"label": "bought"}, "has label 'label', not 'bought'"),
        ({"features": ("a", "c")}, r"missing \['c'\], not agreed \['b'\]"),
        ({"features": ("b", "a")}, r"in their order"),
        ({"most_rows": 2}, "has 3 rows, more than most_rows=2"),
        ({"bounds": ((0.5, 4.0), (0.0, 5.0))}, r"values of \['a'\] outside"),
        ({"bounds": ((0.0, 4.0), (0.0, 4.9))}, r"values of \['b'\] outside"),
    ],
)
def test_rows_that_do_not_fit_the_agreement_name_the_party_and_the_cause(changes: Any, cause: str) -> None:
    shard = Shard("shop", NAMES, GOOD, "label", LABELS)
    shard.check(SPEC)
    fields = {name: getattr(SPEC, name) for name in SPEC.__struct_fields__} | changes
    with pytest.raises(InvalidData, match=f"party='shop' .*{cause}"):
        shard.check(GlmSpec(**fields))


@pytest.mark.parametrize(
    ("family", "label", "largest"),
    [
        ("logistic", 2.0, 1.0),
        ("logistic", 0.5, 1.0),
        ("linear", -3.5, 3.0),
        ("poisson", -1.0, 3.0),
        ("poisson", 1.5, 3.0),
        ("poisson", 4.0, 3.0),
    ],
)
def test_labels_out_of_range_name_the_party(family: Any, label: float, largest: float) -> None:
    shard = Shard("shop", NAMES, GOOD, "label", np.array([0.0, 1.0, label]))
    with pytest.raises(InvalidData, match=f"party='shop' has 1 labels 'label' out of range; {family} labels"):
        shard.check(GlmSpec(family, "label", NAMES, SPEC.bounds, largest, 3))


def test_a_party_whose_rows_do_not_fit_ends_the_run_before_a_sum() -> None:
    rows = dict(shops("logistic"))
    spec = spec_of(rows, "logistic")
    rows["shop-2"] = (rows["shop-2"][0], rows["shop-2"][1] + 1)
    with pytest.raises(Declined, match=r"party='shop-2' declined 'hello': party='shop-2' has .* labels"):
        trained(rows, GlmSettings(spec))


def test_a_feature_that_is_constant_everywhere_is_named_and_one_constant_in_a_single_channel_is_fine() -> (
    None
):
    rows = {name: (values.copy(), labels) for name, (values, labels) in shops("logistic").items()}
    rows["shop-1"][0][:, 1] = 4.0
    trained(rows, GlmSettings(spec_of(rows, "logistic"), ridge=1.0))
    for values, _ in rows.values():
        values[:, 1] = 4.0
    with pytest.raises(
        NotEstimable, match=r"features=\['x1'\] must vary over the rows of the parties \['shop-0'"
    ):
        trained(rows, GlmSettings(spec_of(rows, "logistic"), ridge=1.0))


def test_collinear_features_are_named_and_a_ridge_helps() -> None:
    rows = {
        name: (np.column_stack([values, values[:, 0] - 2 * values[:, 2]]), labels)
        for name, (values, labels) in shops("logistic").items()
    }
    with pytest.raises(NotEstimable, match=r"features=\['x0', 'x2', 'x3'\] must not determine each other"):
        trained(rows, GlmSettings(spec_of(rows, "logistic")))
    trained(rows, GlmSettings(spec_of(rows, "logistic"), ridge=1.0))


@pytest.mark.parametrize(("family", "label"), [("logistic", 0.0), ("logistic", 1.0), ("poisson", 0.0)])
def test_labels_that_are_all_the_same_are_named(family: Any, label: float) -> None:
    rows = {name: (values, np.full(len(values), label)) for name, (values, _) in shops("logistic").items()}
    with pytest.raises(
        NotEstimable, match=f"label='label' must vary over the parties .*; its mean is {label:g}"
    ):
        trained(rows, GlmSettings(spec_of(rows, family)))


def test_separable_labels_do_not_converge_and_the_error_says_so() -> None:
    rows = {
        name: (values, (values[:, 0] > 6).astype(float)) for name, (values, _) in shops("logistic").items()
    }
    with pytest.raises((NotConverged, NotEstimable), match="set a ridge"):
        trained(rows, GlmSettings(spec_of(rows, "logistic")))


def test_too_few_parties_open_nothing() -> None:
    rows = shops("logistic")
    spec = spec_of(rows, "logistic")
    with pytest.raises(TooFewParties, match=r"parties=\['shop-0', 'shop-1'\] must be at least 3; .*shop-2"):
        trained(rows, GlmSettings(spec), dead_from={"shop-2": 1, "shop-3": 1})
    with pytest.raises(TooFewParties, match="must be at least 3"):
        trained(rows, GlmSettings(spec), dead_from={"shop-2": 5, "shop-3": 5})
    with pytest.raises(TooFewParties, match="nothing was opened"):
        trained(rows, GlmSettings(spec), dead_from={"shop-2": 4, "shop-3": 4})


def test_a_replayed_input_ends_the_run_and_names_the_party() -> None:
    rows = shops("logistic")
    with pytest.raises(Replayed, match="party='shop-1' must answer message 5 of this run"):
        trained(rows, GlmSettings(spec_of(rows, "logistic")), faults={("shop-1", 5): replay(3)})


@pytest.mark.parametrize(
    ("changes", "cause"),
    [
        ({"ridge": -1.0}, "ridge=-1.0 must be at least 0"),
        ({"ridge": float("nan")}, "ridge=nan"),
        ({"tolerance": 0.0}, "tolerance=0.0 must be above 0"),
        ({"most_rounds": 1}, "most_rounds=1 must be at least 2"),
    ],
)
def test_settings_out_of_range_are_refused(changes: Any, cause: str) -> None:
    with pytest.raises(InvalidSetting, match=cause):
        GlmSettings(SPEC, **changes)


def test_bounds_that_leave_no_binary_places_are_refused() -> None:
    rows = shops("linear", count=3)
    spec = spec_of(rows, "linear", largest_label=100.0)
    wide = GlmSpec("linear", "label", spec.features, ((-1e9, 1e9), *spec.bounds[1:]), 100.0, 40_000)
    with pytest.raises((InvalidSetting, NotEstimable), match="x0"):
        trained(rows, GlmSettings(wide))
