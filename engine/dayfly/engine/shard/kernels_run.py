"""The event loop of a shard: everything that happens by the million, in one compiled function.

`run` takes events in until something needs a decision that is not a matter of arrays (a consent object, a merge, a
trigger), returns a code and the index of the event, and is called again. Time moves only here: before each event, and
at the end, everything that time alone makes happen is done at its exact instant and in its order.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from dayfly.engine.shard.kernels_lines import (
    UNCHANGED,
    clear_line,
    count_after,
    find_line,
    home,
    insert,
    line_key,
)
from dayfly.engine.shard.kernels_people import Ids, find_id, id_home, put_id
from dayfly.engine.shard.kernels_tags import (
    FOREVER,
    SCRATCH_CLOCK,
    Program,
    World,
    evaluate_tag,
    find_member,
    forget_judgement,
    holds_now,
    predicate_holds,
)
from dayfly.engine.shard.prefetch import prefetch_row
from dayfly.privacy._jit import inlined_kernel, lean_kernel

__all__ = [
    "Batch",
    "Core",
    "add_person",
    "arm_consent",
    "collect",
    "consent_mark",
    "defer",
    "forget_windows",
    "rebuild_one",
    "rebuild_windows",
    "relink",
    "relink_all",
    "run",
    "settle",
    "settle_everybody",
]

Words = npt.NDArray[np.int64]

_NULL = -9223372036854775808
_SHIFT = 16

# codes of `run`
DONE, FIRED, CONSENT, MERGE, WAIT, WAITING_DUE, CONSENT_DUE, GROW, FLUSH, TAKE_IN = (
    0,
    1,
    2,
    3,
    4,
    5,
    6,
    7,
    8,
    9,
)

# cells of `Core.control`
(CLOCK, SEQUENCE, EMITTED, FIRES, HEAP, EVENTS, VALUES, PEOPLE, WAITING, PERSON, ACCEPTED, DUPLICATE, TOO_LATE,
 TOO_FAR, IGNORED, REFUSED, UPDATES, UNSETTLED) = range(18)  # fmt: skip

# kinds of emitted rows: (kind, at, person, tag or trigger or index, until or reason, sequence)
ENTER, LEAVE, UNCONSENTED, DEAD = 1, 2, 3, 4
REASON_WHEN, REASON_CONSENT = 0, 1
LATE_LETTER, EARLY_LETTER = 1, 2

# columns of `Core.history`
H_TIME, H_PERSON, H_TYPE, H_CHANNEL, H_VALUES, H_PREVIOUS, H_DIGEST = 0, 1, 2, 3, 4, 5, 6

# columns of `Core.people`
LAST_EVENT, CONSENT_DUE_AT, CONSENT_SEEN, ALIVE, NEWEST = 0, 1, 2, 3, 4


class Core(NamedTuple):
    """All arrays of a shard.

    Attributes:
        world: What tag evaluation reads (program, lines, rows, memberships).
        ids: Pseudonym -> person number.
        seen: Event id -> instant until which it is remembered.
        people: int64[persons, 8]: last event, next consent boundary (0: none), digest of the last consent object, alive,
            newest event time.
        names: uint64[persons, 2], pseudonym of each person.
        masks: uint64[persons, words], which consent requirements are met now.
        history: int64[events, 8]: time, person, type, channel, start of values, previous event of the person, digest.
        heap: int64[n, 2], binary heap of (instant, person << 16 | tag + 1); tag part 0 is a consent boundary.
        marks: uint64[words], tags of the current person to evaluate.
        emitted: int64[n, 6].
        fired: int64[n, 4]: trigger, person, event (-1: none), instant.
        control: int64[32].
    """

    world: World
    ids: Ids
    seen: Ids
    people: Words
    names: npt.NDArray[np.uint64]
    masks: npt.NDArray[np.uint64]
    history: Words
    heap: Words
    marks: npt.NDArray[np.uint64]
    emitted: Words
    fired: Words
    control: Words


class Batch(NamedTuple):
    """Columns of an `EventBatch` with strings interned; `trusted` events were checked when they first arrived."""

    received: Words
    time: Words
    subject: npt.NDArray[np.uint64]
    link: npt.NDArray[np.uint64]
    event_id: npt.NDArray[np.uint64]
    digest: npt.NDArray[np.uint64]
    type: npt.NDArray[np.int32]
    channel: npt.NDArray[np.int32]
    consent_digest: npt.NDArray[np.uint64]
    value_offset: Words
    values: Words
    trusted: bool


# --- timers ----------------------------------------------------------------------------------------------------------


@inlined_kernel
def _before(heap: Words, left: int, right: int) -> bool:
    return heap[left, 0] < heap[right, 0] or (
        heap[left, 0] == heap[right, 0] and heap[left, 1] < heap[right, 1]
    )


@inlined_kernel
def _swap(heap: Words, left: int, right: int) -> None:
    for column in range(2):
        kept = heap[left, column]
        heap[left, column] = heap[right, column]
        heap[right, column] = kept


@inlined_kernel
def _push(heap: Words, control: Words, at: int, key: int) -> None:
    node = control[HEAP]
    heap[node, 0], heap[node, 1] = at, key
    control[HEAP] = node + 1
    while node > 0:
        parent = (node - 1) >> 1
        if not _before(heap, node, parent):
            return
        _swap(heap, node, parent)
        node = parent


@inlined_kernel
def _pop(heap: Words, control: Words) -> None:
    size = control[HEAP] - 1
    control[HEAP] = size
    heap[0, 0], heap[0, 1] = heap[size, 0], heap[size, 1]
    node = 0
    while True:
        child = 2 * node + 1
        if child >= size:
            return
        if child + 1 < size and _before(heap, child + 1, child):
            child += 1
        if not _before(heap, child, node):
            return
        _swap(heap, child, node)
        node = child


@lean_kernel
def arm_consent(core: Core, person: int, at: int) -> None:
    """Note that a person's consents change at `at` by themselves."""
    if core.people[person, CONSENT_DUE_AT] != at:
        core.people[person, CONSENT_DUE_AT] = at
        if at != 0:
            _push(core.heap, core.control, at, np.int64(person) << _SHIFT)


# --- tags ------------------------------------------------------------------------------------------------------------


@inlined_kernel
def _mark(core: Core, start: int, end: int) -> None:
    program = core.world.program
    for at in range(start, end):
        tag = program.edge_tags[at]
        core.marks[tag >> 6] |= np.uint64(1) << np.uint64(tag & 63)


@inlined_kernel
def _allowed(core: Core, person: int, bit: int) -> bool:
    return (core.masks[person, bit >> 6] >> np.uint64(bit & 63)) & np.uint64(1) != 0


@inlined_kernel
def _emit(core: Core, row: tuple[int, int, int, int, int]) -> None:
    control = core.control
    at = control[EMITTED]
    for column in range(5):
        core.emitted[at, column] = row[column]
    control[SEQUENCE] += 1
    core.emitted[at, 5] = control[SEQUENCE]
    control[EMITTED] = at + 1


@inlined_kernel
def _fire(core: Core, trigger: int, bit: int, person: int, event: int) -> None:
    """Note an order to be made, or its refusal when the compiled consent mask says no (a bit of -1 needs no consent)."""
    now = core.control[CLOCK]
    if bit >= 0 and not _allowed(core, person, bit):
        _emit(core, (np.int64(UNCONSENTED), now, np.int64(person), np.int64(trigger), np.int64(0)))
        return
    at = core.control[FIRES]
    core.fired[at, 0], core.fired[at, 1], core.fired[at, 2], core.fired[at, 3] = trigger, person, event, now
    core.control[FIRES] = at + 1


@inlined_kernel
def _natural_end(world: World, tag: int, person: int, until: int) -> int:
    """First instant at which a tag that holds stops holding if nothing more arrives (a lower bound after many steps)."""
    for _ in range(256):
        if until == FOREVER:
            return until
        truth, later = evaluate_tag(world, tag, person, until)
        if not truth:
            return until
        until = later
    return until


@inlined_kernel
def _apply_tag(core: Core, person: int, tag: int) -> None:
    """Evaluate one tag of one person now; emit what changed, mark what depends on it, and set its timer."""
    world, control = core.world, core.control
    program, members = world.program, world.members
    now = control[CLOCK]
    allowed = _allowed(core, person, program.tags[tag, 2])
    truth, until = False, np.int64(FOREVER)
    world.scratch[SCRATCH_CLOCK] = now
    if allowed:
        truth, until = holds_now(world, tag, person, now)
    row = find_member(members, world.meta, line_key(person, tag), truth or until != FOREVER)
    if row < 0:
        return
    if (members[row, 1] != 0) != truth:
        members[row, 1], members[row, 2] = np.int64(truth), now
        if truth:
            until = _natural_end(world, tag, person, until)
        reason = REASON_WHEN if allowed else REASON_CONSENT
        _emit(
            core,
            (
                np.int64(ENTER if truth else LEAVE),
                now,
                np.int64(person),
                np.int64(tag),
                until if truth else np.int64(reason),
            ),
        )
        members[row, 5] = control[SEQUENCE]
        for at in range(program.tags[tag, 3], program.tags[tag, 4]):
            other = program.dependents[at]
            core.marks[other >> 6] |= np.uint64(1) << np.uint64(other & 63)
        if truth:
            for at in range(program.tags[tag, 5], program.tags[tag, 6]):
                _fire(core, program.tag_triggers[at, 0], program.tag_triggers[at, 1], person, np.int64(-1))
    members[row, 4] = until
    if until != FOREVER and (members[row, 3] == 0 or until < members[row, 3]):
        members[row, 3] = until
        _push(core.heap, control, until, (np.int64(person) << _SHIFT) | np.int64(tag + 1))


@inlined_kernel
def _settle(core: Core, person: int) -> None:
    for word in range(len(core.marks)):
        while core.marks[word] != 0:
            bits = core.marks[word]
            lowest = bits & (~bits + np.uint64(1))
            core.marks[word] = bits ^ lowest
            position = np.int64(0)
            while lowest >> np.uint64(position) != np.uint64(1):
                position += 1
            _apply_tag(core, person, word * 64 + position)


@lean_kernel
def defer(core: Core, person: int) -> None:
    """Have the marked tags of a person evaluated together with whatever else is due for it at this instant."""
    now = core.control[CLOCK]
    for tag in range(core.world.program.scalars[3]):
        if (core.marks[tag >> 6] >> np.uint64(tag & 63)) & np.uint64(1) != 0:
            row = find_member(core.world.members, core.world.meta, line_key(person, tag), True)
            core.world.members[row, 3] = now
            _push(core.heap, core.control, now, (np.int64(person) << _SHIFT) | np.int64(tag + 1))
    for word in range(len(core.marks)):
        core.marks[word] = 0


@inlined_kernel
def _settle_if_marked(core: Core, person: int) -> None:
    anything = np.uint64(0)
    for word in range(len(core.marks)):
        anything |= core.marks[word]
    if anything != np.uint64(0):
        _settle(core, person)


@lean_kernel
def settle(core: Core, person: int) -> None:
    """Evaluate the marked tags of a person, lowest first; a tag's dependents always come after it."""
    _settle(core, person)


@lean_kernel
def _advance(core: Core, target: int) -> int:
    """Let time pass up to `target`; a code when someone else must act at the clock's instant first.

    All that is due for one person at one instant is evaluated at once, so that nothing flickers within an instant.
    """
    control, heap = core.control, core.heap
    limit = len(core.emitted) - 2 * core.world.program.scalars[3] - 8
    while True:
        if control[EMITTED] > limit:
            return FLUSH
        if _tables_full(core):
            return GROW
        due = heap[0, 0] if control[HEAP] > 0 else np.int64(FOREVER)
        person = heap[0, 1] >> _SHIFT if due <= target else np.int64(-1)
        waiting = control[UNSETTLED]
        if waiting >= 0 and (person != waiting or due > control[CLOCK] or control[WAITING] <= control[CLOCK]):
            control[UNSETTLED] = -1
            settle(core, waiting)
            if control[FIRES] > 0:
                return FIRED
            continue
        if control[WAITING] <= min(due, target):
            control[CLOCK] = max(control[CLOCK], control[WAITING])
            return WAITING_DUE
        if due > target:
            control[CLOCK] = max(control[CLOCK], target)
            return DONE
        tag = (heap[0, 1] & 0xFFFF) - 1
        key = heap[0, 1] - 1
        _pop(heap, control)
        if tag < 0:
            if core.people[person, CONSENT_DUE_AT] == due:
                control[CLOCK] = max(control[CLOCK], due)
                control[PERSON] = person
                control[UNSETTLED] = person
                return CONSENT_DUE
            continue
        row = find_member(core.world.members, core.world.meta, key, False)
        if row < 0 or core.world.members[row, 3] != due:
            continue
        core.world.members[row, 3] = 0
        control[CLOCK] = max(control[CLOCK], due)
        core.marks[tag >> 6] |= np.uint64(1) << np.uint64(tag & 63)
        control[UNSETTLED] = person


# --- events ----------------------------------------------------------------------------------------------------------


@inlined_kernel
def _tables_full(core: Core) -> bool:
    """Whether one more event or timer could meet a full table."""
    return _short_of_room(core, 1)


@inlined_kernel
def _short_of_room(core: Core, count: int) -> bool:
    """Whether `count` more events or timers could meet a full table."""
    world, control = core.world, core.control
    tags, widest, features = world.program.scalars[3], world.program.scalars[6], world.program.scalars[7]
    lines = world.lines
    return (
        control[EVENTS] + count >= len(core.history)
        or control[VALUES] + count * widest >= len(world.rows.values)
        or control[PEOPLE] + count + 1 >= len(core.people)
        or (core.ids.meta[0] + 2 * count) * 10 >= core.ids.keys.shape[0] * 7
        or (core.seen.meta[0] + count + 1) * 10 >= core.seen.keys.shape[0] * 7
        or (lines.meta[0] + count * features) * 10 >= lines.table.shape[0] * 8
        or lines.meta[1] + count * features * (np.int64(4) << max(lines.meta[2], np.int64(5)))
        >= len(lines.arena)
        or (world.meta[0] + count * tags) * 10 >= world.members.shape[0] * 7
        or control[HEAP] + count * tags + 4 >= len(core.heap)
        or control[FIRES] + len(world.program.triggers) + len(world.program.tag_triggers) >= len(core.fired)
    )


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
            _mark(core, program.edges[edge, 0], program.edges[edge, 1])
    _mark(core, program.always[feature, 0], program.always[feature, 1])
    if late:
        _mark(core, program.always[feature, 2], program.always[feature, 3])
    for at in range(program.always[feature, 4], program.always[feature, 5]):
        forget_judgement(core.world, person, feature, program.edge_tags[at], (time, late))


@inlined_kernel
def _update_windows(core: Core, event: int) -> None:
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
            if value == _NULL:
                continue
        _update_feature(core, person, feature, (time, value), late)


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
    _update_windows(core, event)
    if batch.trusted:
        defer(core, person)
    else:
        _settle_if_marked(core, person)
    for trigger in range(program.type_triggers[kind, 0], program.type_triggers[kind, 1]):
        if predicate_holds(program, rows, program.triggers[trigger, 1], offset, batch.channel[index]):
            _fire(core, program.triggers[trigger, 3], program.triggers[trigger, 2], person, event)


@inlined_kernel
def _person_of(core: Core, ids: npt.NDArray[np.uint64], index: int) -> int:
    row = find_id(core.ids, ids[index, 0], ids[index, 1])
    return core.ids.values[row] if row >= 0 else np.int64(-1)


@lean_kernel
def add_person(core: Core, low: int, high: int) -> int:
    """A new person under a pseudonym; the caller has made room."""
    person = core.control[PEOPLE]
    core.control[PEOPLE] = person + 1
    for column in range(8):
        core.people[person, column] = 0
    core.people[person, LAST_EVENT] = -1
    core.people[person, ALIVE] = 1
    core.people[person, NEWEST] = _NULL
    core.names[person, 0], core.names[person, 1] = low, high
    for word in range(core.masks.shape[1]):
        core.masks[person, word] = 0
    put_id(core.ids, low, high, person)
    return person


@inlined_kernel
def _refused_at_the_door(core: Core, batch: Batch, index: int) -> bool:
    """Duplicates and events outside the allowed times: counted (and reported) but not taken in."""
    control, program = core.control, core.world.program
    now, time = control[CLOCK], batch.time[index]
    row = find_id(core.seen, batch.event_id[index, 0], batch.event_id[index, 1])
    if row >= 0 and core.seen.values[row] > now:
        control[DUPLICATE] += 1
        return True
    if time <= now - program.scalars[1]:
        control[TOO_LATE] += 1
        _emit(core, (np.int64(DEAD), now, np.int64(-1), np.int64(index), np.int64(LATE_LETTER)))
        return True
    if time > now + program.scalars[2]:
        control[TOO_FAR] += 1
        _emit(core, (np.int64(DEAD), now, np.int64(-1), np.int64(index), np.int64(EARLY_LETTER)))
        return True
    return False


@inlined_kernel
def consent_mark(digest: int, channel: int) -> int:
    """What `Core.people` remembers of a consent object: the same object from another channel is another one."""
    if digest == np.uint64(0):
        return np.int64(0)
    return np.int64((np.uint64(digest) ^ (np.uint64(channel) << np.uint64(56))) | np.uint64(1))


@inlined_kernel
def _at_the_door(core: Core, batch: Batch, index: int, person: int) -> int:
    """What an event that arrives must pass: TAKE_IN, or the code of why not (DONE: it ends here)."""
    control, program = core.control, core.world.program
    if _refused_at_the_door(core, batch, index):
        return DONE
    now = control[CLOCK]
    seen = consent_mark(batch.consent_digest[index], batch.channel[index])
    if seen != 0 and (person < 0 or core.people[person, CONSENT_SEEN] != seen):
        return CONSENT
    bit = program.channel_bit[batch.channel[index]]
    if bit >= 0 and (person < 0 or not _allowed(core, person, bit)):
        control[REFUSED] += 1
    elif batch.type[index] < 0:
        control[IGNORED] += 1
    elif batch.time[index] > now:
        remember = now + program.scalars[1] + program.scalars[2]
        put_id(core.seen, batch.event_id[index, 0], batch.event_id[index, 1], remember)
        if person >= 0:
            settle(core, person)
        return WAIT
    else:
        return TAKE_IN
    if person >= 0:
        settle(core, person)  # its consent object may have changed tags all the same
    return DONE


@inlined_kernel
def _event(core: Core, batch: Batch, index: int) -> int:
    """Handle one event at the clock's instant; a code when someone else must act first (and the event comes again)."""
    program = core.world.program
    person = _person_of(core, batch.subject, index)
    if not batch.trusted:
        code = _at_the_door(core, batch, index, person)
        if code != TAKE_IN:
            return code
    if batch.link[index, 0] != 0 or batch.link[index, 1] != 0:
        other = _person_of(core, batch.link, index)
        if person < 0 or other != person:
            return MERGE
    if not batch.trusted:
        remember = core.control[CLOCK] + program.scalars[1] + program.scalars[2]
        put_id(core.seen, batch.event_id[index, 0], batch.event_id[index, 1], remember)
    if person < 0:
        person = add_person(core, batch.subject[index, 0], batch.subject[index, 1])
    _take_in(core, batch, index, person)
    return FIRED if core.control[FIRES] > 0 else DONE


@inlined_kernel
def _nothing_due(core: Core, target: int) -> bool:
    """The common case of `_advance`: nothing happens on the way, the clock just moves on."""
    control = core.control
    if (
        control[UNSETTLED] >= 0
        or control[WAITING] <= target
        or (control[HEAP] > 0 and core.heap[0, 0] <= target)
    ):
        return False
    control[CLOCK] = max(control[CLOCK], target)
    return True


@inlined_kernel
def _look_ahead(core: Core, batch: Batch, index: int) -> None:
    """Bring the rows of the events to come into the cache."""
    far, near = index + 16, index + 8
    if far < len(batch.time):
        prefetch_row(
            core.ids.keys, id_home(batch.subject[far, 0], batch.subject[far, 1], core.ids.keys.shape[0] - 1)
        )
        prefetch_row(
            core.seen.keys,
            id_home(batch.event_id[far, 0], batch.event_id[far, 1], core.seen.keys.shape[0] - 1),
        )
    if near < len(batch.time) and batch.type[near] >= 0:
        person = _person_of(core, batch.subject, near)
        if person >= 0:
            program, table = core.world.program, core.world.lines.table
            prefetch_row(core.people, person)
            prefetch_row(core.masks, person)
            kind = batch.type[near]
            for feature in range(program.type_features[kind, 0], program.type_features[kind, 1]):
                prefetch_row(table, home(line_key(person, feature), table.shape[0] - 1))


@lean_kernel
def run(core: Core, batch: Batch, start: int, target: int) -> tuple[int, int]:
    """Take in events from index `start` on, then let time pass up to `target`.

    Returns:
        A code and the index of the event it is about: DONE (all done), FIRED (orders to make; go on with the next
        event), CONSENT, MERGE, WAIT (act on this event; the first two then come again, the third goes on), WAITING_DUE,
        CONSENT_DUE (act at the clock's instant, then come again), GROW, FLUSH (make room, then come again).

    Oracle: tests.oracles.membership.OracleEngine
    """
    control = core.control
    limit = len(core.emitted) - 2 * core.world.program.scalars[3] - len(core.world.program.triggers) - 8
    index = np.int64(start)
    count = len(batch.time)
    roomy = not _short_of_room(core, count - index)
    while index < count:
        if control[EMITTED] > limit:
            return FLUSH, index
        if not roomy and _tables_full(core):
            return GROW, index
        _look_ahead(core, batch, index)
        if not batch.trusted and not _nothing_due(core, batch.received[index]):
            code = _advance(core, max(batch.received[index], control[CLOCK]))
            if code != DONE:
                return code, index
        code = _event(core, batch, index)
        if code != DONE:
            return code, index + 1 if code == FIRED or code == WAIT else index
        index += 1
    code = np.int64(DONE) if batch.trusted else _advance(core, np.int64(target))
    return code, index


# --- history ---------------------------------------------------------------------------------------------------------


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
def rebuild_one(core: Core, person: int, events: Words, start: int) -> int:
    """Put the given events (by arrival) of a person into its windows again, from `start`; where to go on after growing."""
    for at in range(start, len(events)):
        if _tables_full(core):
            return at
        _update_windows(core, events[at])
    for word in range(len(core.marks)):
        core.marks[word] = 0
    return len(events)


@lean_kernel
def rebuild_windows(core: Core, start: int) -> int:
    """Put the whole history into the windows again, from event `start`; where to go on after growing."""
    for event in range(start, core.control[EVENTS]):
        if _tables_full(core):
            return event
        if core.history[event, H_PERSON] >= 0:
            _update_windows(core, event)
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


@lean_kernel
def settle_everybody(core: Core, start: int) -> int:
    """Evaluate all tags of all persons from `start` on; the person to go on with once the caller has made room."""
    tags = core.world.program.scalars[3]
    limit = len(core.emitted) - 3 * tags - len(core.world.program.tag_triggers) - 8
    for person in range(start, core.control[PEOPLE]):
        if core.control[EMITTED] > limit or core.control[FIRES] > 0 or _tables_full(core):
            return person
        anything = np.uint64(0)
        for word in range(core.masks.shape[1]):
            anything |= core.masks[person, word]
        if core.people[person, ALIVE] == 0 or anything == np.uint64(0):
            continue
        for tag in range(tags):
            core.marks[tag >> 6] |= np.uint64(1) << np.uint64(tag & 63)
        settle(core, person)
    return core.control[PEOPLE]
