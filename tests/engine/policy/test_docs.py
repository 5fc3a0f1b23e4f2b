"""What the documents about policies and tags show is true."""

import re
from pathlib import Path

import yaml

from dayfly.engine.policy.schema import KINDS, published_schema
from dayfly.engine.tags.document import expression_from_document
from dayfly.engine.tags.functions import FUNCTIONS
from dayfly.engine.tags.text import parse_expression

DOCS = Path(__file__).parents[3] / "docs"


def blocks(name: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", (DOCS / name).read_text(encoding="utf-8"), re.DOTALL)


def test_every_kind_and_function_stands_in_its_document() -> None:
    policies = (DOCS / "policies.md").read_text(encoding="utf-8")
    tags = (DOCS / "tags.md").read_text(encoding="utf-8")
    assert all(f"| `{kind}` |" in policies for kind in KINDS)
    assert all(f"`{function}" in tags for function in FUNCTIONS)


def test_three_forms_of_the_specification_are_the_same_tag() -> None:
    text = parse_expression(blocks("tags.md", "text")[0])
    assert expression_from_document(yaml.safe_load(blocks("tags.md", "yaml")[0])) == text
    scope: dict[str, object] = {}
    source = blocks("tags.md", "python")[0]
    lines = source.strip().splitlines()
    exec("\n".join(lines[:-1]), scope)
    assert eval(lines[-1], scope).node == text


def test_trigger_example_follows_the_schema() -> None:
    from jsonschema import Draft202012Validator

    example = next(block for block in blocks("policies.md", "yaml") if block.startswith("kind: triggers"))
    assert list(Draft202012Validator(published_schema()).iter_errors(yaml.safe_load(example))) == []


def test_python_example_runs() -> None:
    scope: dict[str, object] = {}
    exec(blocks("policies.md", "python")[0], scope)
    assert "load_policy" in scope
