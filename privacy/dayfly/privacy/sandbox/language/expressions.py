"""Expressions over the columns of one row: a small typed tree, written in Python or as text, with one meaning.

`col("quantity") * col("unit_price") > 0` and the text ``quantity * unit_price > 0`` are the same tree; documents hold the
text. An expression sees one row at a time, so whatever it does, a customer's rows become that customer's rows: filters and
derived columns never change whose data a number is.
"""

import json
import math
from dataclasses import dataclass
from datetime import date, datetime
from typing import Final, TypeAlias

from dayfly.privacy.errors import InvalidQuery

__all__ = [
    "ARITHMETIC",
    "COMPARISONS",
    "FUNCTIONS",
    "UNITS",
    "Binary",
    "Call",
    "Column",
    "Expression",
    "IsIn",
    "Literal",
    "Node",
    "Scalar",
    "Unary",
    "col",
    "columns_of",
    "literal",
    "text_of",
]

Scalar: TypeAlias = bool | int | float | str
"""A constant. Instants are ISO 8601 texts; a text beside a column of times is read as one."""

ARITHMETIC: Final = ("+", "-", "*", "/")
COMPARISONS: Final = ("==", "!=", "<", "<=", ">", ">=")
UNITS: Final = ("minute", "hour", "day", "week", "month", "quarter", "year")
FUNCTIONS: Final = (
    "abs",
    "contains",
    "ends_with",
    "fill_null",
    "is_null",
    "length",
    "lower",
    "starts_with",
    "truncate",
    "upper",
)
"""Methods of an expression, in text as in Python: ``invoice.starts_with("C")``."""


@dataclass(frozen=True, slots=True)
class Column:
    """The value of a column in this row."""

    name: str


@dataclass(frozen=True, slots=True)
class Literal:
    """A constant."""

    value: Scalar


@dataclass(frozen=True, slots=True)
class Unary:
    """`operator` is ``-`` or ``not``."""

    operator: str
    operand: "Node"


@dataclass(frozen=True, slots=True)
class Binary:
    """`operator` is one of `ARITHMETIC`, `COMPARISONS`, ``and``, ``or``."""

    operator: str
    left: "Node"
    right: "Node"


@dataclass(frozen=True, slots=True)
class IsIn:
    """Whether the operand is one of some constants."""

    operand: "Node"
    values: tuple[Scalar, ...]


@dataclass(frozen=True, slots=True)
class Call:
    """One of `FUNCTIONS`, with constants as arguments."""

    function: str
    operand: "Node"
    arguments: tuple[Scalar, ...] = ()


Node: TypeAlias = Column | Literal | Unary | Binary | IsIn | Call

_STRENGTH: Final = {
    "or": 1,
    "and": 2,
    "not": 3,
    "in": 4,
    "+": 5,
    "-": 5,
    "*": 6,
    "/": 6,
    "neg": 7,
} | dict.fromkeys(COMPARISONS, 4)
_ATOM: Final = 9


def text_of(node: Node) -> str:
    """The expression as text; `dayfly.privacy.sandbox.language.parsing.parse` reads it back to the same tree."""
    return _written(node)[0]


def _written(node: Node) -> tuple[str, int]:
    """Text, and how strongly its outermost operator binds."""
    if isinstance(node, Column):
        plain = node.name.isidentifier() and node.name not in _RESERVED
        return (node.name if plain else f"col({json.dumps(node.name)})"), _ATOM
    if isinstance(node, Literal):
        return _constant(node.value), _STRENGTH["neg"] if _negative(node.value) else _ATOM
    if isinstance(node, Unary):
        name = "neg" if node.operator == "-" else "not"
        inner = _within(node.operand, _STRENGTH[name] + (name == "neg"))
        return (f"-{inner}" if name == "neg" else f"not {inner}"), _STRENGTH[name]
    if isinstance(node, IsIn):
        values = ", ".join(_constant(value) for value in node.values)
        return f"{_within(node.operand, 5)} in [{values}]", 4
    if isinstance(node, Call):
        arguments = ", ".join(_constant(value) for value in node.arguments)
        return f"{_within(node.operand, _ATOM)}.{node.function}({arguments})", _ATOM
    strength = _STRENGTH[node.operator]
    left = _within(node.left, strength + (node.operator in COMPARISONS))
    return f"{left} {node.operator} {_within(node.right, strength + 1)}", strength


def _within(node: Node, least: int) -> str:
    text, strength = _written(node)
    if isinstance(node, Literal) and not isinstance(node.value, str) and least == _ATOM:
        return f"({text})"
    return text if strength >= least else f"({text})"


def _negative(value: Scalar) -> bool:
    return not isinstance(value, str | bool) and (value < 0 or str(value).startswith("-"))


def _constant(value: Scalar) -> str:
    return json.dumps(value, ensure_ascii=False) if isinstance(value, str) else repr(value)


_RESERVED: Final = frozenset(
    [
        "and",
        "as",
        "assert",
        "async",
        "await",
        "break",
        "class",
        "continue",
        "def",
        "del",
        "elif",
        "else",
        "except",
        "finally",
        "for",
        "from",
        "global",
        "if",
        "import",
        "in",
        "is",
        "lambda",
        "nonlocal",
        "not",
        "or",
        "pass",
        "raise",
        "return",
        "try",
        "while",
        "with",
        "yield",
        "True",
        "False",
        "None",
        "col",
    ]
)


def columns_of(node: Node) -> frozenset[str]:
    """Names of the columns that an expression reads."""
    if isinstance(node, Column):
        return frozenset((node.name,))
    if isinstance(node, Literal):
        return frozenset()
    if isinstance(node, Binary):
        return columns_of(node.left) | columns_of(node.right)
    return columns_of(node.operand)


def literal(value: object) -> Scalar:
    """A Python value as a constant of an expression.

    Raises:
        InvalidQuery: it is none, or no finite number.
    """
    if isinstance(value, datetime | date):
        return value.isoformat()
    if isinstance(value, float) and not math.isfinite(value):
        raise InvalidQuery(
            f"constant={value!r} must be a finite number; compare with a number, or use is_null()"
        )
    if isinstance(value, bool | int | float | str):
        return value
    raise InvalidQuery(
        f"constant={type(value).__name__} must be a bool, number, text, date or datetime; convert it"
    )


class Expression:
    """A node with Python's operators. `&`, `|` and `~` stand for and, or and not.

    Args:
        node: The tree.
    """

    __slots__ = ("node",)
    __hash__ = None  # type: ignore[assignment]  # `==` makes an expression

    def __init__(self, node: Node) -> None:
        self.node: Final = node

    def __repr__(self) -> str:
        return f"Expression({text_of(self.node)})"

    def __bool__(self) -> bool:
        raise InvalidQuery(
            f"expression {text_of(self.node)!r} must not be used as a truth value; write & for and, | for or, ~ for not"
        )

    def _binary(self, operator: str, other: object, *, swapped: bool = False) -> "Expression":
        node = other.node if isinstance(other, Expression) else Literal(literal(other))
        return Expression(Binary(operator, node, self.node) if swapped else Binary(operator, self.node, node))

    def _call(self, function: str, *arguments: object) -> "Expression":
        return Expression(Call(function, self.node, tuple(literal(argument) for argument in arguments)))

    def __add__(self, other: object) -> "Expression":
        return self._binary("+", other)

    def __radd__(self, other: object) -> "Expression":
        return self._binary("+", other, swapped=True)

    def __sub__(self, other: object) -> "Expression":
        return self._binary("-", other)

    def __rsub__(self, other: object) -> "Expression":
        return self._binary("-", other, swapped=True)

    def __mul__(self, other: object) -> "Expression":
        return self._binary("*", other)

    def __rmul__(self, other: object) -> "Expression":
        return self._binary("*", other, swapped=True)

    def __truediv__(self, other: object) -> "Expression":
        return self._binary("/", other)

    def __rtruediv__(self, other: object) -> "Expression":
        return self._binary("/", other, swapped=True)

    def __neg__(self) -> "Expression":
        return Expression(Unary("-", self.node))

    def __eq__(self, other: object) -> "Expression":  # type: ignore[override]
        return self._binary("==", other)

    def __ne__(self, other: object) -> "Expression":  # type: ignore[override]
        return self._binary("!=", other)

    def __lt__(self, other: object) -> "Expression":
        return self._binary("<", other)

    def __le__(self, other: object) -> "Expression":
        return self._binary("<=", other)

    def __gt__(self, other: object) -> "Expression":
        return self._binary(">", other)

    def __ge__(self, other: object) -> "Expression":
        return self._binary(">=", other)

    def __and__(self, other: object) -> "Expression":
        return self._binary("and", other)

    def __or__(self, other: object) -> "Expression":
        return self._binary("or", other)

    def __invert__(self) -> "Expression":
        return Expression(Unary("not", self.node))

    def isin(self, values: "list[Scalar] | tuple[Scalar, ...]") -> "Expression":
        """Whether it is one of some constants; null where it is null."""
        return Expression(IsIn(self.node, tuple(literal(value) for value in values)))

    def is_null(self) -> "Expression":
        """Whether there is no value. NaN is no value."""
        return self._call("is_null")

    def fill_null(self, value: Scalar) -> "Expression":
        """A constant where there is no value."""
        return self._call("fill_null", value)

    def abs(self) -> "Expression":
        """Magnitude of a number."""
        return self._call("abs")

    def truncate(self, unit: str) -> "Expression":
        """The beginning (UTC) of the `minute`, `hour`, `day`, `week` (Monday), `month`, `quarter` or `year` of a time."""
        return self._call("truncate", unit)

    def lower(self) -> "Expression":
        """A text in lower case."""
        return self._call("lower")

    def upper(self) -> "Expression":
        """A text in upper case."""
        return self._call("upper")

    def length(self) -> "Expression":
        """Number of characters of a text."""
        return self._call("length")

    def starts_with(self, text: str) -> "Expression":
        """Whether a text begins with another."""
        return self._call("starts_with", text)

    def ends_with(self, text: str) -> "Expression":
        """Whether a text ends with another."""
        return self._call("ends_with", text)

    def contains(self, text: str) -> "Expression":
        """Whether a text holds another."""
        return self._call("contains", text)


def col(name: str) -> Expression:
    """The column of that name."""
    return Expression(Column(name))
