"""The peer that the engine's bars are measured against: intent tags in plain Python, with dicts, deques and one heap.

It is what a good Python engineer would write for the same rules: incremental, an index from event type to the rules it can
touch, features shared between rules, natural expiry instead of sweeps, a heap for what only time can bring, typed decoding
by msgspec and keyed BLAKE2b pseudonyms. It gives the same answers as the engine for what it supports (the tests compare it
with the brute-force oracle): conjunctions of `count > k`, `distinct >= k`, `sum > x`, `absent` and a sequence of two steps
with `without`. It does not support merges, erasures, rule edits, snapshots or consent over time.
"""

import heapq
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from hashlib import blake2b
from typing import Any, TypeAlias

import msgspec

from dayfly.engine.errors import EngineError
from dayfly.engine.policy.model import Policy
from dayfly.engine.tags.tree import Absent, And, Comparison, EventMatch, Expression, Tag
from dayfly.engine.tags.tree import Sequence as Steps

from .peer_features import Absence, Count, Distinct, Feature, Sum, Test, Times, TwoSteps, compiled

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


@dataclass(slots=True, eq=False)
class _Rule:
    """A tag as a conjunction, and until when each customer holds it."""

    name: str
    purpose: str
    ends: list[Callable[[bytes, int], int]]
    only_absence: bool
    until: dict[bytes, int] = field(default_factory=dict)


@dataclass(slots=True, eq=False)
class _Listener:
    """What one event type feeds: a feature (with the property it reads) and the rules that its change can touch."""

    where: Test | None
    field: str | None
    add: Callable[[bytes, int, Any, int], int]
    rules: list[_Rule]
    step: Callable[[bytes, int, int], bool] | None = None


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
        self._listeners: dict[str, list[_Listener]] = {kind.name: [] for kind in policy.catalog.types}
        self._shared: dict[object, tuple[Times, _Listener]] = {}
        self._rules = [self._rule(tag) for tag in policy.tags]
        self._absences = [rule for rule in self._rules if rule.only_absence]
        self._known: set[bytes] = set()
        self._ids: set[object] = set()
        self._timers: list[tuple[int, int, bytes, _Rule]] = []
        self._waiting: list[tuple[int, int, Row]] = []
        self._order = 0
        self._clock_ms = 0
        self._fires: list[Fire] = []

    # --- rules ----------------------------------------------------------------------------------------------------

    def _rule(self, tag: Tag) -> _Rule:
        parts = tag.when.parts if isinstance(tag.when, And) else (tag.when,)
        rule = _Rule(tag.name, tag.purpose, [], all(isinstance(part, Absent) for part in parts))
        for part in parts:
            rule.ends.append(self._part(part, rule))
        return rule

    def _part(self, part: Expression, rule: _Rule) -> Callable[[bytes, int], int]:
        if isinstance(part, Absent):
            feature: Feature = Absence(part.within_ms)
            self._listen(part.match, None, feature.add, rule)
            return feature.ends
        if isinstance(part, Steps) and len(part.steps) == 2 and part.gap_ms is None and part.quiet_ms is None:
            return self._steps(part, rule)
        if isinstance(part, Comparison):
            return self._measure(part, rule)
        raise UnsupportedTag(
            f"tag={rule.name!r} must use the peer's functions, not {type(part).__name__}; leave it out"
        )

    def _measure(self, part: Comparison, rule: _Rule) -> Callable[[bytes, int], int]:
        measure, sign, value = part.measure, part.operator, part.value
        if isinstance(value, str | bool) or sign not in (">", ">="):
            raise UnsupportedTag(
                f"tag={rule.name!r} must compare with > or >= a number, not {sign} {value!r}; leave it out"
            )
        if measure.function == "count" and measure.field is None:
            return self._count(measure.match, int(value) + (sign == ">"), measure.within_ms, rule)
        feature: Feature
        if measure.function == "distinct":
            feature = Distinct(int(value) + (sign == ">"), measure.within_ms)
        elif measure.function == "sum":
            feature = Sum(int(value * 1_000_000) - (sign == ">="), measure.within_ms)
        else:
            raise UnsupportedTag(
                f"tag={rule.name!r} must use count, distinct or sum, not {measure.function}; leave it out"
            )
        name = (measure.field or "").removeprefix("properties.")
        self._listen(measure.match, name, feature.add, rule)
        return feature.ends

    def _count(
        self, match: EventMatch, least: int, within_ms: int, rule: _Rule
    ) -> Callable[[bytes, int], int]:
        if match not in self._shared:
            times = Times()
            self._shared[match] = times, self._listen(match, None, times.add, rule)
        else:
            listener = self._shared[match][1]
            if rule not in listener.rules:
                listener.rules.append(rule)
        return Count(self._shared[match][0], least, within_ms).ends

    def _steps(self, part: Steps, rule: _Rule) -> Callable[[bytes, int], int]:
        feature = TwoSteps(part.within_ms)
        roles = (*part.steps, part.without) if part.without is not None else part.steps
        for role, match in enumerate(roles):
            listener = self._listen(match, None, _nothing, rule)
            listener.step = partial(feature.add_step, role)
        return feature.ends

    def _listen(
        self, match: EventMatch, name: str | None, add: Callable[[bytes, int, Any, int], int], rule: _Rule
    ) -> _Listener:
        listener = _Listener(compiled(match.where), name, add, [rule])
        self._listeners[match.event].append(listener)
        return listener

    # --- events ---------------------------------------------------------------------------------------------------

    def feed_raw(self, payloads: Sequence[bytes], received_ms: int) -> list[Fire]:
        """Segment `track` payloads, received together.

        Raises:
            msgspec.DecodeError: A payload is not a `track` call.
        """
        decode, key = self._decoder.decode, self._key
        rows: list[Row] = []
        for payload in payloads:
            event = decode(payload)
            raw = event.user_id or event.anonymous_id or ""
            kind = b"user" if event.user_id else b"anonymous"
            subject = blake2b(raw.encode(), digest_size=16, key=key, person=kind).digest()
            time_ms = round(event.timestamp.timestamp() * 1000)
            rows.append((event.message_id, subject, event.event, time_ms, received_ms, event.properties))
        return self.feed_events(rows)

    def feed_events(self, events: Sequence[Row]) -> list[Fire]:
        """Events in order of receipt; returns the tags entered, by events and by time, in order."""
        fires: list[Fire] = []
        self._fires = fires
        ids = self._ids
        for row in events:
            identity, _, _, time_ms, received_ms, _ = row
            if received_ms > self._clock_ms:
                self.advance(received_ms)
            clock_ms = self._clock_ms
            if identity in ids or not clock_ms - self._lateness_ms < time_ms <= clock_ms + self._skew_ms:
                continue
            ids.add(identity)
            if time_ms > clock_ms:
                self._order += 1
                heapq.heappush(self._waiting, (time_ms, self._order, row))
            else:
                self._take_in(row)
        return fires

    def advance(self, now_ms: int) -> list[Fire]:
        """Let time pass; returns the fires of the feed or advance that is going on."""
        timers, waiting = self._timers, self._waiting
        while True:
            timer_ms = timers[0][0] if timers else now_ms + 1
            event_ms = waiting[0][0] if waiting else now_ms + 1
            if min(timer_ms, event_ms) > now_ms:
                break
            self._clock_ms = min(timer_ms, event_ms)
            if event_ms <= timer_ms:
                self._take_in(heapq.heappop(waiting)[2])
            else:
                _, _, subject, rule = heapq.heappop(timers)
                self._judge(rule, subject)
        self._clock_ms = max(self._clock_ms, now_ms)
        return self._fires

    def _take_in(self, row: Row) -> None:
        _, subject, kind, time_ms, _, fields = row
        listeners = self._listeners.get(kind)
        if listeners is None:
            return
        clock_ms = self._clock_ms
        touched: dict[_Rule, None] = {}
        if subject not in self._known:
            self._known.add(subject)
            touched.update(dict.fromkeys(self._absences))
        for listener in listeners:
            if listener.where is not None and not listener.where(fields):
                continue
            if listener.step is not None:
                if not listener.step(subject, time_ms, clock_ms):
                    continue
            else:
                value = fields.get(listener.field) if listener.field is not None else None
                timer_ms = listener.add(subject, time_ms, value, clock_ms)
                if timer_ms > clock_ms:
                    self._order += 1
                    heapq.heappush(self._timers, (timer_ms, self._order, subject, listener.rules[0]))
            for rule in listener.rules:
                touched[rule] = None
        for rule in touched:
            self._judge(rule, subject)

    def _judge(self, rule: _Rule, subject: bytes) -> None:
        now_ms = self._clock_ms
        until_ms = 2**63 - 1
        for ends in rule.ends:
            end_ms = ends(subject, now_ms)
            if end_ms <= now_ms:
                rule.until.pop(subject, None)
                return
            until_ms = min(until_ms, end_ms)
        if rule.until.get(subject, 0) <= now_ms and self._may(subject, rule.purpose):
            self._fires.append((now_ms, subject, rule.name))
        rule.until[subject] = until_ms

    def _may(self, subject: bytes, purpose: str) -> bool:
        return self._grants is None or purpose in self._grants.get(subject, frozenset())


def _nothing(_subject: bytes, _time_ms: int, _value: Any, _now_ms: int) -> int:
    return 0
