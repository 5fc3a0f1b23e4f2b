"""Persons on their way from one shard to another, as bytes: what they did, said and carry, timers included."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import msgspec
import numpy as np
import numpy.typing as npt

from dayfly.engine.catalog import NULL
from dayfly.engine.errors import ShardError
from dayfly.engine.events import LENGTH_BITS, Event, EventBatch, words
from dayfly.engine.shard import identity, kernels_layout, kernels_settle, kernels_windows
from dayfly.engine.shard.kernels_core import push
from dayfly.engine.shard.kernels_lines import line_key
from dayfly.engine.shard.kernels_people import put_id
from dayfly.engine.shard.kernels_program import find_member
from dayfly.engine.shard.kernels_strings import intern_rows
from dayfly.engine.shard.snapshot_writing import WAITING_COLUMNS
from dayfly.privacy.consent import PersonConsents

if TYPE_CHECKING:
    from dayfly.engine.shard.shard import Shard

__all__ = ["FORMAT", "Parcel", "Person", "packed", "packed_waiting", "read_parcel", "unpack", "waiting_of"]

FORMAT: Final = 1
_PEOPLE: Final = [kernels_layout.CONSENT_SEEN, kernels_layout.ALIVE, kernels_layout.CONSENT_SEEN_AT]
_HISTORY: Final = [
    kernels_layout.H_TIME,
    kernels_layout.H_TYPE,
    kernels_layout.H_CHANNEL,
    kernels_layout.H_DIGEST,
    kernels_layout.H_DIGEST + 1,
]
_MEMBER_COLUMNS: Final = 6

Words = npt.NDArray[np.int64]


class Person(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """One person. Arrays are little-endian bytes, as in snapshots; a member row begins with the number of its tag."""

    name: bytes
    aliases: list[bytes]
    row: bytes
    masks: bytes
    consent_due_ms: int
    history: bytes
    values: bytes
    text: bytes
    members: bytes
    consents: bytes | None
    watched: tuple[str, str] | None
    fired: list[tuple[str, int]]


class Parcel(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Persons on their way.

    Attributes:
        source, to: Numbers of the shards.
        number: 1, 2, 3, ... over the life of `source`.
        names: All pseudonyms that move, also those that nobody is known by.
        clock_ms, sequence: Of the source when they left.
        policy: Version and digest of the policy in force there.
    """

    format: int
    source: int
    to: int
    number: int
    names: list[bytes]
    clock_ms: int
    sequence: int
    policy: tuple[int, bytes]
    people: list[Person]
    waiting: dict[str, bytes]


def read_parcel(data: bytes) -> Parcel:
    """What a departure put into the outbox.

    Raises:
        ShardError: it is no parcel, or of another format.
    """
    try:
        parcel = msgspec.msgpack.decode(data, type=Parcel)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise ShardError(
            f"parcel of {len(data)} bytes must be readable: {error}; restore the store"
        ) from error
    if parcel.format != FORMAT:
        raise ShardError(f"parcel format={parcel.format} must be {FORMAT}; use the release that wrote it")
    return parcel


def _bytes_of(array: npt.NDArray[np.generic]) -> bytes:
    return np.ascontiguousarray(array).astype(array.dtype.newbyteorder("<"), copy=False).tobytes()


def _array_of(data: bytes, kind: type[np.generic], width: int) -> npt.NDArray[np.generic]:
    flat = np.frombuffer(data, np.dtype(kind).newbyteorder("<")).astype(kind)
    return flat if width == 1 else flat.reshape(-1, width)


# --- packing ------------------------------------------------------------------------------------------------------------


def packed(shard: "Shard", person: int) -> Person:
    """A person as it is. Nothing in the shard changes."""
    arrays, consents = shard.arrays, shard.consents
    core = arrays.core
    events = core.history[identity.history_of(arrays, person)]
    edge_ms = shard.clock_ms - shard.policy.settings.history_ms
    history, values, text = _packed_history(shard, events[events[:, kernels_layout.H_TIME] > edge_ms])
    state = consents.states.get(person)
    return Person(
        name=shard.orders.name(person),
        aliases=sorted(shard.aliases.get(person, ())),
        row=_bytes_of(core.people[person, _PEOPLE]),
        masks=_bytes_of(core.masks[person]),
        consent_due_ms=int(core.people[person, kernels_layout.CONSENT_DUE_AT]),
        history=_bytes_of(history),
        values=_bytes_of(values),
        text=text,
        members=_bytes_of(_members(shard, person)),
        consents=None if state is None else state.to_bytes(),
        watched=consents.watched.get(person),
        fired=sorted((name, at) for (who, name), at in shard.orders.last_fired.items() if who == person),
    )


def _packed_history(shard: "Shard", events: Words) -> tuple[Words, Words, bytes]:
    """Rows of the history by `_HISTORY`, their values one behind the other, and the texts in these by first use."""
    core, tests = shard.arrays.core, shard.arrays.compiled.tests
    kinds = events[:, kernels_layout.H_TYPE]
    widths = tests.fields[kinds, 1]
    starts = np.cumsum(widths) - widths
    within = np.arange(int(widths.sum())) - np.repeat(starts, widths)
    values = core.world.rows.values[np.repeat(events[:, kernels_layout.H_VALUES], widths) + within]
    cells = (tests.is_text[np.repeat(tests.fields[kinds, 0], widths) + within] != 0) & (values != NULL)
    strings, first_use, inverse = np.unique(values[cells], return_index=True, return_inverse=True)
    order = np.argsort(first_use)
    texts = [shard.reader.text(string).encode() for string in strings[order].tolist()]
    lengths = np.array([len(text) for text in texts], np.int64)
    slices = np.empty(len(strings), np.int64)
    slices[order] = ((np.cumsum(lengths) - lengths) << LENGTH_BITS) | lengths
    values[cells] = slices[inverse]
    return events[:, _HISTORY], values, b"".join(texts)


def _members(shard: "Shard", person: int) -> Words:
    """int64[n, 6]: number of the tag, then the membership's columns, of those that hold or have a timer."""
    world = shard.arrays.core.world
    rows = []
    for tag in range(len(shard.arrays.compiled.tags)):
        place = find_member(world.members, world.meta, line_key(person, tag), False)  # noqa: FBT003 - a kernel's scalar
        if place >= 0 and (world.members[place, 1] != 0 or world.members[place, 3] != 0):
            rows.append([tag, *world.members[place, 1:_MEMBER_COLUMNS].tolist()])
    return np.array(rows, np.int64).reshape(-1, _MEMBER_COLUMNS)


def packed_waiting(shard: "Shard", waiting: Sequence[Event]) -> dict[str, bytes]:
    """Columns of events that wait, by name."""
    catalog = shard.policy.catalog
    batch = EventBatch.from_events(
        [event for event in waiting if catalog.type_index(event.type) >= 0], catalog
    )
    return {name: _bytes_of(getattr(batch, name)) for name in WAITING_COLUMNS}


# --- unpacking ----------------------------------------------------------------------------------------------------------


def waiting_of(parcel: Parcel) -> dict[str, npt.NDArray[np.generic]]:
    """What `packed_waiting` packed."""
    return {name: _array_of(parcel.waiting[name], *shape) for name, shape in WAITING_COLUMNS.items()}


def unpack(shard: "Shard", image: Person) -> None:
    """Make a person known as it was: nothing is evaluated, and timers that were due meanwhile are due now."""
    arrays = shard.arrays
    person = identity.meet(arrays, image.name)
    if image.aliases:
        shard.aliases[person] = tuple(image.aliases)
        for low, high in words(image.aliases):
            arrays.grow()
            put_id(arrays.core.ids, low, high, person)
    arrays.core.people[person, _PEOPLE] = _array_of(image.row, np.int64, 1)
    arrays.core.masks[person] = _array_of(image.masks, np.uint64, 1)
    _put_history(shard, person, image)
    _put_members(shard, person, _array_of(image.members, np.int64, _MEMBER_COLUMNS))
    arrays.grow()
    kernels_settle.arm_consent(arrays.handle, person, image.consent_due_ms)
    for name, at_ms in image.fired:
        shard.orders.last_fired[person, name] = at_ms
    if image.watched is not None:
        shard.consents.watched[person] = image.watched
    if image.consents is not None:
        shard.consents.states[person] = PersonConsents.from_bytes(image.consents)


def _put_history(shard: "Shard", person: int, image: Person) -> None:
    """Append the history and fill the windows from it."""
    arrays = shard.arrays
    rows = _array_of(image.history, np.int64, len(_HISTORY))
    values = _array_of(image.values, np.int64, 1).astype(np.int64)
    text = np.frombuffer(image.text, np.uint8)
    arrays.make_room_for_strings(len(values), len(text))
    tests = arrays.compiled.tests
    kinds = np.ascontiguousarray(rows[:, 1]).astype(np.int32)
    widths = tests.fields[kinds, 1]
    starts = np.cumsum(widths) - widths
    intern_rows(arrays.strings, tests, kinds, starts, values, text)
    first, offset = _room(shard, len(rows), len(values))
    core = arrays.core
    core.world.rows.values[offset : offset + len(values)] = values
    history = core.history[first : first + len(rows)]
    history[:, _HISTORY] = rows
    history[:, kernels_layout.H_PERSON] = person
    history[:, kernels_layout.H_VALUES] = starts + offset
    events = np.arange(first, first + len(rows), dtype=np.int64)
    kernels_windows.relink(arrays.handle, person, events)
    identity.rebuild(arrays, person, events)


def _room(shard: "Shard", events: int, values: int) -> tuple[int, int]:
    """Take room at the end of the history and its values; returns where it begins."""
    arrays = shard.arrays
    control = arrays.core.control
    first, offset = int(control[kernels_layout.EVENTS]), int(control[kernels_layout.VALUES])
    while (
        len(arrays.core.history) < first + events + 1
        or len(arrays.core.world.rows.values) < offset + values + 1
    ):
        control[kernels_layout.EVENTS] = min(first + events, len(arrays.core.history))
        control[kernels_layout.VALUES] = min(offset + values, len(arrays.core.world.rows.values))
        arrays.grow()
    control[kernels_layout.EVENTS], control[kernels_layout.VALUES] = first + events, offset + values
    return first, offset


def _put_members(shard: "Shard", person: int, members: npt.NDArray[np.generic]) -> None:
    """Memberships with their timers."""
    arrays = shard.arrays
    for tag, held, since, due, until, sequence in members.tolist():
        arrays.grow()
        world = arrays.core.world
        place = find_member(world.members, world.meta, line_key(person, tag), True)  # noqa: FBT003 - a kernel's scalar
        world.members[place, 1:_MEMBER_COLUMNS] = (held, since, due, until, sequence)
        if due:
            key = (person << kernels_layout.SHIFT) | (tag + 1)
            push(arrays.core.heap, arrays.core.control, due, key)
