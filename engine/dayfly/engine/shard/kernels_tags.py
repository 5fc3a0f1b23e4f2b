"""Evaluation of predicates, window functions and tags.

Every window function answers two questions at once: does it hold at `now`, and until when is that answer certain if no
event arrives. From the second comes the natural expiry of a tag and the only timers the engine needs: a tag that is
true is looked at again when it may end, one that is false only if time alone can make it true.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from dayfly.engine.shard.kernels_lines import (
    DISTINCT,
    MAXIMA,
    MINIMA,
    PAIRS,
    STAMPS,
    Lines,
    find_line,
    first_after,
    home,
    line_key,
    view,
)
from dayfly.privacy._jit import inlined_kernel, lean_kernel

__all__ = [
    "FOREVER",
    "Program",
    "Rows",
    "World",
    "evaluate_tag",
    "find_member",
    "forget_judgement",
    "holds_now",
    "predicate_holds",
]

Words = npt.NDArray[np.int64]
Bits = npt.NDArray[np.uint64]

FOREVER = 9223372036854775807
_NULL = -9223372036854775808
_LOOK_AHEAD = 64  # entries looked at for the end of an answer; beyond them the answer is looked at again

# predicate operations: (operation, slot, argument, unused)
P_TRUE, P_NUMBER_EQ, P_NUMBER_NE, P_NUMBER_LT, P_NUMBER_LE, P_NUMBER_GT, P_NUMBER_GE = 0, 1, 2, 3, 4, 5, 6
P_TEXT, P_TEXT_NOT, P_PRESENT, P_CHANNEL_EQ, P_NOT, P_AND, P_OR = 7, 8, 9, 10, 11, 12, 13

# tag operations: (operation, argument)
T_LEAF, T_AND, T_OR, T_NOT, T_IN_TAG = 0, 1, 2, 3, 4

# leaf kinds; columns of `Program.leaves`
(L_COUNT, L_SUM, L_AVG, L_MIN, L_MAX, L_FIRST, L_LAST, L_DISTINCT, L_ABSENT, L_FIRST_TIME, L_STOPPED, L_RESTARTED,
 L_REGULARLY, L_SEQUENCE) = range(14)  # fmt: skip
(C_KIND, C_FEATURE, C_WITHIN, C_OPERATOR, C_CONSTANT, C_QUIET, C_GAP, C_STEPS, C_STEP_COUNT, C_WITHOUT, C_TEXT,
 C_MEMORY) = range(12)  # fmt: skip

SCRATCH_CLOCK = 128  # cell of `World.scratch` with the shard's clock: beyond it nothing may be remembered

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
        always: int64[F, 6]: ranges in `edge_tags` of the tags to evaluate on every event, of those to evaluate on late ones,
            and of the features whose memory a late event clears.
        leaves: int64[L, 12]: kind, feature, within_ms, operator, constant, quiet_ms, gap_ms (-1: none), first step,
            steps, without feature (-1: none), text bit (-1: none), feature number under which a sequence remembers.
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
        spans: int64[32, 5], where the steps of a sequence are.
        scratch: int64[129], evaluation stack: answers, then their certainty, then the shard's clock.
    """

    program: Program
    lines: Lines
    rows: Rows
    members: Words
    meta: Words
    scratch: Words
    spans: Words


@inlined_kernel
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


@inlined_kernel
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


@inlined_kernel
def _text_bit(bits: Bits, string: int, bit: int) -> bool:
    return (bits[string, bit >> 6] >> np.uint64(bit & 63)) & np.uint64(1) != 0


@inlined_kernel
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


@inlined_kernel
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


@inlined_kernel
def _count_leaf(lines: Lines, leaf: Words, row: int, now: int, kind: int) -> tuple[bool, int]:
    array, offset, stride, count = view(lines, row, kind)
    live = count - first_after(array, offset, stride, count, now - leaf[C_WITHIN])
    if live == 0:
        return False, np.int64(FOREVER)
    truth = _compare(live, leaf[C_OPERATOR], leaf[C_CONSTANT])
    return truth, _count_until((array, offset, stride), count, live, leaf)


@inlined_kernel
def _average_holds(total: int, live: int, leaf: Words) -> bool:
    """`total / live op constant` without division: exact while the product fits, by sign where it cannot."""
    if abs(np.float64(leaf[C_CONSTANT]) * np.float64(live)) > 9.0e18:
        return _compare(np.int64(0), leaf[C_OPERATOR], leaf[C_CONSTANT])
    return _compare(total, leaf[C_OPERATOR], leaf[C_CONSTANT] * live)


@inlined_kernel
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
    truth = (
        _average_holds(total, live, leaf) if average else _compare(total, leaf[C_OPERATOR], leaf[C_CONSTANT])
    )
    last = min(first + _LOOK_AHEAD, count)
    for index in range(first, last):
        total -= array[offset + index * stride + 1]
        live -= 1
        later = False
        if live > 0:
            later = (
                _average_holds(total, live, leaf)
                if average
                else _compare(total, leaf[C_OPERATOR], leaf[C_CONSTANT])
            )
        if later != truth:
            return truth, array[offset + index * stride] + leaf[C_WITHIN]
    if last == count:
        return truth, np.int64(FOREVER)
    return truth, array[offset + last * stride] + leaf[C_WITHIN]


@inlined_kernel
def _extreme_leaf(lines: Lines, leaf: Words, row: int, now: int) -> tuple[bool, int]:
    """`min` and `max`: the first entry in the window is the extreme one; when it goes, the next one is."""
    array, offset, stride, count = view(lines, row, MINIMA if leaf[C_KIND] == L_MIN else MAXIMA)
    first = first_after(array, offset, stride, count, now - leaf[C_WITHIN])
    if first == count:
        return False, np.int64(FOREVER)
    truth = _compare(array[offset + first * stride + 1], leaf[C_OPERATOR], leaf[C_CONSTANT])
    last = min(first + _LOOK_AHEAD, count)
    for index in range(first + 1, last):
        if _compare(array[offset + index * stride + 1], leaf[C_OPERATOR], leaf[C_CONSTANT]) != truth:
            return truth, array[offset + (index - 1) * stride] + leaf[C_WITHIN]
    if last == count and not truth:
        return False, np.int64(FOREVER)
    return truth, array[offset + (last - 1) * stride] + leaf[C_WITHIN]


@inlined_kernel
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


@inlined_kernel
def _first_time_leaf(lines: Lines, leaf: Words, row: int, now: int, history: int) -> tuple[bool, int]:
    array, offset, stride, count = view(lines, row, STAMPS)
    first = first_after(array, offset, stride, count, now - history)
    if first == count:
        return False, np.int64(FOREVER)
    oldest = array[offset + first * stride]
    if oldest > now - leaf[C_WITHIN]:
        return True, oldest + leaf[C_WITHIN]
    return False, (oldest + history if first + 1 < count else np.int64(FOREVER))


@inlined_kernel
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


@inlined_kernel
def _restarted_leaf(lines: Lines, leaf: Words, row: int, now: int, history: int) -> tuple[bool, int]:
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
def _regularly_leaf(lines: Lines, leaf: Words, row: int, now: int) -> tuple[bool, int]:
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


@inlined_kernel
def _last_before(array: Words, offset: int, count: int, bound: int) -> int:
    """Latest time <= `bound` in a line of stamps, or the smallest int64."""
    index = first_after(array, offset, 1, count, bound)
    return array[offset + index - 1] if index > 0 else np.int64(_NULL)


@inlined_kernel
def _chain_start(world: World, leaf: Words, spans: Words, end: int, after: int) -> int:
    """Latest start of a chain of all steps that ends with the event at `end`, starting after `after`; smallest int64: none.

    Going back from the end, the latest possible event of each step is tried first: a later event of a step never has an
    earlier start. `spans` holds (in the arena?, offset, entries, current index, current time) of each step.
    """
    steps, gap = leaf[C_STEP_COUNT], leaf[C_GAP]
    spans[steps - 1, 4] = end
    level = steps - 2
    if level < 0:
        return end if end > after else np.int64(_NULL)
    descend = True
    while True:
        array = world.lines.arena if spans[level, 0] != 0 else world.lines.flat
        offset = spans[level, 1]
        if descend:
            spans[level, 3] = first_after(array, offset, 1, spans[level, 2], spans[level + 1, 4] - 1) - 1
        index = spans[level, 3]
        time = array[offset + index] if index >= 0 else np.int64(_NULL)
        if index < 0 or time <= after or (gap >= 0 and spans[level + 1, 4] - time > gap):
            level += 1
            if level == steps - 1:
                return np.int64(_NULL)
            spans[level, 3] -= 1
            descend = False
            continue
        if level == 0:
            return time
        spans[level, 4] = time
        level -= 1
        descend = True


@inlined_kernel
def _step_spans(world: World, leaf: Words, customer: int, spans: Words) -> bool:
    """Where the stamps of all steps are; False when some step never happened."""
    lines = world.lines
    for step in range(leaf[C_STEP_COUNT]):
        feature = world.program.steps[leaf[C_STEPS] + step]
        row = find_line(lines.table, lines.meta, line_key(customer, feature), False)
        if row < 0:
            return False
        _, offset, _, count = view(lines, row, STAMPS)
        spans[step, 0] = lines.table[row, 1] >> 32
        spans[step, 1], spans[step, 2] = offset, count
    return True


@lean_kernel
def _sequence_leaf(world: World, leaf: Words, customer: int, now: int) -> tuple[bool, int]:
    """Each event of the last step is judged once, when nothing that arrives in order can change the judgement any more.

    A line per (customer, sequence) remembers the last event judged and the latest start found; `forget_judgement` clears it
    when an event arrives that a judgement should have known. Without `quiet` an event is ripe at once, with it `quiet` later; until then it is pending.
    """
    lines, steps = world.lines, leaf[C_STEP_COUNT]
    within, quiet = leaf[C_WITHIN], leaf[C_QUIET]
    after = now - within
    spans = world.spans
    if not _step_spans(world, leaf, customer, spans):
        return False, np.int64(FOREVER)
    stops, stop_offset, stop_count = lines.flat, np.int64(0), np.int64(0)
    if leaf[C_WITHOUT] >= 0:
        row = find_line(lines.table, lines.meta, line_key(customer, leaf[C_WITHOUT]), False)
        if row >= 0:
            stops, stop_offset, _, stop_count = view(lines, row, STAMPS)
    ripe = now if quiet < 0 else now - quiet
    commit = now <= world.scratch[SCRATCH_CLOCK]
    memory = find_line(lines.table, lines.meta, line_key(customer, leaf[C_MEMORY]), commit)
    judged, best = np.int64(_NULL), np.int64(_NULL)
    if memory >= 0 and lines.table[memory, 1] != 0:
        judged, best = lines.table[memory, 2], lines.table[memory, 3]
    newest = judged
    array = lines.arena if spans[steps - 1, 0] != 0 else lines.flat
    offset, count = spans[steps - 1, 1], spans[steps - 1, 2]
    pending = np.int64(FOREVER)
    for index in range(first_after(array, offset, 1, count, max(judged, after)), count):
        end = array[offset + index]
        if end <= ripe:
            newest = end
        start = _chain_start(world, leaf, spans, end, after)
        bound = end - 1 if quiet < 0 else min(end + quiet, now)
        if start == _NULL or _last_before(stops, stop_offset, stop_count, bound) > start:
            continue
        if end <= ripe:
            best = max(best, start)
        elif end + quiet < start + within:
            pending = min(pending, end + quiet)
    if commit:
        lines.table[memory, 1] = 2
        lines.table[memory, 2], lines.table[memory, 3] = newest, best
    if best > after:
        return True, best + within
    return False, pending


@inlined_kernel
def forget_judgement(
    world: World, customer: int, feature: int, memory: int, arrival: tuple[int, bool]
) -> None:
    """Clear what a sequence remembers if an event of `feature`, `arrival = (time, before the person's newest event?)`, belies it."""
    time, late = arrival
    lines, program = world.lines, world.program
    row = find_line(lines.table, lines.meta, line_key(customer, memory), False)
    if row < 0 or lines.table[row, 1] == 0:
        return
    leaf = program.leaves[memory - len(program.features)]
    stops = leaf[C_WITHOUT] == feature and leaf[C_QUIET] >= 0 and time <= lines.table[row, 2] + leaf[C_QUIET]
    if late or stops:
        lines.table[row, 1] = 0


@inlined_kernel
def _leaf(world: World, index: int, customer: int, now: int) -> tuple[bool, int]:
    program, lines = world.program, world.lines
    leaf = program.leaves[index]
    kind = leaf[C_KIND]
    if kind == L_SEQUENCE:
        return _sequence_leaf(world, leaf, customer, now)
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
        return _end_leaf(lines, world.rows, leaf, row, now)
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


@inlined_kernel
def holds_now(world: World, tag: int, customer: int, now: int) -> tuple[bool, int]:
    """Whether a tag's condition holds and until when that is certain if nothing more arrives.

    Oracle: tests.oracles.membership.OracleEngine
    """
    program, scratch = world.program, world.scratch
    depth = 0
    for at in range(program.tags[tag, 0], program.tags[tag, 1]):
        operation, argument = program.code[at, 0], program.code[at, 1]
        if operation == T_LEAF:
            truth, certain = _leaf(world, argument, customer, now)
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
            decisive = np.int64(
                operation == T_OR
            )  # one true part decides an Or, one false part decides an And
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


@lean_kernel
def evaluate_tag(world: World, tag: int, customer: int, now: int) -> tuple[bool, int]:
    """`holds_now` as a function of its own, for callers where it is rare.

    Oracle: tests.oracles.membership.OracleEngine
    """
    return holds_now(world, tag, customer, now)
