"""Per-customer state of the peer engine: what a good Python engineer keeps in dicts and deques, updated event by event.

A customer is found once per event; its features are slots of one list. Every feature answers `ends(customer, now)`: the
instant at which its condition stops holding if nothing more arrives, or something not later than `now` when it does not
hold. So no sweep is needed to know that a tag is over.
"""

from bisect import bisect_right, insort
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, Final, Protocol, TypeAlias

from .peer_predicates import Test

__all__ = [
    "NEVER",
    "Absence",
    "Count",
    "Customer",
    "Distinct",
    "Ends",
    "Engine",
    "Feature",
    "Rule",
    "Step",
    "Sum",
    "Times",
    "TwoSteps",
]

NEVER: Final = 2**63 - 1
_PRUNE_AT: Final = 64


class Customer:
    """One customer: a slot per feature, and per rule the instant until which it is held."""

    __slots__ = ("slots", "subject", "until")

    def __init__(self, subject: bytes, features: int, rules: int) -> None:
        self.subject = subject
        self.slots: list[Any] = [None] * features
        self.until = [0] * rules


Ends: TypeAlias = Callable[[Customer, int], int]


class Rule:
    """A tag as a conjunction of parts."""

    __slots__ = ("index", "name", "parts", "purpose")

    def __init__(self, index: int, name: str, purpose: str) -> None:
        self.index, self.name, self.purpose = index, name, purpose
        self.parts: list[Ends] = []


class Engine(Protocol):
    """What a feature asks of the engine it stands in."""

    clock_ms: int
    touched: list[Rule]

    def wake(self, at_ms: int, rule: Rule, customer: Customer) -> None:
        """Judge the rule again at `at_ms`, when time alone may have made it true."""

    def rise(self, rule: Rule, customer: Customer, until_ms: int) -> None:
        """The rule holds until `until_ms`; tell it when it did not hold before."""


class Feature(Protocol):
    """State of one condition over one event type."""

    def feed(self, engine: Engine, customer: Customer, time_ms: int, fields: Mapping[str, Any]) -> None:
        """Take an event in; rules that may change are touched, to be judged when all features are up to date."""


class Times:
    """The newest timestamps of each customer, as many as the largest threshold needs; shared by rules over one event.

    A list, not a deque: a deque takes 760 bytes before its second timestamp, and these stay short.
    """

    __slots__ = ("capacity", "slot", "thresholds", "where")

    def __init__(self, slot: int, where: Test | None) -> None:
        self.slot, self.where = slot, where
        self.capacity = 1
        self.thresholds: list[tuple[int, int, Rule]] = []

    def listen(self, least: int, within_ms: int, rule: Rule) -> None:
        """One more rule over the same event."""
        self.capacity = max(self.capacity, least)
        self.thresholds = sorted([*self.thresholds, (least, within_ms, rule)], key=lambda item: item[0])

    def feed(self, engine: Engine, customer: Customer, time_ms: int, fields: Mapping[str, Any]) -> None:
        """Remember one timestamp; a count never falls by an event, so only thresholds that are met matter."""
        if self.where is not None and not self.where(fields):
            return
        times = customer.slots[self.slot]
        if times is None:
            times = customer.slots[self.slot] = [time_ms]
        elif time_ms >= times[-1]:
            times.append(time_ms)
        else:
            insort(times, time_ms)
        if len(times) > self.capacity:
            del times[0]
        count, now_ms = len(times), engine.clock_ms
        for least, within_ms, rule in self.thresholds:
            if count < least:
                break
            end_ms = times[-least] + within_ms
            if end_ms > now_ms:
                if len(rule.parts) == 1:
                    engine.rise(rule, customer, end_ms)
                else:
                    engine.touched.append(rule)


class Count:
    """At least `least` events within `within_ms`, over shared timestamps."""

    __slots__ = ("least", "slot", "within_ms")

    def __init__(self, times: Times, least: int, within_ms: int) -> None:
        self.slot, self.least, self.within_ms = times.slot, least, within_ms

    def ends(self, customer: Customer, _now_ms: int) -> int:
        """The deciding event's expiry."""
        times = customer.slots[self.slot]
        return 0 if times is None or len(times) < self.least else times[-self.least] + self.within_ms


class Absence:
    """No event within `within_ms`."""

    __slots__ = ("rule", "slot", "where", "within_ms")

    def __init__(self, slot: int, where: Test | None, rule: Rule, within_ms: int) -> None:
        self.slot, self.where, self.rule, self.within_ms = slot, where, rule, within_ms

    def feed(self, engine: Engine, customer: Customer, time_ms: int, fields: Mapping[str, Any]) -> None:
        """Remember the newest event; the condition becomes true when it has left the window."""
        if self.where is not None and not self.where(fields):
            return
        newest = customer.slots[self.slot]
        if newest is None or time_ms > newest:
            customer.slots[self.slot] = newest = time_ms
        if newest + self.within_ms > engine.clock_ms:
            engine.wake(newest + self.within_ms, self.rule, customer)
        engine.touched.append(self.rule)

    def ends(self, customer: Customer, now_ms: int) -> int:
        """Never, once it holds."""
        newest = customer.slots[self.slot]
        return NEVER if newest is None or newest + self.within_ms <= now_ms else 0


class Distinct:
    """Different values within a window: a dict from value to its newest time, shared by rules over one property."""

    __slots__ = ("field", "least", "rules", "slot", "where", "within_ms")

    def __init__(self, slot: int, where: Test | None, field: str) -> None:
        self.slot, self.where, self.field = slot, where, field
        self.least, self.within_ms = NEVER, 0
        self.rules: list[Rule] = []

    def listen(self, least: int, within_ms: int, rule: Rule) -> Ends:
        """One more rule over the same property."""
        self.least, self.within_ms = min(self.least, least), max(self.within_ms, within_ms)
        self.rules.append(rule)

        def ends(customer: Customer, _now_ms: int) -> int:
            """Expiry of the value that is the `least`-th newest."""
            seen = customer.slots[self.slot]
            return 0 if seen is None or len(seen) < least else sorted(seen.values())[-least] + within_ms

        return ends

    def feed(self, engine: Engine, customer: Customer, time_ms: int, fields: Mapping[str, Any]) -> None:
        """Remember the value; absent values are left out."""
        value = fields.get(self.field)
        if value is None or (self.where is not None and not self.where(fields)):
            return
        seen = customer.slots[self.slot]
        if seen is None:
            seen = customer.slots[self.slot] = {}
        if time_ms > seen.get(value, -1):
            seen[value] = time_ms
        if len(seen) > _PRUNE_AT:
            edge = engine.clock_ms - self.within_ms
            customer.slots[self.slot] = {kept: newest for kept, newest in seen.items() if newest > edge}
        if len(seen) >= self.least:
            engine.touched.extend(self.rules)


class Sum:
    """Sum of a number above `over` millionths within `within_ms`: a deque and a running total, in exact integers."""

    __slots__ = ("field", "over", "rule", "slot", "where", "within_ms")

    def __init__(
        self, slot: int, where: Test | None, rule: Rule, *, field: str, over: int, within_ms: int
    ) -> None:
        self.slot, self.where, self.rule = slot, where, rule
        self.field, self.over, self.within_ms = field, over, within_ms

    def feed(self, engine: Engine, customer: Customer, time_ms: int, fields: Mapping[str, Any]) -> None:
        """Add the number; a negative one makes the sum rise when it leaves the window."""
        value = fields.get(self.field)
        if value is None or (self.where is not None and not self.where(fields)):
            return
        micro = round(value * 1_000_000)
        state = customer.slots[self.slot]
        if state is None:
            state = customer.slots[self.slot] = [0, deque()]
        pairs = state[1]
        if pairs and time_ms < pairs[-1][0]:
            late = list(pairs)
            insort(late, (time_ms, micro))
            state[1] = deque(late)
        else:
            pairs.append((time_ms, micro))
        state[0] += micro
        if micro < 0 and time_ms + self.within_ms > engine.clock_ms:
            engine.wake(time_ms + self.within_ms, self.rule, customer)
        engine.touched.append(self.rule)

    def ends(self, customer: Customer, now_ms: int) -> int:
        """The instant at which enough of the oldest numbers have left."""
        state = customer.slots[self.slot]
        if state is None:
            return 0
        total, pairs = state
        edge = now_ms - self.within_ms
        while pairs and pairs[0][0] <= edge:
            total -= pairs.popleft()[1]
        state[0] = total
        if not pairs or total <= self.over:
            return 0
        before: int = pairs[0][0]
        for time_ms, micro in pairs:
            if time_ms != before and total <= self.over:
                break
            total -= micro
            before = time_ms
        return before + self.within_ms


class TwoSteps:
    """A then B, strictly later, both within the window, with no C strictly between; shared by rules over one pair.

    Per customer: the newest A that a B completed, and a sorted list of time x 4 + role, so that at one instant B comes
    before C and C before A.
    """

    B: Final = 0
    C: Final = 1
    A: Final = 2

    __slots__ = ("rules", "slot", "within_ms")

    def __init__(self, slot: int) -> None:
        self.slot, self.within_ms = slot, 0
        self.rules: list[Rule] = []

    def listen(self, within_ms: int, rule: Rule) -> Ends:
        """One more rule over the same pair."""
        self.within_ms = max(self.within_ms, within_ms)
        self.rules.append(rule)

        def ends(customer: Customer, _now_ms: int) -> int:
            """Expiry of the newest A that a B completed."""
            state = customer.slots[self.slot]
            return 0 if state is None or state[0] == 0 else state[0] + within_ms

        return ends

    def take(self, role: int, engine: Engine, customer: Customer, time_ms: int) -> None:
        """Take in an A, B or C; only a B, or something out of order, changes the answer."""
        code = time_ms * 4 + role
        state = customer.slots[self.slot]
        if state is None:
            customer.slots[self.slot] = [0, [code]]
            return
        codes = state[1]
        if len(codes) > _PRUNE_AT:
            del codes[: bisect_right(codes, (engine.clock_ms - self.within_ms) * 4 + 3)]
        if not codes or code >= codes[-1]:
            codes.append(code)
            if role != TwoSteps.B:
                return
            state[0] = max(state[0], _start(codes, len(codes) - 1))
        else:
            insort(codes, code)
            completed = (_start(codes, at) for at, known in enumerate(codes) if known % 4 == TwoSteps.B)
            state[0] = max(completed, default=0)
        engine.touched.extend(self.rules)


class Step:
    """One role of `TwoSteps`, listening to its event type."""

    __slots__ = ("role", "steps", "where")

    def __init__(self, steps: TwoSteps, role: int, where: Test | None) -> None:
        self.steps, self.role, self.where = steps, role, where

    def feed(self, engine: Engine, customer: Customer, time_ms: int, fields: Mapping[str, Any]) -> None:
        """Pass an event that matches on."""
        if self.where is None or self.where(fields):
            self.steps.take(self.role, engine, customer, time_ms)


def _start(codes: list[int], end: int) -> int:
    """Time of the newest A before the B at `end` when no C lies between, else 0; what is before it in order is earlier."""
    for code in reversed(codes[:end]):
        if code % 4 != TwoSteps.B:
            return code // 4 if code % 4 == TwoSteps.A else 0
    return 0
