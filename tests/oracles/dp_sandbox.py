"""Slow oracle of the sandbox's language and of its exact answers: plain Python, one row at a time, no Arrow and no NumPy.

Expressions are read with Python's own grammar and interpreted with the rules of `docs/privacy.md`: no value (None) for NaN,
division by zero and missing values; three-valued logic; floats for arithmetic.
"""

import ast
import math
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

Row = Mapping[str, Any]


def value_of(text: str, row: Row) -> Any:
    """An expression over one row; None where it has no value."""
    return _value(ast.parse(text, mode="eval").body, row)


def _clean(value: Any) -> Any:
    return None if isinstance(value, float) and math.isnan(value) else value


def _value(node: ast.expr, row: Row) -> Any:  # noqa: C901 - one rule per kind of node
    if isinstance(node, ast.Name):
        return _clean(row[node.id])
    if isinstance(node, ast.Constant):
        return node.value
    if isinstance(node, ast.UnaryOp):
        inner = _value(node.operand, row)
        if inner is None:
            return None
        return (not inner) if isinstance(node.op, ast.Not) else -float(inner)
    if isinstance(node, ast.BinOp):
        return _arithmetic(node.op, _value(node.left, row), _value(node.right, row))
    if isinstance(node, ast.BoolOp):
        values = [_value(value, row) for value in node.values]
        decided = isinstance(node.op, ast.Or)
        if any(value is decided for value in values):
            return decided
        return None if None in values else not decided
    if isinstance(node, ast.Compare):
        left, operator, right = _value(node.left, row), node.ops[0], node.comparators[0]
        if left is None:
            return None
        if isinstance(operator, ast.In):
            return left in [_value(one, row) for one in right.elts]  # type: ignore[attr-defined]
        other = _value(right, row)
        return None if other is None else _compare(operator, left, other)
    if isinstance(node, ast.Call):
        assert isinstance(node.func, ast.Attribute)
        return _call(node.func.attr, _value(node.func.value, row), [_value(one, row) for one in node.args])
    raise TypeError(type(node))


def _arithmetic(operator: ast.operator, left: Any, right: Any) -> Any:
    if left is None or right is None:
        return None
    left, right = float(left), float(right)
    try:
        if isinstance(operator, ast.Add):
            return _clean(left + right)
        if isinstance(operator, ast.Sub):
            return _clean(left - right)
        if isinstance(operator, ast.Mult):
            return _clean(left * right)
        return None if right == 0 else _clean(left / right)
    except OverflowError:
        return math.copysign(math.inf, left) * math.copysign(1.0, right)


def _compare(operator: ast.cmpop, left: Any, right: Any) -> bool:
    if isinstance(left, datetime) and isinstance(right, str):
        right = datetime.fromisoformat(right)
    table = {
        ast.Eq: left == right,
        ast.NotEq: left != right,
    }
    if type(operator) in table:
        return bool(table[type(operator)])
    return bool(
        {ast.Lt: left < right, ast.LtE: left <= right, ast.Gt: left > right, ast.GtE: left >= right}[
            type(operator)
        ]
    )


def _call(name: str, value: Any, arguments: list[Any]) -> Any:
    if name == "is_null":
        return value is None
    if name == "fill_null":
        return arguments[0] if value is None else value
    if value is None:
        return None
    if name == "abs":
        return abs(float(value))
    if name == "length":
        return len(value)
    if name == "truncate":
        return _truncated(value, arguments[0])
    method = {"starts_with": "startswith", "ends_with": "endswith", "contains": "__contains__"}.get(
        name, name
    )
    return getattr(value, method)(*arguments)


def _truncated(value: datetime, unit: str) -> datetime:
    day = value.replace(hour=0, minute=0, second=0, microsecond=0)
    if unit == "week":
        return day - timedelta(days=day.weekday())
    if unit == "month":
        return day.replace(day=1)
    if unit == "year":
        return day.replace(month=1, day=1)
    return {"day": day, "hour": value.replace(minute=0, second=0, microsecond=0)}[unit]


def instant(milliseconds: int) -> datetime:
    """A time without zone, as Arrow gives it."""
    return datetime.fromtimestamp(milliseconds / 1000, UTC).replace(tzinfo=None)
