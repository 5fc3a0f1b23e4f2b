"""A seeded random life of many people, as the inputs of a shard, made to hit every edge of every window.

An event's time is often another event of the same person plus a window constant plus -1, 0 or 1 ms, so that "exactly W
old" and its neighbours really occur. Everything is a function of the seed. `random_inputs` yields what a shard is told,
`as_batches` cuts it into random `apply` calls, `edge_instants` gives instants worth asking about.
"""

import hashlib
import heapq
import random
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt

from dayfly.engine.catalog import MICRO, NULL, Catalog, EventType, FieldSpec, FieldType
from dayfly.engine.events import EventBatch, ObservedConsent, pack_string
from dayfly.engine.inputs import ConsentGiven, ConsentWithdrawn, Erase, Input, Merge, Publish, Tick
from dayfly.engine.policy.model import Channel, Policy, Settings
from dayfly.engine.tags.tree import InTag, Tag
from dayfly.privacy.consent import ConsentRecord, ConsentState, Scope, Terms, TransferBasis, UseBudget
from dayfly.privacy.consent.platforms import parse_mapping
from tests.engine.workload_rules import (
    CHANNELS,
    EPOCH_MS,
    PURPOSES,
    SPANS_MS,
    TEXTS,
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
_TERMS: Final = Terms(transfer_basis=TransferBasis.CONTRACT)


_EVERY: Final = {
    name: ["*"] for name in ("topics", "data_categories", "recipients", "channels", "recipient_countries")
}
_MAPPING: Final = parse_mapping(
    {
        "categories": {
            "help": {
                "scope": {**_EVERY, "purposes": ["service"]},
                "validity_seconds": 10**6,
                "max_uses": None,
            },
            "ads": {"scope": {**_EVERY, "purposes": ["marketing"]}, "validity_seconds": 60, "max_uses": None},
        },
        "terms": {"transfer_basis": "contract"},
    }
)
_FORMS: Final[dict[str, Literal["segment", "rudderstack"]]] = {"app": "segment", "web": "rudderstack"}


def _observed(form: Literal["segment", "rudderstack", "tcf"], content: object) -> ObservedConsent:
    digest = hashlib.blake2b(f"{form}{content!r}".encode(), digest_size=8).digest()
    return ObservedConsent(form, content, int.from_bytes(digest, "little"))


_OBSERVED: Final = (
    *(
        _observed("segment", {"categoryPreferences": {"help": yes, "ads": ads}})
        for yes in (True, False)
        for ads in (True, False)
    ),
    _observed("segment", {"categoryPreferences": {}}),
    _observed("segment", {"categoryPreferences": {"help": "yes"}}),
    _observed("rudderstack", {"allowedConsentIds": ["help", "ads"]}),
    _observed("rudderstack", {"allowedConsentIds": ["help"], "deniedConsentIds": ["ads"]}),
    _observed("rudderstack", {"deniedConsentIds": ["help"]}),
    _observed("rudderstack", 7),
    _observed("tcf", "CPXxRfAPXxRfAAfKABENB-CgAAAAAAAAAAYgAAAAAAAA"),
)
"""Consent objects as banners send them, readable and not."""


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


def pseudonym(index: int) -> bytes:
    """The 16-byte pseudonym number `index`."""
    return (index + 1).to_bytes(8, "little") + (0x9E37_79B9_7F4A_7C15 * (index + 1) % 2**64).to_bytes(
        8, "little"
    )


def random_policy(rng: random.Random, tags: int, *, version: int = 1) -> Policy:
    """A policy of random tags; the channel ``shop`` is collected only under a consent."""
    channels = tuple(
        Channel(
            name,
            name,
            collect_under="analytics" if name == "shop" else None,
            form=_FORMS.get(name, ""),
            consent=_MAPPING if name in _FORMS else None,
        )
        for name in CHANNELS
    )
    settings = Settings(history_ms=40 * DAY_MS, allowed_lateness_ms=2 * DAY_MS, future_skew_ms=300_000)
    catalog = workload_catalog()
    return Policy(version, catalog, channels, random_tags(rng, tags, catalog=catalog), settings=settings)


def edited(rng: random.Random, policy: Policy) -> Policy:
    """The next version: some tags changed, some gone, some new, and the catalogue grown and in another order."""
    names = [tag.name for tag in policy.tags]
    fresh = random_tags(rng, len(names), catalog=policy.catalog, version=policy.version + 1, names=names)
    keep = [rng.random() for _ in policy.tags]
    tags = [old if share < 0.7 else new for old, new, share in zip(policy.tags, fresh, keep, strict=True)]
    asked = {name for tag in tags for name in _asked(tag)}
    tags = [tag for tag, share in zip(tags, keep, strict=True) if share < 0.93 or tag.name in asked]
    added = replace(rng.choice(fresh[:14]), name=f"tag-v{policy.version + 1}")
    types = [_grown(kind, policy.version) if rng.random() < 0.3 else kind for kind in policy.catalog.types]
    types.append(EventType(f"Extra {policy.version}", (FieldSpec("note", FieldType.STRING),)))
    rng.shuffle(types)
    catalog = Catalog(tuple(types), policy.catalog.channels)
    return replace(policy, version=policy.version + 1, catalog=catalog, tags=(*tags, added))


def _grown(kind: EventType, version: int) -> EventType:
    return EventType(kind.name, (FieldSpec(f"extra{version}", FieldType.NUMBER), *kind.fields))


def _asked(tag: Tag) -> list[str]:
    found: list[str] = []
    rest: list[Any] = [tag.when]
    while rest:
        part = rest.pop()
        found += [part.tag] if isinstance(part, InTag) else []
        rest += list(getattr(part, "parts", ())) + ([part.part] if hasattr(part, "part") else [])
    return found


# --- rows and batches --------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Row:
    """One event before packing: `cells` are packed values except for text, which is still text."""

    subject: int
    kind: int
    time_ms: int
    channel: int
    cells: tuple[int | str, ...]
    event_id: int
    link: int = -1
    consent: int = -1


def _cells(rng: random.Random, kind: EventType, around_ms: int) -> tuple[int | str, ...]:
    return tuple(NULL if rng.random() < 0.12 else _cell(rng, spec.type, around_ms) for spec in kind.fields)


def _cell(rng: random.Random, kind: FieldType, around_ms: int) -> int | str:
    if kind is FieldType.STRING:
        return rng.choice(TEXTS)
    if kind is FieldType.BOOLEAN:
        return int(rng.random() < 0.5)
    if kind is FieldType.TIME:
        return (EPOCH_MS if rng.random() < 0.5 else around_ms) + rng.choice(SPANS_MS) * rng.randrange(-3, 4)
    return rng.choice((-1, 0, 1, 2, 5, 9)) * MICRO + rng.choice((0, 0, 500_000, 1, 999_999))


def _packed(rows: Sequence[_Row], received: Sequence[int]) -> EventBatch:
    """Columns of `rows`."""
    values: list[int] = []
    offsets: list[int] = []
    buffer = bytearray()
    for row in rows:
        offsets.append(len(values))
        for cell in row.cells:
            if isinstance(cell, str):
                encoded = cell.encode()
                values.append(pack_string(len(buffer), len(encoded)))
                buffer += encoded
            else:
                values.append(cell)
    used = sorted({row.consent for row in rows if row.consent >= 0})
    digests = [_OBSERVED[row.consent].digest if row.consent >= 0 else 0 for row in rows]
    return EventBatch(
        received_ms=np.array(received, np.int64),
        time_ms=np.array([row.time_ms for row in rows], np.int64),
        subject=_words(b"".join(pseudonym(row.subject) for row in rows)),
        link=_words(b"".join(pseudonym(row.link) if row.link >= 0 else bytes(16) for row in rows)),
        event_id=_words(b"".join((row.event_id + 1).to_bytes(16, "little") for row in rows)),
        digest=_words(b"".join((row.event_id + 1).to_bytes(16, "big") for row in rows)),
        type=np.array([row.kind for row in rows], np.int32),
        channel=np.array([row.channel for row in rows], np.int32),
        consent=np.array([used.index(row.consent) if row.consent >= 0 else -1 for row in rows], np.int32),
        consent_digest=np.array(digests, np.uint64),
        value_offset=np.array(offsets, np.int64),
        values=np.array(values, np.int64),
        strings=np.frombuffer(bytes(buffer), np.uint8),
        consents=tuple(_OBSERVED[index] for index in used),
    )


def _words(joined: bytes) -> npt.NDArray[np.uint64]:
    return np.frombuffer(joined, "<u8").reshape(-1, 2).astype(np.uint64)


# --- the life ----------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Life:
    """Everything that the generator remembers while time goes by."""

    rng: random.Random
    people: int
    policy: Policy
    mix: Mix
    clock_ms: int = EPOCH_MS
    rows: list[_Row] = field(default_factory=list)
    received: list[int] = field(default_factory=list)
    recent: dict[int, deque[int]] = field(default_factory=dict)
    edges: list[tuple[int, int]] = field(default_factory=list)
    copies: deque[_Row] = field(default_factory=lambda: deque(maxlen=2_000))
    old: list[_Row] = field(default_factory=list)
    next_id: int = 0

    def flush(self) -> Iterator[EventBatch]:
        """The rows so far as one batch."""
        if self.rows:
            yield _packed(self.rows, self.received)
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
        cells = _cells(rng, types[kind], self.clock_ms) if kind >= 0 else ()
        link = self._relative(person) if rng.random() < mix.link else -1
        channel = rng.randrange(len(CHANNELS))
        row = _Row(
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
        if self.mix.observed == 0 or channel not in _FORMS or self.rng.random() >= self.mix.observed:
            return -1
        wanted = [index for index, seen in enumerate(_OBSERVED) if seen.form in (_FORMS[channel], "tcf")]
        return self.rng.choice(wanted)

    def _put(self, row: _Row) -> None:
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


def consent_record(
    person: int,
    at_ms: int,
    purpose: str,
    topic: str,
    *,
    until_ms: int,
    from_ms: int | None = None,
    granted: bool = True,
) -> ConsentRecord:
    """A yes or no of pseudonym number `person` to one purpose and topic, for every recipient, channel and country."""
    principal = pseudonym(person).hex()
    anything = ("*",)
    return ConsentRecord(
        record_id=f"{principal}:{at_ms}:{purpose}:{topic}:{until_ms}:{granted}".replace("*", "all"),
        principal=principal,
        state=ConsentState.GIVEN if granted else ConsentState.REFUSED,
        time_ms=at_ms,
        valid_from_ms=at_ms if from_ms is None else from_ms,
        valid_until_ms=until_ms,
        scope=Scope(
            purposes=(purpose,),
            topics=(topic,),
            data_categories=anything,
            recipients=anything,
            channels=anything,
            recipient_countries=anything,
        ),
        use=UseBudget(max_uses=None),
        terms=_TERMS,
    )


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


# --- asking and cutting ------------------------------------------------------------------------------------------------


def as_batches(inputs: Iterable[Input], rng: random.Random) -> Iterator[tuple[list[Input], int]]:
    """The same inputs as (inputs, now_ms) of random `apply` calls; event batches are cut anywhere."""
    part: list[Input] = []
    now_ms = EPOCH_MS
    for item in inputs:
        for piece in _cut(item, rng):
            part.append(piece)
            now_ms = max(now_ms, _instant(piece))
            if rng.random() < 0.3:
                yield part, now_ms
                part = []
    if part:
        yield part, now_ms


def _cut(item: Input, rng: random.Random) -> Iterator[Input]:
    if not isinstance(item, EventBatch):
        yield item
        return
    start = 0
    while start < len(item):
        size = rng.choice((1, 2, 7, 64, 256, 1_000))
        yield part_of(item, start, min(start + size, len(item)))
        start += size


def part_of(batch: EventBatch, start: int, end: int) -> EventBatch:
    """Rows `start` to `end`; values and strings stay shared."""
    rows = slice(start, end)
    columns = (
        "received_ms",
        "time_ms",
        "subject",
        "link",
        "event_id",
        "digest",
        "type",
        "channel",
        "consent",
    )
    parts = {name: getattr(batch, name)[rows] for name in (*columns, "consent_digest", "value_offset")}
    return replace(batch, **parts)


def _instant(item: Input) -> int:
    return int(item.received_ms[-1]) if isinstance(item, EventBatch) else item.at_ms


def edge_instants(inputs: Iterable[Input], rng: random.Random, count: int) -> list[int]:
    """`count` rising instants: times of events plus a window constant plus -1, 0 or 1 ms."""
    times = np.concatenate([item.time_ms for item in inputs if isinstance(item, EventBatch)])
    picked = (
        int(rng.choice(times)) + rng.choice((0, *SPANS_MS)) + rng.randrange(-1, 2) for _ in range(count)
    )
    return sorted(picked)
