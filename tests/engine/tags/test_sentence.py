"""The English sentence names every part of a tag."""

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given

from dayfly.engine.tags.sentence import describe, describe_measure, describe_predicate, describe_tag
from dayfly.engine.tags.text import parse_expression, parse_measure, parse_predicate
from dayfly.engine.tags.tree import Capture, Expression, InTag, Tag
from tests.engine.tags.strategies import conditions

SAID = [
    ('count("A", within: 7d) > 5', 'did "A" more than 5 times in the last 7 days'),
    ('count("A", within: 1h) == 1', 'did "A" exactly 1 time in the last hour'),
    ('count("A", within: 90s) <= 2', 'did "A" at most 2 times in the last 90 seconds'),
    ('distinct("A", properties.top_size, within: 2w) >= 3', 'had at least 3 different values of top size in "A" in the last 2 weeks'),
    ('sum("A", properties.total, within: 30d) > 500.50', 'the sum of total of "A" events in the last 30 days is above 500.5'),
    ('last("A", properties.s, within: 1d) == "x"', 'the last s of "A" events in the last day is "x"'),
    ('absent("A", within: 30d)', 'did not do "A" in the last 30 days'),
    ('!absent("A", within: 30d)', 'did "A" in the last 30 days'),
    ('first_time("A", within: 7d)', 'did "A" for the first time in the last 7 days'),
    ('regularly("A", every: 1d, periods: 7, at_least: 5)', 'did "A" at least once in 5 or more of the last 7 spans of 1 day'),
    ('regularly("A", every: 1d, periods: 7, at_least: 5, times: 2)', 'did "A" at least 2 times in 5 or more of the last 7 spans of 1 day'),
    ('stopped("A", within: 60d, quiet: 14d)', 'did "A" in the last 60 days but not in the last 2 weeks'),
    ('restarted("A", within: 7d, quiet: 30d)', 'did "A" in the last 7 days after at least 30 days without'),
    ('sequence(["A", "B"], within: 1h, gap: 10m)', 'did "A", then "B" in the last hour, each at most 10 minutes after the one before'),
    ('sequence(["A", "B"], within: 1h, without: "C")', 'did "A", then "B" in the last hour, with no "C" in between'),
    ('sequence(["A"], within: 1h, without: "C", quiet: 5ms)', 'did "A" in the last hour, with no "C" from then until 5 milliseconds after the last'),
    ('in_tag("a") && !in_tag("b")', 'carries the tag "a", and does not carry the tag "b"'),
    ('(in_tag("a") || in_tag("b")) && !(count("A", within: 1d) > 1)',
     '(carries the tag "a", or carries the tag "b"), and it is not so that (did "A" more than 1 time in the last day)'),
]  # fmt: skip


@pytest.mark.parametrize(("text", "sentence"), SAID, ids=[text for text, _ in SAID])
def test_condition_reads_as_a_sentence(text: str, sentence: str) -> None:
    assert describe(parse_expression(text)) == sentence


PREDICATES = [
    ('properties.a == "x" && properties.b != true', 'a is "x" and b is not true'),
    ("properties.a < 1 || properties.a >= 2.50", "a is below 1 or a is at least 2.5"),
    ("!has(properties.a)", "a is missing"),
    (
        "has(properties.a) && (properties.b > 1 || properties.b <= 0)",
        "a is given and (b is above 1 or b is at most 0)",
    ),
    ("!(properties.a in [1, 2])", "not (a is one of 1, 2)"),
    ('properties.a.startsWith("x")', 'a starts with "x"'),
    ('properties.a.endsWith("x")', 'a ends with "x"'),
    ('properties.a.contains("x")', 'a contains "x"'),
]


@pytest.mark.parametrize(("text", "sentence"), PREDICATES, ids=[text for text, _ in PREDICATES])
def test_predicate_reads_as_a_sentence(text: str, sentence: str) -> None:
    assert describe_predicate(parse_predicate(text)) == sentence


def test_measure_reads_as_a_sentence() -> None:
    assert (
        describe_measure(parse_measure('count("A", within: 1d)'))
        == 'the number of "A" events in the last day'
    )


@pytest.mark.parametrize(
    ("names", "said"),
    [((), ""), (("a",), " It carries a."), (("a", "b", "c"), " It carries a, b and c.")],
    ids=str,
)
def test_tag_says_purpose_and_captures(names: tuple[str, ...], said: str) -> None:
    captures = tuple(Capture(name, parse_measure('count("A", within: 1d)')) for name in names)
    tag = Tag("t", "service", "sofa", InTag("x"), captures)
    assert (
        describe_tag(tag)
        == f'A person carries "t" (for service) while this holds: carries the tag "x".{said}'
    )


def names_of(node: Any) -> list[str]:
    """Every event and tag name in a tree."""
    if isinstance(node, str | bool | int | Decimal) or node is None:
        return []
    if isinstance(node, tuple):
        return [name for part in node for name in names_of(part)]
    own = [getattr(node, key) for key in ("event", "tag") if hasattr(node, key)]
    return own + [name for key in node.__slots__ for name in names_of(getattr(node, key))]


@given(conditions)
def test_every_event_and_tag_is_named(tree: Expression) -> None:
    sentence = describe(tree)
    assert all(f'"{name}"' in sentence for name in names_of(tree))
