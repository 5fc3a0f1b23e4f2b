"""Second opinions on predicates: a plain evaluator, the recount's, and cel-python must agree on random events."""

import sys
import warnings
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dayfly.engine.catalog import FieldType
from dayfly.engine.events import Event, EventBatch
from dayfly.engine.tags.literals import time_text
from dayfly.engine.tags.render import field_type, render_predicate
from dayfly.engine.tags.text import parse_predicate
from dayfly.engine.tags.tree import (
    FieldComparison,
    FieldIn,
    FieldPresent,
    FieldText,
    Predicate,
    PredicateAnd,
    PredicateNot,
    PredicateOr,
    Scalar,
)
from tests.engine.tags.boundary_table import CATALOG, START_MS
from tests.engine.tags.strategies import sound_predicates
from tests.oracles.predicates import passes
from tests.oracles.recount import Recorded, matches
from tests.oracles.unpack import rows_of

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # cel-python's own imports are not ours to judge
    celpy = pytest.importorskip("celpy")


def leaves(node: Predicate) -> list[Any]:
    match node:
        case PredicateAnd(parts) | PredicateOr(parts):
            return [leaf for part in parts for leaf in leaves(part)]
        case PredicateNot(part):
            return leaves(part)
        case _:
            return [node]


@st.composite
def cases(draw: st.DrawFn) -> tuple[Predicate, dict[str, Scalar], str]:
    """A predicate and an event whose values are often those that the predicate asks about."""
    predicate = draw(sound_predicates)
    asked: dict[str, list[Scalar]] = {"n": [], "s": [], "b": [], "t": []}
    for leaf in leaves(predicate):
        name = leaf.field.removeprefix("properties.")
        values = (
            leaf.values
            if isinstance(leaf, FieldIn)
            else (getattr(leaf, "value", getattr(leaf, "text", None)),)
        )
        asked.setdefault(name, []).extend(value for value in values if value is not None)
    numbers = st.sampled_from(asked["n"] or [Decimal(0)]) | st.integers(-3, 3).map(Decimal)
    texts = st.tuples(st.text(max_size=2), st.sampled_from(asked["s"] or [""]), st.text(max_size=2)).map(
        lambda parts: "".join(map(str, parts))
    )
    fields: dict[str, st.SearchStrategy[Scalar]] = {
        "n": numbers,
        "s": st.sampled_from(asked["s"] or ["x"]) | texts,
        "b": st.booleans(),
        "t": st.sampled_from(asked["t"] or [Decimal(0)]) | st.integers(0, 10**12).map(Decimal),
    }
    present = draw(st.sets(st.sampled_from("nsbt")))
    return (
        predicate,
        {name: draw(fields[name]) for name in sorted(present)},
        draw(st.sampled_from(("web", "app"))),
    )


def guarded(node: Predicate) -> str:
    """CEL text with our rule for absent fields spelt out: each test only where its field is there."""
    match node:
        case PredicateAnd(parts):
            return " && ".join(f"({guarded(part)})" for part in parts)
        case PredicateOr(parts):
            return " || ".join(f"({guarded(part)})" for part in parts)
        case PredicateNot(part):
            return f"!({guarded(part)})"
        case FieldComparison(field, operator, value):
            return guard(field, f"{field} {operator} {cel_literal(field, value)}")
        case FieldIn(field, values):
            return guard(field, f"{field} in [{', '.join(cel_literal(field, value) for value in values)}]")
        case _:
            return guard(node.field, render_predicate(node))


def guard(field: str, test: str) -> str:
    return test if field == "channel" else f"(has({field}) && {test})"


def cel_literal(field: str, value: Scalar) -> str:
    """Numbers as CEL's doubles, times as its timestamps, text and booleans as we write them."""
    if isinstance(value, Decimal):
        is_time = field_type(CATALOG, "A", field) is FieldType.TIME
        return f'timestamp("{time_text(int(value))}")' if is_time else f"double('{value}')"
    return render_predicate(FieldComparison("channel", "==", value)).removeprefix("channel == ")


def cel_value(value: Scalar, *, is_time: bool) -> Any:
    types = celpy.celtypes
    if isinstance(value, bool):
        return types.BoolType(value)
    if isinstance(value, str):
        return types.StringType(value)
    return types.TimestampType(time_text(int(value))) if is_time else types.DoubleType(float(value))


def cel_passes(predicate: Predicate, properties: dict[str, Scalar], channel: str) -> bool:
    limit = sys.getrecursionlimit()
    environment = celpy.Environment()  # it raises the recursion limit for everybody
    sys.setrecursionlimit(limit)
    program = environment.program(environment.compile(guarded(predicate)))
    values = {
        celpy.celtypes.StringType(name): cel_value(value, is_time=name == "t")
        for name, value in properties.items()
    }
    context = {"properties": celpy.celtypes.MapType(values), "channel": celpy.celtypes.StringType(channel)}
    return bool(program.evaluate(context))


def recount_passes(predicate: Predicate, properties: dict[str, Scalar], channel: str) -> bool:
    plain: dict[str, Any] = {
        name: int(value) if name == "t" else float(value) if isinstance(value, Decimal) else value
        for name, value in properties.items()
    }
    event = Event(bytes(16), channel, bytes(range(16)), "A", START_MS, START_MS, plain)
    (row,) = rows_of(EventBatch.from_events([event], CATALOG), CATALOG)
    slots = {spec.name: slot for slot, spec in enumerate(CATALOG.types[0].fields)}
    return matches(Recorded("A", START_MS, 0, channel, slots, row.values), predicate)


@given(cases())
def test_plain_evaluator_and_recount_agree(case: tuple[Predicate, dict[str, Scalar], str]) -> None:
    assert passes(*case) is recount_passes(*case)


@settings(max_examples=120)
@given(cases())
def test_cel_python_agrees_where_absent_fields_are_guarded(
    case: tuple[Predicate, dict[str, Scalar], str],
) -> None:
    assert passes(*case) is cel_passes(*case)


@pytest.mark.parametrize(
    "text",
    [
        r'properties.s == "\n\t\"\\\x41\u5c0f\U0001F6CB\101\a\v"',  # cel-python does not know \? \` \X of the CEL definition
        r"properties.s == 'it\'s'",
        "!has(properties.n) || properties.n >= 1.5 && properties.s in ['a', \"b\"]",
        'properties.t < timestamp("2026-01-01T00:00:00.25+08:00")',
        "properties.b == true // comment",
    ],
)
def test_our_text_is_cel_text_with_the_same_meaning(text: str) -> None:
    environment = celpy.Environment()
    program = environment.program(environment.compile(text))
    predicate = parse_predicate(text)
    strings = [
        leaf.value
        for leaf in leaves(predicate)
        if isinstance(leaf, FieldComparison) and isinstance(leaf.value, str)
    ]
    for value in [*strings, "a", "z"]:
        for number in (Decimal(1), Decimal(2)):
            properties: dict[str, Scalar] = {"s": value, "n": number, "b": True, "t": Decimal(1767196800250)}
            values = {
                celpy.celtypes.StringType(k): cel_value(v, is_time=k == "t") for k, v in properties.items()
            }
            said = program.evaluate({"properties": celpy.celtypes.MapType(values)})
            assert bool(said) is passes(predicate, properties, "web")


def test_absent_field_is_an_error_in_cel_and_a_no_here() -> None:
    text = 'properties.s != "x"'
    environment = celpy.Environment()
    program = environment.program(environment.compile(text))
    with pytest.raises(celpy.CELEvalError):
        program.evaluate({"properties": celpy.celtypes.MapType({})})
    assert passes(parse_predicate(text), {}, "web") is False


def test_text_tests_go_by_code_points() -> None:
    assert passes(FieldText("properties.s", "contains", "户型"), {"s": "小户型"}, "web")
    assert not passes(FieldText("properties.s", "endsWith", "é"), {"s": "e\u0301"}, "web")
    assert passes(FieldPresent("channel"), {}, "web")
