"""Values and their evidence, read from the history: what a field shows and which events it rests on."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import ROUND_HALF_EVEN, Decimal
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from dayfly.engine.catalog import MICRO, NULL, FieldType, from_micro
from dayfly.engine.shard import kernels_layout, kernels_windows
from dayfly.engine.shard.kernels_lines import line_key
from dayfly.engine.shard.kernels_program import find_member
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

__all__ = ["Evidence", "Reader"]

Events = npt.NDArray[np.int64]

_AVERAGE_STEP: Final = Decimal("0.000001")


@dataclass(frozen=True, slots=True)
class Evidence:
    """Events that a value rests on, by number, newest first."""

    events: tuple[int, ...] = ()


@dataclass(slots=True)
class Reader:
    """Reads the shard's history; changes nothing."""

    arrays: Arrays

    def events(self, person: int, match: EventMatch, after_ms: int) -> list[int]:
        """Numbers of a person's matching events with time > `after_ms`, newest first by (time, arrival)."""
        core = self.arrays.core
        out = np.zeros(256, np.int64)
        found = kernels_windows.collect(
            self.arrays.handle, person, self.arrays.compiled.matches[match], after_ms, out
        )
        if found > len(out):
            out = np.zeros(found, np.int64)
            kernels_windows.collect(
                self.arrays.handle, person, self.arrays.compiled.matches[match], after_ms, out
            )
        numbers = out[:found].tolist()
        times = core.history[:, kernels_layout.H_TIME]
        return sorted(numbers, key=lambda event: (-int(times[event]), -event))

    def measure(self, person: int, measure: Measure, now_ms: int) -> tuple[object, list[int]]:
        """Value of a measure (None when it has none) and the events behind it, the most telling first.

        Numbers are exact decimals, `avg` rounded half to even at six places; `distinct` gives the sorted values.
        """
        after = now_ms - min(measure.within_ms, self.arrays.compiled.policy.settings.history_ms)
        events = self.events(person, measure.match, after)
        if measure.field is None:
            return (len(events), events) if events else (None, [])
        kind = self.arrays.compiled.policy.catalog.type_index(measure.match.event)
        spec = self.arrays.compiled.policy.catalog.types[kind]
        slot = spec.slot(measure.field.removeprefix("properties.").removeprefix("traits."))
        cells = [(self.cell(event, slot), event) for event in events]
        cells = [cell for cell in cells if cell[0] != NULL]
        if not cells:
            return None, []
        return self._combine(measure, spec.fields[slot].type, cells)

    def _combine(
        self, measure: Measure, kind: FieldType, cells: Sequence[tuple[int, int]]
    ) -> tuple[object, list[int]]:
        packed = [cell for cell, _ in cells]
        events = [event for _, event in cells]
        match measure.function:
            case "last":
                return self.unpacked(packed[0], kind), events[:1]
            case "first":
                return self.unpacked(packed[-1], kind), events[-1:]
            case "sum":
                return from_micro(sum(packed)), events
            case "avg":
                average = Decimal(sum(packed)) / (len(packed) * MICRO)
                return average.quantize(_AVERAGE_STEP, rounding=ROUND_HALF_EVEN).normalize(), events
            case "min" | "max":
                extreme = min(packed) if measure.function == "min" else max(packed)
                return from_micro(extreme), [event for cell, event in cells if cell == extreme][:1]
            case _:
                newest = dict(reversed(cells))
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
        found: set[int] = set()
        for match, within_ms in self._windows(tag.when):
            found.update(self.events(person, match, now_ms - within_ms))
        times = self.arrays.core.history[:, kernels_layout.H_TIME]
        return sorted(found, key=lambda event: (-int(times[event]), -event))

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
