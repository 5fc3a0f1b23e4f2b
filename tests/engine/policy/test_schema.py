"""The published schema is the one the tables give, is a schema, and accepts what the loader accepts."""

import json
from importlib.resources import files
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator

from dayfly.engine.policy.load import example_policy_folder
from dayfly.engine.policy.schema import KINDS, SCHEMA_FILE, policy_schema, published_schema
from dayfly.engine.tags.functions import FUNCTIONS, MEASURES

EXAMPLES = sorted(example_policy_folder().glob("*.yaml"))


def test_published_file_is_what_the_tables_give() -> None:
    published = (files("dayfly.engine.policy") / SCHEMA_FILE).read_text(encoding="utf-8")
    regenerated = json.dumps(policy_schema(), indent=2, ensure_ascii=False) + "\n"
    assert published == regenerated, (
        "policy.schema.json must be regenerated: write json.dumps(policy_schema(), indent=2)"
    )


def test_schema_is_a_schema_of_draft_2020_12() -> None:
    assert published_schema()["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    Draft202012Validator.check_schema(published_schema())


@pytest.mark.parametrize("path", EXAMPLES, ids=[path.name for path in EXAMPLES])
def test_example_files_follow_the_schema_as_an_editor_sees_them(path: Any) -> None:
    validator = Draft202012Validator(published_schema())
    assert [
        error.message for error in validator.iter_errors(yaml.safe_load(path.read_text(encoding="utf-8")))
    ] == []


def test_every_kind_and_every_function_is_described() -> None:
    definitions = published_schema()["$defs"]
    assert definitions["document"]["properties"]["kind"]["enum"] == list(KINDS)
    assert definitions["measure"]["properties"]["type"]["enum"] == list(MEASURES)
    assert set(FUNCTIONS) - set(MEASURES) < set(definitions["condition"]["properties"]["type"]["enum"])


def described(schema: Any) -> bool:
    """Whether every property that an author writes has a description or is described by its reference."""
    if isinstance(schema, list):
        return all(described(item) for item in schema)
    if not isinstance(schema, dict):
        return True
    own = all(
        {"description", "$ref", "const", "enum"} & set(item) or item.get("type") in ("integer", "object")
        for item in schema.get("properties", {}).values()
    )
    return own and all(described(value) for value in schema.values())


def test_editors_find_a_description_at_every_property() -> None:
    assert described(published_schema()["$defs"])


@pytest.mark.parametrize(
    "document",
    [
        {"kind": "tags", "tags": [{"tag": "a", "purpose": "p", "topic": "t", "when": {"type": "in_tag"}}]},
        {
            "kind": "tags",
            "tags": [{"tag": "a", "purpose": "p", "topic": "t", "when": {"type": "or", "parts": []}}],
        },
        {"kind": "tags", "tags": {}},
        {"kind": "settings", "history": 400},
        {"kind": "unknown"},
        [{"kind": "catalog"}],
        7,
    ],
    ids=str,
)
def test_schema_refuses_what_is_misshapen(document: Any) -> None:
    assert list(Draft202012Validator(published_schema()).iter_errors(document)) != []
