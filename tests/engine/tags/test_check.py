"""What may be published and what is refused, with the place, at both sides of every bound."""

from dataclasses import replace
from decimal import Decimal

import pytest
from hypothesis import given

from dayfly.engine.errors import TagError
from dayfly.engine.policy.model import Settings
from dayfly.engine.tags.check import check_tag, is_kebab, tag_findings, tags_used
from dayfly.engine.tags.check_expression import (
    MAX_COUNT,
    MAX_DEPTH,
    MAX_IN,
    MAX_LEAVES,
    MAX_PERIODS,
    MAX_STEPS,
)
from dayfly.engine.tags.functions import Path
from dayfly.engine.tags.text import parse_expression, parse_measure, read_expression
from dayfly.engine.tags.tree import Capture, Comparison, EventMatch, FieldComparison, Measure, Tag
from tests.engine.tags.boundary_table import CATALOG, HAS_A, SETTINGS
from tests.engine.tags.strategies import sound_tags

KNOWN = {"has-a": HAS_A}


def tag(text: str, *, name: str = "one") -> Tag:
    return Tag(name, "service.test", "test", parse_expression(text), text=text)


def found(text: str, settings: Settings = SETTINGS) -> list[str]:
    return [message for _, message in tag_findings(tag(text), CATALOG, KNOWN, settings)]


ACCEPTED = [
    'count("A", within: 1s) > 0',
    'count("A", within: 1s) >= 1',
    'count("A", within: 1s) <= 1',
    'count("A", within: 1s) < 2',
    'count("A", within: 1s) == 1',
    'count("A", within: 1s) != 1',
    f'count("A", within: 1s) > {MAX_COUNT}',
    'count("A", within: 1m) > 1',
    'sum("A", properties.n, within: 1s) <= -1000000000',
    'sum("A", properties.n, within: 1s) > 999999999.999999',
    'sum("A", properties.n, within: 1s) == 0',
    'first("A", properties.t, within: 1s) > timestamp("9999-12-31T23:59:59.999Z")',
    'last("A", properties.s, within: 1s) != "x"',
    'stopped("A", within: 1s, quiet: 999ms)',
    'restarted("A", within: 30s, quiet: 30s)',
    'regularly("A", every: 1s, periods: 60, at_least: 60)',
    'sequence(["A", "B"], within: 1s, gap: 1s)',
    'sequence(["A"], within: 1s, without: "A", quiet: 999ms)',
    'in_tag("has-a")',
    'count("A", where: channel in ["web", "app"], within: 1s) > 1',
]


@pytest.mark.parametrize("text", ACCEPTED)
def test_tag_at_the_edge_of_the_rules_may_be_published(text: str) -> None:
    assert found(text) == []
    check_tag(tag(text), CATALOG, KNOWN, SETTINGS)


NINE = str(["A"] * (MAX_STEPS + 1)).replace("'", '"')
COUNT_ONLY = "must be a comparison that some count above zero decides.*use absent"
REFUSED = [
    ('count("Z", within: 1s) > 1', "event='Z' must be declared in the catalogue; declare it or use one of: A, B, C", '"Z"'),
    ('count("A", where: properties.nn > 1, within: 1s) > 1', "field=properties.nn must be declared for event 'A'; declare it or use properties.n", "properties.nn"),
    ('sum("A", properties.q.r, within: 1s) > 1', "field=properties.q.r must be declared", "properties.q.r"),
    ('distinct("A", channel, within: 1s) > 1', "field=channel must not be measured", "channel"),
    ('sum("A", properties.s, within: 1s) > 1', "field=properties.s must be a number for sum, it is text", "properties.s"),
    ('max("A", properties.t, within: 1s) > 1', "must be a number for max, it is a time", "properties.t"),
    ('avg("A", properties.b, within: 1s) > 1', "must be a number for avg, it is true or false", "properties.b"),
    ('sum("A", properties.n, within: 1s) > "1"', "value='1' must fit sum, which is a number", '"1"'),
    ('first("A", properties.s, within: 1s) == 1', "value=1 must fit first of properties.s, which is text", "1"),
    ('last("A", properties.b, within: 1s) == "true"', "must fit last of properties.b, which is true or false", '"true"'),
    ('last("A", properties.t, within: 1s) > "2026"', "which is a time; write timestamp", '"2026"'),
    ('last("A", properties.t, within: 1s) > 0.5', "must be whole milliseconds between year 1 and year 9999", "0.5"),
    ('last("A", properties.s, within: 1s) > "x"', "last of properties.s > must compare a number or a time, it is text", 'last("A", properties.s, within: 1s) > "x"'),
    ('last("A", properties.b, within: 1s) >= true', "must compare a number or a time", 'last("A", properties.b, within: 1s) >= true'),
    ('count("A", within: 1s) > "x"', "count > 'x' must compare to a whole number", '"x"'),
    ('count("A", within: 1s) > true', "count > true must compare to a whole number", "true"),
    ('count("A", within: 1s) > 1.5', "count > 1.5 must compare to a whole number", "1.5"),
    (f'count("A", within: 1s) > {MAX_COUNT + 1}', f"must be at most {MAX_COUNT}", str(MAX_COUNT + 1)),
    *[
        (f"{function} {comparison}", COUNT_ONLY, f"{function} {comparison}")
        for function in ('count("A", within: 1s)', 'distinct("A", properties.s, within: 1s)')
        for comparison in ("== 0", "!= 0", ">= 0", "< 1", "<= 0", "< 0", "> -1", ">= -1", "== -1")
    ],
    ('count("A", within: 0s) > 1', "within=0ms must be above zero", "0s"),
    ('count("A", within: 60001ms) > 1', "within=60001ms must be at most the kept history of 1m", "60001ms"),
    ('stopped("A", within: 1s, quiet: 1s)', "quiet=1s must be above zero and shorter than within=1s", "1s"),
    ('stopped("A", within: 1s, quiet: 0s)', "quiet=0ms must be above zero", "0s"),
    ('restarted("A", within: 30s, quiet: 30001ms)', r"within \+ quiet=60001ms must be at most the kept history", 'restarted("A", within: 30s, quiet: 30001ms)'),
    ('restarted("A", within: 1s, quiet: 0s)', "quiet=0ms must be above zero", "0s"),
    ('regularly("A", every: 1s, periods: 61, at_least: 1)', r"every \* periods=61s must be at most the kept history", 'regularly("A", every: 1s, periods: 61, at_least: 1)'),
    ('regularly("A", every: 1s, periods: 3, at_least: 4)', r"at_least=4 must lie in \[1, periods=3\]", "4"),
    ('regularly("A", every: 1s, periods: 3, at_least: 0)', r"at_least=0 must lie in \[1, periods=3\]", "0"),
    ('regularly("A", every: 1s, periods: 0, at_least: 1)', r"periods=0 must lie in \[1, 366\]", "0"),
    (f'regularly("A", every: 1ms, periods: {MAX_PERIODS + 1}, at_least: 1)', r"periods=367 must lie in", "367"),
    ('regularly("A", every: 1s, periods: 3, at_least: 1, times: 0)', r"times=0 must lie in \[1, 10000\]", "0"),
    ('regularly("A", every: 0s, periods: 3, at_least: 1)', "every=0ms must be above zero", "0s"),
    ('sequence(["A", "B"], within: 1s, gap: 1001ms)', "gap=1001ms must be above zero and at most within=1s", "1001ms"),
    ('sequence(["A", "B"], within: 1s, gap: 0s)', "gap=0ms must be above zero", "0s"),
    ('sequence(["A"], within: 1s, without: "B", quiet: 1ms, gap: 1ms)', "gap: must stand with two steps", "1ms"),
    ('sequence(["A", "B"], within: 1s, quiet: 1ms)', "quiet: must stand with without:", "1ms"),
    ('sequence(["A", "B"], within: 1s, without: "C", quiet: 1s)', "quiet=1s must be above zero and shorter", "1s"),
    ('sequence(["A"], within: 1s)', r"steps=1 must have quiet: and without:; use count\(...\) > 0", '["A"]'),
    ("sequence([], within: 1s)", "steps=0 must be 1 to 8 events", "[]"),
    (f"sequence({NINE}, within: 1s)", "steps=9 must be 1 to 8 events", NINE),
    ('sequence(["A", "Z"], within: 1s)', "event='Z' must be declared", '"Z"'),
    ('sequence(["A", "B"], within: 1s, without: "Z")', "event='Z' must be declared", '"Z"'),
    ('in_tag("unknown")', "tag='unknown' must be declared; declare it or use one of: has-a", 'in_tag("unknown")'),
    ('absent("A", within: 1s) || in_tag("one")', r"must not lead back to itself \(one -> one\)", 'in_tag("one")'),
    ('count("A", where: properties.s > "x", within: 1s) > 1', "properties.s > must compare a number or a time", 'properties.s > "x"'),
    ('count("A", where: properties.n == "1", within: 1s) > 1', "value='1' must fit properties.n, which is a number", '"1"'),
    ('count("A", where: properties.b == 1, within: 1s) > 1', "must fit properties.b, which is true or false", "1"),
    ('count("A", where: properties.n.contains("1"), within: 1s) > 1', "must have a string field, it is a number", 'properties.n.contains("1")'),
    ('count("A", where: properties.s.contains(""), within: 1s) > 1', r"contains\(''\) must have text", '""'),
    ('count("A", where: channel == "fax", within: 1s) > 1', "channel='fax' must be declared; declare it or use one of: web, app", '"fax"'),
    ('count("A", where: channel.contains("web"), within: 1s) > 1', "channel.contains must not be asked", 'channel.contains("web")'),
    ('count("A", where: has(channel), within: 1s) > 1', r"has\(channel\) must test a field that can be absent", "has(channel)"),
    ('count("A", where: properties.n in [], within: 1s) > 1', f"values=0 must be 1 to {MAX_IN}", "[]"),
    ('count("A", where: properties.n in [1, 1.0], within: 1s) > 1', "value=1 must be listed once", "1.0"),
    ('count("A", where: properties.n in [1, "x"], within: 1s) > 1', "value='x' must fit properties.n", '"x"'),
    ('sum("A", properties.n, within: 1s) > 1000000000.000001', "value=1000000000.000001 must lie within ±1000000000", "1000000000.000001"),
    ('sum("A", properties.n, within: 1s) > 0.1234567', "value=0.1234567 must have at most six decimals", "0.1234567"),
    ('sum("A", properties.n, within: 1s) > 1.0000000000000000000000000000000000000001', "must have at most six decimals", "1.0000000000000000000000000000000000000001"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "message", "marked"), REFUSED, ids=[text for text, _, _ in REFUSED])
def test_refusal_names_value_rule_and_way_out_at_its_place(text: str, message: str, marked: str) -> None:
    with pytest.raises(TagError, match=message) as refused:
        check_tag(tag(text), CATALOG, KNOWN, SETTINGS, source=read_expression(text)[1])
    assert text[refused.value.start : refused.value.end] == marked
    assert "; " in str(refused.value)


def test_place_lies_in_the_normalised_text_when_no_other_is_given() -> None:
    with pytest.raises(TagError) as refused:
        check_tag(tag('count(  "Z",within:1s)>1'), CATALOG, KNOWN, SETTINGS)
    assert refused.value.text == 'count("Z", within: 1s) > 1'
    assert refused.value.text[refused.value.start : refused.value.end] == '"Z"'


def test_all_findings_are_told_at_once() -> None:
    text = 'count("Z", within: 0s) == 0 && sum("A", properties.s, within: 2m) > "x"'
    assert len(found(text)) == 6


@pytest.mark.parametrize(("levels", "findings"), [(MAX_DEPTH - 1, 0), (MAX_DEPTH, 1)])
def test_depth_is_bounded_over_condition_and_predicate_together(levels: int, findings: int) -> None:
    assert len(found("!" * levels + 'in_tag("has-a")')) == findings
    outer = levels - 6
    text = "!" * outer + 'absent("A", where: !!!!!!has(properties.n), within: 1s)'
    assert len(found(text)) == findings


@pytest.mark.parametrize(("leaves", "findings"), [(MAX_LEAVES, 0), (MAX_LEAVES + 1, 1)])
def test_size_is_bounded(leaves: int, findings: int) -> None:
    assert len(found(" || ".join(['in_tag("has-a")'] * leaves))) == findings
    inside = " || ".join(["has(properties.n)"] * (leaves - 1))
    assert len(found(f'absent("A", where: {inside}, within: 1s)')) == findings


@pytest.mark.parametrize(("values", "findings"), [(MAX_IN, 0), (MAX_IN + 1, 1)])
def test_values_of_in_are_bounded(values: int, findings: int) -> None:
    listed = ", ".join(map(str, range(values)))
    assert len(found(f'absent("A", where: properties.n in [{listed}], within: 1s)')) == findings


@pytest.mark.parametrize(("letters", "findings"), [(4, 0), (5, 1)])
def test_text_is_bounded_in_bytes(letters: int, findings: int) -> None:
    settings = replace(SETTINGS, max_string_bytes=12)
    text = "收" * letters
    assert len(found(f"absent('A', where: properties.s == '{text}', within: 1s)", settings)) == findings


@pytest.mark.parametrize(
    ("value", "message"),
    [("NaN", "must lie within"), ("Infinity", "must lie within"), ("1e999999", "must lie within")],
)
def test_numbers_that_only_python_can_say_are_refused(value: str, message: str) -> None:
    where = FieldComparison("properties.n", ">", Decimal(value))
    made = Tag("one", "p", "t", Comparison(Measure("count", EventMatch("A", where), 1_000), ">", Decimal(1)))
    assert message in tag_findings(made, CATALOG, KNOWN, SETTINGS)[0].message


def test_threshold_that_is_no_number_is_refused() -> None:
    made = Tag("one", "p", "t", Comparison(Measure("count", EventMatch("A"), 1_000), ">", Decimal("NaN")))
    assert "must compare to a whole number" in tag_findings(made, CATALOG, KNOWN, SETTINGS)[0].message


def test_lone_surrogate_that_only_python_can_say_is_refused() -> None:
    where = FieldComparison("properties.s", "==", "\ud800")
    made = Tag("one", "p", "t", Comparison(Measure("count", EventMatch("A", where), 1_000), ">", Decimal(1)))
    assert "must be Unicode text" in tag_findings(made, CATALOG, KNOWN, SETTINGS)[0].message


@pytest.mark.parametrize(
    ("change", "path", "message"),
    [
        ({"name": "One"}, ("name",), "tag='One' must be lower-case words joined by hyphens"),
        ({"name": "a" * 65}, ("name",), "at most 64 characters"),
        ({"purpose": "Service"}, ("purpose",), "purpose='Service' must be lower-case words joined by dots"),
        ({"purpose": "*"}, ("purpose",), "purpose='[*]' must be"),
        ({"purpose": ""}, ("purpose",), "purpose='' must be"),
        ({"topic": "a..b"}, ("topic",), "topic='a..b' must be lower-case words joined by dots"),
        ({"version": 0}, ("version",), "version=0 must be >= 1"),
    ],
    ids=str,
)
def test_heading_follows_its_syntax(change: dict[str, str], path: Path, message: str) -> None:
    made = replace(tag('in_tag("has-a")'), **change)  # type: ignore[arg-type]  # the version is an int
    finding = tag_findings(made, CATALOG, KNOWN, SETTINGS)[0]
    assert finding.path == path
    with pytest.raises(TagError, match=message):
        check_tag(made, CATALOG, KNOWN, SETTINGS)


@pytest.mark.parametrize(
    ("name", "fits"),
    [
        ("a", True),
        ("a-b-2", True),
        ("a" * 64, True),
        ("a" * 65, False),
        ("-a", False),
        ("a--b", False),
        ("a_b", False),
        ("", False),
    ],
)
def test_tag_names_are_kebab_case(name: str, *, fits: bool) -> None:
    assert is_kebab(name) is fits


def capturing(*captures: tuple[str, str]) -> Tag:
    parsed = tuple(Capture(name, parse_measure(text)) for name, text in captures)
    return replace(tag('in_tag("has-a")'), captures=parsed)


SEEN = 'distinct("A", properties.s, within: 1s)'


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (capturing(("Seen", SEEN)), "capture='Seen' must be lower-case letters, digits and underscores"),
        (capturing(("seen", SEEN), ("seen", SEEN)), "capture='seen' must be named once"),
        (capturing(*[(f"c{at}", SEEN) for at in range(17)]), "captures=17 must be at most 16"),
        (capturing(("seen", 'last("A", properties.zz, within: 1s)')), "field=properties.zz must be declared"),
        (capturing(("seen", 'count("A", within: 2m)')), "within=2m must be at most the kept history"),
    ],
    ids=["name", "twice", "many", "field", "window"],
)
def test_captures_follow_the_same_rules(made: Tag, message: str) -> None:
    with pytest.raises(TagError, match=message):
        check_tag(made, CATALOG, KNOWN, SETTINGS)


def test_finding_in_a_capture_has_its_place_in_the_captures_text() -> None:
    with pytest.raises(TagError) as refused:
        check_tag(capturing(("seen", 'last("A", properties.zz, within: 1s)')), CATALOG, KNOWN, SETTINGS)
    assert refused.value.text[refused.value.start : refused.value.end] == "properties.zz"


def test_long_circle_is_refused_and_shown() -> None:
    first = tag('in_tag("b") || in_tag("has-a")', name="a")
    known = {
        "a": first,
        "b": tag('!in_tag("c")', name="b"),
        "c": tag('in_tag("has-a") && in_tag("a")', name="c"),
        **KNOWN,
    }
    with pytest.raises(
        TagError, match=r"tag='b' must not lead back to itself \(a -> b -> c -> a\); break the circle"
    ):
        check_tag(first, CATALOG, known, SETTINGS)


def test_circle_elsewhere_does_not_stop_the_search() -> None:
    known = {"b": tag('in_tag("c")', name="b"), "c": tag('in_tag("b")', name="c")}
    first = tag('in_tag("b")', name="a")
    assert tag_findings(first, CATALOG, {"a": first, **known}, SETTINGS) == ()


def test_tags_used_gives_the_way_to_each() -> None:
    condition = parse_expression('in_tag("a") || !(in_tag("b") && absent("A", within: 1s))')
    assert tags_used(condition) == [(("parts", 0), "a"), (("parts", 1, "part", "parts", 0), "b")]


@given(sound_tags)
def test_tag_made_by_the_rules_may_be_published(made: Tag) -> None:
    assert tag_findings(made, CATALOG, KNOWN, SETTINGS) == ()
