"""An image of a shard: what a snapshot needs, held still while the shard goes on, and written down on any thread.

Most of a shard's bytes are in rows that do not change once they are there: history, values, names, texts. The image refers to
these, and the shard gives itself copies before it does change them (`Arrays.own`: merges, erasures, new policies). The rest is
copied: people and their masks, memberships, ids of seen events, and dictionaries of immutable values.

What can be derived is left out: windows are filled from the history again, hash tables, timers and the numbers of pseudonyms
are made anew, expired events and event ids are gone, texts are numbered by first use. So a shard that was restored and one that
never stopped have equal snapshots.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeVar

import msgspec
import numpy as np
import numpy.typing as npt

from dayfly.engine.catalog import NULL
from dayfly.engine.events import Event, EventBatch
from dayfly.engine.policy.model import Policy
from dayfly.engine.shard import kernels_layout
from dayfly.engine.shard.kernels_snapshot import (
    Cells,
    Columns,
    Numbers,
    count_types,
    group_rows,
    live_ids,
    live_members,
    pack_texts,
    sort_groups,
    split_events,
)
from dayfly.engine.shard.orders import LiveOrder
from dayfly.engine.shard.snapshot_format import Buffer, Head, Sheet, framed
from dayfly.engine.shard.state import Loan

if TYPE_CHECKING:
    from dayfly.engine.shard.shard import Shard

__all__ = ["PEOPLE_COLUMNS", "WAITING_COLUMNS", "Image", "take"]

Words = npt.NDArray[np.int64]
Bits = npt.NDArray[np.uint64]
T = TypeVar("T")

PEOPLE_COLUMNS: Final = {
    "people.alive": kernels_layout.ALIVE,
    "people.consent_seen": kernels_layout.CONSENT_SEEN,
    "people.consent_seen_at": kernels_layout.CONSENT_SEEN_AT,
    "people.consent_due_at": kernels_layout.CONSENT_DUE_AT,
}
WAITING_COLUMNS: Final[Mapping[str, tuple[type[np.generic], int]]] = {
    "received_ms": (np.int64, 1),
    "time_ms": (np.int64, 1),
    "subject": (np.uint64, 2),
    "link": (np.uint64, 2),
    "event_id": (np.uint64, 2),
    "digest": (np.uint64, 2),
    "type": (np.int32, 1),
    "channel": (np.int32, 1),
    "value_offset": (np.int64, 1),
    "values": (np.int64, 1),
    "strings": (np.uint8, 1),
}
"""Columns of `EventBatch` that describe waiting events: type of the cells, and how many make a row."""

_AT_ONCE: Final = 1_000  # encoded in one call, which no other thread can interrupt
_GOLDEN: Final = np.uint64(0x9E3779B97F4A7C15)
_IDS_PER_GROUP: Final = 4


@dataclass(frozen=True, slots=True)
class _Past:
    """Rows that are read where they are; they do not change for as long as `loan` exists."""

    loan: Loan
    history: Words
    values: Words
    names: Bits
    where: Words
    text: npt.NDArray[np.uint8]


@dataclass(slots=True)
class Image:
    """What a snapshot needs of a shard."""

    policy: Policy
    tag_names: tuple[str, ...]
    fields: Words
    is_text: Words
    clock_ms: int
    sequence: int
    past: _Past | None
    people: Words
    masks: Bits
    seen: Words
    members: Words
    aliases: Mapping[int, Sequence[bytes]]
    consents: Mapping[int, bytes]
    watched: Mapping[int, tuple[str, str]]
    orders: Sequence[LiveOrder]
    fired: Mapping[tuple[int, str], int]
    waiting: Sequence[Event]

    def encode(self) -> list[Buffer]:
        """The snapshot, in pieces. An image is encoded once."""
        assert self.past is not None, "an image is encoded once"
        sheet = Sheet()
        _write_past(sheet, self, self.past)
        self.past = None  # the shard may change its rows where they are again
        _write_people(sheet, self)
        _write_seen(sheet, self.seen)
        _write_members(sheet, self.members, len(self.people))
        _write_consents(sheet, self)
        _write_orders(sheet, self)
        _write_waiting(sheet, self)
        head = Head(
            policy_version=self.policy.version,
            policy_digest=self.policy.digest,
            tag_names=self.tag_names,
            clock_ms=self.clock_ms,
            sequence=self.sequence,
            names=sheet.names,
            columns=sheet.columns,
            parts=sheet.parts,
        )
        return framed(head, sheet)


def take(shard: "Shard") -> Image:
    """A shard as it is now, in the time that copying takes."""
    arrays = shard.arrays
    core, compiled = arrays.core, arrays.compiled
    clock_ms, people = int(core.control[kernels_layout.CLOCK]), int(core.control[kernels_layout.PEOPLE])
    seen = np.empty((int(core.seen.meta[0]), 3), np.int64)
    members = np.empty((int(core.world.meta[0]), 6), np.int64)
    texts = int(arrays.strings.meta[0])
    return Image(
        policy=shard.policy,
        tag_names=tuple(tag.name for tag in compiled.tags),
        fields=compiled.tests.fields,
        is_text=compiled.tests.is_text,
        clock_ms=clock_ms,
        sequence=int(core.control[kernels_layout.SEQUENCE]),
        past=_Past(
            arrays.lend(),
            core.history[: int(core.control[kernels_layout.EVENTS])],
            core.world.rows.values,
            core.names[:people],
            arrays.strings.where[:texts],
            arrays.strings.text,
        ),
        people=core.people[:people].copy(),
        masks=core.masks[:people].copy(),
        seen=seen[: live_ids(core.seen.keys, clock_ms, seen)],
        members=members[: live_members(core.world.members, members)],
        aliases=shard.aliases.copy(),
        consents=shard.consents.states.encoded(),
        watched=shard.consents.watched.copy(),
        orders=list(shard.orders.live.values()),
        fired=shard.orders.last_fired.copy(),
        waiting=shard.waiting.in_order(),
    )


# --- what is read where it is -----------------------------------------------------------------------------------------


def _write_past(sheet: Sheet, image: Image, past: _Past) -> None:
    """Live events by arrival, their values by field, the texts by first use, and everybody's pseudonym."""
    fields, strings = image.fields, len(past.where)
    least_ms = image.clock_ms - image.policy.settings.history_ms
    counts = np.zeros(len(fields), np.int64)
    count_types(past.history, least_ms, counts)
    events, cells_of = int(counts.sum()), np.repeat(counts, fields[:, 1])
    ends = np.cumsum(cells_of)
    columns = Columns(
        np.empty(events, np.int64),
        np.empty(events, np.int64),
        np.empty(events, np.int32),
        np.empty(events, np.int32),
        np.empty((events, 2), np.int64),
    )
    cells = Cells(np.empty(int(cells_of.sum()), np.int64), fields, image.is_text, ends - cells_of)
    numbers = Numbers(np.full(strings, -1, np.int64), np.empty(strings, np.int64), np.zeros(1, np.int64))
    split_events(past.history, past.values, least_ms, columns, cells, numbers)
    sheet.column("event.time", columns.time)
    sheet.column("event.person", columns.person)
    sheet.column("event.type", columns.kind.astype(np.int64))
    sheet.column("event.channel", columns.channel.astype(np.int64))
    sheet.array("event.digest", columns.digest)
    for number, (end, count) in enumerate(zip(ends.tolist(), cells_of.tolist(), strict=True)):
        sheet.column(f"value.{number}", cells.values[end - count : end], hole=NULL)
    _write_texts(sheet, past, numbers.string[: int(numbers.used[0])])
    sheet.array("people.name", past.names.copy())


def _write_texts(sheet: Sheet, past: _Past, strings: Words) -> None:
    where = past.where[strings]
    sheet.column("text.field", np.ascontiguousarray(where[:, 0]))
    sheet.column("text.length", np.ascontiguousarray(where[:, 2]))
    packed = np.empty(int(where[:, 2].sum()), np.uint8)
    pack_texts(past.text, where, packed)
    sheet.array("text", packed)


# --- what was copied --------------------------------------------------------------------------------------------------


def _write_people(sheet: Sheet, image: Image) -> None:
    """Persons by number."""
    for name, column in PEOPLE_COLUMNS.items():
        sheet.column(name, np.ascontiguousarray(image.people[:, column]), hole=0)
    for word in range(image.masks.shape[1]):
        sheet.column(f"mask.{word}", np.ascontiguousarray(image.masks[:, word]).view(np.int64))
    persons = sorted(image.aliases)
    sheet.column("alias.person", _repeated(persons, [len(image.aliases[person]) for person in persons]))
    sheet.pieces("alias.name", [b"".join(name for person in persons for name in sorted(image.aliases[person]))])


def _repeated(values: Sequence[int], counts: Sequence[int]) -> Words:
    return np.repeat(np.array(values, np.int64), np.array(counts, np.int64))


def _write_seen(sheet: Sheet, seen: Words) -> None:
    """Ids of seen events, in the order of a hash of theirs: they are keyed hashes themselves, so groups are small."""
    bits = (len(seen) // _IDS_PER_GROUP).bit_length()
    low, high = seen[:, 0].view(np.uint64), seen[:, 1].view(np.uint64)
    mixed = (low ^ (high >> np.uint64(7))) * _GOLDEN
    groups = (mixed >> np.uint64(64 - bits)).astype(np.int64) if bits else np.zeros(len(seen), np.int64)
    ordered = seen[_order(groups, 1 << bits, seen)]
    sheet.array("seen.id", ordered[:, :2])
    sheet.column("seen.until", np.ascontiguousarray(ordered[:, 2]))


def _write_members(sheet: Sheet, members: Words, people: int) -> None:
    """Memberships by person and tag."""
    persons = (members[:, 0] - 1) >> kernels_layout.SHIFT
    ordered = members[_order(persons, people, members)]
    keys = ordered[:, 0] - 1
    sheet.column("member.person", keys >> kernels_layout.SHIFT)
    sheet.column("member.tag", keys & ((1 << kernels_layout.SHIFT) - 1))
    for column, (name, hole) in enumerate(MEMBER_COLUMNS, start=1):
        sheet.column(name, np.ascontiguousarray(ordered[:, column]), hole=hole)


MEMBER_COLUMNS: Final = (
    ("member.held", None),
    ("member.since", 0),
    ("member.timer", 0),
    ("member.until", kernels_layout.FOREVER),
    ("member.sequence", 0),
)
"""Columns of memberships from the second on, and which of their values means nothing."""


def _order(groups: Words, count: int, rows: Words) -> Words:
    """Numbers of `rows` by group and first two columns."""
    starts, order = np.zeros(count + 1, np.int64), np.empty(len(groups), np.int64)
    group_rows(groups, starts, order)
    sort_groups(rows, starts, order)
    return order


def _write_consents(sheet: Sheet, image: Image) -> None:
    """What everybody said, and whose consent object was read last."""
    persons = sorted(image.consents)
    sheet.column("consent.person", np.array(persons, np.int64))
    sheet.column("consent.size", np.array([len(image.consents[person]) for person in persons], np.int64))
    sheet.pieces(
        "consent", [b"".join(map(image.consents.__getitem__, some)) for some in _chunks(persons)]
    )
    watched = sorted(image.watched)
    sources = sorted({source for _, source in image.watched.values()})
    number = {source: place for place, source in enumerate(sources)}
    sheet.names["sources"] = sources
    sheet.column("watched.person", np.array(watched, np.int64))
    sheet.column("watched.source", np.array([number[image.watched[person][1]] for person in watched], np.int64))
    sheet.pieces(
        "watched.name",
        [bytes.fromhex("".join(image.watched[person][0] for person in some)) for some in _chunks(watched)],
    )


def _write_orders(sheet: Sheet, image: Image) -> None:
    """Live orders, oldest first, and when triggers with a cooldown fired."""
    live = [order for order in image.orders if order.expires_at_ms > image.clock_ms]
    encoded = [msgspec.msgpack.encode(some) for some in _chunks(live)]
    sheet.column("order.size", np.array([len(some) for some in encoded], np.int64))
    sheet.pieces("order", encoded)
    triggers = sorted({trigger for _, trigger in image.fired})
    number = {trigger: place for place, trigger in enumerate(triggers)}
    rows = sorted((person, number[trigger], at_ms) for (person, trigger), at_ms in image.fired.items())
    table = np.array(rows, np.int64).reshape(-1, 3)
    sheet.names["triggers"] = triggers
    for column, name in enumerate(("fired.person", "fired.trigger", "fired.at")):
        sheet.column(name, np.ascontiguousarray(table[:, column]))


def _write_waiting(sheet: Sheet, image: Image) -> None:
    """Events that wait for their time."""
    catalog = image.policy.catalog
    events = [event for event in image.waiting if catalog.type_index(event.type) >= 0]
    batch = EventBatch.from_events(events, catalog)
    for name in WAITING_COLUMNS:
        sheet.array(f"waiting.{name}", getattr(batch, name))


def _chunks(items: Sequence[T]) -> list[Sequence[T]]:
    return [items[start : start + _AT_ONCE] for start in range(0, len(items), _AT_ONCE)]
