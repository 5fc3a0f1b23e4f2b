"""Who is who: finding, meeting, merging and forgetting persons."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from dayfly.engine.catalog import NULL, FieldType
from dayfly.engine.events import words
from dayfly.engine.shard import kernels_layout, kernels_run, kernels_windows
from dayfly.engine.shard.kernels_lines import line_key
from dayfly.engine.shard.kernels_people import VALUE, find_id, put_id, remove_id
from dayfly.engine.shard.kernels_program import find_member
from dayfly.engine.shard.state import Arrays

__all__ = [
    "drop_memberships",
    "erase",
    "find",
    "forget_unused_texts",
    "held_tags",
    "history_of",
    "mark_all",
    "meet",
    "merge",
    "rebuild",
]


def find(arrays: Arrays, subject: bytes) -> int:
    """Number of the person behind a pseudonym, -1 for somebody unknown."""
    low, high = words([subject])[0]
    row = find_id(arrays.core.ids, low, high)
    return int(arrays.core.ids.values[row, VALUE]) if row >= 0 else -1


def meet(arrays: Arrays, subject: bytes) -> int:
    """Number of the person behind a pseudonym, new if need be."""
    person = find(arrays, subject)
    if person >= 0:
        return person
    arrays.grow()
    low, high = words([subject])[0]
    return int(kernels_run.add_person(arrays.core, low, high))


def history_of(arrays: Arrays, person: int) -> npt.NDArray[np.int64]:
    """Numbers of a person's events in order of arrival."""
    core = arrays.core
    found = []
    event = int(core.people[person, kernels_layout.LAST_EVENT])
    while event >= 0:
        found.append(event)
        event = int(core.history[event, kernels_layout.H_PREVIOUS])
    return np.array(found[::-1], np.int64)


def held_tags(arrays: Arrays, person: int) -> list[int]:
    """Numbers of the tags that a person carries."""
    world = arrays.core.world
    rows = [
        find_member(world.members, world.meta, line_key(person, tag), False)  # noqa: FBT003 - a kernel's scalar
        for tag in range(len(arrays.compiled.tags))
    ]
    return [tag for tag, row in enumerate(rows) if row >= 0 and world.members[row, 1]]


def drop_memberships(arrays: Arrays, person: int) -> None:
    """Forget all memberships and timers of a person."""
    world = arrays.core.world
    for tag in range(len(arrays.compiled.tags)):
        row = find_member(world.members, world.meta, line_key(person, tag), False)  # noqa: FBT003 - a kernel's scalar
        if row >= 0:
            world.members[row, 1:] = 0
    arrays.core.people[person, kernels_layout.CONSENT_DUE_AT] = 0


def mark_all(arrays: Arrays) -> None:
    """Mark every tag of the person at hand for evaluation."""
    for tag in range(len(arrays.compiled.tags)):
        arrays.core.marks[tag >> 6] |= np.uint64(1 << (tag & 63))


def rebuild(arrays: Arrays, person: int, events: npt.NDArray[np.int64]) -> None:
    """Fill a person's windows from its history."""
    kernels_windows.forget_windows(arrays.handle, person)
    arrays.core.people[person, kernels_layout.NEWEST] = -(2**63)
    start = 0
    while start < len(events):
        arrays.grow()
        start = int(kernels_windows.refill(arrays.handle, events, start))


def merge(arrays: Arrays, stays: int, goes: int, names: Sequence[bytes]) -> None:
    """Give the history of `goes`, known under `names`, to `stays`, and fill its windows as if it had always been one."""
    arrays.own()
    events = np.sort(np.concatenate([history_of(arrays, stays), history_of(arrays, goes)]))
    kernels_windows.forget_windows(arrays.handle, goes)
    core = arrays.core
    for low, high in words(names):
        put_id(core.ids, low, high, stays)
    core.people[goes, [kernels_layout.ALIVE, kernels_layout.CONSENT_DUE_AT, kernels_layout.CONSENT_SEEN]] = 0
    core.people[[goes, stays], kernels_layout.CONSENT_SEEN_AT] = 0
    core.people[stays, kernels_layout.CONSENT_SEEN] = (
        0  # the next object is read again, now for the whole person
    )
    core.people[goes, kernels_layout.LAST_EVENT] = -1
    core.masks[goes] = 0
    core.names[goes] = 0
    marked = core.marks.copy()
    kernels_windows.relink(arrays.handle, stays, events)
    rebuild(arrays, stays, events)
    arrays.core.marks[:] = marked


def erase(arrays: Arrays, person: int, names: Sequence[bytes]) -> None:
    """Forget a person: events, values, windows and pseudonyms."""
    arrays.own()
    core = arrays.core
    events = history_of(arrays, person)
    for event in events.tolist():
        kind = arrays.compiled.policy.catalog.types[int(core.history[event, kernels_layout.H_TYPE])]
        start = int(core.history[event, kernels_layout.H_VALUES])
        row = core.world.rows.values[start : start + len(kind.fields)]
        row[:] = 0
        core.history[event] = 0
        core.history[event, kernels_layout.H_PERSON] = -1
    kernels_windows.forget_windows(arrays.handle, person)
    for low, high in words(names):
        remove_id(core.ids, low, high)
    core.people[person] = 0
    core.people[person, kernels_layout.LAST_EVENT] = -1
    core.masks[person] = 0
    core.names[person] = 0


def forget_unused_texts(arrays: Arrays) -> None:
    """Overwrite the interned texts that no event of the history holds (any more)."""
    arrays.own()
    core, strings = arrays.core, arrays.strings
    count = int(strings.meta[0])
    used = np.zeros(count, bool)
    history = core.history[: int(core.control[kernels_layout.EVENTS])]
    living = history[:, kernels_layout.H_PERSON] >= 0
    for kind, spec in enumerate(arrays.compiled.policy.catalog.types):
        offsets = history[living & (history[:, kernels_layout.H_TYPE] == kind), kernels_layout.H_VALUES]
        for slot, entry in enumerate(spec.fields):
            if entry.type is FieldType.STRING:
                cells = core.world.rows.values[offsets + slot]
                used[cells[cells != NULL]] = True
    for string in np.flatnonzero(~used & (strings.where[:count, 0] >= 0)).tolist():
        _, start, length = strings.where[string].tolist()
        strings.text[start : start + length] = 0
        strings.where[string, 0] = -1
        strings.bits[string] = 0
