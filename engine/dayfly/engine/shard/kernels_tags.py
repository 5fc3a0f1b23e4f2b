"""Evaluation of tags: trees of window functions in postfix code."""

import numpy as np

from dayfly.engine.shard.kernels_handle import core_of
from dayfly.engine.shard.kernels_layout import (
    C_FEATURE,
    C_KIND,
    C_WITHIN,
    FOREVER,
    L_ABSENT,
    L_AVG,
    L_COUNT,
    L_DISTINCT,
    L_FIRST,
    L_FIRST_TIME,
    L_LAST,
    L_MAX,
    L_MIN,
    L_RESTARTED,
    L_SEQUENCE,
    L_STOPPED,
    L_SUM,
    T_IN_TAG,
    T_LEAF,
    T_NOT,
    T_OR,
)
from dayfly.engine.shard.kernels_leaves import (
    count_leaf,
    end_leaf,
    extreme_leaf,
    first_time_leaf,
    regularly_leaf,
    restarted_leaf,
    stopped_leaf,
    total_leaf,
)
from dayfly.engine.shard.kernels_lines import DISTINCT, STAMPS, find_line, line_key, view
from dayfly.engine.shard.kernels_program import Handle, World, find_member
from dayfly.engine.shard.kernels_sequences import sequence_leaf
from dayfly.privacy._jit import inlined_kernel, lean_kernel

__all__ = ["evaluate_tag", "holds_now"]


@inlined_kernel
def _leaf(world: World, index: int, customer: int, now: int) -> tuple[bool, int]:
    program, lines = world.program, world.lines
    leaf = program.leaves[index]
    kind = leaf[C_KIND]
    if kind == L_SEQUENCE:
        return sequence_leaf(world.handle, index, customer, now)
    row = find_line(lines.table, lines.meta, line_key(customer, leaf[C_FEATURE]), False)
    if row < 0:
        return kind == L_ABSENT, np.int64(FOREVER)
    if kind == L_COUNT:
        return count_leaf(lines, leaf, row, now, STAMPS)
    if kind == L_DISTINCT:
        return count_leaf(lines, leaf, row, now, DISTINCT)
    if kind == L_SUM or kind == L_AVG:
        return total_leaf(lines, leaf, row, now)
    if kind == L_MIN or kind == L_MAX:
        return extreme_leaf(lines, leaf, row, now)
    if kind == L_FIRST or kind == L_LAST:
        return end_leaf(lines, world.rows, leaf, row, now)
    if kind == L_ABSENT:
        array, offset, stride, count = view(lines, row, STAMPS)
        if count > 0 and array[offset + (count - 1) * stride] > now - leaf[C_WITHIN]:
            return False, array[offset + (count - 1) * stride] + leaf[C_WITHIN]
        return True, np.int64(FOREVER)
    if kind == L_FIRST_TIME:
        return first_time_leaf(lines, leaf, row, now, program.scalars[0])
    if kind == L_STOPPED:
        return stopped_leaf(lines, leaf, row, now)
    if kind == L_RESTARTED:
        return restarted_leaf(lines, leaf, row, now, program.scalars[0])
    return regularly_leaf(lines, leaf, row, now)


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
def evaluate_tag(handle: Handle, tag: int, customer: int, now: int) -> tuple[bool, int]:
    """`holds_now` as a function of its own, for callers where it is rare.

    Oracle: tests.oracles.membership.OracleEngine
    """
    return holds_now(core_of(handle).world, tag, customer, now)
