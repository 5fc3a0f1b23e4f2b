"""From predicates to postfix code, and the text tests that interned strings answer."""

from collections.abc import Sequence
from decimal import Decimal
from typing import Final, assert_never

import numpy as np
import numpy.typing as npt

from dayfly.engine.catalog import Catalog, FieldType, to_micro
from dayfly.engine.errors import ShardError
from dayfly.engine.shard import kernels_layout as k
from dayfly.engine.shard import kernels_strings as strings
from dayfly.engine.shard.kernels_strings import TextTests
from dayfly.engine.tags.tree import (
    EventMatch,
    FieldComparison,
    FieldIn,
    FieldPresent,
    FieldText,
    Operator,
    Predicate,
    PredicateAnd,
    PredicateNot,
    PredicateOr,
    Scalar,
)

__all__ = ["OPERATORS", "PredicateCompiler", "constant_of", "rows_of"]

OPERATORS: Final[dict[Operator, int]] = {"==": 0, "!=": 1, "<": 2, "<=": 3, ">": 4, ">=": 5}
_TEXT_TESTS: Final = {
    "contains": strings.TEXT_CONTAINS,
    "startsWith": strings.TEXT_PREFIX,
    "endsWith": strings.TEXT_SUFFIX,
}
_MOST_PARTS: Final = 32


class PredicateCompiler:
    """Compiles each distinct (event, predicate) once.

    Attributes:
        code, ranges: Postfix code of all predicates, and the part of each.
        matches: (type, predicate) of each match compiled so far.
    """

    def __init__(self, catalog: Catalog) -> None:
        self.catalog = catalog
        self.code: list[tuple[int, int, int, int]] = []
        self.ranges: list[tuple[int, int]] = []
        self.matches: dict[EventMatch, tuple[int, int]] = {}
        self._first_field = np.cumsum([0, *(len(event.fields) for event in catalog.types)]).tolist()
        self._text_tests: dict[int, dict[tuple[int, bytes], int]] = {}

    def match(self, match: EventMatch) -> tuple[int, int]:
        """(type, predicate) of a match; equal ones are compiled once."""
        if match not in self.matches:
            kind = self.catalog.type_index(match.event)
            if kind < 0:
                raise ShardError(
                    f"event={match.event!r} must be declared in the catalogue; run the policy check"
                )
            start = len(self.code)
            if match.where is None:
                self.code.append((k.P_TRUE, 0, 0, 0))
            else:
                self._predicate(match.where, kind)
            self.ranges.append((start, len(self.code)))
            self.matches[match] = (kind, len(self.ranges) - 1)
        return self.matches[match]

    def slot(self, kind: int, path: str) -> tuple[int, FieldType]:
        """Slot and type of a field of an event type."""
        event = self.catalog.types[kind]
        slot = event.slot(path.removeprefix("properties.").removeprefix("traits."))
        return slot, event.fields[slot].type

    def text_bit(self, kind: int, slot: int, test: int, text: str) -> int:
        """Number of a text test of a field; equal ones are answered once."""
        tests = self._text_tests.setdefault(self._first_field[kind] + slot, {})
        return tests.setdefault((test, text.encode()), len(tests))

    def _combine(self, operation: int, parts: Sequence[Predicate], kind: int) -> None:
        """Post-order of an And/Or; long ones are split, for the kernel's stack is one 64-bit word."""
        if len(parts) > _MOST_PARTS:
            for start in range(0, len(parts), _MOST_PARTS):
                self._combine(operation, parts[start : start + _MOST_PARTS], kind)
            self.code.append((operation, 0, -(-len(parts) // _MOST_PARTS), 0))
            return
        for part in parts:
            self._predicate(part, kind)
        self.code.append((operation, 0, len(parts), 0))

    def _predicate(self, predicate: Predicate, kind: int) -> None:
        match predicate:
            case PredicateAnd():
                self._combine(k.P_AND, predicate.parts, kind)
            case PredicateOr():
                self._combine(k.P_OR, predicate.parts, kind)
            case PredicateNot():
                self._predicate(predicate.part, kind)
                self.code.append((k.P_NOT, 0, 0, 0))
            case FieldIn():
                self._combine(
                    k.P_OR,
                    [FieldComparison(predicate.field, "==", value) for value in predicate.values],
                    kind,
                )
            case FieldPresent():
                present = k.P_TRUE if predicate.field == "channel" else k.P_PRESENT
                slot = 0 if predicate.field == "channel" else self.slot(kind, predicate.field)[0]
                self.code.append((present, slot, 0, 0))
            case FieldText():
                self._text(predicate, kind)
            case FieldComparison():
                self._comparison(predicate, kind)
            case _:
                assert_never(predicate)

    def _text(self, predicate: FieldText, kind: int) -> None:
        if predicate.field == "channel":
            test = {"contains": str.__contains__, "startsWith": str.startswith, "endsWith": str.endswith}[
                predicate.test
            ]
            names = [name for name in self.catalog.channels if test(name, predicate.text)]
            self._combine(k.P_OR, [FieldComparison("channel", "==", name) for name in names], kind)
            return
        slot, _ = self.slot(kind, predicate.field)
        bit = self.text_bit(kind, slot, _TEXT_TESTS[predicate.test], predicate.text)
        self.code.append((k.P_TEXT, slot, bit, 0))

    def _comparison(self, predicate: FieldComparison, kind: int) -> None:
        if predicate.field == "channel":
            channels = self.catalog.channels
            index = channels.index(str(predicate.value)) if predicate.value in channels else -1
            self.code.append((k.P_CHANNEL_EQ, 0, index, 0))
            if predicate.operator == "!=":
                self.code.append((k.P_NOT, 0, 0, 0))
            return
        slot, field_type = self.slot(kind, predicate.field)
        if field_type is FieldType.STRING:
            bit = self.text_bit(kind, slot, strings.TEXT_EQUAL, str(predicate.value))
            self.code.append((k.P_TEXT if predicate.operator == "==" else k.P_TEXT_NOT, slot, bit, 0))
            return
        operation = k.P_NUMBER_EQ + OPERATORS[predicate.operator]
        self.code.append((operation, slot, constant_of(predicate.value, field_type), 0))

    def tests(self) -> TextTests:
        """All text tests asked for so far."""
        count = self._first_field[-1]
        ranges, rows, needles = np.zeros((count, 2), np.int64), list[tuple[int, int, int]](), bytearray()
        for position in range(count):
            ranges[position, 0] = len(rows)
            for test, text in self._text_tests.get(position, {}):
                rows.append((test, len(needles), len(text)))
                needles += text
            ranges[position, 1] = len(rows)
        types = self.catalog.types
        is_text = [spec.type is FieldType.STRING for event in types for spec in event.fields]
        return TextTests(
            fields=rows_of(
                [(first, len(event.fields)) for first, event in zip(self._first_field, types, strict=False)],
                2,
            ),
            is_text=np.array(is_text, np.int64),
            ranges=ranges,
            tests=rows_of(rows, 3),
            needles=np.frombuffer(bytes(needles), np.uint8).copy(),
        )


def constant_of(value: Scalar, field_type: FieldType) -> int:
    """A literal as the int64 that cells of the field hold."""
    if isinstance(value, bool):
        return int(value)
    if field_type is FieldType.TIME:
        return int(Decimal(value))
    return to_micro(value)


def rows_of(rows: Sequence[Sequence[int]], width: int) -> npt.NDArray[np.int64]:
    """int64[n, width], also for no rows."""
    return np.array(rows, np.int64).reshape(len(rows), width)
