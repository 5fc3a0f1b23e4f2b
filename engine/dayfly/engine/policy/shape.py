"""Findings of the JSON Schema about one document, said in the house's words."""

import re
from collections.abc import Iterator
from functools import cache
from typing import Any

from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError

from .schema import published_schema
from .yaml_source import LocatedDocument, Path

__all__ = ["shape_findings"]


@cache
def _validator() -> Draft202012Validator:
    return Draft202012Validator(published_schema()["else"] | {"$defs": published_schema()["$defs"]})


def shape_findings(document: LocatedDocument) -> Iterator[tuple[Path, str, bool]]:
    """Way, message and whether the key (not the value) is meant, for each breach of the schema."""
    try:
        yield from (
            finding for error in _validator().iter_errors(document.data) for finding in _findings(error)
        )
    except RecursionError:
        yield (), "document must be less deeply nested; split the condition and join with in_tag", False


def _findings(error: ValidationError) -> Iterator[tuple[Path, str, bool]]:
    path: Path = tuple(error.absolute_path)
    instance: Any = error.instance
    schema: Any = error.schema
    rule: Any = error.validator_value
    name = next((str(step) for step in reversed(path) if isinstance(step, str)), "document")
    shown = _shown(instance)
    match error.validator:
        case "additionalProperties":
            known = ", ".join(schema.get("properties", {}))
            for key in instance:
                if key not in schema.get("properties", {}):
                    yield (*path, key), f"key={key!r} must be one of: {known}; remove or rename it", True
        case "required":
            for key in rule:
                if key not in instance:
                    yield path, f"key={key!r} must be given; add it", False
        case "enum":
            yield path, f"{name}={shown} must be one of: {', '.join(map(str, rule))}; use one of them", False
        case "type":
            kinds = " or ".join([rule] if isinstance(rule, str) else rule)
            yield path, f"{name}={shown} must be of type {kinds}; correct it", False
        case "pattern":
            example = _EXAMPLES.get(rule)
            way_out = f"write for example {example}" if example else "correct it"
            yield path, f"{name}={shown} must match {rule}; {way_out}", False
        case _:
            said = re.sub(r"\s+", " ", error.message)
            yield path, f"{name}={shown} must follow the schema ({said[:200]}); correct it", False


_EXAMPLES = {
    "^[0-9]{1,15}(ms|s|m|h|d|w)$": "30m or 7d",
    "^(?:\\*|[A-Z]{2})$": "CN",
}


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
