"""The closed set of window functions: their parameters, and the way between arguments and tree nodes.

The three forms (text, documents, Python) read and write nodes through this one table, so they cannot drift apart.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum, auto
from types import MappingProxyType
from typing import Any, Final, TypeAlias, cast

from .tree import (
    Absent,
    And,
    EventMatch,
    Expression,
    FirstTime,
    InTag,
    Measure,
    MeasureName,
    Or,
    Predicate,
    PredicateAnd,
    PredicateOr,
    Regularly,
    Restarted,
    Sequence,
    Stopped,
)

__all__ = [
    "FUNCTIONS",
    "MEASURES",
    "Kind",
    "Parameter",
    "Path",
    "WindowNode",
    "all_of",
    "all_of_predicates",
    "any_of",
    "any_of_predicates",
    "assemble",
    "disassemble",
]

Path: TypeAlias = tuple[str | int, ...]
"""Way from the root of a tree to a part of it: attribute names and positions."""

WindowNode: TypeAlias = Measure | Absent | FirstTime | Regularly | Stopped | Restarted | Sequence | InTag
"""A node that is written as a function call."""


class Kind(Enum):
    """What an argument is."""

    EVENT = auto()
    FIELD = auto()
    WHERE = auto()
    DURATION = auto()
    INTEGER = auto()
    STEPS = auto()
    MATCH = auto()
    TAG = auto()


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter of a window function.

    Attributes:
        name: Its name in every form.
        kind: What may be given.
        path: Where its value stands in the node.
        required: It has no default.
        positional: In text it stands without its name, before the named ones.
    """

    name: str
    kind: Kind
    path: Path
    required: bool = True
    positional: bool = False


_EVENT = Parameter("event", Kind.EVENT, ("match", "event"), positional=True)
_FIELD = Parameter("field", Kind.FIELD, ("field",), positional=True)
_WHERE = Parameter("where", Kind.WHERE, ("match", "where"), required=False)
_WITHIN = Parameter("within", Kind.DURATION, ("within_ms",))
_QUIET = Parameter("quiet", Kind.DURATION, ("quiet_ms",))

MEASURES: Final[Mapping[str, tuple[Parameter, ...]]] = MappingProxyType(
    {
        "count": (_EVENT, _WHERE, _WITHIN),
        **dict.fromkeys(
            ("distinct", "sum", "avg", "min", "max", "first", "last"), (_EVENT, _FIELD, _WHERE, _WITHIN)
        ),
    }
)
"""Functions that give a value, which a condition compares."""

FUNCTIONS: Final[Mapping[str, tuple[Parameter, ...]]] = MappingProxyType(
    {
        **MEASURES,
        "absent": (_EVENT, _WHERE, _WITHIN),
        "first_time": (_EVENT, _WHERE, _WITHIN),
        "regularly": (
            _EVENT,
            _WHERE,
            Parameter("every", Kind.DURATION, ("every_ms",)),
            Parameter("periods", Kind.INTEGER, ("periods",)),
            Parameter("at_least", Kind.INTEGER, ("at_least",)),
            Parameter("times", Kind.INTEGER, ("times",), required=False),
        ),
        "stopped": (_EVENT, _WHERE, _WITHIN, _QUIET),
        "restarted": (_EVENT, _WHERE, _WITHIN, _QUIET),
        "sequence": (
            Parameter("steps", Kind.STEPS, ("steps",), positional=True),
            _WITHIN,
            Parameter("gap", Kind.DURATION, ("gap_ms",), required=False),
            Parameter("without", Kind.MATCH, ("without",), required=False),
            Parameter("quiet", Kind.DURATION, ("quiet_ms",), required=False),
        ),
        "in_tag": (Parameter("tag", Kind.TAG, ("tag",), positional=True),),
    }
)
"""All window functions with their parameters, in the order of the text form."""

_CLASSES: Final[Mapping[str, Any]] = MappingProxyType(
    {
        "absent": Absent,
        "first_time": FirstTime,
        "regularly": Regularly,
        "stopped": Stopped,
        "restarted": Restarted,
        "sequence": Sequence,
        "in_tag": InTag,
    }
)
_NAMES: Final[Mapping[type, str]] = MappingProxyType({node: name for name, node in _CLASSES.items()})


def assemble(function: str, arguments: Mapping[str, object]) -> WindowNode:
    """The node of `function` with `arguments` by parameter name, all required ones present and of the right kind."""
    values: dict[str, object] = {}
    for parameter in FUNCTIONS[function]:
        if parameter.name in arguments and parameter.path[0] != "match":
            values[cast("str", parameter.path[0])] = arguments[parameter.name]
    if "event" in arguments:
        where = cast("Predicate | None", arguments.get("where"))
        values["match"] = EventMatch(cast("str", arguments["event"]), where)
    if function in MEASURES:
        return Measure(function=cast("MeasureName", function), **cast("dict[str, Any]", values))
    return cast("WindowNode", _CLASSES[function](**values))


def disassemble(node: WindowNode) -> tuple[str, dict[str, object]]:
    """Function name and arguments of a node, without those that have their default; `assemble` reversed."""
    function = node.function if isinstance(node, Measure) else _NAMES[type(node)]
    arguments: dict[str, object] = {}
    for parameter in FUNCTIONS[function]:
        value: object = node
        for step in parameter.path:
            value = getattr(value, cast("str", step))
        if value is not None and not (parameter.name == "times" and value == 1):
            arguments[parameter.name] = value
    return function, arguments


def all_of(parts: Iterable[Expression]) -> Expression:
    """Conjunction of `parts`; a conjunction inside is merged into it, one part stays itself."""
    flat = tuple(inner for part in parts for inner in (part.parts if isinstance(part, And) else (part,)))
    return flat[0] if len(flat) == 1 else And(flat)


def any_of(parts: Iterable[Expression]) -> Expression:
    """Disjunction of `parts`; a disjunction inside is merged into it, one part stays itself."""
    flat = tuple(inner for part in parts for inner in (part.parts if isinstance(part, Or) else (part,)))
    return flat[0] if len(flat) == 1 else Or(flat)


def all_of_predicates(parts: Iterable[Predicate]) -> Predicate:
    """Conjunction of predicates; a conjunction inside is merged into it, one part stays itself."""
    flat = tuple(
        inner for part in parts for inner in (part.parts if isinstance(part, PredicateAnd) else (part,))
    )
    return flat[0] if len(flat) == 1 else PredicateAnd(flat)


def any_of_predicates(parts: Iterable[Predicate]) -> Predicate:
    """Disjunction of predicates; a disjunction inside is merged into it, one part stays itself."""
    flat = tuple(
        inner for part in parts for inner in (part.parts if isinstance(part, PredicateOr) else (part,))
    )
    return flat[0] if len(flat) == 1 else PredicateOr(flat)
