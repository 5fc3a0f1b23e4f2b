"""From a policy to the lineage shapes of its triggers."""

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import assert_never

from dayfly.engine.catalog import Catalog
from dayfly.engine.errors import LineageError
from dayfly.engine.policy.model import Policy
from dayfly.engine.tags.render import render_expression, render_measure
from dayfly.engine.tags.tree import (
    Absent,
    And,
    Capture,
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
from dayfly.privacy.deident import Keep, Masking, parse_masking

from .shape import LineageShape, RuleText, ShapeField, SourceColumn, Use

__all__ = ["shapes_of"]


def shapes_of(policy: Policy) -> Mapping[str, LineageShape]:
    """Shape of each trigger of `policy`, by trigger name. Pure: equal policies give equal digests.

    Rules of a field are, for a measure, the measure itself; for a tag or a tag's value, the tag and the tags it looks into.

    Raises:
        LineageError: a masking rule that is none; DeidentificationError: one that cannot be read. Checked policies have neither.
    """
    tags = {tag.name: tag for tag in policy.tags}
    return MappingProxyType(
        {trigger.name: _shape(trigger, tags, policy.catalog) for trigger in policy.triggers}
    )


def _shape(trigger: Trigger, tags: Mapping[str, Tag], catalog: Catalog) -> LineageShape:
    # A dictionary keeps each rule once, in the order of first use; the trigger is rule 0.
    rules = {RuleText("trigger", trigger.name, trigger.version, trigger.text): 0}
    fields = []
    for entry in trigger.fields:
        found = tuple(_rules_behind(trigger, entry, tags, catalog))
        indexes = tuple(rules.setdefault(rule, len(rules)) for rule in found)
        columns = tuple(dict.fromkeys(_columns(entry.source, tags, catalog)))
        fields.append(
            ShapeField(entry.name, indexes, _masking_text(entry.masking), entry.data_category, columns)
        )
    if isinstance(trigger.when, OnTag):
        for tag in _with_inner(trigger.when.tag, tags):
            rules.setdefault(_tag_rule(tag, catalog), len(rules))
    return LineageShape(tuple(rules), tuple(fields), tuple(catalog.channels))


def _rules_behind(
    trigger: Trigger, entry: TriggerField, tags: Mapping[str, Tag], catalog: Catalog
) -> Iterator[RuleText]:
    source = entry.source
    if isinstance(source, Measure):
        text = render_measure(source, catalog=catalog)
        yield RuleText("measure", f"{trigger.name}.{entry.name}", trigger.version, text)
        return
    for tag in _with_inner(source.tag, tags):
        yield _tag_rule(tag, catalog)
    for tag, capture in _captures(source, tags):
        text = render_measure(capture.measure, catalog=catalog)
        yield RuleText("measure", f"{tag.name}.{capture.name}", tag.version, text)


def _tag_rule(tag: Tag, catalog: Catalog) -> RuleText:
    return RuleText("tag", tag.name, tag.version, tag.text or render_expression(tag.when, catalog=catalog))


def _captures(source: TagHeld | TagValue, tags: Mapping[str, Tag]) -> Iterator[tuple[Tag, Capture]]:
    if isinstance(source, TagValue) and source.tag in tags:
        tag = tags[source.tag]
        yield from ((tag, capture) for capture in tag.captures if capture.name == source.capture)


def _with_inner(name: str, tags: Mapping[str, Tag]) -> Iterator[Tag]:
    """The tag, then every tag that its condition looks into, each once, nearest first."""
    waiting, seen = [name], set[str]()
    while waiting:
        current = waiting.pop(0)
        # The policy check refuses unknown tags; lineage must not fail where a fragment was made.
        if current not in seen and current in tags:
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


def _columns(source: FieldSource, tags: Mapping[str, Tag], catalog: Catalog) -> Iterator[SourceColumn]:
    if isinstance(source, Measure):
        yield from _measure_columns(source, catalog)
        return
    for _, capture in _captures(source, tags):
        yield from _measure_columns(capture.measure, catalog)
    for tag in _with_inner(source.tag, tags):
        for leaf in _leaves(tag.when):
            yield from _leaf_columns(leaf, catalog)


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
    rule = parse_masking(masking) if isinstance(masking, str | Mapping) else masking
    if not isinstance(rule, Masking):
        raise LineageError(
            f"masking={masking!r} must be a masking rule or its declaration; correct the policy"
        )
    return "keep" if isinstance(rule, Keep) else rule.describe()
