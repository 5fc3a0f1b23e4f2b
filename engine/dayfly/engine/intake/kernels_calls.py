"""What a Segment call is: its members that mean something, which of the six calls, whose it is and what is hashed of it.

Oracle: tests.oracles.intake.read_call
"""

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from dayfly.engine.intake.kernels_blake2b import JOB_LENGTH, JOB_OUT, JOB_START, JOB_STATE
from dayfly.engine.intake.kernels_json import (
    ESCAPED,
    KEY,
    KEY_LENGTH,
    KIND,
    NULL_KIND,
    OBJECT,
    PARENT,
    ROOT,
    STRING,
    VALUE,
    VALUE_END,
)
from dayfly.engine.intake.kernels_layout import (
    ANONYMOUS_ID,
    ANONYMOUS_STATE,
    BATCH,
    CHARACTERS,
    CONTEXT,
    DIGEST_STATE,
    DIGESTS,
    END,
    EVENT,
    EVENT_ID_STATE,
    EVENT_IDS,
    JOBS,
    LINK_IDS,
    MESSAGE_ID,
    OLDER,
    OLDER_STATES,
    PLACE,
    PROPERTIES,
    ROOT_MEANINGS,
    START,
    SUBJECT_IDS,
    TRAITS,
    TYPE,
    USER_ID,
    USER_STATE,
    Columns,
    Desk,
    Tables,
)
from dayfly.engine.intake.kernels_members import (
    UNREADABLE,
)
from dayfly.engine.intake.kernels_memory import load8
from dayfly.engine.intake.kernels_names import MEANS, find
from dayfly.engine.intake.kernels_values import unescape
from dayfly.privacy._jit import inlined_kernel

__all__ = [
    "ALIAS",
    "CONSENT_NODE",
    "CONTEXT_NODE",
    "EVENT_NODE",
    "FIRST_TYPE_NODE",
    "GROUP",
    "IDENTIFY",
    "KIND_NODE",
    "PAGE",
    "ROOT_NODE",
    "SCREEN",
    "TRACK",
    "call_of",
    "find_members",
    "mark_containers",
    "order_hashes",
    "track_type",
]

Bytes: TypeAlias = npt.NDArray[np.uint8]

# Nodes that every policy has; those of event types follow.
ROOT_NODE, KIND_NODE, EVENT_NODE, CONTEXT_NODE, CONSENT_NODE, FIRST_TYPE_NODE = 0, 1, 2, 3, 4, 5

TRACK, PAGE, SCREEN, IDENTIFY, GROUP, ALIAS = 0, 1, 2, 3, 4, 5
CALLS = 6

DOLLAR = 36


@inlined_kernel
def find_members(data: Bytes, count: int, tables: Tables, desk: Desk) -> bool:
    """Find the members of the outermost object that mean something; False when one stands twice or there is a batch."""
    slots, tape = desk.slots, desk.tape
    for i in range(ROOT_MEANINGS):
        slots[i] = -1
    for i in range(count):
        desk.node_of[i] = -1
        if tape[i, PARENT] == ROOT:
            edge = find(data, tape[i, KEY], tape[i, KEY_LENGTH], ROOT_NODE, tables.edges)
            if edge >= 0:
                meaning = tables.edges[edge, MEANS]
                if slots[meaning] >= 0:
                    return False
                slots[meaning] = i
    return bool(slots[BATCH] < 0)


@inlined_kernel
def call_of(data: Bytes, tables: Tables, desk: Desk) -> Any:
    """Which of the six calls it is, -1 when it is none that this path reads."""
    at = desk.slots[TYPE]
    if at < 0 or desk.tape[at, KIND] != STRING:
        return -1
    start = desk.tape[at, VALUE] + 1
    length = desk.tape[at, VALUE_END] - 1 - start
    edge = find(data, start, length, KIND_NODE, tables.edges)
    if edge < 0 or tables.edges[edge, MEANS] == ALIAS:
        return -1
    return tables.edges[edge, MEANS]


@inlined_kernel
def track_type(data: Bytes, tables: Tables, desk: Desk, strings: Bytes) -> Any:
    """Event type of a track call, -1 when undeclared, `UNREADABLE` without a plain name.

    An escaped name is unescaped into the free end of `strings`, where the row's first text will stand.
    """
    at = desk.slots[EVENT]
    if at < 0 or (desk.tape[at, KIND] != STRING and desk.tape[at, KIND] != ESCAPED):
        return UNREADABLE
    start, end = desk.tape[at, VALUE] + 1, desk.tape[at, VALUE_END] - 1
    if desk.tape[at, KIND] == ESCAPED:
        place = desk.state[CHARACTERS]
        end = unescape(data, start, end, strings, place)
        if end == place or load8(strings, place) == DOLLAR:
            return UNREADABLE
        edge = find(strings, place, end - place, EVENT_NODE, tables.edges)
    else:
        if end == start or load8(data, start) == DOLLAR:
            return UNREADABLE
        edge = find(data, start, end - start, EVENT_NODE, tables.edges)
    return -1 if edge < 0 else tables.edges[edge, MEANS]


@inlined_kernel
def mark_containers(call: int, type_node: int, desk: Desk) -> bool:
    """Mark the objects whose members are read; False when one that must be an object is something else."""
    at = desk.slots[TRAITS] if call in (IDENTIFY, GROUP) else desk.slots[PROPERTIES]
    if at >= 0 and desk.tape[at, KIND] == OBJECT:
        desk.node_of[at] = type_node
    elif at >= 0 and desk.tape[at, KIND] != NULL_KIND:
        return False
    at = desk.slots[CONTEXT]
    if at >= 0 and desk.tape[at, KIND] == OBJECT:
        desk.node_of[at] = CONTEXT_NODE
    elif at >= 0 and call == IDENTIFY:
        return False
    return True


@inlined_kernel
def _hash(desk: Desk, start: int, length: int, state: int, out: int) -> None:
    """Put one message aside for `blake2b_many`."""
    waiting = desk.state[JOBS]
    desk.jobs[waiting, JOB_START] = start
    desk.jobs[waiting, JOB_LENGTH] = length
    desk.jobs[waiting, JOB_STATE] = state
    desk.jobs[waiting, JOB_OUT] = out
    desk.state[JOBS] = waiting + 1


@inlined_kernel
def _hash_text(desk: Desk, at: int, state: int, out: int) -> None:
    """Put the text at tape row `at` aside for `blake2b_many`."""
    start = desk.tape[at, VALUE] + 1
    _hash(desk, start, desk.tape[at, VALUE_END] - 1 - start, state, out)


@inlined_kernel
def order_hashes(people: int, tables: Tables, desk: Desk, columns: Columns) -> None:
    """Order the hashes of the row: subject, link, event id and digest."""
    rows = columns.grid.shape[1]
    place = desk.state[PLACE]
    subject, subject_state = desk.slots[USER_ID], USER_STATE
    if people == 2:
        subject, subject_state = desk.slots[ANONYMOUS_ID], ANONYMOUS_STATE
    _hash_text(desk, subject, subject_state, SUBJECT_IDS * rows + place)
    link = LINK_IDS * rows + place
    if people == 3:
        _hash_text(desk, desk.slots[ANONYMOUS_ID], ANONYMOUS_STATE, link)
    elif tables.settings[OLDER]:
        _hash_text(desk, subject, subject_state + OLDER_STATES, link)
    else:
        columns.ids[link, 0] = 0
        columns.ids[link, 1] = 0
    _hash_text(desk, desk.slots[MESSAGE_ID], EVENT_ID_STATE, EVENT_IDS * rows + place)
    start = desk.state[START]
    _hash(desk, start, desk.state[END] - start, DIGEST_STATE, DIGESTS * rows + place)
