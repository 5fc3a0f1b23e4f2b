"""The one typed tree behind the three ways to write a tag (text, YAML/JSON documents, Python expressions).

Meaning, with `now` the instant asked for, `W` = `within_ms`, and every event time in int64 milliseconds UTC:

* a window is `(now - W, now]`; the universe of events is the retained history `(now - H, now]`;
* a comparison over a measure is false when the measure has no value, that is when no event (with the field) is in the window;
* a test on an absent field is false, also `!=`; negation is explicit;
* `docs/tags.md` is the specification, with the boundary table that is also the test.
"""

from dataclasses import dataclass
from decimal import Decimal
from typing import Literal, TypeAlias

__all__ = [
    "Absent",
    "And",
    "Capture",
    "Comparison",
    "EventMatch",
    "Expression",
    "FieldComparison",
    "FieldIn",
    "FieldPresent",
    "FieldText",
    "FirstTime",
    "InTag",
    "Measure",
    "MeasureName",
    "Not",
    "Operator",
    "Or",
    "Predicate",
    "PredicateAnd",
    "PredicateNot",
    "PredicateOr",
    "Regularly",
    "Restarted",
    "Scalar",
    "Sequence",
    "Stopped",
    "Tag",
    "TextTest",
]

Operator: TypeAlias = Literal["==", "!=", "<", "<=", ">", ">="]
TextTest: TypeAlias = Literal["contains", "startsWith", "endsWith"]
MeasureName: TypeAlias = Literal["count", "distinct", "sum", "avg", "min", "max", "first", "last"]
Scalar: TypeAlias = str | bool | Decimal
"""A literal. A time literal is a `Decimal` of milliseconds after checking."""


# --- predicates over one event (a CEL subset) ------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class FieldComparison:
    """`field op value`, for example ``properties.price >= 100``; `field` may also be ``channel``."""

    field: str
    operator: Operator
    value: Scalar


@dataclass(frozen=True, slots=True)
class FieldIn:
    """`field in [values]`."""

    field: str
    values: tuple[Scalar, ...]


@dataclass(frozen=True, slots=True)
class FieldText:
    """`field.contains(text)`, `field.startsWith(text)` or `field.endsWith(text)`, by Unicode code points."""

    field: str
    test: TextTest
    text: str


@dataclass(frozen=True, slots=True)
class FieldPresent:
    """`has(field)`."""

    field: str


@dataclass(frozen=True, slots=True)
class PredicateNot:
    """`!part`."""

    part: "Predicate"


@dataclass(frozen=True, slots=True)
class PredicateAnd:
    """`part && part ...`, at least two parts."""

    parts: tuple["Predicate", ...]


@dataclass(frozen=True, slots=True)
class PredicateOr:
    """`part || part ...`, at least two parts."""

    parts: tuple["Predicate", ...]


Predicate: TypeAlias = (
    FieldComparison | FieldIn | FieldText | FieldPresent | PredicateNot | PredicateAnd | PredicateOr
)


# --- window functions ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class EventMatch:
    """Which events a function looks at: one event type and an optional predicate over its fields."""

    event: str
    where: Predicate | None = None


@dataclass(frozen=True, slots=True)
class Measure:
    """A value over a window: `count`, or one of the others over `field` (``properties.x``; absent values are left out).

    `sum avg min max` take number fields; `distinct first last` any field. `first`/`last` order by (time, arrival).
    """

    function: MeasureName
    match: EventMatch
    within_ms: int
    field: str | None = None


@dataclass(frozen=True, slots=True)
class Comparison:
    """`measure op value`; false when the measure has no value."""

    measure: Measure
    operator: Operator
    value: Scalar


@dataclass(frozen=True, slots=True)
class Absent:
    """No matching event in `(now - within, now]`, for a person the engine knows."""

    match: EventMatch
    within_ms: int


@dataclass(frozen=True, slots=True)
class FirstTime:
    """A matching event in `(now - within, now]` and none before it in the retained history."""

    match: EventMatch
    within_ms: int


@dataclass(frozen=True, slots=True)
class Regularly:
    """At least `times` events in each of at least `at_least` of the last `periods` spans `(now-(i+1)*every, now-i*every]`."""

    match: EventMatch
    every_ms: int
    periods: int
    at_least: int
    times: int = 1


@dataclass(frozen=True, slots=True)
class Stopped:
    """A matching event in `(now - within, now - quiet]` and none in `(now - quiet, now]`; `quiet < within`."""

    match: EventMatch
    within_ms: int
    quiet_ms: int


@dataclass(frozen=True, slots=True)
class Restarted:
    """A matching event in `(now - within, now]` whose previous matching event in the history is at least `quiet` older."""

    match: EventMatch
    within_ms: int
    quiet_ms: int


@dataclass(frozen=True, slots=True)
class Sequence:
    """Events e1 < ... < ek (strictly later each) in `(now - within, now]` matching `steps` in order.

    `gap_ms`: each next event at most this much later. `without`: no such event strictly between e1 and ek.
    `quiet_ms`: `ek + quiet <= now`, and no `without` event in `(e1, ek + quiet]` (something did *not* follow).
    One step is allowed only with `quiet_ms`; `quiet_ms` needs `without`.
    """

    steps: tuple[EventMatch, ...]
    within_ms: int
    gap_ms: int | None = None
    without: EventMatch | None = None
    quiet_ms: int | None = None


@dataclass(frozen=True, slots=True)
class InTag:
    """The person carries tag `tag` (its condition holds and its consent is there)."""

    tag: str


@dataclass(frozen=True, slots=True)
class Not:
    """`!part`."""

    part: "Expression"


@dataclass(frozen=True, slots=True)
class And:
    """All parts hold; at least two."""

    parts: tuple["Expression", ...]


@dataclass(frozen=True, slots=True)
class Or:
    """Some part holds; at least two."""

    parts: tuple["Expression", ...]


Expression: TypeAlias = (
    Comparison | Absent | FirstTime | Regularly | Stopped | Restarted | Sequence | InTag | Not | And | Or
)


@dataclass(frozen=True, slots=True)
class Capture:
    """A value that a tag carries while it holds: ``materials: distinct("Product Viewed", properties.material, within: 7d)``."""

    name: str
    measure: Measure


@dataclass(frozen=True, slots=True)
class Tag:
    """One intent tag.

    Attributes:
        name: Kebab-case name, unique in a policy.
        purpose: Dotted purpose the tag is computed for; without consent for it nobody carries the tag.
        topic: Dotted topic of interest that consent may be scoped to.
        when: The condition.
        captures: Values carried while the tag holds.
        version: Positive; raised by its author with each change of meaning.
        text: `when` as text, normalised; shown by lineage.
    """

    name: str
    purpose: str
    topic: str
    when: Expression
    captures: tuple[Capture, ...] = ()
    version: int = 1
    text: str = ""
    description: str = ""
