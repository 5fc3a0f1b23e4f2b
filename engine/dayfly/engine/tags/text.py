"""The text form: ``count("Product Searched", where: properties.query.contains("sofa"), within: 7d) > 5``.

A predicate is a subset of CEL; a condition is window functions joined by ``&& || !``. One LALR grammar reads both, and
the reader below gives each part its meaning and its place. `docs/tags.md` is the specification.
"""

from collections.abc import Callable
from decimal import Decimal
from typing import Final, NoReturn, TypeVar, cast

from .functions import (
    FUNCTIONS,
    MEASURES,
    Kind,
    Parameter,
    Path,
    all_of,
    all_of_predicates,
    any_of,
    any_of_predicates,
    assemble,
)
from .literals import read_duration, read_field, read_time, unquote
from .place import Source, Span, refusal
from .syntax import GRAMMAR, MAX_TEXT, Node, children_of, kind_of, operands, parse_syntax, span_of
from .tree import (
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
    TextTest,
)

__all__ = [
    "GRAMMAR",
    "MAX_NESTING",
    "MAX_TEXT",
    "parse_expression",
    "parse_measure",
    "parse_predicate",
    "read_expression",
    "read_measure",
    "read_predicate",
]

MAX_NESTING: Final = 64
"""Levels of nested parts that are read; `check` allows fewer."""

_T = TypeVar("_T")
_TEXT_TESTS: Final = ("contains", "startsWith", "endsWith")
_FLIPPED: Final = {"==": "==", "!=": "!=", "<": ">", "<=": ">=", ">": "<", ">=": "<="}


def parse_expression(text: str) -> Expression:
    """The condition that `text` says.

    Raises:
        TagError: not a condition; carries the place.
    """
    return read_expression(text)[0]


def parse_predicate(text: str) -> Predicate:
    """The predicate over one event that `text` says, as in ``where:``.

    Raises:
        TagError: not a predicate; carries the place.
    """
    return read_predicate(text)[0]


def parse_measure(text: str) -> Measure:
    """The measure that `text` says, as in a capture or a fragment field.

    Raises:
        TagError: not a measure; carries the place.
    """
    return read_measure(text)[0]


def read_expression(text: str) -> tuple[Expression, Source]:
    """As `parse_expression`, with the places of all parts."""
    return _read(text, _Reader.expression)


def read_predicate(text: str) -> tuple[Predicate, Source]:
    """As `parse_predicate`, with the places of all parts."""
    return _read(text, _Reader.predicate)


def read_measure(text: str) -> tuple[Measure, Source]:
    """As `parse_measure`, with the places of all parts."""
    return _read(text, _Reader.measure)


def _read(text: str, entry: "Callable[[_Reader, Node, Path], _T]") -> tuple[_T, Source]:
    root = parse_syntax(text)
    reader = _Reader(text)
    return entry(reader, root, ()), Source(text, reader.places)


class _Reader:
    """Gives a syntax tree its meaning, noting where each part stands."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._depth = 0
        self.places: dict[Path, Span] = {}

    # --- conditions ---

    def expression(self, node: Node, path: Path) -> Expression:
        """A condition."""
        self._note(node, path)
        kind = kind_of(node)
        if kind in ("either", "both"):
            join = any_of if kind == "either" else all_of
            return join(
                self._nested(self.expression, part, (*path, "parts", at)) for at, part in operands(node)
            )
        if kind == "negation":
            return Not(self._nested(self.expression, children_of(node)[0], (*path, "part")))
        if kind == "relation":
            return self._comparison(node, path)
        if kind != "call":
            self._fail(node, "must be a condition", 'write a function such as count("Visit", within: 7d) > 0')
        name = str(children_of(node)[0])
        if name in MEASURES:
            self._fail(node, "must be compared to a value", f"write {name}(...) > 1")
        return cast("Expression", self._call(node, path))

    def measure(self, node: Node, path: Path) -> Measure:
        """A function that gives a value."""
        self._note(node, path)
        if kind_of(node) != "call" or str(children_of(node)[0]) not in MEASURES:
            self._fail(node, "must be a value over a window", f"use one of: {', '.join(MEASURES)}")
        return cast("Measure", self._call(node, path))

    def _comparison(self, node: Node, path: Path) -> Comparison:
        left, operator, right = children_of(node)
        if _is_measure(right) and not _is_measure(left):
            self._fail(
                node,
                "must have the function on the left",
                f"write function {_FLIPPED.get(str(operator), 'op')} value",
            )
        if not _is_measure(left):
            self._fail(
                left,
                "must be a function that gives a value",
                f"use one of: {', '.join(MEASURES)}; fields belong in where:",
            )
        if str(operator) == "in":
            self._fail(operator, "must be a comparison here", "write several comparisons joined by ||")
        measure = self._nested(self.measure, left, (*path, "measure"))
        return Comparison(measure, cast("Operator", str(operator)), self._scalar(right, (*path, "value")))

    def _call(self, node: Node, path: Path) -> object:
        head, *arguments = children_of(node)
        function = str(head)
        if function not in FUNCTIONS:
            self._fail(head, "must be a known function", f"use one of: {', '.join(FUNCTIONS)}")
        parameters = {parameter.name: parameter for parameter in FUNCTIONS[function]}
        waiting = [parameter for parameter in FUNCTIONS[function] if parameter.positional]
        values: dict[str, object] = {}
        for argument in arguments:
            if kind_of(argument) == "named":
                name_token, content = children_of(argument)
                name = str(name_token)
                if name not in parameters:
                    self._fail(
                        name_token,
                        f"must be a parameter of {function}",
                        f"use one of: {', '.join(parameters)}",
                    )
            elif waiting:
                content, name = argument, waiting[0].name
            else:
                named = [parameter.name for parameter in FUNCTIONS[function] if not parameter.positional]
                self._fail(
                    argument,
                    "must be named",
                    f"write one of: {', '.join(f'{name}: ...' for name in named) or ')'}",
                )
            if name in values:
                self._fail(argument, f"must give {name} once", "remove the second")
            waiting = [parameter for parameter in waiting if parameter.name != name]
            values[name] = self._argument(parameters[name], content, path)
        missing = [
            name for name, parameter in parameters.items() if parameter.required and name not in values
        ]
        if missing:
            self._fail(node, f"must give {missing[0]}", f"add {_example(parameters[missing[0]])}")
        return assemble(function, values)

    def _argument(self, parameter: Parameter, node: Node, path: Path) -> object:
        place = (*path, *parameter.path)
        self._note(node, place)
        match parameter.kind:
            case Kind.WHERE:
                return self._nested(self.predicate, node, place)
            case Kind.EVENT | Kind.TAG:
                return self._string(node, "a name in quotes")
            case Kind.FIELD:
                return self._field(node)
            case Kind.DURATION:
                return self._duration(node)
            case Kind.INTEGER:
                return self._integer(node)
            case Kind.MATCH:
                return self._match(node, place)
            case Kind.STEPS:
                if kind_of(node) != "list":
                    self._fail(node, "must be a list of events", 'write ["First", "Second"]')
                return tuple(self._match(step, (*place, at)) for at, step in enumerate(children_of(node)))

    def _match(self, node: Node, path: Path) -> EventMatch:
        self._note(node, path)
        if kind_of(node) == "STRING":
            return EventMatch(self._string(node, "an event name"))
        if kind_of(node) != "call" or str(children_of(node)[0]) != "event":
            self._fail(node, "must be an event", 'write "Name" or event("Name", where: ...)')
        name, *rest = children_of(node)[1:] or (node,)
        event = self._string(name, "an event name in quotes")
        self._note(name, (*path, "event"))
        if not rest:
            return EventMatch(event)
        if len(rest) > 1 or kind_of(rest[0]) != "named" or str(children_of(rest[0])[0]) != "where":
            self._fail(rest[-1], "must be where:", 'write event("Name", where: ...)')
        return EventMatch(event, self._nested(self.predicate, children_of(rest[0])[1], (*path, "where")))

    # --- predicates ---

    def predicate(self, node: Node, path: Path) -> Predicate:
        """A predicate over one event."""
        self._note(node, path)
        kind = kind_of(node)
        if kind in ("either", "both"):
            join = any_of_predicates if kind == "either" else all_of_predicates
            return join(
                self._nested(self.predicate, part, (*path, "parts", at)) for at, part in operands(node)
            )
        if kind == "negation":
            return PredicateNot(self._nested(self.predicate, children_of(node)[0], (*path, "part")))
        if kind == "relation":
            return self._relation(node, path)
        if kind == "call":
            return self._test(node, path)
        if kind in ("FIELD", "NAME"):
            self._fail(node, "must be compared", f"write {node} == true, or has({node})")
        return self._fail(node, "must be a test of a field", 'write properties.x == "value"')

    def _relation(self, node: Node, path: Path) -> Predicate:
        left, operator, right = children_of(node)
        if kind_of(right) in ("FIELD", "NAME") and kind_of(left) not in ("FIELD", "NAME"):
            self._fail(
                node,
                "must have the field on the left",
                f"write {right} {_FLIPPED.get(str(operator), 'in')} value",
            )
        if kind_of(left) == "negation":
            self._fail(left, "must be a field", "! binds tighter than a comparison: write !(field == value)")
        field = self._field(left)
        self._note(left, (*path, "field"))
        if str(operator) != "in":
            return FieldComparison(
                field, cast("Operator", str(operator)), self._scalar(right, (*path, "value"))
            )
        if kind_of(right) != "list":
            self._fail(right, "must be a list", 'write field in ["a", "b"]')
        self._note(right, (*path, "values"))
        items = enumerate(children_of(right))
        return FieldIn(field, tuple(self._scalar(item, (*path, "values", at)) for at, item in items))

    def _test(self, node: Node, path: Path) -> Predicate:
        head, *arguments = children_of(node)
        if len(arguments) != 1 or kind_of(arguments[0]) == "named":
            self._fail(node, "must have one argument", 'write field.contains("text") or has(field)')
        if str(head) == "has":
            self._note(arguments[0], (*path, "field"))
            return FieldPresent(self._field(arguments[0]))
        field, _, test = str(head).rpartition(".")
        if test not in _TEXT_TESTS or not field:
            self._fail(
                head, "must be a test of one event", f"use has(field) or field.{' field.'.join(_TEXT_TESTS)}"
            )
        self._note(head, (*path, "field"))
        self._note(arguments[0], (*path, "text"))
        name = self._value(head, lambda: read_field(field))
        return FieldText(name, cast("TextTest", test), self._string(arguments[0], "text in quotes"))

    # --- leaves ---

    def _scalar(self, node: Node, path: Path) -> Scalar:
        self._note(node, path)
        kind = kind_of(node)
        if kind == "STRING":
            return self._string(node, "text")
        if kind == "NUMBER":
            return Decimal(str(node))
        if kind in ("TRUE", "FALSE"):
            return kind == "TRUE"
        if kind == "call" and str(children_of(node)[0]) == "timestamp":
            return self._time(node)
        return self._fail(
            node,
            "must be a value",
            'write a number, "text", true, false or timestamp("2026-01-01T00:00:00Z")',
        )

    def _time(self, node: Node) -> Decimal:
        arguments = children_of(node)[1:]
        if len(arguments) != 1:
            self._fail(node, "must have one argument", 'write timestamp("2026-01-01T00:00:00Z")')
        text = self._string(arguments[0], "a time in quotes")
        return self._value(arguments[0], lambda: read_time(text))

    def _string(self, node: Node, what: str) -> str:
        if kind_of(node) != "STRING":
            self._fail(node, f"must be {what}", 'put it in quotes: "..."')
        return self._value(node, lambda: unquote(str(node)))

    def _field(self, node: Node) -> str:
        if kind_of(node) not in ("FIELD", "NAME"):
            self._fail(node, "must be a field", "write properties.name or channel")
        return self._value(node, lambda: read_field(str(node)))

    def _duration(self, node: Node) -> int:
        if kind_of(node) != "DURATION":
            self._fail(
                node,
                "must be a duration",
                "write a whole number and a unit, such as 30m or 7d (ms s m h d w)",
            )
        return self._value(node, lambda: read_duration(str(node)))

    def _integer(self, node: Node) -> int:
        if kind_of(node) != "NUMBER" or not str(node).lstrip("-").isdecimal() or len(str(node)) > 10:
            self._fail(node, "must be a whole number", "write digits only")
        return int(str(node))

    # --- bookkeeping ---

    def _nested(self, read: "Callable[[Node, Path], _T]", node: Node, path: Path) -> _T:
        if self._depth >= MAX_NESTING:
            self._fail(
                node, f"must lie at most {MAX_NESTING} levels deep", "split the tag and join with in_tag"
            )
        self._depth += 1
        try:
            return read(node, path)
        finally:
            self._depth -= 1

    def _note(self, node: Node, path: Path) -> None:
        self.places[path] = span_of(node)

    def _value(self, node: Node, read: "Callable[[], _T]") -> _T:
        try:
            return read()
        except ValueError as error:
            raise refusal(str(error), self._text, span_of(node)) from error

    def _fail(self, node: Node, rule: str, way_out: str) -> NoReturn:
        span = span_of(node)
        found = " ".join(self._text[span.start : span.end].split())
        shown = found if len(found) <= 60 else f"{found[:57]}..."
        raise refusal(f"{shown} {rule}; {way_out}", self._text, span)


def _is_measure(node: Node) -> bool:
    return kind_of(node) == "call" and str(children_of(node)[0]) in MEASURES


def _example(parameter: Parameter) -> str:
    shown = {
        Kind.EVENT: '"Event Name"',
        Kind.FIELD: "properties.name",
        Kind.DURATION: f"{parameter.name}: 7d",
        Kind.INTEGER: f"{parameter.name}: 3",
        Kind.STEPS: '["First", "Second"]',
        Kind.TAG: '"tag-name"',
    }
    return shown.get(parameter.kind, parameter.name)
