"""What the Segment kernels work on, and where each part of it lies in the few arrays that a call hands over.

Handing an array to a compiled function costs about 50 ns and a bundle of arrays twice that for each, which for a batch of one
is more than reading it. So a policy is one array, the working space another and the result a third; kernels open them
as bundles of views, which costs nothing once everything is inlined.

Oracle: numpy (slices of one array)
"""

from typing import NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from dayfly.engine.intake.kernels_blake2b import JOB_WORDS, LANE_WORDS
from dayfly.engine.intake.kernels_json import TAPE_WORDS
from dayfly.engine.intake.kernels_names import EDGE_WORDS
from dayfly.privacy._jit import inlined_kernel

Ints: TypeAlias = npt.NDArray[np.int64]
Words: TypeAlias = npt.NDArray[np.uint64]

# --- a policy and keys ------------------------------------------------------------------------------------------------

# First words of the array: where each part starts and the last one ends, then the settings.
EDGES, TYPES, FIELDS, STATES, TABLES_END = 0, 1, 2, 3, 4
CORRECT, OLDER, EVENT_BYTES, STRING_BYTES, FUTURE, LATE, DEPTH, MEMBERS, CHANNEL, WIDEST = range(5, 15)
SETTINGS_END = 15

TYPE_WORDS, FIELD_WORDS, STATE_WORDS = 3, 3, 8

# Columns of `Tables.types` and `Tables.fields`.
TYPE_NODE, TYPE_WIDTH, TYPE_FIELDS = 0, 1, 2
FIELD_TYPE, FIELD_MASK, FIELD_REQUIRED = 0, 1, 2
KEPT, MASKED, DROPPED = 0, 1, 2
TEXT, NUMERIC, TRUTH, INSTANT = 0, 1, 2, 3

USER_STATE, ANONYMOUS_STATE, OLDER_STATES, EVENT_ID_STATE, DIGEST_STATE = 0, 1, 2, 4, 5


class Tables(NamedTuple):
    """A policy and keys.

    Attributes:
        edges: int64[B, 11], the names that mean something, see `kernels_names`.
        types: int64[T + 6, 3]: node of the properties, number of fields, first row in `fields`; the last six rows hold
            for each call but track its event type or -1.
        fields: int64[F, 3]: type (0 text, 1 number, 2 boolean, 3 time), 1 when masked and 2 when dropped, 1 when required.
        states: uint64[6, 8], BLAKE2b states: user, anonymous, older user, older anonymous, event id, digest.
        settings: int64[15], the array's first words.
    """

    edges: Ints
    types: Ints
    fields: Ints
    states: Words
    settings: Ints


@inlined_kernel
def open_tables(flat: Ints) -> Tables:
    """The parts of a policy's array."""
    return Tables(
        flat[flat[EDGES] : flat[TYPES]].reshape(-1, EDGE_WORDS),
        flat[flat[TYPES] : flat[FIELDS]].reshape(-1, TYPE_WORDS),
        flat[flat[FIELDS] : flat[STATES]].reshape(-1, FIELD_WORDS),
        flat[flat[STATES] : flat[TABLES_END]].view(np.uint64).reshape(-1, STATE_WORDS),
        flat[:SETTINGS_END],
    )


# --- working space ----------------------------------------------------------------------------------------------------

# Members of the outermost object that mean something, by their places in `Desk.slots`.
TYPE, EVENT, MESSAGE_ID, USER_ID, ANONYMOUS_ID, TIMESTAMP, ORIGINAL, SENT_AT = 0, 1, 2, 3, 4, 5, 6, 7
PROPERTIES, TRAITS, CONTEXT, NAME, CATEGORY, GROUP_ID, BATCH = 8, 9, 10, 11, 12, 13, 14
ROOT_MEANINGS = 15

# Columns of `Desk.state`: the call's progress, the totals in the order of `TOTALS` first, then the row at hand and what it
# has shown.
PLACE, CELLS, CHARACTERS, CONSENTS, UNDECLARED, JOBS, RECEIVED = 0, 1, 2, 3, 4, 5, 6
ROW, START, END, SENT, CONSENT_AT, MANAGEMENT_AT, HAS_PREFERENCES, HAS_TC = 7, 8, 9, 10, 11, 12, 13, 14
STATE_END = 16

MAX_JOBS = 256


class Desk(NamedTuple):
    """Working space; nothing in it outlives a call but places, counts and kinds.

    Attributes:
        state: int64[16], columns as named above.
        slots: int64[15], tape row of each member of the outermost object that means something, -1 for none.
        tape: int64[max members, 6] and
        stack: int64[max depth] and
        stops: uint64[], see `kernels_json.scan`.
        node_of: int64[max members], node whose names the members of an object have, -1 when they mean nothing.
        seen: int64[B], row + 1 in which an edge was met last, negative where it was met beside the properties.
        jobs: int64[256, 4] and
        lanes: int64[], see `kernels_blake2b`.
    """

    state: Ints
    slots: Ints
    tape: Ints
    stack: Ints
    stops: Words
    node_of: Ints
    seen: Ints
    jobs: Ints
    lanes: Ints


def desk_words(flat: Ints) -> int:
    """Words that `open_desk` needs for a policy's array."""
    members, edges = flat[MEMBERS], (flat[TYPES] - flat[EDGES]) // EDGE_WORDS
    fixed = STATE_END + ROOT_MEANINGS + MAX_JOBS * JOB_WORDS + LANE_WORDS
    return int(fixed + members * (TAPE_WORDS + 1) + flat[DEPTH] + edges + flat[EVENT_BYTES] // 64 + 2)


@inlined_kernel
def open_desk(work: Ints, flat: Ints) -> Desk:
    """The parts of the working space `work` for a policy's array."""
    members, edges = flat[MEMBERS], (flat[TYPES] - flat[EDGES]) // EDGE_WORDS
    slots = STATE_END
    jobs = slots + ROOT_MEANINGS
    lanes = jobs + MAX_JOBS * JOB_WORDS
    tape = lanes + LANE_WORDS
    node_of = tape + members * TAPE_WORDS
    stack = node_of + members
    seen = stack + flat[DEPTH]
    stops = seen + edges
    return Desk(
        work[:slots],
        work[slots:jobs],
        work[tape:node_of].reshape(-1, TAPE_WORDS),
        work[stack:seen],
        work[stops:].view(np.uint64),
        work[node_of:stack],
        work[seen:stops],
        work[jobs:lanes].reshape(-1, JOB_WORDS),
        work[lanes:tape],
    )


# --- result -----------------------------------------------------------------------------------------------------------

# Rows of the result's grid, each as wide as the batch. Four pairs of words per event come first: subject, link, event id and
# digest, each a block of its own. FORM, FIRST and LAST describe distinct consent objects: form (1 Segment, 2 RudderStack),
# first byte and end.
SUBJECT_IDS, LINK_IDS, EVENT_IDS, DIGESTS, ID_BLOCKS = 0, 1, 2, 3, 4
RECEIVED_MS, TIME_MS, VALUE_OFFSET, CONSENT_DIGEST = 8, 9, 10, 11
TYPE_INDEX, CHANNEL_INDEX, CONSENT, STATUS, FORM, FIRST, LAST = 12, 13, 14, 15, 16, 17, 18
GRID_ROWS = 19

# Words before the grid: rows read, cells, characters, distinct consent objects and rows of undeclared types.
TOTALS = 5

# What to read: arrival, number of rows, the length of each and, for calls out of envelopes, when each envelope was sent.
JOB_RECEIVED, JOB_COUNT, JOB_LENGTHS = 0, 1, 2


class Columns(NamedTuple):
    """The result, in which the rows read stand one after another without gaps.

    Attributes:
        totals: int64[5], see `TOTALS`.
        ids: uint64[4 N, 2]: all subjects, all links, all event ids, all digests.
        grid: int64[19, N], rows as named above; `STATUS` alone goes by the place of a row in the call, 1 where it was read.
        values: int64[N * widest], the cells.
    """

    totals: Ints
    ids: Words
    grid: Ints
    values: Ints


def result_words(rows: int, widest: int) -> int:
    """Words that `open_columns` needs for `rows` rows of at most `widest` cells."""
    return TOTALS + rows * (GRID_ROWS + widest)


@inlined_kernel
def open_columns(out: Ints, rows: int) -> Columns:
    """The parts of the result `out` for a call of `rows` rows."""
    values = TOTALS + GRID_ROWS * rows
    return Columns(
        out[:TOTALS],
        out[TOTALS : TOTALS + 2 * ID_BLOCKS * rows].view(np.uint64).reshape(-1, 2),
        out[TOTALS:values].reshape(GRID_ROWS, rows),
        out[values:],
    )
