"""Expressions from text: the expression part of Python's grammar, of which only what `expressions` names is taken."""

import ast
from functools import lru_cache
from typing import Final

from dayfly.privacy.errors import InvalidQuery

from .expressions import (
    FUNCTIONS,
    Binary,
    Call,
    Column,
    Expression,
    IsIn,
    Literal,
    Node,
    Scalar,
    Unary,
    text_of,
)

__all__ = ["parse", "text_from"]

_LONGEST: Final = 4096
_DEEPEST: Final = 64
_BINARY: Final = {ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.Div: "/"}
_COMPARE: Final = {ast.Eq: "==", ast.NotEq: "!=", ast.Lt: "<", ast.LtE: "<=", ast.Gt: ">", ast.GtE: ">="}


def text_from(expression: Expression | str) -> str:
    """An expression, written either way, as the text that documents hold.

    Raises:
        InvalidQuery: as `parse`.
    """
    return text_of(expression.node if isinstance(expression, Expression) else parse(expression))


@lru_cache(maxsize=1024)
def parse(text: str) -> Node:
    """The tree of a text.

    Args:
        text: Such as ``quantity * unit_price > 0 and not invoice.starts_with("C")``.

    Raises:
        InvalidQuery: it is none, or longer than 4,096 characters, or more than 64 levels deep.
    """
    if not isinstance(text, str) or len(text) > _LONGEST:
        raise InvalidQuery(
            f"expression must be a text of at most {_LONGEST} characters; split it into derived columns"
        )
    try:
        found = ast.parse(text, mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise InvalidQuery(f"expression={text!r} must be an expression ({error}); check the text") from None
    return _node(found, text, _DEEPEST)


def _refuse(what: str, text: str) -> InvalidQuery:
    return InvalidQuery(
        f"expression={text!r} must not hold {what}; use columns, constants, + - * /, comparisons, and, or, not, in [...] "
        f"and the methods {', '.join(FUNCTIONS)}"
    )


def _node(found: ast.expr, text: str, levels: int) -> Node:
    if levels == 0:
        raise InvalidQuery(
            f"expression={text[:60]!r}... must be at most {_DEEPEST} levels deep; split it into derived columns"
        )
    if isinstance(found, ast.Name):
        return Column(found.id)
    if isinstance(found, ast.Constant):
        return Literal(_scalar(found, text))
    if isinstance(found, ast.UnaryOp):
        return _unary(found, text, levels)
    if isinstance(found, ast.BinOp) and type(found.op) in _BINARY:
        return Binary(
            _BINARY[type(found.op)], _node(found.left, text, levels - 1), _node(found.right, text, levels - 1)
        )
    if isinstance(found, ast.BoolOp):
        name = "and" if isinstance(found.op, ast.And) else "or"
        result = _node(found.values[0], text, levels - 1)
        for value in found.values[1:]:
            result = Binary(name, result, _node(value, text, levels - 1))
        return result
    if isinstance(found, ast.Compare):
        return _compare(found, text, levels)
    if isinstance(found, ast.Call):
        return _call(found, text, levels)
    raise _refuse(type(found).__name__, text)


def _unary(found: ast.UnaryOp, text: str, levels: int) -> Node:
    if isinstance(found.op, ast.USub):
        if isinstance(found.operand, ast.Constant):
            return Literal(_scalar(found, text))
        return Unary("-", _node(found.operand, text, levels - 1))
    if isinstance(found.op, ast.Not):
        return Unary("not", _node(found.operand, text, levels - 1))
    raise _refuse(type(found.op).__name__, text)


def _compare(found: ast.Compare, text: str, levels: int) -> Node:
    if len(found.ops) != 1:
        raise _refuse("a chain of comparisons (join two with and)", text)
    left, operator, right = _node(found.left, text, levels - 1), found.ops[0], found.comparators[0]
    if isinstance(operator, ast.In | ast.NotIn):
        if not isinstance(right, ast.List | ast.Tuple):
            raise _refuse("in without a list of constants", text)
        inside = IsIn(left, tuple(_scalar(value, text) for value in right.elts))
        return inside if isinstance(operator, ast.In) else Unary("not", inside)
    if type(operator) not in _COMPARE:
        raise _refuse(type(operator).__name__, text)
    return Binary(_COMPARE[type(operator)], left, _node(right, text, levels - 1))


def _call(found: ast.Call, text: str, levels: int) -> Node:
    if found.keywords:
        raise _refuse("arguments by name", text)
    if isinstance(found.func, ast.Name) and found.func.id == "col" and len(found.args) == 1:
        name = _scalar(found.args[0], text)
        if isinstance(name, str):
            return Column(name)
    if isinstance(found.func, ast.Attribute) and found.func.attr in FUNCTIONS:
        arguments = tuple(_scalar(argument, text) for argument in found.args)
        return Call(found.func.attr, _node(found.func.value, text, levels - 1), arguments)
    raise _refuse("other calls", text)


def _scalar(found: ast.expr, text: str) -> Scalar:
    """A constant; a sign before a number belongs to it."""
    if isinstance(found, ast.UnaryOp) and isinstance(found.op, ast.USub):
        value = _scalar(found.operand, text)
        if not isinstance(value, bool | str):
            return -value
    if isinstance(found, ast.Constant) and isinstance(found.value, bool | int | float | str):
        value = found.value
        if isinstance(value, str) or abs(value) < float("inf"):
            return value
    raise _refuse("constants other than finite numbers, texts, True and False", text)
