"""Taking one customer out never moves a result by more than the claimed sensitivity, and the claim is attained."""

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from dayfly.privacy.accounting.losses import Sensitivity
from dayfly.privacy.bounding import (
    NO_VALUE,
    Bounded,
    Contribution,
    Method,
    bounded_group_by,
    bounded_rows,
    encode,
)

SALT = b"a fixed salt ..."
Row = tuple[int, int, int]
Vector = NDArray[np.int64]

ROWS: list[Row] = list(itertools.product(range(3), range(3), (-7, NO_VALUE, 9)))
CASES = [
    ("uniform", Contribution(1, 1, -2, 4)),
    ("uniform", Contribution(2, 2, -2, 4)),
    ("first_come", Contribution(1, 2, 1, 3)),
    ("first_come", Contribution(2, 1, -6, -1)),
]


def universe(most_rows: int, *, ordered: bool) -> Iterator[tuple[Row, ...]]:
    for length in range(1, most_rows + 1):
        yield from (
            itertools.product(ROWS, repeat=length)
            if ordered
            else itertools.combinations_with_replacement(ROWS, length)
        )


def answers(table: Sequence[Row], bounds: Contribution, method: Method) -> tuple[Vector, Vector, Vector]:
    columns = np.array(table, np.int64).reshape(-1, 3)
    bounded = bounded_group_by(
        columns[:, 0], columns[:, 1], columns[:, 2], 3, bounds, method=method, salt=SALT
    )
    return bounded.counts, bounded.sums, bounded.customers


def claims(bounds: Contribution) -> tuple[Sensitivity, Sensitivity, Sensitivity]:
    return bounds.count_sensitivity(), bounds.sum_sensitivity(), bounds.customer_sensitivity()


def norms(difference: Vector) -> tuple[int, int, int, int]:
    sizes = [abs(int(entry)) for entry in difference]
    return (
        sum(size > 0 for size in sizes),
        sum(sizes),
        sum(size * size for size in sizes),
        max(sizes, default=0),
    )


def claimed(sensitivity: Sensitivity) -> tuple[int, int, int, int]:
    return sensitivity.l0, sensitivity.l1, sensitivity.l2_squared, sensitivity.linf


def check_universe(method: Method, bounds: Contribution, most_rows: int) -> None:
    known: dict[tuple[Row, ...], tuple[Vector, Vector, Vector]] = {(): answers((), bounds, method)}
    worst = [(0, 0, 0, 0)] * 3
    for table in universe(most_rows, ordered=method == "first_come"):
        known[table] = answers(table, bounds, method)
        for customer in range(3):
            neighbour = tuple(row for row in table if row[0] != customer)
            for place, (mine, theirs, claim) in enumerate(
                zip(known[table], known[neighbour], claims(bounds), strict=True)
            ):
                moved = norms(mine - theirs)
                assert all(ours <= most for ours, most in zip(moved, claimed(claim), strict=True)), (
                    table,
                    customer,
                )
                worst[place] = tuple(map(max, worst[place], moved))  # type: ignore[assignment]
    if most_rows >= bounds.l0 * bounds.rows_per_group:
        assert worst == [claimed(claim) for claim in claims(bounds)]


@pytest.mark.parametrize(("method", "bounds"), CASES)
def test_every_neighbour_of_every_table_of_two_rows_is_within_the_claim(
    method: Method, bounds: Contribution
) -> None:
    check_universe(method, bounds, 2)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "bounds"),
    [*CASES, ("uniform", Contribution(3, 1, 0, 5)), ("first_come", Contribution(1, 3, -5, 0))],
)
def test_every_neighbour_of_every_table_of_three_rows_is_within_the_claim(
    method: Method, bounds: Contribution
) -> None:
    check_universe(method, bounds, 3)


CUSTOMERS = st.one_of(st.none(), st.sampled_from(["ann", "bo", "cy", "di", ""]))
KEYS = st.one_of(st.none(), st.sampled_from(["x", "y", "z", "w", ""]))
FLOATS = st.one_of(
    st.none(),
    st.sampled_from([float("nan"), float("inf"), -float("inf"), 1e300, -0.0, 5e-324]),
    st.floats(-10, 10, width=32),
)


@st.composite
def neighbours(draw: st.DrawFn) -> tuple[pa.Table, pa.Table]:
    """A table with ties, duplicates, nulls and extremes, and the same without one customer."""
    rows = draw(
        st.lists(st.tuples(CUSTOMERS, KEYS, st.sampled_from([None, 1, 2]), FLOATS), min_size=1, max_size=40)
    )
    gone = draw(st.sampled_from(["ann", "bo"]))
    return table_of(rows), table_of([row for row in rows if row[0] != gone])


def table_of(rows: Sequence[tuple[Any, ...]]) -> pa.Table:
    types = [pa.string(), pa.string(), pa.int16(), pa.float64()]
    columns = [pa.array([row[place] for row in rows], kind) for place, kind in enumerate(types)]
    return pa.table(columns, names=["customer", "key", "more", "value"])


def by_key(bounded: Bounded, column: Vector) -> dict[tuple[Any, ...], int]:
    assert bounded.keys is not None
    keys = (
        zip(*(names.to_pylist() for names in bounded.keys.columns), strict=True)
        if bounded.keys.num_columns
        else [()]
    )
    return dict(zip(keys, column.tolist(), strict=True))


@given(
    neighbours(),
    st.sampled_from([("key",), ("key", "more"), ()]),
    st.sampled_from(["uniform", "first_come"]),
    st.builds(Contribution, st.integers(1, 3), st.integers(1, 3), st.integers(-9, 0), st.integers(0, 9)),
    st.binary(min_size=16, max_size=16),
    st.booleans(),
)
def test_tables_without_one_customer_are_within_the_claim_for_every_salt(
    pair: tuple[pa.Table, pa.Table],
    groups: tuple[str, ...],
    method: Method,
    bounds: Contribution,
    salt: bytes,
    known: bool,  # noqa: FBT001 - drawn by Hypothesis
) -> None:
    keys = (
        {("key",): ["x", "y", None], ("key", "more"): [("x", 1), ("y", None)], (): None}[groups]
        if known
        else None
    )
    both = [
        encode(table, customer="customer", groups=groups, value="value", known_keys=keys).group_by(
            bounds, method=method, salt=salt
        )
        for table in pair
    ]

    for name, claim in zip(("counts", "sums", "customers"), claims(bounds), strict=True):
        mine, theirs = (by_key(bounded, getattr(bounded, name)) for bounded in both)
        moved = norms(np.array([mine.get(key, 0) - theirs.get(key, 0) for key in mine | theirs], np.int64))
        assert all(ours <= most for ours, most in zip(moved, claimed(claim), strict=True))


@given(
    neighbours(),
    st.integers(1, 3),
    st.integers(1, 3),
    st.sampled_from(["uniform", "first_come"]),
    st.binary(min_size=16, max_size=16),
)
def test_bounded_rows_of_the_others_stay_when_a_customer_leaves(
    pair: tuple[pa.Table, pa.Table], l0: int, rows_per_group: int, method: Method, salt: bytes
) -> None:
    bounds = Contribution(l0, rows_per_group)
    kept = []
    for table in pair:
        columns = encode(table, customer="customer", groups=["key"], value="value")
        kept.append(table.take(pa.array(columns.rows(bounds, method=method, salt=salt))).to_pylist())
    everybody, others = kept
    remaining = [row for row in everybody if row["customer"] in {other["customer"] for other in others}]
    gone = [
        row
        for row in everybody
        if row not in remaining and row["customer"] not in {row["customer"] for row in others}
    ]

    assert str(remaining) == str(others)
    cells: dict[Any, int] = {}
    for row in gone:
        cells[row["customer"], row["key"]] = cells.get((row["customer"], row["key"]), 0) + 1
    assert len(cells) <= l0
    assert all(count <= rows_per_group for count in cells.values())


def test_customers_and_groups_may_be_coded_in_any_order() -> None:
    """The kept groups follow the keys, so who else is in the table cannot change them."""
    rows = [(name, key, None, 1.0) for name in ("m", "n") for key in "abcdef"]
    extra = [("a", "0", None, 1.0), *rows]
    bounds = Contribution(2, 1, 0, 1)

    alone, together = (
        encode(table_of(table), customer="customer", groups=["key"]).group_by(bounds, salt=SALT)
        for table in (rows, extra)
    )

    first, second = by_key(alone, alone.counts), by_key(together, together.counts)
    assert {key: count for key, count in second.items() if key != ("0",)} == first


def test_bare_codes_do_not_depend_on_how_many_there_are() -> None:
    customers, groups = np.repeat([3, 4], 6), np.tile(np.arange(6), 2)
    rows = bounded_rows(customers, groups, 6, Contribution(2, 1), salt=SALT)

    more = bounded_rows(np.append(customers, 9), np.append(groups, 0), 6, Contribution(2, 1), salt=SALT)

    assert more[more < 12].tolist() == rows.tolist()


@pytest.mark.parametrize("salt", [bytes([number] * 16) for number in range(8)])
def test_which_rows_of_a_group_are_kept_does_not_depend_on_where_others_rows_lie(salt: bytes) -> None:
    alone = np.zeros(20, int)
    mixed = np.tile([1, 0, 2], 20)
    bounds = Contribution(1, 3)

    own = bounded_rows(alone, np.zeros(20, int), 1, bounds, salt=salt)
    among = bounded_rows(mixed, np.zeros(60, int), 1, bounds, salt=salt)

    assert among[mixed[among] == 0].tolist() == (3 * own + 1).tolist()
