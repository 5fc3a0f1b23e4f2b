"""From a policy to the arrays that the kernels run on.

Equal parts are shared: events are matched once per distinct (type, predicate), windows are kept once per distinct
(type, predicate, field, kind), and a count threshold becomes an entry of the inverted index: which tags to look at when
the count in a window becomes n. So the cost of an event follows the answers it changes, not the number of rules.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

import numpy as np

from dayfly.engine.catalog import Catalog
from dayfly.engine.errors import ShardError
from dayfly.engine.policy.model import Policy
from dayfly.engine.shard import kernels_layout as k
from dayfly.engine.shard.compile_predicates import PredicateCompiler, rows_of
from dayfly.engine.shard.compile_windows import FeatureTables, WindowCompiler
from dayfly.engine.shard.consent_needs import channel_request, tag_request, trigger_request
from dayfly.engine.shard.kernels_program import Program
from dayfly.engine.shard.kernels_strings import TextTests
from dayfly.engine.tags.tree import And, EventMatch, Expression, InTag, Measure, Not, Or, Tag
from dayfly.engine.triggers import OnEvent, OnTag
from dayfly.privacy.consent import ConsentRequest

__all__ = ["Compiled", "compile_policy"]

_T = TypeVar("_T")
_BITS_PER_MASK: Final = 60


@dataclass(frozen=True, slots=True)
class Compiled:
    """A policy as arrays, with the names that the arrays leave out.

    Attributes:
        policy: The policy.
        tags: Its tags in topological order; their positions are the tag numbers of the kernels.
        tag_names: Their names.
        program, tests: For the kernels.
        requirements: Consent requests; bit `i` of a person's mask stands for `requirements[i]`, see `bit_of`.
        matches: (type, predicate) of each `EventMatch` of the policy.
        tag_bits, trigger_bits: Requirement number of each tag and trigger.
    """

    policy: Policy
    tags: tuple[Tag, ...]
    tag_names: tuple[str, ...]
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
        self.predicates = PredicateCompiler(policy.catalog)
        self.windows = WindowCompiler(self.predicates, self.number, policy.settings.history_ms)
        self.requirements: dict[ConsentRequest, int] = {}

    def compiled(self) -> Compiled:
        code: list[tuple[int, int]] = []
        ranges: list[tuple[int, int]] = []
        for position, tag in enumerate(self.tags):
            start = len(code)
            self.windows.expression(tag.when, position, code)
            ranges.append((start, len(code)))
        for trigger in self.policy.triggers:
            for entry in trigger.fields:
                if isinstance(entry.source, Measure):
                    self.predicates.match(entry.source.match)
        for tag in self.tags:
            for capture in tag.captures:
                self.predicates.match(capture.measure.match)
        tag_bits = tuple(self._requirement(tag_request(tag, self.policy)) for tag in self.tags)
        trigger_bits = tuple(self._requirement(trigger_request(trigger)) for trigger in self.policy.triggers)
        contradictions = [self.predicates.match(item.when) for item in self.policy.contradictions]
        program = self._program(code, ranges, tag_bits, trigger_bits, contradictions)
        return Compiled(
            self.policy,
            self.tags,
            tuple(self.number),
            program,
            self.predicates.tests(),
            tuple(self.requirements),
            self.predicates.matches,
            tag_bits,
            trigger_bits,
        )

    def _requirement(self, request: ConsentRequest) -> int:
        return self.requirements.setdefault(request, len(self.requirements))

    def _program(
        self,
        code: list[tuple[int, int]],
        ranges: list[tuple[int, int]],
        tag_bits: tuple[int, ...],
        trigger_bits: tuple[int, ...],
        contradictions: list[tuple[int, int]],
    ) -> Program:
        features = sorted(
            self.windows.features.values(), key=lambda item: (item.type, item.predicate, item.kind, item.slot)
        )
        position = {id(feature): index for index, feature in enumerate(features)}
        tables = FeatureTables(features)
        leaves, steps = self.windows.leaf_rows(position)
        bits = Compiled.bit_of
        dependents, dependent_ranges = self._dependents()
        reads, read_ranges = _ragged([_lines_read(code[start:end], leaves, steps) for start, end in ranges])
        on_tag, on_tag_ranges = self._tag_triggers([bits(bit) for bit in trigger_bits])
        triggers = self._event_triggers([bits(bit) for bit in trigger_bits], contradictions)
        types = range(len(self.catalog.types))
        type_features = [
            (*_span([feature.type for feature in features], kind), len(self.catalog.types[kind].fields))
            for kind in types
        ]
        return Program(
            predicates=rows_of(self.predicates.code, 4),
            predicate_range=rows_of(self.predicates.ranges, 2),
            features=tables.features,
            type_features=rows_of(type_features, 3),
            windows=tables.windows,
            edges=tables.edges,
            edge_tags=np.array(tables.edge_tags, np.int64),
            always=tables.always,
            leaves=rows_of(leaves, 12),
            steps=np.array(steps, np.int64),
            code=rows_of(code, 2),
            tags=rows_of(
                [
                    (
                        *ranges[tag],
                        bits(tag_bits[tag]),
                        *dependent_ranges[tag],
                        *on_tag_ranges[tag],
                        *read_ranges[tag],
                    )
                    for tag in range(len(self.tags))
                ],
                9,
            ),
            dependents=np.array(dependents, np.int64),
            reads=np.array(reads, np.int64),
            tag_triggers=rows_of(on_tag, 2),
            triggers=rows_of(triggers, 4),
            type_triggers=rows_of([_span([row[0] for row in triggers], kind) for kind in types], 2),
            channel_bit=np.array(self._channel_bits(), np.int64),
            scalars=np.array(self._scalars(type_features), np.int64),
        )

    def _channel_bits(self) -> list[int]:
        """Consent bit that each channel's events need at the door, -1 for none."""
        door = {channel.name: channel.collect_under for channel in self.policy.channels}
        found = []
        for name in self.catalog.channels:
            purpose = door.get(name)
            bit = -1
            if purpose is not None:
                bit = Compiled.bit_of(self._requirement(channel_request(purpose, name, self.policy)))
            found.append(bit)
        return found

    def _scalars(self, type_features: Sequence[tuple[int, int, int]]) -> list[int]:
        settings = self.policy.settings
        return [
            settings.history_ms,
            settings.allowed_lateness_ms,
            settings.future_skew_ms,
            len(self.tags),
            -(-len(self.tags) // 64),
            max((len(event.fields) for event in self.catalog.types), default=0),
            max((end - start for start, end, _ in type_features), default=0) + len(self.windows.leaves),
        ]

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
                kind, predicate = self.predicates.match(trigger.when.match)
                rows.append((kind, predicate, bits[index], index))
        return sorted(rows, key=lambda row: (row[0], row[2] >= 0, row[3] if row[3] >= 0 else -row[3]))


def _lines_read(
    code: Sequence[tuple[int, int]], leaves: Sequence[Sequence[int]], steps: Sequence[int]
) -> list[int]:
    """Features, and memories of sequences, that the evaluation of a tag's code looks up."""
    found: set[int] = set()
    for leaf in (leaves[argument] for operation, argument in code if operation == k.T_LEAF):
        found.add(leaf[k.C_FEATURE])
        if leaf[k.C_KIND] == k.L_SEQUENCE:
            first = leaf[k.C_STEPS]
            found.update(steps[first : first + leaf[k.C_STEP_COUNT]], {leaf[k.C_MEMORY]})
            found.update({leaf[k.C_WITHOUT]} - {-1})
    return sorted(found)


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
