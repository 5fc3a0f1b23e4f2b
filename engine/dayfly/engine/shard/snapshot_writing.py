"""An image of a shard is written down, on any thread: everything in canonical order, mostly without the interpreter lock.

What can be derived is left out: windows are filled from the history again, hash tables, timers and the numbers of pseudonyms
are made anew, expired events and event ids are gone, texts are numbered by first use. So a shard that was restored and one that
never stopped have equal snapshots.
"""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeVar

import msgspec
import numpy as np
import numpy.typing as npt

from dayfly.engine.catalog import NULL
from dayfly.engine.events import EventBatch
from dayfly.engine.shard import kernels_layout
from dayfly.engine.shard.kernels_snapshot import (
    Cells,
    Columns,
    Numbers,
    count_types,
    group_rows,
    pack_texts,
    sort_groups,
    split_events,
    take_columns,
)
from dayfly.engine.shard.snapshot_format import Buffer, Head, Sheet, framed
from dayfly.engine.shard.snapshot_image import Image, Past

__all__ = ["MEMBER_COLUMNS", "PEOPLE_COLUMNS", "WAITING_COLUMNS", "write"]

Words = npt.NDArray[np.int64]
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

MEMBER_COLUMNS: Final = (
    ("member.held", None),
    ("member.since", 0),
    ("member.timer", 0),
    ("member.until", kernels_layout.FOREVER),
    ("member.sequence", 0),
)
"""Columns of memberships from the second on, and which of their values means nothing."""

_AT_ONCE: Final = 1_000  # encoded in one call, which no other thread can interrupt
_IDS_PER_GROUP: Final = 4
_GOLDEN: Final = np.uint64(0x9E3779B97F4A7C15)


def write(image: Image) -> list[Buffer]:
    """The snapshot of an image, in pieces. An image is written once."""
    assert image.past is not None, "an image is written once"
    rest = Sheet()
    with ThreadPoolExecutor(1, "dayfly-image") as other:
        reading = other.submit(_write_past, image, image.past)
        _write_people(rest, image)
        _write_seen(rest, image.seen)
        _write_members(rest, image.members, len(image.people))
        _write_consents(rest, image)
        _write_orders(rest, image)
        _write_waiting(rest, image)
        _write_moves(rest, image)
        sheet = reading.result()
    image.past = None
    sheet.extend(rest)
    head = Head(
        policy_version=image.policy.version,
        policy_digest=image.policy.digest,
        tag_names=image.tag_names,
        clock_ms=image.clock_ms,
        sequence=image.sequence,
        names=sheet.names,
        columns=sheet.columns,
        parts=sheet.parts,
    )
    return framed(head, sheet)


# --- what is read where it is -----------------------------------------------------------------------------------------


def _write_past(image: Image, past: Past) -> Sheet:
    """Live events by arrival, their values by field, the texts by first use, and everybody's pseudonym."""
    sheet = Sheet()
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
    return sheet


def _write_texts(sheet: Sheet, past: Past, strings: Words) -> None:
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
    sheet.pieces(
        "alias.name", [b"".join(name for person in persons for name in sorted(image.aliases[person]))]
    )


def _repeated(values: Sequence[int], counts: Sequence[int]) -> Words:
    return np.repeat(np.array(values, np.int64), np.array(counts, np.int64))


def _write_seen(sheet: Sheet, seen: Words) -> None:
    """Ids of seen events, in the order of a hash of theirs: they are keyed hashes themselves, so folding them is enough."""
    bits = (len(seen) // _IDS_PER_GROUP).bit_length()
    mixed = np.zeros(len(seen), np.uint64)
    if bits:
        np.right_shift(seen[:, 1].view(np.uint64), np.uint64(7), out=mixed)
        mixed ^= seen[:, 0].view(np.uint64)
        mixed *= _GOLDEN
        mixed >>= np.uint64(64 - bits)
    low, high, until = _sorted(seen, mixed.view(np.int64), 1 << bits)
    sheet.array("seen.low", low)
    sheet.array("seen.high", high)
    sheet.column("seen.until", until)


def _write_members(sheet: Sheet, members: Words, people: int) -> None:
    """Memberships by person and tag."""
    keys, *columns = _sorted(members, (members[:, 0] - 1) >> kernels_layout.SHIFT, people)
    sheet.column("member.person", (keys - 1) >> kernels_layout.SHIFT)
    sheet.column("member.tag", (keys - 1) & ((1 << kernels_layout.SHIFT) - 1))
    for (name, hole), column in zip(MEMBER_COLUMNS, columns, strict=True):
        sheet.column(name, column, hole=hole)


def _sorted(rows: Words, groups: Words, count: int) -> Words:
    """The columns of rows, these by group and by their first two columns."""
    starts, order = np.zeros(count + 1, np.int64), np.empty(len(rows), np.int64)
    group_rows(groups, starts, order)
    sort_groups(rows, starts, order)
    columns = np.empty((rows.shape[1], len(rows)), np.int64)
    take_columns(rows, order, columns)
    return columns


def _write_consents(sheet: Sheet, image: Image) -> None:
    """What everybody said, and whose consent object was read last."""
    persons = sorted(image.consents)
    sheet.column("consent.person", np.array(persons, np.int64))
    sheet.column("consent.size", np.array([len(image.consents[person]) for person in persons], np.int64))
    sheet.pieces("consent", [b"".join(map(image.consents.__getitem__, some)) for some in _chunks(persons)])
    watched = sorted(image.watched)
    sources = sorted({source for _, source in image.watched.values()})
    number = {source: place for place, source in enumerate(sources)}
    sheet.names["sources"] = sources
    sheet.column("watched.person", np.array(watched, np.int64))
    sheet.column(
        "watched.source", np.array([number[image.watched[person][1]] for person in watched], np.int64)
    )
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


def _write_moves(sheet: Sheet, image: Image) -> None:
    """What came and went by moves; nothing at all in a shard that is the only one."""
    if image.moves.any:
        sheet.pieces("moves", [image.moves.to_bytes()])


def _chunks(items: Sequence[T]) -> list[Sequence[T]]:
    return [items[start : start + _AT_ONCE] for start in range(0, len(items), _AT_ONCE)]
