"""Predicates of the peer engine as Python closures over an event's properties."""

from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any, TypeAlias

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

__all__ = ["Test", "compiled"]

Test: TypeAlias = Callable[[Mapping[str, Any]], bool]


def compiled(predicate: Predicate | None) -> Test | None:
    """A predicate as a Python function over the properties, None when there is nothing to test."""
    if predicate is None:
        return None
    if isinstance(predicate, PredicateNot):
        part = compiled(predicate.part)
        return lambda fields: not (part is None or part(fields))
    if isinstance(predicate, PredicateAnd | PredicateOr):
        parts = [test for test in map(compiled, predicate.parts) if test is not None]
        if isinstance(predicate, PredicateAnd):
            return lambda fields: all(test(fields) for test in parts)
        return lambda fields: any(test(fields) for test in parts)
    name = predicate.field.removeprefix("properties.")
    if isinstance(predicate, FieldPresent):
        return lambda fields: fields.get(name) is not None
    if isinstance(predicate, FieldComparison):
        return _comparison(name, predicate.operator, predicate.value)
    if isinstance(predicate, FieldIn):
        wanted = frozenset((_kind(_plain(value)), _plain(value)) for value in predicate.values)
        return lambda fields: (_kind(fields.get(name)), fields.get(name)) in wanted
    return _text(name, predicate)


def _plain(value: Scalar) -> str | bool | float:
    return float(value) if isinstance(value, Decimal) else value


def _kind(value: object) -> type:
    return float if type(value) is int else type(value)


def _comparison(name: str, sign: str, literal: Scalar) -> Test:
    value: Any = _plain(literal)
    kind = _kind(value)
    tests: dict[str, Callable[[Any], bool]] = {
        "==": lambda found: found == value,
        "!=": lambda found: found != value,
        "<": lambda found: found < value,
        "<=": lambda found: found <= value,
        ">": lambda found: found > value,
        ">=": lambda found: found >= value,
    }
    test = tests[sign]

    def run(fields: Mapping[str, Any]) -> bool:
        found = fields.get(name)
        return found is not None and _kind(found) is kind and test(found)

    return run


def _text(name: str, predicate: FieldText) -> Test:
    wanted, how = predicate.text, predicate.test

    def run(fields: Mapping[str, Any]) -> bool:
        found = fields.get(name)
        if type(found) is not str:
            return False
        if how == "contains":
            return wanted in found
        return found.startswith(wanted) if how == "startsWith" else found.endswith(wanted)

    return run
