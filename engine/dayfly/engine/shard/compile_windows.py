"""From window functions to the windows that are kept for them, and the inverted index from counts to tags."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Final, assert_never

from dayfly.engine.catalog import FieldType
from dayfly.engine.shard import kernels_layout as k
from dayfly.engine.shard import kernels_lines as lines
from dayfly.engine.shard import kernels_strings as strings
from dayfly.engine.shard.compile_predicates import OPERATORS, PredicateCompiler, constant_of, rows_of
from dayfly.engine.tags.tree import (
    Absent,
    And,
    Comparison,
    EventMatch,
    Expression,
    FirstTime,
    InTag,
    Not,
    Operator,
    Or,
    Regularly,
    Restarted,
    Stopped,
)
from dayfly.engine.tags.tree import (
    Sequence as SequenceOf,
)

__all__ = ["Feature", "FeatureTables", "WindowCompiler"]

_MEASURE_KINDS: Final = {
    "count": lines.STAMPS,
    "distinct": lines.DISTINCT,
    "min": lines.MINIMA,
    "max": lines.MAXIMA,
}

_MEASURE_LEAVES: Final = {
    "count": k.L_COUNT,
    "distinct": k.L_DISTINCT,
    "sum": k.L_SUM,
    "avg": k.L_AVG,
    "min": k.L_MIN,
    "max": k.L_MAX,
    "first": k.L_FIRST,
    "last": k.L_LAST,
}


@dataclass(slots=True)
class Feature:
    """A window kept per person: what it needs to hold, and which tags look at it."""

    type: int
    predicate: int
    slot: int
    kind: int
    cap: int = -1
    span_ms: int = 0
    edges: dict[int, dict[int, set[int]]] = field(default_factory=dict)
    always: set[int] = field(default_factory=set)
    late: set[int] = field(default_factory=set)
    memories: set[int] = field(default_factory=set)

    def need(self, cap: int, span_ms: int) -> None:
        """Keep at least the newest `cap` entries (0: all) within `span_ms`."""
        self.cap = 0 if cap == 0 or self.cap == 0 else max(cap, self.cap)
        self.span_ms = max(span_ms, self.span_ms)

    def on_count(self, window_ms: int, counts: Iterable[int], tag: int) -> None:
        """Look at `tag` when the number of entries in a window becomes one of `counts`."""
        for count in counts:
            self.edges.setdefault(window_ms, {}).setdefault(count, set()).add(tag)


@dataclass(frozen=True, slots=True)
class _Leaf:
    """One window function of a tag, its windows not yet numbered."""

    kind: int
    feature: Feature
    within_ms: int
    operator: int = 0
    constant: int = 0
    quiet: int = -1
    gap: int = -1
    steps: tuple[Feature, ...] = ()
    without: Feature | None = None
    text: int = -1


class WindowCompiler:
    """Compiles conditions; windows are kept once per distinct (type, predicate, field, kind).

    Attributes:
        features: The windows asked for so far.
    """

    def __init__(self, predicates: PredicateCompiler, numbers: Mapping[str, int], history_ms: int) -> None:
        self.predicates = predicates
        self.number = numbers
        self.history_ms = history_ms
        self.features: dict[tuple[int, int, int, int], Feature] = {}
        self.leaves: list[_Leaf] = []

    def _feature(self, match: EventMatch, field_path: str | None, kind: int) -> Feature:
        event, predicate = self.predicates.match(match)
        slot = -1 if field_path is None else self.predicates.slot(event, field_path)[0]
        key = (event, predicate, slot, kind)
        return self.features.setdefault(key, Feature(event, predicate, slot, kind))

    def _leaf(self, code: list[tuple[int, int]], leaf: _Leaf) -> None:
        code.append((k.T_LEAF, len(self.leaves)))
        self.leaves.append(leaf)

    def expression(self, expression: Expression, tag: int, code: list[tuple[int, int]]) -> None:
        """Append the postfix code of a condition to `code`."""
        match expression:
            case And() | Or():
                for part in expression.parts:
                    self.expression(part, tag, code)
                code.append((k.T_AND if isinstance(expression, And) else k.T_OR, len(expression.parts)))
            case Not():
                self.expression(expression.part, tag, code)
                code.append((k.T_NOT, 0))
            case InTag():
                code.append((k.T_IN_TAG, self.number[expression.tag]))
            case Comparison():
                self._measure_leaf(expression, tag, code)
            case SequenceOf():
                self._sequence_leaf(expression, tag, code)
            case _:
                self._presence_leaf(expression, tag, code)

    def _measure_leaf(self, comparison: Comparison, tag: int, code: list[tuple[int, int]]) -> None:
        measure, operator = comparison.measure, comparison.operator
        kind = _MEASURE_KINDS.get(measure.function, lines.PAIRS)
        feature = self._feature(measure.match, measure.field, kind)
        text, constant = -1, 0
        if kind in (lines.PAIRS, lines.MINIMA, lines.MAXIMA):
            feature.need(1 if measure.function == "last" else 0, measure.within_ms)
            feature.always.add(tag)
            assert measure.field is not None
            field_type = self.predicates.slot(feature.type, measure.field)[1]
            if field_type is FieldType.STRING:
                text = self.predicates.text_bit(
                    feature.type, feature.slot, strings.TEXT_EQUAL, str(comparison.value)
                )
            else:
                constant = constant_of(comparison.value, field_type)
        else:
            constant = int(Decimal(comparison.value))
            changes = _change_points(operator, constant)
            feature.need(max(changes, default=1), measure.within_ms)
            feature.on_count(measure.within_ms, changes, tag)
        kind = _MEASURE_LEAVES[measure.function]
        self._leaf(code, _Leaf(kind, feature, measure.within_ms, OPERATORS[operator], constant, text=text))

    def _presence_leaf(
        self,
        leaf: Absent | FirstTime | Regularly | Stopped | Restarted,
        tag: int,
        code: list[tuple[int, int]],
    ) -> None:
        feature = self._feature(leaf.match, None, lines.STAMPS)
        history = self.history_ms
        match leaf:
            case Absent():
                feature.need(1, leaf.within_ms)
                feature.on_count(leaf.within_ms, (1,), tag)
                self._leaf(code, _Leaf(k.L_ABSENT, feature, leaf.within_ms))
            case FirstTime():
                feature.need(0, history)
                feature.on_count(
                    history, (1, 2), tag
                )  # a second one is what the end of the first one's history reveals
                feature.late.add(tag)
                self._leaf(code, _Leaf(k.L_FIRST_TIME, feature, leaf.within_ms))
            case Stopped():
                feature.need(1, leaf.within_ms)
                feature.on_count(leaf.within_ms, (1,), tag)
                feature.on_count(leaf.quiet_ms, (1,), tag)
                self._leaf(code, _Leaf(k.L_STOPPED, feature, leaf.within_ms, quiet=leaf.quiet_ms))
            case Restarted():
                feature.need(0, history)
                feature.always.add(tag)
                self._leaf(code, _Leaf(k.L_RESTARTED, feature, leaf.within_ms, quiet=leaf.quiet_ms))
            case Regularly():
                feature.need(0, leaf.every_ms * leaf.periods)
                feature.always.add(tag)
                built = _Leaf(
                    k.L_REGULARLY,
                    feature,
                    leaf.every_ms,
                    constant=leaf.at_least,
                    gap=leaf.periods,
                    quiet=leaf.times,
                )
                self._leaf(code, built)
            case _:
                assert_never(leaf)

    def _sequence_leaf(self, leaf: SequenceOf, tag: int, code: list[tuple[int, int]]) -> None:
        """Only the last step can complete a sequence, unless events arrive late."""
        steps = [self._feature(step, None, lines.STAMPS) for step in leaf.steps]
        stop = None if leaf.without is None else self._feature(leaf.without, None, lines.STAMPS)
        for feature in steps if stop is None else (*steps, stop):
            feature.need(0, leaf.within_ms)
            feature.late.add(tag)
            feature.memories.add(len(self.leaves))
        steps[-1].always.add(tag)
        if stop is not None and leaf.quiet_ms is not None:
            stop.always.add(tag)
        quiet = -1 if leaf.quiet_ms is None else leaf.quiet_ms
        gap = -1 if leaf.gap_ms is None else leaf.gap_ms
        built = _Leaf(
            k.L_SEQUENCE, steps[0], leaf.within_ms, quiet=quiet, gap=gap, steps=tuple(steps), without=stop
        )
        self._leaf(code, built)

    def leaf_rows(self, position: dict[int, int]) -> tuple[list[tuple[int, ...]], list[int]]:
        """Rows of `Program.leaves` and `Program.steps`, given the numbers of the features."""
        rows: list[tuple[int, ...]] = []
        steps: list[int] = []
        for number, leaf in enumerate(self.leaves):
            without = -1 if leaf.without is None else position[id(leaf.without)]
            judged = (leaf.kind, position[id(leaf.feature)], leaf.within_ms, leaf.operator, leaf.constant)
            memory = len(position) + number
            spans = (leaf.quiet, leaf.gap, len(steps), len(leaf.steps), without, leaf.text, memory)
            rows.append((*judged, *spans))
            steps += [position[id(step)] for step in leaf.steps]
        return rows, steps


class FeatureTables:
    """The window side of a program: features, their windows, and the inverted index of counts."""

    def __init__(self, features: Sequence[Feature]) -> None:
        self.edge_tags: list[int] = []
        rows, windows, edges, always = (
            [],
            list[tuple[int, int, int]](),
            list[tuple[int, int]](),
            list[tuple[int, ...]](),
        )
        for feature in features:
            first = len(windows)
            for window_ms, counts in sorted(feature.edges.items()):
                most = max(counts)
                windows.append((window_ms, len(edges), most))
                edges += [self._range(counts.get(count, ())) for count in range(most + 1)]
            cap = max(feature.cap, 0)
            rows.append(
                (
                    feature.type,
                    feature.predicate,
                    feature.slot,
                    feature.kind,
                    cap,
                    feature.span_ms,
                    first,
                    len(windows) - first,
                )
            )
            memories = (len(features) + leaf for leaf in feature.memories)
            always.append((*self._range(feature.always), *self._range(feature.late), *self._range(memories)))
        self.features = rows_of(rows, 8)
        self.windows = rows_of(windows, 3)
        self.edges = rows_of(edges, 2)
        self.always = rows_of(always, 6)

    def _range(self, numbers: Iterable[int]) -> tuple[int, int]:
        start = len(self.edge_tags)
        self.edge_tags += sorted(numbers)
        return start, len(self.edge_tags)


def _change_points(operator: Operator, constant: int) -> list[int]:
    """Counts n >= 1 at which `n op constant` differs from its answer at n - 1, where zero events are never an answer."""

    def holds(count: int) -> bool:
        compare = {
            "==": count == constant,
            "!=": count != constant,
            "<": count < constant,
            "<=": count <= constant,
            ">": count > constant,
            ">=": count >= constant,
        }
        return count > 0 and compare[operator]

    near = {1, constant, constant + 1, constant + 2}
    return [count for count in sorted(near) if count >= 1 and holds(count) != holds(count - 1)]
