"""From the tree to a plain English sentence, for those who approve tags but do not write them."""

from decimal import Decimal
from typing import Final, assert_never

from .literals import number_text
from .tree import (
    Absent,
    And,
    Comparison,
    EventMatch,
    Expression,
    FieldComparison,
    FieldIn,
    FieldPresent,
    FieldText,
    FirstTime,
    InTag,
    Measure,
    Not,
    Or,
    Predicate,
    PredicateAnd,
    PredicateNot,
    PredicateOr,
    Regularly,
    Restarted,
    Scalar,
    Sequence,
    Stopped,
    Tag,
)

__all__ = ["describe", "describe_measure", "describe_predicate", "describe_tag"]

_AMOUNT: Final = {
    "==": "exactly",
    "!=": "other than",
    "<": "less than",
    "<=": "at most",
    ">": "more than",
    ">=": "at least",
}
_IS: Final = {
    "==": "is",
    "!=": "is not",
    "<": "is below",
    "<=": "is at most",
    ">": "is above",
    ">=": "is at least",
}
_TEST: Final = {"contains": "contains", "startsWith": "starts with", "endsWith": "ends with"}
_VALUE: Final = {
    "sum": "the sum of", "avg": "the average of", "min": "the lowest", "max": "the highest",
    "first": "the first", "last": "the last", "distinct": "the different values of", "count": "the number of",
}  # fmt: skip
_UNITS: Final = (
    ("week", 604_800_000),
    ("day", 86_400_000),
    ("hour", 3_600_000),
    ("minute", 60_000),
    ("second", 1_000),
)


def describe_tag(tag: Tag) -> str:
    """One sentence: who carries the tag, for which purpose."""
    carried = f" It carries {_listed([capture.name for capture in tag.captures])}." if tag.captures else ""
    return (
        f'A person carries "{tag.name}" (for {tag.purpose}) while this holds: {describe(tag.when)}.{carried}'
    )


def describe(node: Expression) -> str:
    """What a condition says of a person."""
    match node:
        case Or(parts):
            return ", or ".join(_inner(part) for part in parts)
        case And(parts):
            return ", and ".join(_inner(part) for part in parts)
        case Not(Absent(match, within)):
            return f"did {_event(match)} {_last(within)}"
        case Not(InTag(tag)):
            return f'does not carry the tag "{tag}"'
        case Not(part):
            return f"it is not so that ({describe(part)})"
        case Comparison(measure, operator, value):
            return _comparison(measure, operator, value)
        case InTag(tag):
            return f'carries the tag "{tag}"'
        case _:
            return _window(node)


def describe_measure(measure: Measure) -> str:
    """What a measure shows."""
    field = f" {_field(measure.field)} of" if measure.field else ""
    return f"{_VALUE[measure.function]}{field} {_event(measure.match)} events {_last(measure.within_ms)}"


def describe_predicate(node: Predicate) -> str:
    """What a predicate says of an event."""
    match node:
        case PredicateOr(parts):
            return " or ".join(_inner_predicate(part) for part in parts)
        case PredicateAnd(parts):
            return " and ".join(_inner_predicate(part) for part in parts)
        case PredicateNot(FieldPresent(field)):
            return f"{_field(field)} is missing"
        case PredicateNot(part):
            return f"not ({describe_predicate(part)})"
        case FieldComparison(field, operator, value):
            return f"{_field(field)} {_IS[operator]} {_scalar(value)}"
        case FieldIn(field, values):
            return f"{_field(field)} is one of {', '.join(map(_scalar, values))}"
        case FieldText(field, test, text):
            return f'{_field(field)} {_TEST[test]} "{text}"'
        case FieldPresent(field):
            return f"{_field(field)} is given"
        case _ as unknown:
            assert_never(unknown)


def _window(node: Absent | FirstTime | Regularly | Stopped | Restarted | Sequence) -> str:
    match node:
        case Absent(match, within):
            return f"did not do {_event(match)} {_last(within)}"
        case FirstTime(match, within):
            return f"did {_event(match)} for the first time {_last(within)}"
        case Regularly(match, every, periods, at_least, times):
            often = "once" if times == 1 else f"{times} times"
            return f"did {_event(match)} at least {often} in {at_least} or more of the last {periods} spans of {_span(every)}"
        case Stopped(match, within, quiet):
            return f"did {_event(match)} {_last(within)} but not {_last(quiet)}"
        case Restarted(match, within, quiet):
            return f"did {_event(match)} {_last(within)} after at least {_span(quiet)} without"
        case Sequence():
            return _sequence(node)
        case _ as unknown:
            assert_never(unknown)


def _sequence(node: Sequence) -> str:
    said = f"did {', then '.join(map(_event, node.steps))} {_last(node.within_ms)}"
    if node.gap_ms is not None:
        said += f", each at most {_span(node.gap_ms)} after the one before"
    if node.without is not None and node.quiet_ms is not None:
        said += f", with no {_event(node.without)} from then until {_span(node.quiet_ms)} after the last"
    elif node.without is not None:
        said += f", with no {_event(node.without)} in between"
    return said


def _comparison(measure: Measure, operator: str, value: Scalar) -> str:
    if measure.function == "count":
        times = "time" if value == 1 else "times"
        return f"did {_event(measure.match)} {_AMOUNT[operator]} {_scalar(value)} {times} {_last(measure.within_ms)}"
    if measure.function == "distinct":
        amount = f"{_AMOUNT[operator]} {_scalar(value)} different values of {_field(measure.field or '')}"
        return f"had {amount} in {_event(measure.match)} {_last(measure.within_ms)}"
    return f"{describe_measure(measure)} {_IS[operator]} {_scalar(value)}"


def _inner(part: Expression) -> str:
    return f"({describe(part)})" if isinstance(part, And | Or) else describe(part)


def _inner_predicate(part: Predicate) -> str:
    return (
        f"({describe_predicate(part)})"
        if isinstance(part, PredicateAnd | PredicateOr)
        else describe_predicate(part)
    )


def _event(match: EventMatch) -> str:
    where = f" (where {describe_predicate(match.where)})" if match.where is not None else ""
    return f'"{match.event}"{where}'


def _field(field: str) -> str:
    return field.removeprefix("properties.").replace("_", " ")


def _scalar(value: Scalar) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return number_text(value) if isinstance(value, Decimal) else f'"{value}"'


def _last(milliseconds: int) -> str:
    return f"in the last {_span(milliseconds).removeprefix('1 ')}"


def _span(milliseconds: int) -> str:
    for unit, size in _UNITS:
        if milliseconds and milliseconds % size == 0 and (unit != "week" or milliseconds >= 2 * size):
            amount = milliseconds // size
            return f"{amount} {unit}{'' if amount == 1 else 's'}"
    return f"{milliseconds} milliseconds"


def _listed(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
