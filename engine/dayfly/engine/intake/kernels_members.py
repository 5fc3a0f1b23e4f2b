"""What the members of a Segment call hold: cells of declared fields, instants, identifiers and consent objects.

Oracle: tests.oracles.intake.read_call
"""

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from dayfly.engine.events import LENGTH_BITS
from dayfly.engine.intake.kernels_json import (
    ESCAPED,
    FALSE,
    KIND,
    NULL_KIND,
    NUMBER,
    OBJECT,
    STRING,
    TRUE,
    VALUE,
    VALUE_END,
)
from dayfly.engine.intake.kernels_layout import (
    ANONYMOUS_ID,
    CHARACTERS,
    CONSENT_AT,
    CONSENTS,
    CORRECT,
    FIRST,
    FORM,
    FUTURE,
    GROUP_ID,
    HAS_PREFERENCES,
    HAS_TC,
    INSTANT,
    LAST,
    LATE,
    MANAGEMENT_AT,
    MESSAGE_ID,
    NUMERIC,
    OLDER,
    ORIGINAL,
    RECEIVED,
    SENT,
    SENT_AT,
    STRING_BYTES,
    TEXT,
    TIMESTAMP,
    TRUTH,
    USER_ID,
    Desk,
)
from dayfly.engine.intake.kernels_values import NOT_HERE, copy_bytes, micro_of, milliseconds_of, unescape
from dayfly.privacy._jit import inlined_kernel, lean_kernel

__all__ = ["ABSENT", "UNREADABLE", "cell_of", "consent_of", "note_context", "people_of", "time_of"]

Bytes: TypeAlias = npt.NDArray[np.uint8]
Ints: TypeAlias = npt.NDArray[np.int64]

ABSENT = NOT_HERE
UNREADABLE = NOT_HERE + 1

# What members of `context` mean.
CONTEXT_CONSENT, CONTEXT_MANAGEMENT, CONTEXT_TC, CONTEXT_TRAITS = 0, 1, 2, 3

COMPARED_CONSENTS = 64


@lean_kernel
def _instant(data: Bytes, tape: Ints, entry: int) -> Any:
    """Milliseconds of the text at `entry`, `ABSENT` without one, `UNREADABLE` for any other form."""
    if entry < 0 or tape[entry, KIND] == NULL_KIND:
        return ABSENT
    if tape[entry, KIND] != STRING:
        return UNREADABLE
    moment = milliseconds_of(data, tape[entry, VALUE] + 1, tape[entry, VALUE_END] - 1)
    return UNREADABLE if moment == NOT_HERE else moment


@inlined_kernel
def time_of(data: Bytes, desk: Desk, settings: Ints) -> Any:
    """Event time by the rule of `segment._time_ms`, `UNREADABLE` when it is left to the general path."""
    received = desk.state[RECEIVED]
    original = _instant(data, desk.tape, desk.slots[ORIGINAL])
    stated = _instant(data, desk.tape, desk.slots[TIMESTAMP])
    sent = _instant(data, desk.tape, desk.slots[SENT_AT])
    if sent == ABSENT:
        sent = desk.state[SENT]
    if UNREADABLE in (original, stated, sent):
        return UNREADABLE
    moment = stated if original == ABSENT or stated != ABSENT else original
    if moment == ABSENT:
        moment = received
    elif sent != ABSENT and settings[CORRECT] and (ABSENT in (original, stated)):
        moment += received - sent
    ahead = moment - received
    return UNREADABLE if ahead > settings[FUTURE] or -ahead > settings[LATE] else moment


@inlined_kernel
def _identifier(tape: Ints, entry: int, max_bytes: int) -> Any:
    """1 when a plain text identifier stands at `entry`, 0 when none does, -1 for a form that is left to the general path."""
    if entry < 0 or tape[entry, KIND] == NULL_KIND:
        return 0
    length = tape[entry, VALUE_END] - tape[entry, VALUE] - 2
    if tape[entry, KIND] != STRING or length > max_bytes:
        return -1
    return 1 if length > 0 else 0


@inlined_kernel
def people_of(desk: Desk, settings: Ints, grouped: int, linking: int) -> Any:
    """Who the row is about: 1 a user, 2 an anonymous id, 3 both and linked; 0 when the general path must settle it.

    Args:
        desk: The row at hand.
        settings: The policy's.
        grouped: The call needs a group id.
        linking: The call says that its two ids are one person.
    """
    most = settings[STRING_BYTES]
    user = _identifier(desk.tape, desk.slots[USER_ID], most)
    anonymous = _identifier(desk.tape, desk.slots[ANONYMOUS_ID], most)
    message = _identifier(desk.tape, desk.slots[MESSAGE_ID], most)
    if user < 0 or anonymous < 0 or message != 1 or user + anonymous == 0:
        return 0
    if grouped and _identifier(desk.tape, desk.slots[GROUP_ID], most) != 1:
        return 0
    if linking and user + anonymous == 2:
        return 0 if settings[OLDER] else 3
    return 1 if user else 2


@inlined_kernel
def cell_of(data: Bytes, desk: Desk, at: int, kind: int, most: int, strings: Bytes) -> Any:
    """The value at tape row `at` as a cell of type `kind`, `NOT_HERE` for a form that is left to the general path.

    Args:
        data: The rows.
        desk: The row at hand; its `CHARACTERS` move on.
        at: Row of the tape.
        kind: Type of the field.
        most: Bytes that a text may have.
        strings: Takes the text.
    """
    start, end, found = desk.tape[at, VALUE], desk.tape[at, VALUE_END], desk.tape[at, KIND]
    place = desk.state[CHARACTERS]
    if kind == TEXT and found == STRING and end - start - 2 <= most:
        length = end - start - 2
        copy_bytes(data, start + 1, length, strings, place)
        desk.state[CHARACTERS] = place + length
        return place << LENGTH_BITS | length
    if kind == TEXT and found == ESCAPED:
        stop = unescape(data, start + 1, end - 1, strings, place)
        desk.state[CHARACTERS] = stop
        return place << LENGTH_BITS | (stop - place) if stop - place <= most else NOT_HERE
    if kind == NUMERIC and found == NUMBER:
        return micro_of(data, start, end)
    if kind == TRUTH and (found in (TRUE, FALSE)):
        return 1 if found == TRUE else 0
    if kind == INSTANT and found == STRING:
        return milliseconds_of(data, start + 1, end - 1)
    return NOT_HERE


@inlined_kernel
def note_context(at: int, meaning: int, desk: Desk, consent_node: int, identifying: int) -> bool:
    """Note a member of `context`; False when the row is left to the general path."""
    if meaning == CONTEXT_TRAITS:
        return not identifying
    if meaning == CONTEXT_TC:
        desk.state[HAS_TC] = 1
        return True
    column = CONSENT_AT if meaning == CONTEXT_CONSENT else MANAGEMENT_AT
    if desk.state[column] >= 0:
        return False
    desk.state[column] = at
    if meaning == CONTEXT_CONSENT:
        desk.node_of[at] = consent_node
        return bool(desk.tape[at, KIND] == OBJECT)
    return True


@lean_kernel
def consent_of(data: Bytes, tape: Ints, state: Ints, grid: Ints) -> Any:
    """Number of the row's consent object, each distinct one noted once; -1 without one, -2 for the general path."""
    at = state[CONSENT_AT]
    form = 1
    if at >= 0:
        if state[MANAGEMENT_AT] >= 0 or state[HAS_PREFERENCES] == 0:
            return -2
    else:
        at = state[MANAGEMENT_AT]
        form = 2
        if at < 0:
            return -2 if state[HAS_TC] else -1
    start, end = tape[at, VALUE], tape[at, VALUE_END]
    known = state[CONSENTS]
    for i in range(min(known, COMPARED_CONSENTS)):
        first = grid[FIRST, i]
        if grid[FORM, i] == form and grid[LAST, i] - first == end - start:
            same = 0
            while same < end - start and data[first + same] == data[start + same]:
                same += 1
            if same == end - start:
                return i
    grid[FORM, known] = form
    grid[FIRST, known] = start
    grid[LAST, known] = end
    state[CONSENTS] = known + 1
    return known
