"""Persons move from one shard to another, and nobody notices: what they did, said and carry goes along, timers included.

A move has three steps, each an input of one shard. `Depart` takes persons out and keeps them in the outbox as a parcel;
`Arrive` makes them known in the other shard; `Confirm` empties the outbox. The parcel is in the state of a shard until the
other one has it, so that a crash in between loses nobody and doubles nobody: an `Arrive` with a number that has come
before changes nothing.

Neither step changes what is decided: no tag is left or entered and no trigger fires. Live orders do not move, because the
keys of their fragments are in the memory of the process that minted them: they are recalled.
"""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import msgspec
import numpy as np
import numpy.typing as npt

from dayfly.engine.errors import ShardError
from dayfly.engine.events import words
from dayfly.engine.inputs import Arrive, Depart
from dayfly.engine.shard import identity, kernels_layout, kernels_windows
from dayfly.engine.shard.kernels_core import push
from dayfly.engine.shard.kernels_lines import line_key
from dayfly.engine.shard.kernels_people import VALUE, find_id, put_id
from dayfly.engine.shard.kernels_program import find_member
from dayfly.engine.shard.kernels_strings import intern_rows
from dayfly.engine.shard.orders import LiveOrder
from dayfly.engine.shard.snapshots import add_waiting, array_of, bytes_of, packed_history, waiting_columns
from dayfly.privacy.consent import PersonConsents

if TYPE_CHECKING:
    from dayfly.engine.shard.shard import Shard

__all__ = ["Moves", "Parcel", "arrive", "depart", "guests_of", "read_parcel", "seen_before"]

_PEOPLE: Final = [kernels_layout.CONSENT_SEEN, kernels_layout.ALIVE, kernels_layout.CONSENT_SEEN_AT]
_FORMAT: Final = 1
_MEMBER_COLUMNS: Final = 6

Words = npt.NDArray[np.int64]


class _Person(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """One person. Arrays are little-endian bytes, as in snapshots; a member row begins with the number of its tag."""

    name: bytes
    aliases: list[bytes]
    row: bytes
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
    people: list[_Person]
    waiting: dict[str, bytes]


@dataclass(slots=True)
class Moves:
    """What a shard remembers of moves.

    Attributes:
        guests: Pseudonyms that came by a move: other shards may have seen their earlier events.
        departures: Number of the newest parcel sent.
        outbox: Parcels that are not known to have arrived, by number.
        arrived: Number of the newest parcel received, by source.
    """

    guests: set[bytes] = field(default_factory=set)
    departures: int = 0
    outbox: dict[int, bytes] = field(default_factory=dict)
    arrived: dict[int, int] = field(default_factory=dict)

    def forget(self, names: list[bytes]) -> None:
        """Forget pseudonyms of somebody who is erased."""
        self.guests.difference_update(names)


def read_parcel(data: bytes) -> Parcel:
    """What `depart` put into the outbox.

    Raises:
        ShardError: it is no parcel, or of another format.
    """
    try:
        parcel = msgspec.msgpack.decode(data, type=Parcel)
    except msgspec.MsgspecError as error:
        raise ShardError(
            f"parcel of {len(data)} bytes must be readable: {error}; restore the store"
        ) from error
    if parcel.format != _FORMAT:
        raise ShardError(f"parcel format={parcel.format} must be {_FORMAT}; use the release that wrote it")
    return parcel


# --- leaving ------------------------------------------------------------------------------------------------------------


def depart(shard: "Shard", item: Depart) -> list[LiveOrder]:
    """Take the persons behind `item.subjects` out and put them into the outbox; returns their live orders, now ended.

    Somebody whom a waiting event will make one with them goes along, since that merge must find both.
    """
    names = _together(shard, item.subjects)
    people = list(
        dict.fromkeys(person for name in names if (person := identity.find(shard.arrays, name)) >= 0)
    )
    taken = set(names)
    shard.moves.departures += 1
    core = shard.arrays.core
    parcel = Parcel(
        format=_FORMAT,
        source=item.source,
        to=item.to,
        number=shard.moves.departures,
        names=names,
        clock_ms=shard.clock_ms,
        sequence=int(core.control[kernels_layout.SEQUENCE]),
        policy=(shard.policy.version, shard.policy.digest),
        people=[_packed(shard, person) for person in people],
        waiting=waiting_columns(
            shard, [event for event in shard.waiting.in_order() if event.subject in taken]
        ),
    )
    shard.moves.outbox[parcel.number] = msgspec.msgpack.encode(parcel)
    ended: list[LiveOrder] = []
    for person in people:
        ended += _take_out(shard, person)
    shard.waiting.forget(names)
    shard.moves.forget(names)
    core.control[kernels_layout.WAITING] = shard.waiting.next_ms
    return ended


def _together(shard: "Shard", subjects: tuple[bytes, ...]) -> list[bytes]:
    """All pseudonyms that must stay together with these, in a fixed order."""
    pairs = [(event.subject, event.link) for event in shard.waiting.in_order() if event.link is not None]
    found: dict[bytes, None] = {}
    open_names = list(subjects)
    while open_names:
        name = open_names.pop()
        if name in found:
            continue
        mine = shard.names_of(name)
        found.update(dict.fromkeys(mine))
        open_names += [other for pair in pairs if not set(pair).isdisjoint(mine) for other in pair]
    return sorted(found)


def _packed(shard: "Shard", person: int) -> _Person:
    arrays, consents = shard.arrays, shard.consents
    consents.note_repeat(person)
    core = arrays.core
    events = core.history[identity.history_of(arrays, person)]
    edge_ms = shard.clock_ms - shard.policy.settings.history_ms
    history, values, text = packed_history(shard, events[events[:, kernels_layout.H_TIME] > edge_ms])
    state = consents.states.get(person)
    return _Person(
        name=shard.orders.name(person),
        aliases=sorted(shard.aliases.get(person, [])),
        row=bytes_of(core.people[person, _PEOPLE]),
        history=bytes_of(history),
        values=bytes_of(values),
        text=text,
        members=bytes_of(_members(shard, person)),
        consents=None if state is None else state.to_bytes(),
        watched=consents.watched.get(person),
        fired=sorted((name, at) for (who, name), at in shard.orders.last_fired.items() if who == person),
    )


def _members(shard: "Shard", person: int) -> Words:
    """int64[n, 6]: number of the tag, then the membership's columns, of those that hold or have a timer."""
    world = shard.arrays.core.world
    rows = []
    for tag in range(len(shard.arrays.compiled.tags)):
        place = find_member(world.members, world.meta, line_key(person, tag), False)  # noqa: FBT003 - a kernel's scalar
        if place >= 0 and (world.members[place, 1] != 0 or world.members[place, 3] != 0):
            rows.append([tag, *world.members[place, 1:_MEMBER_COLUMNS].tolist()])
    return np.array(rows, np.int64).reshape(-1, _MEMBER_COLUMNS)


def _take_out(shard: "Shard", person: int) -> list[LiveOrder]:
    names = [shard.orders.name(person), *shard.aliases.pop(person, [])]
    identity.drop_memberships(shard.arrays, person)
    ended = shard.orders.forget(person)
    shard.consents.forget(person)
    identity.erase(shard.arrays, person, names)
    return ended


# --- arriving -----------------------------------------------------------------------------------------------------------


def arrive(shard: "Shard", item: Arrive) -> None:
    """Make the persons of a parcel known; one that came before changes nothing.

    Raises:
        ShardError: it was packed under another policy, or somebody in it is known here; nothing was changed.
    """
    parcel = read_parcel(item.parcel)
    if parcel.number <= shard.moves.arrived.get(parcel.source, 0):
        return
    _check(shard, parcel)
    control = shard.arrays.core.control
    control[kernels_layout.SEQUENCE] = max(int(control[kernels_layout.SEQUENCE]), parcel.sequence)
    for image in parcel.people:
        _unpacked(shard, image)
    add_waiting(shard, parcel.waiting)
    shard.moves.guests.update(parcel.names)
    shard.moves.arrived[parcel.source] = parcel.number


def _check(shard: "Shard", parcel: Parcel) -> None:
    if parcel.policy != (shard.policy.version, shard.policy.digest):
        raise ShardError(
            f"policy of parcel number={parcel.number} must be the one in force; publish to all shards, then move"
        )
    for image in parcel.people:
        if any(identity.find(shard.arrays, name) >= 0 for name in (image.name, *image.aliases)):
            raise ShardError(
                f"persons of parcel number={parcel.number} must be unknown here; a person lives in one shard only"
            )


def _unpacked(shard: "Shard", image: _Person) -> None:
    person = identity.meet(shard.arrays, image.name)
    if image.aliases:
        shard.aliases[person] = list(image.aliases)
        for low, high in words(image.aliases):
            shard.arrays.grow()
            put_id(shard.arrays.core.ids, low, high, person)
    shard.arrays.core.people[person, _PEOPLE] = array_of(image.row, np.int64, 1)
    _put_history(shard, person, image)
    _put_members(shard, person, array_of(image.members, np.int64, _MEMBER_COLUMNS))
    for name, at_ms in image.fired:
        shard.orders.last_fired[person, name] = at_ms
    if image.watched is not None:
        shard.consents.watched[person] = image.watched
    if image.consents is not None:
        marked = shard.arrays.core.marks.copy()
        shard.consents.change(person, PersonConsents.from_bytes(image.consents))
        shard.arrays.core.marks[:] = marked  # the memberships came along: nothing is to be evaluated


def _put_history(shard: "Shard", person: int, image: _Person) -> None:
    """Append the history and fill the windows from it."""
    arrays = shard.arrays
    rows = array_of(image.history, np.int64, 7)
    values = array_of(image.values, np.int64, 1).astype(np.int64)
    text = np.frombuffer(image.text, np.uint8)
    arrays.make_room_for_strings(len(values), len(text))
    starts = np.ascontiguousarray(rows[:, 4]).astype(np.int64)
    intern_rows(arrays.strings, arrays.compiled.tests, rows[:, 2].astype(np.int32), starts, values, text)
    first, offset = _room(shard, len(rows), len(values))
    core = arrays.core
    core.world.rows.values[offset : offset + len(values)] = values
    history = core.history[first : first + len(rows)]
    history[:, kernels_layout.H_TIME] = rows[:, 0]
    history[:, kernels_layout.H_PERSON] = person
    history[:, kernels_layout.H_TYPE : kernels_layout.H_CHANNEL + 1] = rows[:, 2:4]
    history[:, kernels_layout.H_VALUES] = starts + offset
    history[:, kernels_layout.H_DIGEST :] = rows[:, 5:]
    events = np.arange(first, first + len(rows), dtype=np.int64)
    marked = core.marks.copy()
    kernels_windows.relink(arrays.handle, person, events)
    identity.rebuild(arrays, person, events)
    arrays.core.marks[:] = marked


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
    """Memberships as they were, with their timers; what was due meanwhile is due now."""
    arrays = shard.arrays
    for tag, held, since, due, until, sequence in members.tolist():
        arrays.grow()
        world = arrays.core.world
        place = find_member(world.members, world.meta, line_key(person, tag), True)  # noqa: FBT003 - a kernel's scalar
        world.members[place, 1:_MEMBER_COLUMNS] = (held, since, due, until, sequence)
        if due:
            push(
                arrays.core.heap,
                arrays.core.control,
                due,
                (person << kernels_layout.SHIFT) | (tag + 1),
            )


# --- asking -------------------------------------------------------------------------------------------------------------


def seen_before(shard: "Shard", ids: npt.NDArray[np.uint64], received_ms: Words) -> npt.NDArray[np.bool_]:
    """Which event ids this shard took in and still remembers at the given instants.

    Args:
        shard: The shard asked.
        ids: uint64[n, 2].
        received_ms: int64[n].
    """
    seen = shard.arrays.core.seen
    found = np.zeros(len(ids), bool)
    for index, (low, high) in enumerate(ids):
        row = find_id(seen, low, high)
        found[index] = row >= 0 and seen.values[row, VALUE] > received_ms[index]
    return found


def guests_of(shard: "Shard") -> list[bytes]:
    """Pseudonyms that came by a move, in order."""
    return sorted(shard.moves.guests)
