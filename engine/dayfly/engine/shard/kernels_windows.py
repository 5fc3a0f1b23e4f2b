"""Windows are kept up to date with the history, and filled from it again."""

import numpy as np
import numpy.typing as npt

from dayfly.engine.shard.kernels_core import Core, mark, tables_full
from dayfly.engine.shard.kernels_handle import core_of
from dayfly.engine.shard.kernels_layout import (
    CLOCK,
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
from dayfly.engine.shard.kernels_lines import STAMPS, UNCHANGED, clear_line, find_line, insert, line_key, view
from dayfly.engine.shard.kernels_predicates import predicate_holds
from dayfly.engine.shard.kernels_prefetch import prefetch_row
from dayfly.engine.shard.kernels_program import Handle
from dayfly.engine.shard.kernels_sequences import forget_judgement
from dayfly.privacy._jit import inlined_kernel, lean_kernel

__all__ = [
    "forget_windows",
    "match_features",
    "refill",
    "relink",
    "update_windows",
]

Words = npt.NDArray[np.int64]

_FAR, _NEAR = 16, 8  # events between asking the cache for an event's row, or its values, and needing them


@inlined_kernel
def _mark_edges(core: Core, feature: int, row: int, change: tuple[int, int]) -> None:
    """Mark the tags that look at a count which the arrival of (time, time of the entry it replaced) has just made.

    Windows come by rising length, so one pass from the newest entry back counts them all; and no further than the
    largest count that anybody looks at.
    """
    program, now = core.world.program, core.control[CLOCK]
    time, replaced = change
    array, offset, stride, count = view(core.world.lines, row, program.features[feature, 3])
    first, live = program.features[feature, 6], np.int64(0)
    for window in range(first, first + program.features[feature, 7]):
        lower = now - program.windows[window, 0]
        if time <= lower or replaced > lower:
            continue  # outside this window, or in the place of an entry that was inside
        most = program.windows[window, 2]
        while live <= most and live < count and array[offset + (count - 1 - live) * stride] > lower:
            live += 1
        if live <= most:
            edge = program.windows[window, 1] + live
            mark(core, program.edges[edge, 0], program.edges[edge, 1])


@inlined_kernel
def _put_entry(core: Core, person: int, feature: int, row: int, entry: tuple[int, int]) -> tuple[int, int]:
    """Put (time, value) into the window of one feature: its line, and the time of the entry it replaced or UNCHANGED.

    `row` is its line as far as the caller knows, else -1.
    """
    program, lines, control = core.world.program, core.world.lines, core.control
    kind, cap, span = program.features[feature, 3], program.features[feature, 4], program.features[feature, 5]
    now, time = control[CLOCK], entry[0]
    if time <= now - span:
        return np.int64(-1), np.int64(UNCHANGED)
    if row < 0:
        row = find_line(lines.table, lines.meta, line_key(person, feature), True)
    if kind == STAMPS:  # by far the most common: compiled for itself, with a stride of one
        replaced = insert(lines, row, STAMPS, cap, now - span, (time, 0))
    else:
        replaced = insert(lines, row, kind, cap, now - span, entry)
    control[UPDATES] += 1
    return row, replaced


@inlined_kernel
def _update_feature(
    core: Core,
    person: int,
    line: tuple[int, int],
    entry: tuple[int, int],
    late: bool,  # noqa: FBT001 - kernels take positional scalars
) -> None:
    """Put (time, value) into the window of one feature, given with its line, and mark the tags whose answer it can change."""
    program, time, feature = core.world.program, entry[0], line[0]
    row, replaced = _put_entry(core, person, feature, line[1], entry)
    if replaced == UNCHANGED:
        return
    _mark_edges(core, feature, row, (time, replaced))
    mark(core, program.always[feature, 0], program.always[feature, 1])
    if late:
        mark(core, program.always[feature, 2], program.always[feature, 3])
    for at in range(program.always[feature, 4], program.always[feature, 5]):
        forget_judgement(core.world, person, feature, program.edge_tags[at], (time, late))


@inlined_kernel
def match_features(core: Core, row: tuple[Words, int], kind: int, channel: int, slot: int) -> None:
    """Write down in `core.matched[slot]` which features an event of a declared type matches."""
    program, text_bits, matched = core.world.program, core.world.rows.text_bits, core.matched
    found, last, holds = np.int64(0), np.int64(-1), False
    for feature in range(program.type_features[kind, 0], program.type_features[kind, 1]):
        predicate, field = program.features[feature, 1], program.features[feature, 2]
        if predicate != last:  # features are sorted by predicate
            last = predicate
            holds = predicate_holds(program, text_bits, row, predicate, channel)
        if holds and (field < 0 or row[0][row[1] + field] != NULL):
            found += 1
            matched[slot, found] = feature
    matched[slot, 0] = found


@inlined_kernel
def update_windows(core: Core, person: int, time: int, offset: int, slot: int) -> None:
    """Update the features in `core.matched[slot]` with an event whose values start at `offset` of `Rows.values`.

    An event before the person's newest one is late.
    """
    program, values, matched = core.world.program, core.world.rows.values, core.matched
    late = time < core.people[person, NEWEST]
    core.people[person, NEWEST] = max(time, core.people[person, NEWEST])
    most = (matched.shape[1] >> 1) - 1
    for place in range(1, matched[slot, 0] + 1):
        feature = matched[slot, place]
        field = program.features[feature, 2]
        value = values[offset + field] if field >= 0 else np.int64(0)
        _update_feature(core, person, (feature, matched[slot, most + place]), (time, value), late)


@lean_kernel
def _replay(handle: Handle, event: int) -> None:
    """Put an event of the history into the windows of its person, which nobody has looked at yet: there is nothing to mark."""
    core = core_of(handle)
    row, values = core.history[event], core.world.rows.values
    person, time, offset = row[H_PERSON], row[H_TIME], row[H_VALUES]
    match_features(core, (values, offset), row[H_TYPE], row[H_CHANNEL], 0)
    core.people[person, NEWEST] = max(time, core.people[person, NEWEST])
    for place in range(1, core.matched[0, 0] + 1):
        feature = core.matched[0, place]
        field = core.world.program.features[feature, 2]
        value = values[offset + field] if field >= 0 else np.int64(0)
        _put_entry(core, person, feature, np.int64(-1), (time, value))


@lean_kernel
def forget_windows(handle: Handle, person: int) -> None:
    """Empty all windows of a person.

    Oracle: tests.oracles.membership.OracleEngine
    """
    core = core_of(handle)
    lines = core.world.lines
    program = core.world.program
    for feature in range(len(program.features) + len(program.leaves)):  # windows, and what sequences remember
        row = find_line(lines.table, lines.meta, line_key(person, feature), False)
        if row >= 0:
            clear_line(lines, row)


@lean_kernel
def refill(handle: Handle, events: Words, start: int) -> int:
    """Put events of the history into the windows again, from `start` on; where to go on after growing.

    Args:
        handle: All arrays.
        events: Their numbers, those of each person by arrival. Where a person's events follow one another, its windows stay
            in the cache for all of them.
        start: Index in `events`.

    Oracle: tests.oracles.membership.OracleEngine
    """
    core = core_of(handle)
    history, count = core.history, len(events)
    for at in range(start, count):
        if tables_full(core):
            return at
        if at + _FAR < count:
            prefetch_row(history, events[at + _FAR])
        if at + _NEAR < count:
            prefetch_row(core.world.rows.values, history[events[at + _NEAR], H_VALUES])
        _replay(handle, events[at])
    return count


@lean_kernel
def relink(handle: Handle, person: int, events: Words) -> None:
    """Give a person this history: event numbers in order of arrival.

    Oracle: tests.oracles.membership.OracleEngine
    """
    core = core_of(handle)
    previous = np.int64(-1)
    for event in events:
        core.history[event, H_PERSON] = person
        core.history[event, H_PREVIOUS] = previous
        previous = event
    core.people[person, LAST_EVENT] = previous
