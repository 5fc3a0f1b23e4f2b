"""The event loop of a shard: everything that happens by the million, in one compiled function.

`run` takes events in until something needs a decision that is not a matter of arrays (a consent object, a merge, a
trigger), returns a code and the index of the event, and is called again. Time moves only here: before each event, and
at the end, everything that time alone makes happen is done at its exact instant and in its order.
"""

import numpy as np
import numpy.typing as npt

from dayfly.engine.shard.kernels_core import Batch, Core, allowed, emit, fire, short_of_room, tables_full
from dayfly.engine.shard.kernels_handle import core_of
from dayfly.engine.shard.kernels_layout import (
    ACCEPTED,
    ALIVE,
    CLOCK,
    CONSENT,
    CONSENT_SEEN,
    CONSENT_SEEN_AT,
    DEAD,
    DONE,
    DUPLICATE,
    EARLY_LETTER,
    EMITTED,
    EVENTS,
    FIRED,
    FIRES,
    FLUSH,
    GROW,
    H_CHANNEL,
    H_DIGEST,
    H_PERSON,
    H_PREVIOUS,
    H_TIME,
    H_TYPE,
    H_VALUES,
    IGNORED,
    LAST_EVENT,
    LATE_LETTER,
    MERGE,
    NEWEST,
    NULL,
    OBSERVED,
    PASSED,
    PEOPLE,
    REFUSED,
    TAKE_IN,
    TOO_FAR,
    TOO_LATE,
    VALUES,
    WAIT,
)
from dayfly.engine.shard.kernels_lines import find_line, home, line_key, view
from dayfly.engine.shard.kernels_people import VALUE, find_id, id_home, put_id
from dayfly.engine.shard.kernels_predicates import predicate_holds
from dayfly.engine.shard.kernels_prefetch import prefetch_row
from dayfly.engine.shard.kernels_program import Handle
from dayfly.engine.shard.kernels_settle import advance, await_tag, defer, nothing_due, settle, settle_marked
from dayfly.engine.shard.kernels_windows import match_features, update_windows
from dayfly.privacy._jit import inlined_kernel, lean_kernel

__all__ = ["add_person", "consent_mark", "run"]

_BLOCK = 8  # events whose rows are asked for together
_RING = 2 * _BLOCK - 1  # rows of `Core.matched` less one: this block and the next


@inlined_kernel
def _person_of(core: Core, ids: npt.NDArray[np.uint64], index: int) -> int:
    row = find_id(core.ids, ids[index, 0], ids[index, 1])
    return core.ids.values[row, VALUE] if row >= 0 else np.int64(-1)


@inlined_kernel
def _awaited_person(core: Core, batch: Batch, index: int) -> int:
    """`_person_of` the subject of an event whose row was asked for: numbers of people do not change during a call of `run`."""
    person = core.matched[index & _RING, core.matched.shape[1] - 1]
    return person if person >= 0 else _person_of(core, batch.subject, index)


@lean_kernel
def add_person(core: Core, low: int, high: int) -> int:
    """A new person under a pseudonym; the caller has made room."""
    person = core.control[PEOPLE]
    core.control[PEOPLE] = person + 1
    for column in range(8):
        core.people[person, column] = 0
    core.people[person, LAST_EVENT] = -1
    core.people[person, ALIVE] = 1
    core.people[person, NEWEST] = NULL
    core.names[person, 0], core.names[person, 1] = low, high
    for word in range(core.masks.shape[1]):
        core.masks[person, word] = 0
    put_id(core.ids, low, high, person)
    return person


@inlined_kernel
def _take_in(core: Core, batch: Batch, index: int, person: int) -> None:
    """Append an event to the history, update windows and tags, and fire triggers on it."""
    control, history = core.control, core.history
    program, rows = core.world.program, core.world.rows
    event = control[EVENTS]
    control[EVENTS] = event + 1
    control[ACCEPTED] += 1
    kind = batch.type[index]
    offset = control[VALUES]
    start = batch.value_offset[index]
    width = program.type_features[kind, 2]
    for slot in range(width):
        rows.values[offset + slot] = batch.values[start + slot]
    control[VALUES] = offset + width
    history[event, H_TIME] = batch.time[index]
    history[event, H_PERSON] = person
    history[event, H_TYPE] = kind
    history[event, H_CHANNEL] = batch.channel[index]
    history[event, H_VALUES] = offset
    history[event, H_PREVIOUS] = core.people[person, LAST_EVENT]
    history[event, H_DIGEST] = np.int64(batch.digest[index, 0])
    history[event, H_DIGEST + 1] = np.int64(batch.digest[index, 1])
    core.people[person, LAST_EVENT] = event
    update_windows(core, person, batch.time[index], offset, index & _RING)
    if batch.trusted:
        defer(core.world.handle, person)
    else:
        settle_marked(core, person)
    for trigger in range(program.type_triggers[kind, 0], program.type_triggers[kind, 1]):
        predicate = program.triggers[trigger, 1]
        if predicate_holds(program, rows.text_bits, (rows.values, offset), predicate, batch.channel[index]):
            fire(core, program.triggers[trigger, 3], program.triggers[trigger, 2], person, event)


@inlined_kernel
def _refused_at_the_door(core: Core, batch: Batch, index: int) -> bool:
    """Duplicates and events outside the allowed times: counted (and reported) but not taken in."""
    control, program = core.control, core.world.program
    now, time = control[CLOCK], batch.time[index]
    row = find_id(core.seen, batch.event_id[index, 0], batch.event_id[index, 1])
    if row >= 0 and core.seen.values[row, VALUE] > now:
        control[DUPLICATE] += 1
        return True
    if time <= now - program.scalars[1]:
        control[TOO_LATE] += 1
        emit(core, (np.int64(DEAD), now, np.int64(-1), np.int64(index), np.int64(LATE_LETTER)))
        return True
    if time > now + program.scalars[2]:
        control[TOO_FAR] += 1
        emit(core, (np.int64(DEAD), now, np.int64(-1), np.int64(index), np.int64(EARLY_LETTER)))
        return True
    return False


@inlined_kernel
def consent_mark(digest: int, channel: int, subject: int) -> int:
    """What `Core.people` remembers of a consent object: from another channel or under another name it is another one."""
    if digest == np.uint64(0):
        return np.int64(0)
    mixed = np.uint64(digest) ^ (np.uint64(channel) << np.uint64(56)) ^ (np.uint64(subject) << np.uint64(1))
    return np.int64(mixed | np.uint64(1))


@inlined_kernel
def _repeats_consent(core: Core, batch: Batch, index: int, person: int) -> bool:
    """Whether the event's consent object (if any) says again what was said last; the time of that is noted."""
    mark = consent_mark(batch.consent_digest[index], batch.channel[index], batch.subject[index, 0])
    if mark == 0:
        return True
    if person < 0 or core.people[person, CONSENT_SEEN] != mark:
        return False
    if batch.time[index] < core.people[person, CONSENT_SEEN_AT]:
        return core.control[OBSERVED] != 0  # an earlier one may make a grant older: it is read, once
    core.people[person, CONSENT_SEEN_AT] = batch.time[index]
    return True


@inlined_kernel
def _at_the_door(core: Core, batch: Batch, index: int, person: int) -> int:
    """What an event that arrives must pass: TAKE_IN, or the code of why not (DONE: it ends here)."""
    control, program = core.control, core.world.program
    if _refused_at_the_door(core, batch, index):
        return DONE
    now = control[CLOCK]
    if not _repeats_consent(core, batch, index, person):
        return CONSENT
    control[OBSERVED] = 0
    bit = program.channel_bit[batch.channel[index]]
    if bit >= 0 and (person < 0 or not allowed(core, person, bit)):
        control[REFUSED] += 1
    elif batch.type[index] < 0:
        control[IGNORED] += 1
    elif batch.time[index] > now:
        remember = now + program.scalars[1] + program.scalars[2]
        put_id(core.seen, batch.event_id[index, 0], batch.event_id[index, 1], remember)
        if person >= 0:
            settle(core.world.handle, person)
        return WAIT
    else:
        return TAKE_IN
    if person >= 0:
        settle(core.world.handle, person)  # its consent object may have changed tags all the same
    return DONE


@inlined_kernel
def _event(core: Core, batch: Batch, index: int) -> int:
    """Handle one event at the clock's instant; a code when someone else must act first (and the event comes again)."""
    program = core.world.program
    person = _awaited_person(core, batch, index)
    if not batch.trusted and core.control[PASSED] == 0:
        code = _at_the_door(core, batch, index, person)
        if code != TAKE_IN:
            return code
    if batch.link[index, 0] != 0 or batch.link[index, 1] != 0:
        other = _person_of(core, batch.link, index)
        if person < 0 or other != person:
            core.control[PASSED] = 1  # the door is asked once, before the merge that the event brings
            return MERGE
    core.control[PASSED] = 0
    if not batch.trusted:
        remember = core.control[CLOCK] + program.scalars[1] + program.scalars[2]
        put_id(core.seen, batch.event_id[index, 0], batch.event_id[index, 1], remember)
    if person < 0:
        person = add_person(core, batch.subject[index, 0], batch.subject[index, 1])
    _take_in(core, batch, index, person)
    return FIRED if core.control[FIRES] > 0 else DONE


@inlined_kernel
def _await_ids(core: Core, batch: Batch, index: int) -> None:
    """Ask for what tells who an event's person is, and whether the event was seen."""
    ids, seen = core.ids.keys, core.seen.keys
    prefetch_row(ids, id_home(batch.subject[index, 0], batch.subject[index, 1], ids.shape[0] - 1))
    prefetch_row(seen, id_home(batch.event_id[index, 0], batch.event_id[index, 1], seen.shape[0] - 1))


@inlined_kernel
def _await_person(core: Core, batch: Batch, index: int) -> None:
    """Ask for what is known of an event's person."""
    person = _person_of(core, batch.subject, index)
    core.matched[index & _RING, core.matched.shape[1] - 1] = person
    if person >= 0:
        prefetch_row(core.people, person)
        prefetch_row(core.masks, person)


@inlined_kernel
def _await_lines(core: Core, batch: Batch, index: int) -> None:
    """Match an event, and ask for its windows and for what is evaluated whatever they hold."""
    kind, slot = batch.type[index], index & _RING
    if kind < 0:
        return
    match_features(core, (batch.values, batch.value_offset[index]), kind, batch.channel[index], slot)
    person = _awaited_person(core, batch, index)
    if person < 0:
        return
    program, table, matched = core.world.program, core.world.lines.table, core.matched
    for place in range(1, matched[slot, 0] + 1):
        feature = matched[slot, place]
        prefetch_row(table, home(line_key(person, feature), table.shape[0]))
        for at in range(program.always[feature, 0], program.always[feature, 1]):
            await_tag(core.world, person, program.edge_tags[at])


@inlined_kernel
def _await_vectors(core: Core, batch: Batch, index: int) -> None:
    """Note which windows an event updates, and ask for the oldest and newest entries of those too long for their line."""
    person, slot = _awaited_person(core, batch, index), index & _RING
    if batch.type[index] < 0:
        return
    lines, matched = core.world.lines, core.matched
    most = (matched.shape[1] >> 1) - 1
    for place in range(1, matched[slot, 0] + 1):
        feature = matched[slot, place]
        row = np.int64(-1)
        if person >= 0:
            row = find_line(lines.table, lines.meta, line_key(person, feature), False)
        matched[slot, most + place] = row  # rows stay where they are during a call of `run`
        if row >= 0 and lines.table[row, 1] >> 32 != 0:
            _, offset, stride, count = view(lines, row, core.world.program.features[feature, 3])
            prefetch_row(lines.arena, offset)
            prefetch_row(lines.arena, offset + (count - 1) * stride)


@inlined_kernel
def _look_ahead(core: Core, batch: Batch, index: int, known: int) -> None:
    """Match the events of the next block, and ask the cache for the rows of this block and the two after it.

    Every block step by step, not every event: the requests of one step do not depend on one another, so that the
    processor translates and fetches several of their addresses at once. `known` is 0 for the first block of a call, of which
    nothing was asked before, and 1 for later ones.
    """
    second, third = index + _BLOCK * known, index + 2 * _BLOCK * known
    count = len(batch.time)
    for ahead in range(third, min(index + 3 * _BLOCK, count)):
        _await_ids(core, batch, ahead)
    for ahead in range(second, min(index + 2 * _BLOCK, count)):
        _await_person(core, batch, ahead)
    for ahead in range(second, min(index + 2 * _BLOCK, count)):
        _await_lines(core, batch, ahead)
    for ahead in range(index, min(index + _BLOCK, count)):
        _await_vectors(core, batch, ahead)


@lean_kernel
def run(handle: Handle, batch: Batch, start: int, target: int) -> tuple[int, int]:
    """Take in events from index `start` on, then let time pass up to `target`.

    Returns:
        A code and the index of the event it is about: DONE (all done), FIRED (orders to make; go on with the next
        event), CONSENT, MERGE, WAIT (act on this event; the first two then come again, the third goes on), WAITING_DUE,
        CONSENT_DUE (act at the clock's instant, then come again), GROW, FLUSH (make room, then come again).

    Oracle: tests.oracles.membership.OracleEngine
    """
    core = core_of(handle)
    control = core.control
    limit = len(core.emitted) - 2 * core.world.program.scalars[3] - len(core.world.program.triggers) - 8
    index = np.int64(start)
    count = len(batch.time)
    roomy = False
    while index < count:
        if control[EMITTED] > limit:
            return FLUSH, index
        block_begins = (index - start) % _BLOCK == 0
        if block_begins:
            roomy = not short_of_room(core, _BLOCK)
        if not roomy and tables_full(core):
            return GROW, index
        if block_begins:
            _look_ahead(core, batch, index, np.int64(index > start))
        if not batch.trusted and not nothing_due(core, batch.received[index]):
            code = advance(handle, max(batch.received[index], control[CLOCK]))
            if code != DONE:
                return code, index
            roomy = False  # what fell due took room, and left enough for one event
        code = _event(core, batch, index)
        if code != DONE:
            return code, index + 1 if code == FIRED or code == WAIT else index
        index += 1
    code = np.int64(DONE) if batch.trusted else advance(handle, np.int64(target))
    return code, index
