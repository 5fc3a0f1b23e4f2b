"""What a tag's condition means, recounted from a list of events with plain loops.

Written from the docstrings of `dayfly.engine.tags.tree` alone. Nothing is kept between two questions, numbers are exact
`Decimal`s and every function scans every event of the person. Slow on purpose: it is the judge of the real engine.
"""

import itertools
import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from typing import Any, NamedTuple, TypeAlias

from dayfly.engine.tags.tree import (
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
    Stopped,
)
from dayfly.engine.tags.tree import Sequence as Steps

__all__ = [
    "Cell",
    "Recorded",
    "View",
    "distinct_values",
    "edges",
    "holds",
    "matches",
    "measured",
    "mentioned_tags",
]

Cell: TypeAlias = str | bool | Decimal | int | None
"""A property: text, a boolean, a number as `Decimal`, a time as int milliseconds, or absent."""

Function: TypeAlias = Comparison | Absent | FirstTime | Regularly | Stopped | Restarted | Steps
"""A condition over events alone."""

_OPERATORS: dict[str, Callable[[Any, Any], bool]] = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


class Recorded(NamedTuple):
    """An event as the oracle remembers it: `slots` maps a field's name to its place in `values`."""

    type: str
    time_ms: int
    arrival: int
    channel: str
    slots: Mapping[str, int]
    values: tuple[Cell, ...]

    def cell(self, path: str) -> Cell:
        """The property at `path` (``properties.x``, ``traits.x`` or ``channel``), None when absent."""
        if path == "channel":
            return self.channel
        slot = self.slots.get(path.split(".", 1)[1] if path.startswith(("properties.", "traits.")) else path)
        return None if slot is None else self.values[slot]


@dataclass(frozen=True, slots=True)
class View:
    """All that a condition may look at: a person's events at an instant, and the person's other tags."""

    events: Mapping[str, Sequence[Recorded]]
    now_ms: int
    history_ms: int
    in_tag: Callable[[str], bool]

    def matching(self, match: EventMatch, after_ms: int, until_ms: int) -> list[Recorded]:
        """Matching events with time in `(after_ms, until_ms]`, inside the history and not after now, by (time, arrival)."""
        low, high = max(after_ms, self.now_ms - self.history_ms), min(until_ms, self.now_ms)
        found = [event for event in self.events.get(match.event, ()) if low < event.time_ms <= high]
        found = [event for event in found if matches(event, match.where)]
        return sorted(found, key=lambda event: (event.time_ms, event.arrival))

    def window(self, match: EventMatch, within_ms: int) -> list[Recorded]:
        """Matching events in `(now - within, now]`."""
        return self.matching(match, self.now_ms - within_ms, self.now_ms)

    def history(self, match: EventMatch) -> list[Recorded]:
        """Matching events in the whole retained history."""
        return self.matching(match, self.now_ms - self.history_ms, self.now_ms)


# --- one event -------------------------------------------------------------------------------------------------------


def matches(event: Recorded, predicate: Predicate | None) -> bool:
    """Whether one event passes `predicate`; a test on an absent field is false."""
    if predicate is None:
        return True
    if isinstance(predicate, PredicateNot):
        return not matches(event, predicate.part)
    if isinstance(predicate, PredicateAnd):
        return all(matches(event, part) for part in predicate.parts)
    if isinstance(predicate, PredicateOr):
        return any(matches(event, part) for part in predicate.parts)
    cell = event.cell(predicate.field)
    if cell is None:
        return False
    if isinstance(predicate, FieldPresent):
        return True
    if isinstance(predicate, FieldComparison):
        return _compare(cell, predicate.operator, predicate.value)
    if isinstance(predicate, FieldIn):
        return any(_compare(cell, "==", value) for value in predicate.values)
    return _text(cell, predicate)


def _text(cell: Cell, predicate: FieldText) -> bool:
    if not isinstance(cell, str):
        return False
    if predicate.test == "contains":
        return predicate.text in cell
    return (
        cell.startswith(predicate.text) if predicate.test == "startsWith" else cell.endswith(predicate.text)
    )


def _compare(left: object, sign: str, right: object) -> bool:
    """`left sign right`; values of different kinds never compare as true."""
    if _kind(left) != _kind(right):
        return False
    if isinstance(left, Fraction) and isinstance(right, Decimal):
        right = Fraction(right)
    return _OPERATORS[sign](left, right)


def _kind(value: object) -> str:
    return "bool" if isinstance(value, bool) else "text" if isinstance(value, str) else "number"


# --- measures --------------------------------------------------------------------------------------------------------


def measured(measure: Measure, view: View) -> str | bool | Decimal | int | Fraction | None:
    """The value of `measure` now, None when no event (with the field) is in the window; `avg` is an exact `Fraction`."""
    cells = _cells(measure, view)
    if not cells:
        return None
    if measure.function == "count":
        return len(cells)
    if measure.function == "distinct":
        return len(set(cells))
    if measure.function in ("first", "last"):
        return cells[0] if measure.function == "first" else cells[-1]
    numbers = [Decimal(cell) for cell in cells if not isinstance(cell, str | bool) and cell is not None]
    if measure.function == "sum":
        return sum(numbers, Decimal(0))
    if measure.function == "avg":
        return Fraction(sum(numbers, Decimal(0))) / len(numbers)
    return min(numbers) if measure.function == "min" else max(numbers)


def distinct_values(measure: Measure, view: View) -> frozenset[Cell]:
    """The different values of the measure's field in its window: what a `distinct` capture carries."""
    return frozenset(_cells(measure, view))


def _cells(measure: Measure, view: View) -> list[Cell]:
    events = view.window(measure.match, measure.within_ms)
    if measure.field is None:
        return [event.time_ms for event in events]
    return [cell for cell in (event.cell(measure.field) for event in events) if cell is not None]


# --- conditions ------------------------------------------------------------------------------------------------------


def holds(expression: Expression, view: View) -> bool:
    """Whether a condition holds for a known person at `view.now_ms`."""
    if isinstance(expression, And):
        return all(holds(part, view) for part in expression.parts)
    if isinstance(expression, Or):
        return any(holds(part, view) for part in expression.parts)
    if isinstance(expression, Not):
        return not holds(expression.part, view)
    if isinstance(expression, InTag):
        return view.in_tag(expression.tag)
    return _function_holds(expression, view)


def _function_holds(expression: Function, view: View) -> bool:
    if isinstance(expression, Comparison):
        value = measured(expression.measure, view)
        return value is not None and _compare(value, expression.operator, expression.value)
    if isinstance(expression, Absent):
        return not view.window(expression.match, expression.within_ms)
    if isinstance(expression, FirstTime):
        every = view.history(expression.match)
        return bool(every) and every[0].time_ms > view.now_ms - expression.within_ms
    if isinstance(expression, Regularly):
        return _regularly(expression, view)
    if isinstance(expression, Stopped):
        turn = view.now_ms - expression.quiet_ms
        earlier = view.matching(expression.match, view.now_ms - expression.within_ms, turn)
        return bool(earlier) and not view.matching(expression.match, turn, view.now_ms)
    if isinstance(expression, Restarted):
        return _restarted(expression, view)
    return _sequence(expression, view)


def _regularly(rule: Regularly, view: View) -> bool:
    good = 0
    for index in range(rule.periods):
        start, end = view.now_ms - (index + 1) * rule.every_ms, view.now_ms - index * rule.every_ms
        good += len(view.matching(rule.match, start, end)) >= rule.times
    return good >= rule.at_least


def _restarted(rule: Restarted, view: View) -> bool:
    every = view.history(rule.match)
    return any(
        event.time_ms > view.now_ms - rule.within_ms and event.time_ms - before.time_ms >= rule.quiet_ms
        for before, event in itertools.pairwise(every)
    )


def _sequence(rule: Steps, view: View) -> bool:
    steps = [view.window(step, rule.within_ms) for step in rule.steps]
    without = [] if rule.without is None else [event.time_ms for event in view.history(rule.without)]
    return any(
        _allowed_end(rule, first.time_ms, last, without, view.now_ms)
        for first in steps[0]
        for last in _ends(rule, first.time_ms, steps[1:])
    )


def _ends(rule: Steps, first_ms: int, later: list[list[Recorded]]) -> set[int]:
    """Times at which a chain of events that starts at `first_ms` can arrive at the last step."""
    reached = {first_ms}
    for candidates in later:
        reached = {
            event.time_ms
            for event in candidates
            for before in reached
            if before < event.time_ms and (rule.gap_ms is None or event.time_ms - before <= rule.gap_ms)
        }
    return reached


def _allowed_end(rule: Steps, first_ms: int, last_ms: int, without: list[int], now_ms: int) -> bool:
    if rule.quiet_ms is None:
        return not any(first_ms < time_ms < last_ms for time_ms in without)
    end_ms = last_ms + rule.quiet_ms
    return end_ms <= now_ms and not any(first_ms < time_ms <= end_ms for time_ms in without)


# --- when a condition can change by itself -----------------------------------------------------------------------------


def edges(expression: Expression, history_ms: int) -> set[int]:
    """Every constant `c` such that an event's time + `c` can be an instant at which the condition changes."""
    return {history_ms, *_edges(expression)}


def _edges(expression: Expression) -> Iterator[int]:
    if isinstance(expression, And | Or):
        for part in expression.parts:
            yield from _edges(part)
    elif isinstance(expression, Not):
        yield from _edges(expression.part)
    elif isinstance(expression, Comparison):
        yield expression.measure.within_ms
    elif isinstance(expression, Regularly):
        yield from (index * expression.every_ms for index in range(1, expression.periods + 1))
    elif isinstance(expression, Stopped | Restarted):
        yield from (expression.within_ms, expression.quiet_ms)
    elif isinstance(expression, Steps):
        yield from (expression.within_ms, expression.quiet_ms or expression.within_ms)
    elif not isinstance(expression, InTag):
        yield expression.within_ms


def mentioned_tags(expression: Expression) -> set[str]:
    """Names of the tags that a condition asks for directly."""
    if isinstance(expression, InTag):
        return {expression.tag}
    if isinstance(expression, Not):
        return mentioned_tags(expression.part)
    if isinstance(expression, And | Or):
        return set().union(*(mentioned_tags(part) for part in expression.parts))
    return set()
