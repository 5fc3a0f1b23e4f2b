"""Windows are kept up to date with the history, and filled from it again."""

import numpy as np
import numpy.typing as npt

from dayfly.engine.shard.kernels_core import Core, mark, tables_full
from dayfly.engine.shard.kernels_layout import (
    CLOCK,
    EVENTS,
    H_CHANNEL,
    H_PERSON,
    H_PREVIOUS,
    H_TIME,
    H_TYPE,
    H_VALUES,
    LAST_EVENT,
    NEWEST,
    NULL,
    UPDATES,
)
from dayfly.engine.shard.kernels_lines import UNCHANGED, clear_line, count_after, find_line, insert, line_key
from dayfly.engine.shard.kernels_predicates import predicate_holds
from dayfly.engine.shard.kernels_sequences import forget_judgement
from dayfly.privacy._jit import inlined_kernel, lean_kernel

__all__ = [
    "collect",
    "forget_windows",
    "rebuild_one",
    "rebuild_windows",
    "relink",
    "relink_all",
    "update_windows",
]

Words = npt.NDArray[np.int64]


@inlined_kernel
def _update_feature(core: Core, person: int, feature: int, entry: tuple[int, int], late: bool) -> None:  # noqa: FBT001 - kernels take positional scalars
    """Put (time, value) into the window of one feature and mark the tags whose answer it can change."""
    program, lines, control = core.world.program, core.world.lines, core.control
    kind, cap, span = program.features[feature, 3], program.features[feature, 4], program.features[feature, 5]
    now, time = control[CLOCK], entry[0]
    if time <= now - span:
        return
    row = find_line(lines.table, lines.meta, line_key(person, feature), True)
    replaced = insert(lines, row, kind, cap, now - span, entry)
    control[UPDATES] += 1
    if replaced == UNCHANGED:
        return
    first = program.features[feature, 6]
    for window in range(first, first + program.features[feature, 7]):
        lower = now - program.windows[window, 0]
        if time <= lower or replaced > lower:
            continue  # outside this window, or in the place of an entry that was inside
        count = count_after(lines, row, kind, lower)
        if count <= program.windows[window, 2]:
            edge = program.windows[window, 1] + count
            mark(core, program.edges[edge, 0], program.edges[edge, 1])
    mark(core, program.always[feature, 0], program.always[feature, 1])
    if late:
        mark(core, program.always[feature, 2], program.always[feature, 3])
    for at in range(program.always[feature, 4], program.always[feature, 5]):
        forget_judgement(core.world, person, feature, program.edge_tags[at], (time, late))


@inlined_kernel
def update_windows(core: Core, event: int) -> None:
    """Update every feature that an event of the history matches; an event before the person's newest one is late."""
    program, rows = core.world.program, core.world.rows
    kind, offset = core.history[event, H_TYPE], core.history[event, H_VALUES]
    person, time = core.history[event, H_PERSON], core.history[event, H_TIME]
    late = time < core.people[person, NEWEST]
    core.people[person, NEWEST] = max(time, core.people[person, NEWEST])
    last, holds = np.int64(-1), False
    for feature in range(program.type_features[kind, 0], program.type_features[kind, 1]):
        predicate, slot = program.features[feature, 1], program.features[feature, 2]
        if predicate != last:
            last = predicate
            holds = predicate_holds(program, rows, predicate, offset, core.history[event, H_CHANNEL])
        if not holds:
            continue
        value = np.int64(0)
        if slot >= 0:
            value = rows.values[offset + slot]
            if value == NULL:
                continue
        _update_feature(core, person, feature, (time, value), late)


@lean_kernel
def collect(core: Core, person: int, match: tuple[int, int], lower: int, out: Words) -> int:
    """Events of a person that match (type, predicate) with time > `lower`, newest arrival first.

    Returns:
        Their number; the first `len(out)` of them are in `out`.
    """
    kind, predicate = match
    found = np.int64(0)
    event = core.people[person, LAST_EVENT]
    while event >= 0:
        row = core.history[event]
        if row[H_TYPE] == kind and row[H_TIME] > lower:
            if predicate_holds(core.world.program, core.world.rows, predicate, row[H_VALUES], row[H_CHANNEL]):
                if found < len(out):
                    out[found] = event
                found += 1
        event = row[H_PREVIOUS]
    return found


@lean_kernel
def forget_windows(core: Core, person: int) -> None:
    """Empty all windows of a person."""
    lines = core.world.lines
    program = core.world.program
    for feature in range(len(program.features) + len(program.leaves)):  # windows, and what sequences remember
        row = find_line(lines.table, lines.meta, line_key(person, feature), False)
        if row >= 0:
            clear_line(lines, row)


@lean_kernel
def rebuild_one(core: Core, events: Words, start: int) -> int:
    """Put the given events (by arrival) of a person into its windows again, from `start`; where to go on after growing."""
    for at in range(start, len(events)):
        if tables_full(core):
            return at
        update_windows(core, events[at])
    for word in range(len(core.marks)):
        core.marks[word] = 0
    return len(events)


@lean_kernel
def rebuild_windows(core: Core, start: int) -> int:
    """Put the whole history into the windows again, from event `start`; where to go on after growing."""
    for event in range(start, core.control[EVENTS]):
        if tables_full(core):
            return event
        if core.history[event, H_PERSON] >= 0:
            update_windows(core, event)
    for word in range(len(core.marks)):
        core.marks[word] = 0
    return core.control[EVENTS]


@lean_kernel
def relink(core: Core, person: int, events: Words) -> None:
    """Give a person this history: event numbers in order of arrival."""
    previous = np.int64(-1)
    for event in events:
        core.history[event, H_PERSON] = person
        core.history[event, H_PREVIOUS] = previous
        previous = event
    core.people[person, LAST_EVENT] = previous


@lean_kernel
def relink_all(core: Core) -> None:
    """Link every person's events by arrival."""
    for event in range(core.control[EVENTS]):
        person = core.history[event, H_PERSON]
        if person >= 0:
            core.history[event, H_PREVIOUS] = core.people[person, LAST_EVENT]
            core.people[person, LAST_EVENT] = event
