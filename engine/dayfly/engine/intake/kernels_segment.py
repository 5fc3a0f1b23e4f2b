"""Segment payloads of a whole batch straight into the columns of an `EventBatch`: one scan, no Python object per event.

A row is either read completely, with the result that `SegmentReader` gives, or left alone (`status` 0) for it.
"""

from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from dayfly.engine.intake.kernels_blake2b import blake2b
from dayfly.engine.intake.kernels_json import (
    FALSE,
    KEY,
    KEY_LENGTH,
    KIND,
    NOT_HERE,
    NULL_KIND,
    NUMBER,
    OBJECT,
    PARENT,
    ROOT,
    STRING,
    TRUE,
    VALUE,
    VALUE_END,
    micro_of,
    milliseconds_of,
    scan,
)
from dayfly.engine.intake.kernels_memory import MASK64, load8, load64, u64
from dayfly.privacy._jit import kernel

__all__ = ["CONTEXT_NODE", "EVENT_NODE", "KIND_NODE", "ROOT_NODE", "Columns", "Tables", "read_batch"]

Bytes: TypeAlias = npt.NDArray[np.uint8]
Ints: TypeAlias = npt.NDArray[np.int64]
Words: TypeAlias = npt.NDArray[np.uint64]


class Tables(NamedTuple):
    """A policy and keys as arrays.

    A name stands under a node: the members of the outermost object, the six calls, the event names, the members of
    `context`, and per event type the members of its properties and of every object on the way to a declared field.

    Attributes:
        edges: int64[E, 5]: node, place and length of the name in `names`, what the name means there, node below it or -1.
        first_words: uint64[E], first eight bytes of each name.
        buckets: int64[B], hash to edge, -1 for none; B is a power of two.
        names: uint8[], all names, with padding.
        types: int64[T + 6, 3]: node of the properties, number of fields, first row in `fields`; the last six rows hold
            for each call but track its event type or -1.
        fields: int64[F, 3]: type (0 text, 1 number, 2 boolean, 3 time), 1 when masked and 2 when dropped, 1 when required.
        states: uint64[6, 8], BLAKE2b states: user, anonymous, older user, older anonymous, event id, digest.
    """

    edges: Ints
    first_words: Words
    buckets: Ints
    names: Bytes
    types: Ints
    fields: Ints
    states: Words


class Columns(NamedTuple):
    """Columns to fill, as in `EventBatch`, for all rows of the call.

    Attributes:
        status: int64[N], 1 where the row was read.
        time_ms, type, value_offset: int64[N].
        ids: uint64[N, 8]: subject, link, event id, digest.
        consent: int64[N], row in `consents`, -1 for none.
        consents: int64[N, 3], distinct consent objects: form (1 Segment, 2 RudderStack), start and end.
        values: int64[], strings: uint8[], large enough for every row.
    """

    status: Ints
    time_ms: Ints
    type: Ints
    value_offset: Ints
    ids: Words
    consent: Ints
    consents: Ints
    values: Ints
    strings: Bytes


class Scratch(NamedTuple):
    """Working arrays of one call, so that no row allocates."""

    tape: Ints
    stack: Ints
    slots: Ints
    node_of: Ints
    seen: Ints
    used: Ints
    hash: Words
    block: Bytes


class Job(NamedTuple):
    """What to read: row i is `data[offsets[i]:offsets[i + 1]]`, sent at `sent_ms[i]` by its envelope (`NOT_HERE` for none).

    Attributes:
        numbers: int64[8]: received ms, correct clock skew, older key version in use, most bytes of an event, most bytes of
            a string, future skew ms, allowed lateness ms, unused.
        limits: int64[2], most nested containers and most members.
    """

    offsets: Ints
    sent_ms: Ints
    numbers: Ints
    limits: Ints


RECEIVED, CORRECT, OLDER, EVENT_BYTES, STRING_BYTES, FUTURE, LATE = 0, 1, 2, 3, 4, 5, 6

# Columns of `Tables.edges`.
NODE, NAME_AT, NAME_LENGTH, MEANS, CHILD = 0, 1, 2, 3, 4

ROOT_NODE, KIND_NODE, EVENT_NODE, CONTEXT_NODE, CONSENT_NODE, FIRST_TYPE_NODE = 0, 1, 2, 3, 4, 5

# What members of the outermost object mean.
TYPE, EVENT, MESSAGE_ID, USER_ID, ANONYMOUS_ID, TIMESTAMP, ORIGINAL, SENT_AT = 0, 1, 2, 3, 4, 5, 6, 7
PROPERTIES, TRAITS, CONTEXT, NAME, CATEGORY, GROUP_ID, BATCH = 8, 9, 10, 11, 12, 13, 14
ROOT_MEANINGS = 15

TRACK, PAGE, SCREEN, IDENTIFY, GROUP, ALIAS = 0, 1, 2, 3, 4, 5
CALLS = 6

# What members of `context` mean.
CONSENT, CONSENT_MANAGEMENT, TC_STRING, CONTEXT_TRAITS = 0, 1, 2, 3

# Columns of `Scratch.used`: cells, bytes and consent objects written so far, and what the present row has seen.
CELLS, CHARACTERS, CONSENTS, CONSENT_AT, MANAGEMENT_AT, HAS_PREFERENCES, HAS_TC = 0, 1, 2, 3, 4, 5, 6
EVENT_TYPE, MAX_BYTES, STAMP = 7, 8, 9
USED = 10

ABSENT = NOT_HERE
UNREADABLE = NOT_HERE + 1
TEXT, NUMERIC, TRUTH, INSTANT = 0, 1, 2, 3
COMPARED_CONSENTS = 64
LENGTH_BITS = 20

K0, K1, K2 = u64(0x9E3779B97F4A7C15), u64(0xC2B2AE3D27D4EB4F), u64(0x165667B19E3779F9)
C1, C32 = u64(1), u64(32)


@kernel
def first_word(data: Bytes, at: int, length: int) -> Any:
    """First eight bytes of a name, zeros beyond its end."""
    word = load64(data, at)
    return word if length >= 8 else word & ((C1 << u64(8 * length)) - C1)


@kernel
def hash_name(data: Bytes, at: int, length: int, node: int) -> int:
    """Where to look for a name under a node; mixes its first and last eight bytes, its length and the node."""
    mixed = (first_word(data, at, length) * K0) & MASK64
    mixed ^= (u64(length * 64 + node) * K1) & MASK64
    if length > 8:
        mixed ^= (load64(data, at + length - 8) * K2) & MASK64
    mixed = (mixed * K0) & MASK64
    return np.int64(mixed >> C32)


@kernel
def _find(data: Bytes, at: int, length: int, node: int, tables: Tables) -> int:
    """Edge of the name `data[at:at + length]` under `node`, -1 when it has no meaning there."""
    mask = len(tables.buckets) - 1
    bucket = hash_name(data, at, length, node) & mask
    first = first_word(data, at, length)
    while True:
        edge = tables.buckets[bucket]
        if edge < 0:
            return -1
        if (
            tables.edges[edge, NODE] == node
            and tables.edges[edge, NAME_LENGTH] == length
            and tables.first_words[edge] == first
        ):
            name = tables.edges[edge, NAME_AT]
            i = 8
            while i < length and load8(data, at + i) == load8(tables.names, name + i):
                i += 1
            if i >= length:
                return edge
        bucket = (bucket + 1) & mask


@kernel
def _instant(data: Bytes, tape: Ints, entry: int) -> int:
    """Milliseconds of the text at `entry`, `ABSENT` without one, `UNREADABLE` for any other form."""
    if entry < 0 or tape[entry, KIND] == NULL_KIND:
        return ABSENT
    if tape[entry, KIND] != STRING:
        return UNREADABLE
    moment = milliseconds_of(data, tape[entry, VALUE] + 1, tape[entry, VALUE_END] - 1)
    return UNREADABLE if moment == NOT_HERE else moment


@kernel
def _time_ms(data: Bytes, scratch: Scratch, job: Job, row: int) -> int:
    """Event time by the rule of `segment._time_ms`, `UNREADABLE` when it is left to the general path."""
    received = job.numbers[RECEIVED]
    original = _instant(data, scratch.tape, scratch.slots[ORIGINAL])
    stated = _instant(data, scratch.tape, scratch.slots[TIMESTAMP])
    sent = _instant(data, scratch.tape, scratch.slots[SENT_AT])
    if UNREADABLE in (original, stated, sent):
        return UNREADABLE
    if sent == ABSENT:
        sent = job.sent_ms[row]
        if sent == UNREADABLE:
            return UNREADABLE
    if original != ABSENT and stated != ABSENT:
        moment = stated
    else:
        moment = stated if original == ABSENT else original
        if moment == ABSENT:
            moment = received
        elif sent != ABSENT and job.numbers[CORRECT]:
            moment += received - sent
    ahead = moment - received
    return UNREADABLE if ahead > job.numbers[FUTURE] or -ahead > job.numbers[LATE] else moment


@kernel
def _identifier(tape: Ints, entry: int, max_bytes: int) -> int:
    """1 when a plain text identifier stands at `entry`, 0 when none does, -1 for a form that is left to the general path."""
    if entry < 0 or tape[entry, KIND] == NULL_KIND:
        return 0
    length = tape[entry, VALUE_END] - tape[entry, VALUE] - 2
    if tape[entry, KIND] != STRING or length > max_bytes:
        return -1
    return 1 if length > 0 else 0


@kernel
def _cell(data: Bytes, entry: Ints, kind: int, columns: Columns, used: Ints, max_bytes: int) -> int:
    """The value at tape row `entry` as a cell of type `kind`, `NOT_HERE` for a form that is left to the general path."""
    start, end, found = entry[VALUE], entry[VALUE_END], entry[KIND]
    if kind == TEXT and found == STRING and end - start - 2 <= max_bytes:
        length = end - start - 2
        at = used[CHARACTERS]
        for i in range(length):
            columns.strings[at + i] = data[start + 1 + i]
        used[CHARACTERS] = at + length
        return at << LENGTH_BITS | length
    if kind == NUMERIC and found == NUMBER:
        return micro_of(data, start, end)
    if kind == TRUTH and found in (TRUE, FALSE):
        return 1 if found == TRUE else 0
    if kind == INSTANT and found == STRING:
        return milliseconds_of(data, start + 1, end - 1)
    return NOT_HERE


@kernel
def _field(data: Bytes, at: int, edge: int, tables: Tables, columns: Columns, scratch: Scratch) -> bool:
    """Write the member at tape row `at` to the cells that `edge` declares; False leaves the row to the general path."""
    tape = scratch.tape
    found = tape[at, KIND]
    child = tables.edges[edge, CHILD]
    if child >= 0 and found == OBJECT:
        scratch.node_of[at] = child
    field = tables.edges[edge, MEANS]
    if field < 0 or found == NULL_KIND:
        return True
    used = scratch.used
    event_type = used[EVENT_TYPE]
    row = tables.types[event_type, 2] + field
    if tables.fields[row, 1] == 2:
        return True
    if tables.fields[row, 1] == 1:
        return False
    value = _cell(data, tape[at], tables.fields[row, 0], columns, used, used[MAX_BYTES])
    columns.values[used[CELLS] + field] = value
    return value != NOT_HERE


@kernel
def _root(data: Bytes, count: int, tables: Tables, scratch: Scratch) -> bool:
    """Find the members of the outermost object that mean something; False when one stands twice or there is a batch."""
    tape, slots = scratch.tape, scratch.slots
    for i in range(ROOT_MEANINGS):
        slots[i] = -1
    for i in range(count):
        scratch.node_of[i] = -1
        if tape[i, PARENT] == ROOT:
            edge = _find(data, tape[i, KEY], tape[i, KEY_LENGTH], ROOT_NODE, tables)
            if edge >= 0:
                meaning = tables.edges[edge, MEANS]
                if slots[meaning] >= 0:
                    return False
                slots[meaning] = i
    return slots[BATCH] < 0


@kernel
def _call(data: Bytes, tables: Tables, scratch: Scratch) -> int:
    """Which of the six calls it is, -1 when it is none that this path reads."""
    tape, at = scratch.tape, scratch.slots[TYPE]
    if at < 0 or tape[at, KIND] != STRING:
        return -1
    start = tape[at, VALUE] + 1
    edge = _find(data, start, tape[at, VALUE_END] - 1 - start, KIND_NODE, tables)
    if edge < 0 or tables.edges[edge, MEANS] == ALIAS:
        return -1
    return tables.edges[edge, MEANS]


@kernel
def _event_type(data: Bytes, call: int, tables: Tables, scratch: Scratch) -> int:
    """Index of the event type, -1 when it is not declared, `UNREADABLE` when there is no plain name."""
    if call != TRACK:
        return tables.types[len(tables.types) - CALLS + call, 0]
    tape, at = scratch.tape, scratch.slots[EVENT]
    if at < 0 or tape[at, KIND] != STRING:
        return UNREADABLE
    start = tape[at, VALUE] + 1
    length = tape[at, VALUE_END] - 1 - start
    if length == 0 or load8(data, start) == 36:
        return UNREADABLE
    edge = _find(data, start, length, EVENT_NODE, tables)
    return -1 if edge < 0 else tables.edges[edge, MEANS]


@kernel
def _containers(call: int, event_type: int, tables: Tables, scratch: Scratch) -> bool:
    """Mark the objects whose members are read; False when one that must be an object is something else."""
    tape, slots = scratch.tape, scratch.slots
    at = slots[TRAITS] if call in (IDENTIFY, GROUP) else slots[PROPERTIES]
    if at >= 0 and tape[at, KIND] == OBJECT:
        scratch.node_of[at] = -1 if event_type < 0 else tables.types[event_type, 0]
    elif at >= 0 and tape[at, KIND] != NULL_KIND:
        return False
    at = slots[CONTEXT]
    if at >= 0 and tape[at, KIND] == OBJECT:
        scratch.node_of[at] = CONTEXT_NODE
    elif at >= 0 and call == IDENTIFY:
        return False
    return True


@kernel
def _beside(data: Bytes, call: int, tables: Tables, columns: Columns, scratch: Scratch, row: int) -> bool:
    """Fields of page, screen and group calls that stand beside their properties and take precedence over them."""
    event_type = scratch.used[EVENT_TYPE]
    if event_type < 0 or call in (TRACK, IDENTIFY):
        return True
    first, last = (GROUP_ID, GROUP_ID) if call == GROUP else (NAME, CATEGORY)
    for meaning in range(first, last + 1):
        at = scratch.slots[meaning]
        if at < 0 or scratch.tape[at, KIND] == NULL_KIND:
            continue
        edge = _find(
            data, scratch.tape[at, KEY], scratch.tape[at, KEY_LENGTH], tables.types[event_type, 0], tables
        )
        if edge >= 0:
            scratch.seen[edge] = -(row + 1)
            if not _field(data, at, edge, tables, columns, scratch):
                return False
    return True


@kernel
def _context_member(at: int, meaning: int, call: int, scratch: Scratch) -> bool:
    """Note a member of `context`; False when the row is left to the general path."""
    used = scratch.used
    if meaning == CONTEXT_TRAITS:
        return call != IDENTIFY
    if meaning == TC_STRING:
        used[HAS_TC] = 1
        return True
    column = CONSENT_AT if meaning == CONSENT else MANAGEMENT_AT
    if used[column] >= 0:
        return False
    used[column] = at
    if meaning == CONSENT:
        scratch.node_of[at] = CONSENT_NODE
        return scratch.tape[at, KIND] == OBJECT
    return True


@kernel
def _members(data: Bytes, count: int, call: int, tables: Tables, columns: Columns, scratch: Scratch) -> bool:
    """Read every declared member below the outermost object; False leaves the row to the general path."""
    tape, seen = scratch.tape, scratch.seen
    stamp = scratch.used[STAMP]
    for i in range(count):
        parent = tape[i, PARENT]
        if parent < 0 or scratch.node_of[parent] < 0:
            continue
        node = scratch.node_of[parent]
        edge = _find(data, tape[i, KEY], tape[i, KEY_LENGTH], node, tables)
        if edge < 0:
            continue
        if node == CONTEXT_NODE:
            if not _context_member(i, tables.edges[edge, MEANS], call, scratch):
                return False
        elif node == CONSENT_NODE:
            scratch.used[HAS_PREFERENCES] = 1
        elif seen[edge] == stamp:
            return False
        elif seen[edge] != -stamp:
            seen[edge] = stamp
            if not _field(data, i, edge, tables, columns, scratch):
                return False
    return True


@kernel
def _consent(data: Bytes, row: int, columns: Columns, scratch: Scratch) -> bool:
    """Note the row's consent object, once per distinct bytes; False when the general path must look at it."""
    used, tape = scratch.used, scratch.tape
    columns.consent[row] = -1
    at = used[CONSENT_AT]
    form = 1
    if at >= 0:
        if used[MANAGEMENT_AT] >= 0 or not used[HAS_PREFERENCES]:
            return False
    else:
        at = used[MANAGEMENT_AT]
        form = 2
        if at < 0:
            return not used[HAS_TC]
    start, end = tape[at, VALUE], tape[at, VALUE_END]
    known = used[CONSENTS]
    for i in range(min(known, COMPARED_CONSENTS)):
        first = columns.consents[i, 1]
        if columns.consents[i, 0] == form and columns.consents[i, 2] - first == end - start:
            same = 0
            while same < end - start and data[first + same] == data[start + same]:
                same += 1
            if same == end - start:
                columns.consent[row] = i
                return True
    columns.consents[known, 0] = form
    columns.consents[known, 1] = start
    columns.consents[known, 2] = end
    columns.consent[row] = known
    used[CONSENTS] = known + 1
    return True


@kernel
def _hash(data: Bytes, start: int, end: int, state: Words, ids: Words, scratch: Scratch) -> None:
    """First 16 bytes of the keyed hash of `data[start:end]` into `ids`."""
    blake2b(scratch.hash, state, data, start, end - start, scratch.block)
    ids[0] = scratch.hash[0]
    ids[1] = scratch.hash[1]


@kernel
def _people(data: Bytes, call: int, ids: Words, tables: Tables, scratch: Scratch, job: Job) -> bool:
    """Pseudonyms of the subject and of what the row links it to; False when the general path must settle it."""
    tape, slots = scratch.tape, scratch.slots
    limit = job.numbers[STRING_BYTES]
    user = _identifier(tape, slots[USER_ID], limit)
    anonymous = _identifier(tape, slots[ANONYMOUS_ID], limit)
    message = _identifier(tape, slots[MESSAGE_ID], limit)
    if user < 0 or anonymous < 0 or message != 1 or user + anonymous == 0:
        return False
    if call == GROUP and _identifier(tape, slots[GROUP_ID], limit) != 1:
        return False
    linked = call == IDENTIFY and user + anonymous == 2
    older = job.numbers[OLDER]
    if linked and older:
        return False
    subject = slots[USER_ID] if user else slots[ANONYMOUS_ID]
    state = 0 if user else 1
    _hash(
        data, tape[subject, VALUE] + 1, tape[subject, VALUE_END] - 1, tables.states[state], ids[0:2], scratch
    )
    ids[2] = 0
    ids[3] = 0
    if older:
        _hash(
            data,
            tape[subject, VALUE] + 1,
            tape[subject, VALUE_END] - 1,
            tables.states[state + 2],
            ids[2:4],
            scratch,
        )
    if linked:
        other = slots[ANONYMOUS_ID]
        _hash(data, tape[other, VALUE] + 1, tape[other, VALUE_END] - 1, tables.states[1], ids[2:4], scratch)
    at = slots[MESSAGE_ID]
    _hash(data, tape[at, VALUE] + 1, tape[at, VALUE_END] - 1, tables.states[4], ids[4:6], scratch)
    return True


@kernel
def _read_row(data: Bytes, row: int, tables: Tables, columns: Columns, scratch: Scratch, job: Job) -> bool:
    """Read one row into its columns; False leaves it to the general path, with nothing counted as used."""
    start, end = job.offsets[row], job.offsets[row + 1]
    if end - start > job.numbers[EVENT_BYTES] or end == start:
        return False
    count = scan(data, start, end, scratch.tape, scratch.stack, job.limits)
    if count < 0 or not _root(data, count, tables, scratch):
        return False
    call = _call(data, tables, scratch)
    if call < 0:
        return False
    event_type = _event_type(data, call, tables, scratch)
    moment = _time_ms(data, scratch, job, row)
    if UNREADABLE in (event_type, moment) or not _containers(call, event_type, tables, scratch):
        return False
    used = scratch.used
    used[CONSENT_AT] = -1
    used[MANAGEMENT_AT] = -1
    used[HAS_PREFERENCES] = 0
    used[HAS_TC] = 0
    used[EVENT_TYPE] = event_type
    used[MAX_BYTES] = job.numbers[STRING_BYTES]
    used[STAMP] = row + 1
    first_cell = used[CELLS]
    width = 0 if event_type < 0 else tables.types[event_type, 1]
    for i in range(width):
        columns.values[first_cell + i] = NOT_HERE
    if not _beside(data, call, tables, columns, scratch, row):
        return False
    if not _members(data, count, call, tables, columns, scratch):
        return False
    for i in range(width):
        if tables.fields[tables.types[event_type, 2] + i, 2] and columns.values[first_cell + i] == NOT_HERE:
            return False
    ids = columns.ids[row]
    if not _consent(data, row, columns, scratch) or not _people(data, call, ids, tables, scratch, job):
        return False
    _hash(data, start, end, tables.states[5], ids[6:8], scratch)
    columns.time_ms[row] = moment
    columns.type[row] = event_type
    columns.value_offset[row] = first_cell
    used[CELLS] = first_cell + width
    return True


@kernel
def read_batch(data: Bytes, tables: Tables, columns: Columns, used: Ints, job: Job) -> None:
    """Read every row that this path can.

    Args:
        data: The rows' bytes one after another, with at least 128 bytes of padding.
        tables: The policy and keys.
        columns: Filled; `status` says for which rows.
        used: int64[USED], receives the cells, bytes and distinct consent objects written.
        job: What to read.
    """
    capacity = job.limits[1]
    scratch = Scratch(
        np.empty((capacity, 6), np.int64),
        np.empty(job.limits[0] + 2, np.int64),
        np.empty(ROOT_MEANINGS, np.int64),
        np.empty(capacity, np.int64),
        np.zeros(len(tables.edges), np.int64),
        used,
        np.empty(8, np.uint64),
        np.empty(128, np.uint8),
    )
    for row in range(len(job.offsets) - 1):
        characters, consents = used[CHARACTERS], used[CONSENTS]
        if _read_row(data, row, tables, columns, scratch, job):
            columns.status[row] = 1
        else:
            columns.status[row] = 0
            used[CHARACTERS] = characters
            used[CONSENTS] = consents
    scratch.block[:] = 0
