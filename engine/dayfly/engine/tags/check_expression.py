"""Rules for conditions, measures and predicates against a catalogue; collects every finding with its way in the tree."""

from collections.abc import Iterable
from decimal import Decimal
from difflib import get_close_matches
from typing import Final, assert_never

from dayfly.engine.catalog import MAX_MICRO, MICRO, Catalog, FieldType
from dayfly.engine.policy.model import Settings

from .functions import Path
from .literals import MAX_TIME_MS, MIN_TIME_MS, duration_text, field_text, number_text
from .render import field_type
from .tree import (
    Absent,
    And,
    Comparison,
    EventMatch,
    Expression,
    FieldComparison,
    FieldIn,
    FieldPresent,
    FieldText,
    FirstTime,
    InTag,
    Measure,
    Not,
    Operator,
    Or,
    Predicate,
    PredicateAnd,
    PredicateNot,
    PredicateOr,
    Regularly,
    Restarted,
    Scalar,
    Sequence,
    Stopped,
)

__all__ = ["MAX_COUNT", "MAX_DEPTH", "MAX_IN", "MAX_LEAVES", "MAX_PERIODS", "MAX_STEPS", "Checker"]

MAX_DEPTH: Final = 16
"""Levels of ``&& || !`` in a condition and its predicates together."""
MAX_LEAVES: Final = 64
"""Functions and field tests of a tag together."""
MAX_COUNT: Final = 10_000
"""Largest threshold of `count` and `distinct`, and of `times`."""
MAX_IN: Final = 256
"""Values of one ``in [...]``."""
MAX_STEPS: Final = 8
"""Steps of a sequence."""
MAX_PERIODS: Final = 366
"""Periods of `regularly`."""

_DECIMALS: Final = 6
_ORDER: Final = ("<", "<=", ">", ">=")
_NUMBERS_ONLY: Final = ("sum", "avg", "min", "max")


class Checker:
    """Collects findings; `found` holds (way in the tree, message)."""

    def __init__(self, catalog: Catalog, settings: Settings) -> None:
        self._catalog = catalog
        self._settings = settings
        self._leaves = 0
        self.found: list[tuple[Path, str]] = []

    # --- conditions ---

    def expression(self, node: Expression, path: Path, depth: int = 1) -> None:
        """Check a condition."""
        if depth > MAX_DEPTH:
            self._say(
                path, f"depth={depth} must be at most {MAX_DEPTH} levels; split the tag and join with in_tag"
            )
            return
        match node:
            case And(parts) | Or(parts):
                for at, part in enumerate(parts):
                    self.expression(part, (*path, "parts", at), depth + 1)
            case Not(part):
                self.expression(part, (*path, "part"), depth + 1)
            case Comparison():
                self._comparison(node, path, depth)
            case InTag():
                self._leaf(path)
            case _:
                self._window(node, path, depth)

    def measure(self, node: Measure, path: Path, depth: int = 1) -> None:
        """Check a measure."""
        self._leaf(path)
        self.match(node.match, (*path, "match"), depth)
        self._span("within", node.within_ms, (*path, "within_ms"))
        if node.field is None:
            return
        kind = self._field(node.match.event, node.field, (*path, "field"), measured=True)
        if kind not in (None, FieldType.NUMBER) and node.function in _NUMBERS_ONLY:
            rule = f"field={_shown(node.field)} must be a number for {node.function}, it is {_word(kind)}"
            self._say((*path, "field"), f"{rule}; use first, last or distinct, or another field")

    def match(self, match: EventMatch, path: Path, depth: int = 1) -> None:
        """Check an event and its predicate."""
        if self._catalog.type_index(match.event) < 0:
            names = [event.name for event in self._catalog.types]
            rule = f"event={match.event!r} must be declared in the catalogue"
            self._say((*path, "event"), f"{rule}; declare it or use {_near(match.event, names)}")
        elif match.where is not None:
            self.predicate(match.where, match.event, (*path, "where"), depth)

    def _comparison(self, node: Comparison, path: Path, depth: int) -> None:
        measure, place = node.measure, (*path, "value")
        self.measure(measure, (*path, "measure"), depth)
        if measure.function in ("count", "distinct"):
            self._threshold(node, path)
        elif measure.function in _NUMBERS_ONLY:
            self._literal(node.value, FieldType.NUMBER, measure.function, place)
        elif measure.field is not None:
            kind = field_type(self._catalog, measure.match.event, measure.field)
            self._typed(
                node.operator,
                (node.value,),
                kind,
                f"{measure.function} of {_shown(measure.field)}",
                path,
                place,
            )

    def _threshold(self, node: Comparison, path: Path) -> None:
        function, operator, value = node.measure.function, node.operator, node.value
        place = (*path, "value")
        if not isinstance(value, Decimal) or not value.is_finite() or value != value.to_integral_value():
            rule = f"{function} {operator} {_literal_text(value)} must compare to a whole number"
            self._say(place, f"{rule}; write digits only")
        elif value < 0 or (value == 0 and operator != ">") or (value == 1 and operator == "<"):
            rule = f"{function} {operator} {number_text(value)} must be a comparison that some count above zero decides"
            way_out = "a comparison never holds for a person without such events: use absent(...), or > 0 for at least one"
            self._say(path, f"{rule}; {way_out}")
        elif value > MAX_COUNT:
            self._say(
                place,
                f"{function} {operator} {number_text(value)} must be at most {MAX_COUNT}; use a sum instead",
            )

    def _window(
        self, node: Absent | FirstTime | Regularly | Stopped | Restarted | Sequence, path: Path, depth: int
    ) -> None:
        self._leaf(path)
        match node:
            case Absent(match, within) | FirstTime(match, within):
                self._span("within", within, (*path, "within_ms"))
            case Stopped(match, within, quiet):
                self._span("within", within, (*path, "within_ms"))
                self._below("quiet", quiet, within, (*path, "quiet_ms"))
            case Restarted(match, within, quiet):
                self._span("within", within, (*path, "within_ms"))
                self._span("quiet", quiet, (*path, "quiet_ms"))
                if 0 < within < within + quiet > self._settings.history_ms >= max(within, quiet):
                    self._too_long("within + quiet", within + quiet, path)
            case Regularly(match):
                self._regularly(node, path)
            case Sequence():
                self._sequence(node, path, depth)
                return
            case _ as unknown:
                assert_never(unknown)
        self.match(match, (*path, "match"), depth)

    def _regularly(self, node: Regularly, path: Path) -> None:
        self._span("every", node.every_ms, (*path, "every_ms"))
        if not 1 <= node.periods <= MAX_PERIODS:
            self._say(
                (*path, "periods"),
                f"periods={node.periods} must lie in [1, {MAX_PERIODS}]; use longer periods",
            )
        elif 0 < node.every_ms <= self._settings.history_ms < node.every_ms * node.periods:
            self._too_long("every * periods", node.every_ms * node.periods, path)
        if not 1 <= node.at_least <= max(node.periods, 1):
            rule = f"at_least={node.at_least} must lie in [1, periods={node.periods}]"
            self._say((*path, "at_least"), f"{rule}; it counts the periods with enough events")
        if not 1 <= node.times <= MAX_COUNT:
            self._say(
                (*path, "times"),
                f"times={node.times} must lie in [1, {MAX_COUNT}]; it counts events in one period",
            )

    def _sequence(self, node: Sequence, path: Path, depth: int) -> None:
        self._span("within", node.within_ms, (*path, "within_ms"))
        steps = len(node.steps)
        for at, step in enumerate(node.steps):
            self.match(step, (*path, "steps", at), depth)
        if not 1 <= steps <= MAX_STEPS:
            self._say((*path, "steps"), f"steps={steps} must be 1 to {MAX_STEPS} events; list them in order")
        elif steps == 1 and node.quiet_ms is None:
            self._say(
                (*path, "steps"),
                "steps=1 must have quiet: and without:; use count(...) > 0 for a single event",
            )
        if node.gap_ms is not None:
            if node.gap_ms > node.within_ms or node.gap_ms <= 0:
                rule = f"gap={duration_text(node.gap_ms)} must be above zero and at most within={duration_text(node.within_ms)}"
                self._say((*path, "gap_ms"), f"{rule}; shorten it")
            elif steps == 1:
                self._say((*path, "gap_ms"), "gap: must stand with two steps or more; remove it")
        if node.without is not None:
            self.match(node.without, (*path, "without"), depth)
        if node.quiet_ms is not None:
            self._below("quiet", node.quiet_ms, node.within_ms, (*path, "quiet_ms"))
            if node.without is None:
                self._say(
                    (*path, "quiet_ms"), "quiet: must stand with without:; say which event did not follow"
                )

    # --- predicates ---

    def predicate(self, node: Predicate, event: str, path: Path, depth: int = 1) -> None:
        """Check a predicate over events of a declared type."""
        if depth > MAX_DEPTH:
            self._say(
                path, f"depth={depth} must be at most {MAX_DEPTH} levels; split the tag and join with in_tag"
            )
            return
        match node:
            case PredicateAnd(parts) | PredicateOr(parts):
                for at, part in enumerate(parts):
                    self.predicate(part, event, (*path, "parts", at), depth + 1)
                return
            case PredicateNot(part):
                self.predicate(part, event, (*path, "part"), depth + 1)
                return
        self._leaf(path)
        kind = self._field(event, node.field, (*path, "field"))
        match node:
            case FieldComparison(field, operator, value):
                self._typed(operator, (value,), kind, _shown(field), path, (*path, "value"))
            case FieldIn():
                self._in(node, kind, path)
            case FieldText():
                self._text(node, kind, path)
            case FieldPresent(field):
                if field == "channel":
                    self._say(
                        path,
                        "has(channel) must test a field that can be absent; every event has its channel, remove it",
                    )
            case _ as unknown:
                assert_never(unknown)

    def _in(self, node: FieldIn, kind: FieldType | None, path: Path) -> None:
        if not 1 <= len(node.values) <= MAX_IN:
            rule = f"values={len(node.values)} must be 1 to {MAX_IN}"
            self._say((*path, "values"), f"{rule}; list what is looked for, or use several tags")
        seen: set[tuple[type, Scalar]] = set()
        for at, value in enumerate(node.values):
            place = (*path, "values", at)
            self._typed("==", (value,), kind, _shown(node.field), path, place)
            if (type(value), value) in seen:
                self._say(place, f"value={_literal_text(value)} must be listed once; remove the second")
            seen.add((type(value), value))

    def _text(self, node: FieldText, kind: FieldType | None, path: Path) -> None:
        if node.field == "channel":
            self._say(path, f"channel.{node.test} must not be asked; write channel == or channel in [...]")
        elif kind not in (None, FieldType.STRING):
            rule = f"{_shown(node.field)}.{node.test} must have a string field, it is {_word(kind)}"
            self._say(path, f"{rule}; compare it with == < > instead")
        if node.text:
            self._string(node.text, (*path, "text"))
        else:
            self._say(
                (*path, "text"),
                f"{node.test}('') must have text; every string passes it, use has(...) instead",
            )

    def _field(self, event: str, field: str, path: Path, *, measured: bool = False) -> FieldType | None:
        """Type of a declared field; None, with a finding, when it is not declared."""
        if field == "channel" and measured:
            self._say(path, "field=channel must not be measured; use where: channel == ... instead")
            return None
        position = self._catalog.type_index(event)
        if position < 0:
            return None
        kind = field_type(self._catalog, event, field)
        if kind is None:
            names = [_shown(f"properties.{spec.name}") for spec in self._catalog.types[position].fields]
            rule = f"field={_shown(field)} must be declared for event {event!r}"
            self._say(path, f"{rule}; declare it or use {_near(_shown(field), [*names, 'channel'])}")
        return kind

    def _typed(
        self,
        operator: Operator,
        values: Iterable[Scalar],
        kind: FieldType | None,
        what: str,
        path: Path,
        place: Path,
    ) -> None:
        """A comparison of something of type `kind` to literals."""
        if kind is None:
            return
        if operator in _ORDER and kind in (FieldType.STRING, FieldType.BOOLEAN):
            rule = f"{what} {operator} must compare a number or a time, it is {_word(kind)}"
            self._say(path, f"{rule}; use ==, != or in")
        for value in values:
            self._literal(value, kind, what, place)
            if what == "channel" and isinstance(value, str) and value not in self._catalog.channels:
                rule = f"channel={value!r} must be declared"
                self._say(place, f"{rule}; declare it or use {_near(value, self._catalog.channels)}")

    def _literal(self, value: Scalar, kind: FieldType, what: str, place: Path) -> None:
        """A literal beside something of type `kind`."""
        if _kind_of_literal(value) is not (FieldType.NUMBER if kind is FieldType.TIME else kind):
            way_out = (
                'write timestamp("2026-01-01T00:00:00Z")'
                if kind is FieldType.TIME
                else f"write {_word(kind)}"
            )
            self._say(
                place, f"value={_literal_text(value)} must fit {what}, which is {_word(kind)}; {way_out}"
            )
        elif isinstance(value, str):
            self._string(value, place)
        elif isinstance(value, Decimal) and kind is FieldType.TIME:
            if (
                not value.is_finite()
                or value != value.to_integral_value()
                or not MIN_TIME_MS <= value <= MAX_TIME_MS
            ):
                rule = f"value={_literal_text(value)} must be whole milliseconds between year 1 and year 9999"
                self._say(place, f'{rule}; write timestamp("2026-01-01T00:00:00Z")')
        elif isinstance(value, Decimal):
            self._number(value, place)

    def _number(self, value: Decimal, place: Path) -> None:
        limit = MAX_MICRO // MICRO
        if not value.is_finite() or value.copy_abs() > limit:
            self._say(
                place, f"value={_literal_text(value)} must lie within ±{limit}; rescale the field's unit"
            )
        elif len(number_text(value).partition(".")[2]) > _DECIMALS:
            self._say(place, f"value={_literal_text(value)} must have at most six decimals; round it")

    def _string(self, value: str, place: Path) -> None:
        limit = self._settings.max_string_bytes
        try:
            size = len(value.encode())
        except UnicodeEncodeError:
            self._say(place, f"value={value!r} must be Unicode text; remove the lone surrogate")
            return
        if size > limit:
            self._say(place, f"text of {size} bytes must have at most {limit} (max_string_bytes); shorten it")

    # --- windows ---

    def _span(self, name: str, milliseconds: int, path: Path) -> None:
        if milliseconds <= 0:
            self._say(
                path, f"{name}={duration_text(milliseconds)} must be above zero; write a window such as 7d"
            )
        elif milliseconds > self._settings.history_ms:
            self._too_long(name, milliseconds, path)

    def _below(self, name: str, milliseconds: int, within: int, path: Path) -> None:
        if not 0 < milliseconds < within:
            rule = f"{name}={duration_text(milliseconds)} must be above zero and shorter than within={duration_text(within)}"
            self._say(path, f"{rule}; shorten it or lengthen the window")

    def _too_long(self, name: str, milliseconds: int, path: Path) -> None:
        history = duration_text(self._settings.history_ms)
        rule = f"{name}={duration_text(milliseconds)} must be at most the kept history of {history}"
        self._say(path, f"{rule}; shorten it or raise settings.history")

    # --- bookkeeping ---

    def _leaf(self, path: Path) -> None:
        self._leaves += 1
        if self._leaves == MAX_LEAVES + 1:
            self._say(
                path, f"leaves={self._leaves} must be at most {MAX_LEAVES} functions and tests; split the tag"
            )

    def _say(self, path: Path, message: str) -> None:
        self.found.append((path, message))


def _kind_of_literal(value: Scalar) -> FieldType:
    if isinstance(value, bool):
        return FieldType.BOOLEAN
    return FieldType.STRING if isinstance(value, str) else FieldType.NUMBER


def _literal_text(value: Scalar) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Decimal):
        text = number_text(value) if value.is_finite() else str(value)
        return text if len(text) <= 40 else f"{text[:37]}..."
    return repr(value) if len(value) <= 60 else repr(value[:57] + "...")


def _shown(field: str) -> str:
    return field_text(field)


def _word(kind: FieldType | None) -> str:
    return {FieldType.STRING: "text", FieldType.NUMBER: "a number", FieldType.BOOLEAN: "true or false"}.get(
        kind or FieldType.TIME, "a time"
    )


def _near(name: str, known: Iterable[str]) -> str:
    choices = list(known)
    close = get_close_matches(name, choices, n=1, cutoff=0.6)
    return (
        close[0]
        if close
        else f"one of: {', '.join(choices[:12]) or 'none'}{', ...' if len(choices) > 12 else ''}"
    )
