"""Predicates over one event, evaluated the plain way from `docs/tags.md`: a test of an absent field is false."""

from collections.abc import Mapping
from decimal import Decimal

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

__all__ = ["passes"]


def passes(predicate: Predicate, properties: Mapping[str, Scalar], channel: str) -> bool:
    """Whether an event passes; `properties` holds present fields only, times as `Decimal` milliseconds."""
    if isinstance(predicate, PredicateAnd):
        return all(passes(part, properties, channel) for part in predicate.parts)
    if isinstance(predicate, PredicateOr):
        return any(passes(part, properties, channel) for part in predicate.parts)
    if isinstance(predicate, PredicateNot):
        return not passes(predicate.part, properties, channel)
    present = {f"properties.{name}": value for name, value in properties.items()} | {"channel": channel}
    if predicate.field not in present:
        return False
    value = present[predicate.field]
    if isinstance(predicate, FieldPresent):
        return True
    if isinstance(predicate, FieldIn):
        return any(value == one for one in predicate.values)
    if isinstance(predicate, FieldText):
        return _text(str(value), predicate)
    return _compare(value, predicate)


def _text(value: str, predicate: FieldText) -> bool:
    if predicate.test == "contains":
        return any(value[at : at + len(predicate.text)] == predicate.text for at in range(len(value) + 1))
    if predicate.test == "startsWith":
        return value[: len(predicate.text)] == predicate.text
    return value[max(0, len(value) - len(predicate.text)) :] == predicate.text


def _compare(value: Scalar, predicate: FieldComparison) -> bool:
    other = predicate.value
    if predicate.operator == "==":
        return value == other
    if predicate.operator == "!=":
        return value != other
    assert isinstance(value, Decimal)
    assert isinstance(other, Decimal)
    below, equal = value < other, value == other
    return {"<": below, "<=": below or equal, ">": not below and not equal, ">=": not below}[
        predicate.operator
    ]
