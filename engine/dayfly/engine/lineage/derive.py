"""From a policy to the lineage shapes of its triggers."""

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import assert_never

from dayfly.engine.catalog import Catalog
from dayfly.engine.policy.model import Policy
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
    Predicate,
    PredicateAnd,
    PredicateNot,
    PredicateOr,
    Regularly,
    Restarted,
    Sequence,
    Stopped,
    Tag,
)
from dayfly.engine.triggers import FieldSource, OnTag, TagHeld, TagValue, Trigger, TriggerField

from .shape import LineageShape, RuleText, ShapeField, SourceColumn, Use

__all__ = ["shapes_of"]


def shapes_of(policy: Policy) -> Mapping[str, LineageShape]:
    """Shape of each trigger of `policy`, by trigger name. Pure: equal policies give equal digests.

    Rules of a field are, for a measure, the measure itself; for a tag or a tag's value, the tag and the tags it looks into.
    """
    tags = {tag.name: tag for tag in policy.tags}
    return MappingProxyType(
        {trigger.name: _shape(trigger, tags, policy.catalog) for trigger in policy.triggers}
    )


def _shape(trigger: Trigger, tags: Mapping[str, Tag], catalog: Catalog) -> LineageShape:
    rules = [RuleText("trigger", trigger.name, trigger.version, trigger.text)]

    def place(rule: RuleText) -> int:
        if rule not in rules:
            rules.append(rule)
        return rules.index(rule)

    fields = []
    for entry in trigger.fields:
        used = tuple(_tags_behind(entry.source, tags))
        found = [RuleText("tag", tag.name, tag.version, tag.text) for tag in used]
        if isinstance(entry.source, Measure):
            found = [
                RuleText(
                    "measure", f"{trigger.name}.{entry.name}", trigger.version, _measure_text(entry.source)
                )
            ]
        columns = dict.fromkeys(_columns(entry, used, catalog))
        indexes = tuple(place(rule) for rule in found)
        fields.append(
            ShapeField(entry.name, indexes, _masking_text(entry.masking), entry.data_category, tuple(columns))
        )
    if isinstance(trigger.when, OnTag):
        for tag in _with_inner(trigger.when.tag, tags):
            place(RuleText("tag", tag.name, tag.version, tag.text))
    return LineageShape(tuple(rules), tuple(fields), tuple(catalog.channels))


def _tags_behind(source: FieldSource, tags: Mapping[str, Tag]) -> Iterator[Tag]:
    if isinstance(source, TagHeld | TagValue):
        yield from _with_inner(source.tag, tags)


def _with_inner(name: str, tags: Mapping[str, Tag]) -> Iterator[Tag]:
    """The tag, then every tag that its condition looks into, each once, nearest first."""
    waiting, seen = [name], set[str]()
    while waiting:
        current = waiting.pop(0)
        if (
            current in seen or current not in tags
        ):  # a policy check refuses unknown tags; lineage never hides a fragment
            continue
        seen.add(current)
        yield tags[current]
        waiting += [part.tag for part in _leaves(tags[current].when) if isinstance(part, InTag)]


def _leaves(expression: Expression) -> Iterator[Expression]:
    if isinstance(expression, And | Or):
        for part in expression.parts:
            yield from _leaves(part)
    elif isinstance(expression, Not):
        yield from _leaves(expression.part)
    else:
        yield expression


def _columns(entry: TriggerField, used: tuple[Tag, ...], catalog: Catalog) -> Iterator[SourceColumn]:
    source = entry.source
    if isinstance(source, Measure):
        yield from _measure_columns(source, catalog)
        return
    for tag in used:
        for leaf in _leaves(tag.when):
            yield from _leaf_columns(leaf, catalog)
    if isinstance(source, TagValue):
        for capture in used[0].captures if used else ():
            if capture.name == source.capture:
                yield from _measure_columns(capture.measure, catalog)


def _leaf_columns(leaf: Expression, catalog: Catalog) -> Iterator[SourceColumn]:
    match leaf:
        case Comparison():
            yield from _measure_columns(leaf.measure, catalog)
        case Absent() | FirstTime() | Regularly() | Stopped() | Restarted():
            yield from _match_columns(leaf.match, catalog)
        case Sequence():
            for step in leaf.steps if leaf.without is None else (*leaf.steps, leaf.without):
                yield from _match_columns(step, catalog)
        case InTag() | And() | Or() | Not():  # inner tags are walked by name, connectives by their leaves
            return
        case _:
            assert_never(leaf)


def _measure_columns(measure: Measure, catalog: Catalog) -> Iterator[SourceColumn]:
    if measure.field is not None:
        yield _column(measure.match.event, measure.field, "value", catalog)
    yield from _match_columns(measure.match, catalog)


def _match_columns(match: EventMatch, catalog: Catalog) -> Iterator[SourceColumn]:
    yield SourceColumn(match.event, None, "window")
    if match.where is not None:
        for name in _predicate_fields(match.where):
            yield _column(match.event, name, "filter", catalog)


def _predicate_fields(predicate: Predicate) -> Iterator[str]:
    if isinstance(predicate, PredicateAnd | PredicateOr):
        for part in predicate.parts:
            yield from _predicate_fields(part)
    elif isinstance(predicate, PredicateNot):
        yield from _predicate_fields(predicate.part)
    else:
        yield predicate.field


def _column(event: str, path: str, use: Use, catalog: Catalog) -> SourceColumn:
    name = path.removeprefix("properties.")
    position = catalog.type_index(event)
    masking = "keep"
    if position >= 0:
        for spec in catalog.types[position].fields:
            if spec.name == name:
                masking = _masking_text(spec.masking)
    return SourceColumn(event, name, use, masking)


def _masking_text(masking: object) -> str:
    """Short text of a masking rule in its declared form: ``keep``, ``truncate: 2``."""
    if isinstance(masking, Mapping):
        return ", ".join(f"{name}: {value}" for name, value in masking.items())
    return str(masking)


def _measure_text(measure: Measure) -> str:
    field = "" if measure.field is None else f", {measure.field}"
    return f'{measure.function}("{measure.match.event}"{field}, within: {measure.within_ms}ms)'
