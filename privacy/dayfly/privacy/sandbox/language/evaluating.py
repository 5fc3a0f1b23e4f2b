"""Expressions over Arrow columns. Every operation is total: no value of any row can raise an error.

An error, or its absence, would tell about a row. So there is a rule for everything:

- Arithmetic is in float64 (whole numbers are exact up to 2**53). Beyond its range a number is infinite; bounds clamp it later.
- Division by zero, NaN, and whatever has no value give *no value* (null). No value is neither smaller nor larger than
  another, and a filter keeps only rows where it is true.
- And and or are three-valued (Kleene): false and no value is false, true or no value is true.
- Times are milliseconds UTC.

Guarantees:
    Claim: row i of the result depends on row i of the columns only. Precondition: the tree passed `kind_of`. Argument: every
    Arrow function called here is element-wise, and the only casts are unchecked ones. Tested by permuting rows.
"""

import math
from collections.abc import Mapping
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from .expressions import ARITHMETIC, Binary, Call, Column, IsIn, Literal, Node, Scalar, Unary
from .kinds import Kind, instant_of, kind_of_arrow

__all__ = ["evaluate", "normal"]

_TIME: Final = pa.timestamp("ms")
_COMPARE: Final = {
    "==": pc.equal,
    "!=": pc.not_equal,
    "<": pc.less,
    "<=": pc.less_equal,
    ">": pc.greater,
    ">=": pc.greater_equal,
}
_ARITHMETIC: Final = {"+": pc.add, "-": pc.subtract, "*": pc.multiply, "/": pc.divide}


def normal(column: Any) -> Any:
    """A column as expressions see it: dictionaries unpacked, times in milliseconds UTC, NaN as no value."""
    kind = column.type
    if pa.types.is_dictionary(kind):
        return normal(column.cast(kind.value_type))
    if kind_of_arrow(kind) is Kind.TIME:
        return column if kind == _TIME else column.cast(_TIME, safe=False)
    if pa.types.is_decimal(kind) or pa.types.is_float16(kind) or pa.types.is_float32(kind):
        column = column.cast(pa.float64(), safe=False)
    if pa.types.is_uint64(kind):
        return column.cast(pa.float64(), safe=False)
    if pa.types.is_floating(column.type):
        return _without_nan(column)
    return column


def evaluate(node: Node, columns: Mapping[str, Any]) -> Any:
    """Values of an expression, one per row.

    Args:
        node: A tree that passed `kind_of`.
        columns: Normal Arrow arrays or chunked arrays by name.

    Returns:
        An Arrow array or chunked array; a scalar where the tree reads no column.
    """
    if isinstance(node, Column):
        return columns[node.name]
    if isinstance(node, Literal):
        return pa.scalar(node.value)
    if isinstance(node, Unary):
        inner = evaluate(node.operand, columns)
        return pc.negate(_number(inner)) if node.operator == "-" else pc.invert(inner)
    if isinstance(node, IsIn):
        return _is_in(evaluate(node.operand, columns), node.values)
    if isinstance(node, Call):
        return _call(node, evaluate(node.operand, columns))
    return _binary(node, evaluate(node.left, columns), evaluate(node.right, columns))


def _binary(node: Binary, left: Any, right: Any) -> Any:
    if node.operator in ARITHMETIC:
        return _arithmetic(node.operator, _number(left), _number(right))
    if node.operator == "and":
        return pc.and_kleene(left, right)
    if node.operator == "or":
        return pc.or_kleene(left, right)
    left, right = _alike(left, right)
    return _COMPARE[node.operator](left, right)


def _arithmetic(operator: str, left: Any, right: Any) -> Any:
    if operator == "/":
        zero = pc.equal(right, 0.0)
        right = pc.if_else(zero, pa.scalar(None, pa.float64()), right)
    return _without_nan(_ARITHMETIC[operator](left, right))


def _without_nan(values: Any) -> Any:
    if not isinstance(values, pa.Scalar) and not pc.any(pc.is_nan(values)).as_py():
        return values  # no copy of a column that needs none
    return pc.if_else(pc.is_nan(values), pa.scalar(None, pa.float64()), values)


def _number(values: Any) -> Any:
    return values if values.type == pa.float64() else values.cast(pa.float64(), safe=False)


def _alike(left: Any, right: Any) -> tuple[Any, Any]:
    """Two sides of a comparison in one type, cast without checks."""
    if _TIME in {left.type, right.type}:
        return _time(left), _time(right)
    if pa.types.is_floating(left.type) or pa.types.is_floating(right.type):
        return _number(left), _number(right)
    if pa.types.is_integer(left.type) and pa.types.is_integer(right.type):
        return left.cast(pa.int64()), right.cast(pa.int64())
    return left, right


def _time(values: Any) -> Any:
    if pa.types.is_string(values.type):  # a constant: `kind_of` saw that it is an instant
        return _instant(values.as_py())
    return values


def _instant(text: str) -> Any:
    return pa.scalar(instant_of(text), pa.int64()).cast(_TIME)


def _is_in(values: Any, constants: tuple[Scalar, ...]) -> Any:
    found = pc.is_in(values, value_set=_constants(values.type, constants))
    return pc.if_else(pc.is_null(values), pa.scalar(None, pa.bool_()), found)


def _constants(kind: pa.DataType, constants: tuple[Scalar, ...]) -> Any:
    if kind == _TIME:
        return pa.array([instant_of(str(value)) for value in constants], pa.int64()).cast(_TIME)
    if pa.types.is_integer(kind):  # what a type cannot hold is in no column of it
        least, most = _limits(kind)
        whole = [
            int(value) for value in constants if not isinstance(value, str) and value == math.floor(value)
        ]
        return pa.array([value for value in whole if least <= value <= most], kind)
    if pa.types.is_floating(kind):
        return pa.array([float(value) for value in constants], kind)
    return pa.array(constants, kind)


def _limits(kind: pa.DataType) -> tuple[int, int]:
    bits = kind.bit_width
    return (
        (0, (1 << bits) - 1)
        if pa.types.is_unsigned_integer(kind)
        else (-(1 << (bits - 1)), (1 << (bits - 1)) - 1)
    )


def _call(node: Call, values: Any) -> Any:
    name, arguments = node.function, node.arguments
    if name == "is_null":
        return pc.is_null(values, nan_is_null=True)
    if name == "fill_null":
        return _filled(values, arguments[0])
    if name == "abs":
        return pc.abs(_number(values))
    if name == "truncate":
        return pc.floor_temporal(values, unit=arguments[0])
    if name == "length":
        return pc.utf8_length(values).cast(pa.int64())
    if name == "lower":
        return pc.utf8_lower(values)
    if name == "upper":
        return pc.utf8_upper(values)
    matches = {"starts_with": pc.starts_with, "ends_with": pc.ends_with, "contains": pc.match_substring}
    return matches[name](values, pattern=arguments[0])


def _filled(values: Any, constant: Scalar) -> Any:
    if values.type == _TIME:
        return pc.fill_null(values, _instant(str(constant)))
    if isinstance(constant, float) or pa.types.is_floating(values.type):
        return pc.fill_null(_number(values), pa.scalar(float(constant), pa.float64()))
    if pa.types.is_integer(values.type):
        return pc.fill_null(values.cast(pa.int64()), pa.scalar(int(constant), pa.int64()))
    return pc.fill_null(values, pa.scalar(constant, values.type))
