"""Errors foreseen are the errors that come: noise exactly, bias from a workload, bounds and splits proposed from both."""

import math
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dayfly.privacy.accounting import GaussianLoss, LaplaceLoss
from dayfly.privacy.errors import InvalidQuery
from dayfly.privacy.noise import OpenDpNoise
from dayfly.privacy.sandbox import Sandbox, Workload
from dayfly.privacy.sandbox.intervals import half_width

from .support import NoNoise, orders, sandbox_over

WORKLOAD = Workload(
    customers=1000,
    groups_per_customer={1: 0.5, 4: 0.5},
    rows_per_group={2: 0.5, 8: 0.5},
    totals={"price": {5.0: 0.5, 50.0: 0.4, 500.0: 0.1}},
)


class Untouched:
    """Data that fail when anybody looks at them."""

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(f"{name} of the data was looked at")


@pytest.fixture
def sandbox(tmp_path: Path) -> Sandbox:
    return sandbox_over(tmp_path, orders())


def bounded(sandbox: Sandbox, groups: int = 2, rows: int = 4) -> Any:
    query = sandbox.query("orders").group_by("country", keys=["France", "Germany", "Spain", "Italy"])
    return query.bound(groups_per_customer=groups, rows_per_group=rows)


def test_a_preview_neither_reads_nor_spends(sandbox: Sandbox) -> None:
    query = bounded(sandbox).count().mean("price", lower=0, upper=9).quantiles("price", lower=0, upper=9)
    sandbox._source("orders")._table = Untouched()
    query.preview(epsilon=1, workload=WORKLOAD)
    query.explain(epsilon=1)
    query.suggest(epsilon=1, workload=WORKLOAD)
    assert sandbox._ledger.history() == []
    assert isinstance(sandbox._noise, NoNoise)
    assert sandbox._noise.asked == []


def test_noise_is_told_exactly_and_bias_is_what_bounds_leave_out(sandbox: Sandbox) -> None:
    found = (
        bounded(sandbox)
        .count()
        .customers()
        .sum("price", lower=0, upper=100)
        .preview(epsilon=3, workload=WORKLOAD)
    )
    count, customers, total = found.columns
    assert count.std == pytest.approx(math.sqrt(2) * 2 * 4 / 1)
    assert customers.std == pytest.approx(math.sqrt(2) * 2 / 1)
    assert total.std == pytest.approx(math.sqrt(2) * 2 * 100 / 1)
    # 1000 customers in 2.5 groups of 4 on average, 5 rows in each; of (1, 4) groups (1, 2) are kept, of (2, 8) rows (2, 4)
    assert count.expected == pytest.approx(1000 * 2.5 / 4 * 5)
    assert count.lost_share == pytest.approx(1 - (1.5 / 2.5) * (3 / 5))
    assert customers.lost_share == pytest.approx(1 - 1.5 / 2.5)
    assert total.expected == pytest.approx(1000 * 2.5 / 4 * 72.5)
    assert total.lost_share == pytest.approx(1 - (1.5 / 2.5) * (32.5 / 72.5))
    assert count.bias == pytest.approx(-count.expected * count.lost_share)
    assert count.error == pytest.approx(math.hypot(count.std, count.bias))


def test_the_error_foreseen_is_the_error_that_comes(tmp_path: Path) -> None:
    """Many groups that only noise differs in, with bounds that cut a known part off."""
    rng = np.random.default_rng(5)
    customers = np.repeat(np.arange(3000), 6)
    data = {
        "customer": customers,
        "k": rng.permuted(np.tile(np.arange(60), (3000, 1)), axis=1)[:, :6].ravel(),
    }
    sandbox = sandbox_over(tmp_path, data, noise=OpenDpNoise())
    query = (
        sandbox.query("orders")
        .group_by("k", keys=range(60))
        .bound(groups_per_customer=2, rows_per_group=1)
        .count()
    )
    workload = Workload(customers=3000, groups_per_customer={6: 1})
    foreseen = query.preview(epsilon="0.1", workload=workload)["count"]
    table = query.release(epsilon="0.1").table
    truth = np.bincount(data["k"], minlength=60)
    error = np.array(table["count"].to_pylist()) - truth
    assert error.mean() == pytest.approx(foreseen.bias, rel=0.1)
    assert math.sqrt((error**2).mean()) == pytest.approx(foreseen.error, rel=0.15)


@pytest.mark.parametrize("upper", [10, 30])
def test_the_error_of_means_stays_below_what_is_foreseen(tmp_path: Path, upper: int) -> None:
    rng = np.random.default_rng(6)
    values = rng.uniform(0, upper, 200 * 50)
    data = {"customer": np.arange(values.size), "k": np.repeat(np.arange(50), 200), "v": values}
    sandbox = sandbox_over(tmp_path, data, noise=OpenDpNoise())
    query = (
        sandbox.query("orders").group_by("k", keys=range(50)).bound(groups_per_customer=1, rows_per_group=1)
    )
    asked = query.mean("v", lower=0, upper=upper).variance("v", lower=0, upper=upper)
    foreseen = asked.preview(epsilon=2, workload=Workload(customers=values.size, groups=50))
    table = asked.release(epsilon=2).table
    groups = values.reshape(50, 200)
    for name, truth in (("v_mean", groups.mean(axis=1)), ("v_variance", groups.var(axis=1))):
        error = np.array(table[name].to_pylist()) - truth
        std = foreseen[name].std
        assert std is not None
        assert std / 4 < math.sqrt((error**2).mean()) < 1.2 * std
        low, high = (np.array(table[f"{name}_{edge}"].to_pylist()) for edge in ("low", "high"))
        assert ((low <= truth) & (truth <= high)).mean() >= 0.94


def test_quantile_intervals_hold_the_quantile(tmp_path: Path) -> None:
    rng = np.random.default_rng(7)
    values = rng.gamma(2, 3, 300 * 40)
    data = {"customer": np.arange(values.size), "k": np.repeat(np.arange(40), 300), "v": values}
    sandbox = sandbox_over(tmp_path, data, noise=OpenDpNoise())
    query = (
        sandbox.query("orders").group_by("k", keys=range(40)).bound(groups_per_customer=1, rows_per_group=1)
    )
    for budget in ({"epsilon": 4}, {"epsilon": 4, "delta": "1e-6"}):
        table = query.quantiles("v", [0.25, 0.5], lower=0, upper=32).release(**budget).table
        for quantile in (0.25, 0.5):
            truth = np.quantile(values.reshape(40, 300), quantile, axis=1, method="inverted_cdf")
            found, low, high = (
                np.array(table[f"v_quantile_{quantile}{edge}"].to_pylist()) for edge in ("", "_low", "_high")
            )
            assert ((low <= truth) & (truth <= high)).mean() >= 0.95
            assert np.median(np.abs(found - truth)) < 2.0
            assert ((low <= found) & (found <= high)).all()


def test_a_preview_without_workload_tells_noise_only(sandbox: Sandbox) -> None:
    found = bounded(sandbox).count().mean("price", lower=0, upper=9).preview(rho="0.1")
    assert found["count"].std is not None
    assert (found["count"].bias, found["price_mean"].std) == (None, None)
    assert "price_mean" in str(found)


def test_suggested_bounds_have_the_least_foreseen_error_of_all(sandbox: Sandbox) -> None:
    for epsilon in ("0.01", "0.3", "10"):
        query = bounded(sandbox).count()
        best = query.suggest(epsilon=epsilon, workload=WORKLOAD)
        error = best.preview["count"].relative_error
        assert error is not None
        for groups in range(1, 5):
            for rows in range(1, 9):
                other = (
                    bounded(sandbox, groups, rows)
                    .count()
                    .preview(epsilon=epsilon, workload=WORKLOAD)["count"]
                    .relative_error
                )
                assert other is not None
                assert error <= other * 1.001, (epsilon, groups, rows)
    assert best.query.bound.groups_per_customer == 4  # with a large budget nothing is left out
    assert best.query.bound.rows_per_group == 8


def test_suggested_splits_beat_equal_ones(sandbox: Sandbox) -> None:
    query = bounded(sandbox).count().sum("price", lower=0, upper=500)
    best = query.suggest(epsilon="0.5", workload=WORKLOAD)
    assert set(best.shares) == {"count", "price_sum"}
    equal = Sandbox.query(sandbox, best.query).preview(epsilon="0.5", workload=WORKLOAD)

    def error(found: Any) -> float:
        return float(sum(one.relative_error**2 for one in found.columns))

    assert error(best.preview) <= error(equal)
    assert "groups_per_customer=" in str(best)


def test_contributions_are_one_paid_query_and_become_a_workload(tmp_path: Path) -> None:
    customers = np.repeat(np.arange(400), 6)
    keys = np.tile(np.array(["a", "a", "b", "b", "c", "c"]), 400)
    sandbox = sandbox_over(
        tmp_path, {"customer": customers, "k": keys}, noise=OpenDpNoise(), epsilon=Fraction(1)
    )
    query = sandbox.query("orders").group_by("k", keys=["a", "b"])
    found = query.contributions(epsilon="0.5", most_groups=8, most_rows=8)
    assert [one.left for one in found.release.remaining] == [Fraction(1, 2)] * 3
    assert found.workload.customers == pytest.approx(400, abs=60)
    assert found.workload.groups_per_customer.keys() == {2.0}
    assert found.workload.rows_per_group.keys() == {2.0}
    (part,) = found.release.explanation.parts
    assert (part.l1_units, part.linf_units) == (1, 1)


def test_contributions_that_drown_in_noise_are_told(tmp_path: Path) -> None:
    sandbox = sandbox_over(
        tmp_path, {"customer": np.arange(3), "k": np.zeros(3, np.int64)}, noise=OpenDpNoise()
    )
    with pytest.raises(InvalidQuery, match="customers must stand out of noise"):
        sandbox.query("orders").group_by("k", keys=[0]).contributions(
            epsilon="0.001", most_groups=1, most_rows=1
        )


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"customers": 0}, "customers=0 must be > 0"),
        ({"customers": 1, "groups_per_customer": {}}, "groups_per_customer must have a weight above zero"),
        (
            {"customers": 1, "rows_per_group": {1: -1.0}},
            "rows_per_group must have a weight above zero and none below",
        ),
        ({"customers": 1, "rows_per_group": {-1: 1.0}}, "rows_per_group=-1 must be >= 0"),
        ({"customers": 1, "totals": {"v": {}}}, "v must have a weight"),
    ],
)
def test_a_workload_that_cannot_be_is_refused(arguments: dict[str, Any], match: str) -> None:
    with pytest.raises(InvalidQuery, match=match):
        Workload(**arguments)


@given(
    scale=st.sampled_from([Fraction(1, 2), Fraction(3), Fraction(50)]),
    alpha=st.sampled_from([0.05, 0.3]),
    terms=st.sampled_from([2, 16, 32]),
    laplace=st.booleans(),
)
def test_half_widths_of_sums_cover(scale: Fraction, alpha: float, terms: int, laplace: bool) -> None:  # noqa: FBT001 - drawn
    rng = np.random.default_rng(3)
    noise: LaplaceLoss | GaussianLoss
    if laplace:
        noise, draws = LaplaceLoss(scale, 1), rng.laplace(0, float(scale), (4000, terms))
    else:
        noise, draws = GaussianLoss(scale, 1), rng.normal(0, float(scale), (4000, terms))
    width = half_width(noise, alpha, terms=terms)
    assert (np.abs(draws.sum(axis=1)) <= width).mean() >= 1 - alpha
    assert width < 3 * float(scale) * math.sqrt(terms) * math.sqrt(2 * math.log(2 / alpha))
