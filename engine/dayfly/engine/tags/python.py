"""The Python form: ``count("Product Searched", where=prop("query").contains("sofa"), within="7d") > 5``.

Conditions and predicates join by ``&``, ``|`` and ``~``. What is built is the same tree that the text form gives:

>>> from dayfly.engine.tags.text import parse_expression
>>> built = (count("Visit", within="7d") > 5) & ~in_tag("customer")
>>> built.node == parse_expression('count("Visit", within: 7d) > 5 && !in_tag("customer")')
True
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, Final, TypeAlias, cast

from dayfly.engine.errors import TagError

from .functions import all_of, all_of_predicates, any_of, any_of_predicates, assemble
from .literals import read_duration, read_field
from .render import render_expression
from .tree import (
    Capture,
    Comparison,
    EventMatch,
    Expression,
    FieldComparison,
    FieldIn,
    FieldPresent,
    FieldText,
    Measure,
    Not,
    Operator,
    Predicate,
    PredicateNot,
    Scalar,
    Tag,
)

__all__ = [
    "CHANNEL",
    "Condition",
    "Field",
    "Value",
    "Where",
    "absent",
    "avg",
    "count",
    "distinct",
    "event",
    "first",
    "first_time",
    "in_tag",
    "last",
    "max_",
    "min_",
    "prop",
    "regularly",
    "restarted",
    "sequence",
    "stopped",
    "sum_",
    "tag",
]

Literal: TypeAlias = str | bool | int | float | Decimal | datetime
"""What a field or a value is compared to; a `datetime` needs a zone."""

Duration: TypeAlias = str | timedelta
"""``"7d"`` or a `timedelta` of whole milliseconds."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class _NoTruth:
    """`and`, `or`, `not` and `if` would silently drop a part, so they are refused."""

    __slots__ = ()

    def __bool__(self) -> bool:
        raise TagError(
            f"{type(self).__name__} must not be used as a truth value; join parts by & | ~ in parentheses"
        )


@dataclass(frozen=True, slots=True)
class Condition(_NoTruth):
    """A condition; `node` is its tree."""

    node: Expression

    def __and__(self, other: "Condition") -> "Condition":
        return Condition(all_of((self.node, other.node)))

    def __or__(self, other: "Condition") -> "Condition":
        return Condition(any_of((self.node, other.node)))

    def __invert__(self) -> "Condition":
        return Condition(Not(self.node))


@dataclass(frozen=True, slots=True)
class Where(_NoTruth):
    """A predicate over one event; `node` is its tree."""

    node: Predicate

    def __and__(self, other: "Where") -> "Where":
        return Where(all_of_predicates((self.node, other.node)))

    def __or__(self, other: "Where") -> "Where":
        return Where(any_of_predicates((self.node, other.node)))

    def __invert__(self) -> "Where":
        return Where(PredicateNot(self.node))


@dataclass(frozen=True, slots=True, eq=False)
class Field(_NoTruth):
    """A field of an event, to be compared."""

    name: str

    def __eq__(self, value: Literal) -> Where:  # type: ignore[override]  # comparing builds a predicate
        return self._compare("==", value)

    def __ne__(self, value: Literal) -> Where:  # type: ignore[override]  # comparing builds a predicate
        return self._compare("!=", value)

    def __lt__(self, value: Literal) -> Where:
        return self._compare("<", value)

    def __le__(self, value: Literal) -> Where:
        return self._compare("<=", value)

    def __gt__(self, value: Literal) -> Where:
        return self._compare(">", value)

    def __ge__(self, value: Literal) -> Where:
        return self._compare(">=", value)

    __hash__ = None  # type: ignore[assignment]  # equality is a predicate, so a field is no key

    def one_of(self, *values: Literal) -> Where:
        """`field in [values]`."""
        return Where(FieldIn(self.name, tuple(_scalar(value) for value in values)))

    def contains(self, text: str) -> Where:
        """`field.contains(text)`."""
        return Where(FieldText(self.name, "contains", text))

    def starts_with(self, text: str) -> Where:
        """`field.startsWith(text)`."""
        return Where(FieldText(self.name, "startsWith", text))

    def ends_with(self, text: str) -> Where:
        """`field.endsWith(text)`."""
        return Where(FieldText(self.name, "endsWith", text))

    def present(self) -> Where:
        """`has(field)`."""
        return Where(FieldPresent(self.name))

    def _compare(self, operator: Operator, value: Literal) -> Where:
        return Where(FieldComparison(self.name, operator, _scalar(value)))


@dataclass(frozen=True, slots=True, eq=False)
class Value(_NoTruth):
    """A value over a window, to be compared or captured; `node` is its tree."""

    node: Measure

    def __eq__(self, value: Literal) -> Condition:  # type: ignore[override]  # comparing builds a condition
        return self._compare("==", value)

    def __ne__(self, value: Literal) -> Condition:  # type: ignore[override]  # comparing builds a condition
        return self._compare("!=", value)

    def __lt__(self, value: Literal) -> Condition:
        return self._compare("<", value)

    def __le__(self, value: Literal) -> Condition:
        return self._compare("<=", value)

    def __gt__(self, value: Literal) -> Condition:
        return self._compare(">", value)

    def __ge__(self, value: Literal) -> Condition:
        return self._compare(">=", value)

    __hash__ = None  # type: ignore[assignment]  # equality is a condition, so a value is no key

    def _compare(self, operator: Operator, value: Literal) -> Condition:
        return Condition(Comparison(self.node, operator, _scalar(value)))


CHANNEL: Final = Field("channel")
"""The channel an event came through."""


def prop(name: str) -> Field:
    """Field ``properties.name``; dots lead into nested objects.

    Raises:
        TagError: not a field name.
    """
    return Field(_field(name))


def event(name: str, *, where: Where | None = None) -> EventMatch:
    """A step of a sequence."""
    return EventMatch(name, None if where is None else where.node)


def count(event: str, *, within: Duration, where: Where | None = None) -> Value:
    """Number of matching events in the window."""
    return _value("count", event, None, within, where)


def distinct(event: str, field: str, *, within: Duration, where: Where | None = None) -> Value:
    """Number of different values of a field."""
    return _value("distinct", event, field, within, where)


def sum_(event: str, field: str, *, within: Duration, where: Where | None = None) -> Value:
    """Sum of a number field."""
    return _value("sum", event, field, within, where)


def avg(event: str, field: str, *, within: Duration, where: Where | None = None) -> Value:
    """Average of a number field."""
    return _value("avg", event, field, within, where)


def min_(event: str, field: str, *, within: Duration, where: Where | None = None) -> Value:
    """Lowest value of a number field."""
    return _value("min", event, field, within, where)


def max_(event: str, field: str, *, within: Duration, where: Where | None = None) -> Value:
    """Highest value of a number field."""
    return _value("max", event, field, within, where)


def first(event: str, field: str, *, within: Duration, where: Where | None = None) -> Value:
    """Earliest value of a field."""
    return _value("first", event, field, within, where)


def last(event: str, field: str, *, within: Duration, where: Where | None = None) -> Value:
    """Latest value of a field."""
    return _value("last", event, field, within, where)


def absent(event: str, *, within: Duration, where: Where | None = None) -> Condition:
    """No matching event in the window."""
    return _condition("absent", event=event, where=where, within=within)


def first_time(event: str, *, within: Duration, where: Where | None = None) -> Condition:
    """A matching event in the window and none before it in the history."""
    return _condition("first_time", event=event, where=where, within=within)


def regularly(
    event: str, *, every: Duration, periods: int, at_least: int, times: int = 1, where: Where | None = None
) -> Condition:
    """At least `times` events in each of at least `at_least` of the last `periods` spans of `every`."""
    return _condition(
        "regularly", event=event, where=where, every=every, periods=periods, at_least=at_least, times=times
    )


def stopped(event: str, *, within: Duration, quiet: Duration, where: Where | None = None) -> Condition:
    """A matching event in the window, but none in its last `quiet`."""
    return _condition("stopped", event=event, where=where, within=within, quiet=quiet)


def restarted(event: str, *, within: Duration, quiet: Duration, where: Where | None = None) -> Condition:
    """A matching event in the window after at least `quiet` without one."""
    return _condition("restarted", event=event, where=where, within=within, quiet=quiet)


def sequence(
    steps: Sequence[str | EventMatch],
    *,
    within: Duration,
    gap: Duration | None = None,
    without: str | EventMatch | None = None,
    quiet: Duration | None = None,
) -> Condition:
    """Steps strictly one after the other in the window; see the specification for `gap`, `without` and `quiet`."""
    matches = tuple(_match(step) for step in steps)
    excluded = None if without is None else _match(without)
    return _condition("sequence", steps=matches, within=within, gap=gap, without=excluded, quiet=quiet)


def in_tag(name: str) -> Condition:
    """The person carries another tag."""
    return _condition("in_tag", tag=name)


def tag(
    name: str,
    *,
    purpose: str,
    topic: str,
    when: Condition,
    captures: Mapping[str, Value] | None = None,
    version: int = 1,
    description: str = "",
) -> Tag:
    """A tag; `dayfly.engine.tags.check.check_tag` says whether it may be published."""
    carried = tuple(Capture(key, value.node) for key, value in (captures or {}).items())
    text = render_expression(when.node)
    return Tag(name, purpose, topic, when.node, carried, version=version, text=text, description=description)


def _value(function: str, event: str, field: str | None, within: Duration, where: Where | None) -> Value:
    given = {} if field is None else {"field": _field(field)}
    return Value(cast("Measure", _assemble(function, event=event, where=where, within=within, **given)))


def _condition(function: str, **arguments: object) -> Condition:
    return Condition(cast("Expression", _assemble(function, **arguments)))


def _assemble(function: str, **arguments: object) -> object:
    plain: dict[str, Any] = {}
    for name, value in arguments.items():
        if isinstance(value, Where):
            plain[name] = value.node
        elif name in ("within", "every", "quiet", "gap") and value is not None:
            plain[name] = _duration(cast("Duration", value))
        elif value is not None:
            plain[name] = value
    return assemble(function, plain)


def _match(step: str | EventMatch) -> EventMatch:
    return EventMatch(step) if isinstance(step, str) else step


def _field(name: str) -> str:
    try:
        return read_field(name if name.startswith("properties.") else f"properties.{name}")
    except ValueError as error:
        raise TagError(str(error)) from error


def _duration(value: Duration) -> int:
    if isinstance(value, timedelta):
        whole, rest = divmod(value, timedelta(milliseconds=1))
        if rest:
            raise TagError(f"duration={value!r} must be whole milliseconds; round it")
        return whole
    try:
        return read_duration(value)
    except ValueError as error:
        raise TagError(str(error)) from error


def _scalar(value: Literal) -> Scalar:
    if isinstance(value, bool | str):
        return value
    if isinstance(value, datetime):
        if value.tzinfo is None:
            raise TagError(f"value={value!r} must have a time zone; add tzinfo=UTC")
        whole, rest = divmod(value - _EPOCH, timedelta(milliseconds=1))
        if rest:
            raise TagError(f"value={value!r} must be whole milliseconds; round it")
        return Decimal(whole)
    return Decimal(repr(value)) if isinstance(value, float) else Decimal(value)
