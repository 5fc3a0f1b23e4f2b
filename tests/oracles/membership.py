"""Who carries which tag, by brute force: the judge of the shard, written from the specification and sharing none of its code.

`OracleEngine` remembers every accepted event as a Python value and answers each question by recounting. It keeps no window
state. With `track=True` it also finds every change of membership, by recounting at each instant at which an event's time
plus a constant of a rule, or a boundary of a consent, says that something could change.

Semantics, where the specification leaves room:

* The clock only rises; what time brings happens at its exact instant: waiting events are taken in, then all that changes
  is found by one recount, so two flips at one instant leave no trace. An input then happens by itself at the same instant.
* A refused or dead event is not remembered: the same id may come again and be accepted. An erased person's ids are.
* A consent object inside an event is read before the event asks for the consent of its channel.
* A withdrawal dates from its own `at_ms`; a merge from the clock, when both histories become one.
* Triggers, orders and use budgets are not modelled: policies given to the oracle have none.
"""

import heapq
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from typing import Literal

from dayfly.engine.catalog import Catalog
from dayfly.engine.events import EventBatch
from dayfly.engine.inputs import ConsentGiven, ConsentWithdrawn, Erase, Input, Merge, Publish
from dayfly.engine.policy.model import Channel, Policy
from dayfly.engine.tags.tree import Measure, Tag
from tests.oracles.consent_rules import FOREVER, ConsentRules
from tests.oracles.people import People, Person, Waiting
from tests.oracles.recount import (
    Cell,
    Recorded,
    View,
    distinct_values,
    edges,
    holds,
    measured,
    mentioned_tags,
)
from tests.oracles.unpack import Arrived, rows_of

__all__ = ["FOREVER", "OracleChange", "OracleEngine"]


@dataclass(frozen=True, slots=True)
class OracleChange:
    """A change of membership. `reasons` are those that a leave may give; `until_ms` of an enter is what time alone ends."""

    at_ms: int
    subject: bytes
    tag: str
    change: Literal["enter", "leave"]
    until_ms: int = 0
    reasons: frozenset[str] = frozenset()


class OracleEngine:
    """All events of everybody, recounted at every question.

    Attributes:
        clock_ms: The instant up to which everything has happened.
        counts: Events by outcome: accepted, waiting, duplicate, too_late, too_far_ahead, refused, undeclared.
        dead: (batch number, index in its batch, reason) of each dead letter.
        log: Every change found so far (tracked only).
    """

    def __init__(
        self, policy: Policy, consents: ConsentRules, *, track: bool = False, untils: bool = False
    ) -> None:
        self.consents = consents
        self.track = track
        self.untils = untils
        self.clock_ms = -FOREVER
        self.people = People(consents.empty)
        self.counts: Counter[str] = Counter()
        self.dead: list[tuple[int, int, str]] = []
        self.log: list[OracleChange] = []
        self._seen: set[bytes] = set()
        self._waiting: list[tuple[int, int, Waiting]] = []
        self._instants: list[tuple[int, bytes, str]] = []
        self._arrivals = 0
        self._batches = 0
        self._use(policy)

    def _use(self, policy: Policy) -> None:
        self.policy = policy
        self._slots = [
            {spec.name: slot for slot, spec in enumerate(kind.fields)} for kind in policy.catalog.types
        ]
        self._tags = {tag.name: tag for tag in policy.tags}
        self._edges = {tag.name: self._edges_of(tag) for tag in policy.tags}
        self._door = {channel.name: channel for channel in policy.channels}

    def _edges_of(self, tag: Tag) -> set[int]:
        found = edges(tag.when, self.policy.settings.history_ms)
        return found.union(*(self._edges_of(self._tags[name]) for name in mentioned_tags(tag.when)))

    # --- telling it -----------------------------------------------------------------------------------------------

    def apply(self, inputs: Iterable[Input], now_ms: int) -> list[OracleChange]:
        """Take `inputs` in and let time pass until `now_ms`; returns the changes that this brought (tracked only)."""
        start = len(self.log)
        for item in inputs:
            if isinstance(item, EventBatch):
                for index, row in enumerate(rows_of(item, self._catalog)):
                    self._pass_time(row.received_ms)
                    self._receive(row, index)
                self._batches += 1
            else:
                self._pass_time(item.at_ms)
                self._act(item)
        self._pass_time(now_ms)
        return self.log[start:]

    @property
    def _catalog(self) -> Catalog:
        return self.policy.catalog

    def _pass_time(self, until_ms: int) -> None:
        while True:
            ahead = [queue[0][0] for queue in (self._waiting, self._instants) if queue]
            if not ahead or min(ahead) > until_ms:
                break
            self._happen(min(ahead))
        self.clock_ms = max(self.clock_ms, until_ms)

    def _happen(self, instant_ms: int) -> None:
        """Everything that time alone brings at one instant."""
        self.clock_ms = max(self.clock_ms, instant_ms)
        touched: dict[bytes, set[str]] = {}
        while self._waiting and self._waiting[0][0] <= instant_ms:
            waiting = heapq.heappop(self._waiting)[2]
            self._take_in(waiting.row, waiting.event)
            touched[waiting.row.subject] = set(self._tags)
        while self._instants and self._instants[0][0] <= instant_ms:
            _, pseudonym, tag = heapq.heappop(self._instants)
            touched.setdefault(pseudonym, set()).update([tag] if tag else self._tags)
        for pseudonym, tags in touched.items():
            person = self.people.known(pseudonym)
            if person is not None:
                self._settle(person, tags)

    def _receive(self, row: Arrived, index: int) -> None:
        """Judge one event at the clock; whatever it brings is told once, at its end."""
        settings = self.policy.settings
        if row.event_id in self._seen:
            self.counts["duplicate"] += 1
        elif row.time_ms <= self.clock_ms - settings.allowed_lateness_ms:
            self._bury(index, "too_late")
        elif row.time_ms > self.clock_ms + settings.future_skew_ms:
            self._bury(index, "too_far_ahead")
        else:
            self._enter(row)
            person = self.people.known(row.subject)
            if person is not None:
                self._settle_all(person)

    def _enter(self, row: Arrived) -> None:
        """An event in time and not seen before: its consent object is read, then the door decides."""
        channel = self._door.get(row.channel, Channel(row.channel))
        if row.consent is not None:
            person = self.people.meet(row.subject)
            person.consents = self.consents.observed(
                person.consents, row.consent, row.subject, channel, row.time_ms
            )
        if channel.collect_under is not None and not self._may_collect(
            row.subject, channel.collect_under, row.channel
        ):
            self.counts["refused"] += 1
        elif row.type < 0:
            self.counts["undeclared"] += 1
        else:
            self._accept(row)

    def _bury(self, index: int, reason: str) -> None:
        self.counts[reason] += 1
        self.dead.append((self._batches, index, reason))

    def _may_collect(self, subject: bytes, purpose: str, channel: str) -> bool:
        person = self.people.known(subject)
        return person is not None and self.consents.may_collect(
            person.consents, purpose, channel, self.clock_ms
        )

    def _accept(self, row: Arrived) -> None:
        self._seen.add(row.event_id)
        self._arrivals += 1
        kind = self._catalog.types[row.type].name
        event = Recorded(kind, row.time_ms, self._arrivals, row.channel, self._slots[row.type], row.values)
        if row.time_ms > self.clock_ms:
            self.counts["waiting"] += 1
            waiting = Waiting(row.time_ms, self._arrivals, row, event)
            heapq.heappush(self._waiting, (row.time_ms, self._arrivals, waiting))
            return
        self._take_in(row, event)

    def _take_in(self, row: Arrived, event: Recorded) -> None:
        self.counts["accepted"] += 1
        person = self.people.meet(row.subject)
        person.events.setdefault(event.type, []).append(event)
        self._foresee(person, [event.time_ms])
        if row.link is not None:
            self._merge(row.subject, row.link)

    def _act(self, item: Input) -> None:
        if isinstance(item, ConsentGiven):
            person = self.people.meet(item.subject)
            person.consents = self.consents.given(person.consents, item.record)
            self._settle_all(person)
        elif isinstance(item, ConsentWithdrawn):
            person = self.people.meet(item.subject)
            person.consents = self.consents.withdrawn(
                person.consents, item.purpose, item.topic, self.clock_ms
            )
            self._settle_all(person)
        elif isinstance(item, Merge):
            self._merge(item.subject, item.other)
            self._settle_all(self.people.meet(item.subject))
        elif isinstance(item, Erase):
            self._erase(item.subject)
        elif isinstance(item, Publish):
            self._publish(item.policy)

    def _merge(self, subject: bytes, other: bytes) -> None:
        stays, goes = self.people.meet(subject), self.people.meet(other)
        if stays is goes:
            return
        for tag in self._tags:
            if tag in goes.held:
                self._emit(goes, tag, "leave", frozenset({"merged"}))
        link = (subject, other)
        self.people.join(
            stays, goes, self.consents.merged(stays.consents, goes.consents, self.clock_ms, link)
        )

    def _erase(self, subject: bytes) -> None:
        person = self.people.known(subject)
        gone = {subject} if person is None else person.pseudonyms
        self._waiting = [item for item in self._waiting if item[2].row.subject not in gone]
        heapq.heapify(self._waiting)
        if person is not None:
            for tag in self._tags:
                if tag in person.held:
                    self._emit(person, tag, "leave", frozenset({"erased"}))
            self.people.forget(person)

    def _publish(self, policy: Policy) -> None:
        before = list(self._tags)
        self._use(policy)
        for person in self.people.all():
            for tag in before:
                if tag in person.held and tag not in self._tags:
                    self._emit(person, tag, "leave", frozenset({"unpublished"}))
                    person.held.discard(tag)
            self._foresee(person, person.times())
            self._settle_all(person)

    # --- asking it ------------------------------------------------------------------------------------------------

    def member(self, subject: bytes, tag: str, now_ms: int | None = None) -> bool:
        """Whether the person carries `tag` at `now_ms`, by default at the clock; later instants assume no more input."""
        now_ms = self.clock_ms if now_ms is None else now_ms
        person = self._people_at(now_ms).known(subject)
        return person is not None and self._member(person, tag, now_ms)

    def tags(self, subject: bytes, now_ms: int | None = None) -> frozenset[str]:
        """All tags that the person carries."""
        now_ms = self.clock_ms if now_ms is None else now_ms
        person = self._people_at(now_ms).known(subject)
        if person is None:
            return frozenset()
        return frozenset(tag for tag in self._tags if self._member(person, tag, now_ms))

    def value(
        self, subject: bytes, measure: Measure, now_ms: int | None = None
    ) -> str | bool | Decimal | int | Fraction | None:
        """The value of a measure for the person, None when it has none."""
        now_ms = self.clock_ms if now_ms is None else now_ms
        person = self._people_at(now_ms).known(subject)
        return None if person is None else measured(measure, self._view(person, now_ms))

    def captures(self, subject: bytes, tag: str, now_ms: int | None = None) -> dict[str, object]:
        """What the tag carries, empty while it does not hold; `distinct` carries the set of values."""
        now_ms = self.clock_ms if now_ms is None else now_ms
        person = self._people_at(now_ms).known(subject)
        if person is None or not self._member(person, tag, now_ms):
            return {}
        view = self._view(person, now_ms)
        found: dict[str, frozenset[Cell] | object] = {}
        for capture in self._tags[tag].captures:
            take = distinct_values if capture.measure.function == "distinct" else measured
            found[capture.name] = take(capture.measure, view)
        return {name: value for name, value in found.items() if value is not None and value != frozenset()}

    def changes(self, subject: bytes, tag: str, since_ms: int, until_ms: int) -> list[tuple[int, str]]:
        """(instant, enter or leave) in `(since, until]`: from the log up to the clock, beyond it if nothing more arrives."""
        person = self.people.known(subject)
        mine = {subject} if person is None else person.pseudonyms
        past = [item for item in self.log if item.subject in mine and item.tag == tag]
        found = [
            (item.at_ms, item.change)
            for item in past
            if since_ms < item.at_ms <= min(until_ms, self.clock_ms)
        ]
        holding = self.member(subject, tag)
        for instant in self._candidates(subject, tag, self.clock_ms, until_ms):
            if self.member(subject, tag, instant) != holding:
                holding = not holding
                found.append((instant, "enter" if holding else "leave"))
        return [item for item in found if item[0] > since_ms]

    def until(self, subject: bytes, tag: str) -> int:
        """First instant after the clock at which the tag ends if nothing more arrives or waits; `FOREVER` when never."""
        person = self.people.known(subject)
        if person is None:
            return self.clock_ms
        instants = sorted({*self._own_candidates(person, tag)})
        ends = (at for at in instants if at > self.clock_ms and not self._member(person, tag, at))
        return next(ends, FOREVER)

    def _candidates(self, subject: bytes, tag: str, after_ms: int, until_ms: int) -> list[int]:
        people = self._people_at(until_ms)
        person = people.known(subject)
        found = set() if person is None else set(self._own_candidates(person, tag))
        found.update(waiting[0] for waiting in self._waiting)
        return sorted(instant for instant in found if after_ms < instant <= until_ms)

    def _own_candidates(self, person: Person, tag: str) -> Iterator[int]:
        for time_ms in person.times():
            yield from (time_ms + edge for edge in self._edges[tag])
        yield from self.consents.boundaries(person.consents)

    def _people_at(self, now_ms: int) -> People:
        """Everybody as of `now_ms`, with the waiting events that will have been taken in by then."""
        if now_ms < self.clock_ms:
            raise ValueError(
                f"now_ms={now_ms} must be >= clock_ms={self.clock_ms}; ask before applying later inputs"
            )
        if not self._waiting or self._waiting[0][0] > now_ms:
            return self.people
        twin = OracleEngine(self.policy, self.consents)
        twin.people, twin.clock_ms = self.people.copy(), self.clock_ms
        twin._waiting = list(self._waiting)
        twin._pass_time(now_ms)
        return twin.people

    # --- recounting -----------------------------------------------------------------------------------------------

    def _member(self, person: Person, name: str, now_ms: int) -> bool:
        tag = self._tags[name]
        held = holds(tag.when, self._view(person, now_ms))
        return held and self.consents.allows(person.consents, tag.purpose, tag.topic, now_ms)

    def _view(self, person: Person, now_ms: int) -> View:
        history_ms = self.policy.settings.history_ms
        return View(person.events, now_ms, history_ms, lambda name: self._member(person, name, now_ms))

    def _settle_all(self, person: Person) -> None:
        self._foresee_consent(person)
        self._settle(person, set(self._tags))

    def _settle(self, person: Person, tags: set[str]) -> None:
        """Recount `tags` and tell what changed, in the order of the policy."""
        if not self.track:
            return
        for name in [name for name in self._tags if name in tags]:
            held = self._member(person, name, self.clock_ms)
            if held and name not in person.held:
                person.held.add(name)
                self._emit(person, name, "enter", frozenset())
            elif not held and name in person.held:
                person.held.discard(name)
                self._emit(person, name, "leave", self._reasons(person, self._tags[name]))

    def _reasons(self, person: Person, tag: Tag) -> frozenset[str]:
        allowed = self.consents.allows(person.consents, tag.purpose, tag.topic, self.clock_ms)
        fails = not holds(tag.when, self._view(person, self.clock_ms))
        return frozenset({"when"} if fails else set()) | frozenset(set() if allowed else {"consent"})

    def _emit(
        self, person: Person, tag: str, change: Literal["enter", "leave"], reasons: frozenset[str]
    ) -> None:
        until_ms = self.until(person.subject, tag) if change == "enter" and self.untils else 0
        self.log.append(OracleChange(self.clock_ms, person.subject, tag, change, until_ms, reasons))

    def _foresee(self, person: Person, times: Sequence[int]) -> None:
        """Put every instant at which one of these events can matter by itself on the list."""
        if self.track:
            for name, constants in self._edges.items():
                for instant in {time_ms + edge for time_ms in times for edge in constants}:
                    if instant > self.clock_ms:
                        heapq.heappush(self._instants, (instant, person.subject, name))

    def _foresee_consent(self, person: Person) -> None:
        if self.track:
            for instant in self.consents.boundaries(person.consents):
                if self.clock_ms < instant < FOREVER:
                    heapq.heappush(self._instants, (instant, person.subject, ""))
