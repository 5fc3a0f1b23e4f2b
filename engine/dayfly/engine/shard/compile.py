"""From a policy to the arrays that the kernels run on.

Equal parts are shared: events are matched once per distinct (type, predicate), windows are kept once per distinct
(type, predicate, field, kind), and a count threshold becomes an entry of the inverted index: which tags to look at when
the count in a window becomes n. So the cost of an event follows the answers it changes, not the number of rules.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Final, TypeVar, assert_never

import numpy as np
import numpy.typing as npt

from dayfly.engine.catalog import Catalog, FieldType, to_micro
from dayfly.engine.errors import ShardError
from dayfly.engine.policy.model import Policy
from dayfly.engine.shard import kernels_lines as lines
from dayfly.engine.shard import kernels_strings as strings
from dayfly.engine.shard import kernels_tags as k
from dayfly.engine.shard.kernels_strings import TextTests
from dayfly.engine.shard.kernels_tags import Program
from dayfly.engine.tags.tree import (
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
    Sequence as SequenceOf,
    Stopped,
    Tag,
)
from dayfly.engine.triggers import OnEvent, OnTag, Trigger
from dayfly.privacy.consent import ConsentRequest

__all__ = ["Compiled", "channel_request", "compile_policy", "tag_request", "trigger_request"]

_T = TypeVar("_T")
Words = npt.NDArray[np.int64]

_OPERATORS: Final[dict[Operator, int]] = {"==": 0, "!=": 1, "<": 2, "<=": 3, ">": 4, ">=": 5}
_TEXT_TESTS: Final = {
    "contains": strings.TEXT_CONTAINS,
    "startsWith": strings.TEXT_PREFIX,
    "endsWith": strings.TEXT_SUFFIX,
}
_MOST_PARTS: Final = 32
_BITS_PER_MASK: Final = 60


def tag_request(tag: Tag, policy: Policy) -> ConsentRequest:
    """What computing `tag` needs consent for: use inside the controller, across all channels."""
    settings = policy.settings
    return ConsentRequest(
        tag.purpose,
        tag.topic,
        (settings.tag_data_category,),
        settings.controller,
        "*",
        settings.controller_country,
    )


def channel_request(purpose: str, channel: str, policy: Policy) -> ConsentRequest:
    """What keeping an event of a channel with `collect_under` needs consent for."""
    settings = policy.settings
    return ConsentRequest(
        purpose, "*", (settings.tag_data_category,), settings.controller, channel, settings.controller_country
    )


def trigger_request(trigger: Trigger) -> ConsentRequest:
    """What handing the trigger's fields to its audience needs consent for."""
    categories = tuple(sorted({entry.data_category for entry in trigger.fields}))
    return ConsentRequest(
        trigger.purpose, trigger.topic, categories, trigger.audience, "*", trigger.recipient_country
    )


@dataclass(slots=True)
class _Feature:
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
    feature: _Feature
    within_ms: int
    operator: int = 0
    constant: int = 0
    quiet: int = -1
    gap: int = -1
    steps: tuple[_Feature, ...] = ()
    without: _Feature | None = None
    text: int = -1


@dataclass(frozen=True, slots=True)
class Compiled:
    """A policy as arrays, with the names that the arrays leave out.

    Attributes:
        policy: The policy.
        tags: Its tags in topological order; their positions are the tag numbers of the kernels.
        program, tests: For the kernels.
        requirements: Consent requests; bit `i` of a person's mask stands for `requirements[i]`, see `bit_of`.
        matches: (type, predicate) of each `EventMatch` of the policy.
        tag_bits, trigger_bits: Requirement number of each tag and trigger.
    """

    policy: Policy
    tags: tuple[Tag, ...]
    program: Program
    tests: TextTests
    requirements: tuple[ConsentRequest, ...]
    matches: dict[EventMatch, tuple[int, int]]
    tag_bits: tuple[int, ...]
    trigger_bits: tuple[int, ...]

    @staticmethod
    def bit_of(requirement: int) -> int:
        """Bit position of a requirement in a person's mask words."""
        return requirement // _BITS_PER_MASK * 64 + requirement % _BITS_PER_MASK

    def mask_groups(self) -> list[tuple[ConsentRequest, ...]]:
        """Requirements in groups of one mask word each."""
        every = self.requirements
        return [every[start : start + _BITS_PER_MASK] for start in range(0, len(every), _BITS_PER_MASK)] or [
            ()
        ]


def compile_policy(policy: Policy) -> Compiled:
    """Compile a checked policy.

    Raises:
        ShardError: a tag or trigger names what the policy does not declare, or tags refer to each other in a circle.
    """
    return _Compiler(policy).compiled()


class _Compiler:
    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        self.catalog: Catalog = policy.catalog
        self.tags = _topological(policy.tags)
        self.number = {tag.name: position for position, tag in enumerate(self.tags)}
        self.first_field = np.cumsum([0, *(len(event.fields) for event in self.catalog.types)]).tolist()
        self.text_tests: dict[int, dict[tuple[int, bytes], int]] = {}
        self.predicate_code: list[tuple[int, int, int, int]] = []
        self.predicate_range: list[tuple[int, int]] = []
        self.matches: dict[EventMatch, tuple[int, int]] = {}
        self.features: dict[tuple[int, int, int, int], _Feature] = {}
        self.leaves: list[_Leaf] = []
        self.requirements: dict[ConsentRequest, int] = {}

    def compiled(self) -> Compiled:
        code: list[tuple[int, int]] = []
        ranges: list[tuple[int, int]] = []
        for position, tag in enumerate(self.tags):
            start = len(code)
            self._expression(tag.when, position, code)
            ranges.append((start, len(code)))
        for trigger in self.policy.triggers:
            for entry in trigger.fields:
                if isinstance(entry.source, Measure):
                    self.match(entry.source.match)
        for tag in self.tags:
            for capture in tag.captures:
                self.match(capture.measure.match)
        tag_bits = tuple(self._requirement(tag_request(tag, self.policy)) for tag in self.tags)
        trigger_bits = tuple(self._requirement(trigger_request(trigger)) for trigger in self.policy.triggers)
        contradictions = [self.match(item.when) for item in self.policy.contradictions]
        program = self._program(code, ranges, tag_bits, trigger_bits, contradictions)
        return Compiled(
            self.policy,
            self.tags,
            program,
            self._tests(),
            tuple(self.requirements),
            self.matches,
            tag_bits,
            trigger_bits,
        )

    # --- matching -----------------------------------------------------------------------------------------------------

    def match(self, match: EventMatch) -> tuple[int, int]:
        """(type, predicate) of a match; equal ones are compiled once."""
        if match not in self.matches:
            kind = self.catalog.type_index(match.event)
            if kind < 0:
                raise ShardError(
                    f"event={match.event!r} must be declared in the catalogue; run the policy check"
                )
            start = len(self.predicate_code)
            if match.where is None:
                self.predicate_code.append((k.P_TRUE, 0, 0, 0))
            else:
                self._predicate(match.where, kind)
            self.predicate_range.append((start, len(self.predicate_code)))
            self.matches[match] = (kind, len(self.predicate_range) - 1)
        return self.matches[match]

    def _slot(self, kind: int, path: str) -> tuple[int, FieldType]:
        event = self.catalog.types[kind]
        slot = event.slot(path.removeprefix("properties.").removeprefix("traits."))
        return slot, event.fields[slot].type

    def _text_bit(self, kind: int, slot: int, test: int, text: str) -> int:
        tests = self.text_tests.setdefault(self.first_field[kind] + slot, {})
        return tests.setdefault((test, text.encode()), len(tests))

    def _combine(self, operation: int, parts: Sequence[Predicate], kind: int) -> None:
        """Post-order of an And/Or; long ones are split, for the kernel's stack is one 64-bit word."""
        if len(parts) > _MOST_PARTS:
            for start in range(0, len(parts), _MOST_PARTS):
                self._combine(operation, parts[start : start + _MOST_PARTS], kind)
            self.predicate_code.append((operation, 0, -(-len(parts) // _MOST_PARTS), 0))
            return
        for part in parts:
            self._predicate(part, kind)
        self.predicate_code.append((operation, 0, len(parts), 0))

    def _predicate(self, predicate: Predicate, kind: int) -> None:
        match predicate:
            case PredicateAnd():
                self._combine(k.P_AND, predicate.parts, kind)
            case PredicateOr():
                self._combine(k.P_OR, predicate.parts, kind)
            case PredicateNot():
                self._predicate(predicate.part, kind)
                self.predicate_code.append((k.P_NOT, 0, 0, 0))
            case FieldIn():
                self._combine(
                    k.P_OR,
                    [FieldComparison(predicate.field, "==", value) for value in predicate.values],
                    kind,
                )
            case FieldPresent():
                present = k.P_TRUE if predicate.field == "channel" else k.P_PRESENT
                slot = 0 if predicate.field == "channel" else self._slot(kind, predicate.field)[0]
                self.predicate_code.append((present, slot, 0, 0))
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
        slot, _ = self._slot(kind, predicate.field)
        bit = self._text_bit(kind, slot, _TEXT_TESTS[predicate.test], predicate.text)
        self.predicate_code.append((k.P_TEXT, slot, bit, 0))

    def _comparison(self, predicate: FieldComparison, kind: int) -> None:
        if predicate.field == "channel":
            channels = self.catalog.channels
            index = channels.index(str(predicate.value)) if predicate.value in channels else -1
            self.predicate_code.append((k.P_CHANNEL_EQ, 0, index, 0))
            if predicate.operator == "!=":
                self.predicate_code.append((k.P_NOT, 0, 0, 0))
            return
        slot, field_type = self._slot(kind, predicate.field)
        if field_type is FieldType.STRING:
            bit = self._text_bit(kind, slot, strings.TEXT_EQUAL, str(predicate.value))
            self.predicate_code.append(
                (k.P_TEXT if predicate.operator == "==" else k.P_TEXT_NOT, slot, bit, 0)
            )
            return
        operation = k.P_NUMBER_EQ + _OPERATORS[predicate.operator]
        self.predicate_code.append((operation, slot, _constant(predicate.value, field_type), 0))

    # --- windows ------------------------------------------------------------------------------------------------------

    def _feature(self, match: EventMatch, field_path: str | None, kind: int) -> _Feature:
        event, predicate = self.match(match)
        slot = -1 if field_path is None else self._slot(event, field_path)[0]
        key = (event, predicate, slot, kind)
        return self.features.setdefault(key, _Feature(event, predicate, slot, kind))

    def _leaf(self, code: list[tuple[int, int]], leaf: _Leaf) -> None:
        code.append((k.T_LEAF, len(self.leaves)))
        self.leaves.append(leaf)

    def _expression(self, expression: Expression, tag: int, code: list[tuple[int, int]]) -> None:
        match expression:
            case And() | Or():
                for part in expression.parts:
                    self._expression(part, tag, code)
                code.append((k.T_AND if isinstance(expression, And) else k.T_OR, len(expression.parts)))
            case Not():
                self._expression(expression.part, tag, code)
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
            field_type = self._slot(feature.type, measure.field)[1]
            if field_type is FieldType.STRING:
                text = self._text_bit(feature.type, feature.slot, strings.TEXT_EQUAL, str(comparison.value))
            else:
                constant = _constant(comparison.value, field_type)
        else:
            constant = int(Decimal(comparison.value))  # type: ignore[arg-type]
            changes = _change_points(operator, constant)
            feature.need(max(changes, default=1), measure.within_ms)
            feature.on_count(measure.within_ms, changes, tag)
        kind = _MEASURE_LEAVES[measure.function]
        self._leaf(code, _Leaf(kind, feature, measure.within_ms, _OPERATORS[operator], constant, text=text))

    def _presence_leaf(
        self,
        leaf: Absent | FirstTime | Regularly | Stopped | Restarted,
        tag: int,
        code: list[tuple[int, int]],
    ) -> None:
        feature = self._feature(leaf.match, None, lines.STAMPS)
        history = self.policy.settings.history_ms
        match leaf:
            case Absent():
                feature.need(1, leaf.within_ms)
                feature.on_count(leaf.within_ms, (1,), tag)
                self._leaf(code, _Leaf(k.L_ABSENT, feature, leaf.within_ms))
            case FirstTime():
                feature.need(0, history)
                feature.on_count(history, (1,), tag)
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
                columns = {"constant": leaf.at_least, "gap": leaf.periods, "quiet": leaf.times}
                self._leaf(code, _Leaf(k.L_REGULARLY, feature, leaf.every_ms, **columns))
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

    # --- arrays -------------------------------------------------------------------------------------------------------

    def _requirement(self, request: ConsentRequest) -> int:
        return self.requirements.setdefault(request, len(self.requirements))

    def _tests(self) -> TextTests:
        count = self.first_field[-1]
        ranges, rows, needles = np.zeros((count, 2), np.int64), list[tuple[int, int, int]](), bytearray()
        for position in range(count):
            ranges[position, 0] = len(rows)
            for test, text in self.text_tests.get(position, {}):
                rows.append((test, len(needles), len(text)))
                needles += text
            ranges[position, 1] = len(rows)
        types = self.catalog.types
        is_text = [spec.type is FieldType.STRING for event in types for spec in event.fields]
        return TextTests(
            fields=_rows(
                [(first, len(event.fields)) for first, event in zip(self.first_field, types, strict=False)], 2
            ),
            is_text=np.array(is_text, np.int64),
            ranges=ranges,
            tests=_rows(rows, 3),
            needles=np.frombuffer(bytes(needles), np.uint8).copy(),
        )

    def _program(
        self,
        code: list[tuple[int, int]],
        ranges: list[tuple[int, int]],
        tag_bits: tuple[int, ...],
        trigger_bits: tuple[int, ...],
        contradictions: list[tuple[int, int]],
    ) -> Program:
        features = sorted(
            self.features.values(), key=lambda item: (item.type, item.predicate, item.kind, item.slot)
        )
        position = {id(feature): index for index, feature in enumerate(features)}
        tables = _FeatureTables(features)
        leaves, steps = self._leaf_rows(position)
        bits = Compiled.bit_of
        dependents, dependent_ranges = self._dependents()
        on_tag, on_tag_ranges = self._tag_triggers([bits(bit) for bit in trigger_bits])
        triggers = self._event_triggers([bits(bit) for bit in trigger_bits], contradictions)
        types = range(len(self.catalog.types))
        type_features = [
            (*_span([feature.type for feature in features], kind), len(self.catalog.types[kind].fields))
            for kind in types
        ]
        door = {channel.name: channel.collect_under for channel in self.policy.channels}
        channel_bit = []
        for name in self.catalog.channels:
            purpose = door.get(name)
            channel_bit.append(
                -1
                if purpose is None
                else bits(self._requirement(channel_request(purpose, name, self.policy)))
            )
        settings = self.policy.settings
        scalars = [
            settings.history_ms,
            settings.allowed_lateness_ms,
            settings.future_skew_ms,
            len(self.tags),
            -(-len(self.tags) // 64),
            0,
            max((len(event.fields) for event in self.catalog.types), default=0),
            max((end - start for start, end, _ in type_features), default=0) + len(self.leaves),
        ]
        return Program(
            predicates=_rows(self.predicate_code, 4),
            predicate_range=_rows(self.predicate_range, 2),
            features=tables.features,
            type_features=_rows(type_features, 3),
            windows=tables.windows,
            edges=tables.edges,
            edge_tags=np.array(tables.edge_tags, np.int64),
            always=tables.always,
            leaves=_rows(leaves, 12),
            steps=np.array(steps, np.int64),
            code=_rows(code, 2),
            tags=_rows(
                [
                    (*ranges[tag], bits(tag_bits[tag]), *dependent_ranges[tag], *on_tag_ranges[tag])
                    for tag in range(len(self.tags))
                ],
                7,
            ),
            dependents=np.array(dependents, np.int64),
            tag_triggers=_rows(on_tag, 2),
            triggers=_rows(triggers, 4),
            type_triggers=_rows([_span([row[0] for row in triggers], kind) for kind in types], 2),
            channel_bit=np.array(channel_bit, np.int64),
            scalars=np.array(scalars, np.int64),
        )

    def _leaf_rows(self, position: dict[int, int]) -> tuple[list[tuple[int, ...]], list[int]]:
        rows: list[tuple[int, ...]] = []
        steps: list[int] = []
        for number, leaf in enumerate(self.leaves):
            without = -1 if leaf.without is None else position[id(leaf.without)]
            rows.append(
                (
                    leaf.kind,
                    position[id(leaf.feature)],
                    leaf.within_ms,
                    leaf.operator,
                    leaf.constant,
                    leaf.quiet,
                    leaf.gap,
                )
                + (len(steps), len(leaf.steps), without, leaf.text, len(position) + number)
            )
            steps += [position[id(step)] for step in leaf.steps]
        return rows, steps

    def _dependents(self) -> tuple[list[int], list[tuple[int, int]]]:
        asked: list[list[int]] = [[] for _ in self.tags]
        for position, tag in enumerate(self.tags):
            for name in sorted(set(_asked(tag.when))):
                asked[self.number[name]].append(position)
        return _ragged(asked)

    def _tag_triggers(self, bits: list[int]) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
        fired: list[list[tuple[int, int]]] = [[] for _ in self.tags]
        for index, trigger in enumerate(self.policy.triggers):
            if isinstance(trigger.when, OnTag):
                if trigger.when.tag not in self.number:
                    raise ShardError(
                        f"trigger={trigger.name!r} must name a declared tag; run the policy check"
                    )
                fired[self.number[trigger.when.tag]].append((index, bits[index]))
        return _ragged(fired)

    def _event_triggers(
        self, bits: list[int], contradictions: list[tuple[int, int]]
    ) -> list[tuple[int, int, int, int]]:
        """(type, predicate, consent bit or -1, index); contradictions come first and are numbered -1 - index."""
        rows = [(kind, predicate, -1, -1 - index) for index, (kind, predicate) in enumerate(contradictions)]
        for index, trigger in enumerate(self.policy.triggers):
            if isinstance(trigger.when, OnEvent):
                kind, predicate = self.match(trigger.when.match)
                rows.append((kind, predicate, bits[index], index))
        return sorted(rows, key=lambda row: (row[0], row[2] >= 0, row[3] if row[3] >= 0 else -row[3]))


class _FeatureTables:
    """The window side of a program: features, their windows, and the inverted index of counts."""

    def __init__(self, features: Sequence[_Feature]) -> None:
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
        self.features = _rows(rows, 8)
        self.windows = _rows(windows, 3)
        self.edges = _rows(edges, 2)
        self.always = _rows(always, 6)

    def _range(self, numbers: Iterable[int]) -> tuple[int, int]:
        start = len(self.edge_tags)
        self.edge_tags += sorted(numbers)
        return start, len(self.edge_tags)


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


def _constant(value: Scalar, field_type: FieldType) -> int:
    if isinstance(value, bool):
        return int(value)
    if field_type is FieldType.TIME:
        return int(Decimal(value))
    return to_micro(value)


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


def _asked(expression: Expression) -> list[str]:
    if isinstance(expression, InTag):
        return [expression.tag]
    if isinstance(expression, Not):
        return _asked(expression.part)
    if isinstance(expression, And | Or):
        return [name for part in expression.parts for name in _asked(part)]
    return []


def _topological(tags: Sequence[Tag]) -> tuple[Tag, ...]:
    """Tags so that each comes after those it refers to; otherwise in the policy's order."""
    by_name = {tag.name: tag for tag in tags}
    placed: dict[str, Tag] = {}

    def place(tag: Tag, path: tuple[str, ...]) -> None:
        if tag.name in path:
            raise ShardError(
                f"tag={tag.name!r} must not depend on itself ({' -> '.join(path)}); run the policy check"
            )
        if tag.name in placed:
            return
        for name in _asked(tag.when):
            if name not in by_name:
                raise ShardError(f"in_tag={name!r} must name a declared tag; run the policy check")
            place(by_name[name], (*path, tag.name))
        placed[tag.name] = tag

    for tag in tags:
        place(tag, ())
    return tuple(placed.values())


def _rows(rows: Sequence[Sequence[int]], width: int) -> Words:
    return np.array(rows, np.int64).reshape(len(rows), width)


def _span(sorted_kinds: Sequence[int], kind: int) -> tuple[int, int]:
    inside = [index for index, value in enumerate(sorted_kinds) if value == kind]
    return (inside[0], inside[-1] + 1) if inside else (0, 0)


def _ragged(lists: Sequence[Sequence[_T]]) -> tuple[list[_T], list[tuple[int, int]]]:
    flat: list[_T] = []
    ranges = []
    for items in lists:
        ranges.append((len(flat), len(flat) + len(items)))
        flat += items
    return flat, ranges
