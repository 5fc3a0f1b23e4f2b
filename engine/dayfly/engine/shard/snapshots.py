"""Snapshots: the logical content of a shard in canonical order, without anything that can be derived from it.

Windows are filled from the history again, hash tables rebuilt, expired events and event ids left out, texts numbered by
first use. So a shard that was restored and one that never stopped have equal snapshots.
"""

import hashlib
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Final, Literal

import msgspec
import numpy as np
import numpy.typing as npt

from dayfly.engine.catalog import NULL, FieldType
from dayfly.engine.errors import SnapshotError
from dayfly.engine.events import LENGTH_BITS, Event, EventBatch
from dayfly.engine.shard import kernels_layout, kernels_windows
from dayfly.engine.shard.batches import single_event
from dayfly.engine.shard.kernels_lines import line_key
from dayfly.engine.shard.kernels_people import VALUE, put_ids
from dayfly.engine.shard.kernels_program import find_member
from dayfly.engine.shard.kernels_strings import intern_rows
from dayfly.engine.shard.orders import LiveOrder
from dayfly.engine.shard.publishing import fill_windows
from dayfly.engine.shard.state import empty_ids
from dayfly.privacy.consent import PersonConsents

if TYPE_CHECKING:
    from dayfly.engine.shard.shard import Shard

__all__ = ["add_waiting", "array_of", "bytes_of", "packed_history", "read", "waiting_columns", "write"]

_MAGIC: Final = b"dayfly-shard-1\n"
_DIGEST_BYTES: Final = 32
_PEOPLE_COLUMNS: Final = [kernels_layout.CONSENT_SEEN, kernels_layout.ALIVE, kernels_layout.CONSENT_SEEN_AT]

Words = npt.NDArray[np.int64]


class _Image(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Wire form. Arrays are little-endian bytes; columns are named in `write`. Only what moves between shards has defaults."""

    policy_version: int
    policy_digest: bytes
    tag_names: tuple[str, ...]
    clock_ms: int
    sequence: int
    people: bytes
    names: bytes
    ids: bytes
    aliases: dict[int, list[bytes]]
    seen: bytes
    history: bytes
    values: bytes
    text: bytes
    members: bytes
    timers: bytes
    consents: list[tuple[int, bytes]]
    watched: list[tuple[int, str, str]]
    orders: list[LiveOrder]
    fired: list[tuple[int, str, int]]
    waiting: dict[str, bytes]
    guests: list[bytes] = []
    departures: int = 0
    outbox: dict[int, bytes] = {}
    arrived: dict[int, int] = {}


def write(shard: "Shard") -> bytes:
    """Bytes of everything that the shard's future depends on."""
    arrays = shard.arrays
    core, policy = arrays.core, shard.policy
    now = int(core.control[kernels_layout.CLOCK])
    people = core.people[: int(core.control[kernels_layout.PEOPLE])]
    history, values, text = packed_history(shard, _kept(shard, now))
    members = core.world.members
    members = members[(members[:, 0] > 0) & ((members[:, 1] != 0) | (members[:, 3] != 0)), :6]
    members[np.ix_(members[:, 1] == 0, [2, 5])] = (
        0  # since when and by which decision matter only while a tag is held
    )
    image = _Image(
        policy_version=policy.version,
        policy_digest=policy.digest,
        tag_names=tuple(tag.name for tag in arrays.compiled.tags),
        clock_ms=now,
        sequence=int(core.control[kernels_layout.SEQUENCE]),
        people=bytes_of(people[:, _PEOPLE_COLUMNS]),
        names=bytes_of(core.names[: len(people)]),
        ids=bytes_of(_sorted_ids(core.ids.keys)),
        aliases={person: sorted(names) for person, names in sorted(shard.aliases.items())},
        seen=bytes_of(_sorted_ids(core.seen.keys[core.seen.values[:, VALUE] > now])),
        history=bytes_of(history),
        values=bytes_of(values),
        text=text,
        members=bytes_of(members[np.argsort(members[:, 0])]),
        timers=bytes_of(arrays.live_timers()),
        consents=[(person, state.to_bytes()) for person, state in sorted(shard.consents.states.items())],
        watched=sorted((person, *who) for person, who in shard.consents.watched.items()),
        orders=[order for order in shard.orders.live.values() if order.expires_at_ms > now],
        fired=sorted((person, name, at) for (person, name), at in shard.orders.last_fired.items()),
        waiting=waiting_columns(shard, shard.waiting.in_order()),
        guests=sorted(shard.moves.guests),
        departures=shard.moves.departures,
        outbox=dict(sorted(shard.moves.outbox.items())),
        arrived=dict(sorted(shard.moves.arrived.items())),
    )
    body = _MAGIC + msgspec.msgpack.encode(image)
    return body + hashlib.blake2b(body, digest_size=_DIGEST_BYTES).digest()


def bytes_of(array: npt.NDArray[np.generic]) -> bytes:
    """An array as little-endian bytes."""
    return np.ascontiguousarray(array).astype(array.dtype.newbyteorder("<")).tobytes()


def _sorted_ids(keys: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """(id, value) of the rows in use."""
    rows = keys[(keys[:, 0] != 0) | (keys[:, 1] != 0), : VALUE + 1]
    order = np.lexsort((rows[:, 1], rows[:, 0]))
    return rows[order]


def _kept(shard: "Shard", now_ms: int) -> Words:
    """Rows of the live events, by arrival."""
    core = shard.arrays.core
    events = core.history[: int(core.control[kernels_layout.EVENTS])]
    kept = (events[:, kernels_layout.H_PERSON] >= 0) & (
        events[:, kernels_layout.H_TIME] > now_ms - shard.policy.settings.history_ms
    )
    return events[kept]


def packed_history(shard: "Shard", events: Words) -> tuple[Words, Words, bytes]:
    """Rows of the history (time, person, type, channel, start of values, digest), their values, and the texts by first use.

    Args:
        shard: Whose history it is.
        events: int64[n, 8], rows of it.
    """
    core, catalog = shard.arrays.core, shard.policy.catalog
    width = np.array([len(kind.fields) for kind in catalog.types], np.int64)[events[:, kernels_layout.H_TYPE]]
    starts = np.cumsum(width) - width
    source = np.repeat(events[:, kernels_layout.H_VALUES] - starts, width) + np.arange(int(width.sum()))
    values = core.world.rows.values[source]
    is_text = np.zeros(len(values), bool)
    for number, kind in enumerate(catalog.types):
        first = starts[events[:, kernels_layout.H_TYPE] == number]
        for slot, field in enumerate(kind.fields):
            if field.type is FieldType.STRING:
                is_text[first + slot] = True
    cells = is_text & (values != NULL)
    strings, first_use, inverse = np.unique(values[cells], return_index=True, return_inverse=True)
    order = np.argsort(first_use)
    texts = [shard.reader.text(string).encode() for string in strings[order].tolist()]
    lengths = np.array([len(text) for text in texts], np.int64)
    packed = np.empty(len(strings), np.int64)
    packed[order] = ((np.cumsum(lengths) - lengths) << LENGTH_BITS) | lengths
    values[cells] = packed[inverse]
    columns = [
        kernels_layout.H_TIME,
        kernels_layout.H_PERSON,
        kernels_layout.H_TYPE,
        kernels_layout.H_CHANNEL,
        kernels_layout.H_VALUES,
        kernels_layout.H_DIGEST,
        kernels_layout.H_DIGEST + 1,
    ]
    rows = events[:, columns]
    rows[:, 4] = starts
    return rows, values, b"".join(texts)


_COLUMNS: Final = (
    ("received_ms", np.int64, 1),
    ("time_ms", np.int64, 1),
    ("subject", np.uint64, 2),
    ("link", np.uint64, 2),
    ("event_id", np.uint64, 2),
    ("digest", np.uint64, 2),
    ("type", np.int32, 1),
    ("channel", np.int32, 1),
    ("value_offset", np.int64, 1),
    ("values", np.int64, 1),
    ("strings", np.uint8, 1),
)


def waiting_columns(shard: "Shard", waiting: Iterable[Event]) -> dict[str, bytes]:
    """Columns of events that wait, by name."""
    catalog = shard.policy.catalog
    events = [event for event in waiting if catalog.type_index(event.type) >= 0]
    batch = EventBatch.from_events(events, catalog)
    return {name: bytes_of(getattr(batch, name)) for name, _, _ in _COLUMNS}


# --- reading ---------------------------------------------------------------------------------------------------------


def read(shard: "Shard", data: bytes) -> None:
    """Fill a fresh shard.

    Raises:
        SnapshotError: foreign or damaged bytes, another format version, or another policy.
    """
    image = _image(data)
    names = tuple(tag.name for tag in shard.arrays.compiled.tags)
    if (image.policy_version, image.policy_digest, image.tag_names) != (
        shard.policy.version,
        shard.policy.digest,
        names,
    ):
        raise SnapshotError(
            f"policy version={shard.policy.version} must be the snapshot's version {image.policy_version} with the same"
            " content; restore with the policy that was in force"
        )
    _read_people(shard, image)
    _read_history(shard, image)
    _read_memberships(shard, image)
    shard.consents.states.update(
        {person: PersonConsents.from_bytes(state) for person, state in image.consents}
    )
    timers = shard.arrays.core.control[kernels_layout.HEAP]
    for person in shard.consents.states:
        shard.consents.refresh(person)
    shard.arrays.core.control[kernels_layout.HEAP] = (
        timers  # the snapshot's own timers are the ones that count
    )
    shard.arrays.core.marks[:] = 0
    _read_timers(shard, image)
    for order in image.orders:
        shard.orders.add(order)
    shard.consents.watched.update({person: (who, source) for person, who, source in image.watched})
    shard.orders.last_fired.update({(person, name): at for person, name, at in image.fired})
    add_waiting(shard, image.waiting)
    shard.moves.guests.update(image.guests)
    shard.moves.departures = image.departures
    shard.moves.outbox.update(image.outbox)
    shard.moves.arrived.update(image.arrived)


def _image(data: bytes) -> _Image:
    body, digest = data[:-_DIGEST_BYTES], data[-_DIGEST_BYTES:]
    if not data.startswith(_MAGIC):
        raise SnapshotError(
            f"data={data[:16]!r} must begin with {_MAGIC!r}; it is no snapshot of this format version"
        )
    if hashlib.blake2b(body, digest_size=_DIGEST_BYTES).digest() != digest:
        raise SnapshotError(
            f"snapshot of {len(data)} bytes must match its checksum; it is damaged, use an older one"
        )
    try:
        return msgspec.msgpack.decode(body[len(_MAGIC) :], type=_Image)
    except msgspec.MsgspecError as error:
        raise SnapshotError(
            f"snapshot of {len(data)} bytes must follow the format: {error}; use an older one"
        ) from error


def array_of(data: bytes, kind: type[np.generic], width: int) -> npt.NDArray[np.generic]:
    """What `bytes_of` wrote, with so many columns."""
    flat = np.frombuffer(data, np.dtype(kind).newbyteorder("<")).astype(kind)
    return flat if width == 1 else flat.reshape(-1, width)


def _read_people(shard: "Shard", image: _Image) -> None:
    arrays = shard.arrays
    columns, names = array_of(image.people, np.int64, 3), array_of(image.names, np.uint64, 2)
    control = arrays.core.control
    control[kernels_layout.CLOCK], control[kernels_layout.SEQUENCE] = image.clock_ms, image.sequence
    while len(arrays.core.people) < len(columns) + 16:
        control[kernels_layout.PEOPLE] = len(arrays.core.people)
        arrays.grow()
    core = arrays.core
    control[kernels_layout.PEOPLE] = len(columns)
    core.people[: len(columns), _PEOPLE_COLUMNS] = columns
    core.people[: len(columns), kernels_layout.LAST_EVENT] = -1
    core.people[: len(columns), kernels_layout.NEWEST] = NULL
    core.names[: len(columns)] = names
    _fill_ids(shard, "ids", array_of(image.ids, np.uint64, 3).astype(np.uint64))
    _fill_ids(shard, "seen", array_of(image.seen, np.uint64, 3).astype(np.uint64))
    shard.aliases.update(image.aliases)


def _fill_ids(shard: "Shard", name: Literal["ids", "seen"], rows: npt.NDArray[np.uint64]) -> None:
    """Put (id, value) rows into one of the tables of 16-byte ids, made large enough first."""
    table = empty_ids(1 << max(2 * len(rows), 1_024).bit_length())
    put_ids(table, rows)
    core = shard.arrays.core
    if len(table.keys) < len(getattr(core, name).keys):
        put_ids(getattr(core, name), rows)
    else:
        shard.arrays.core = core._replace(ids=table) if name == "ids" else core._replace(seen=table)


def _read_history(shard: "Shard", image: _Image) -> None:
    arrays = shard.arrays
    rows = array_of(image.history, np.int64, 7)
    values = array_of(image.values, np.int64, 1).astype(np.int64)
    text = np.frombuffer(image.text, np.uint8)
    arrays.make_room_for_strings(len(values), len(text))
    starts = np.ascontiguousarray(rows[:, 4]).astype(np.int64)
    intern_rows(arrays.strings, arrays.compiled.tests, rows[:, 2].astype(np.int32), starts, values, text)
    control = arrays.core.control
    while len(arrays.core.history) < len(rows) + 1 or len(arrays.core.world.rows.values) < len(values) + 1:
        control[kernels_layout.EVENTS] = len(arrays.core.history)
        control[kernels_layout.VALUES] = len(arrays.core.world.rows.values)
        arrays.grow()
    core = arrays.core
    control[kernels_layout.EVENTS], control[kernels_layout.VALUES] = len(rows), len(values)
    core.world.rows.values[: len(values)] = values
    history = core.history[: len(rows)]
    history[
        :,
        [
            kernels_layout.H_TIME,
            kernels_layout.H_PERSON,
            kernels_layout.H_TYPE,
            kernels_layout.H_CHANNEL,
            kernels_layout.H_VALUES,
        ],
    ] = rows[:, :5]
    history[:, [kernels_layout.H_DIGEST, kernels_layout.H_DIGEST + 1]] = rows[:, 5:]
    kernels_windows.relink_all(arrays.handle)
    fill_windows(arrays)


def _read_memberships(shard: "Shard", image: _Image) -> None:
    for row in array_of(image.members, np.int64, 6):
        shard.arrays.grow()
        world = shard.arrays.core.world
        key = int(row[0]) - 1
        place = find_member(world.members, world.meta, line_key(key >> 16, key & 0xFFFF), True)  # noqa: FBT003 - a kernel's scalar
        world.members[place, :6] = row


def _read_timers(shard: "Shard", image: _Image) -> None:
    arrays = shard.arrays
    timers = array_of(image.timers, np.int64, 2)
    control = arrays.core.control
    heap = np.zeros((len(timers) + len(arrays.core.heap), 2), np.int64)
    heap[: len(timers)] = timers
    control[kernels_layout.HEAP] = len(timers)
    people = timers[(timers[:, 1] & 0xFFFF) == 0]  # type: ignore[operator]
    arrays.core.people[: int(control[kernels_layout.PEOPLE]), kernels_layout.CONSENT_DUE_AT] = 0
    arrays.core.people[people[:, 1] >> 16, kernels_layout.CONSENT_DUE_AT] = people[:, 0]  # type: ignore[operator]
    arrays.core = arrays.core._replace(heap=heap)


def add_waiting(shard: "Shard", waiting: Mapping[str, bytes]) -> None:
    """Let events wait that `waiting_columns` wrote down."""
    columns = {name: array_of(waiting[name], kind, width) for name, kind, width in _COLUMNS}
    count = len(columns["time_ms"])
    batch = EventBatch(
        **columns,  # type: ignore[arg-type]
        consent=np.full(count, -1, np.int32),
        consent_digest=np.zeros(count, np.uint64),
    )
    for index in range(count):
        shard.waiting.add(single_event(batch, index, shard.policy.catalog))
    shard.arrays.core.control[kernels_layout.WAITING] = shard.waiting.next_ms
