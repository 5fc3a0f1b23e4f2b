"""Every shape of query, audited: all numbers that leave the noise, on two tables that differ in the customer who moves each of them most.

The customer has as many rows as count, in as many groups as count, at the bound of every value: counts, sums, squares and all
levels of a tree change by their claimed sensitivity in one and the same release, so the claim is the exact loss of this pair, and the
logarithm of the two likelihoods' ratio must show nearly all of it. Not one pair does so for both halves of an (epsilon, delta): keys
that nobody else has cost delta and no epsilon, keys of many cost epsilon; there are two audits of them.

Where noise is Gaussian, the claim of rho is held against the exact loss of the pair, which rho alone overstates at any one delta.

The slice goes through releases, end to end: one answers for thousands of copies at once, each copy of the tiny table a group of its own,
with customers and noise of its own. A customer still changes one copy only, for which the whole loss was claimed.
"""

import math
import os
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray
from scipy import optimize, stats

from dayfly.privacy.accounting import epsilon_of_rho
from dayfly.privacy.accounting.selection import threshold_delta
from dayfly.privacy.audit import AuditReport, Draws, QueryParts, audit, audit_delta, audit_query, query_parts
from dayfly.privacy.errors import AuditFailed, InvalidArgument, InvalidQuery
from dayfly.privacy.localdp import HadamardResponse, RandomizedResponse, UnaryEncoding
from dayfly.privacy.noise import OpenDpNoise
from dayfly.privacy.sandbox import Budget, Query, Sandbox, SandboxQuery, Source, parse_document
from tests.privacy.sandbox.support import NoNoise, opened, salts

EPSILON = 1.5
SURE = 0.99999
"""Noise is not seeded here, so a true claim must not be refused in a lifetime of runs."""

Row = tuple[int, str, float]
"""Customer below 10, key, value."""

OTHERS: list[Row] = [(0, "x", 2.0), (0, "y", 1.0), (2, "x", 3.0), (3, "x", 9.0)]
ONE_ROW: list[Row] = [(1, "x", 10.0)]
MANY_ROWS: list[Row] = [(1, "x", 10.0)] * 3
TWO_KEYS: list[Row] = [(1, "x", 10.0), (1, "y", 10.0)]
OWN_KEYS: list[Row] = [(1, "p", 10.0), (1, "q", 10.0)]

Shape = Callable[[SandboxQuery], SandboxQuery]
TIGHT = 0.9
"""Of the claim that an audit must see, for it to have power."""
COMPILED = os.environ.get("NUMBA_DISABLE_JIT", "0") == "0"

SHAPES: dict[str, tuple[Shape, list[Row], int]] = {
    # The more numbers share the loss, the rarer all of them show it at once: so many draws that a run in thousands falls short of `TIGHT`.
    "count": (lambda q: q.bound(rows_per_group=1).count(), ONE_ROW, 100_000),
    "count of several rows": (lambda q: q.bound(rows_per_group=3).count(), MANY_ROWS, 100_000),
    "customers": (lambda q: q.bound(rows_per_group=1).customers(), ONE_ROW, 100_000),
    "sum": (lambda q: q.bound(rows_per_group=1).sum("v", lower=0, upper=10), ONE_ROW, 100_000),
    "mean": (lambda q: q.bound(rows_per_group=1).mean("v", lower=0, upper=10), ONE_ROW, 200_000),
    "variance": (lambda q: q.bound(rows_per_group=1).variance("v", lower=0, upper=10), ONE_ROW, 500_000),
    "quantiles": (
        lambda q: q.bound(rows_per_group=1).quantiles("v", [0.5], lower=0, upper=16, bins=16),
        ONE_ROW,
        100_000,
    ),
    "quantiles, two levels of a tree": (
        lambda q: q.bound(rows_per_group=3).quantiles("v", [0.5], lower=0, upper=16, bins=256),
        MANY_ROWS,
        200_000,
    ),
    "histogram": (
        lambda q: q.bound(groups_per_customer=1, rows_per_group=1).histogram("v", edges=[0, 5, 10]),
        ONE_ROW,
        100_000,
    ),
    "known keys": (
        lambda q: (
            q.group_by("k", keys=["x", "y"])
            .bound(groups_per_customer=2, rows_per_group=1)
            .count()
            .sum("v", lower=0, upper=10)
        ),
        TWO_KEYS,
        1_000_000,
    ),
    "known keys, one measure": (
        lambda q: q.group_by("k", keys=["x", "y"]).bound(groups_per_customer=2, rows_per_group=1).count(),
        TWO_KEYS,
        200_000,
    ),
    "distinct": (
        lambda q: q.bound(rows_per_group=1).distinct("k", values_per_customer=2),
        OWN_KEYS,
        100_000,
    ),
    "per-customer table": (
        lambda q: (
            q.per_customer(by=["draw"], orders="rows").bound(rows_per_group=1).sum("orders", lower=0, upper=3)
        ),
        MANY_ROWS,
        100_000,
    ),
    "top-k": (
        lambda q: (
            q.group_by("k", keys=["x", "y", "z"])
            .bound(groups_per_customer=2, rows_per_group=1)
            .count()
            .top_k(1)
        ),
        TWO_KEYS,
        200_000,
    ),
}


def copies(rows: list[Row], count: int) -> pa.Table:
    """The rows `count` times, each time of other customers and in another group."""
    customers, keys, values = (np.array(column) for column in zip(*rows, strict=True))
    draw = np.repeat(np.arange(count), len(rows))
    return pa.table(
        {
            "customer": np.tile(customers, count) + 10 * draw,
            "k": np.tile(keys, count),
            "v": np.tile(values, count),
            "draw": draw,
        }
    )


def pair_of(with_customer: list[Row], without: list[Row]) -> tuple[Source, Source]:
    return (
        Source(copies(with_customer, 1), customer="customer"),
        Source(copies(without, 1), customer="customer"),
    )


def sandbox_of(folder: Path, table: pa.Table, **limit: int) -> Sandbox:
    folder.mkdir(parents=True, exist_ok=True)
    return Sandbox(
        ledger=opened(folder, **limit),
        sources={"orders": Source(table, customer="customer")},
        analyst="ann",
        purpose="marketing",
        noise=OpenDpNoise(),
        random_bytes=salts(),
    )


def draws_of(shape: Shape, rows: list[Row], folder: Path) -> Draws:
    """Draws of a shape: one release for each time that the audit asks."""
    asked = iter(range(10))

    def draw(count: int) -> NDArray[np.float64]:
        sandbox = sandbox_of(folder / str(next(asked)), copies(rows, count))
        query = sandbox.query("orders").group_by("draw", keys=range(count)).bound(groups_per_customer=1)
        release = shape(query).release(epsilon=str(EPSILON))
        values = [release.table[name].to_numpy() for name in release.columns]
        return np.stack(values, axis=1).reshape(count, -1)

    return draw


def query_of_shape(shape: Shape, folder: Path) -> Query:
    return shape(sandbox_of(folder, copies(OTHERS, 1)).query("orders")).query


def parts_of_shape(
    shape: Shape, rows: list[Row], others: list[Row], budget: Budget, folder: Path
) -> QueryParts:
    both = pair_of([*others, *rows], others)
    return query_parts(query_of_shape(shape, folder), *both, budget, random_bytes=salts())


def checked_power(report: AuditReport) -> float:
    report.check()
    lower, claim = (
        (report.delta_lower, report.delta) if report.delta_lower else (report.epsilon_lower, report.epsilon)
    )
    print(f"{lower:.4f} of {claim:.4f}: {report.power:.3f} by {report.draws} draws; {report.event}")  # noqa: T201 - pytest -rP shows the figure
    return report.power


def power_of(parts: QueryParts, *, draws: int, epsilon: float = EPSILON, delta: float = 0.0) -> float:
    """Audit all noisy numbers; the power."""
    report = audit(
        parts.with_customer,
        parts.without_customer,
        epsilon=epsilon,
        delta=delta,
        draws=draws,
        confidence=SURE,
        statistic=parts.log_ratio,
    )
    return checked_power(report)


@pytest.mark.parametrize("name", ["count", "distinct"])
def test_a_shape_of_the_slice_is_released_with_the_loss_that_it_claims(name: str, tmp_path: Path) -> None:
    """Kernels that are not compiled take minutes for so many copies, so they make fewer, which show less."""
    shape, rows, _ = SHAPES[name]
    report = audit(
        draws_of(shape, [*OTHERS, *rows], tmp_path / "with"),
        draws_of(shape, OTHERS, tmp_path / "without"),
        epsilon=EPSILON,
        draws=80_000 if COMPILED else 4_000,
        confidence=SURE,
    )
    report.check()
    assert report.power > (TIGHT if COMPILED else 0.5)


@pytest.mark.slow
@pytest.mark.parametrize("name", SHAPES)
def test_a_shape_loses_no_more_than_it_claims_and_no_less(name: str, tmp_path: Path) -> None:
    shape, rows, draws = SHAPES[name]
    parts = parts_of_shape(shape, rows, OTHERS, Budget(epsilon=str(EPSILON)), tmp_path)
    assert power_of(parts, draws=draws) > TIGHT


def exact_epsilon(mu: float, delta: float) -> float:
    """Of Gaussian noise with sensitivity mu and standard deviation 1 (Balle and Wang 2018, theorem 8), by bisection."""

    def excess(epsilon: float) -> float:
        missed = stats.norm.cdf(mu / 2 - epsilon / mu) - math.exp(epsilon) * stats.norm.cdf(
            -mu / 2 - epsilon / mu
        )
        return float(missed) - delta

    return float(optimize.brentq(excess, 0.0, 50.0))


GAUSSIAN_DELTA = 0.1
"""Where Gaussian noise is looked at: a smaller one asks for events that are too rare to be counted."""


@pytest.mark.slow
def test_gaussian_noise_loses_no_more_than_its_rho_and_no_less(tmp_path: Path) -> None:
    shape, rows, _ = SHAPES["known keys"]
    parts = parts_of_shape(shape, rows, OTHERS, Budget(rho="1/2"), tmp_path)
    claim = exact_epsilon(1.0, GAUSSIAN_DELTA)
    assert claim < epsilon_of_rho(Fraction(1, 2), Fraction("0.1"))
    assert power_of(parts, draws=500_000, epsilon=claim, delta=GAUSSIAN_DELTA) > TIGHT


# --- unknown keys ------------------------------------------------------------------------------------------------------


def unknown(query: SandboxQuery) -> SandboxQuery:
    return query.group_by("k").bound(groups_per_customer=2, rows_per_group=1).customers()


@pytest.mark.slow
def test_unknown_keys_of_many_lose_the_epsilon_that_is_claimed(tmp_path: Path) -> None:
    """So many have both keys that these are shown nearly always; what tells is their noisy number of customers."""
    delta = 1e-4
    many = [(customer, key, 1.0) for customer in range(20, 80) for key in ("x", "y")]
    budget = Budget(epsilon=str(EPSILON), delta=str(delta))
    parts = parts_of_shape(unknown, TWO_KEYS, many, budget, tmp_path)
    assert power_of(parts, draws=200_000, delta=delta) > TIGHT


@pytest.mark.slow
def test_an_unknown_key_of_one_customer_loses_the_delta_that_is_claimed(tmp_path: Path) -> None:
    """The customer brings in a key that nobody else has; what tells is that it is shown."""

    def own(query: SandboxQuery) -> SandboxQuery:
        return query.group_by("k").bound(groups_per_customer=1, rows_per_group=1).customers()

    def parts_at(delta: Fraction) -> QueryParts:
        budget = Budget(epsilon=1, delta=str(delta))
        return parts_of_shape(own, OWN_KEYS[:1], OTHERS[:1], budget, tmp_path / str(delta.numerator))

    # A threshold is a whole number, so most deltas leave some over: take one that the threshold uses up.
    selection = parts_at(Fraction(11, 100)).plan.selection
    assert selection is not None
    exact = threshold_delta(selection.noise, selection.threshold, l0=1, linf=1)
    delta = Fraction(math.ceil(exact * 10**9), 10**9)
    parts = parts_at(delta)
    assert parts.plan.mechanism == "laplace"  # the other kind keeps half of delta for its epsilon
    report = audit_delta(
        parts.with_customer,
        parts.without_customer,
        epsilon=1.0,
        delta=float(delta),
        draws=300_000,
        confidence=SURE,
        statistic=parts.log_ratio,
    )
    assert checked_power(report) > TIGHT


# --- continual release -------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_continual_release_loses_no_more_than_its_rho_and_no_less(tmp_path: Path) -> None:
    """Thousands of streams. A customer of the first step moves the noise of all later ones most; all totals are looked at together."""
    rho, length = "1/2", 4

    def draws(change: int, folder: Path) -> Draws:
        asked = iter(range(10))

        def draw(count: int) -> NDArray[np.float64]:
            home = folder / str(next(asked))
            sandbox = sandbox_of(home, copies(OTHERS, 1), rho=10**6)
            query = sandbox.query("orders").group_by("draw", keys=range(count)).bound(groups_per_customer=1)
            totals = []
            with (
                query.bound(rows_per_group=1).count().continual(home / "s", rho=rho, length=length) as stream
            ):
                for step in range(length):
                    present = change and step == 0
                    rows = copies([(1, "x", 1.0)], count) if present else copies(OTHERS, count)[:0]
                    totals.append(stream.advance(step, rows)["count"].to_numpy())
            return np.stack(totals, axis=1)

        return draw

    report = audit(
        draws(1, tmp_path / "with"),
        draws(0, tmp_path / "without"),
        epsilon=exact_epsilon(1.0, GAUSSIAN_DELTA),
        delta=GAUSSIAN_DELTA,
        draws=500_000,
        confidence=SURE,
    )
    assert checked_power(report) > TIGHT


# --- local DP ----------------------------------------------------------------------------------------------------------

TWO = ("a", "b")


def reports(encode: Callable[[str], NDArray[np.float64]], category: str) -> Draws:
    return lambda count: np.stack([encode(category) for _ in range(count)])


@pytest.mark.parametrize(
    "draws", [pytest.param(40_000, id="slice"), pytest.param(200_000, id="all", marks=pytest.mark.slow)]
)
@pytest.mark.parametrize("kind", ["response", "unary", "hadamard"])
def test_a_report_loses_what_it_claims(kind: str, draws: int) -> None:
    random_bytes = np.random.default_rng(3).bytes
    response = RandomizedResponse(TWO, Fraction(EPSILON))
    unary = UnaryEncoding(TWO, Fraction(EPSILON))
    hadamard = HadamardResponse(TWO, Fraction(EPSILON))
    encoders: dict[str, Callable[[str], NDArray[np.float64]]] = {
        "response": lambda one: np.array([float(response.encode(one, random_bytes))]),
        "unary": lambda one: np.array(
            [float(unary.encode(one, random_bytes)[0] >> bit & 1) for bit in (7, 6)]
        ),
        "hadamard": lambda one: np.eye(hadamard.words)[hadamard.encode(one, random_bytes)],
    }
    report = audit(reports(encoders[kind], "a"), reports(encoders[kind], "b"), epsilon=EPSILON, draws=draws)
    report.check()
    assert report.power > 0.9


# --- the helper for users ----------------------------------------------------------------------------------------------


def sources(extra: list[Row]) -> tuple[Source, Source]:
    return pair_of([*OTHERS, *extra], OTHERS)


def query_of(text: str) -> Query:
    return parse_document(f"query: {{source: t, {text}}}").query


COUNT = "measures: [{measure: count}], bound: {rows_per_group: 1}"


def test_a_query_of_a_sandbox_is_audited_as_a_whole() -> None:
    report = audit_query(query_of(COUNT), *sources(ONE_ROW), epsilon="3", draws=600)
    report.check()
    assert report.epsilon == 3
    assert report.power > 0.4


def test_a_query_with_too_little_noise_is_refused() -> None:
    class Liar(OpenDpNoise):
        def laplace(self, values: NDArray[np.int64], scale: Fraction, *, l1: int = 1) -> NDArray[np.int64]:
            return super().laplace(values, scale / 4, l1=4 * l1)

    with pytest.raises(AuditFailed, match="epsilon=1 must not be less than"):
        audit_query(query_of(COUNT), *sources(ONE_ROW), epsilon="1", draws=600, noise=Liar()).check()


def test_groups_that_are_not_shown_count_in_an_audit_of_a_query() -> None:
    text = "group_by: [{column: k}], bound: {groups_per_customer: 2, rows_per_group: 1}, measures: [{measure: count}]"
    audit_query(query_of(text), *sources(OWN_KEYS), epsilon="2", delta="1/100", draws=300).check()


@pytest.mark.slow
def test_the_largest_group_loses_in_the_answer_what_is_claimed() -> None:
    """The customer is in a group that is the largest nearly always, so its number is in the answer."""
    text = (
        "group_by: [{column: k, keys: [x, y, z]}], bound: {groups_per_customer: 1, rows_per_group: 1}, "
        "measures: [{measure: count}], top: {groups: 1}"
    )
    many = [(customer, "x", 1.0) for customer in range(20, 60)]
    both = pair_of([*many, *ONE_ROW], many)
    report = audit_query(query_of(text), *both, epsilon="2", draws=20_000, confidence=0.999)
    assert checked_power(report) > TIGHT


def test_the_numbers_that_a_mean_is_made_of_show_what_the_mean_hides() -> None:
    text = "measures: [{measure: mean, column: v, lower: 0, upper: 10}], bound: {rows_per_group: 1}"
    report = audit_query(query_of(text), *sources(ONE_ROW), epsilon="2", draws=40_000, parts=True)
    report.check()
    assert report.power > 0.8


def test_parts_are_those_of_the_release() -> None:
    """Without noise: the rows and their sum around the middle of the bounds, with the customer's row and without."""
    text = "measures: [{measure: mean, column: v, lower: 0, upper: 10}], bound: {rows_per_group: 1}"
    parts = query_parts(query_of(text), *sources(ONE_ROW), Budget(epsilon=1), noise=NoNoise())
    step = float(next(part for part in parts.plan.parts if part.role == "centred sum").lattice.step)
    # Around the middle customer 0 has -3 and -4, held at -5, and the others have -2 and 4.
    rows = parts.without_customer(2) * np.array([1.0, step])
    assert rows[0].tolist() == rows[1].tolist()
    assert rows[0].tolist() == [3.0, -5.0 - 2.0 + 4.0]
    assert (parts.with_customer(1) * np.array([1.0, step]) - rows[:1]).tolist() == [[1.0, 5.0]]


def test_of_a_tree_the_node_of_each_level_is_drawn_that_the_customer_moves() -> None:
    text = "measures: [{measure: quantile, column: v, quantiles: [0.5], lower: 0, upper: 16, bins: 256}], bound: {rows_per_group: 3}"
    parts = query_parts(query_of(text), *sources(MANY_ROWS), Budget(epsilon=1), noise=NoNoise())
    assert parts.with_customer(1).tolist() == [[3.0, 3.0]]
    assert parts.without_customer(1).tolist() == [[0.0, 0.0]]


def test_a_key_that_only_one_table_has_is_certain_to_be_of_that_table() -> None:
    text = "group_by: [{column: k}], bound: {groups_per_customer: 2, rows_per_group: 1}, measures: [{measure: count}]"
    both = pair_of([*OTHERS, *OWN_KEYS], OTHERS)
    parts = query_parts(query_of(text), *both, Budget(epsilon="3/2", delta="1/5"))
    rows = parts.with_customer(2_000)
    shown = ~np.isnan(rows[:, :4])  # p, q, x, y
    assert 0 < shown[:, :2].any(axis=1).mean() <= 0.25
    assert np.isnan(parts.without_customer(2_000)[:, :2]).all()
    assert ((parts.log_ratio(rows) > 500) == shown[:, :2].any(axis=1)).all()


def test_parts_with_too_little_noise_are_refused() -> None:
    class Liar(OpenDpNoise):
        def laplace(self, values: NDArray[np.int64], scale: Fraction, *, l1: int = 1) -> NDArray[np.int64]:
            return super().laplace(values, scale / 4, l1=4 * l1)

    with pytest.raises(AuditFailed, match="epsilon=1 must not be less than"):
        audit_query(
            query_of(COUNT), *sources(ONE_ROW), epsilon="1", draws=600, noise=Liar(), parts=True
        ).check()


def test_an_audit_of_a_query_needs_draws() -> None:
    with pytest.raises(InvalidArgument, match="draws=99 must be at least 100"):
        audit_query(query_of(COUNT), *sources(ONE_ROW), epsilon="1", draws=99)


def test_an_audit_of_unknown_keys_needs_a_delta() -> None:
    text = "group_by: [{column: k}], bound: {groups_per_customer: 1, rows_per_group: 1}, measures: [{measure: count}]"
    with pytest.raises(InvalidQuery, match="delta=0 must be > 0 where keys are unknown"):
        audit_query(query_of(text), *sources(ONE_ROW), epsilon="1", draws=100)
