"""All arrays of a shard, and the small steps that every kernel takes on them."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from dayfly.engine.shard.kernels_layout import (
    CLOCK,
    EMITTED,
    EVENTS,
    FIRES,
    HEAP,
    PEOPLE,
    SEQUENCE,
    UNCONSENTED,
    VALUES,
)
from dayfly.engine.shard.kernels_people import Ids
from dayfly.engine.shard.kernels_program import World
from dayfly.privacy._jit import inlined_kernel

__all__ = [
    "Batch",
    "Core",
    "allowed",
    "emit",
    "fire",
    "lowest_bit",
    "mark",
    "pop",
    "push",
    "short_of_room",
    "tables_full",
]

Words = npt.NDArray[np.int64]


class Core(NamedTuple):
    """All arrays of a shard.

    Attributes:
        world: What tag evaluation reads (program, lines, rows, memberships).
        ids: Pseudonym -> person number.
        seen: Event id -> instant until which it is remembered.
        people: int64[persons, 8]: last event, next consent boundary (0: none), digest of the last consent object, alive,
            newest event time, newest time at which that consent object was repeated.
        names: uint64[persons, 2], pseudonym of each person.
        masks: uint64[persons, words], which consent requirements are met now.
        history: int64[events, 8]: time, person, type, channel, start of values, previous event of the person, digest.
        heap: int64[n, 2], heap of (instant, person << 16 | tag + 1) in which each node has four below it: half the levels of two, and
            every level is a row that is not in the cache; tag part 0 is a consent boundary.
        marks: uint64[words], tags of the current person to evaluate.
        matched: int64[16, 2 + 2 n], n the most features of a type, for the events close ahead: number of features matched, which,
            the line of each (-1: none was found), and the person (-1: unknown).
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
    matched: Words
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


@inlined_kernel
def _before(heap: Words, left: int, right: int) -> bool:
    return heap[left, 0] < heap[right, 0] or (
        heap[left, 0] == heap[right, 0] and heap[left, 1] < heap[right, 1]
    )


@inlined_kernel
def push(heap: Words, control: Words, at: int, key: int) -> None:
    """Set a timer; the caller has made room."""
    node = control[HEAP]
    control[HEAP] = node + 1
    while node > 0:
        parent = (node - 1) >> 2
        if heap[parent, 0] < at or (heap[parent, 0] == at and heap[parent, 1] <= key):
            break
        heap[node, 0], heap[node, 1] = heap[parent, 0], heap[parent, 1]
        node = parent
    heap[node, 0], heap[node, 1] = at, key


@inlined_kernel
def pop(heap: Words, control: Words) -> None:
    """Take out the earliest timer."""
    size = control[HEAP] - 1
    control[HEAP] = size
    at, key = heap[size, 0], heap[size, 1]  # comes to the top and sinks
    node = np.int64(0)
    while True:
        child = 4 * node + 1
        if child >= size:
            break
        for other in range(child + 1, min(4 * node + 5, size)):
            if _before(heap, other, child):
                child = other
        if at < heap[child, 0] or (at == heap[child, 0] and key <= heap[child, 1]):
            break
        heap[node, 0], heap[node, 1] = heap[child, 0], heap[child, 1]
        node = child
    heap[node, 0], heap[node, 1] = at, key


@inlined_kernel
def mark(core: Core, start: int, end: int) -> None:
    """Mark a range of `Program.edge_tags` for evaluation."""
    program = core.world.program
    for at in range(start, end):
        tag = program.edge_tags[at]
        core.marks[tag >> 6] |= np.uint64(1) << np.uint64(tag & 63)


@inlined_kernel
def lowest_bit(bits: int) -> int:
    """Position of the lowest bit that is set; one must be."""
    position, rest = np.int64(0), np.uint64(bits)
    for halving in range(6):
        width = np.uint64(32 >> halving)
        if rest & ((np.uint64(1) << width) - np.uint64(1)) == np.uint64(0):
            rest >>= width
            position += 32 >> halving
    return position


@inlined_kernel
def allowed(core: Core, person: int, bit: int) -> bool:
    """Whether the compiled consent mask of a person has a bit."""
    return (core.masks[person, bit >> 6] >> np.uint64(bit & 63)) & np.uint64(1) != 0


@inlined_kernel
def emit(core: Core, row: tuple[int, int, int, int, int]) -> None:
    """Write a decision down, under the next sequence number."""
    control = core.control
    at = control[EMITTED]
    for column in range(5):
        core.emitted[at, column] = row[column]
    control[SEQUENCE] += 1
    core.emitted[at, 5] = control[SEQUENCE]
    control[EMITTED] = at + 1


@inlined_kernel
def fire(core: Core, trigger: int, bit: int, person: int, event: int) -> None:
    """Note an order to be made, or its refusal when the compiled consent mask says no (a bit of -1 needs no consent)."""
    now = core.control[CLOCK]
    if bit >= 0 and not allowed(core, person, bit):
        emit(core, (np.int64(UNCONSENTED), now, np.int64(person), np.int64(trigger), np.int64(0)))
        return
    at = core.control[FIRES]
    core.fired[at, 0], core.fired[at, 1], core.fired[at, 2], core.fired[at, 3] = trigger, person, event, now
    core.control[FIRES] = at + 1


@inlined_kernel
def tables_full(core: Core) -> bool:
    """Whether one more event or timer could meet a full table."""
    return short_of_room(core, 1)


@inlined_kernel
def short_of_room(core: Core, count: int) -> bool:
    """Whether `count` more events or timers could meet a full table."""
    world, control = core.world, core.control
    tags, widest, features = world.program.scalars[3], world.program.scalars[5], world.program.scalars[6]
    lines = world.lines
    return (
        control[EVENTS] + count >= len(core.history)
        or control[VALUES] + count * widest >= len(world.rows.values)
        or control[PEOPLE] + count + 1 >= len(core.people)
        or (core.ids.meta[0] + 2 * count) * 10 >= core.ids.keys.shape[0] * 7
        or (core.seen.meta[0] + count + 1) * 10 >= core.seen.keys.shape[0] * 7
        or (lines.meta[0] + count * features) * 20 >= lines.table.shape[0] * 17
        or lines.meta[1] + count * features * (np.int64(4) << max(lines.meta[2], np.int64(5)))
        >= len(lines.arena)
        or (world.meta[0] + count * tags) * 10 >= world.members.shape[0] * 7
        or control[HEAP] + count * tags + 4 >= len(core.heap)
        or control[FIRES] + len(world.program.triggers) + len(world.program.tag_triggers) >= len(core.fired)
    )
