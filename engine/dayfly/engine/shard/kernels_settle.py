"""Tags change: by events, by time, by consent. All that is due for one person at one instant is evaluated at once."""

import numpy as np

from dayfly.engine.shard.kernels_core import Core, allowed, emit, fire, lowest_bit, pop, push, tables_full
from dayfly.engine.shard.kernels_handle import core_of
from dayfly.engine.shard.kernels_layout import (
    ALIVE,
    CLOCK,
    CONSENT_DUE,
    CONSENT_DUE_AT,
    DONE,
    EMITTED,
    ENTER,
    FIRED,
    FIRES,
    FLUSH,
    FOREVER,
    GROW,
    HEAP,
    LEAVE,
    PEOPLE,
    PERSON,
    REASON_CONSENT,
    REASON_WHEN,
    SCRATCH_CLOCK,
    SEQUENCE,
    SHIFT,
    UNSETTLED,
    WAITING,
    WAITING_DUE,
)
from dayfly.engine.shard.kernels_lines import home, line_key
from dayfly.engine.shard.kernels_prefetch import prefetch_row
from dayfly.engine.shard.kernels_program import Handle, World, find_member
from dayfly.engine.shard.kernels_tags import evaluate_tag, holds_now
from dayfly.privacy._jit import inlined_kernel, lean_kernel

__all__ = [
    "advance",
    "arm_consent",
    "await_tag",
    "defer",
    "nothing_due",
    "settle",
    "settle_everybody",
    "settle_marked",
]

_NEAR_THE_TOP = (1, 5)  # nodes of the heap of which one comes up after the next timer


@inlined_kernel
def _natural_end(world: World, tag: int, person: int, until: int) -> int:
    """First instant at which a tag that holds stops holding if nothing more arrives (a lower bound after many steps)."""
    for _ in range(256):
        if until == FOREVER:
            return until
        truth, later = evaluate_tag(world.handle, tag, person, until)
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
    prefetch_row(members, home(line_key(person, tag), members.shape[0]))  # comes while the tag is evaluated
    permitted = allowed(core, person, program.tags[tag, 2])
    truth, until = False, np.int64(FOREVER)
    world.scratch[SCRATCH_CLOCK] = now
    if permitted:
        truth, until = holds_now(world, tag, person, now)
    row = find_member(members, world.meta, line_key(person, tag), truth or until != FOREVER)
    if row < 0:
        return
    if (members[row, 1] != 0) != truth:
        members[row, 1], members[row, 2] = np.int64(truth), now
        if truth:
            until = _natural_end(world, tag, person, until)
        reason = REASON_WHEN if permitted else REASON_CONSENT
        emit(
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
                fire(core, program.tag_triggers[at, 0], program.tag_triggers[at, 1], person, np.int64(-1))
    members[row, 4] = until
    if until != FOREVER and (members[row, 3] == 0 or until < members[row, 3]):
        members[row, 3] = until
        push(core.heap, control, until, (np.int64(person) << SHIFT) | np.int64(tag + 1))


@inlined_kernel
def _settle_now(core: Core, person: int) -> None:
    """`settle`, inlined where it is called for most events."""
    for word in range(len(core.marks)):
        while core.marks[word] != 0:
            bits = core.marks[word]
            core.marks[word] = bits & (bits - np.uint64(1))
            _apply_tag(core, person, word * 64 + lowest_bit(bits))


@lean_kernel
def settle(handle: Handle, person: int) -> None:
    """Evaluate the marked tags of a person, lowest first; a tag's dependents always come after it.

    Oracle: tests.oracles.membership.OracleEngine
    """
    _settle_now(core_of(handle), person)


@inlined_kernel
def settle_marked(core: Core, person: int) -> None:
    """Settle if there is anything to settle."""
    anything = np.uint64(0)
    for word in range(len(core.marks)):
        anything |= core.marks[word]
    if anything != np.uint64(0):
        _settle_now(core, person)


@lean_kernel
def defer(handle: Handle, person: int) -> None:
    """Have the marked tags of a person evaluated together with whatever else is due for it at this instant."""
    core = core_of(handle)
    now = core.control[CLOCK]
    for tag in range(core.world.program.scalars[3]):
        if (core.marks[tag >> 6] >> np.uint64(tag & 63)) & np.uint64(1) != 0:
            row = find_member(core.world.members, core.world.meta, line_key(person, tag), True)
            core.world.members[row, 3] = now
            push(core.heap, core.control, now, (np.int64(person) << SHIFT) | np.int64(tag + 1))
    for word in range(len(core.marks)):
        core.marks[word] = 0


@lean_kernel
def arm_consent(handle: Handle, person: int, at: int) -> None:
    """Note that a person's consents change at `at` by themselves; the caller has made room for a timer.

    Oracle: tests.oracles.membership.OracleEngine
    """
    core = core_of(handle)
    if core.people[person, CONSENT_DUE_AT] != at:
        core.people[person, CONSENT_DUE_AT] = at
        if at != 0:
            push(core.heap, core.control, at, np.int64(person) << SHIFT)


@inlined_kernel
def await_tag(world: World, person: int, tag: int) -> None:
    """Bring what the evaluation of a tag reads into the cache."""
    table, program = world.lines.table, world.program
    prefetch_row(world.members, home(line_key(person, tag), world.members.shape[0]))
    for at in range(program.tags[tag, 7], program.tags[tag, 8]):
        prefetch_row(table, home(line_key(person, program.reads[at]), table.shape[0]))


@inlined_kernel
def _await_timers(core: Core, target: int) -> None:
    """Bring what the timers need that are due soon, but not next, into the cache."""
    heap = core.heap
    for node in range(_NEAR_THE_TOP[0], min(_NEAR_THE_TOP[1], core.control[HEAP])):
        tag = (heap[node, 1] & 0xFFFF) - 1
        if heap[node, 0] <= target and tag >= 0:
            await_tag(core.world, heap[node, 1] >> SHIFT, tag)


@lean_kernel
def advance(handle: Handle, target: int) -> int:
    """Let time pass up to `target`; a code when someone else must act at the clock's instant first.

    All that is due for one person at one instant is evaluated at once, so that nothing flickers within an instant.
    """
    core = core_of(handle)
    control, heap = core.control, core.heap
    limit = len(core.emitted) - 2 * core.world.program.scalars[3] - 8
    while True:
        if control[EMITTED] > limit:
            return FLUSH
        if tables_full(core):
            return GROW
        due = heap[0, 0] if control[HEAP] > 0 else np.int64(FOREVER)
        person = heap[0, 1] >> SHIFT if due <= target else np.int64(-1)
        waiting = control[UNSETTLED]
        if waiting >= 0 and (person != waiting or due > control[CLOCK] or control[WAITING] <= control[CLOCK]):
            control[UNSETTLED] = -1
            settle(handle, waiting)
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
        pop(heap, control)
        _await_timers(core, target)
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


@inlined_kernel
def nothing_due(core: Core, target: int) -> bool:
    """The common case of `advance`: nothing happens on the way, the clock just moves on."""
    control = core.control
    if (
        control[UNSETTLED] >= 0
        or control[WAITING] <= target
        or (control[HEAP] > 0 and core.heap[0, 0] <= target)
    ):
        return False
    control[CLOCK] = max(control[CLOCK], target)
    return True


@lean_kernel
def settle_everybody(handle: Handle, start: int) -> int:
    """Evaluate all tags of all persons from `start` on; the person to go on with once the caller has made room.

    Oracle: tests.oracles.membership.OracleEngine
    """
    core = core_of(handle)
    tags = core.world.program.scalars[3]
    limit = len(core.emitted) - 3 * tags - len(core.world.program.tag_triggers) - 8
    for person in range(start, core.control[PEOPLE]):
        if core.control[EMITTED] > limit or core.control[FIRES] > 0 or tables_full(core):
            return person
        anything = np.uint64(0)
        for word in range(core.masks.shape[1]):
            anything |= core.masks[person, word]
        if core.people[person, ALIVE] == 0 or anything == np.uint64(0):
            continue
        for tag in range(tags):
            core.marks[tag >> 6] |= np.uint64(1) << np.uint64(tag & 63)
        settle(handle, person)
    return core.control[PEOPLE]
