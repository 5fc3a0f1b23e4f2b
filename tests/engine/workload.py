"""A seeded random life of many people, as the inputs of a shard, made to hit every edge of every window.

An event's time is often another event of the same person plus a window constant plus -1, 0 or 1 ms, so that "exactly W
old" and its neighbours really occur. Everything is a function of the seed. `random_inputs` yields what a shard is told,
`as_batches` cuts it into random `apply` calls, `edge_instants` gives instants worth asking about.
"""

import heapq
import random
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Final

from dayfly.engine.events import EventBatch
from dayfly.engine.inputs import ConsentGiven, ConsentWithdrawn, Erase, Input, Merge, Publish, Tick
from dayfly.engine.policy.model import Policy
from tests.engine.workload_cuts import as_batches, edge_instants, part_of
from tests.engine.workload_policy import edited, observed_on, random_policy
from tests.engine.workload_rows import Row, consent_record, packed, pseudonym, random_cells
from tests.engine.workload_rules import (
    CHANNELS,
    EPOCH_MS,
    PURPOSES,
    SPANS_MS,
    TOPICS,
    random_tags,
    workload_catalog,
)

__all__ = [
    "EPOCH_MS",
    "Mix",
    "as_batches",
    "consent_record",
    "edge_instants",
    "edited",
    "part_of",
    "pseudonym",
    "random_inputs",
    "random_policy",
    "random_tags",
    "workload_catalog",
]

DAY_MS: Final = 86_400_000


@dataclass(frozen=True, slots=True)
class Mix:
    """Shares of what happens, each per event; `observed` of the events of `app` and `web` carry a consent object."""

    late: float = 0.05
    duplicate: float = 0.02
    too_late: float = 0.01
    future: float = 0.01
    too_far_ahead: float = 0.002
    edge: float = 0.6
    tie: float = 0.05
    undeclared: float = 0.002
    link: float = 0.001
    merge: float = 0.002
    erase: float = 0.001
    consent: float = 0.02
    tick: float = 0.02
    observed: float = 0.0


@dataclass(slots=True)
class _Life:
    """Everything that the generator remembers while time goes by."""

    rng: random.Random
    people: int
    policy: Policy
    mix: Mix
    clock_ms: int = EPOCH_MS
    rows: list[Row] = field(default_factory=list)
    received: list[int] = field(default_factory=list)
    recent: dict[int, deque[int]] = field(default_factory=dict)
    edges: list[tuple[int, int]] = field(default_factory=list)
    copies: deque[Row] = field(default_factory=lambda: deque(maxlen=2_000))
    old: list[Row] = field(default_factory=list)
    next_id: int = 0

    def flush(self) -> Iterator[EventBatch]:
        """The rows so far as one batch."""
        if self.rows:
            yield packed(self.rows, self.received)
            self.rows, self.received = [], []

    def event(self, person: int) -> None:
        """One event of `person`, received now."""
        rng, mix = self.rng, self.mix
        if self.copies and rng.random() < mix.duplicate:
            self._copy()
            return
        types = self.policy.catalog.types
        kind = -1 if rng.random() < mix.undeclared else rng.randrange(len(types))
        time_ms = self._time(person)
        cells = random_cells(rng, types[kind], self.clock_ms) if kind >= 0 else ()
        link = self._relative(person) if rng.random() < mix.link else -1
        channel = rng.randrange(len(CHANNELS))
        row = Row(
            person, kind, time_ms, channel, cells, self.next_id, link, self._seen_consent(CHANNELS[channel])
        )
        self.next_id += 1
        self._put(row)
        self.copies.append(row)
        if rng.random() < 0.002:
            self.old.append(row)
        times = self.recent.setdefault(person, deque(maxlen=8))
        times.append(time_ms)
        if rng.random() < mix.edge:
            before = time_ms if rng.random() < 0.7 else rng.choice(times)
            instant = before + rng.choice(SPANS_MS) + rng.randrange(-1, 2)
            heapq.heappush(self.edges, (max(instant, self.clock_ms), person))
        elif rng.random() < mix.tie:
            heapq.heappush(self.edges, (self.clock_ms, person))

    def _seen_consent(self, channel: str) -> int:
        """Number of the consent object inside an event of `channel`, mostly -1 for none."""
        wanted = observed_on(channel)
        if self.mix.observed == 0 or not wanted or self.rng.random() >= self.mix.observed:
            return -1
        return self.rng.choice(wanted)

    def _put(self, row: Row) -> None:
        self.rows.append(row)
        self.received.append(self.clock_ms)

    def _copy(self) -> None:
        """A duplicate: of a recent event, or of one from long ago. The id of a future event is not used at its limit."""
        row = self.rng.choice(self.old if self.old and self.rng.random() < 0.3 else self.copies)
        lateness = self.policy.settings.allowed_lateness_ms
        forgettable = abs(self.clock_ms - row.time_ms - lateness) <= self.policy.settings.future_skew_ms
        if not forgettable and row.kind < len(self.policy.catalog.types):
            self._put(row)

    def _time(self, person: int) -> int:
        """When an event happened that is received now."""
        rng, mix, settings = self.rng, self.mix, self.policy.settings
        choice = rng.random()
        lateness, skew = settings.allowed_lateness_ms, settings.future_skew_ms
        if choice < mix.too_late:
            return self.clock_ms - lateness - rng.choice((0, 1, 5_000, 30 * DAY_MS))
        choice -= mix.too_late
        if choice < mix.late:
            return self._late(person, lateness)
        choice -= mix.late
        if choice < mix.future:
            return self.clock_ms + rng.choice((1, 2, 1_000, 5_000, 60_000, skew, rng.randrange(1, skew)))
        choice -= mix.future
        if choice < mix.too_far_ahead:
            return self.clock_ms + skew + rng.choice((1, 2, DAY_MS))
        return self.clock_ms

    def _late(self, person: int, lateness: int) -> int:
        """Out of order but within the lateness; where possible at the edge of a window of another event."""
        rng = self.rng
        times = self.recent.get(person)
        if times and rng.random() < 0.7:
            shift = rng.choice(SPANS_MS) * rng.choice((-1, 0, 1)) + rng.randrange(-1, 2)
            wanted = rng.choice(times) + shift
            if self.clock_ms - lateness < wanted <= self.clock_ms:
                return wanted
        return self.clock_ms - rng.choice((1, 1_000, lateness - 1, rng.randrange(1, lateness)))

    def _relative(self, person: int) -> int:
        """Another pseudonym of the small circle whose members may turn out to be one person."""
        first = person - person % 5
        return min(first + self.rng.randrange(5), self.people - 1)


def _consent(life: _Life, person: int) -> Input:
    """A grant, a grant for a while or for later, a refusal, or a withdrawal."""
    rng, now_ms = life.rng, life.clock_ms
    purpose, topic = (
        rng.choice((*PURPOSES, "service", "marketing")),
        rng.choice((*TOPICS, "furniture", "*", "*")),
    )
    choice = rng.random()
    if choice < 0.2:
        scope = ("*", "*") if rng.random() < 0.3 else (purpose, topic)
        return ConsentWithdrawn(now_ms, pseudonym(person), *scope)
    start = now_ms if choice < 0.85 else now_ms + rng.choice(SPANS_MS)
    until_ms = start + (rng.choice(SPANS_MS) if choice < 0.5 else 400 * DAY_MS)
    granted = choice < 0.95
    record = consent_record(person, now_ms, purpose, topic, from_ms=start, until_ms=until_ms, granted=granted)
    return ConsentGiven(now_ms, pseudonym(person), record)


def _broad(life: _Life, person: int) -> Iterator[Input]:
    """What most people say when they first arrive: yes to most purposes, for a year."""
    for purpose in ("service", "marketing", "analytics"):
        if life.rng.random() < 0.9:
            record = consent_record(
                person, life.clock_ms, purpose, "*", until_ms=life.clock_ms + 400 * DAY_MS
            )
            yield ConsentGiven(life.clock_ms, pseudonym(person), record)


def _others(life: _Life) -> Iterator[Input]:
    """What happens beside events: consents, merges, erasures, ticks."""
    rng, mix = life.rng, life.mix
    person = rng.randrange(life.people)
    happens: tuple[tuple[float, Callable[[], Input]], ...] = (
        (mix.consent, lambda: _consent(life, person)),
        (mix.merge, lambda: Merge(life.clock_ms, pseudonym(person), pseudonym(life._relative(person)))),
        (mix.erase, lambda: Erase(life.clock_ms, pseudonym(person))),
        (mix.tick, lambda: Tick(life.clock_ms)),
    )
    for share, build in happens:
        if rng.random() < share:
            yield from life.flush()
            yield build()


def random_inputs(
    rng: random.Random,
    policy: Policy,
    *,
    events: int,
    people: int,
    edits: int = 3,
    span_ms: int = 90 * DAY_MS,
    mix: Mix | None = None,
    first_consents: bool = True,
) -> Iterator[Input]:
    """Inputs of `people` pseudonyms with about `events` events over `span_ms`, and `edits` rule changes on the way.

    Batches end where another kind of input comes; `as_batches` cuts them further.
    """
    life = _Life(rng, people, policy, mix or Mix())
    publish_at = {events * (index + 1) // (edits + 1) for index in range(edits)}
    end_ms = EPOCH_MS + span_ms
    if first_consents:
        for person in range(people):
            yield from _broad(life, person)
    made = 0
    while made < events:
        left_ms = max(end_ms - life.clock_ms, 0)
        due_ms = life.clock_ms + rng.randrange(2 * max(left_ms // (events - made + 1), 1) + 1)
        while life.edges and life.edges[0][0] <= due_ms and made < events:
            life.clock_ms, person = heapq.heappop(life.edges)
            life.event(person)
            made += 1
        life.clock_ms = max(life.clock_ms, due_ms)
        life.event(rng.randrange(people))
        made += 1
        yield from _others(life)
        if len(life.rows) >= 4_096:
            yield from life.flush()
        if publish_at and made >= min(publish_at):
            publish_at.discard(min(publish_at))
            yield from life.flush()
            life.policy = edited(rng, life.policy)
            life.copies.clear()  # a copy is packed with the catalogue of its first sending
            life.old.clear()
            yield Publish(life.clock_ms, life.policy)
    yield from life.flush()
