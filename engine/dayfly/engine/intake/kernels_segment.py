"""Segment payloads of a whole batch straight into the columns of an `EventBatch`: one scan, no Python object per event.

A row is either read completely, with the result that `SegmentReader` gives, or left alone (`status` 0) for it.

Oracle: tests.oracles.intake.read_call
"""

from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from dayfly.engine.intake.kernels_blake2b import JOB_LENGTH, JOB_OUT, JOB_START, JOB_STATE
from dayfly.engine.intake.kernels_json import (
    ESCAPED,
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
    unescape,
)
from dayfly.engine.intake.kernels_memory import MASK64, i64, load8, load64, u64
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
        edges: int64[E, 12]: node, length of the name, what it means there, node below it or -1, and the name itself as
            eight words of little-endian bytes; longer names are not served.
        buckets: int64[B], hash to edge, -1 for none; B is a power of two.
        types: int64[T + 6, 3]: node of the properties, number of fields, first row in `fields`; the last six rows hold
            for each call but track its event type or -1.
        fields: int64[F, 3]: type (0 text, 1 number, 2 boolean, 3 time), 1 when masked and 2 when dropped, 1 when required.
        states: uint64[6, 8], BLAKE2b states: user, anonymous, older user, older anonymous, event id, digest.
    """

    edges: Ints
    buckets: Ints
    types: Ints
    fields: Ints
    states: Words


class Columns(NamedTuple):
    """Columns to fill, as in `EventBatch`, for all rows of the call.

    Attributes:
        status: int64[N], 1 where the row was read.
        time_ms, type, value_offset: int64[N].
        ids: uint64[4 N, 2]: subject, link, event id and digest of each row, hashed later by `jobs`.
        jobs: int64[4 N, 4], what to hash, as `blake2b_many` takes it.
        consent: int64[N], row in `consents`, -1 for none.
        consents: int64[N, 3], distinct consent objects: form (1 Segment, 2 RudderStack), start and end.
        values: int64[], strings: uint8[], large enough for every row.
    """

    status: Ints
    time_ms: Ints
    type: Ints
    value_offset: Ints
    ids: Words
    jobs: Ints
    consent: Ints
    consents: Ints
    values: Ints
    strings: Bytes


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
NODE, NAME_LENGTH, MEANS, CHILD, FIRST_WORD = 0, 1, 2, 3, 4
NAME_WORDS = 8
MAX_NAME_BYTES = 8 * NAME_WORDS

ROOT_NODE, KIND_NODE, EVENT_NODE, CONTEXT_NODE, CONSENT_NODE, FIRST_TYPE_NODE = 0, 1, 2, 3, 4, 5

# What members of the outermost object mean.
TYPE, EVENT, MESSAGE_ID, USER_ID, ANONYMOUS_ID, TIMESTAMP, ORIGINAL, SENT_AT = 0, 1, 2, 3, 4, 5, 6, 7
PROPERTIES, TRAITS, CONTEXT, NAME, CATEGORY, GROUP_ID, BATCH = 8, 9, 10, 11, 12, 13, 14
ROOT_MEANINGS = 15

TRACK, PAGE, SCREEN, IDENTIFY, GROUP, ALIAS = 0, 1, 2, 3, 4, 5
CALLS = 6

# What members of `context` mean.
CONSENT, CONSENT_MANAGEMENT, TC_STRING, CONTEXT_TRAITS = 0, 1, 2, 3

# What a call has used so far (cells, bytes, distinct consent objects) and what the present row has shown.
CELLS, CHARACTERS, CONSENTS, CONSENT_AT, MANAGEMENT_AT, HAS_PREFERENCES, HAS_TC, MAX_BYTES = (
    0,
    1,
    2,
    3,
    4,
    5,
    6,
    7,
)
JOBS = 8
USED = 9

USER_STATE, ANONYMOUS_STATE, OLDER_STATES, EVENT_ID_STATE, DIGEST_STATE = 0, 1, 2, 4, 5

ABSENT = NOT_HERE
UNREADABLE = NOT_HERE + 1
TEXT, NUMERIC, TRUTH, INSTANT = 0, 1, 2, 3
COMPARED_CONSENTS = 64
LENGTH_BITS = 20

K0, K1, K2 = u64(0x9E3779B97F4A7C15), u64(0xC2B2AE3D27D4EB4F), u64(0x165667B19E3779F9)
C1, C32 = u64(1), u64(32)
MASK63 = 0x7FFFFFFFFFFFFFFF
DOLLAR = 36
DROPPED = 2


@kernel
def name_word(data: Bytes, at: int, length: int) -> Any:
    """Up to eight bytes of a name, of which `length` are left, zeros beyond its end; as int64."""
    word = load64(data, at)
    if length < 8:
        word &= (C1 << u64(8 * length)) - C1
    return i64(word)


@kernel
def hash_name(data: Bytes, at: int, length: int, node: int) -> Any:
    """Where to look for a name under a node; mixes its first and last eight bytes, its length and the node."""
    mixed = (u64(name_word(data, at, length) & MASK63) * K0) & MASK64
    mixed ^= (u64(length * 64 + node) * K1) & MASK64
    if length > 8:
        mixed ^= (load64(data, at + length - 8) * K2) & MASK64
    mixed = (mixed * K0) & MASK64
    return i64(mixed >> C32)


@kernel
def _find(data: Bytes, at: int, length: int, node: int, edges: Ints, buckets: Ints) -> Any:
    """Edge of the name `data[at:at + length]` under `node`, -1 when it has no meaning there."""
    if length > MAX_NAME_BYTES:
        return -1
    mask = len(buckets) - 1
    bucket = hash_name(data, at, length, node) & mask
    while True:
        edge = buckets[bucket]
        if edge < 0:
            return -1
        if edges[edge, NODE] == node and edges[edge, NAME_LENGTH] == length:
            i = 0
            while i < length and edges[edge, FIRST_WORD + (i >> 3)] == name_word(data, at + i, length - i):
                i += 8
            if i >= length:
                return edge
        bucket = (bucket + 1) & mask


@kernel
def _instant(data: Bytes, tape: Ints, entry: int) -> Any:
    """Milliseconds of the text at `entry`, `ABSENT` without one, `UNREADABLE` for any other form."""
    if entry < 0 or tape[entry, KIND] == NULL_KIND:
        return ABSENT
    if tape[entry, KIND] != STRING:
        return UNREADABLE
    moment = milliseconds_of(data, tape[entry, VALUE] + 1, tape[entry, VALUE_END] - 1)
    return UNREADABLE if moment == NOT_HERE else moment


@kernel
def _time_ms(data: Bytes, tape: Ints, slots: Ints, numbers: Ints, envelope_ms: int) -> Any:
    """Event time by the rule of `segment._time_ms`, `UNREADABLE` when it is left to the general path."""
    received = numbers[RECEIVED]
    original = _instant(data, tape, slots[ORIGINAL])
    stated = _instant(data, tape, slots[TIMESTAMP])
    sent = _instant(data, tape, slots[SENT_AT])
    if sent == ABSENT:
        sent = envelope_ms
    if UNREADABLE in (original, stated, sent):
        return UNREADABLE
    moment = stated if original == ABSENT or stated != ABSENT else original
    if moment == ABSENT:
        moment = received
    elif sent != ABSENT and numbers[CORRECT] and (ABSENT in (original, stated)):
        moment += received - sent
    ahead = moment - received
    return UNREADABLE if ahead > numbers[FUTURE] or -ahead > numbers[LATE] else moment


@kernel
def _identifier(tape: Ints, entry: int, max_bytes: int) -> Any:
    """1 when a plain text identifier stands at `entry`, 0 when none does, -1 for a form that is left to the general path."""
    if entry < 0 or tape[entry, KIND] == NULL_KIND:
        return 0
    length = tape[entry, VALUE_END] - tape[entry, VALUE] - 2
    if tape[entry, KIND] != STRING or length > max_bytes:
        return -1
    return 1 if length > 0 else 0


@kernel
def _cell(data: Bytes, tape: Ints, at: int, kind: int, strings: Bytes, used: Ints) -> Any:
    """The value at tape row `at` as a cell of type `kind`, `NOT_HERE` for a form that is left to the general path."""
    start, end, found = tape[at, VALUE], tape[at, VALUE_END], tape[at, KIND]
    if kind == TEXT and found == STRING and end - start - 2 <= used[MAX_BYTES]:
        length = end - start - 2
        place = used[CHARACTERS]
        for i in range(length):
            strings[place + i] = data[start + 1 + i]
        used[CHARACTERS] = place + length
        return place << LENGTH_BITS | length
    if kind == TEXT and found == ESCAPED:
        place = used[CHARACTERS]
        stop = unescape(data, start + 1, end - 1, strings, place)
        used[CHARACTERS] = stop
        return place << LENGTH_BITS | (stop - place) if stop - place <= used[MAX_BYTES] else NOT_HERE
    if kind == NUMERIC and found == NUMBER:
        return micro_of(data, start, end)
    if kind == TRUTH and (found in (TRUE, FALSE)):
        return 1 if found == TRUE else 0
    if kind == INSTANT and found == STRING:
        return milliseconds_of(data, start + 1, end - 1)
    return NOT_HERE


@kernel
def _root(data: Bytes, count: int, tape: Ints, slots: Ints, edges: Ints, buckets: Ints) -> bool:
    """Find the members of the outermost object that mean something; False when one stands twice or there is a batch."""
    for i in range(ROOT_MEANINGS):
        slots[i] = -1
    for i in range(count):
        if tape[i, PARENT] == ROOT:
            edge = _find(data, tape[i, KEY], tape[i, KEY_LENGTH], ROOT_NODE, edges, buckets)
            if edge >= 0:
                meaning = edges[edge, MEANS]
                if slots[meaning] >= 0:
                    return False
                slots[meaning] = i
    return bool(slots[BATCH] < 0)


@kernel
def _call(data: Bytes, tape: Ints, slots: Ints, edges: Ints, buckets: Ints) -> Any:
    """Which of the six calls it is, -1 when it is none that this path reads."""
    at = slots[TYPE]
    if at < 0 or tape[at, KIND] != STRING:
        return -1
    start = tape[at, VALUE] + 1
    edge = _find(data, start, tape[at, VALUE_END] - 1 - start, KIND_NODE, edges, buckets)
    if edge < 0 or edges[edge, MEANS] == ALIAS:
        return -1
    return edges[edge, MEANS]


@kernel
def _track_type(data: Bytes, at: int, tape: Ints, edges: Ints, buckets: Ints, scratch: Bytes) -> Any:
    """Event type of the track call whose name is at tape row `at`, -1 when undeclared, `UNREADABLE` without a plain name.

    An escaped name is unescaped into `scratch`, whose content is not used by anybody else.
    """
    if at < 0 or (tape[at, KIND] != STRING and tape[at, KIND] != ESCAPED):
        return UNREADABLE
    start, end = tape[at, VALUE] + 1, tape[at, VALUE_END] - 1
    names = data
    if tape[at, KIND] == ESCAPED:
        end = unescape(data, start, end, scratch, 0)
        start = 0
        names = scratch
    if end == start or load8(names, start) == DOLLAR:
        return UNREADABLE
    edge = _find(names, start, end - start, EVENT_NODE, edges, buckets)
    return -1 if edge < 0 else edges[edge, MEANS]


@kernel
def _containers(call: int, type_node: int, tape: Ints, slots: Ints, node_of: Ints) -> bool:
    """Mark the objects whose members are read; False when one that must be an object is something else."""
    at = slots[TRAITS] if call in (IDENTIFY, GROUP) else slots[PROPERTIES]
    if at >= 0 and tape[at, KIND] == OBJECT:
        node_of[at] = type_node
    elif at >= 0 and tape[at, KIND] != NULL_KIND:
        return False
    at = slots[CONTEXT]
    if at >= 0 and tape[at, KIND] == OBJECT:
        node_of[at] = CONTEXT_NODE
    elif at >= 0 and call == IDENTIFY:
        return False
    return True


@kernel
def _context_member(at: int, meaning: int, call: int, tape: Ints, node_of: Ints, used: Ints) -> bool:
    """Note a member of `context`; False when the row is left to the general path."""
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
        node_of[at] = CONSENT_NODE
        return bool(tape[at, KIND] == OBJECT)
    return True


@kernel
def _consent(data: Bytes, tape: Ints, used: Ints, consents: Ints) -> Any:
    """Number of the row's consent object, each distinct one noted once; -1 without one, -2 for the general path."""
    at = used[CONSENT_AT]
    form = 1
    if at >= 0:
        if used[MANAGEMENT_AT] >= 0 or used[HAS_PREFERENCES] == 0:
            return -2
    else:
        at = used[MANAGEMENT_AT]
        form = 2
        if at < 0:
            return -2 if used[HAS_TC] else -1
    start, end = tape[at, VALUE], tape[at, VALUE_END]
    known = used[CONSENTS]
    for i in range(min(known, COMPARED_CONSENTS)):
        first = consents[i, 1]
        if consents[i, 0] == form and consents[i, 2] - first == end - start:
            same = 0
            while same < end - start and data[first + same] == data[start + same]:
                same += 1
            if same == end - start:
                return i
    consents[known, 0] = form
    consents[known, 1] = start
    consents[known, 2] = end
    used[CONSENTS] = known + 1
    return known


@kernel
def _people(tape: Ints, slots: Ints, call: int, older: int, max_bytes: int) -> Any:
    """Who the row is about: 1 a user, 2 an anonymous id, 3 both and linked; 0 when the general path must settle it."""
    user = _identifier(tape, slots[USER_ID], max_bytes)
    anonymous = _identifier(tape, slots[ANONYMOUS_ID], max_bytes)
    message = _identifier(tape, slots[MESSAGE_ID], max_bytes)
    if user < 0 or anonymous < 0 or message != 1 or user + anonymous == 0:
        return 0
    if call == GROUP and _identifier(tape, slots[GROUP_ID], max_bytes) != 1:
        return 0
    if call == IDENTIFY and user + anonymous == 2:
        return 0 if older else 3
    return 1 if user else 2


@kernel
def read_batch(data: Bytes, tables: Tables, columns: Columns, used: Ints, job: Job) -> None:
    """Read every row that this path can; a row that it leaves has `status` 0 and counts nothing as used.

    The bundles are opened here and every helper takes plain arrays: passing bundles on costs more than the work itself.

    Args:
        data: The rows' bytes one after another, with at least 128 bytes of padding.
        tables: The policy and keys.
        columns: Filled; `status` says for which rows.
        used: int64[USED], receives the cells, bytes, distinct consent objects and jobs written.
        job: What to read.
    """
    edges, buckets, types, fields = tables.edges, tables.buckets, tables.types, tables.fields
    offsets, sent_ms, numbers, limits = job.offsets, job.sent_ms, job.numbers, job.limits
    status, ids, jobs, values, strings, consents = (
        columns.status,
        columns.ids,
        columns.jobs,
        columns.values,
        columns.strings,
        columns.consents,
    )
    tape = np.empty((limits[1], 6), np.int64)
    stack = np.empty(limits[0] + 2, np.int64)
    slots = np.empty(ROOT_MEANINGS, np.int64)
    node_of = np.empty(limits[1], np.int64)
    seen = np.zeros(len(edges), np.int64)
    scratch = np.empty(numbers[EVENT_BYTES] + 8, np.uint8)
    cells = 0
    waiting = 0
    characters = 0
    known_consents = 0
    used[MAX_BYTES] = numbers[STRING_BYTES]
    for row in range(len(offsets) - 1):
        status[row] = 0
        used[CHARACTERS] = characters
        used[CONSENTS] = known_consents
        used[CONSENT_AT] = -1
        used[MANAGEMENT_AT] = -1
        used[HAS_PREFERENCES] = 0
        used[HAS_TC] = 0
        start, end = offsets[row], offsets[row + 1]
        if end - start > numbers[EVENT_BYTES] or end == start:
            continue
        count = scan(data, start, end, tape, stack, limits)
        if count < 0 or not _root(data, count, tape, slots, edges, buckets):
            continue
        call = _call(data, tape, slots, edges, buckets)
        if call < 0:
            continue
        if call == TRACK:
            event_type = _track_type(data, slots[EVENT], tape, edges, buckets, scratch)
        else:
            event_type = types[len(types) - CALLS + call, 0]
        moment = _time_ms(data, tape, slots, numbers, sent_ms[row])
        if UNREADABLE in (event_type, moment):
            continue
        type_node, width, first_field = -1, 0, 0
        if event_type >= 0:
            type_node, width, first_field = types[event_type, 0], types[event_type, 1], types[event_type, 2]
        for i in range(count):
            node_of[i] = -1
        if not _containers(call, type_node, tape, slots, node_of):
            continue
        for i in range(width):
            values[cells + i] = NOT_HERE
        # Fields of page, screen and group calls may stand beside the properties and then take precedence.
        first_beside, beside = NAME, 0
        if event_type >= 0 and (call in (PAGE, SCREEN)):
            beside = 2
        elif event_type >= 0 and call == GROUP:
            first_beside, beside = GROUP_ID, 1
        readable = True
        for i in range(-beside, count):
            at = i
            node = -1
            if i < 0:
                at = slots[first_beside - i - 1]
                if at >= 0 and tape[at, KIND] != NULL_KIND:
                    node = type_node
            elif tape[i, PARENT] >= 0:
                node = node_of[tape[i, PARENT]]
            if node < 0:
                continue
            edge = _find(data, tape[at, KEY], tape[at, KEY_LENGTH], node, edges, buckets)
            if edge < 0:
                continue
            if node == CONTEXT_NODE:
                readable = _context_member(at, edges[edge, MEANS], call, tape, node_of, used)
            elif node == CONSENT_NODE:
                used[HAS_PREFERENCES] = 1
            elif seen[edge] == row + 1:
                readable = False  # stands twice; the general path knows that the last one counts
            elif i < 0 or seen[edge] != -(row + 1):
                seen[edge] = -(row + 1) if i < 0 else row + 1
                found = tape[at, KIND]
                if edges[edge, CHILD] >= 0 and found == OBJECT:
                    node_of[at] = edges[edge, CHILD]
                field = edges[edge, MEANS]
                if field >= 0 and found != NULL_KIND and fields[first_field + field, 1] != DROPPED:
                    value = _cell(data, tape, at, fields[first_field + field, 0], strings, used)
                    values[cells + field] = value
                    readable = value != NOT_HERE and fields[first_field + field, 1] == 0
            if not readable:
                break
        for i in range(width):
            if fields[first_field + i, 2] and values[cells + i] == NOT_HERE:
                readable = False
        people = _people(tape, slots, call, numbers[OLDER], numbers[STRING_BYTES])
        if not readable or people == 0:
            continue
        consent = _consent(data, tape, used, consents)
        if consent == -2:
            continue
        # 0 is the subject, 1 what it is linked to, 2 the event id, 3 the digest.
        for which in range(4):
            entry = slots[USER_ID]
            state = USER_STATE
            if people == 2 or (people == 3 and which == 1):
                entry = slots[ANONYMOUS_ID]
                state = ANONYMOUS_STATE
            if which == 1 and people != 3:
                if not numbers[OLDER]:
                    ids[4 * row + 1, 0] = 0
                    ids[4 * row + 1, 1] = 0
                    continue
                state += OLDER_STATES
            if which == 2:
                entry = slots[MESSAGE_ID]
                state = EVENT_ID_STATE
            first, length = tape[entry, VALUE] + 1, tape[entry, VALUE_END] - tape[entry, VALUE] - 2
            if which == 3:
                first, length, state = start, end - start, DIGEST_STATE
            jobs[waiting, JOB_START] = first
            jobs[waiting, JOB_LENGTH] = length
            jobs[waiting, JOB_STATE] = state
            jobs[waiting, JOB_OUT] = 4 * row + which
            waiting += 1
        columns.time_ms[row] = moment
        columns.type[row] = event_type
        columns.value_offset[row] = cells
        columns.consent[row] = consent
        status[row] = 1
        cells += width
        characters = used[CHARACTERS]
        known_consents = used[CONSENTS]
    used[CELLS] = cells
    used[CHARACTERS] = characters
    used[CONSENTS] = known_consents
    used[JOBS] = waiting
