"""Every shape of query, audited as a whole: what `Sandbox.release` gives on two tables that differ in one customer.

One release answers for thousands of copies at once: each copy of the tiny table is a group of its own, with customers of its own,
and gets noise of its own. So a copy is a draw of the query, one release through the public interface makes all draws, and a customer
still changes one copy only, for which the whole loss was claimed.
"""

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray

from dayfly.privacy.accounting import epsilon_of_rho
from dayfly.privacy.audit import Draws, audit, audit_query
from dayfly.privacy.errors import AuditFailed, InvalidArgument, InvalidQuery
from dayfly.privacy.localdp import HadamardResponse, RandomizedResponse, UnaryEncoding
from dayfly.privacy.noise import OpenDpNoise
from dayfly.privacy.sandbox import Query, Sandbox, SandboxQuery, Source, parse_document
from tests.privacy.sandbox.support import opened, salts

EPSILON = 1.5
DELTA = 1e-3
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
"""Of the claim that an audit must see where one noisy number, or one per group, is the answer. A mean, a variance and a quantile are
computed from several, each with a part of the loss, and do not show them one by one: of these less can be seen."""

SHAPES: dict[str, tuple[Shape, list[Row], float]] = {
    "count": (lambda q: q.bound(rows_per_group=1).count(), ONE_ROW, TIGHT),
    "count of several rows": (lambda q: q.bound(rows_per_group=3).count(), MANY_ROWS, TIGHT),
    "customers": (lambda q: q.bound(rows_per_group=1).customers(), ONE_ROW, TIGHT),
    "sum": (lambda q: q.bound(rows_per_group=1).sum("v", lower=0, upper=10), ONE_ROW, TIGHT),
    "mean": (lambda q: q.bound(rows_per_group=1).mean("v", lower=0, upper=10), ONE_ROW, 0.6),
    "variance": (lambda q: q.bound(rows_per_group=1).variance("v", lower=0, upper=10), ONE_ROW, 0.25),
    "quantiles": (
        lambda q: q.bound(rows_per_group=1).quantiles("v", [0.5], lower=0, upper=16, bins=16),
        ONE_ROW,
        0.2,
    ),
    "histogram": (lambda q: q.bound(rows_per_group=1).histogram("v", edges=[0, 5, 10]), ONE_ROW, TIGHT),
    "known keys": (
        lambda q: (
            q.group_by("k", keys=["x", "y"])
            .bound(groups_per_customer=2, rows_per_group=1)
            .count()
            .sum("v", lower=0, upper=10)
        ),
        TWO_KEYS,
        0.75,
    ),
    "known keys, one measure": (
        lambda q: q.group_by("k", keys=["x", "y"]).bound(groups_per_customer=2, rows_per_group=1).count(),
        TWO_KEYS,
        TIGHT,
    ),
    "distinct": (
        lambda q: q.bound(rows_per_group=1).distinct("k", values_per_customer=2),
        OWN_KEYS,
        TIGHT,
    ),
    "per-customer table": (
        lambda q: (
            q.per_customer(by=["draw"], orders="rows").bound(rows_per_group=1).sum("orders", lower=0, upper=3)
        ),
        MANY_ROWS,
        TIGHT,
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


def audited(name: str, folder: Path, *, draws: int) -> float:
    """Audit a shape; its power."""
    shape, rows, _ = SHAPES[name]
    report = audit(
        draws_of(shape, [*OTHERS, *rows], folder / "with"),
        draws_of(shape, OTHERS, folder / "without"),
        epsilon=EPSILON,
        draws=draws,
        confidence=SURE,
    )
    report.check()
    return report.power


@pytest.mark.parametrize("name", ["count", "distinct"])
def test_a_shape_of_the_slice_loses_what_it_claims(name: str, tmp_path: Path) -> None:
    assert audited(name, tmp_path, draws=80_000) > TIGHT


@pytest.mark.slow
@pytest.mark.parametrize("name", SHAPES)
def test_a_shape_loses_no_more_than_it_claims(name: str, tmp_path: Path) -> None:
    least = SHAPES[name][2]
    assert audited(name, tmp_path, draws=40_000 if name == "quantiles" else 100_000) > least


@pytest.mark.slow
def test_unknown_keys_tell_no_more_than_is_claimed(tmp_path: Path) -> None:
    """The customer brings in a key of its own, which is shown with a probability of at most delta, and counts in another."""

    def draws(rows: list[Row], folder: Path) -> Draws:
        asked = iter(range(10))

        def draw(count: int) -> NDArray[np.float64]:
            sandbox = sandbox_of(folder / str(next(asked)), copies(rows, count))
            query = sandbox.query("orders").group_by("draw", keys=range(count)).group_by("k")
            query = query.bound(groups_per_customer=2, rows_per_group=1).count()
            table = query.release(epsilon=str(EPSILON), delta=str(DELTA)).table
            found = np.full((count, 3), np.nan)
            for place, key in enumerate(("x", "y", "p")):
                mine = table["k"].to_numpy(zero_copy_only=False) == key
                found[table["draw"].to_numpy()[mine], place] = table["count"].to_numpy()[mine]
            return found

        return draw

    many = [(customer, "x", 1.0) for customer in (4, 5, 6, 7, 8, 9)]
    audit(
        draws([*OTHERS, *many, (1, "x", 1.0), (1, "p", 1.0)], tmp_path / "with"),
        draws([*OTHERS, *many], tmp_path / "without"),
        epsilon=EPSILON,
        delta=DELTA,
        draws=40_000,
    ).check()


@pytest.mark.slow
def test_a_continual_release_loses_no_more_than_it_claims(tmp_path: Path) -> None:
    """Eight steps of thousands of streams; the customer comes at the third, and all totals are looked at together."""
    rho = "1/2"

    def draws(change: int, folder: Path) -> Draws:
        asked = iter(range(10))

        def draw(count: int) -> NDArray[np.float64]:
            home = folder / str(next(asked))
            sandbox = sandbox_of(home, copies(OTHERS, 1), rho=10**6)
            query = sandbox.query("orders").group_by("draw", keys=range(count)).bound(groups_per_customer=1)
            totals = []
            with query.bound(rows_per_group=1).count().continual(home / "s", rho=rho, length=8) as stream:
                for step in range(8):
                    present = change if step == 2 else 0
                    rows = copies([(1, "x", 1.0)], count) if present else copies(OTHERS, count)[:0]
                    totals.append(stream.advance(step, rows)["count"].to_numpy())
            return np.stack(totals, axis=1)

        return draw

    report = audit(
        draws(1, tmp_path / "with"),
        draws(0, tmp_path / "without"),
        epsilon=epsilon_of_rho(Fraction(rho), Fraction(str(DELTA))),
        delta=DELTA,
        draws=40_000,
    )
    report.check()
    assert report.power > 0.2


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
    with_customer, without = copies([*OTHERS, *extra], 1), copies(OTHERS, 1)
    return Source(with_customer, customer="customer"), Source(without, customer="customer")


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
def test_the_largest_groups_tell_no_more_than_is_claimed() -> None:
    text = (
        "group_by: [{column: k, keys: [x, y, z]}], bound: {groups_per_customer: 2, rows_per_group: 1}, "
        "measures: [{measure: count}], top: {groups: 1}"
    )
    audit_query(query_of(text), *sources(TWO_KEYS), epsilon="2", draws=4_000).check()


def test_an_audit_of_a_query_needs_draws() -> None:
    with pytest.raises(InvalidArgument, match="draws=99 must be at least 100"):
        audit_query(query_of(COUNT), *sources(ONE_ROW), epsilon="1", draws=99)


def test_an_audit_of_unknown_keys_needs_a_delta() -> None:
    text = "group_by: [{column: k}], bound: {groups_per_customer: 1, rows_per_group: 1}, measures: [{measure: count}]"
    with pytest.raises(InvalidQuery, match="delta=0 must be > 0 where keys are unknown"):
        audit_query(query_of(text), *sources(ONE_ROW), epsilon="1", draws=100)
