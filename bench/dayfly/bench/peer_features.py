"""Per-customer state of the peer engine: what a good Python engineer keeps in dicts and deques, updated event by event.

Every feature answers `ends(subject, now)`: the instant at which its condition stops holding if nothing more arrives, or
something not later than `now` when it does not hold. So no sweep is needed to know that a tag is over.
"""

from bisect import bisect_left, bisect_right, insort
from collections import deque
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any, Final, Protocol, TypeAlias

from dayfly.engine.tags.tree import (
    FieldComparison,
    FieldIn,
    FieldPresent,
    FieldText,
    Predicate,
    PredicateAnd,
    PredicateNot,
    PredicateOr,
    Scalar,
)

__all__ = ["NEVER", "Absence", "Count", "Distinct", "Feature", "Sum", "Test", "Times", "TwoSteps", "compiled"]

NEVER: Final = 2**63 - 1
_PRUNE_AT: Final = 64

Test: TypeAlias = Callable[[Mapping[str, Any]], bool]


class Feature(Protocol):
    """State of one condition for all customers."""

    def add(self, subject: bytes, time_ms: int, value: Any, now_ms: int, /) -> int:
        """Take an event in; returns an instant at which time alone may make the condition true, 0 when there is none."""

    def ends(self, subject: bytes, now_ms: int, /) -> int:
        """First instant at which the condition no longer holds; not later than `now_ms` when it does not hold."""


class Times:
    """The newest timestamps of each customer, as many as the largest threshold needs; shared by rules over one event."""

    __slots__ = ("capacity", "of")

    def __init__(self) -> None:
        self.capacity = 1
        self.of: dict[bytes, deque[int]] = {}

    def add(self, subject: bytes, time_ms: int, _value: Any, _now_ms: int) -> int:
        """Remember one timestamp, in order of time."""
        times = self.of.get(subject)
        if times is None:
            self.of[subject] = deque((time_ms,), self.capacity)
        elif time_ms >= times[-1]:
            times.append(time_ms)
        else:
            late = list(times)
            insort(late, time_ms)
            self.of[subject] = deque(late, self.capacity)
        return 0


class Count:
    """At least `least` events within `within_ms`."""

    __slots__ = ("least", "times", "within_ms")

    def __init__(self, times: Times, least: int, within_ms: int) -> None:
        self.times, self.least, self.within_ms = times, least, within_ms
        times.capacity = max(times.capacity, least)

    def ends(self, subject: bytes, _now_ms: int) -> int:
        """The deciding event's expiry."""
        times = self.times.of.get(subject)
        if times is None or len(times) < self.least:
            return 0
        return times[-self.least] + self.within_ms


class Absence:
    """No event within `within_ms`."""

    __slots__ = ("last", "within_ms")

    def __init__(self, within_ms: int) -> None:
        self.within_ms = within_ms
        self.last: dict[bytes, int] = {}

    def add(self, subject: bytes, time_ms: int, _value: Any, _now_ms: int) -> int:
        """Remember the newest event; the condition becomes true when it has left the window."""
        newest = max(self.last.get(subject, time_ms), time_ms)
        self.last[subject] = newest
        return newest + self.within_ms

    def ends(self, subject: bytes, now_ms: int) -> int:
        """Never, once it holds."""
        last = self.last.get(subject)
        return NEVER if last is None or last + self.within_ms <= now_ms else 0


class Distinct:
    """At least `least` different values within `within_ms`: a dict from value to its newest time."""

    __slots__ = ("least", "seen", "within_ms")

    def __init__(self, least: int, within_ms: int) -> None:
        self.least, self.within_ms = least, within_ms
        self.seen: dict[bytes, dict[Any, int]] = {}

    def add(self, subject: bytes, time_ms: int, value: Any, now_ms: int) -> int:
        """Remember the value; absent values are left out."""
        if value is None:
            return 0
        seen = self.seen.setdefault(subject, {})
        if time_ms > seen.get(value, -1):
            seen[value] = time_ms
        if len(seen) > _PRUNE_AT:
            edge = now_ms - self.within_ms
            self.seen[subject] = {kept: newest for kept, newest in seen.items() if newest > edge}
        return 0

    def ends(self, subject: bytes, _now_ms: int) -> int:
        """Expiry of the value that is the `least`-th newest."""
        seen = self.seen.get(subject)
        if seen is None or len(seen) < self.least:
            return 0
        return sorted(seen.values())[-self.least] + self.within_ms


class Sum:
    """Sum of a number above `over` millionths within `within_ms`: a deque and a running total, in exact integers."""

    __slots__ = ("of", "over", "totals", "within_ms")

    def __init__(self, over: int, within_ms: int) -> None:
        self.over, self.within_ms = over, within_ms
        self.of: dict[bytes, deque[tuple[int, int]]] = {}
        self.totals: dict[bytes, int] = {}

    def add(self, subject: bytes, time_ms: int, value: Any, _now_ms: int) -> int:
        """Add the number; a negative one makes the sum rise when it leaves the window."""
        if value is None:
            return 0
        micro = round(value * 1_000_000)
        pairs = self.of.setdefault(subject, deque())
        if pairs and time_ms < pairs[-1][0]:
            late = list(pairs)
            insort(late, (time_ms, micro))
            pairs.clear()
            pairs.extend(late)
        else:
            pairs.append((time_ms, micro))
        self.totals[subject] = self.totals.get(subject, 0) + micro
        return time_ms + self.within_ms if micro < 0 else 0

    def ends(self, subject: bytes, now_ms: int) -> int:
        """The instant at which enough of the oldest numbers have left."""
        pairs = self.of.get(subject)
        if not pairs:
            return 0
        total, edge = self.totals[subject], now_ms - self.within_ms
        while pairs and pairs[0][0] <= edge:
            total -= pairs.popleft()[1]
        self.totals[subject] = total
        if not pairs or total <= self.over:
            return 0
        before = pairs[0][0]
        for time_ms, micro in pairs:
            if time_ms != before and total <= self.over:
                return before + self.within_ms
            total -= micro
            before = time_ms
        return before + self.within_ms


class TwoSteps:
    """A then B, strictly later, both within `within_ms`, with no C strictly between."""

    __slots__ = ("of", "within_ms")

    def __init__(self, within_ms: int) -> None:
        self.within_ms = within_ms
        self.of: dict[bytes, tuple[list[int], list[int], list[int], list[int]]] = {}

    def add_step(self, role: int, subject: bytes, time_ms: int, now_ms: int) -> bool:
        """Take in an A (0), B (1) or C (2); tells whether the answer may have changed."""
        state = self.of.get(subject)
        if state is None:
            state = self.of[subject] = ([], [], [], [0])
        times, best = state[role], state[3]
        in_order = all(not other or time_ms >= other[-1] for other in state[:3])
        if len(times) > _PRUNE_AT:
            del times[: bisect_right(times, now_ms - self.within_ms)]
        insort(times, time_ms)
        if not in_order:
            best[0] = max((_start(state, at) for at in state[1]), default=0)
        elif role == 1:
            best[0] = max(best[0], _start(state, time_ms))
        return role == 1 or not in_order

    def ends(self, subject: bytes, _now_ms: int) -> int:
        """Expiry of the newest A that a B completed."""
        state = self.of.get(subject)
        return 0 if state is None or state[3][0] == 0 else state[3][0] + self.within_ms


def _start(state: tuple[list[int], list[int], list[int], list[int]], end_ms: int) -> int:
    """Time of the newest A before `end_ms` when no C lies between, else 0."""
    starts, barriers = state[0], state[2]
    index = bisect_left(starts, end_ms) - 1
    if index < 0:
        return 0
    after = bisect_right(barriers, starts[index])
    return 0 if after < len(barriers) and barriers[after] < end_ms else starts[index]


# --- predicates as closures ----------------------------------------------------------------------------------------------


def compiled(predicate: Predicate | None) -> Test | None:
    """A predicate as a Python function over the properties, None when there is nothing to test."""
    if predicate is None:
        return None
    if isinstance(predicate, PredicateNot):
        part = compiled(predicate.part)
        return lambda fields: not (part is None or part(fields))
    if isinstance(predicate, PredicateAnd | PredicateOr):
        parts = [test for test in map(compiled, predicate.parts) if test is not None]
        if isinstance(predicate, PredicateAnd):
            return lambda fields: all(test(fields) for test in parts)
        return lambda fields: any(test(fields) for test in parts)
    name = predicate.field.removeprefix("properties.")
    if isinstance(predicate, FieldPresent):
        return lambda fields: fields.get(name) is not None
    if isinstance(predicate, FieldComparison):
        return _comparison(name, predicate.operator, predicate.value)
    if isinstance(predicate, FieldIn):
        wanted = frozenset((_kind(_plain(value)), _plain(value)) for value in predicate.values)
        return lambda fields: (_kind(fields.get(name)), fields.get(name)) in wanted
    return _text(name, predicate)


def _plain(value: Scalar) -> str | bool | float:
    return float(value) if isinstance(value, Decimal) else value


def _kind(value: object) -> type:
    return float if type(value) is int else type(value)


def _comparison(name: str, sign: str, literal: Scalar) -> Test:
    value: Any = _plain(literal)
    kind = _kind(value)
    tests: dict[str, Callable[[Any], bool]] = {
        "==": lambda found: found == value,
        "!=": lambda found: found != value,
        "<": lambda found: found < value,
        "<=": lambda found: found <= value,
        ">": lambda found: found > value,
        ">=": lambda found: found >= value,
    }
    test = tests[sign]

    def run(fields: Mapping[str, Any]) -> bool:
        found = fields.get(name)
        return found is not None and _kind(found) is kind and test(found)

    return run


def _text(name: str, predicate: FieldText) -> Test:
    wanted, how = predicate.text, predicate.test

    def run(fields: Mapping[str, Any]) -> bool:
        found = fields.get(name)
        if type(found) is not str:
            return False
        if how == "contains":
            return wanted in found
        return found.startswith(wanted) if how == "startsWith" else found.endswith(wanted)

    return run
