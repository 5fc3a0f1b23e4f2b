"""Joint models: what they say of rows, what they say of themselves, and files that cannot be mistaken."""

import io
import shutil
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from scipy.special import expit
from sklearn.linear_model import LogisticRegression

from dayfly.federation.errors import DamagedModel, InvalidSetting
from dayfly.federation.horizontal import GlmSettings
from dayfly.federation.model import (
    JointModel,
    load_model,
    model_of_glm,
    model_of_vertical,
    save_model,
    scoring_of,
)
from dayfly.federation.vertical import plan_noise
from tests.federation.horizontal.runs import spec_of
from tests.federation.horizontal.runs import trained as trained_glm
from tests.federation.vertical.runs import RUN, small_world, spec_for, trained

DELTA = Fraction(1, 10**6)
WORLD = small_world(400)


def vertical(*, noisy: bool = False) -> JointModel:
    noise = plan_noise(Fraction(2), DELTA, 1) if noisy else None
    fit, _ = trained(WORLD, spec_for(WORLD, steps=1, noise=noise, accept_few_rows=True))
    return model_of_vertical(fit, run=RUN, date="2026-11-23", delta=DELTA, data_sets={"app": "app-2026"})


MODEL = vertical()
ROWS = np.hstack([WORLD.columns[name] for name in sorted(WORLD.columns)])


def test_rows_within_the_bounds_are_scored_by_the_coefficients() -> None:
    inside = ROWS * 0.2
    plain = inside @ MODEL.coefficients + MODEL.intercept
    assert MODEL.linear_predictor(inside) == pytest.approx(plain, abs=1e-9)
    assert MODEL.score(inside) == pytest.approx(expit(plain), abs=1e-9)


def test_the_three_forms_of_rows_score_the_same() -> None:
    matrix = MODEL.score(ROWS[:5])
    columns = {name: ROWS[:5, place] for place, name in enumerate(MODEL.features)} | {"other": np.zeros(5)}
    mappings = [dict(zip(MODEL.features, row.tolist(), strict=True)) for row in ROWS[:5]]
    assert MODEL.score(columns).tolist() == MODEL.score(mappings).tolist() == matrix.tolist()


def test_values_beyond_the_bounds_count_as_the_bounds() -> None:
    beyond = np.zeros((1, 9))
    beyond[0, 0] = 1e9
    at = np.zeros((1, 9))
    at[0, 0] = 4.0
    assert MODEL.score(beyond) == pytest.approx(MODEL.score(at))


@pytest.mark.parametrize(
    ("rows", "cause"),
    [
        (np.zeros((2, 3)), r"rows of shape \(2, 3\) must be \(rows, 9\)"),
        (np.full((2, 9), np.nan), "must be finite numbers in every row"),
        ({"app_0": [1.0]}, r"features=\['app_1'.* must be in the rows"),
        ([{"app_0": 1.0}], r"features=\['app_1'.* must be in the rows"),
        ({name: ["x"] for name in MODEL.features}, "rows must be numbers"),
        ({name: [1.0] * (1 + (name == "app_0")) for name in MODEL.features}, "vectors of one length"),
    ],
)
def test_rows_that_cannot_be_scored_are_refused_with_the_feature_s_name(rows: Any, cause: str) -> None:
    with pytest.raises(InvalidSetting, match=cause):
        MODEL.score(rows)


def test_no_rows_give_no_scores() -> None:
    assert MODEL.score([]).shape == MODEL.score(np.zeros((0, 9))).shape == (0,)


def test_the_card_says_what_was_spent_and_on_what() -> None:
    card = vertical(noisy=True).card
    assert card.private
    assert card.epsilon is not None
    assert 1.99 < card.epsilon <= 2
    assert [one.data_set for one in card.data_sets] == ["app-2026", "hotline", "wifi"]
    assert all(len(one.manifest) == 64 for one in card.data_sets)
    assert [one.name for one in card.releases] == ["moments", "gradient 1"]
    assert any("fewer than 10000 rows" in note for note in card.notes)


def test_noise_widens_the_standard_errors() -> None:
    assert (vertical(noisy=True).standard_errors[1:] / MODEL.standard_errors[1:]).mean() > 1.5


def test_a_model_with_noise_needs_the_delta_of_its_loss() -> None:
    fit, _ = trained(
        WORLD, spec_for(WORLD, steps=0, noise=plan_noise(Fraction(2), DELTA, 0), accept_few_rows=True)
    )
    with pytest.raises(InvalidSetting, match="delta=None must be given"):
        model_of_vertical(fit, run=RUN, date="2026-11-23")


def test_without_noise_standard_errors_are_those_of_the_pooled_model() -> None:
    world = small_world(3_000)
    fit, _ = trained(world, spec_for(world, steps=3, bound=6.0, clip=3.0))
    model = model_of_vertical(fit, run=RUN, date="2026-11-23")
    rows = np.hstack([world.columns[name] for name in sorted(world.columns)])
    peer = LogisticRegression(C=1e8, tol=1e-10, solver="newton-cholesky").fit(rows, world.labels)
    design = np.column_stack([np.ones(len(rows)), rows])
    slope = peer.predict_proba(rows).prod(axis=1)
    errors = np.sqrt(np.diag(np.linalg.inv((design.T * slope) @ design)))
    assert model.standard_errors == pytest.approx(errors, rel=0.05)


def test_a_horizontal_fit_is_a_model_too() -> None:
    random = np.random.default_rng(1)
    rows = {}
    for name in ("north", "south", "west"):
        values = random.normal(size=(200, 2))
        rows[name] = (values, (random.random(200) < expit(values @ [1.0, -0.5] - 0.3)).astype(float))
    settings = GlmSettings(spec_of(rows, "logistic"))
    fit, _ = trained_glm(rows, settings)
    model = model_of_glm(
        fit, settings, run=RUN, date="2026-11-23", purpose="analytics", rows=dict.fromkeys(rows, 200)
    )
    values = rows["north"][0]
    assert model.score(values) == pytest.approx(expit(values @ fit.coefficients + fit.intercept))
    assert (model.card.split, model.card.private, len(model.card.data_sets)) == ("horizontal", False, 3)
    assert [one.standard_error for one in model.table] == pytest.approx(fit.standard_errors.tolist())
    with pytest.raises(InvalidSetting, match="must be of a vertical training"):
        scoring_of(model, acting="north", alignment=bytes(16), universe=9, purpose="analytics")


def test_the_table_has_intervals() -> None:
    first = MODEL.table[1]
    assert first.name == MODEL.features[0]
    assert first.high - first.low == pytest.approx(2 * 1.959964 * first.standard_error, rel=1e-6)


@pytest.mark.parametrize(
    ("changes", "cause"),
    [
        ({"features": ("a",) * 9}, "must be one or more, each once"),
        ({"coefficients": np.zeros(3)}, "shapes="),
        ({"standard_errors": np.zeros(9)}, "shapes="),
        ({"standard_errors": np.full(10, -1.0)}, "standard errors at least 0"),
        ({"intercept": float("inf")}, "coefficients must be finite"),
        ({"features": tuple("abcdefghi")}, "channels must have the features"),
    ],
)
def test_models_that_contradict_themselves_are_refused(changes: dict[str, Any], cause: str) -> None:
    with pytest.raises(InvalidSetting, match=cause):
        replace(MODEL, **changes)


# --- files ----------------------------------------------------------------------------------------------------------------


def test_what_is_loaded_is_what_was_saved(tmp_path: Path) -> None:
    for model in (MODEL, vertical(noisy=True)):
        folder = tmp_path / model.digest.hex()[:8]
        save_model(model, folder)
        found = load_model(folder)
        assert found.digest == model.digest
        assert found.card == model.card
        assert found.score(ROWS).tolist() == model.score(ROWS).tolist()
        assert sorted(path.name for path in folder.iterdir()) == ["arrays.npz", "model.json"]


def test_a_model_is_not_overwritten(tmp_path: Path) -> None:
    save_model(MODEL, tmp_path)
    with pytest.raises(InvalidSetting, match="must hold no model yet"):
        save_model(MODEL, tmp_path)


def described(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        plain = msgspec.json.decode((folder / "model.json").read_bytes())
        change(plain)
        (folder / "model.json").write_bytes(msgspec.json.encode(plain))

    return apply


def cut(name: str) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        (folder / name).write_bytes((folder / name).read_bytes()[:-9])

    return apply


def pickled(folder: Path) -> None:
    """Arrays of objects, under the right digest."""
    import hashlib

    buffer = io.BytesIO()
    np.savez(buffer, coefficients=np.array([{}] * 9, object), standard_errors=np.zeros(10))
    (folder / "arrays.npz").write_bytes(buffer.getvalue())
    digest = hashlib.sha256(buffer.getvalue()).hexdigest()
    described(lambda plain: plain.update(arrays_sha256=digest))(folder)


@pytest.mark.parametrize(
    ("damage", "cause"),
    [
        pytest.param(cut("model.json"), "must describe a model", id="description cut"),
        pytest.param(cut("arrays.npz"), "must be the file that model.json names", id="arrays cut"),
        (lambda folder: (folder / "arrays.npz").unlink(), "arrays.npz must be a file that can be read"),
        (lambda folder: (folder / "model.json").unlink(), "model.json must be a file that can be read"),
        (described(lambda plain: plain.update(format="2")), "format='2' must be"),
        (described(lambda plain: plain.update(intercept=1.0)), "must not be changed after it was saved"),
        (described(lambda plain: plain["card"].update(epsilon=0.1)), r"model\.json must not be changed"),
        (described(lambda plain: plain.update(features=["x"])), "must hold the model's arrays"),
        pytest.param(
            described(lambda plain: plain.update(more=1)), "must describe a model", id="a field more"
        ),
        (pickled, "must hold the model's arrays"),
    ],
)
def test_damaged_files_are_refused(damage: Callable[[Path], None], cause: str, tmp_path: Path) -> None:
    save_model(MODEL, tmp_path)
    damage(tmp_path)
    with pytest.raises(DamagedModel, match=cause):
        load_model(tmp_path)


def test_arrays_of_another_model_are_refused(tmp_path: Path) -> None:
    save_model(MODEL, tmp_path / "one")
    save_model(vertical(noisy=True), tmp_path / "other")
    shutil.copy(tmp_path / "other" / "arrays.npz", tmp_path / "one" / "arrays.npz")
    with pytest.raises(DamagedModel, match=r"must be the file that model\.json names"):
        load_model(tmp_path / "one")
