"""Queries as YAML or JSON documents, for services and for the shell. Reading one back gives the same query."""

import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any, ClassVar, Final

import msgspec
import yaml

from dayfly.privacy.errors import InvalidQuery

from .language import text_from
from .numbers import Budget
from .queries import Derive, Query, Step, Where

__all__ = ["QueryDocument", "canonical", "digest_of", "parse_document", "query_schema", "to_json", "to_yaml"]

_FORMAT: Final = "dayfly-query-1"
_LONGEST: Final = 1 << 20


class _Loader(yaml.SafeLoader):
    """Safe YAML without guesses: NO is a text, a date is a text; no aliases, no key twice."""

    yaml_implicit_resolvers: ClassVar[dict[str, list[tuple[str, re.Pattern[str]]]]] = {}  # type: ignore[misc]  # a class variable there too

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        """Refuse aliases."""
        if self.check_event(yaml.events.AliasEvent):
            raise yaml.YAMLError("aliases are not allowed")
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:  # noqa: FBT001, FBT002 - its signature
        """Refuse a key that is there twice."""
        keys = [key.value for key, _ in node.value]
        if len(set(keys)) != len(keys):
            raise yaml.YAMLError(f"a key is there twice on line {node.start_mark.line + 1}")
        return super().construct_mapping(node, deep)


class _Dumper(yaml.SafeDumper):
    """Quotes what `_Loader` would take for something else."""

    yaml_implicit_resolvers: ClassVar[dict[str, list[tuple[str, re.Pattern[str]]]]] = {}  # type: ignore[misc]  # a class variable there too


for _tag, _pattern, _first in (
    ("bool", r"true|false", "tf"),
    ("int", r"[-+]?(0|[1-9][0-9]*)", "-+0123456789"),
    ("float", r"[-+]?([0-9]+\.[0-9]*|\.[0-9]+|[0-9]+(?=[eE]))([eE][-+]?[0-9]+)?", "-+0123456789."),
    ("null", r"~|null|", ["~", "n", ""]),
):
    for _side in (_Loader, _Dumper):
        _side.add_implicit_resolver(
            f"tag:yaml.org,2002:{_tag}", re.compile(rf"(?:{_pattern})\Z"), list(_first)
        )


class QueryDocument(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, kw_only=True
):
    """A query and, where a service should answer it, what it may cost.

    Attributes:
        query: What is asked.
        budget: What it may cost.
        format: Version of the document.
    """

    query: Query
    budget: Budget | None = None
    format: str = _FORMAT


def canonical(query: Query) -> Query:
    """The same query with its expressions in the one way in which they are printed.

    Raises:
        InvalidQuery: a text is no expression.
    """
    return msgspec.structs.replace(query, steps=tuple(_canonical_step(step) for step in query.steps))


def _canonical_step(step: Step) -> Step:
    if isinstance(step, Where):
        return Where(condition=text_from(step.condition))
    if isinstance(step, Derive):
        return Derive(columns={name: text_from(text) for name, text in step.columns.items()})
    return step


def digest_of(query: Query) -> bytes:
    """SHA-256 of a query's canonical JSON: what ledgers and results name it by (32 bytes)."""
    return hashlib.sha256(msgspec.json.encode(canonical(query), order="sorted")).digest()


def parse_document(text: str | bytes) -> QueryDocument:
    """A document from YAML or JSON.

    Args:
        text: At most 1 MiB, UTF-8.

    Raises:
        InvalidQuery: it is none; the message names the place.
    """
    if len(text) > _LONGEST:
        raise InvalidQuery(
            f"document of {len(text)} characters must have at most {_LONGEST}; ask less at once"
        )
    try:
        found = _read(text if isinstance(text, str) else text.decode())
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError, ValueError) as error:
        raise InvalidQuery(f"document must be YAML or JSON ({_one_line(error)}); check its syntax") from None
    try:
        document = msgspec.convert(found, QueryDocument)
    except msgspec.ValidationError as error:
        raise InvalidQuery(f"document must be a query ({error}); `query_schema()` describes one") from None
    if document.format != _FORMAT:
        raise InvalidQuery(
            f"format={document.format!r} must be {_FORMAT!r}; read it with the release that wrote it"
        )
    return msgspec.structs.replace(document, query=canonical(document.query))


def _read(text: str) -> Any:
    """JSON where it begins like an object, else YAML."""
    if text.lstrip().startswith("{"):
        return json.loads(text, object_pairs_hook=_pairs)
    return yaml.load(text, _Loader)  # noqa: S506 - a safe loader with fewer guesses


def _pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key is there twice")
    return found


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())


def to_json(document: QueryDocument) -> str:
    """The document as indented JSON."""
    return json.dumps(_builtins(document), ensure_ascii=False, indent=2) + "\n"


def to_yaml(document: QueryDocument) -> str:
    """The document as YAML."""
    return yaml.dump(_builtins(document), Dumper=_Dumper, allow_unicode=True, sort_keys=False)


def _builtins(document: QueryDocument) -> Mapping[str, Any]:
    return {"format": document.format, **msgspec.to_builtins(document)}


def query_schema() -> dict[str, Any]:
    """JSON Schema (2020-12) of a document."""
    return msgspec.json.schema(QueryDocument)
