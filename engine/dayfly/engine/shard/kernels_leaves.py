"""Window functions.

Each answers two questions at once: does it hold at `now`, and until when is that answer certain if no event arrives. From
the second comes the natural expiry of a tag and the only timers the engine needs: a tag that is true is looked at again
when it may end, one that is false only if time alone can make it true.
"""

import numpy as np
import numpy.typing as npt

from dayfly.engine.shard.kernels_layout import (
    C_CONSTANT,
    C_GAP,
    C_KIND,
    C_OPERATOR,
    C_QUIET,
    C_TEXT,
    C_WITHIN,
    EQ,
    FOREVER,
    L_AVG,
    L_FIRST,
    L_MIN,
    LOOK_AHEAD,
)
from dayfly.engine.shard.kernels_lines import MAXIMA, MINIMA, PAIRS, STAMPS, Lines, first_after, view
from dayfly.engine.shard.kernels_predicates import compare, text_bit
from dayfly.engine.shard.kernels_program import Rows
from dayfly.privacy._jit import inlined_kernel

__all__ = [
    "count_leaf",
    "end_leaf",
    "extreme_leaf",
    "first_time_leaf",
    "regularly_leaf",
    "restarted_leaf",
    "stopped_leaf",
    "total_leaf",
]

Words = npt.NDArray[np.int64]


@inlined_kernel
def _count_until(lower_entry: tuple[Words, int, int], count: int, live: int, leaf: Words) -> int:
    """First instant at which a count of `live` entries, falling by expiry, changes the comparison's answer."""
    array, offset, stride = lower_entry
    truth = compare(live, leaf[C_OPERATOR], leaf[C_CONSTANT])
    left = live - 1
    while left >= 0:
        now_true = left > 0 and compare(left, leaf[C_OPERATOR], leaf[C_CONSTANT])
        if now_true != truth:
            return array[offset + (count - left - 1) * stride] + leaf[C_WITHIN]
        left -= 1
    return np.int64(FOREVER)


@inlined_kernel
def count_leaf(lines: Lines, leaf: Words, row: int, now: int, kind: int) -> tuple[bool, int]:
    """`count` and `distinct`."""
    array, offset, stride, count = view(lines, row, kind)
    live = count - first_after(array, offset, stride, count, now - leaf[C_WITHIN])
    if live == 0:
        return False, np.int64(FOREVER)
    truth = compare(live, leaf[C_OPERATOR], leaf[C_CONSTANT])
    return truth, _count_until((array, offset, stride), count, live, leaf)


@inlined_kernel
def _average_holds(total: int, live: int, leaf: Words) -> bool:
    """`total / live op constant` without division: exact while the product fits, by sign where it cannot."""
    if abs(np.float64(leaf[C_CONSTANT]) * np.float64(live)) > 9.0e18:
        return compare(np.int64(0), leaf[C_OPERATOR], leaf[C_CONSTANT])
    return compare(total, leaf[C_OPERATOR], leaf[C_CONSTANT] * live)


@inlined_kernel
def total_leaf(lines: Lines, leaf: Words, row: int, now: int) -> tuple[bool, int]:
    """`sum` and `avg`."""
    array, offset, stride, count = view(lines, row, PAIRS)
    first = first_after(array, offset, stride, count, now - leaf[C_WITHIN])
    live = count - first
    if live == 0:
        return False, np.int64(FOREVER)
    total = np.int64(0)
    if stride == 3:
        start = offset + first * 3
        total = array[offset + (count - 1) * 3 + 2] - array[start + 2] + array[start + 1]
    else:
        for index in range(first, count):
            total += array[offset + index * 2 + 1]
    average = leaf[C_KIND] == L_AVG
    truth = (
        _average_holds(total, live, leaf) if average else compare(total, leaf[C_OPERATOR], leaf[C_CONSTANT])
    )
    last = min(first + LOOK_AHEAD, count)
    for index in range(first, last):
        total -= array[offset + index * stride + 1]
        live -= 1
        later = False
        if live > 0:
            later = (
                _average_holds(total, live, leaf)
                if average
                else compare(total, leaf[C_OPERATOR], leaf[C_CONSTANT])
            )
        if later != truth:
            return truth, array[offset + index * stride] + leaf[C_WITHIN]
    if last == count:
        return truth, np.int64(FOREVER)
    return truth, array[offset + last * stride] + leaf[C_WITHIN]


@inlined_kernel
def extreme_leaf(lines: Lines, leaf: Words, row: int, now: int) -> tuple[bool, int]:
    """`min` and `max`: the first entry in the window is the extreme one; when it goes, the next one is."""
    array, offset, stride, count = view(lines, row, MINIMA if leaf[C_KIND] == L_MIN else MAXIMA)
    first = first_after(array, offset, stride, count, now - leaf[C_WITHIN])
    if first == count:
        return False, np.int64(FOREVER)
    truth = compare(array[offset + first * stride + 1], leaf[C_OPERATOR], leaf[C_CONSTANT])
    last = min(first + LOOK_AHEAD, count)
    for index in range(first + 1, last):
        if compare(array[offset + index * stride + 1], leaf[C_OPERATOR], leaf[C_CONSTANT]) != truth:
            return truth, array[offset + (index - 1) * stride] + leaf[C_WITHIN]
    if last == count and not truth:
        return False, np.int64(FOREVER)
    return truth, array[offset + (last - 1) * stride] + leaf[C_WITHIN]


@inlined_kernel
def end_leaf(lines: Lines, rows: Rows, leaf: Words, row: int, now: int) -> tuple[bool, int]:
    """`first` and `last`."""
    array, offset, stride, count = view(lines, row, PAIRS)
    first = first_after(array, offset, stride, count, now - leaf[C_WITHIN])
    if first == count:
        return False, np.int64(FOREVER)
    index = first if leaf[C_KIND] == L_FIRST else count - 1
    value = array[offset + index * stride + 1]
    if leaf[C_TEXT] >= 0:
        truth = text_bit(rows.text_bits, value, leaf[C_TEXT]) == (leaf[C_OPERATOR] == EQ)
    else:
        truth = compare(value, leaf[C_OPERATOR], leaf[C_CONSTANT])
    if not truth and index == count - 1:
        return truth, np.int64(FOREVER)
    return truth, array[offset + index * stride] + leaf[C_WITHIN]


@inlined_kernel
def first_time_leaf(lines: Lines, leaf: Words, row: int, now: int, history: int) -> tuple[bool, int]:
    """`first_time`: the oldest event that the history still holds is in the window."""
    array, offset, stride, count = view(lines, row, STAMPS)
    first = first_after(array, offset, stride, count, now - history)
    if first == count:
        return False, np.int64(FOREVER)
    oldest = array[offset + first * stride]
    if oldest > now - leaf[C_WITHIN]:
        return True, oldest + leaf[C_WITHIN]
    return False, (oldest + history if first + 1 < count else np.int64(FOREVER))


@inlined_kernel
def stopped_leaf(lines: Lines, leaf: Words, row: int, now: int) -> tuple[bool, int]:
    """`stopped`: the newest event is older than `quiet` but in the window."""
    array, offset, stride, count = view(lines, row, STAMPS)
    if count == 0:
        return False, np.int64(FOREVER)
    last = array[offset + (count - 1) * stride]
    if last > now - leaf[C_QUIET]:
        return False, last + leaf[C_QUIET]
    if last > now - leaf[C_WITHIN]:
        return True, last + leaf[C_WITHIN]
    return False, np.int64(FOREVER)


@inlined_kernel
def restarted_leaf(lines: Lines, leaf: Words, row: int, now: int, history: int) -> tuple[bool, int]:
    """Look for the latest gap of `quiet` that ends in the window, in steps of almost `quiet`."""
    array, offset, stride, count = view(lines, row, STAMPS)
    index = count - 1
    while index > 0:
        time = array[offset + index * stride]
        if time <= now - leaf[C_WITHIN]:
            break
        reached = first_after(array, offset, stride, index, time - leaf[C_QUIET])
        if reached < index:
            index = reached  # every entry after this one has another one less than `quiet` before it
            continue
        before = array[offset + (index - 1) * stride]
        if before <= now - history:
            break
        return True, min(time + leaf[C_WITHIN], before + history)
    return False, np.int64(FOREVER)


@inlined_kernel
def regularly_leaf(lines: Lines, leaf: Words, row: int, now: int) -> tuple[bool, int]:
    """Columns used: within = every, gap = periods, constant = at_least, quiet = times."""
    array, offset, stride, count = view(lines, row, STAMPS)
    every = leaf[C_WITHIN]
    full, change = np.int64(0), np.int64(FOREVER)
    later = np.int64(count)
    for period in range(1, leaf[C_GAP] + 1):
        first = first_after(array, offset, stride, count, now - period * every)
        full += np.int64(later - first >= leaf[C_QUIET])
        if first < count:
            change = min(change, array[offset + first * stride] + period * every)
        later = first
    return full >= leaf[C_CONSTANT], change
