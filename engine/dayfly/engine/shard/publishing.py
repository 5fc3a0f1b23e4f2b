"""A new policy takes effect: history is read under the new declarations, windows are filled from it, everybody is evaluated."""

from collections.abc import Callable
from typing import Final

import numpy as np
import numpy.typing as npt

from dayfly.engine.catalog import NULL, Catalog, FieldType
from dayfly.engine.events import LENGTH_BITS
from dayfly.engine.shard import kernels_layout, kernels_settle, kernels_windows
from dayfly.engine.shard.compile import Compiled
from dayfly.engine.shard.kernels_lines import line_key
from dayfly.engine.shard.kernels_program import Rows, find_member
from dayfly.engine.shard.kernels_snapshot import group_rows
from dayfly.engine.shard.kernels_strings import intern_rows
from dayfly.engine.shard.state import Arrays

__all__ = ["Held", "held_by_name", "settle_everybody", "swap"]

_SAMPLE: Final = 8
"""One event in so many is taken first, to see how many windows there will be."""

Held = tuple[int, str, tuple[int, int, int]]
"""A membership that holds: person, tag name, (since, until, sequence)."""


def held_by_name(arrays: Arrays) -> list[Held]:
    """All memberships that hold, by person and tag number."""
    members = arrays.core.world.members
    rows = members[(members[:, 0] > 0) & (members[:, 1] != 0)]
    rows = rows[np.argsort(rows[:, 0]), :6]
    tags = arrays.compiled.tags
    return [
        ((key - 1) >> 16, tags[(key - 1) & 0xFFFF].name, (since, until, sequence))
        for key, _, since, _, until, sequence in rows.tolist()
    ]


def swap(arrays: Arrays, compiled: Compiled, held: list[Held]) -> None:
    """Put `compiled` in force; memberships of tags that it still has are kept as they are, to be evaluated next."""
    arrays.own()
    old = arrays.compiled.policy.catalog
    moved = None if old == compiled.policy.catalog else _moved_rows(arrays, compiled.policy.catalog)
    arrays.swap_program(compiled)
    if moved is not None:
        _reload(arrays, *moved)
    fill_windows(arrays)
    number = {tag.name: position for position, tag in enumerate(compiled.tags)}
    for person, tag, (since, until, sequence) in held:
        if tag in number:
            arrays.grow()
            world = arrays.core.world
            row = find_member(world.members, world.meta, line_key(person, number[tag]), True)  # noqa: FBT003 - a kernel's scalar
            world.members[row, 1:6] = (1, since, 0, until, sequence)


def fill_windows(arrays: Arrays) -> None:
    """Fill all windows from the history, person by person."""
    core = arrays.core
    people, events = (int(core.control[cell]) for cell in (kernels_layout.PEOPLE, kernels_layout.EVENTS))
    core.people[:people, kernels_layout.NEWEST] = NULL
    starts, order = np.zeros(people + 1, np.int64), np.empty(events, np.int64)
    group_rows(np.ascontiguousarray(core.history[:events, kernels_layout.H_PERSON]), starts, order)
    order = order[: int(starts[-1])]
    arrays.start_lines(_SAMPLE)
    start = 0
    for end in (len(order) // _SAMPLE, len(order)):
        while start < end:
            arrays.grow()
            start = int(kernels_windows.refill(arrays.handle, order[:end], start))
        if end < len(order):
            count, words = (int(used) * _SAMPLE for used in arrays.core.world.lines.meta[:2])
            arrays.reserve_lines(count, words)
    if not len(order):
        arrays.reserve_lines(0, 0)


def settle_everybody(arrays: Arrays, drain: Callable[[], None]) -> None:
    """Evaluate all tags of everybody; `drain` empties what the kernels emit."""
    start = 0
    while start < int(arrays.core.control[kernels_layout.PEOPLE]):
        arrays.grow()
        start = int(kernels_settle.settle_everybody(arrays.handle, start))
        drain()


def _moved_rows(
    arrays: Arrays, catalog: Catalog
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.uint8]]:
    """The history's types, row starts and values as `catalog` declares them, strings packed; what it drops is dropped."""
    core, strings = arrays.core, arrays.strings
    old = arrays.compiled.policy.catalog
    count = int(core.control[kernels_layout.EVENTS])
    history, values = core.history[:count], core.world.rows.values
    types = np.full(count, -1, np.int64)
    widths = np.zeros(count, np.int64)
    for kind, spec in enumerate(old.types):
        rows = (history[:, kernels_layout.H_TYPE] == kind) & (history[:, kernels_layout.H_PERSON] >= 0)
        types[rows] = catalog.type_index(spec.name)
    for kind, spec in enumerate(catalog.types):
        widths[types == kind] = len(spec.fields)
    starts = np.concatenate([[0], np.cumsum(widths)[:-1]]) if count else np.zeros(0, np.int64)
    moved = np.full(int(widths.sum()), NULL, np.int64)
    packed = (strings.where[:, 1] << LENGTH_BITS) | strings.where[:, 2]
    for kind, spec in enumerate(old.types):
        rows = np.flatnonzero((history[:, kernels_layout.H_TYPE] == kind) & (types >= 0))
        if not len(rows):
            continue
        target = catalog.types[catalog.type_index(spec.name)]
        fields = {field.name: (slot, field.type) for slot, field in enumerate(target.fields)}
        for slot, field in enumerate(spec.fields):
            if fields.get(field.name, (0, None))[1] is not field.type:
                continue
            cells = values[history[rows, kernels_layout.H_VALUES] + slot]
            if field.type is FieldType.STRING:
                present = cells != NULL
                cells = np.where(present, packed[np.where(present, cells, 0)], NULL)
            moved[starts[rows] + fields[field.name][0]] = cells
    return types, starts, moved, strings.text.copy()


def _reload(
    arrays: Arrays,
    types: npt.NDArray[np.int64],
    starts: npt.NDArray[np.int64],
    values: npt.NDArray[np.int64],
    text: npt.NDArray[np.uint8],
) -> None:
    """Put moved rows in the place of the history's rows; strings are interned anew, so that unused ones are gone."""
    core = arrays.core
    arrays.strings = arrays.strings._replace(
        slots=np.zeros_like(arrays.strings.slots), text=np.zeros_like(arrays.strings.text)
    )
    arrays.strings.meta[:2] = 0
    arrays.make_room_for_strings(len(values), len(text))
    intern_rows(arrays.strings, arrays.compiled.tests, types.astype(np.int32), starts, values, text)
    room = np.zeros(max(len(core.world.rows.values), len(values) + 1_024), np.int64)
    room[: len(values)] = values
    history = arrays.core.history[: len(types)]
    history[:, kernels_layout.H_TYPE] = types
    history[:, kernels_layout.H_VALUES] = starts
    _drop_undeclared(arrays, types)
    arrays.core.control[kernels_layout.VALUES] = len(values)
    arrays.core = arrays.core._replace(
        world=arrays.core.world._replace(rows=Rows(room, arrays.core.world.rows.text_bits))
    )


def _drop_undeclared(arrays: Arrays, types: npt.NDArray[np.int64]) -> None:
    """Events of types that are not declared any more leave their person's history."""
    core = arrays.core
    history = core.history[: len(types)]
    gone = (types < 0) & (history[:, kernels_layout.H_PERSON] >= 0)
    for person in np.unique(history[gone, kernels_layout.H_PERSON]).tolist():
        kept = np.flatnonzero((history[:, kernels_layout.H_PERSON] == person) & (types >= 0))
        kernels_windows.relink(arrays.handle, person, kept)
    history[gone] = 0
    history[gone, kernels_layout.H_PERSON] = -1
