"""One customer more or less never moves a part's integers by more than the sensitivity that the plan states.

The noise-free integers of whole plans (filters, derived columns, per-customer tables, groups, bounds, trees, distinct values) are
made of random small tables and of the same tables without one customer, under one salt.
"""

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dayfly.privacy.sandbox import Budget, Query, Source
from dayfly.privacy.sandbox.answering import exact_parts
from dayfly.privacy.sandbox.checking import check
from dayfly.privacy.sandbox.documents import parse_document
from dayfly.privacy.sandbox.frames import frame_of
from dayfly.privacy.sandbox.groups import Groups, groups_of
from dayfly.privacy.sandbox.parts import Part, Role
from dayfly.privacy.sandbox.planning import outline, plan

SALTS = st.binary(min_size=16, max_size=16)
VALUES = st.one_of(
    st.none(),
    st.sampled_from([0.0, -1.0, 2.5, 10.0, 1e300, -1e300, float("inf"), float("-inf"), float("nan")]),
    st.floats(-3, 12),
)
ROWS = st.lists(
    st.tuples(st.sampled_from("abcd"), st.sampled_from(["x", "y", "z", None]), VALUES, st.integers(0, 5)),
    max_size=24,
)
MEASURES = """
  - {measure: count}
  - {measure: customers}
  - {measure: sum, column: v, lower: -2, upper: 7}
  - {measure: mean, column: v, lower: -2, upper: 10}
  - {measure: variance, column: v, lower: -2, upper: 10}
  - {measure: quantile, column: v, quantiles: [0.5], lower: -2, upper: 10, bins: 256}
  - {measure: distinct, column: n, values_per_customer: 2}
"""
SHAPES = {
    "one group": "bound: {rows_per_group: 2}",
    "known keys": "group_by: [{column: k, keys: [x, y, w]}]\n  bound: {groups_per_customer: 2, rows_per_group: 2}",
    "bins": "group_by: [{column: v, edges: [-2, 0, 5, 10]}]\n  bound: {groups_per_customer: 1, rows_per_group: 3}",
    "unknown keys": "group_by: [{column: k}, {column: n}]\n  bound: {groups_per_customer: 2, rows_per_group: 1}",
    "filter and derive": (
        "steps: [{step: where, condition: 'n > 1 or v < 0'}, {step: derive, columns: {v: v * n / (n - 2)}}]\n"
        "  group_by: [{column: k, keys: [x, y]}]\n  bound: {groups_per_customer: 1, rows_per_group: 2}"
    ),
    "per customer": (
        "steps: [{step: per_customer, columns: {v: {function: sum, column: v}, n: {function: distinct, column: n}}}]\n"
        "  group_by: [{column: n, keys: [0, 1, 2]}]"
    ),
    "per customer and key": (
        "steps: [{step: per_customer, by: [k], columns: {v: {function: max, column: v}, n: {function: rows}}}]\n"
        "  group_by: [{column: k}]\n  bound: {groups_per_customer: 2, rows_per_group: 1}"
    ),
}


def table_of(rows: list[tuple[Any, ...]]) -> pa.Table:
    names, kinds = ("customer", "k", "v", "n"), (pa.string(), pa.string(), pa.float64(), pa.int64())
    columns = list(zip(*rows, strict=True)) or [()] * 4
    return pa.table(
        {name: pa.array(list(column), kind) for name, column, kind in zip(names, columns, kinds, strict=True)}
    )


def integers(
    query: Query, rows: list[tuple[Any, ...]], salt: bytes
) -> dict[Part, dict[tuple[Any, ...], list[int]]]:
    """Integers of each part by the key of the group, so that tables with other groups compare."""
    source = Source(table_of(rows), customer="customer")
    planned = plan(outline(check(query, source.schema), {}), Budget(epsilon=1, delta="1e-6"))
    frame = frame_of(source, query.steps)
    groups = groups_of(frame, query.group_by, planned.checked.columns)
    found = exact_parts(planned.parts, frame, groups, method=query.bound.method, salt=salt)
    return {
        part: dict(zip(keys_of(groups), values.reshape(groups.count, part.cells).tolist(), strict=True))
        for part, values in found.items()
    }


def keys_of(groups: Groups) -> list[tuple[Any, ...]]:
    return [tuple(row.values()) for row in groups.keys.to_pylist()] if groups.keys.num_columns else [()]


@pytest.mark.parametrize("method", ["uniform", pytest.param("first_come", marks=pytest.mark.slow)])
@pytest.mark.parametrize("shape", SHAPES)
@given(rows=ROWS, gone=st.sampled_from("abcd"), salt=SALTS)
def test_a_customer_changes_no_part_by_more_than_is_claimed(
    shape: str, method: str, rows: list[tuple[Any, ...]], gone: str, salt: bytes
) -> None:
    text = f"query:\n  source: t\n  {SHAPES[shape]}\n  measures:{MEASURES}"
    query = parse_document(text.replace("rows_per_group:", f"method: {method}, rows_per_group:")).query
    whole = integers(query, rows, salt)
    less = integers(query, [row for row in rows if row[0] != gone], salt)
    for part, groups in whole.items():
        keys = groups.keys() | less[part].keys()
        zero = [0] * part.cells
        change = np.array(
            [np.subtract(groups.get(key, zero), less[part].get(key, zero)) for key in keys] or [zero]
        ).ravel()
        claimed = part.sensitivity
        assert np.count_nonzero(change) <= claimed.l0, part.role
        assert np.abs(change).sum() <= claimed.l1, part.role
        assert (change.astype(object) ** 2).sum() <= claimed.l2_squared, part.role
        assert np.abs(change).max() <= claimed.linf, part.role


def test_the_claims_are_reached() -> None:
    """One customer with extreme rows uses every claim up, so that the property above has power."""
    text = f"query:\n  source: t\n  {SHAPES['known keys']}\n  measures:{MEASURES}"
    query = parse_document(text).query
    rows = [("a", key, value, number) for key in ["x", "y"] for value, number in ((1e300, 1), (1e300, 2))]
    parts = integers(query, rows, b"0" * 16)
    reached = {
        part.role: max(abs(value) for cells in groups.values() for value in cells)
        for part, groups in parts.items()
    }
    for part in parts:
        total = sum(abs(value) for cells in parts[part].values() for value in cells)
        assert total == part.sensitivity.l1
        assert reached[part.role] == part.sensitivity.linf or part.role is Role.DISTINCT
