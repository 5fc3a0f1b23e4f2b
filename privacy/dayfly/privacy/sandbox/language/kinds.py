"""What kind of value an expression has, from the kinds of the columns: all type errors are found before anything is spent."""

from collections.abc import Mapping
from datetime import UTC, datetime
from enum import StrEnum
from typing import Final, NoReturn

import pyarrow as pa

from dayfly.privacy.errors import InvalidQuery

from .expressions import (
    ARITHMETIC,
    COMPARISONS,
    UNITS,
    Binary,
    Call,
    Column,
    IsIn,
    Literal,
    Node,
    Unary,
    text_of,
)

__all__ = ["Kind", "instant_of", "kind_of", "kind_of_arrow", "known_column"]


class Kind(StrEnum):
    """Kinds of values. Integers are numbers too."""

    BOOL = "bool"
    INTEGER = "integer"
    NUMBER = "number"
    TEXT = "text"
    TIME = "time"

    @property
    def numeric(self) -> bool:
        """Whether it can be added."""
        return self in {Kind.INTEGER, Kind.NUMBER}


_TEXT_FUNCTIONS: Final = {
    "starts_with": Kind.BOOL,
    "ends_with": Kind.BOOL,
    "contains": Kind.BOOL,
    "lower": Kind.TEXT,
    "upper": Kind.TEXT,
    "length": Kind.INTEGER,
}
_ONE_TEXT: Final = ("starts_with", "ends_with", "contains")


def kind_of_arrow(kind: pa.DataType) -> Kind | None:
    """The kind of an Arrow column; None where queries cannot use it."""
    if pa.types.is_dictionary(kind):
        return kind_of_arrow(kind.value_type)
    if pa.types.is_boolean(kind):
        return Kind.BOOL
    if pa.types.is_integer(kind):
        return Kind.INTEGER
    if pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        return Kind.NUMBER
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return Kind.TEXT
    if pa.types.is_timestamp(kind) or pa.types.is_date(kind):
        return Kind.TIME
    return None


def known_column(name: str, columns: Mapping[str, Kind]) -> Kind:
    """The kind of a column.

    Raises:
        InvalidQuery: there is none of that name.
    """
    if name not in columns:
        raise InvalidQuery(f"column={name!r} must be one of {', '.join(sorted(columns))}; check the name")
    return columns[name]


def instant_of(text: str) -> int:
    """Milliseconds UTC of an ISO 8601 date or time; a time without zone is UTC.

    Raises:
        InvalidQuery: it is none.
    """
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise InvalidQuery(
            f"time={text!r} must be a date or time such as 2011-11-28 or 2011-11-28T09:30:00Z; check it"
        ) from None
    whole = found if found.tzinfo is not None else found.replace(tzinfo=UTC)
    return int(whole.timestamp() * 1000)


def kind_of(node: Node, columns: Mapping[str, Kind]) -> Kind:
    """The kind of an expression.

    Args:
        node: The tree.
        columns: Kinds of the columns that it may read.

    Raises:
        InvalidQuery: a column is unknown, or an operator does not fit its operands.
    """
    if isinstance(node, Column):
        return known_column(node.name, columns)
    if isinstance(node, Literal):
        return _constant(node.value)
    if isinstance(node, Unary):
        wanted, found = (Kind.BOOL, kind_of(node.operand, columns))
        if node.operator == "-":
            return Kind.NUMBER if found.numeric else _refuse(node, "a number", found)
        return Kind.BOOL if found is wanted else _refuse(node, "a truth value", found)
    if isinstance(node, IsIn):
        return _is_in(node, kind_of(node.operand, columns))
    if isinstance(node, Call):
        return _call(node, kind_of(node.operand, columns))
    return _binary(node, kind_of(node.left, columns), kind_of(node.right, columns))


def _constant(value: object) -> Kind:
    if isinstance(value, bool):
        return Kind.BOOL
    if isinstance(value, int):
        return Kind.INTEGER
    return Kind.NUMBER if isinstance(value, float) else Kind.TEXT


def _refuse(node: Node, wanted: str, found: Kind) -> NoReturn:
    raise InvalidQuery(
        f"expression={text_of(node)!r} must work on {wanted}, not on {found}; change the operand"
    )


def _binary(node: Binary, left: Kind, right: Kind) -> Kind:
    if node.operator in ARITHMETIC:
        for side in (left, right):
            if not side.numeric:
                _refuse(node, "numbers", side)
        return Kind.NUMBER
    if node.operator in COMPARISONS:
        if not _comparable(node, left, right):
            raise InvalidQuery(
                f"expression={text_of(node)!r} must compare values of one kind, not {left} with {right}; change one side"
            )
        if Kind.BOOL in {left, right} and node.operator not in {"==", "!="}:
            _refuse(node, "values that have an order", Kind.BOOL)
        return Kind.BOOL
    for side in (left, right):
        if side is not Kind.BOOL:
            _refuse(node, "truth values", side)
    return Kind.BOOL


def _comparable(node: Binary, left: Kind, right: Kind) -> bool:
    for constant, other in ((node.left, right), (node.right, left)):
        if other is Kind.TIME and isinstance(constant, Literal) and isinstance(constant.value, str):
            instant_of(constant.value)
            return True
    return left is right or (left.numeric and right.numeric)


def _is_in(node: IsIn, operand: Kind) -> Kind:
    for value in node.values:
        found = _constant(value)
        if operand is Kind.TIME and isinstance(value, str):
            instant_of(value)
        elif not (found is operand or (found.numeric and operand.numeric)):
            _refuse(node, f"constants of kind {operand}", found)
    return Kind.BOOL


def _call(node: Call, operand: Kind) -> Kind:
    name, count = node.function, len(node.arguments)
    if count != (1 if name in {*_ONE_TEXT, "truncate", "fill_null"} else 0):
        raise InvalidQuery(f"expression={text_of(node)!r} must give {name} its arguments; it has {count}")
    if name == "is_null":
        return Kind.BOOL
    if name == "fill_null":
        return _filled(node, operand)
    if name == "abs":
        return Kind.NUMBER if operand.numeric else _refuse(node, "a number", operand)
    if name == "truncate":
        if node.arguments[0] not in UNITS:
            raise InvalidQuery(f"unit={node.arguments[0]!r} must be one of {', '.join(UNITS)}; choose one")
        return Kind.TIME if operand is Kind.TIME else _refuse(node, "a time", operand)
    if operand is not Kind.TEXT:
        _refuse(node, "a text", operand)
    if name in _ONE_TEXT and not isinstance(node.arguments[0], str):
        _refuse(node, "a constant text", _constant(node.arguments[0]))
    return _TEXT_FUNCTIONS[name]


def _filled(node: Call, operand: Kind) -> Kind:
    value = node.arguments[0]
    found = _constant(value)
    if operand is Kind.TIME and isinstance(value, str):
        instant_of(value)
        return Kind.TIME
    if found is operand or (found.numeric and operand.numeric):
        return operand if found is operand else Kind.NUMBER
    _refuse(node, f"a constant of kind {operand}", found)
