"""Values and their evidence, read from the history: what a field shows and which events it rests on."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import ROUND_HALF_EVEN, Decimal
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from dayfly.engine.catalog import MICRO, NULL, FieldType, from_micro
from dayfly.engine.shard import kernels_layout
from dayfly.engine.shard.kernels_lines import line_key
from dayfly.engine.shard.kernels_program import find_member
from dayfly.engine.shard.kernels_reading import Found, Past, gather
from dayfly.engine.shard.state import Arrays
from dayfly.engine.tags.tree import (
    Absent,
    And,
    Comparison,
    EventMatch,
    Expression,
    FirstTime,
    InTag,
    Measure,
    Not,
    Or,
    Regularly,
    Restarted,
    Stopped,
    Tag,
)
from dayfly.engine.tags.tree import (
    Sequence as SequenceOf,
)

__all__ = ["Cell", "Evidence", "MeasurePlan", "Reader", "Want"]

Words = npt.NDArray[np.int64]
Want = tuple[int, int, int, int]
"""Event type, predicate, window in ms, and the slot of a cell that must be present (-1: none): see `gather`."""
Cell = Sequence[int]
"""Number of an event and its cell."""

_AVERAGE_STEP: Final = Decimal("0.000001")
_ROOM: Final = 256


@dataclass(frozen=True, slots=True)
class Evidence:
    """Events that a value rests on, by number, newest first."""

    events: tuple[int, ...] = ()


class MeasurePlan(NamedTuple):
    """A measure, compiled for the policy in force.

    Attributes:
        want: What to gather.
        function: How the cells become a value.
        kind: Type of the cells; None where events are counted.
    """

    want: Want
    function: str
    kind: FieldType | None


def _found(wants: int, room: int) -> Found:
    return Found(np.zeros((wants, 2), np.int64), np.zeros((wants, room, 2), np.int64))


@dataclass(slots=True)
class Reader:
    """Reads the shard's history; changes nothing."""

    arrays: Arrays
    _room: Found = field(default_factory=lambda: _found(8, _ROOM), repr=False)

    def gather(self, person: int, wants: Words, now_ms: int) -> list[list[Cell]]:
        """Events of a person with their cells for each of several wants, newest first by (time, arrival).

        Args:
            person: Number of the person.
            wants: int64[n, 4], rows of `Want`.
            now_ms: The present instant.
        """
        if not len(wants):
            return []
        core = self.arrays.core
        program, rows, history = core.world.program, core.world.rows, core.history
        past = Past(
            core.people, history, rows.values, rows.text_bits, program.predicates, program.predicate_range
        )
        if len(wants) > len(self._room.counts):
            self._room = _found(len(wants), _ROOM)
        most = gather(past, person, now_ms, wants, self._room)
        if most > self._room.cells.shape[1]:
            self._room = _found(len(self._room.counts), 2 * most)
            gather(past, person, now_ms, wants, self._room)
        cells = self._room.cells
        gathered: list[list[Cell]] = []
        for want, (count, ordered) in enumerate(self._room.counts[: len(wants)].tolist()):
            pairs = cells[want, :count].tolist()
            if not ordered:
                times = history[cells[want, :count, 0], kernels_layout.H_TIME].tolist()
                rank = sorted(range(count), key=lambda place: (-times[place], place))
                pairs = [pairs[place] for place in rank]
            gathered.append(pairs)
        return gathered

    def measure(self, person: int, measure: Measure, now_ms: int) -> tuple[object, list[int]]:
        """Value of a measure (None when it has none) and the events behind it, the most telling first.

        Numbers are exact decimals, `avg` rounded half to even at six places; `distinct` gives the sorted values.
        """
        plan = self.plan(measure)
        (cells,) = self.gather(person, np.array([plan.want], np.int64), now_ms)
        return self.value(plan, cells)

    def plan(self, measure: Measure) -> MeasurePlan:
        """Compile a measure for the policy in force."""
        policy = self.arrays.compiled.policy
        kind, predicate = self.arrays.compiled.matches[measure.match]
        within_ms = min(measure.within_ms, policy.settings.history_ms)
        if measure.field is None:
            return MeasurePlan((kind, predicate, within_ms, -1), measure.function, None)
        spec = policy.catalog.types[policy.catalog.type_index(measure.match.event)]
        slot = spec.slot(measure.field.removeprefix("properties.").removeprefix("traits."))
        return MeasurePlan((kind, predicate, within_ms, slot), measure.function, spec.fields[slot].type)

    def value(self, plan: MeasurePlan, cells: Sequence[Cell]) -> tuple[object, list[int]]:
        """Value of a measure over its gathered cells, and the events behind it; see `measure`."""
        if not cells:
            return None, []
        if plan.kind is None:
            return len(cells), [cell[0] for cell in cells]
        return self._combine(plan.function, plan.kind, cells)

    def _combine(self, function: str, kind: FieldType, cells: Sequence[Cell]) -> tuple[object, list[int]]:
        match function:
            case "last":
                return self.unpacked(cells[0][1], kind), [cells[0][0]]
            case "first":
                return self.unpacked(cells[-1][1], kind), [cells[-1][0]]
        packed = [cell for _, cell in cells]
        events = [event for event, _ in cells]
        match function:
            case "sum":
                return from_micro(sum(packed)), events
            case "avg":
                average = Decimal(sum(packed)) / (len(packed) * MICRO)
                return average.quantize(_AVERAGE_STEP, rounding=ROUND_HALF_EVEN).normalize(), events
            case "min" | "max":
                extreme = min(packed) if function == "min" else max(packed)
                return from_micro(extreme), [event for event, cell in cells if cell == extreme][:1]
            case _:
                newest = {cell: event for event, cell in reversed(cells)}
                values: list[Any] = [self.unpacked(cell, kind) for cell in newest]
                return sorted(values), sorted(newest.values(), reverse=True)

    def cell(self, event: int, slot: int) -> int:
        """One packed cell of an event's row."""
        core = self.arrays.core
        return int(core.world.rows.values[core.history[event, kernels_layout.H_VALUES] + slot])

    def text(self, string: int) -> str:
        """Text of an interned string."""
        strings = self.arrays.strings
        _, start, length = strings.where[string].tolist()
        return strings.text[start : start + length].tobytes().decode()

    def unpacked(self, packed: int, kind: FieldType) -> object:
        """The value of a cell that is not absent."""
        if kind is FieldType.STRING:
            return self.text(packed)
        if kind is FieldType.BOOLEAN:
            return bool(packed)
        return packed if kind is FieldType.TIME else from_micro(packed)

    def properties(self, event: int) -> dict[str, object]:
        """Declared properties of an event that are present."""
        core = self.arrays.core
        spec = self.arrays.compiled.policy.catalog.types[int(core.history[event, kernels_layout.H_TYPE])]
        cells = [(field, self.cell(event, slot)) for slot, field in enumerate(spec.fields)]
        return {field.name: self.unpacked(cell, field.type) for field, cell in cells if cell != NULL}

    # --- tags ---------------------------------------------------------------------------------------------------------

    def member(self, person: int, tag: int) -> tuple[bool, int, int, int]:
        """Whether a person carries a tag now, since when, until when by itself, and the sequence of the last change."""
        world = self.arrays.core.world
        row = find_member(world.members, world.meta, line_key(person, tag), False)  # noqa: FBT003 - a kernel's scalar
        if row < 0 or world.members[row, 1] == 0:
            return False, 0, 0, 0
        _, held, since, _, until, sequence = world.members[row, :6].tolist()
        return bool(held), since, until, sequence

    def tag_number(self, name: str) -> int:
        """Number of a tag, -1 when the policy has none of this name."""
        for number, tag in enumerate(self.arrays.compiled.tags):
            if tag.name == name:
                return number
        return -1

    def captures(self, person: int, tag: Tag, now_ms: int) -> Mapping[str, object]:
        """Values that a held tag carries now."""
        values = {capture.name: self.measure(person, capture.measure, now_ms)[0] for capture in tag.captures}
        return {name: value for name, value in values.items() if value is not None}

    def tag_events(self, person: int, tag: Tag, now_ms: int) -> list[int]:
        """Events that a tag's condition looks at now, newest first."""
        wants = np.array(self.tag_wants(tag), np.int64).reshape(-1, 4)
        return self.together(self.gather(person, wants, now_ms))

    def tag_wants(self, tag: Tag) -> list[Want]:
        """What to gather for the events that a tag's condition looks at."""
        matches = self.arrays.compiled.matches
        return list(
            dict.fromkeys((*matches[match], within_ms, -1) for match, within_ms in self._windows(tag.when))
        )

    def together(self, gathered: Sequence[Sequence[Cell]]) -> list[int]:
        """Events of several wants, each once, newest first."""
        if len(gathered) == 1:
            return [event for event, _ in gathered[0]]
        found = list({event for cells in gathered for event, _ in cells})
        times = self.arrays.core.history[found, kernels_layout.H_TIME].tolist()
        ordered = sorted(zip(times, found, strict=True), reverse=True)
        return [event for _, event in ordered]

    def _windows(self, expression: Expression) -> list[tuple[EventMatch, int]]:
        match expression:
            case And() | Or():
                return [window for part in expression.parts for window in self._windows(part)]
            case Not():
                return self._windows(expression.part)
            case InTag():
                inner = self.arrays.compiled.tags[self.tag_number(expression.tag)]
                return self._windows(inner.when)
            case Comparison():
                return [(expression.measure.match, expression.measure.within_ms)]
            case SequenceOf():
                return [(step, expression.within_ms) for step in expression.steps]
            case Regularly():
                return [(expression.match, expression.every_ms * expression.periods)]
            case Restarted():
                return [(expression.match, expression.within_ms + expression.quiet_ms)]
            case Absent() | FirstTime() | Stopped():
                return [(expression.match, expression.within_ms)]
