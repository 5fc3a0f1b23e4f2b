"""Kernels of the snapshots: the state in columns, and tables made from columns again.

Those that read arrays which others go on writing to read only rows below a count that was taken before: such rows of the
history, the values and the texts do not change (`Arrays.own`).
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from dayfly.engine.shard.kernels_core import push
from dayfly.engine.shard.kernels_layout import (
    CONSENT_DUE_AT,
    FOREVER,
    H_CHANNEL,
    H_DIGEST,
    H_PERSON,
    H_PREVIOUS,
    H_TIME,
    H_TYPE,
    H_VALUES,
    LAST_EVENT,
    NULL,
    SHIFT,
)
from dayfly.engine.shard.kernels_lines import home
from dayfly.engine.shard.kernels_people import VALUE
from dayfly.engine.shard.kernels_prefetch import prefetch_row
from dayfly.engine.shard.kernels_program import find_member
from dayfly.privacy._jit import lean_kernel

__all__ = [
    "Cells",
    "Columns",
    "Numbers",
    "arm_all",
    "count_types",
    "find_range",
    "group_rows",
    "join_events",
    "live_ids",
    "live_members",
    "pack_texts",
    "put_members",
    "shorten",
    "sort_groups",
    "split_events",
    "take_columns",
]

Words = npt.NDArray[np.int64]
Bits = npt.NDArray[np.uint64]

_AHEAD = 16
_MEMBER_WORDS = 6


class Columns(NamedTuple):
    """Events by arrival.

    Attributes:
        time, person: int64[events].
        kind, channel: int32[events].
        digest: int64[events, 2].
    """

    time: Words
    person: Words
    kind: npt.NDArray[np.int32]
    channel: npt.NDArray[np.int32]
    digest: Words


class Cells(NamedTuple):
    """The values of events, field by field: those of field `f` by arrival of its events, from `next[f]` on.

    Attributes:
        values: int64[cells]; texts as numbers by first use.
        fields: int64[types, 2], first field number and number of fields of each event type.
        is_text: int64[fields].
        next: int64[fields], where the next cell of each field is; moved on by the kernels.
    """

    values: Words
    fields: Words
    is_text: Words
    next: Words


class Numbers(NamedTuple):
    """Texts numbered by first use.

    Attributes:
        number: int64[strings], -1 for a text that was not used yet.
        string: int64[strings], the texts in order of their numbers.
        used: int64[1], how many there are.
    """

    number: Words
    string: Words
    used: Words


@lean_kernel
def count_types(history: Words, least_ms: int, counts: Words) -> None:
    """Count the living events after `least_ms` by type.

    Oracle: tests.oracles.images.kept_events
    """
    for event in range(len(history)):
        if history[event, H_PERSON] >= 0 and history[event, H_TIME] > least_ms:
            counts[history[event, H_TYPE]] += 1


@lean_kernel
def split_events(
    history: Words, values: Words, least_ms: int, columns: Columns, cells: Cells, numbers: Numbers
) -> int:
    """Write the living events after `least_ms` into columns, and number the texts that they use; how many there are.

    Oracle: tests.oracles.images.kept_events
    """
    kept = np.int64(0)
    for event in range(len(history)):
        row = history[event]
        if row[H_PERSON] < 0 or row[H_TIME] <= least_ms:
            continue
        kind = row[H_TYPE]
        columns.time[kept], columns.person[kept] = row[H_TIME], row[H_PERSON]
        columns.kind[kept], columns.channel[kept] = np.int32(kind), np.int32(row[H_CHANNEL])
        columns.digest[kept, 0], columns.digest[kept, 1] = row[H_DIGEST], row[H_DIGEST + 1]
        kept += 1
        first = cells.fields[kind, 0]
        for slot in range(cells.fields[kind, 1]):
            field = first + slot
            value = values[row[H_VALUES] + slot]
            if cells.is_text[field] != 0 and value != NULL:
                number = numbers.number[value]
                if number < 0:
                    number = numbers.used[0]
                    numbers.used[0] = number + 1
                    numbers.number[value], numbers.string[number] = number, value
                value = number
            at = cells.next[field]
            cells.next[field] = at + 1
            cells.values[at] = value
    return kept


@lean_kernel
def pack_texts(text: npt.NDArray[np.uint8], where: Words, packed: npt.NDArray[np.uint8]) -> None:
    """Put texts one behind the other; `where` is int64[texts, 3]: field, start in `text`, length.

    Oracle: tests.oracles.images.kept_events
    """
    end = np.int64(0)
    for index in range(len(where)):
        start, length = where[index, 1], where[index, 2]
        for at in range(length):
            packed[end + at] = text[start + at]
        end += length


@lean_kernel
def join_events(columns: Columns, cells: Cells, history: Words, values: Words, people: Words) -> int:
    """Write columns into the rows of an empty history, linked by person; returns the number of values.

    Oracle: tests.oracles.images.kept_events
    """
    offset = np.int64(0)
    for event in range(len(columns.time)):
        if event + _AHEAD < len(columns.time):
            prefetch_row(people, columns.person[event + _AHEAD])
        person, kind = columns.person[event], np.int64(columns.kind[event])
        row = history[event]
        row[H_TIME], row[H_PERSON], row[H_TYPE] = columns.time[event], person, kind
        row[H_CHANNEL], row[H_VALUES] = np.int64(columns.channel[event]), offset
        row[H_DIGEST], row[H_DIGEST + 1] = columns.digest[event, 0], columns.digest[event, 1]
        row[H_PREVIOUS] = people[person, LAST_EVENT]
        people[person, LAST_EVENT] = event
        first = cells.fields[kind, 0]
        for slot in range(cells.fields[kind, 1]):
            at = cells.next[first + slot]
            cells.next[first + slot] = at + 1
            values[offset + slot] = cells.values[at]
        offset += cells.fields[kind, 1]
    return offset


@lean_kernel
def live_ids(keys: Bits, least: int, rows: Words) -> int:
    """Write the ids of a table whose value is above `least` into `rows`, with their values; how many there are.

    Oracle: dict
    """
    count = np.int64(0)
    for row in range(len(keys)):
        value = np.int64(keys[row, VALUE])
        if (keys[row, 0] != 0 or keys[row, 1] != 0) and value > least:
            rows[count, 0], rows[count, 1] = np.int64(keys[row, 0]), np.int64(keys[row, 1])
            rows[count, 2] = value
            count += 1
    return count


@lean_kernel
def live_members(members: Words, rows: Words) -> int:
    """Write the memberships that hold or have a timer into `rows`; how many there are.

    Since when and by which decision matter only while a tag is held.

    Oracle: tests.oracles.membership.OracleEngine
    """
    count = np.int64(0)
    for member in range(len(members)):
        row = members[member]
        if row[0] > 0 and (row[1] != 0 or row[3] != 0):
            for word in range(_MEMBER_WORDS):
                rows[count, word] = row[word]
            if row[1] == 0:
                rows[count, 2] = rows[count, 5] = 0
            count += 1
    return count


@lean_kernel
def group_rows(groups: Words, starts: Words, order: Words) -> None:
    """Numbers of rows by group, within a group in order (a counting sort). A group of -1 is left out.

    Args:
        groups: int64[rows].
        starts: int64[groups + 1], zeroed; afterwards where each group starts in `order`.
        order: int64[rows or more].

    Oracle: numpy.argsort
    """
    for row in range(len(groups)):
        starts[groups[row] + 1] += np.int64(groups[row] >= 0)
    for group in range(1, len(starts)):
        starts[group] += starts[group - 1]
    for row in range(len(groups)):
        if groups[row] >= 0:
            order[starts[groups[row]]] = row
            starts[groups[row]] += 1
    for group in range(len(starts) - 1, 0, -1):
        starts[group] = starts[group - 1]
    starts[0] = 0


@lean_kernel
def sort_groups(rows: Words, starts: Words, order: Words) -> None:
    """Sort the small groups of `group_rows` by the first two columns of `rows`.

    Oracle: numpy.lexsort
    """
    for group in range(len(starts) - 1):
        for place in range(starts[group] + 1, starts[group + 1]):
            moved = order[place]
            low, high = rows[moved, 0], rows[moved, 1]
            at = place
            while at > starts[group]:
                other = order[at - 1]
                if rows[other, 0] < low or (rows[other, 0] == low and rows[other, 1] <= high):
                    break
                order[at] = other
                at -= 1
            order[at] = moved


@lean_kernel
def take_columns(rows: Words, order: Words, columns: Words) -> None:
    """Write rows, in an order, column by column: `columns` is int64[width, rows].

    Oracle: numpy.take
    """
    for place in range(len(order)):
        if place + _AHEAD < len(order):
            prefetch_row(rows, order[place + _AHEAD])
        for column in range(len(columns)):
            columns[column, place] = rows[order[place], column]


@lean_kernel
def find_range(values: Words, hole: int, holed: bool, found: Words) -> None:  # noqa: FBT001 - kernels take positional scalars
    """Smallest and largest value, and how many are `hole` where there may be holes; these are not counted as values.

    Oracle: numpy.min
    """
    low, high, holes = np.int64(FOREVER), np.int64(NULL), np.int64(0)
    for at in range(len(values)):
        value = values[at]
        if holed and value == hole:
            holes += 1
        else:
            low, high = min(low, value), max(high, value)
    found[0], found[1], found[2] = low, high, holes


@lean_kernel
def shorten(values: Words, base: int, hole: int, holed: bool, short: npt.NDArray[np.unsignedinteger]) -> None:  # noqa: FBT001 - kernels take positional scalars
    """Write values less `base` in fewer bytes, holes as 0.

    Oracle: tests.oracles.images.columns_of
    """
    for at in range(len(values)):
        short[at] = 0 if holed and values[at] == hole else values[at] - base


@lean_kernel
def put_members(members: Words, meta: Words, rows: Words) -> None:
    """Put the rows of `live_members` into a table with room for them.

    Oracle: tests.oracles.membership.OracleEngine
    """
    for row in range(len(rows)):
        if row + _AHEAD < len(rows):
            prefetch_row(members, home(rows[row + _AHEAD, 0] - 1, len(members)))
        member = find_member(members, meta, rows[row, 0] - 1, True)
        for word in range(1, _MEMBER_WORDS):
            members[member, word] = rows[row, word]


@lean_kernel
def arm_all(heap: Words, control: Words, people: Words, rows: Words) -> None:
    """Set the timers of people and of the rows of `live_members`; the caller has made room.

    Oracle: tests.oracles.membership.OracleEngine
    """
    for person in range(len(people)):
        if people[person, CONSENT_DUE_AT] != 0:
            push(heap, control, people[person, CONSENT_DUE_AT], np.int64(person) << SHIFT)
    for row in range(len(rows)):
        if rows[row, 3] != 0:
            push(heap, control, rows[row, 3], rows[row, 0])
