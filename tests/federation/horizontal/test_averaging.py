"""Averages of models with a user's own `fit`: pooled gradient descent as the oracle, and the methods against each other."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.metrics import roc_auc_score

from dayfly.federation.accounting import TrialBudget
from dayfly.federation.errors import Declined, InvalidData, InvalidSetting, Refused
from dayfly.federation.horizontal import Averaged, AverageSettings, FitWorkload, LocalFit, average
from dayfly.federation.horizontal.local_fit import AverageTask
from dayfly.federation.local import lost_reply, lost_request
from dayfly.federation.secagg.messages import decode, encode
from tests.federation.secagg.sessions import digest

from .runs import RUN, grid_of

Data = tuple[np.ndarray, np.ndarray]
Weights = list[np.ndarray]
RATE = 0.5
PAID: Any = {"run": RUN, "budget": TrialBudget()}


def gradient(weights: Weights, data: Data) -> Weights:
    """Of the mean logistic loss."""
    values, labels = data
    surplus = 1 / (1 + np.exp(-(values @ weights[0] + weights[1]))) - labels
    return [values.T @ surplus / len(labels), np.array([surplus.mean()])]


def descent(steps: int) -> Callable[..., LocalFit]:
    def fit(weights: Weights, data: Data, correction: Callable[[Weights], Weights]) -> LocalFit:
        for _ in range(steps):
            slopes = zip(weights, gradient(weights, data), correction(weights), strict=True)
            weights = [weight - RATE * (slope + extra) for weight, slope, extra in slopes]
        return LocalFit(weights, steps * RATE)

    return fit


def skewed_digits() -> tuple[dict[str, Data], Data]:
    """Even against odd; four channels of which two have hardly an odd digit and two hardly an even one. And a test part."""
    digits = load_digits()
    values, labels = digits.data / 16, (digits.target % 2).astype(float)
    generator = np.random.default_rng(0)
    held_out = generator.random(len(labels)) < 0.3
    odd = np.array([0.05, 0.25, 0.75, 0.95]) / 2
    owner = np.array([generator.choice(4, p=odd if label else 0.5 - odd) for label in labels])
    parts = {
        f"shop-{number}": (values[~held_out & (owner == number)], labels[~held_out & (owner == number)])
        for number in range(4)
    }
    return parts, (values[held_out], labels[held_out])


PARTS, TEST = skewed_digits()
POOLED = (
    np.concatenate([part[0] for part in PARTS.values()]),
    np.concatenate([part[1] for part in PARTS.values()]),
)
ZERO: Weights = [np.zeros(64), np.zeros(1)]


def run(method: Any, rounds: int, steps: int, *, proximal: float = 0.0, **grid: Any) -> Averaged:
    fits = {
        name: FitWorkload(name, descent(steps), part, rows=len(part[1]), **PAID)
        for name, part in PARTS.items()
    }
    _, caller = grid_of(fits, **grid)
    settings = AverageSettings(method, rounds, 1_000, 100.0, proximal)
    return average(caller, ZERO, settings, session=digest("session")[:16])


def pooled_descent(steps: int, data: Data = POOLED) -> Weights:
    weights = ZERO
    for _ in range(steps):
        weights = [
            weight - RATE * slope for weight, slope in zip(weights, gradient(weights, data), strict=True)
        ]
    return weights


def auc(weights: Any) -> float:
    return float(roc_auc_score(TEST[1], TEST[0] @ weights[0] + weights[1]))


@pytest.mark.parametrize("method", ["fedavg", "scaffold"])
def test_one_full_step_per_round_is_gradient_descent_on_the_pooled_rows(method: str) -> None:
    found = run(method, 12, 1)
    for ours, theirs in zip(found.weights, pooled_descent(12), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-9)
    assert {report.rows for report in found.rounds} == {len(POOLED[1])}


def test_with_a_channel_lost_for_a_round_it_is_descent_on_the_others_rows_in_that_round() -> None:
    found = run("fedavg", 3, 1, faults={("shop-2", 5): lost_request})
    others = {name: part for name, part in PARTS.items() if name != "shop-2"}
    rest = (
        np.concatenate([part[0] for part in others.values()]),
        np.concatenate([part[1] for part in others.values()]),
    )
    weights = ZERO
    for data in (POOLED, rest, POOLED):
        weights = [
            weight - RATE * slope for weight, slope in zip(weights, gradient(weights, data), strict=True)
        ]
    np.testing.assert_allclose(found.weights[0], weights[0], rtol=0, atol=1e-9)
    assert [report.lost for report in found.rounds] == [(), ("shop-2",), ()]


def test_scaffold_comes_closer_to_the_pooled_model_than_fedavg_where_labels_are_skewed() -> None:
    peer = pooled_descent(100 * 50)
    distance = {
        method: float(np.linalg.norm(run(method, 100, 50).weights[0] - peer[0]))
        for method in ("fedavg", "scaffold")
    }
    assert distance["scaffold"] < 0.2 * distance["fedavg"]


def test_scaffold_ranks_better_than_fedavg_and_nearly_as_well_as_the_pooled_model() -> None:
    pooled = auc(pooled_descent(20 * 50))
    fedavg, scaffold = auc(run("fedavg", 20, 50).weights), auc(run("scaffold", 20, 50).weights)
    assert fedavg < scaffold
    assert pooled - scaffold < 0.002


@pytest.mark.parametrize("message", [3, 4, 5, 6, 7, 8])
@pytest.mark.parametrize("fault", [lost_request, lost_reply])
def test_control_variates_stay_the_average_of_the_channels_whoever_is_lost(message: int, fault: Any) -> None:
    """Otherwise SCAFFOLD would settle beside the optimum: with one lost message it still settles at the pooled one."""
    fits = {
        name: FitWorkload(name, descent(5), part, rows=len(part[1]), **PAID) for name, part in PARTS.items()
    }
    sent: list[np.ndarray] = []
    watched = fits["shop-0"]
    original = watched.words

    def words(task: bytes, *, members: int) -> np.ndarray:
        sent.append(np.frombuffer(decode(task, AverageTask, party="server").control, "<f8"))
        return original(task, members=members)

    watched.words = words  # type: ignore[method-assign]
    _, caller = grid_of(fits, faults={("shop-1", message): fault})
    average(caller, ZERO, AverageSettings("scaffold", 6, 1_000, 100.0), session=digest("session")[:16])
    rows = np.array([len(part[1]) for part in PARTS.values()])
    own = np.array([workload._control for workload in fits.values()])
    np.testing.assert_allclose(sent[-1], rows @ own / rows.sum(), atol=1e-9)


def test_the_proximal_term_keeps_a_channel_near_the_weights_that_were_sent() -> None:
    free, held = run("fedavg", 1, 50), run("fedprox", 1, 50, proximal=1.0)
    assert np.linalg.norm(held.weights[0]) < 0.7 * np.linalg.norm(free.weights[0])


@pytest.mark.parametrize(
    ("result", "cause"),
    [
        (LocalFit([np.zeros(64)], 1.0), r"must keep the shapes \[\(64,\), \(1,\)\]"),
        (LocalFit([np.zeros(64), np.zeros(2)], 1.0), "must keep the shapes"),
        (LocalFit([np.full(64, np.nan), np.zeros(1)], 1.0), "must hand back finite weights"),
        (LocalFit([np.zeros(64), np.zeros(1)], 0.0), "a distance above 0"),
        (LocalFit([np.full(64, 101.0), np.zeros(1)], 1.0), "must be finite and at most"),
    ],
)
def test_a_fit_that_hands_back_what_cannot_be_summed_names_the_party(result: LocalFit, cause: str) -> None:
    fits = {
        "a": FitWorkload("a", lambda *_: result, POOLED, rows=1_000, **PAID),
        "b": FitWorkload("b", descent(1), POOLED, rows=1, **PAID),
    }
    _, caller = grid_of(fits)
    with pytest.raises(Declined, match=f"party='a' declined 'mask': .*{cause}"):
        average(caller, ZERO, AverageSettings("fedavg", 1, 1_000, 100.0), session=digest("session")[:16])


def test_rows_must_be_there_and_as_few_as_agreed() -> None:
    with pytest.raises(InvalidData, match="party='a' has no rows"):
        FitWorkload("a", descent(1), POOLED, rows=0, **PAID)
    fits = {name: FitWorkload(name, descent(1), POOLED, rows=1_001, **PAID) for name in ("a", "b")}
    _, caller = grid_of(fits)
    with pytest.raises(Declined, match="party='a' has 1001 rows, more than most_rows=1000"):
        average(caller, ZERO, AverageSettings("fedavg", 1, 1_000, 100.0), session=digest("session")[:16])


def test_a_fit_is_not_run_before_the_settings_are_agreed() -> None:
    with pytest.raises(Refused, match="must be agreed on first"):
        FitWorkload("a", descent(1), POOLED, rows=1, **PAID).words(
            encode(AverageTask(1, b"", b"", {})), members=2
        )


@pytest.mark.parametrize(
    ("changes", "cause"),
    [
        ({"method": "fedprox"}, "proximal=0.0 must be above 0 with fedprox"),
        ({"proximal": 1.0}, "proximal=1.0 must be .* 0 with fedavg"),
        ({"largest_change": float("inf")}, "largest_change=inf must be above 0 and finite"),
        ({"most_rows": 0}, "most_rows=0 must be at least 1"),
    ],
)
def test_settings_out_of_range_are_refused(changes: Any, cause: str) -> None:
    fields = {"method": "fedavg", "rounds": 1, "most_rows": 1, "largest_change": 1.0} | changes
    with pytest.raises(InvalidSetting, match=cause):
        AverageSettings(**fields)
