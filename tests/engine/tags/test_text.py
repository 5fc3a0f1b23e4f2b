"""The text form: what it reads, what it refuses and where, and that any text is a tree or a `TagError`."""

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from dayfly.engine.errors import TagError
from dayfly.engine.tags import text as text_form
from dayfly.engine.tags.place import Span
from dayfly.engine.tags.render import render_expression, render_measure, render_predicate
from dayfly.engine.tags.text import (
    parse_expression,
    parse_measure,
    parse_predicate,
    read_expression,
)
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
    Or,
    PredicateAnd,
    PredicateNot,
    PredicateOr,
    Regularly,
    Restarted,
    Sequence,
    Stopped,
)
from tests.engine.tags.boundary_table import CATALOG, boundary_rows
from tests.engine.tags.strategies import conditions, measures, predicates, sound_conditions

DAY = 86_400_000
A = EventMatch("A")

READ = [
    ('count("A", within: 7d) > 5', Comparison(Measure("count", A, 7 * DAY), ">", Decimal(5))),
    (
        'sum("A", properties.total, within: 30d) > 500.00',
        Comparison(Measure("sum", A, 30 * DAY, "properties.total"), ">", Decimal(500)),
    ),
    (
        'last("A", properties.address.city, within: 1w) == "上海"',
        Comparison(Measure("last", A, 7 * DAY, "properties.address.city"), "==", "上海"),
    ),
    ('absent("A", within: 250ms)', Absent(A, 250)),
    ('first_time("A", within: 2h)', FirstTime(A, 7_200_000)),
    ('regularly("A", every: 1d, periods: 7, at_least: 5)', Regularly(A, DAY, 7, 5, 1)),
    ('regularly("A", at_least: 5, times: 2, periods: 7, every: 1d,)', Regularly(A, DAY, 7, 5, 2)),
    ('stopped("A", within: 60d, quiet: 14d)', Stopped(A, 60 * DAY, 14 * DAY)),
    ('restarted("A", within: 7d, quiet: 30d)', Restarted(A, 7 * DAY, 30 * DAY)),
    (
        'sequence(["A", event("B", where: has(properties.x))], within: 1h, gap: 10m, without: "C", quiet: 30m)',
        Sequence(
            (A, EventMatch("B", FieldPresent("properties.x"))), 3_600_000, 600_000, EventMatch("C"), 1_800_000
        ),
    ),
    ('in_tag("a") && in_tag("b") || !in_tag("c")', Or((And((InTag("a"), InTag("b"))), Not(InTag("c"))))),
    ('in_tag("a") && (in_tag("b") || in_tag("c"))', And((InTag("a"), Or((InTag("b"), InTag("c")))))),
    ('(in_tag("a") && in_tag("b")) && in_tag("c")', And((InTag("a"), InTag("b"), InTag("c")))),
    ("in_tag('it''s')".replace("''", "\\'"), InTag("it's")),
    ('// who\nin_tag("a") // and\n&&\tin_tag("b")', And((InTag("a"), InTag("b")))),
]


@pytest.mark.parametrize(("text", "tree"), READ, ids=[text for text, _ in READ])
def test_condition_is_read_as_the_tree_it_says(text: str, tree: Expression) -> None:
    assert parse_expression(text) == tree


PREDICATES = [
    ("properties.price >= 100", FieldComparison("properties.price", ">=", Decimal(100))),
    ("properties.n == -0.5", FieldComparison("properties.n", "==", Decimal("-0.5"))),
    ("properties.b != true", FieldComparison("properties.b", "!=", value=True)),
    ('channel == "app"', FieldComparison("channel", "==", "app")),
    ('properties.x in ["a", "b"]', FieldIn("properties.x", ("a", "b"))),
    ('properties.contains == "a"', FieldComparison("properties.contains", "==", "a")),
    ('properties.a.contains("b")', FieldText("properties.a", "contains", "b")),
    ("properties.`size cm` > 3", FieldComparison("properties.size cm", ">", Decimal(3))),
    ("properties.`材质`.startsWith('真')", FieldText("properties.材质", "startsWith", "真")),
    (
        'properties.t < timestamp("1970-01-01T00:00:01.5+00:00")',
        FieldComparison("properties.t", "<", Decimal(1500)),
    ),
    (
        'properties.t == timestamp("1969-12-31T23:59:59.999Z")',
        FieldComparison("properties.t", "==", Decimal(-1)),
    ),
    (
        "!has(properties.a) && (has(properties.b) || has(properties.c))",
        PredicateAnd(
            (
                PredicateNot(FieldPresent("properties.a")),
                PredicateOr((FieldPresent("properties.b"), FieldPresent("properties.c"))),
            )
        ),
    ),
    (
        r'properties.s == "\n\t\"\\\x41\u5c0f\U0001F6CB\101\?\`"',
        FieldComparison("properties.s", "==", '\n\t"\\A小🛋A?`'),
    ),
    (r"properties.s == 'a\'b\"'", FieldComparison("properties.s", "==", "a'b\"")),
]


@pytest.mark.parametrize(("text", "tree"), PREDICATES, ids=[text for text, _ in PREDICATES])
def test_predicate_is_read_as_the_tree_it_says(text: str, tree: Any) -> None:
    assert parse_predicate(text) == tree


REFUSED = [
    ("", "found=the end must be", ""),
    ('count("A", within: 7d) >', "found=the end", ""),
    ('count("A" within: 7d) > 5', "found='within' must be", "within"),
    ('count("A', "close the string", '"'),
    ('count("A", within: 7d) > 5 # x', "character='#' must not stand here", "#"),
    ('count("A", within: 7d)', "must be compared to a value", 'count("A", within: 7d)'),
    (
        '5 < count("A", within: 7d)',
        r"function on the left; write function > value",
        '5 < count("A", within: 7d)',
    ),
    ("properties.x > 5", "fields belong in where:", "properties.x"),
    ("true", "must be a condition", "true"),
    ('counts("A", within: 7d) > 5', "must be a function that gives a value", 'counts("A", within: 7d)'),
    ('often("A", within: 7d)', "must be a known function; use one of: count, distinct", "often"),
    ('count("A", within: 7d) in [5]', "must be a comparison here", "in"),
    ('count("A") > 5', "must give within; add within: 7d", 'count("A")'),
    ("count(within: 7d) > 5", 'must give event; add "Event Name"', "count(within: 7d)"),
    (
        'count("A", properties.x, within: 7d) > 5',
        "must be named; write one of: where: ..., within: ...",
        "properties.x",
    ),
    ('sum("A", within: 7d) > 5', "must give field; add properties.name", 'sum("A", within: 7d)'),
    (
        'count("A", during: 7d) > 5',
        "must be a parameter of count; use one of: event, where, within",
        "during",
    ),
    ('count("A", within: 7d, within: 8d) > 5', "must give within once", "within: 8d"),
    ('count("A", within: 7) > 5', "must be a duration; write a whole number and a unit", "7"),
    ('count("A", within: 1.5h) > 5', "character='1' must not stand here", "1"),
    ('count("A", within: 7y) > 5', "character='7' must not stand here", "7"),
    ("count(A, within: 7d) > 5", "must be a name in quotes", "A"),
    ('count("A", within: 7d) > "5" > 3', "found='>' must be", ">"),
    ('count("A", within: 7d) > properties.x', "must be a value; write a number", "properties.x"),
    ('regularly("A", every: 1d, periods: 1.5, at_least: 1)', "must be a whole number", "1.5"),
    ('sequence("A", within: 1h)', r'must be a list of events; write \["First", "Second"\]', '"A"'),
    ("sequence([A], within: 1h)", 'must be an event; write "Name"', "A"),
    ("sequence([event()], within: 1h)", "must be an event name in quotes", "event()"),
    ('sequence([event("A", within: 1d)], within: 1h)', "must be where:", "within: 1d"),
    (
        'count("A", where: properties.x, within: 7d) > 5',
        "must be compared; write properties.x == true",
        "properties.x",
    ),
    (
        'count("A", where: "a" == properties.x, within: 7d) > 5',
        "field on the left; write properties.x == value",
        '"a" == properties.x',
    ),
    ('count("A", where: 3 < properties.x, within: 7d) > 5', "write properties.x > value", "3 < properties.x"),
    ('count("A", where: !properties.x == 1, within: 7d) > 5', r"write !\(field == value\)", "!properties.x"),
    ('count("A", where: x == 1, within: 7d) > 5', "must start with properties.", "x"),
    (
        'count("A", where: traits.x == 1, within: 7d) > 5',
        "field='traits.x' must start with properties.",
        "traits.x",
    ),
    (
        'count("A", where: properties.`a/b` == 1, within: 7d) > 5',
        "must be letters, digits",
        "properties.`a/b`",
    ),
    ('count("A", where: properties.x in "a", within: 7d) > 5', "must be a list", '"a"'),
    (
        'count("A", where: properties.x.matches("a"), within: 7d) > 5',
        "must be a test of one event",
        "properties.x.matches",
    ),
    ('count("A", where: has(), within: 7d) > 5', "must have one argument", "has()"),
    ('count("A", where: properties.x.contains(1), within: 7d) > 5', "must be text in quotes", "1"),
    ('count("A", where: "a", within: 7d) > 5', "must be a test of a field", '"a"'),
    (r'in_tag("\q")', r"escape='\\\\q' must be one of CEL's", r'"\q"'),
    (r'in_tag("\ud800")', "must be a Unicode character", r'"\ud800"'),
    (
        'count("A", where: properties.x == timestamp("2026-01-01"), within: 7d) > 5',
        "must be a time with zone",
        '"2026-01-01"',
    ),
    (
        'count("A", where: properties.x == timestamp("2026-02-30T00:00:00Z"), within: 7d) > 5',
        "day and time that exist",
        '"2026-02-30T00:00:00Z"',
    ),
    (
        'count("A", where: properties.x == timestamp("2026-01-01T00:00:00.0005Z"), within: 7d) > 5',
        "whole milliseconds",
        '"2026-01-01T00:00:00.0005Z"',
    ),
    ('count("A", where: properties.x == timestamp(1), within: 7d) > 5', "must be a time in quotes", "1"),
    (
        'count("A", where: properties.x == timestamp(), within: 7d) > 5',
        "must have one argument",
        "timestamp()",
    ),
    ('in_tag("\ud800")', "must be Unicode text", "\ud800"),
]


@pytest.mark.parametrize(
    ("text", "message", "marked"),
    REFUSED,
    ids=[text.encode(errors="replace").decode() for text, _, _ in REFUSED],
)
def test_refusal_says_what_and_where(text: str, message: str, marked: str) -> None:
    with pytest.raises(TagError, match=message) as refused:
        parse_expression(text)
    assert text[refused.value.start : refused.value.end] == marked
    assert refused.value.text == text


def test_measure_alone_refuses_a_condition() -> None:
    with pytest.raises(TagError, match="must be a value over a window; use one of: count, distinct"):
        parse_measure('absent("A", within: 7d)')


def test_refusal_shows_the_line_with_carets_under_wide_characters() -> None:
    with pytest.raises(TagError) as refused:
        parse_expression('in_tag("小户型") &&\n  in_tag("收纳", x)')
    assert str(refused.value).splitlines()[1:] == ['    in_tag("收纳", x)', "                   ^"]


def test_refusal_of_a_long_line_shows_only_its_surroundings() -> None:
    text = (
        " && ".join(['in_tag("aaaaaaaaaaaaaaaa")'] * 40) + " && nope && " + " && ".join(['in_tag("b")'] * 40)
    )
    with pytest.raises(TagError, match="nope must be a condition") as refused:
        parse_expression(text)
    _, line, carets = str(refused.value).splitlines()
    assert len(line) < 140
    assert line[carets.index("^") : carets.rindex("^") + 1] == "nope"


@pytest.mark.parametrize(("length", "refused"), [(text_form.MAX_TEXT, False), (text_form.MAX_TEXT + 1, True)])
def test_longest_text_is_read_and_one_more_refused(length: int, *, refused: bool) -> None:
    text = 'in_tag("a")'.ljust(length)
    if refused:
        with pytest.raises(TagError, match="must have at most 16384; split the tag"):
            parse_expression(text)
    else:
        assert parse_expression(text) == InTag("a")


@pytest.mark.parametrize("bang", [text_form.MAX_NESTING, text_form.MAX_NESTING + 1, 5_000])
def test_deepest_nesting_is_read_and_one_more_refused(bang: int) -> None:
    text = "!" * bang + 'in_tag("a")'
    if bang > text_form.MAX_NESTING:
        with pytest.raises(TagError, match="at most 64 levels deep"):
            parse_expression(text)
    else:
        assert render_expression(parse_expression(text)) == text


def test_parentheses_alone_do_not_nest() -> None:
    assert parse_expression("(" * 4_000 + 'in_tag("a")' + ")" * 4_000) == InTag("a")


@given(conditions)
def test_condition_survives_rendering_and_parsing(tree: Expression) -> None:
    assert parse_expression(render_expression(tree)) == tree


@given(predicates)
def test_predicate_survives_rendering_and_parsing(tree: Any) -> None:
    assert parse_predicate(render_predicate(tree)) == tree


@given(measures)
def test_measure_survives_rendering_and_parsing(tree: Measure) -> None:
    assert parse_measure(render_measure(tree)) == tree


@given(sound_conditions)
def test_rendering_with_a_catalogue_writes_the_same_tree(tree: Expression) -> None:
    text = render_expression(tree, catalog=CATALOG)
    assert parse_expression(text) == tree
    assert render_expression(parse_expression(text), catalog=CATALOG) == text


def test_rendering_with_a_catalogue_writes_times() -> None:
    text = 'count("A", where: properties.t > timestamp("2026-01-01T00:00:00.250Z"), within: 1s) > 1'
    assert render_expression(parse_expression(text), catalog=CATALOG) == text
    assert "1767225600250" in render_expression(parse_expression(text))


@given(conditions)
def test_every_place_covers_the_text_of_its_part(tree: Expression) -> None:
    text = render_expression(tree)
    read, source = read_expression(text)
    for path, span in source.places.items():
        part: Any = read
        for step in path:
            part = part[step] if isinstance(step, int) else getattr(part, step)
        shown = text[span.start : span.end]
        if isinstance(part, Measure):
            assert parse_measure(shown) == part
        elif path and path[-1] == "where":
            assert parse_predicate(shown) == part
        elif isinstance(part, Comparison | InTag | Not | Sequence):
            assert parse_expression(shown) == part


@given(st.text())
@example("\x00")
@example("((")
@example('"')
@example("a.b.")
def test_any_text_is_a_tree_or_refused(text: str) -> None:
    for parse in (parse_expression, parse_predicate, parse_measure):
        try:
            parse(text)
        except TagError as error:
            assert 0 <= error.start <= error.end <= len(text) + 1  # noqa: PT017 - either outcome is right, this is about the place


TOKENS = st.sampled_from(
    ["count", "sequence", "event", "has", "in", "true", "where", "within", ":", "(", ")", "[", "]", ",", "&&", "||", "!", "==", ">", '"A"', "'x'", "7d",
     "5", "-1.5", "properties.x", "properties.x.contains", "channel", "timestamp", " ", "\n", "//", "`", "\\", "."]
)  # fmt: skip


@given(st.lists(TOKENS, max_size=30).map("".join))
def test_any_token_soup_is_a_tree_or_refused(text: str) -> None:
    for parse in (parse_expression, parse_predicate, parse_measure):
        try:
            parse(text)
        except TagError as error:
            assert error.end <= len(text) + 1  # noqa: PT017 - either outcome is right, this is about the place


SEEDS = sorted({row.tag.text for row in boundary_rows()})


@given(st.sampled_from(SEEDS), st.integers(0, 200), st.integers(0, 3), st.text(max_size=2))
def test_any_mutation_of_a_tag_is_a_tree_or_refused(text: str, at: int, cut: int, put: str) -> None:
    mutated = text[:at] + put + text[at + cut :]
    try:
        tree = parse_expression(mutated)
    except TagError as error:
        assert error.start >= 0  # noqa: PT017 - either outcome is right, this is about the place
    else:
        assert parse_expression(render_expression(tree)) == tree


def test_span_of_a_part_without_its_own_is_that_of_the_part_around_it() -> None:
    text = 'count("A", within: 7d) > 5'
    source = read_expression(text)[1]
    assert source.span(("measure", "match", "nowhere")) == Span(0, 22)
    assert source.span(("elsewhere",)) == Span(0, len(text))
