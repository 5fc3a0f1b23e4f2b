"""Shapes from a policy: each field with the rules, columns and masking that really stand behind it."""

from dataclasses import replace
from decimal import Decimal

import pytest

from dayfly.engine.catalog import Catalog, EventType, FieldSpec, FieldType
from dayfly.engine.errors import LineageError
from dayfly.engine.lineage import LineageShape, RuleText, ShapeField, SourceColumn, shapes_of
from dayfly.engine.policy.model import Policy
from dayfly.engine.tags.tree import (
    Absent,
    And,
    Capture,
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
    Tag,
)
from dayfly.engine.triggers import FieldSource, OnEvent, OnTag, TagHeld, TagValue, Trigger, TriggerField
from dayfly.privacy.deident import Drop
from dayfly.privacy.errors import DeidentificationError

DAY_MS = 86_400_000
BAND = {"mask": "band", "edges": [1_000, 5_000]}
CATALOG = Catalog(
    types=(
        EventType(
            "Product Viewed",
            (
                FieldSpec("material", FieldType.STRING),
                FieldSpec("category", FieldType.STRING),
                FieldSpec("price", FieldType.NUMBER, BAND),
            ),
        ),
        EventType(
            "Product Searched", (FieldSpec("query", FieldType.STRING, {"mask": "truncate", "characters": 8}),)
        ),
        EventType("Order Completed"),
    ),
    channels=("app", "web"),
)
VIEWED = EventMatch("Product Viewed")
SOFA = EventMatch("Product Viewed", FieldComparison("properties.category", "==", "sofa"))
MATERIALS = Measure("distinct", SOFA, 7 * DAY_MS, "properties.material")
COMPARING = Tag(
    "comparing",
    "service",
    "furniture",
    Comparison(MATERIALS, ">=", Decimal(3)),
    captures=(Capture("materials", MATERIALS),),
    version=4,
    text="the author's text",
)


def shape(
    source: FieldSource,
    *,
    tags: tuple[Tag, ...] = (COMPARING,),
    masking: object = "keep",
    when: OnEvent | OnTag | None = None,
) -> LineageShape:
    field = TriggerField("shown", source, "behaviour", masking)
    trigger = Trigger(
        "advice",
        when or OnEvent(VIEWED),
        "crm",
        "service",
        "furniture",
        (field,),
        version=2,
        text="the trigger",
    )
    return shapes_of(Policy(1, CATALOG, tags=tags, triggers=(trigger,)))["advice"]


def columns(when: Expression) -> set[SourceColumn]:
    return set(shape(TagHeld("t"), tags=(Tag("t", "p", "t", when),)).fields[0].columns)


def test_a_measure_is_its_own_rule() -> None:
    price = Measure("max", SOFA, 30 * DAY_MS, "properties.price")
    made = shape(price, masking=BAND)
    assert made.rules[0] == RuleText("trigger", "advice", 2, "the trigger")
    text = 'max("Product Viewed", properties.price, where: properties.category == "sofa", within: 30d)'
    assert made.rules[1:] == (RuleText("measure", "advice.shown", 2, text),)
    assert made.fields == (
        ShapeField(
            "shown",
            (1,),
            "band at 1000, 5000",
            "behaviour",
            (
                SourceColumn("Product Viewed", "price", "value", "band at 1000, 5000"),
                SourceColumn("Product Viewed", None, "window"),
                SourceColumn("Product Viewed", "category", "filter"),
            ),
        ),
    )
    assert made.channels == ("app", "web")


def test_a_tag_is_shown_with_its_authors_text_and_version() -> None:
    assert shape(TagHeld("comparing")).rules[1:] == (RuleText("tag", "comparing", 4, "the author's text"),)


def test_a_tag_without_text_is_rendered() -> None:
    bare = replace(COMPARING, text="", when=Absent(VIEWED, DAY_MS))
    assert shape(TagHeld("comparing"), tags=(bare,)).rules[1].text == 'absent("Product Viewed", within: 1d)'


def test_a_captured_value_rests_on_the_tag_and_on_the_capture() -> None:
    made = shape(TagValue("comparing", "materials"))
    assert [(rule.kind, rule.id) for rule in made.rules] == [
        ("trigger", "advice"),
        ("tag", "comparing"),
        ("measure", "comparing.materials"),
    ]
    assert made.fields[0].rules == (1, 2)
    assert made.fields[0].columns[0] == SourceColumn("Product Viewed", "material", "value")


def test_tags_inside_a_tag_are_rules_too_each_once() -> None:
    outer = Tag("outer", "p", "t", And((InTag("comparing"), Not(InTag("middle")))))
    middle = Tag("middle", "p", "t", Or((InTag("comparing"), Absent(EventMatch("Order Completed"), DAY_MS))))
    made = shape(TagHeld("outer"), tags=(COMPARING, outer, middle))
    assert [rule.id for rule in made.rules] == ["advice", "outer", "comparing", "middle"]
    assert SourceColumn("Order Completed", None, "window") in made.fields[0].columns


def test_tags_that_look_into_each_other_end() -> None:
    one, two = (Tag(name, "p", "t", InTag(other)) for name, other in (("one", "two"), ("two", "one")))
    assert [rule.id for rule in shape(TagHeld("one"), tags=(one, two)).rules] == ["advice", "one", "two"]


def test_the_tag_that_fires_the_trigger_is_a_rule() -> None:
    made = shape(Measure("count", VIEWED, DAY_MS), when=OnTag("comparing"))
    assert [rule.kind for rule in made.rules] == ["trigger", "measure", "tag"]
    assert made.fields[0].rules == (1,)


@pytest.mark.parametrize(
    "when",
    [
        Absent(SOFA, DAY_MS),
        FirstTime(SOFA, DAY_MS),
        Regularly(SOFA, DAY_MS, 7, 5),
        Stopped(SOFA, 9 * DAY_MS, DAY_MS),
        Restarted(SOFA, 9 * DAY_MS, DAY_MS),
        Comparison(Measure("count", SOFA, DAY_MS), ">", Decimal(1)),
        Not(And((Absent(SOFA, DAY_MS), Or((Absent(SOFA, DAY_MS), Absent(SOFA, DAY_MS)))))),
    ],
    ids=lambda when: type(when).__name__,
)
def test_every_window_function_names_its_columns(when: Expression) -> None:
    assert columns(when) == {
        SourceColumn("Product Viewed", None, "window"),
        SourceColumn("Product Viewed", "category", "filter"),
    }


def test_a_sequence_names_all_steps_and_what_must_not_follow() -> None:
    found = columns(
        Sequence((EventMatch("Product Searched"), SOFA), DAY_MS, without=EventMatch("Order Completed"))
    )
    assert {column.event for column in found} == {"Product Searched", "Product Viewed", "Order Completed"}
    assert len(columns(Sequence((VIEWED, VIEWED), DAY_MS))) == 1


def test_predicates_name_every_field_they_read() -> None:
    where = PredicateAnd(
        (
            FieldText("properties.material", "contains", "oak"),
            PredicateNot(
                PredicateOr((FieldIn("properties.category", ("bed",)), FieldPresent("properties.price")))
            ),
            FieldComparison("channel", "==", "app"),
        )
    )
    filters = {
        column
        for column in columns(Absent(EventMatch("Product Viewed", where), DAY_MS))
        if column.use == "filter"
    }
    assert {column.field for column in filters} == {"material", "category", "price", "channel"}
    assert {column.field: column.masking for column in filters}["price"] == "band at 1000, 5000"


def test_masking_at_intake_stands_with_the_column() -> None:
    made = shape(Measure("last", EventMatch("Product Searched"), DAY_MS, "properties.query"))
    assert made.fields[0].columns[0].masking.startswith("first 8") or "8" in made.fields[0].columns[0].masking
    assert made.fields[0].masking == "keep"


def test_a_parsed_masking_rule_is_described_too() -> None:
    assert shape(TagHeld("comparing"), masking=Drop()).fields[0].masking == "dropped"


def test_a_masking_that_is_none_is_refused() -> None:
    with pytest.raises(LineageError, match=r"masking=7 must be a masking rule"):
        shape(TagHeld("comparing"), masking=7)
    with pytest.raises(DeidentificationError, match="masking="):
        shape(TagHeld("comparing"), masking="hide")


def test_equal_policies_give_equal_digests() -> None:
    assert shape(TagHeld("comparing")).digest == shape(TagHeld("comparing")).digest
    assert shape(TagHeld("comparing")).digest != shape(TagHeld("comparing"), masking="drop").digest
