"""From the tree back to normalised text, which parses to the same tree."""

from collections.abc import Callable
from decimal import Decimal
from typing import Final, TypeVar, assert_never

from dayfly.engine.catalog import Catalog, FieldType
from dayfly.engine.errors import CatalogError

from .functions import FUNCTIONS, Kind, Parameter, WindowNode, disassemble
from .literals import MAX_TIME_MS, MIN_TIME_MS, duration_text, field_text, number_text, quote, time_text
from .tree import (
    And,
    Comparison,
    EventMatch,
    Expression,
    FieldComparison,
    FieldIn,
    FieldPresent,
    FieldText,
    Measure,
    Not,
    Or,
    Predicate,
    PredicateAnd,
    PredicateNot,
    PredicateOr,
    Scalar,
)

__all__ = ["field_type", "render_expression", "render_measure", "render_predicate"]


def render_expression(node: Expression, *, catalog: Catalog | None = None) -> str:
    """Text of a condition; with a `catalog`, literals of time fields are written as ``timestamp("...")``."""
    return _Renderer(catalog).expression(node)


def render_predicate(node: Predicate, *, event: str = "", catalog: Catalog | None = None) -> str:
    """Text of a predicate over events of type `event`."""
    return _Renderer(catalog).predicate(node, event)


def render_measure(node: Measure, *, catalog: Catalog | None = None) -> str:
    """Text of a measure."""
    return _Renderer(catalog).call(node)


def field_type(catalog: Catalog, event: str, field: str) -> FieldType | None:
    """Declared type of ``properties.x`` (or `channel`) of an event type; None when it is not declared."""
    if field == "channel":
        return FieldType.STRING
    position = catalog.type_index(event)
    if position < 0:
        return None
    declared = catalog.types[position]
    try:
        return declared.fields[declared.slot(field.removeprefix("properties."))].type
    except CatalogError:
        return None


_T = TypeVar("_T")
_OPEN: Final = (Comparison, And, Or, FieldComparison, FieldIn, PredicateAnd, PredicateOr)
"""Nodes that ``!`` would bind into."""


class _Renderer:
    def __init__(self, catalog: Catalog | None) -> None:
        self._catalog = catalog

    def expression(self, node: Expression) -> str:
        match node:
            case Or(parts):
                return " || ".join(_around(self.expression, part, Or) for part in parts)
            case And(parts):
                return " && ".join(_around(self.expression, part, Or, And) for part in parts)
            case Not(part):
                return f"!{_around(self.expression, part, *_OPEN)}"
            case Comparison(measure, operator, value):
                is_time = measure.field is not None and self._is_time(measure.match.event, measure.field)
                return f"{self.call(measure)} {operator} {_scalar(value, is_time=is_time and measure.function != 'distinct')}"
            case _:
                return self.call(node)

    def call(self, node: WindowNode) -> str:
        function, arguments = disassemble(node)
        event = str(arguments.get("event", ""))
        shown = []
        for parameter in FUNCTIONS[function]:
            if parameter.name in arguments:
                text = self._argument(parameter, arguments[parameter.name], event)
                shown.append(text if parameter.positional else f"{parameter.name}: {text}")
        return f"{function}({', '.join(shown)})"

    def predicate(self, node: Predicate, event: str) -> str:
        def inner(part: Predicate) -> str:
            return self.predicate(part, event)

        match node:
            case PredicateOr(parts):
                return " || ".join(_around(inner, part, PredicateOr) for part in parts)
            case PredicateAnd(parts):
                return " && ".join(_around(inner, part, PredicateOr, PredicateAnd) for part in parts)
            case PredicateNot(part):
                return f"!{_around(inner, part, *_OPEN)}"
            case FieldComparison(field, operator, value):
                return f"{field_text(field)} {operator} {_scalar(value, is_time=self._is_time(event, field))}"
            case FieldIn(field, values):
                is_time = self._is_time(event, field)
                return f"{field_text(field)} in [{', '.join(_scalar(value, is_time=is_time) for value in values)}]"
            case FieldText(field, test, text):
                return f"{field_text(field)}.{test}({quote(text)})"
            case FieldPresent(field):
                return f"has({field_text(field)})"
            case _ as unknown:
                assert_never(unknown)

    def _argument(self, parameter: Parameter, value: object, event: str) -> str:
        if parameter.kind is Kind.STEPS and isinstance(value, tuple):
            return f"[{', '.join(self._match(step) for step in value)}]"
        if isinstance(value, EventMatch):
            return self._match(value)
        if parameter.kind is Kind.DURATION and isinstance(value, int):
            return duration_text(value)
        if isinstance(value, str):
            return field_text(value) if parameter.kind is Kind.FIELD else quote(value)
        if isinstance(value, int):
            return str(value)
        return self.predicate(value, event)  # type: ignore[arg-type]  # the only kind left is WHERE

    def _match(self, match: EventMatch) -> str:
        if match.where is None:
            return quote(match.event)
        return f"event({quote(match.event)}, where: {self.predicate(match.where, match.event)})"

    def _is_time(self, event: str, field: str) -> bool:
        return self._catalog is not None and field_type(self._catalog, event, field) is FieldType.TIME


def _around(render: Callable[[_T], str], part: _T, *open_kinds: type) -> str:
    return f"({render(part)})" if isinstance(part, open_kinds) else render(part)


def _scalar(value: Scalar, *, is_time: bool) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Decimal):
        if is_time and value == value.to_integral_value() and MIN_TIME_MS <= value <= MAX_TIME_MS:
            return f"timestamp({quote(time_text(int(value)))})"
        return number_text(value)
    return quote(value)
