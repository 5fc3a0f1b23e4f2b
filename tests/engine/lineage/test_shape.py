"""Shapes: what a trigger's fragments share, named by one digest over all of it."""

import hashlib
import json
from dataclasses import replace
from typing import Any

import pytest

from dayfly.engine.errors import LineageError
from dayfly.engine.lineage import LineageShape, RuleText, ShapeField, SourceColumn, shape_from_bytes

from .support import SHAPE

TRIGGER = RuleText("trigger", "t", 1, "")


def test_a_shape_comes_back_from_its_content() -> None:
    again = shape_from_bytes(SHAPE.content)
    assert again == SHAPE
    assert again.digest == SHAPE.digest


def test_content_is_json_that_another_reader_understands() -> None:
    content = json.loads(SHAPE.content)
    assert [rule["id"] for rule in content["rules"]] == [rule.id for rule in SHAPE.rules]
    assert [field["name"] for field in content["fields"]] == ["comparing", "materials", "budget"]
    assert content["channels"] == ["app", "web", "wifi"]


def test_the_digest_is_blake2b_of_the_content() -> None:
    expected = hashlib.blake2b(SHAPE.content, digest_size=16, person=b"dayfly-shape-1").digest()
    assert SHAPE.digest == expected


@pytest.mark.parametrize(
    "changed",
    [
        replace(SHAPE, rules=(replace(SHAPE.rules[0], text="other"), *SHAPE.rules[1:])),
        replace(SHAPE, rules=(SHAPE.rules[0], replace(SHAPE.rules[1], version=5), SHAPE.rules[2])),
        replace(SHAPE, fields=(replace(SHAPE.fields[0], masking="drop"), *SHAPE.fields[1:])),
        replace(SHAPE, fields=(replace(SHAPE.fields[0], columns=()), *SHAPE.fields[1:])),
        replace(SHAPE, channels=("web", "app", "wifi")),
    ],
    ids=["rule text", "rule version", "masking", "columns", "channels"],
)
def test_any_change_of_a_rule_changes_the_digest(changed: LineageShape) -> None:
    assert changed.digest != SHAPE.digest


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"rules": ()}, r"rules=\[\] must begin with the trigger"),
        ({"rules": (RuleText("tag", "a", 1, ""),)}, r"rules=\['a'\] must begin with the trigger"),
        (
            {"fields": (ShapeField("a", ()), ShapeField("a", ()))},
            r"fields=\['a', 'a'\] must be .* distinct names",
        ),
        ({"fields": tuple(ShapeField(f"f{i}", ()) for i in range(64))}, r"must be at most 63"),
        ({"fields": (ShapeField("a", (1,)),)}, r"rules=\(1,\) of field 'a' must index rules 1..0"),
        ({"fields": (ShapeField("a", (0,)),)}, r"rules=\(0,\) of field 'a' must index"),
    ],
)
def test_a_shape_that_cannot_be_is_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(LineageError, match=message):
        LineageShape(**({"rules": (TRIGGER,), "fields": (), "channels": ()} | settings))


def test_sixty_three_fields_are_allowed() -> None:
    shape = LineageShape((TRIGGER,), tuple(ShapeField(f"f{i}", ()) for i in range(63)), ())
    assert shape.index("f62") == 62


def test_an_unknown_field_names_the_known_ones() -> None:
    with pytest.raises(
        LineageError, match=r"field='price' must be a field .* use one of: comparing, materials, budget"
    ):
        SHAPE.index("price")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "must be the content of a LineageShape"),
        (b"\xff", "must be the content of a LineageShape"),
        (b"[]", "must be the content of a LineageShape"),
        (SHAPE.content[:-1] + b',"more":1}', "must be the content of a LineageShape"),
        (SHAPE.content + b" ", "must be in canonical form"),
    ],
)
def test_content_that_no_shape_wrote_is_refused(content: bytes, message: str) -> None:
    with pytest.raises(LineageError, match=message):
        shape_from_bytes(content)


def test_columns_keep_what_masked_them() -> None:
    column = SourceColumn("Product Viewed", "price", "value", "band at 10")
    shape = LineageShape((TRIGGER,), (ShapeField("a", (), "keep", "", (column,)),), ())
    assert shape_from_bytes(shape.content).fields[0].columns == (column,)
