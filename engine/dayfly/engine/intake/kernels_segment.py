"""Segment payloads of a whole batch straight into the columns of an `EventBatch`: one scan, no Python object per event.

A row is either read completely, with the result that `SegmentReader` gives, or left alone (`STATUS` 0) for it.

Oracle: tests.oracles.intake.read_call
"""

from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from dayfly.engine.intake.kernels_blake2b import blake2b_many
from dayfly.engine.intake.kernels_calls import (
    CALLS,
    CONSENT_NODE,
    CONTEXT_NODE,
    GROUP,
    IDENTIFY,
    PAGE,
    SCREEN,
    TRACK,
    call_of,
    find_members,
    mark_containers,
    order_hashes,
    track_type,
)
from dayfly.engine.intake.kernels_json import (
    KEY,
    KEY_LENGTH,
    KIND,
    NULL_KIND,
    OBJECT,
    PARENT,
    scan,
)
from dayfly.engine.intake.kernels_layout import (
    CELLS,
    CHANNEL,
    CHANNEL_INDEX,
    CHARACTERS,
    CONSENT,
    CONSENT_AT,
    CONSENT_DIGEST,
    DROPPED,
    END,
    EVENT_BYTES,
    FIELD_MASK,
    FIELD_REQUIRED,
    FIELD_TYPE,
    GROUP_ID,
    HAS_PREFERENCES,
    HAS_TC,
    JOB_COUNT,
    JOB_LENGTHS,
    JOB_RECEIVED,
    JOBS,
    KEPT,
    MANAGEMENT_AT,
    MAX_JOBS,
    NAME,
    PLACE,
    RECEIVED,
    RECEIVED_MS,
    ROW,
    SENT,
    START,
    STATE_END,
    STATUS,
    STRING_BYTES,
    TIME_MS,
    TOTALS,
    TYPE_FIELDS,
    TYPE_INDEX,
    TYPE_NODE,
    TYPE_WIDTH,
    UNDECLARED,
    VALUE_OFFSET,
    Columns,
    Desk,
    Tables,
    open_columns,
    open_desk,
    open_tables,
)
from dayfly.engine.intake.kernels_members import (
    ABSENT,
    UNREADABLE,
    cell_of,
    consent_of,
    note_context,
    people_of,
    time_of,
)
from dayfly.engine.intake.kernels_names import CHILD, MEANS, find
from dayfly.engine.intake.kernels_values import NOT_HERE
from dayfly.privacy._jit import inlined_kernel, lean_kernel

__all__ = ["read_calls"]

Bytes: TypeAlias = npt.NDArray[np.uint8]
Ints: TypeAlias = npt.NDArray[np.int64]


@inlined_kernel
def _field(
    data: Bytes, place: tuple[int, int, int], tables: Tables, desk: Desk, values: Ints, strings: Bytes
) -> bool:
    """Read the value of a declared field; False when the row is left to the general path.

    A value that is masked is not even copied: it must not be left behind in the buffer of texts.

    Args:
        data: The rows.
        place: Row of the tape, row of `Tables.fields`, and the cell.
        tables: The policy.
        desk: The row at hand.
        values: Takes the cell.
        strings: Takes its text.
    """
    at, field, cell = place
    mask = tables.fields[field, FIELD_MASK]
    if desk.tape[at, KIND] == NULL_KIND or mask == DROPPED:
        return True
    if mask != KEPT:
        return False
    value = cell_of(data, desk, at, tables.fields[field, FIELD_TYPE], tables.settings[STRING_BYTES], strings)
    values[cell] = value
    return bool(value != NOT_HERE)


@inlined_kernel
def _members(
    data: Bytes, row: tuple[int, int, int, int], tables: Tables, desk: Desk, values: Ints, strings: Bytes
) -> bool:
    """Read the declared fields and what `context` says of consent; False when the row is left to the general path.

    Args:
        data: The rows.
        row: Members on the tape, the call, the node of its properties, its first row of `Tables.fields`.
        tables: The policy.
        desk: The row at hand.
        values: Takes the cells.
        strings: Takes the texts.
    """
    count, call, type_node, first_field = row
    mark = desk.state[ROW] + 1
    cells = desk.state[CELLS]
    # Fields of page, screen and group calls may stand beside the properties and then take precedence.
    first_beside, beside = NAME, 0
    if type_node >= 0 and call in (PAGE, SCREEN):
        beside = 2
    elif type_node >= 0 and call == GROUP:
        first_beside, beside = GROUP_ID, 1
    for i in range(-beside, count):
        at = i
        node = -1
        if i < 0:
            at = desk.slots[first_beside - i - 1]
            if at >= 0 and desk.tape[at, KIND] != NULL_KIND:
                node = type_node
        elif desk.tape[i, PARENT] >= 0:
            node = desk.node_of[desk.tape[i, PARENT]]
        if node < 0:
            continue
        edge = find(data, desk.tape[at, KEY], desk.tape[at, KEY_LENGTH], node, tables.edges)
        if edge < 0:
            continue
        readable = True
        meaning = tables.edges[edge, MEANS]
        if node == CONTEXT_NODE:
            readable = note_context(at, meaning, desk, CONSENT_NODE, call == IDENTIFY)
        elif node == CONSENT_NODE:
            desk.state[HAS_PREFERENCES] = 1
        elif desk.seen[edge] == mark:
            readable = False  # stands twice; the general path knows that the last one counts
        elif i < 0 or desk.seen[edge] != -mark:
            desk.seen[edge] = -mark if i < 0 else mark
            if tables.edges[edge, CHILD] >= 0 and desk.tape[at, KIND] == OBJECT:
                desk.node_of[at] = tables.edges[edge, CHILD]
            if meaning >= 0:
                place = (at, first_field + meaning, cells + meaning)
                readable = _field(data, place, tables, desk, values, strings)
        if not readable:
            return False
    return True


@inlined_kernel
def _row(data: Bytes, tables: Tables, desk: Desk, columns: Columns, strings: Bytes) -> bool:
    """Read the row at hand; False when it is left to the general path, and then nothing of it counts."""
    state, settings = desk.state, tables.settings
    start, end = state[START], state[END]
    if end - start > settings[EVENT_BYTES] or end == start:
        return False
    count = scan(data, start, end, desk.tape, desk.stack, desk.stops)
    if count < 0 or not find_members(data, count, tables, desk):
        return False
    call = call_of(data, tables, desk)
    if call < 0:
        return False
    event_type = tables.types[len(tables.types) - CALLS + call, 0]
    if call == TRACK:
        event_type = track_type(data, tables, desk, strings)
    moment = time_of(data, desk, settings)
    if UNREADABLE in (event_type, moment):
        return False
    type_node, width, first_field = -1, 0, 0
    if event_type >= 0:
        type_node = tables.types[event_type, TYPE_NODE]
        width = tables.types[event_type, TYPE_WIDTH]
        first_field = tables.types[event_type, TYPE_FIELDS]
    if not mark_containers(call, type_node, desk):
        return False
    place, cells = state[PLACE], state[CELLS]
    for i in range(width):
        columns.values[cells + i] = NOT_HERE
    if not _members(data, (count, call, type_node, first_field), tables, desk, columns.values, strings):
        return False
    for i in range(width):
        if tables.fields[first_field + i, FIELD_REQUIRED] and columns.values[cells + i] == NOT_HERE:
            return False
    people = people_of(desk, settings, call == GROUP, call == IDENTIFY)
    if people == 0:
        return False
    consent = consent_of(data, desk.tape, state, columns.grid)
    if consent == -2:
        return False
    order_hashes(people, tables, desk, columns)
    columns.grid[RECEIVED_MS, place] = state[RECEIVED]
    columns.grid[TIME_MS, place] = moment
    columns.grid[VALUE_OFFSET, place] = cells
    columns.grid[CONSENT_DIGEST, place] = 0
    columns.grid[TYPE_INDEX, place] = event_type
    columns.grid[CHANNEL_INDEX, place] = settings[CHANNEL]
    columns.grid[CONSENT, place] = consent
    state[CELLS] = cells + width
    state[UNDECLARED] += event_type < 0
    state[PLACE] = place + 1
    return True


@lean_kernel
def read_calls(data: Bytes, flat: Ints, work: Ints, out: Ints, strings: Bytes, job: Ints) -> None:
    """Read every row that this path can; a row that it leaves has `STATUS` 0 and counts nothing as used.

    Args:
        data: The rows' bytes one after another, with at least 128 bytes of padding.
        flat: The policy and keys, as `open_tables` opens them.
        work: int64[desk_words], working space.
        out: int64[result_words], receives the columns, as `open_columns` opens them.
        strings: uint8[len(data)], receives the texts.
        job: int64[2 + N] or, when envelopes say when they were sent, int64[2 + 2 N], see `JOB_RECEIVED`.
    """
    tables, desk = open_tables(flat), open_desk(work, flat)
    rows = job[JOB_COUNT]
    columns = open_columns(out, rows)
    state = desk.state
    for i in range(STATE_END):
        state[i] = 0
    state[RECEIVED] = job[JOB_RECEIVED]
    for i in range(len(desk.seen)):
        desk.seen[i] = 0
    sent = JOB_LENGTHS + rows
    start = 0
    for row in range(rows):
        end = start + job[JOB_LENGTHS + row]
        characters = state[CHARACTERS]
        state[ROW], state[START], state[END] = row, start, end
        state[SENT] = job[sent + row] if len(job) > sent else ABSENT
        state[CONSENT_AT], state[MANAGEMENT_AT] = -1, -1
        state[HAS_PREFERENCES], state[HAS_TC] = 0, 0
        read = _row(data, tables, desk, columns, strings)
        columns.grid[STATUS, row] = read
        if not read:
            state[CHARACTERS] = characters
        if state[JOBS] > MAX_JOBS - 4:
            blake2b_many(data, desk.jobs[: state[JOBS]], tables.states, columns.ids, desk.lanes)
            state[JOBS] = 0
        start = end
    blake2b_many(data, desk.jobs[: state[JOBS]], tables.states, columns.ids, desk.lanes)
    for i in range(TOTALS):
        columns.totals[i] = state[PLACE + i]
