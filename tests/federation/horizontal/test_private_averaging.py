"""DP-FedAvg: the clipped mean as the oracle, a sensitivity that holds in integers, noise drawn once, and the loss in closed form."""

from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from dayfly.federation.errors import BadMessage, Declined, InvalidData, InvalidSetting, Refused
from dayfly.federation.horizontal.private_averaging import PrivateAverage, PrivateSettings, average_privately
from dayfly.federation.horizontal.private_fit import PrivateFitWorkload, PrivateSpec, PrivateTask, clipped
from dayfly.federation.local import lost_request
from dayfly.federation.secagg.messages import encode
from dayfly.privacy.noise import OpenDpNoise
from tests.federation.secagg.sessions import digest

from .runs import RUN, Paid, grid_of

SIZE, CHANNELS, USERS = 5, 3, 200
GENERATOR = np.random.default_rng(1)
CHANGES = {
    f"shop-{number}": {f"user-{user}": GENERATOR.normal(0.3, 1.0, SIZE) for user in range(USERS)}
    for number in range(CHANNELS)
}
EVERYBODY = np.concatenate([np.array(list(users.values())) for users in CHANGES.values()])
QUIET = PrivateSpec(((2, 2), (1,)), (1, 1_000), CHANNELS, USERS)


def fit(weights: list[np.ndarray], data: np.ndarray) -> list[np.ndarray]:
    return [weights[0] + data[:4].reshape(2, 2), weights[1] + data[4:]]


def run(
    spec: PrivateSpec,
    rounds: int,
    clip: float,
    *,
    budget: Paid | None = None,
    **grid: Any,
) -> PrivateAverage:
    _, caller = grid_of(
        {
            name: PrivateFitWorkload(name, fit, users, noise=OpenDpNoise(), run=RUN, budget=budget or Paid())
            for name, users in CHANGES.items()
        },
        **grid,
    )
    settings = PrivateSettings(spec, rounds, clip, CHANNELS * USERS)
    return average_privately(
        caller, [np.zeros((2, 2)), np.zeros(1)], settings, session=digest("session")[:16]
    )


def flat(found: PrivateAverage) -> np.ndarray:
    return np.concatenate([array.ravel() for array in found.weights])


def clipped_mean(changes: np.ndarray, clip: float) -> np.ndarray:
    norms = np.linalg.norm(changes, axis=1, keepdims=True)
    return np.asarray((changes * np.minimum(1, clip / norms)).sum(axis=0) / (CHANNELS * USERS))


def test_with_next_to_no_noise_it_is_the_mean_of_clipped_changes() -> None:
    for clip in (0.5, 2.0, 100.0):
        np.testing.assert_allclose(flat(run(QUIET, 1, clip)), clipped_mean(EVERYBODY, clip), atol=1e-5 * clip)


def test_with_a_channel_lost_it_is_the_others_sum() -> None:
    found = run(QUIET, 1, 2.0, faults={("shop-1", 3): lost_request})
    rest = np.array([*CHANGES["shop-0"].values(), *CHANGES["shop-2"].values()])
    np.testing.assert_allclose(flat(found), clipped_mean(rest, 2.0), atol=1e-5)


def test_the_noise_has_the_scale_that_is_stated() -> None:
    spec = PrivateSpec(((2, 2), (1,)), (50, 1), CHANNELS, USERS)
    errors = np.array([flat(run(spec, 1, 2.0)) - clipped_mean(EVERYBODY, 2.0) for _ in range(12)]).ravel()
    # Three shares where two are counted on; 60 draws, so the estimate is within 9 % at one standard deviation.
    stated = 50 * 2.0 * np.sqrt(3 / 2) / (CHANNELS * USERS)
    assert 0.5 * stated < errors.std() < 1.5 * stated


def test_an_adaptive_clip_settles_at_the_median_norm() -> None:
    spec = PrivateSpec(((2, 2), (1,)), (1, 100), CHANNELS, USERS, bit_unit=1 << 18)
    found = run(spec, 60, 20.0)
    assert found.clips[-1] == pytest.approx(np.median(np.linalg.norm(EVERYBODY, axis=1)), rel=0.03)
    assert len(set(run(QUIET, 3, 20.0).clips)) == 1


@given(
    arrays(np.float64, st.integers(1, 9), elements=st.floats(allow_nan=True, allow_infinity=True)),
    st.floats(1e-3, 1e3),
    st.sampled_from([1, 7, 1 << 20]),
)
def test_no_user_adds_more_than_the_sensitivity(change: np.ndarray, clip: float, unit: int) -> None:
    integers = [int(value) for value in clipped(change, clip, unit=unit, bit_unit=5)]
    assert sum(value**2 for value in integers[:-1]) <= unit**2
    assert integers[-1] in (0, 5)


def test_the_loss_is_the_gaussians_and_each_channel_pays_for_each_round() -> None:
    spec = PrivateSpec(((2, 2), (1,)), (10, 1), CHANNELS, USERS, channels_per_user=2, bit_unit=1 << 18)
    budget = Paid()
    found = run(spec, 4, 2.0, budget=budget)
    gaussian = Fraction(1, 2 * 10**2)
    assert budget.losses == [spec.loss] * 4 * CHANNELS
    assert len(set(budget.releases)) == 4
    assert gaussian * Fraction(999_999, 1_000_000) < spec.loss.rho <= gaussian
    assert found.loss.rho == 4 * spec.loss.rho


def test_a_channel_whose_budget_is_used_up_ends_the_run() -> None:
    with pytest.raises(Declined, match="party='shop-0' declined 'mask': the budget is used up"):
        run(QUIET, 1, 1.0, budget=Paid("the budget is used up"))


def shop(budget: Paid | None = None) -> PrivateFitWorkload[np.ndarray]:
    return PrivateFitWorkload(
        "shop", fit, CHANGES["shop-0"], noise=OpenDpNoise(), run=RUN, budget=budget or Paid()
    )


def test_noise_is_drawn_once_per_round() -> None:
    budget = Paid()
    party = shop(budget)
    party.prepare(encode(QUIET), threshold=2)
    task = encode(PrivateTask(1, bytes(8 * SIZE), 1.0))
    np.testing.assert_array_equal(party.words(task, members=3), party.words(task, members=3))
    with pytest.raises(Refused, match="round=1 must be asked once"):
        party.words(encode(PrivateTask(1, bytes(8 * SIZE), 2.0)), members=3)
    assert len(budget.losses) == 1


@pytest.mark.parametrize(
    ("task", "members", "error", "cause"),
    [
        (PrivateTask(1, bytes(8), 1.0), 3, BadMessage, "must send 5 weights and a clip above 0"),
        (PrivateTask(1, bytes(8 * SIZE), 0.0), 3, BadMessage, "a clip above 0"),
        (PrivateTask(1, bytes(8 * SIZE), 1.0), 4, Refused, "members=4 must be at most"),
    ],
)
def test_tasks_that_do_not_fit_cost_nothing(task: PrivateTask, members: int, error: Any, cause: str) -> None:
    budget = Paid()
    party = shop(budget)
    party.prepare(encode(QUIET), threshold=2)
    with pytest.raises(error, match=cause):
        party.words(encode(task), members=members)
    assert not budget.losses


@pytest.mark.parametrize(
    ("changes", "error", "cause"),
    [
        ({"channels": 1}, BadMessage, "at least two channels"),
        ({"unit": 0}, BadMessage, "units above 0"),
        ({"noise_multiplier": (1, 0)}, BadMessage, "that is a fraction"),
        ({"most_users": 199}, InvalidData, "party='shop' has 200 users, more than most_users=199"),
        ({"channels": 5}, Refused, "threshold=2 must be at least 3 with 5 channels"),
        ({"colluding": 2}, InvalidSetting, "honest=0 must be at least 1"),
        ({"colluding": -1}, InvalidSetting, "colluding=-1 must be at least 0"),
        ({"unit": 1 << 56}, InvalidSetting, "must leave room below"),
        ({"unit": 100}, InvalidSetting, "count in finer units"),
    ],
)
def test_specs_that_cannot_protect_are_refused(changes: Any, error: Any, cause: str) -> None:
    fields = {name: getattr(QUIET, name) for name in QUIET.__struct_fields__} | changes
    with pytest.raises(error, match=cause):
        shop().prepare(encode(PrivateSpec(**fields)), threshold=2)


def test_settings_out_of_range_are_refused() -> None:
    for changes, cause in (
        ({"clip": 0.0}, "clip=0.0 must be above 0"),
        ({"expected_users": 0}, "expected_users=0 must be at least 1"),
        ({"quantile": 1.0}, "quantile=1.0 must be inside 0 to 1"),
        ({"clip_rate": 0.0}, "clip_rate=0.0 above 0"),
    ):
        fields: dict[str, Any] = {"spec": QUIET, "rounds": 1, "clip": 1.0, "expected_users": 1} | changes
        with pytest.raises(InvalidSetting, match=cause):
            PrivateSettings(**fields)
    with pytest.raises(InvalidData, match="party='a' has no users"):
        PrivateFitWorkload("a", fit, {}, noise=OpenDpNoise(), run=RUN, budget=Paid())
