"""Documents: what is written is read back, nothing is guessed, and what is no query is refused with its place."""

import json
from datetime import date

import jsonschema
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dayfly.privacy.errors import InvalidQuery
from dayfly.privacy.sandbox import (
    Budget,
    Query,
    QueryDocument,
    calendar_keys,
    col,
    parse_document,
    query_schema,
    to_json,
    to_yaml,
)
from dayfly.privacy.sandbox.documents import canonical, digest_of
from dayfly.privacy.sandbox.fluent import Fluent
from dayfly.privacy.sandbox.numbers import exact
from dayfly.privacy.sandbox.queries import (
    Bound,
    Count,
    Customers,
    Derive,
    Distinct,
    GroupKey,
    Mean,
    PerCustomer,
    PerCustomerValue,
    Quantiles,
    Sum,
    Top,
    Variance,
    Where,
)

SCHEMA = jsonschema.Draft202012Validator(query_schema())

NAMES = st.one_of(
    st.sampled_from(["NO", "yes", "1e-6", "2011-11-28", "null", "0x10", "~"]), st.text(min_size=1, max_size=5)
)
NUMBERS = st.one_of(
    st.integers(-(2**60), 2**60),
    st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from(["1/3", "1e-6", "0.10"]),
)
SCALARS = st.one_of(st.booleans(), st.integers(-(2**60), 2**60), NAMES)
EXPRESSIONS = st.sampled_from(
    ["a > 1", "a * b + 1 <= 0 and not s.starts_with('C')", 'col("x y") in ["NO", "1e-6"]']
)


def queries() -> st.SearchStrategy[Query]:
    value = st.one_of(
        st.just(PerCustomerValue(function="rows")),
        st.builds(PerCustomerValue, function=st.sampled_from(["sum", "max", "distinct"]), column=NAMES),
    )
    step = st.one_of(
        st.builds(Where, condition=EXPRESSIONS),
        st.builds(Derive, columns=st.dictionaries(NAMES, EXPRESSIONS, max_size=2)),
        st.builds(
            PerCustomer,
            columns=st.dictionaries(NAMES, value, max_size=2),
            by=st.lists(NAMES, max_size=2).map(tuple),
        ),
    )
    key = st.builds(
        GroupKey,
        column=NAMES,
        keys=st.one_of(st.none(), st.lists(SCALARS, max_size=3).map(tuple)),
        edges=st.one_of(st.none(), st.lists(NUMBERS, max_size=3).map(tuple)),
    )
    bounded = {"column": NAMES, "lower": NUMBERS, "upper": NUMBERS, "name": NAMES}
    measure = st.one_of(
        st.builds(Count, name=NAMES),
        st.just(Customers()),
        st.builds(Sum, **bounded, step=st.one_of(st.none(), NUMBERS)),
        st.builds(Mean, **bounded),
        st.builds(Variance, **bounded),
        st.builds(Quantiles, **bounded, quantiles=st.lists(st.floats(0, 1), max_size=3).map(tuple)),
        st.builds(Distinct, column=NAMES, values_per_customer=st.integers()),
    )
    return st.builds(
        Query,
        source=NAMES,
        steps=st.lists(step, max_size=3).map(tuple),
        group_by=st.lists(key, max_size=2).map(tuple),
        bound=st.builds(
            Bound,
            groups_per_customer=st.one_of(st.none(), st.integers(1, 9)),
            rows_per_group=st.one_of(st.none(), st.integers(1, 9)),
            method=st.sampled_from(["uniform", "first_come"]),
        ),
        measures=st.lists(measure, max_size=3).map(tuple),
        top=st.one_of(st.none(), st.builds(Top, groups=st.integers(1, 9), by=NAMES)),
    )


BUDGETS = st.one_of(
    st.none(),
    st.builds(
        Budget,
        epsilon=NUMBERS,
        delta=st.one_of(st.none(), NUMBERS),
        shares=st.dictionaries(NAMES, NUMBERS, max_size=2),
    ),
)


@given(query=queries(), budget=BUDGETS)
def test_a_document_reads_back_as_the_same_query(query: Query, budget: Budget | None) -> None:
    document = QueryDocument(query=canonical(query), budget=budget)
    assert parse_document(to_yaml(document)) == document
    assert parse_document(to_json(document)) == document
    SCHEMA.validate(json.loads(to_json(document)))


@given(queries())
def test_the_digest_is_of_what_a_query_means(query: Query) -> None:
    assert digest_of(query) == digest_of(canonical(query))
    assert digest_of(query) != digest_of(msgspec.structs.replace(query, source=query.source + "x"))


def test_yaml_is_read_without_guesses() -> None:
    """Norway is no False, a date stays a text, and a small number is one."""
    document = parse_document(
        "query:\n  source: orders\n  group_by:\n  - column: country\n    keys: [NO, yes, 2011-11-28, 12:30]\n"
        "  measures: [{measure: count}]\nbudget: {epsilon: 1e-1, delta: 1e-6}\n"
    )
    assert document.query.group_by[0].keys == ("NO", "yes", "2011-11-28", "12:30")
    assert document.budget is not None
    assert (exact(document.budget.epsilon or 0, "epsilon"), exact(document.budget.delta or 0, "delta")) == (
        exact("1/10", ""),
        exact("1/1000000", ""),
    )


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("a: &x 1\nb: *x", "aliases are not allowed"),
        ("query: {source: o}\nquery: {source: p}", "a key is there twice"),
        ("query: [", "must be YAML or JSON"),
        ("query: {source: o, colour: 1}", "unknown field `colour`"),
        ("query: {source: o, measures: [{measure: median}]}", r"must be a query \(Invalid value 'median'"),
        ("query: {source: o, measures: [{measure: sum, column: a}]}", "missing required field `lower`"),
        ("format: dayfly-query-9\nquery: {source: o}", "format='dayfly-query-9' must be 'dayfly-query-1'"),
        ("query: {source: o, steps: [{step: where, condition: 'a +'}]}", "must be an expression"),
        ('{"query": {"source": "o"}, "query": {"source": "p"}}', "a key is there twice"),
        ('{"query": ', "must be YAML or JSON"),
        ("!!python/object/apply:os.system [ls]", "must be YAML or JSON"),
        ("x" * (1 << 20) + "x", "at most 1048576"),
    ],
)
def test_what_is_no_query_is_refused(text: str, match: str) -> None:
    with pytest.raises(InvalidQuery, match=match):
        parse_document(text)


class Written(Fluent):
    """A fluent query without a sandbox."""

    def __init__(self, query: Query) -> None:
        self.query = query

    def _query(self) -> Query:
        return self.query

    def _with(self, query: Query) -> "Written":
        return Written(query)


def test_the_fluent_way_and_the_document_are_one_query() -> None:
    fluent = (
        Written(Query(source="orders"))
        .where(col("quantity") > 0)
        .derive(net=col("quantity") * col("unit_price"))
        .group_by("country", keys=["France", "NO"])
        .group_by("net", edges=[0, 10, 100])
        .bound(groups_per_customer=4, rows_per_group=10)
        .count()
        .sum("net", lower=0, upper="99.5", name="revenue")
        .quantiles("net", [0.5], lower=0, upper=10)
        .distinct("stock_code", values_per_customer=3)
        .top_k(2, by="revenue")
    )
    text = """
query:
  source: orders
  steps:
  - {step: where, condition: quantity>0}
  - {step: derive, columns: {net: quantity*unit_price}}
  group_by:
  - {column: country, keys: [France, NO]}
  - {column: net, edges: [0, 10, 100]}
  bound: {groups_per_customer: 4, rows_per_group: 10}
  measures:
  - {measure: count}
  - {measure: sum, column: net, lower: 0, upper: "99.5", name: revenue}
  - {measure: quantile, column: net, quantiles: [0.5], lower: 0, upper: 10}
  - {measure: distinct, column: stock_code, values_per_customer: 3}
  top: {groups: 2, by: revenue}
"""
    assert parse_document(text).query == fluent.query


def test_a_fluent_query_never_changes() -> None:
    first = Written(Query(source="orders"))
    first.count().where("a > 1").bound(rows_per_group=1)
    assert first.query == Query(source="orders")
    assert first.bound(rows_per_group=2).bound(groups_per_customer=3).query.bound == Bound(
        groups_per_customer=3, rows_per_group=2
    )


def test_per_customer_columns_are_rows_or_a_function_of_a_column() -> None:
    with pytest.raises(InvalidQuery, match="orders='median' must be rows, or"):
        Written(Query(source="orders")).per_customer(orders="median")
    with pytest.raises(InvalidQuery, match="must have keys or edges"):
        Written(Query(source="orders")).histogram("country")


def test_calendar_keys_cover_first_and_last() -> None:
    assert calendar_keys("day", date(2011, 2, 27), date(2011, 3, 1)) == (
        "2011-02-27",
        "2011-02-28",
        "2011-03-01",
    )
    assert calendar_keys("week", date(2011, 1, 2), date(2011, 1, 3)) == ("2010-12-27", "2011-01-03")
    assert calendar_keys("month", date(2011, 12, 31), date(2012, 1, 1)) == ("2011-12-01", "2012-01-01")
    with pytest.raises(InvalidQuery, match="in order"):
        calendar_keys("day", date(2011, 2, 2), date(2011, 2, 1))


@pytest.mark.parametrize("text", ["nan", "inf", "", "1/0", "1e999999999", "9" * 65, "one"])
def test_numbers_that_are_none_are_refused(text: str) -> None:
    with pytest.raises(InvalidQuery, match=r"epsilon=.* must be a finite number"):
        exact(text, "epsilon")
