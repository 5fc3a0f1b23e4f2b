"""Sequences of events, with absence."""

import numpy as np
import numpy.typing as npt

from dayfly.engine.shard.kernels_handle import core_of
from dayfly.engine.shard.kernels_layout import (
    C_GAP,
    C_MEMORY,
    C_QUIET,
    C_STEP_COUNT,
    C_STEPS,
    C_WITHIN,
    C_WITHOUT,
    FOREVER,
    NULL,
    SCRATCH_CLOCK,
)
from dayfly.engine.shard.kernels_lines import STAMPS, find_line, first_after, line_key, view
from dayfly.engine.shard.kernels_program import Handle, World
from dayfly.privacy._jit import inlined_kernel, lean_kernel

__all__ = ["forget_judgement", "sequence_leaf"]

Words = npt.NDArray[np.int64]


@inlined_kernel
def _last_before(array: Words, offset: int, count: int, bound: int) -> int:
    """Latest time <= `bound` in a line of stamps, or the smallest int64."""
    index = first_after(array, offset, 1, count, bound)
    return array[offset + index - 1] if index > 0 else np.int64(NULL)


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
        return end if end > after else np.int64(NULL)
    descend = True
    while True:
        array = world.lines.arena if spans[level, 0] != 0 else world.lines.flat
        offset = spans[level, 1]
        if descend:
            spans[level, 3] = first_after(array, offset, 1, spans[level, 2], spans[level + 1, 4] - 1) - 1
        index = spans[level, 3]
        time = array[offset + index] if index >= 0 else np.int64(NULL)
        if index < 0 or time <= after or (gap >= 0 and spans[level + 1, 4] - time > gap):
            level += 1
            if level == steps - 1:
                return np.int64(NULL)
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
def sequence_leaf(handle: Handle, index: int, customer: int, now: int) -> tuple[bool, int]:
    """Each event of the last step is judged once, when nothing that arrives in order can change the judgement any more.

    A line per (customer, sequence) remembers the last event judged and the latest start found; `forget_judgement` clears it
    when an event arrives that a judgement should have known. Without `quiet` an event is ripe at once, with it `quiet` later; until then it is pending.
    """
    world = core_of(handle).world
    lines, leaf = world.lines, world.program.leaves[index]
    steps = leaf[C_STEP_COUNT]
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
    judged, best = np.int64(NULL), np.int64(NULL)
    if memory >= 0 and lines.table[memory, 1] != 0:
        judged, best = lines.table[memory, 2], lines.table[memory, 3]
    newest = judged
    array = lines.arena if spans[steps - 1, 0] != 0 else lines.flat
    offset, count = spans[steps - 1, 1], spans[steps - 1, 2]
    pending = np.int64(FOREVER)
    for at in range(first_after(array, offset, 1, count, max(judged, after)), count):
        end = array[offset + at]
        if end <= ripe:
            newest = end
        start = _chain_start(world, leaf, spans, end, after)
        bound = end - 1 if quiet < 0 else min(end + quiet, now)
        if start == NULL or _last_before(stops, stop_offset, stop_count, bound) > start:
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
    leaf = program.leaves[memory - len(program.features)]
    stops = leaf[C_WITHOUT] == feature and leaf[C_QUIET] >= 0
    if not (late or stops):
        return
    row = find_line(lines.table, lines.meta, line_key(customer, memory), False)
    if row < 0 or lines.table[row, 1] == 0:
        return
    if late or time <= lines.table[row, 2] + leaf[C_QUIET]:
        lines.table[row, 1] = 0
