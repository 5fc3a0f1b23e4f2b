"""The peer that the engine's bars are measured against: intent tags in plain Python, with dicts, deques and one heap.

It is what a good Python engineer would write for the same rules: incremental, an index from event type to the rules it can
touch, features shared between rules, natural expiry instead of sweeps, a heap for what only time can bring, typed decoding
by msgspec and keyed BLAKE2b pseudonyms. It gives the same answers as the engine for what it supports (the tests compare it
with the brute-force oracle): conjunctions of `count > k`, `distinct >= k`, `sum > x`, `absent` and a sequence of two steps
with `without`. It does not support merges, erasures, rule edits, snapshots or consent over time.

Time it with the garbage collector off: on, it doubles the peer's cost.
"""

import heapq
from collections.abc import Mapping, Sequence
from datetime import datetime
from hashlib import blake2b
from typing import Any, TypeAlias

import msgspec

from dayfly.engine.errors import EngineError
from dayfly.engine.policy.model import Policy
from dayfly.engine.tags.tree import Absent, And, Comparison, EventMatch, Expression, Tag
from dayfly.engine.tags.tree import Sequence as Steps

from .peer_features import (
    NEVER,
    Absence,
    Count,
    Customer,
    Distinct,
    Ends,
    Feature,
    Rule,
    Step,
    Sum,
    Times,
    TwoSteps,
)
from .peer_predicates import compiled

__all__ = ["Fire", "PeerEngine", "SegmentTrack", "UnsupportedTag"]

Fire: TypeAlias = tuple[int, bytes, str]
"""A person entered a tag: instant in ms, pseudonym, tag."""

Row: TypeAlias = tuple[object, bytes, str, int, int, Mapping[str, Any]]
"""Event id, pseudonym, event type, event time and time of receipt in ms, properties."""


class UnsupportedTag(EngineError, ValueError):  # noqa: N818 - reads as the fact it states
    """The peer has no such condition."""


class SegmentTrack(msgspec.Struct, rename="camel"):
    """The part of a Segment `track` payload that the peer reads; msgspec skips the rest."""

    message_id: str
    event: str
    timestamp: datetime
    user_id: str | None = None
    anonymous_id: str | None = None
    properties: dict[str, Any] = {}


class PeerEngine:
    """Tags of one policy over plain Python state.

    Args:
        policy: Its tags and settings are used.
        grants: Pseudonym to the purposes consented to; None: everybody consents to everything.
        key: Key of the pseudonyms in `feed_raw`.

    Raises:
        UnsupportedTag: A tag uses something beyond the peer's subset.
    """

    def __init__(
        self, policy: Policy, *, grants: Mapping[bytes, frozenset[str]] | None = None, key: bytes = bytes(32)
    ) -> None:
        self._lateness_ms = policy.settings.allowed_lateness_ms
        self._skew_ms = policy.settings.future_skew_ms
        self._grants = grants
        self._key = key
        self._decoder = msgspec.json.Decoder(SegmentTrack)
        self._features: dict[str, list[Feature]] = {kind.name: [] for kind in policy.catalog.types}
        self._shared: dict[EventMatch, Times] = {}
        self._distinct: dict[tuple[EventMatch, str], Distinct] = {}
        self._pairs: dict[tuple[EventMatch, EventMatch, EventMatch | None], TwoSteps] = {}
        self._slots = 0
        self._absences: list[Rule] = []
        self._rules = [self._rule(index, tag) for index, tag in enumerate(policy.tags)]
        self._customers: dict[bytes, Customer] = {}
        self._ids: set[object] = set()
        self._timers: list[tuple[int, int, Rule, Customer]] = []
        self._waiting: list[tuple[int, int, Row]] = []
        self._order = 0
        self._fires: list[Fire] = []
        self.clock_ms = 0
        self.touched: list[Rule] = []

    # --- rules ----------------------------------------------------------------------------------------------------

    def _rule(self, index: int, tag: Tag) -> Rule:
        parts = tag.when.parts if isinstance(tag.when, And) else (tag.when,)
        rule = Rule(index, tag.name, tag.purpose)
        rule.parts = [self._part(part, rule) for part in parts]
        if all(isinstance(part, Absent) for part in parts):
            self._absences.append(rule)
        return rule

    def _part(self, part: Expression, rule: Rule) -> Ends:
        if isinstance(part, Absent):
            absence = Absence(self._slot(), compiled(part.match.where), rule, part.within_ms)
            self._features[part.match.event].append(absence)
            return absence.ends
        if isinstance(part, Steps) and len(part.steps) == 2 and part.gap_ms is None and part.quiet_ms is None:
            return self._steps(part, rule)
        if isinstance(part, Comparison):
            return self._measure(part, rule)
        raise UnsupportedTag(
            f"tag={rule.name!r} must use the peer's functions, not {type(part).__name__}; leave it out"
        )

    def _measure(self, part: Comparison, rule: Rule) -> Ends:
        measure, sign, value = part.measure, part.operator, part.value
        if isinstance(value, str | bool) or sign not in (">", ">="):
            raise UnsupportedTag(
                f"tag={rule.name!r} must compare with > or >= a number, not {sign} {value!r}; leave it out"
            )
        least, over = int(value) + (sign == ">"), int(value * 1_000_000) - (sign == ">=")
        if measure.function == "count" and measure.field is None:
            return self._count(measure.match, least, measure.within_ms, rule)
        name, match = (measure.field or "").removeprefix("properties."), measure.match
        if measure.function == "distinct":
            distinct = self._distinct.get((match, name))
            if distinct is None:
                distinct = self._distinct[match, name] = Distinct(self._slot(), compiled(match.where), name)
                self._features[match.event].append(distinct)
            return distinct.listen(least, measure.within_ms, rule)
        if measure.function == "sum":
            total = Sum(
                self._slot(), compiled(match.where), rule, field=name, over=over, within_ms=measure.within_ms
            )
            self._features[match.event].append(total)
            return total.ends
        raise UnsupportedTag(
            f"tag={rule.name!r} must use count, distinct or sum, not {measure.function}; leave it out"
        )

    def _count(self, match: EventMatch, least: int, within_ms: int, rule: Rule) -> Ends:
        times = self._shared.get(match)
        if times is None:
            times = self._shared[match] = Times(self._slot(), compiled(match.where))
            self._features[match.event].append(times)
        times.listen(least, within_ms, rule)
        return Count(times, least, within_ms).ends

    def _steps(self, part: Steps, rule: Rule) -> Ends:
        first, second = part.steps
        pair = self._pairs.get((first, second, part.without))
        if pair is None:
            pair = self._pairs[first, second, part.without] = TwoSteps(self._slot())
            for role, match in ((pair.A, first), (pair.B, second), (pair.C, part.without)):
                if match is not None:
                    self._features[match.event].append(Step(pair, role, compiled(match.where)))
        return pair.listen(part.within_ms, rule)

    def _slot(self) -> int:
        self._slots += 1
        return self._slots - 1

    # --- events ---------------------------------------------------------------------------------------------------

    def feed_raw(self, payloads: Sequence[bytes], received_ms: int) -> list[Fire]:
        """Segment `track` payloads, received together.

        Raises:
            msgspec.DecodeError: A payload is not a `track` call.
        """
        return self.feed_events(self.rows(payloads, received_ms))

    def rows(self, payloads: Sequence[bytes], received_ms: int) -> list[Row]:
        """The intake half of `feed_raw`: typed decoding, pseudonyms, times."""
        decode, key = self._decoder.decode, self._key
        rows: list[Row] = []
        for payload in payloads:
            event = decode(payload)
            raw = event.user_id or event.anonymous_id or ""
            kind = b"user" if event.user_id else b"anonymous"
            subject = blake2b(raw.encode(), digest_size=16, key=key, person=kind).digest()
            time_ms = round(event.timestamp.timestamp() * 1000)
            rows.append((event.message_id, subject, event.event, time_ms, received_ms, event.properties))
        return rows

    def feed_events(self, events: Sequence[Row]) -> list[Fire]:
        """Events in order of receipt; returns the tags entered, by events and by time, in order."""
        fires: list[Fire] = []
        self._fires = fires
        ids = self._ids
        for row in events:
            identity, subject, kind, time_ms, received_ms, fields = row
            if received_ms > self.clock_ms:
                self.advance(received_ms)
            clock_ms = self.clock_ms
            if identity in ids or not clock_ms - self._lateness_ms < time_ms <= clock_ms + self._skew_ms:
                continue
            ids.add(identity)
            if time_ms > clock_ms:
                self._order += 1
                heapq.heappush(self._waiting, (time_ms, self._order, row))
            else:
                self._take_in(subject, kind, time_ms, fields)
        return fires

    def advance(self, now_ms: int) -> list[Fire]:
        """Let time pass; returns the fires of the feed or advance that is going on."""
        timers, waiting = self._timers, self._waiting
        while timers or waiting:
            timer_ms = timers[0][0] if timers else now_ms + 1
            event_ms = waiting[0][0] if waiting else now_ms + 1
            if min(timer_ms, event_ms) > now_ms:
                break
            self.clock_ms = min(timer_ms, event_ms)
            if event_ms <= timer_ms:
                _, subject, kind, time_ms, _, fields = heapq.heappop(waiting)[2]
                self._take_in(subject, kind, time_ms, fields)
            else:
                _, _, rule, customer = heapq.heappop(timers)
                self._judge(rule, customer)
        self.clock_ms = max(self.clock_ms, now_ms)
        return self._fires

    def _take_in(self, subject: bytes, kind: str, time_ms: int, fields: Mapping[str, Any]) -> None:
        features = self._features.get(kind)
        if features is None:
            return
        customer = self._customers.get(subject)
        if customer is None:
            customer = self._customers[subject] = Customer(subject, self._slots, len(self._rules))
            self.touched.extend(self._absences)
        for feature in features:
            feature.feed(self, customer, time_ms, fields)
        if self.touched:
            for rule in self.touched:
                self._judge(rule, customer)
            self.touched.clear()

    def _judge(self, rule: Rule, customer: Customer) -> None:
        now_ms, until_ms = self.clock_ms, NEVER
        for ends in rule.parts:
            end_ms = ends(customer, now_ms)
            if end_ms <= now_ms:
                customer.until[rule.index] = 0
                return
            until_ms = min(until_ms, end_ms)
        self.rise(rule, customer, until_ms)

    def wake(self, at_ms: int, rule: Rule, customer: Customer) -> None:
        """Judge the rule again at `at_ms`."""
        self._order += 1
        heapq.heappush(self._timers, (at_ms, self._order, rule, customer))

    def rise(self, rule: Rule, customer: Customer, until_ms: int) -> None:
        """The rule holds until `until_ms`; fire when it did not hold before."""
        if customer.until[rule.index] <= self.clock_ms and self._may(customer.subject, rule.purpose):
            self._fires.append((self.clock_ms, customer.subject, rule.name))
        customer.until[rule.index] = until_ms

    def _may(self, subject: bytes, purpose: str) -> bool:
        return self._grants is None or purpose in self._grants.get(subject, frozenset())
