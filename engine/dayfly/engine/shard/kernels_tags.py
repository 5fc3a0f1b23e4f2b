"""Evaluation of predicates, window functions and tags.

Every window function answers two questions at once: does it hold at `now`, and until when is that answer certain if no
event arrives. From the second comes the natural expiry of a tag and the only timers the engine needs: a tag that is
true is looked at again when it may end, one that is false only if time alone can make it true.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from dayfly.engine.shard.kernels_lines import DISTINCT, PAIRS, STAMPS, Lines, find_line, first_after, home, line_key, view
from dayfly.privacy._jit import kernel

__all__ = ["FOREVER", "Program", "Rows", "World", "evaluate_tag", "find_member", "predicate_holds"]

Words = npt.NDArray[np.int64]
Bits = npt.NDArray[np.uint64]

FOREVER = 9223372036854775807
_NULL = -9223372036854775808

# predicate operations: (operation, slot, argument, unused)
P_TRUE, P_NUMBER_EQ, P_NUMBER_NE, P_NUMBER_LT, P_NUMBER_LE, P_NUMBER_GT, P_NUMBER_GE = 0, 1, 2, 3, 4, 5, 6
P_TEXT, P_TEXT_NOT, P_PRESENT, P_CHANNEL_EQ, P_NOT, P_AND, P_OR = 7, 8, 9, 10, 11, 12, 13

# tag operations: (operation, argument)
T_LEAF, T_AND, T_OR, T_NOT, T_IN_TAG = 0, 1, 2, 3, 4

# leaf kinds; columns of `Program.leaves`
(L_COUNT, L_SUM, L_AVG, L_MIN, L_MAX, L_FIRST, L_LAST, L_DISTINCT, L_ABSENT, L_FIRST_TIME, L_STOPPED, L_RESTARTED,
 L_REGULARLY, L_SEQUENCE) = range(14)  # fmt: skip
C_KIND, C_FEATURE, C_WITHIN, C_OPERATOR, C_CONSTANT, C_QUIET, C_GAP, C_STEPS, C_STEP_COUNT, C_WITHOUT, C_TEXT = range(11)

EQ, NE, LT, LE, GT, GE = 0, 1, 2, 3, 4, 5


class Program(NamedTuple):
    """A compiled policy.

    Attributes:
        predicates: int64[n, 4], postfix code of all predicates.
        predicate_range: int64[P, 2], start and end of each predicate's code.
        features: int64[F, 8]: type, predicate, value slot (-1: none), kind, cap, span_ms, first window, windows.
        type_features: int64[types, 2], range of features of an event type (features are sorted by type).
        windows: int64[W, 3]: window_ms, start of its rows in `edges`, largest count with a row.
        edges: int64[n, 2], for each window and each count from 1: range in `edge_tags` of the tags to evaluate.
        edge_tags: int64[n].
        always: int64[F, 4]: range in `edge_tags` of the tags to evaluate on every event, and on out-of-order ones.
        leaves: int64[L, 11]: kind, feature, within_ms, operator, constant, quiet_ms, gap_ms (-1: none), first step,
            steps, without feature (-1: none), text bit (-1: none).
        steps: int64[n], features of sequence steps.
        code: int64[n, 2], postfix code of all tags.
        tags: int64[T, 7]: code start, code end, consent bit, dependents (start, end), triggers on enter (start, end).
        dependents: int64[n], tags that refer to a tag; always after it, for tags are in topological order.
        tag_triggers: int64[n, 2], triggers on enter: index in the policy, consent bit.
        triggers: int64[n, 4], event triggers: type, predicate, consent bit, index in the policy; sorted by type.
        type_triggers: int64[types, 2].
        channel_bit: int64[channels], consent bit that an event's channel needs, or -1.
        scalars: int64[8]: history_ms, allowed_lateness_ms, future_skew_ms, tags, words of tag bits, consent words.
    """

    predicates: Words
    predicate_range: Words
    features: Words
    type_features: Words
    windows: Words
    edges: Words
    edge_tags: Words
    always: Words
    leaves: Words
    steps: Words
    code: Words
    tags: Words
    dependents: Words
    tag_triggers: Words
    triggers: Words
    type_triggers: Words
    channel_bit: Words
    scalars: Words


class Rows(NamedTuple):
    """Where event rows and the facts about their strings are.

    Attributes:
        values: int64[n], rows of events; strings as ids.
        text_bits: uint64[strings, words], bit `b` of string `s` says that it passes its field's text test `b`.
    """

    values: Words
    text_bits: Bits


class World(NamedTuple):
    """What evaluation reads.

    Attributes:
        members: int64[capacity, 6], open addressing: key + 1 (key = customer << 16 | tag), held, since, armed timer
            (0: none), until, sequence.
        meta: int64[2]: rows of `members` in use.
        scratch: int64[128], evaluation stack: answers, then their certainty.
    """

    program: Program
    lines: Lines
    rows: Rows
    members: Words
    meta: Words
    scratch: Words


@kernel
def find_member(members: Words, meta: Words, key: int, create: bool) -> int:  # noqa: FBT001 - kernels take positional scalars
    """Row of a (customer, tag) membership, or -1; with `create` a new row instead of -1."""
    mask = members.shape[0] - 1
    row = home(key, mask)
    wanted = np.int64(key) + 1
    while True:
        found = members[row, 0]
        if found == wanted:
            return row
        if found == 0:
            if not create:
                return -1
            members[row, 0] = wanted
            meta[0] += 1
            return row
        row = (row + 1) & mask


@kernel
def _compare(left: int, operator: int, right: int) -> bool:
    if operator == EQ:
        return left == right
    if operator == NE:
        return left != right
    if operator == LT:
        return left < right
    if operator == LE:
        return left <= right
    if operator == GT:
        return left > right
    return left >= right


@kernel
def _text_bit(bits: Bits, string: int, bit: int) -> bool:
    return (bits[string, bit >> 6] >> np.uint64(bit & 63)) & np.uint64(1) != 0


@kernel
def predicate_holds(program: Program, rows: Rows, predicate: int, offset: int, channel: int) -> bool:
    """Whether an event's row (starting at `offset` of `rows.values`) passes a predicate. Absent fields fail every test.

    Oracle: tests.oracles.predicates.holds
    """
    code = program.predicates
    stack = np.uint64(0)
    one = np.uint64(1)
    for at in range(program.predicate_range[predicate, 0], program.predicate_range[predicate, 1]):
        operation = code[at, 0]
        argument = code[at, 2]
        if operation == P_NOT:
            stack ^= one
            continue
        if operation == P_AND or operation == P_OR:
            mask = (one << np.uint64(argument)) - one
            top = stack & mask
            result = (top == mask) if operation == P_AND else (top != np.uint64(0))
            stack = ((stack >> np.uint64(argument)) << one) | (one if result else np.uint64(0))
            continue
        truth = True
        if operation == P_CHANNEL_EQ:
            truth = channel == argument
        elif operation != P_TRUE:
            value = rows.values[offset + code[at, 1]]
            if value == _NULL:
                truth = False
            elif operation == P_TEXT:
                truth = _text_bit(rows.text_bits, value, argument)
            elif operation == P_TEXT_NOT:
                truth = not _text_bit(rows.text_bits, value, argument)
            elif operation != P_PRESENT:
                truth = _compare(value, operation - P_NUMBER_EQ, argument)
        stack = (stack << one) | (one if truth else np.uint64(0))
    return stack & one != 0


@kernel
def _count_until(lower_entry: tuple[Words, int, int], count: int, live: int, leaf: Words) -> int:
    """First instant at which a count of `live` entries, falling by expiry, changes the comparison's answer."""
    array, offset, stride = lower_entry
    truth = _compare(live, leaf[C_OPERATOR], leaf[C_CONSTANT])
    left = live - 1
    while left >= 0:
        now_true = left > 0 and _compare(left, leaf[C_OPERATOR], leaf[C_CONSTANT])
        if now_true != truth:
            return array[offset + (count - left - 1) * stride] + leaf[C_WITHIN]
        left -= 1
    return np.int64(FOREVER)


@kernel
def _count_leaf(lines: Lines, leaf: Words, row: int, now: int, kind: int) -> tuple[bool, int]:
    array, offset, stride, count = view(lines, row, kind)
    live = count - first_after(array, offset, stride, count, now - leaf[C_WITHIN])
    if live == 0:
        return False, np.int64(FOREVER)
    truth = _compare(live, leaf[C_OPERATOR], leaf[C_CONSTANT])
    return truth, _count_until((array, offset, stride), count, live, leaf)


@kernel
def _average_holds(total: int, live: int, leaf: Words) -> bool:
    """`total / live op constant` without division: exact while the product fits, by sign where it cannot."""
    if abs(np.float64(leaf[C_CONSTANT]) * np.float64(live)) > 9.0e18:
        return _compare(np.int64(0), leaf[C_OPERATOR], leaf[C_CONSTANT])
    return _compare(total, leaf[C_OPERATOR], leaf[C_CONSTANT] * live)


@kernel
def _total_leaf(lines: Lines, leaf: Words, row: int, now: int) -> tuple[bool, int]:
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
    truth = _average_holds(total, live, leaf) if average else _compare(total, leaf[C_OPERATOR], leaf[C_CONSTANT])
    for index in range(first, count):
        total -= array[offset + index * stride + 1]
        live -= 1
        later = False
        if live > 0:
            later = _average_holds(total, live, leaf) if average else _compare(total, leaf[C_OPERATOR], leaf[C_CONSTANT])
        if later != truth:
            return truth, array[offset + index * stride] + leaf[C_WITHIN]
    return truth, np.int64(FOREVER)


@kernel
def _extreme_leaf(lines: Lines, leaf: Words, row: int, now: int) -> tuple[bool, int]:
    """`min` and `max`: one pass from the newest entry to the oldest that still counts."""
    array, offset, stride, count = view(lines, row, PAIRS)
    first = first_after(array, offset, stride, count, now - leaf[C_WITHIN])
    if first == count:
        return False, np.int64(FOREVER)
    smallest = leaf[C_KIND] == L_MIN
    extreme = array[offset + (count - 1) * stride + 1]
    change = array[offset + (count - 1) * stride] + leaf[C_WITHIN]  # when the last entry goes, there is no value
    truth = _compare(extreme, leaf[C_OPERATOR], leaf[C_CONSTANT])
    if not truth:
        change = np.int64(FOREVER)
    for back in range(1, count - first):
        index = count - 1 - back
        value = array[offset + index * stride + 1]
        extreme = min(extreme, value) if smallest else max(extreme, value)
        holds = _compare(extreme, leaf[C_OPERATOR], leaf[C_CONSTANT])
        if holds != truth:
            change = array[offset + index * stride] + leaf[C_WITHIN]  # without this entry the answer was another
            truth = holds
    return truth, change


@kernel
def _end_leaf(lines: Lines, rows: Rows, leaf: Words, row: int, now: int) -> tuple[bool, int]:
    """`first` and `last`."""
    array, offset, stride, count = view(lines, row, PAIRS)
    first = first_after(array, offset, stride, count, now - leaf[C_WITHIN])
    if first == count:
        return False, np.int64(FOREVER)
    index = first if leaf[C_KIND] == L_FIRST else count - 1
    value = array[offset + index * stride + 1]
    if leaf[C_TEXT] >= 0:
        truth = _text_bit(rows.text_bits, value, leaf[C_TEXT]) == (leaf[C_OPERATOR] == EQ)
    else:
        truth = _compare(value, leaf[C_OPERATOR], leaf[C_CONSTANT])
    if not truth and index == count - 1:
        return truth, np.int64(FOREVER)
    return truth, array[offset + index * stride] + leaf[C_WITHIN]


@kernel
def _first_time_leaf(lines: Lines, leaf: Words, row: int, now: int, history: int) -> tuple[bool, int]:
    array, offset, stride, count = view(lines, row, STAMPS)
    first = first_after(array, offset, stride, count, now - history)
    if first == count:
        return False, np.int64(FOREVER)
    oldest = array[offset + first * stride]
    if oldest > now - leaf[C_WITHIN]:
        return True, oldest + leaf[C_WITHIN]
    return False, (oldest + history if first + 1 < count else np.int64(FOREVER))


@kernel
def _stopped_leaf(lines: Lines, leaf: Words, row: int, now: int) -> tuple[bool, int]:
    array, offset, stride, count = view(lines, row, STAMPS)
    if count == 0:
        return False, np.int64(FOREVER)
    last = array[offset + (count - 1) * stride]
    if last > now - leaf[C_QUIET]:
        return False, last + leaf[C_QUIET]
    if last > now - leaf[C_WITHIN]:
        return True, last + leaf[C_WITHIN]
    return False, np.int64(FOREVER)


@kernel
def _restarted_leaf(lines: Lines, leaf: Words, row: int, now: int, history: int) -> tuple[bool, int]:
    array, offset, stride, count = view(lines, row, STAMPS)
    index = count - 1
    while index > 0:
        time = array[offset + index * stride]
        before = array[offset + (index - 1) * stride]
        if time <= now - leaf[C_WITHIN] or before <= now - history:
            break
        if time - before >= leaf[C_QUIET]:
            return True, min(time + leaf[C_WITHIN], before + history)
        index -= 1
    return False, np.int64(FOREVER)


@kernel
def _regularly_leaf(lines: Lines, leaf: Words, row: int, now: int) -> tuple[bool, int]:
    """Columns used: within = every, gap = periods, constant = at_least, quiet = times."""
    array, offset, stride, count = view(lines, row, STAMPS)
    every, periods = leaf[C_WITHIN], leaf[C_GAP]
    full, in_period, period = np.int64(0), np.int64(0), np.int64(0)
    change = np.int64(FOREVER)
    index = count - 1
    while index >= 0:
        time = array[offset + index * stride]
        age_periods = (now - time) // every
        if age_periods >= periods:
            break
        change = min(change, time + (age_periods + 1) * every)
        if age_periods != period:
            period, in_period = age_periods, np.int64(0)
        in_period += 1
        if in_period == leaf[C_QUIET]:
            full += 1
        index -= 1
    return full >= leaf[C_CONSTANT], change


@kernel
def _last_before(array: Words, offset: int, count: int, bound: int) -> int:
    """Latest time <= `bound` in a line of stamps, or the smallest int64."""
    index = first_after(array, offset, 1, count, bound)
    return array[offset + index - 1] if index > 0 else np.int64(_NULL)


@kernel
def _sequence_leaf(program: Program, lines: Lines, leaf: Words, customer: int, now: int) -> tuple[bool, int]:
    """Merge the steps' stamps in time order, keeping for each step the latest partial match and its start.

    Among partial matches of one step a later one never starts earlier, so one per step is enough. Steps are handled
    from the last to the first, so that events of the same millisecond cannot follow one another.
    """
    steps = leaf[C_STEP_COUNT]
    within, gap, quiet = leaf[C_WITHIN], leaf[C_GAP], leaf[C_QUIET]
    offsets = np.empty((steps, 3), np.int64)  # arena flag, next entry, end
    state = np.full((steps, 2), _NULL, np.int64)  # time of the latest partial match, start of that match
    for step in range(steps):
        row = find_line(lines.table, lines.meta, line_key(customer, program.steps[leaf[C_STEPS] + step]), False)
        if row < 0:
            return False, np.int64(FOREVER)
        _, offset, _, count = view(lines, row, STAMPS)
        array = lines.arena if lines.table[row, 1] >> 32 != 0 else lines.flat
        offsets[step, 0] = lines.table[row, 1] >> 32 != 0
        offsets[step, 1] = offset + first_after(array, offset, 1, count, now - within)
        offsets[step, 2] = offset + count
    stop_array, stop_offset, stop_count = lines.flat, np.int64(0), np.int64(0)
    if leaf[C_WITHOUT] >= 0:
        row = find_line(lines.table, lines.meta, line_key(customer, leaf[C_WITHOUT]), False)
        if row >= 0:
            stop_array, stop_offset, _, stop_count = view(lines, row, STAMPS)
    best, pending = np.int64(_NULL), np.int64(FOREVER)
    while True:
        time = np.int64(FOREVER)
        for step in range(steps):
            if offsets[step, 1] < offsets[step, 2]:
                array = lines.arena if offsets[step, 0] else lines.flat
                time = min(time, array[offsets[step, 1]])
        if time == FOREVER:
            break
        for back in range(steps):
            step = steps - 1 - back
            array = lines.arena if offsets[step, 0] else lines.flat
            hit = False
            while offsets[step, 1] < offsets[step, 2] and array[offsets[step, 1]] == time:
                offsets[step, 1] += 1
                hit = True
            if not hit:
                continue
            start = time
            if step > 0:
                if state[step - 1, 0] == _NULL or (gap >= 0 and time - state[step - 1, 0] > gap):
                    continue
                start = state[step - 1, 1]
            if step < steps - 1:
                state[step, 0], state[step, 1] = time, start
                continue
            bound = time - 1 if quiet < 0 else min(time + quiet, now)
            if _last_before(stop_array, stop_offset, stop_count, bound) > start:
                continue
            if quiet >= 0 and time + quiet > now:
                if time + quiet < start + within:
                    pending = min(pending, time + quiet)
            else:
                best = max(best, start)
    if best != _NULL:
        return True, best + within
    return False, pending


@kernel
def _leaf(program: Program, lines: Lines, rows: Rows, index: int, customer: int, now: int) -> tuple[bool, int]:
    leaf = program.leaves[index]
    kind = leaf[C_KIND]
    if kind == L_SEQUENCE:
        return _sequence_leaf(program, lines, leaf, customer, now)
    row = find_line(lines.table, lines.meta, line_key(customer, leaf[C_FEATURE]), False)
    if row < 0:
        return kind == L_ABSENT, np.int64(FOREVER)
    if kind == L_COUNT:
        return _count_leaf(lines, leaf, row, now, STAMPS)
    if kind == L_DISTINCT:
        return _count_leaf(lines, leaf, row, now, DISTINCT)
    if kind == L_SUM or kind == L_AVG:
        return _total_leaf(lines, leaf, row, now)
    if kind == L_MIN or kind == L_MAX:
        return _extreme_leaf(lines, leaf, row, now)
    if kind == L_FIRST or kind == L_LAST:
        return _end_leaf(lines, rows, leaf, row, now)
    if kind == L_ABSENT:
        array, offset, stride, count = view(lines, row, STAMPS)
        if count > 0 and array[offset + (count - 1) * stride] > now - leaf[C_WITHIN]:
            return False, array[offset + (count - 1) * stride] + leaf[C_WITHIN]
        return True, np.int64(FOREVER)
    if kind == L_FIRST_TIME:
        return _first_time_leaf(lines, leaf, row, now, program.scalars[0])
    if kind == L_STOPPED:
        return _stopped_leaf(lines, leaf, row, now)
    if kind == L_RESTARTED:
        return _restarted_leaf(lines, leaf, row, now, program.scalars[0])
    return _regularly_leaf(lines, leaf, row, now)


@kernel
def evaluate_tag(world: World, tag: int, customer: int, now: int) -> tuple[bool, int]:
    """Whether a tag's condition holds and until when that is certain if nothing more arrives.

    Oracle: tests.oracles.membership.OracleEngine
    """
    program, scratch = world.program, world.scratch
    depth = 0
    for at in range(program.tags[tag, 0], program.tags[tag, 1]):
        operation, argument = program.code[at, 0], program.code[at, 1]
        if operation == T_LEAF:
            truth, certain = _leaf(program, world.lines, world.rows, argument, customer, now)
            scratch[depth], scratch[64 + depth] = np.int64(truth), certain
            depth += 1
        elif operation == T_IN_TAG:
            row = find_member(world.members, world.meta, line_key(customer, argument), False)
            scratch[depth] = world.members[row, 1] if row >= 0 else np.int64(0)
            scratch[64 + depth] = world.members[row, 4] if row >= 0 else np.int64(FOREVER)
            depth += 1
        elif operation == T_NOT:
            scratch[depth - 1] = 1 - scratch[depth - 1]
        else:
            first = depth - argument
            decisive = np.int64(operation == T_OR)  # one true part decides an Or, one false part decides an And
            decided = False
            longest, shortest = np.int64(0), np.int64(FOREVER)
            for part in range(first, depth):
                if scratch[part] == decisive:
                    decided = True
                    longest = max(longest, scratch[64 + part])
                shortest = min(shortest, scratch[64 + part])
            scratch[first] = decisive if decided else 1 - decisive
            scratch[64 + first] = longest if decided else shortest
            depth = first + 1
    return scratch[0] != 0, scratch[64]
