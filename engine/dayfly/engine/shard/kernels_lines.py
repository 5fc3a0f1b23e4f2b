"""Window state: one 64-byte line per active (customer, feature), found by open addressing.

A line is eight int64 words::

    0  key + 1 (0: free); key = customer << 16 | feature
    1  number of entries | size class of the overflow vector << 32 (0: entries are inline)
    2… inline entries, oldest first: six time stamps, or three (time, value) pairs
       or, with a vector: 2 its offset in the arena, 3 its first live entry

Most lines never need more. Those that do keep their entries in a vector of the arena: (time), (time, value) or, of PAIRS,
(time, value, running sum of values); the running sum makes every window's sum one subtraction, exact in int64.

Entries are sorted by time, equal times by arrival. `cap > 0` keeps only the newest `cap` entries: a rule
"more than k in W" needs no others, whatever W is. A line of MINIMA (MAXIMA) keeps only entries below (above) all later
ones, which are the only ones that can become the smallest (largest) of a sliding window.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from dayfly.privacy._jit import inlined_kernel, lean_kernel

__all__ = [
    "DISTINCT",
    "MAXIMA",
    "MINIMA",
    "NOTHING",
    "PAIRS",
    "STAMPS",
    "UNCHANGED",
    "Lines",
    "clear_line",
    "find_line",
    "first_after",
    "home",
    "insert",
    "line_key",
    "next_row",
    "rehash",
    "view",
]

Words = npt.NDArray[np.int64]

STAMPS, PAIRS, DISTINCT, MINIMA, MAXIMA = 0, 1, 2, 3, 4

NOTHING = -9223372036854775808
UNCHANGED = NOTHING + 1

_SHIFT = 16
_VECTOR_MIN = 5  # smallest vector: 1 << 5 words


class Lines(NamedTuple):
    """Arrays of the window state.

    Attributes:
        table: int64[capacity, 8].
        flat: the same memory as int64[capacity * 8].
        arena: int64[words], overflow vectors.
        free: int64[64], head of the free list per size class (-1: empty); a free vector's first word is the next one.
        meta: int64[4]: lines in use, arena words in use, largest size class used, unused.
    """

    table: Words
    flat: Words
    arena: Words
    free: Words
    meta: Words


@inlined_kernel
def home(key: int, rows: int) -> int:
    """Home row of `key` among 64 to 2**32 `rows`: the finaliser of splitmix64, scaled (Lemire 2019, arXiv:1805.10941).

    Keys that differ only in their last four bits, such as neighbouring features of one customer, have their homes in one page
    of 64 rows: an event then touches one or two pages of the table, not one for every feature, and address translation is
    most of what a cold row costs. Within the page they are scattered (Knuth's multiplicative hashing): side by side, the lines
    of a customer would stand in the way of those of another as a whole.
    """
    x = np.uint64(key) >> np.uint64(4)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    x = x ^ (x >> np.uint64(31))
    page = ((x >> np.uint64(32)) * (np.uint64(rows) >> np.uint64(6))) >> np.uint64(32)
    place = ((x + np.uint64(key)) * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(58)
    return np.int64((page << np.uint64(6)) | place)


@inlined_kernel
def next_row(row: int, looked_at: int, rows: int) -> int:
    """Row to look at after `row`, the last one of `looked_at`: the next in its page or, each fourth time, in the next page.

    A page that happens to be full then costs little: with 71 % of the rows taken a key is 1.1 rows from home on average, where
    it was 6.7 with plain linear probing. From the last page it goes on in the first one, a place further: the places
    of a page are looked at in an order that shifts by an odd number each time round, so that none is left out.
    """
    place = (row + 1) & 63
    if looked_at & 3 != 0:
        return (row & -64) | place
    page = (row & -64) + 64
    return page | place if page < rows & -64 else (place + 1) & 63


@inlined_kernel
def line_key(customer: int, feature: int) -> int:
    """Key of a (customer, feature) line."""
    return (np.int64(customer) << _SHIFT) | np.int64(feature)


@inlined_kernel
def find_line(table: Words, meta: Words, key: int, create: bool) -> int:  # noqa: FBT001 - kernels take positional scalars
    """Row of `key`, or -1; with `create` a new empty row instead of -1. The caller keeps the load below one."""
    rows = table.shape[0]
    row = home(key, rows)
    wanted = np.int64(key) + 1
    looked_at = np.int64(0)
    while True:
        found = table[row, 0]
        if found == wanted:
            return row
        if found == 0:
            if not create:
                return -1
            table[row, 0] = wanted
            table[row, 1] = 0
            meta[0] += 1
            return row
        looked_at += 1
        row = next_row(row, looked_at, rows)


@inlined_kernel
def _allocate(lines: Lines, size_class: int) -> int:
    """Offset of a vector of `1 << size_class` words; the caller has made sure that the arena is large enough."""
    offset = lines.free[size_class]
    if offset >= 0:
        lines.free[size_class] = lines.arena[offset]
        return offset
    offset = lines.meta[1]
    lines.meta[1] = offset + (np.int64(1) << size_class)
    lines.meta[2] = max(lines.meta[2], np.int64(size_class))
    return offset


@lean_kernel
def _release(lines: Lines, offset: int, size_class: int) -> None:
    end = offset + (np.int64(1) << size_class)
    for word in range(offset, end):  # what was here is personal data
        lines.arena[word] = 0
    lines.arena[offset] = lines.free[size_class]
    lines.free[size_class] = offset


@lean_kernel
def clear_line(lines: Lines, row: int) -> None:
    """Forget all entries of a line; its key stays, so that probing still passes over it."""
    size_class = lines.table[row, 1] >> 32
    if size_class > 0:
        _release(lines, lines.table[row, 2], size_class)
    for word in range(1, 8):
        lines.table[row, word] = 0


@inlined_kernel
def _vector_stride(kind: int) -> int:
    """Words of an entry in a vector."""
    if kind == STAMPS:
        return 1
    return 3 if kind == PAIRS else 2


@inlined_kernel
def view(lines: Lines, row: int, kind: int) -> tuple[Words, int, int, int]:
    """Where a line's entries are: (array, offset of the oldest, stride in words, number of entries)."""
    count = lines.table[row, 1] & 0xFFFFFFFF
    size_class = lines.table[row, 1] >> 32
    if size_class == 0:
        stride = 1 if kind == STAMPS else 2
        return lines.flat, row * 8 + 2, stride, count
    stride = _vector_stride(kind)
    return lines.arena, lines.table[row, 2] + lines.table[row, 3] * stride, stride, count


@inlined_kernel
def first_after(array: Words, offset: int, stride: int, count: int, lower: int) -> int:
    """Index of the first entry with time > `lower`; `count` when there is none."""
    if count <= 8:
        index = count
        while index > 0 and array[offset + (index - 1) * stride] > lower:
            index -= 1
        return index
    low, high = np.int64(0), np.int64(count)
    while low < high:
        middle = (low + high) >> 1
        if array[offset + middle * stride] > lower:
            high = middle
        else:
            low = middle + 1
    return low


@lean_kernel
def _make_room(lines: Lines, row: int, stride: int, inline_stride: int) -> None:
    """See to it that one more entry fits behind the last one: out of line, moved to the front, or into a larger vector."""
    table, arena = lines.table, lines.arena
    count = table[row, 1] & 0xFFFFFFFF
    size_class = table[row, 1] >> 32
    if size_class == 0:
        new_class = np.int64(_VECTOR_MIN)
        target = _allocate(lines, new_class)
        total = np.int64(0)
        for index in range(count):
            source = row * 8 + 2 + index * inline_stride
            arena[target + index * stride] = lines.flat[source]
            if stride >= 2:
                arena[target + index * stride + 1] = lines.flat[source + 1]
            if stride == 3:
                total += lines.flat[source + 1]
                arena[target + index * 3 + 2] = total
        table[row, 1] = count | (new_class << 32)
        table[row, 2] = target
        table[row, 3] = 0
        for word in range(4, 8):
            table[row, word] = 0
        return
    capacity = (np.int64(1) << size_class) // stride
    start = table[row, 3]
    if start + count < capacity:
        return
    base = table[row, 2]
    if start * 2 >= capacity:
        for word in range(count * stride):
            arena[base + word] = arena[base + start * stride + word]
        table[row, 3] = 0
        return
    target = _allocate(lines, size_class + 1)
    for word in range(count * stride):
        arena[target + word] = arena[base + start * stride + word]
    _release(lines, base, size_class)
    table[row, 1] = count | ((size_class + 1) << 32)
    table[row, 2] = target
    table[row, 3] = 0


@inlined_kernel
def _drop_oldest(lines: Lines, row: int, stride: int) -> None:
    """Forget the oldest entry."""
    table = lines.table
    count = table[row, 1] & 0xFFFFFFFF
    if table[row, 1] >> 32 == 0:
        base = row * 8 + 2
        for word in range((count - 1) * stride):
            lines.flat[base + word] = lines.flat[base + word + stride]
    else:
        table[row, 3] += 1
    table[row, 1] -= 1


@inlined_kernel
def _place(lines: Lines, row: int, kind: int, time: int, value: int) -> None:
    """Put an entry at its place; there is room for it behind the last one."""
    array, offset, stride, count = view(lines, row, kind)
    index = count
    while index > 0 and array[offset + (index - 1) * stride] > time:
        for word in range(stride):
            array[offset + index * stride + word] = array[offset + (index - 1) * stride + word]
        index -= 1
    array[offset + index * stride] = time
    if stride >= 2:
        array[offset + index * stride + 1] = value
    if stride == 3:
        total = np.int64(0)
        if index > 0:
            total = array[offset + index * 3 - 1]
        elif count > 0:  # the sum up to the entries that were dropped before the one now second
            total = array[offset + 5] - array[offset + 4]
        for later in range(index, count + 1):
            total += array[offset + later * 3 + 1]
            array[offset + later * 3 + 2] = total
    lines.table[row, 1] += 1


@inlined_kernel
def _forget_value(lines: Lines, row: int, value: int, time: int) -> int:
    """Take `value` out of a distinct line when it is older than `time`.

    Returns:
        Its old time, NOTHING when it was not there, UNCHANGED when it is newer and stays.
    """
    array, offset, stride, count = view(lines, row, DISTINCT)
    for index in range(count):
        if array[offset + index * stride + 1] == value:
            old = array[offset + index * stride]
            if old >= time:
                return np.int64(UNCHANGED)
            for word in range(index * stride, (count - 1) * stride):
                array[offset + word] = array[offset + word + stride]
            lines.table[row, 1] -= 1
            return old
    return np.int64(NOTHING)


@inlined_kernel
def _make_extreme(lines: Lines, row: int, kind: int, time: int, value: int) -> bool:
    """Take out the earlier entries that `value` outdoes for good; False when a later entry outdoes it."""
    array, offset, stride, count = view(lines, row, kind)
    sign = np.int64(1) if kind == MINIMA else np.int64(-1)
    place = count
    while place > 0 and array[offset + (place - 1) * stride] > time:
        place -= 1
        if array[offset + place * stride + 1] * sign <= value * sign:
            return False
    kept = place
    while kept > 0 and array[offset + (kept - 1) * stride + 1] * sign >= value * sign:
        kept -= 1
    gone = place - kept
    if gone > 0:
        for word in range(kept * stride, (count - gone) * stride):
            array[offset + word] = array[offset + word + gone * stride]
        lines.table[row, 1] -= gone
    return True


@inlined_kernel
def insert(lines: Lines, row: int, kind: int, cap: int, oldest: int, entry: tuple[int, int]) -> int:
    """Add (time, value) to a line.

    Args:
        lines: The window state.
        row: The line.
        kind: STAMPS, PAIRS, DISTINCT, MINIMA or MAXIMA.
        cap: Entries kept (0: all within the span).
        oldest: Entries at or before this time are outside every window and may go.
        entry: Time and value (0 for stamps).

    Returns:
        Time of the entry that stopped counting because of this one; NOTHING when none did, UNCHANGED when the line did
        not change.

    Oracle: tests.oracles.lines.NaiveLine
    """
    time, value = entry
    stride = _vector_stride(kind)
    inline_stride = 1 if kind == STAMPS else 2
    inline_capacity = 6 // inline_stride
    replaced = np.int64(NOTHING)
    if kind == DISTINCT:
        replaced = _forget_value(lines, row, value, time)
        if replaced == UNCHANGED:
            return np.int64(UNCHANGED)
    elif kind >= MINIMA and not _make_extreme(lines, row, kind, time, value):
        return np.int64(UNCHANGED)
    array, offset, used_stride, count = view(lines, row, kind)
    if cap == 0:
        while count > 0 and array[offset] <= oldest:
            _drop_oldest(lines, row, used_stride)
            if lines.table[row, 1] >> 32 != 0:
                offset += used_stride
            count -= 1
    elif count >= cap:
        if array[offset] > time:
            return np.int64(UNCHANGED)  # older than all that are kept, and enough are kept
        replaced = array[offset]
        _drop_oldest(lines, row, used_stride)
        count -= 1
    if lines.table[row, 1] >> 32 != 0 or count >= inline_capacity:
        _make_room(lines, row, stride, inline_stride)
    _place(lines, row, kind, time, value)
    return replaced


@lean_kernel
def rehash(source: Words, target: Words) -> None:
    """Copy all rows of an open-addressing table (first column: key + 1) into an empty one with room for them."""
    rows = target.shape[0]
    for old in range(source.shape[0]):
        if source[old, 0] != 0:
            row = home(source[old, 0] - 1, rows)
            looked_at = np.int64(0)
            while target[row, 0] != 0:
                looked_at += 1
                row = next_row(row, looked_at, rows)
            for word in range(source.shape[1]):
                target[row, word] = source[old, word]
