"""Text, objects and Python give the identical tree; each form refuses what it cannot say."""

import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import reduce
from operator import and_, or_
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from dayfly.engine.errors import TagDocumentError, TagError
from dayfly.engine.policy.schema import policy_schema
from dayfly.engine.tags import python as build
from dayfly.engine.tags.document import (
    expression_document,
    expression_from_document,
    measure_document,
    measure_from_document,
    predicate_document,
    predicate_from_document,
    read_expression_document,
)
from dayfly.engine.tags.literals import field_text
from dayfly.engine.tags.render import render_expression, render_measure
from dayfly.engine.tags.text import parse_expression, parse_measure, parse_predicate
from dayfly.engine.tags.tree import (
    Absent,
    And,
    Comparison,
    EventMatch,
    Expression,
    FieldComparison,
    FieldIn,
    FieldPresent,
    FieldText,
    FirstTime,
    InTag,
    Measure,
    Not,
    Or,
    Predicate,
    PredicateAnd,
    PredicateNot,
    PredicateOr,
    Regularly,
    Restarted,
    Sequence,
    Stopped,
)
from tests.engine.tags.boundary_table import boundary_rows
from tests.engine.tags.strategies import conditions, predicates

COMPARE = {
    "==": lambda left, right: left == right,
    "!=": lambda left, right: left != right,
    "<": lambda left, right: left < right,
    "<=": lambda left, right: left <= right,
    ">": lambda left, right: left > right,
    ">=": lambda left, right: left >= right,
}
MEASURE = {
    name: getattr(build, {"sum": "sum_", "min": "min_", "max": "max_"}.get(name, name))
    for name in ["count", "distinct", "sum", "avg", "min", "max", "first", "last"]
}


def python_field(field: str) -> build.Field:
    return build.CHANNEL if field == "channel" else build.prop(field_text(field).removeprefix("properties."))


def python_where(node: Predicate) -> build.Where:
    match node:
        case PredicateAnd(parts):
            return reduce(and_, map(python_where, parts))
        case PredicateOr(parts):
            return reduce(or_, map(python_where, parts))
        case PredicateNot(part):
            return ~python_where(part)
        case FieldComparison(field, operator, value):
            where = COMPARE[operator](python_field(field), value)
            assert isinstance(where, build.Where)
            return where
        case FieldIn(field, values):
            return python_field(field).one_of(*values)
        case FieldText(field, test, text):
            one = {"contains": "contains", "startsWith": "starts_with", "endsWith": "ends_with"}[test]
            found: build.Where = getattr(python_field(field), one)(text)
            return found
        case FieldPresent(field):
            return python_field(field).present()


def span(milliseconds: int) -> timedelta:
    return timedelta(milliseconds=milliseconds)


def where_of(match: EventMatch) -> dict[str, Any]:
    return {"event": match.event, "where": None if match.where is None else python_where(match.where)}


def step_of(match: EventMatch) -> Any:
    return match.event if match.where is None else build.event(match.event, where=python_where(match.where))


def python_measure(node: Measure) -> build.Value:
    field = {} if node.field is None else {"field": field_text(node.field)}
    value: build.Value = MEASURE[node.function](**where_of(node.match), **field, within=span(node.within_ms))
    return value


def python_form(node: Expression) -> build.Condition:
    match node:
        case And(parts):
            return reduce(and_, map(python_form, parts))
        case Or(parts):
            return reduce(or_, map(python_form, parts))
        case Not(part):
            return ~python_form(part)
        case Comparison(measure, operator, value):
            condition = COMPARE[operator](python_measure(measure), value)
            assert isinstance(condition, build.Condition)
            return condition
        case _:
            return python_function(node)


def python_function(
    node: Absent | FirstTime | Regularly | Stopped | Restarted | Sequence | InTag,
) -> build.Condition:
    match node:
        case Absent(match, within):
            return build.absent(**where_of(match), within=span(within))
        case FirstTime(match, within):
            return build.first_time(**where_of(match), within=span(within))
        case Regularly(match, every, periods, at_least, times):
            return build.regularly(
                **where_of(match), every=span(every), periods=periods, at_least=at_least, times=times
            )
        case Stopped(match, within, quiet):
            return build.stopped(**where_of(match), within=span(within), quiet=span(quiet))
        case Restarted(match, within, quiet):
            return build.restarted(**where_of(match), within=span(within), quiet=span(quiet))
        case Sequence(steps, within, gap, without, quiet):
            return build.sequence(
                [step_of(step) for step in steps],
                within=span(within),
                gap=None if gap is None else span(gap),
                without=None if without is None else step_of(without),
                quiet=None if quiet is None else span(quiet),
            )
        case InTag(tag):
            return build.in_tag(tag)


@given(conditions)
def test_text_objects_and_python_give_the_identical_tree(tree: Expression) -> None:
    assert parse_expression(render_expression(tree)) == tree
    assert expression_from_document(expression_document(tree)) == tree
    assert expression_from_document(json.loads(json.dumps(expression_document(tree)))) == tree
    assert python_form(tree).node == tree


@given(predicates)
def test_predicates_alone_give_the_identical_tree_as_objects_and_python(tree: Predicate) -> None:
    assert predicate_from_document(predicate_document(tree)) == tree
    assert python_where(tree).node == tree


@pytest.mark.parametrize("text", sorted({row.tag.text for row in boundary_rows()}))
def test_specification_row_says_the_same_in_all_forms(text: str) -> None:
    tree = parse_expression(text)
    document = yaml.safe_load(yaml.safe_dump(expression_document(tree), allow_unicode=True))
    assert expression_from_document(document) == tree
    assert python_form(tree).node == tree


def test_measures_alone_have_the_object_form() -> None:
    measure = parse_measure('distinct("A", properties.s, where: has(properties.n), within: 7d)')
    assert measure_from_document(measure_document(measure)) == measure
    assert measure_document(measure)["within"] == "7d"


def test_python_durations_may_be_text() -> None:
    assert build.absent("A", within="7d").node == Absent(EventMatch("A"), 604_800_000)


def test_python_numbers_mean_their_decimal_text() -> None:
    condition = build.sum_("A", "total", within="30d") > 19.99
    assert condition.node == parse_expression('sum("A", properties.total, within: 30d) > 19.99')


def test_python_times_are_those_of_timestamp() -> None:
    where = build.prop("t") < datetime(2026, 1, 1, tzinfo=UTC)
    assert where.node == parse_predicate('properties.t < timestamp("2026-01-01T00:00:00Z")')


def test_python_tag_carries_its_normalised_text() -> None:
    made = build.tag(
        "many",
        purpose="service",
        topic="sofa",
        when=build.count("A", within="168h") > 5,
        captures={"seen": build.distinct("A", "s", within="7d")},
        version=2,
        description="d",
    )
    assert made.text == 'count("A", within: 7d) > 5'
    assert render_measure(made.captures[0].measure) == 'distinct("A", properties.s, within: 7d)'
    assert (made.name, made.purpose, made.topic, made.version, made.description) == (
        "many",
        "service",
        "sofa",
        2,
        "d",
    )


@pytest.mark.parametrize(
    "mistake",
    [
        lambda: bool(build.in_tag("a")),
        lambda: build.in_tag("a") and build.in_tag("b"),
        lambda: not build.prop("x").present(),
        lambda: 1 if build.count("A", within="1d") else 0,
    ],
    ids=["bool", "and", "not", "if"],
)
def test_python_truth_value_is_refused_because_it_would_drop_a_part(mistake: Any) -> None:
    with pytest.raises(TagError, match=r"must not be used as a truth value; join parts by & \| ~"):
        mistake()


def test_python_field_and_value_are_no_keys() -> None:
    with pytest.raises(TypeError, match="unhashable"):
        hash(build.prop("x"))
    with pytest.raises(TypeError, match="unhashable"):
        hash(build.count("A", within="1d"))


@pytest.mark.parametrize(
    ("mistake", "message"),
    [
        (lambda: build.prop("a/b c"), "must start with properties."),
        (lambda: build.prop("`a/b`"), "must be letters, digits"),
        (lambda: build.absent("A", within="7"), "must be a whole number and a unit"),
        (lambda: build.absent("A", within=timedelta(microseconds=1)), "must be whole milliseconds"),
        (lambda: build.prop("t") < datetime(2026, 1, 1), "must have a time zone"),  # noqa: DTZ001 - the mistake itself
        (lambda: build.prop("t") < datetime(2026, 1, 1, 0, 0, 0, 1, UTC), "must be whole milliseconds"),
    ],
    ids=["odd name", "odd part", "no unit", "fine duration", "no zone", "fine time"],
)
def test_python_form_refuses_what_it_cannot_say(mistake: Any, message: str) -> None:
    with pytest.raises(TagError, match=message):
        mistake()


COUNT = {"type": "count", "event": "A", "within": "7d"}
REFUSED = [
    ([], r"at \$: node=\[\] must be an object"),
    ({}, r"at \$: type=None must be one of: compare, and, or, not, absent"),
    ({"type": "or"}, r"at \$: key='parts' must be given"),
    ({"type": "often"}, r"at \$.type: type='often' must be one of"),
    ({"type": ["and"]}, r"at \$.type: type=\['and'\] must be one of"),
    ({"type": "and", "parts": {}}, r"at \$.parts: parts=\{\} must be a list"),
    ({"type": "and", "parts": [{"type": "in_tag", "tag": "a"}]}, r"at \$.parts: parts=1 must be two or more"),
    ({"type": "not", "part": 1}, r"at \$.part: node=1 must be an object"),
    ({"type": "in_tag"}, r"at \$: key='tag' must be given"),
    ({"type": "in_tag", "tag": 1}, r"at \$.tag: tag=1 must be text"),
    ({"type": "in_tag", "tag": "a", "x": 1}, r"at \$.x: key='x' must be one of: tag, type"),
    (
        {"type": "compare", "measure": COUNT, "operator": "=", "value": 1},
        r"at \$.operator: operator='=' must be one of",
    ),
    (
        {"type": "compare", "measure": COUNT, "operator": ">", "value": None},
        r"at \$.value: value=None must be a number, text",
    ),
    (
        {"type": "compare", "measure": COUNT, "operator": ">", "value": {"timestamp": "x"}},
        r"timestamp='x' must be a time with zone",
    ),
    (
        {"type": "compare", "measure": {"type": "absent"}, "operator": ">", "value": 1},
        r"at \$.measure.type: type='absent' must be one of: count",
    ),
    (
        {"type": "compare", "measure": {**COUNT, "within": 7}, "operator": ">", "value": 1},
        r"at \$.measure.within: within=7 must be text",
    ),
    (
        {"type": "compare", "measure": {**COUNT, "within": "7"}, "operator": ">", "value": 1},
        r"duration='7' must be a whole number",
    ),
    (
        {"type": "absent", "event": "A", "within": "1d", "where": {"type": "has", "field": "x"}},
        r"at \$.where.field: field='x' must start with",
    ),
    (
        {
            "type": "absent",
            "event": "A",
            "within": "1d",
            "where": {"type": "in", "field": "channel", "values": 1},
        },
        r"at \$.where.values: values=1 must be a list",
    ),
    (
        {"type": "regularly", "event": "A", "every": "1d", "periods": True, "at_least": 1},
        r"periods=True must be a whole number",
    ),
    ({"type": "sequence", "steps": ["A"], "within": "1d"}, r"at \$.steps\[0\]: event='A' must be an object"),
    (
        {"type": "sequence", "steps": [{"event": "A", "within": 1}], "within": "1d"},
        r"at \$.steps\[0\].within: key='within'",
    ),
]


@pytest.mark.parametrize(("document", "message"), REFUSED, ids=[message for _, message in REFUSED])
def test_object_form_refusal_says_what_and_where(document: Any, message: str) -> None:
    with pytest.raises(TagDocumentError, match=message):
        expression_from_document(document)


def test_object_form_reads_times() -> None:
    document = {
        "type": "compare",
        "field": "properties.t",
        "operator": "<",
        "value": {"timestamp": "1970-01-01T00:00:01Z"},
    }
    assert predicate_from_document(document) == FieldComparison("properties.t", "<", Decimal(1000))


def test_object_form_opens_nested_parts_of_the_same_kind_with_their_ways() -> None:
    def tag(name: str) -> dict[str, Any]:
        return {"type": "in_tag", "tag": name}

    nested = {"type": "and", "parts": [{"type": "and", "parts": [tag("a"), tag("b")]}, tag("c")]}
    tree, ways = read_expression_document(nested)
    assert tree == And((InTag("a"), InTag("b"), InTag("c")))
    assert ways["parts", 1] == ("parts", 0, "parts", 1)
    assert ways["parts", 2, "tag"] == ("parts", 1, "tag")


@pytest.mark.parametrize("kind", ["not", "and"])
def test_deeply_nested_objects_are_refused(kind: str) -> None:
    document: dict[str, Any] = {"type": "in_tag", "tag": "a"}
    for _ in range(400):
        document = (
            {"type": "not", "part": document}
            if kind == "not"
            else {"type": "and", "parts": [document, document]}
        )
    with pytest.raises(TagDocumentError, match="depth must be at most 64 levels"):
        expression_from_document(document)


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=5)
    | st.sampled_from(["and", "count", "compare", "7d", "properties.x", ">"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    "type",
                    "parts",
                    "part",
                    "measure",
                    "operator",
                    "value",
                    "event",
                    "within",
                    "where",
                    "field",
                    "steps",
                    "x",
                ]
            ),
            inner,
            max_size=5,
        )
    ),
    max_leaves=12,
)


@given(JSON)
def test_any_value_is_a_tree_or_refused(document: Any) -> None:
    for read in (expression_from_document, predicate_from_document, measure_from_document):
        try:
            read(document)
        except TagDocumentError as error:
            assert str(error).startswith("at $")  # noqa: PT017 - either outcome is right, this is about the place


@given(conditions)
def test_object_form_follows_the_published_schema(tree: Expression) -> None:
    from jsonschema import Draft202012Validator

    definitions = policy_schema()["$defs"]
    validator = Draft202012Validator({"$ref": "#/$defs/condition", "$defs": definitions})
    document = json.loads(json.dumps(expression_document(tree)))
    refused = [
        error for error in validator.iter_errors(document) if not _is_too_short(error.json_path, document)
    ]
    assert refused == []


def _is_too_short(path: str, document: Any) -> bool:
    """The strategy also makes empty lists, which the reader leaves to the checks and the schema refuses."""
    value = document
    for step in path.removeprefix("$").replace("[", ".").replace("]", "").split(".")[1:]:
        value = value[int(step)] if isinstance(value, list) else value[step]
    return bool(value == [])
