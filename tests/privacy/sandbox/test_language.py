"""Expressions: one meaning in Python and as text, typed before they run, total when they run."""

import math
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dayfly.privacy.errors import InvalidQuery
from dayfly.privacy.sandbox.language import (
    Kind,
    col,
    evaluate,
    kind_of,
    kind_of_arrow,
    literal,
    normal,
    parse,
    text_from,
    text_of,
)

from ...oracles import dp_sandbox as oracle
from .support import orders

KINDS = {
    "a": Kind.INTEGER,
    "b": Kind.NUMBER,
    "s": Kind.TEXT,
    "t": Kind.TIME,
    "f": Kind.BOOL,
    "x y": Kind.NUMBER,
}
INTEGERS = st.integers(-(2**70), 2**70)
NUMBERS = st.one_of(INTEGERS, st.floats(allow_nan=False, allow_infinity=False))
TEXTS = st.text(max_size=6)


def numeric() -> st.SearchStrategy[str]:
    leaf = st.one_of(st.sampled_from(["a", "b", 'col("x y")', "s.length()"]), NUMBERS.map(repr))
    return st.recursive(
        leaf,
        lambda inner: st.one_of(
            st.tuples(inner, st.sampled_from("+-*/"), inner).map(
                lambda one: f"({one[0]}) {one[1]} ({one[2]})"
            ),
            inner.map(lambda one: f"-({one})"),
            inner.map(lambda one: f"({one}).abs()"),
        ),
        max_leaves=6,
    )


def conditions() -> st.SearchStrategy[str]:
    compared = st.tuples(numeric(), st.sampled_from(["==", "!=", "<", "<=", ">", ">="]), numeric())
    leaf = st.one_of(
        compared.map(lambda one: f"({one[0]}) {one[1]} ({one[2]})"),
        st.lists(NUMBERS, max_size=3).map(lambda one: f"a in {one}"),
        st.sampled_from(
            ["f", "s.is_null()", 'not s.starts_with("C")', 's.lower().contains("x")', "b.is_null()"]
        ),
    )
    return st.recursive(
        leaf,
        lambda inner: st.one_of(
            st.tuples(inner, st.sampled_from(["and", "or"]), inner).map(
                lambda one: f"({one[0]}) {one[1]} ({one[2]})"
            ),
            inner.map(lambda one: f"not ({one})"),
        ),
        max_leaves=5,
    )


@given(st.one_of(numeric(), conditions()))
def test_the_text_of_an_expression_reads_back_as_the_same_tree(text: str) -> None:
    node = parse(text)
    assert parse(text_of(node)) == node
    assert text_from(text_of(node)) == text_of(node)


def test_python_and_text_are_one_language() -> None:
    python = (col("a") * col("x y") > 0) & ~col("s").starts_with("C") | col("a").isin([1, -2])
    assert text_from(python) == 'a * col("x y") > 0 and not s.starts_with("C") or a in [1, -2]'
    assert parse(text_from(python)) == python.node


@pytest.mark.parametrize(
    ("python", "text"),
    [
        (1 - col("a"), "1 - a"),
        (col("a") - (col("b") - 1), "a - (b - 1)"),
        (2 / col("a") / 3, "2 / a / 3"),
        (-(col("a") + 1), "-(a + 1)"),
        (col("t").truncate("week") >= "2011-01-01", 't.truncate("week") >= "2011-01-01"'),
        (col("b").fill_null(0).abs() != 1.5, "b.fill_null(0).abs() != 1.5"),
        (col("s").lower().length() + 1 <= 3, "s.lower().length() + 1 <= 3"),
        (col("s").ends_with("x") | col("s").contains('"'), 's.ends_with("x") or s.contains("\\"")'),
        (1 + col("a") > 1 * col("b"), "1 + a > 1 * b"),
        (col("s").upper() == "A", 's.upper() == "A"'),
        (col("b").is_null() & (col("a") < 2), "b.is_null() and a < 2"),
    ],
)
def test_operators_print_as_they_bind(python: Any, text: str) -> None:
    assert text_from(python) == text


ROWS = st.fixed_dictionaries(
    {
        "a": st.one_of(st.none(), st.integers(-(2**52), 2**52)),
        "b": st.one_of(st.none(), st.floats()),
        "x y": st.one_of(st.none(), st.floats(width=32)),
        "s": st.one_of(st.none(), TEXTS),
        "f": st.one_of(st.none(), st.booleans()),
    }
)
TYPES = {"a": pa.int64(), "b": pa.float64(), "x y": pa.float32(), "s": pa.string(), "f": pa.bool_()}


@given(text=st.one_of(numeric(), conditions()), rows=st.lists(ROWS, min_size=1, max_size=4))
def test_every_row_gets_what_plain_python_gives(text: str, rows: list[dict[str, Any]]) -> None:
    columns = {name: normal(pa.array([row[name] for row in rows], kind)) for name, kind in TYPES.items()}
    assert kind_of(parse(text), KINDS) in {Kind.BOOL, Kind.INTEGER, Kind.NUMBER}
    found = evaluate(parse(text), columns)
    values = [found.as_py()] * len(rows) if isinstance(found, pa.Scalar) else found.to_pylist()
    wanted = [oracle.value_of(text.replace('col("x y")', "x_y"), {**row, "x_y": row["x y"]}) for row in rows]
    for value, want in zip(values, wanted, strict=True):
        if isinstance(want, float) and isinstance(value, float):
            assert value == want or math.isclose(value, want, rel_tol=1e-15)
        elif text.isdigit():
            assert value == want
        else:
            assert value == want or (isinstance(want, int) and value == float(want))


@pytest.mark.parametrize("unit", ["hour", "day", "week", "month", "year"])
def test_times_are_truncated_as_calendars_do(unit: str) -> None:
    moments = [0, 1_291_161_599_999, 1_291_161_600_000, 1_299_000_000_123, -1, 951_868_800_000]
    column = normal(pa.array(moments, pa.timestamp("ms")))
    found = evaluate(parse(f't.truncate("{unit}")'), {"t": column}).to_pylist()
    assert found == [oracle._truncated(oracle.instant(one), unit) for one in moments]


def test_times_compare_with_texts_and_zones_are_utc() -> None:
    column = normal(pa.array([1_291_161_600_000, 1_291_161_600_001], pa.timestamp("ms", tz="Asia/Shanghai")))
    assert evaluate(parse('t > "2010-12-01T01:00:00+01:00"'), {"t": column}).to_pylist() == [False, True]
    assert evaluate(parse('t in ["2010-12-01"]'), {"t": column}).to_pylist() == [True, False]


@pytest.mark.parametrize(
    "column",
    [
        pa.array([2**63 - 1, -(2**63), None]),
        pa.array([2**64 - 1, 0, None], pa.uint64()),
        pa.array([math.nan, math.inf, -math.inf]),
        pa.array([-128, 127, None], pa.int8()),
        pa.array(["9" * 30, "", None]),
        pa.array([2**62, -(2**62), None], pa.timestamp("s")),
        pa.array([2**31 - 1, -(2**31), None], pa.date32()),
        pa.array(["a", None, "a"]).dictionary_encode(),
        pa.array([1, None, 3]).cast(pa.decimal128(38, 18)),
    ],
    ids=lambda column: str(column.type),
)
def test_no_value_of_a_row_can_raise(column: Any) -> None:
    """An error, or its absence, would tell about the row."""
    kind = kind_of_arrow(column.type)
    assert kind is not None
    texts = {
        Kind.INTEGER: [
            "v * v * v / v - v > 0",
            "v in [1, 2.5, 300]",
            "v == 1.5",
            "v < -1",
            "v.fill_null(2.5) > 0",
            "-v > 0",
        ],
        Kind.NUMBER: ["v * v * v / (v - v) > 0", "v in [1]", "v != 2", "v.abs() > 1", "v.fill_null(1) > 0"],
        Kind.TEXT: [
            "v.lower().upper().length() > 3",
            'v.contains("a")',
            'v in ["a"]',
            'v.fill_null("x") == "x"',
        ],
        Kind.TIME: [
            'v.truncate("week") > "2011-01-01"',
            'v in ["2011-01-01"]',
            'v.fill_null("2011-01-01") == v',
        ],
        Kind.BOOL: ["not v"],
    }[kind]
    for text in texts:
        assert kind_of(parse(text), {"v": kind}) is Kind.BOOL
        assert len(evaluate(parse(text), {"v": normal(column)})) == len(column)


def test_a_row_sees_no_other_row() -> None:
    table = orders()
    columns = {name: normal(table[name]) for name in table.column_names}
    turned = {
        name: normal(table[name].take(pa.array(range(table.num_rows - 1, -1, -1))))
        for name in table.column_names
    }
    node = parse("quantity.fill_null(1) * price / (quantity - 2) > 3 or new and invoice.starts_with('C')")
    assert evaluate(node, columns).to_pylist() == evaluate(node, turned).to_pylist()[::-1]


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("a +", "must be an expression"),
        ("(" * 300 + "a" + ")" * 300, "must be an expression|levels deep"),
        ("-" * 90 + "a", "levels deep"),
        ("a < b < 3", "chain of comparisons"),
        ("__import__('os')", "other calls"),
        ("a.real", "must not hold Attribute"),
        ("a if f else b", "must not hold IfExp"),
        ("[a for a in s]", "must not hold ListComp"),
        ("a ** 2", "must not hold BinOp"),
        ("a in b", "in without a list"),
        ("a is b", "must not hold Is"),
        ("a == None", "constants other than"),
        ("a == 1e999", "constants other than"),
        ("s.starts_with(text='x')", "arguments by name"),
        ("+a", "must not hold UAdd"),
        ("a" * 5000, "at most 4096 characters"),
    ],
)
def test_text_that_is_no_expression_is_refused(text: str, match: str) -> None:
    with pytest.raises(InvalidQuery, match=match):
        parse(text)


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("missing > 1", r"column='missing' must be one of a, b, f, s, t, x y"),
        ("s + 1", "must work on numbers, not on text"),
        ("s > 1", "values of one kind, not text with integer"),
        ("f < f", "values that have an order"),
        ("a and f", "truth values, not on integer"),
        ("not a", "a truth value, not on integer"),
        ("-s", "a number, not on text"),
        ("t > 'yesterday'", "must be a date or time"),
        ("a.truncate('week')", "a time, not on integer"),
        ("t.truncate('fortnight')", "unit='fortnight' must be one of"),
        ("a.starts_with('x')", "a text, not on integer"),
        ("s.starts_with(1)", "a constant text"),
        ("s.starts_with()", "must give starts_with its arguments"),
        ("s.fill_null(1)", "a constant of kind text"),
        ("a in ['x']", "constants of kind integer"),
        ("s.abs()", "a number, not on text"),
    ],
)
def test_types_that_do_not_fit_are_refused_before_any_row_is_read(text: str, match: str) -> None:
    with pytest.raises(InvalidQuery, match=match):
        kind_of(parse(text), KINDS)


def test_an_expression_is_no_truth_value() -> None:
    with pytest.raises(InvalidQuery, match="write & for and"):
        bool(col("a") > 1)
    with pytest.raises(InvalidQuery, match="finite number"):
        literal(math.nan)
    with pytest.raises(InvalidQuery, match="must be a bool, number, text, date"):
        literal(object())
