"""The straightforward peer: per customer and condition one deque of what happened within its window, and a heap of expiries.

What a Python engineer writes first, and what the bar of issue 2 names: every event goes into the deque of every condition
that listens to its type, what has left a window is dropped when the deque is looked at next, and conditions are counted anew.
Only what time alone can bring in (an absence, a sum that a negative number leaves) has timers. Exact, by event type, nothing
shared between rules. `peer_engine` is the same after a tuning pass; its ratio is reported too.
"""

from bisect import insort
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from typing import Any, NamedTuple, TypeAlias

from dayfly.engine.policy.model import Policy
from dayfly.engine.tags.tree import Absent, And, Comparison, EventMatch, Expression, Measure, Tag
from dayfly.engine.tags.tree import Sequence as Steps

from .peer_engine import PeerEngine, UnsupportedTag
from .peer_features import Customer, Rule
from .peer_predicates import Test, compiled

__all__ = ["PlainEngine"]

Entry: TypeAlias = tuple[int, Any]
"""Event time, and what the condition needs of the event: its value, or its role in a sequence."""

Holds: TypeAlias = Callable[[Sequence[Entry]], bool]

_B, _C, _A = 0, 1, 2
"""Roles of a sequence, in their order at one instant."""


class Condition(NamedTuple):
    """One condition of one rule: slot, window, what must hold of the entries in it, whether time alone can bring it in."""

    slot: int
    within_ms: int
    holds: Holds
    timed: bool


class Listener(NamedTuple):
    """Where an event of one type goes: which rule, which condition, if what passes, and what is kept of it."""

    rule: Rule
    condition: Condition
    test: Test | None
    field: str | None
    role: int


class PlainEngine(PeerEngine):
    """Tags of one policy over dicts, deques and a heap. Same interface and same answers as `PeerEngine`."""

    def __init__(
        self, policy: Policy, *, grants: Mapping[bytes, frozenset[str]] | None = None, key: bytes = bytes(32)
    ) -> None:
        self._listening: dict[str, list[Listener]] = {kind.name: [] for kind in policy.catalog.types}
        self._conditions: dict[int, list[Condition]] = {}
        super().__init__(policy, grants=grants, key=key)

    def _rule(self, index: int, tag: Tag) -> Rule:
        rule = Rule(index, tag.name, tag.purpose)
        parts = tag.when.parts if isinstance(tag.when, And) else (tag.when,)
        self._conditions[index] = [self._condition(part, rule) for part in parts]
        if all(isinstance(part, Absent) for part in parts):
            self._absences.append(rule)
        return rule

    def _condition(self, part: Expression, rule: Rule) -> Condition:
        if isinstance(part, Absent):
            return self._listen(
                Condition(self._slot(), part.within_ms, _nothing, timed=True), rule, part.match
            )
        if isinstance(part, Steps) and len(part.steps) == 2 and part.gap_ms is None and part.quiet_ms is None:
            condition = Condition(self._slot(), part.within_ms, _in_sequence, timed=False)
            for role, match in ((_A, part.steps[0]), (_B, part.steps[1]), (_C, part.without)):
                if match is not None:
                    self._listen(condition, rule, match, role=role)
            return condition
        if (
            isinstance(part, Comparison)
            and part.operator in (">", ">=")
            and not isinstance(part.value, str | bool)
        ):
            return self._compared(part.measure, part.value, rule, strict=part.operator == ">")
        raise UnsupportedTag(f"tag={rule.name!r} must use the peer's functions; leave it out")

    def _compared(self, measure: Measure, value: Decimal, rule: Rule, *, strict: bool) -> Condition:
        field = None if measure.field is None else measure.field.removeprefix("properties.")
        bound = int(value)
        if measure.function == "count" and field is None:
            holds = _count_above(bound - (not strict))
        elif measure.function == "distinct":
            holds = _distinct_above(bound - (not strict))
        elif measure.function == "sum":
            holds = _sum_above(int(value * 1_000_000) - (not strict))
        else:
            raise UnsupportedTag(f"tag={rule.name!r} must use count, distinct or sum; leave it out")
        timed = measure.function == "sum"
        condition = Condition(self._slot(), measure.within_ms, holds, timed)
        return self._listen(condition, rule, measure.match, field=field)

    def _listen(
        self, condition: Condition, rule: Rule, match: EventMatch, *, field: str | None = None, role: int = _A
    ) -> Condition:
        listener = Listener(rule, condition, compiled(match.where), field, role)
        self._listening[match.event].append(listener)
        return condition

    def _take_in(self, subject: bytes, kind: str, time_ms: int, fields: Mapping[str, Any]) -> None:
        customer = self._customers.get(subject)
        touched: dict[int, Rule] = {}
        if kind not in self._listening:
            return
        if customer is None:
            customer = self._customers[subject] = Customer(subject, self._slots, len(self._conditions))
            touched = {rule.index: rule for rule in self._absences}
        heard: list[tuple[Listener, Any]] = []
        for listener in self._listening[kind]:
            if listener.test is None or listener.test(fields):
                kept = listener.role if listener.field is None else fields.get(listener.field)
                if kept is not None:
                    heard.append((listener, kept))
        for listener, _ in heard:
            if customer.until[listener.rule.index]:
                self._judge(listener.rule, customer)  # it may have ended since it was looked at last
        for listener, kept in heard:
            self._keep(customer, listener, time_ms, kept)
            touched[listener.rule.index] = listener.rule
        for rule in touched.values():
            self._judge(rule, customer)

    def _keep(self, customer: Customer, listener: Listener, time_ms: int, kept: Any) -> None:
        condition = listener.condition
        entries = customer.slots[condition.slot]
        if entries is None:
            entries = customer.slots[condition.slot] = deque()
        if entries and time_ms < entries[-1][0]:
            late = list(entries)
            insort(late, (time_ms, kept), key=_when)
            customer.slots[condition.slot] = deque(late)
        else:
            entries.append((time_ms, kept))
        if condition.timed and time_ms + condition.within_ms > self.clock_ms:
            self.wake(time_ms + condition.within_ms, listener.rule, customer)

    def _judge(self, rule: Rule, customer: Customer) -> None:
        now_ms = self.clock_ms
        holds = True
        for slot, within_ms, test, _ in self._conditions[rule.index]:
            entries = customer.slots[slot] or ()
            while entries and entries[0][0] <= now_ms - within_ms:
                entries.popleft()
            holds = holds and test(entries)
        if holds and not customer.until[rule.index] and self._may(customer.subject, rule.purpose):
            self._fires.append((now_ms, customer.subject, rule.name))
        customer.until[rule.index] = int(holds)


def _when(entry: Entry) -> int:
    return entry[0]


def _nothing(entries: Sequence[Entry]) -> bool:
    return not entries


def _count_above(bound: int) -> Holds:
    return lambda entries: len(entries) > bound


def _distinct_above(bound: int) -> Holds:
    return lambda entries: len({value for _, value in entries}) > bound


def _sum_above(bound_micro: int) -> Holds:
    return lambda entries: (
        bool(entries) and sum(round(value * 1_000_000) for _, value in entries) > bound_micro
    )


def _in_sequence(entries: Sequence[Entry]) -> bool:
    """An A, then strictly later a B, with no C strictly between."""
    open_ = False
    for _, role in sorted(entries):
        if role == _B and open_:
            return True
        if role != _B:
            open_ = role == _A
    return False
