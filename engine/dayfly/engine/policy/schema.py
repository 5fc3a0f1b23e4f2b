"""The JSON Schema of policy files (draft 2020-12), built from the same tables that the readers use.

`policy.schema.json` beside this module is `policy_schema()` as text; editors use it for completion and help. The loader
validates against it first, so that every finding of shape has its line.
"""

import json
from functools import cache
from importlib.resources import files
from typing import Any, Final

from dayfly.engine.catalog import FieldType
from dayfly.engine.tags.functions import FUNCTIONS, MEASURES, Kind
from dayfly.privacy.consent.record import TransferBasis
from dayfly.privacy.consent.taxonomy import COUNTRY_PATTERN, NAME_PATTERN, PATH_PATTERN
from dayfly.privacy.transfers.table import FieldClass

__all__ = ["KINDS", "SCHEMA_FILE", "policy_schema", "published_schema"]

Schema = dict[str, Any]
SCHEMA_FILE: Final = "policy.schema.json"
KINDS: Final = ("catalog", "channels", "consent", "settings", "mapping", "transfers", "tags", "triggers")
"""Kinds of documents, in the order in which they are put together."""

_FORMS: Final = ("segment", "rudderstack", "cloudevents", "jsonl", "csv", "parquet")
_OPERATORS: Final = ["==", "!=", "<", "<=", ">", ">="]
_SCALAR: Final[Schema] = {
    "description": 'Number, text, true, false, or {timestamp: "2026-01-01T00:00:00Z"}.',
    "type": ["string", "number", "boolean", "object"],
}


def _object(
    required: dict[str, Schema], optional: dict[str, Schema] | None = None, description: str = ""
) -> Schema:
    schema: Schema = {
        "type": "object",
        "properties": {**required, **(optional or {})},
        "required": list(required),
        "additionalProperties": False,
    }
    return {"description": description, **schema} if description else schema


def _map(values: Schema, description: str, names: Schema | None = None) -> Schema:
    schema: Schema = {"description": description, "type": "object", "additionalProperties": values}
    return {**schema, "propertyNames": names} if names else schema


def _text(description: str, **rules: object) -> Schema:
    return {"type": "string", "description": description, **rules}


def _ref(name: str) -> Schema:
    return {"$ref": f"#/$defs/{name}"}


def _list(items: Schema, description: str, **rules: object) -> Schema:
    return {"type": "array", "items": items, "description": description, **rules}


def _cases(key: str, cases: dict[str, Schema], description: str) -> Schema:
    """An object whose `key` chooses its schema; unlike `oneOf`, errors point at the part that is wrong."""
    return {
        "description": description,
        "type": "object",
        "properties": {key: {"enum": list(cases)}},
        "required": [key],
        "allOf": [
            {"if": {"properties": {key: {"const": name}}, "required": [key]}, "then": schema}
            for name, schema in cases.items()
        ],
    }


def _python_pattern(pattern: str) -> str:
    """A pattern in the dialect of JSON Schema."""
    return pattern.replace(r"\A", "^").replace(r"\Z", "$")


def _path(description: str) -> Schema:
    return _text(description, pattern=_python_pattern(PATH_PATTERN), maxLength=200)


def _duration(description: str) -> Schema:
    return _text(
        f"{description} A whole number and a unit: ms s m h d w.", pattern="^[0-9]{1,15}(ms|s|m|h|d|w)$"
    )


# --- tags ------------------------------------------------------------------------------------------------------------

_ARGUMENTS: Final[dict[Kind, Schema]] = {
    Kind.EVENT: _text("Event type of the catalogue."),
    Kind.FIELD: _text("Field, as properties.name."),
    Kind.WHERE: {"$ref": "#/$defs/predicate"},
    Kind.DURATION: _duration("Duration."),
    Kind.INTEGER: {"type": "integer"},
    Kind.STEPS: _list(_ref("match"), "Events in order.", minItems=1),
    Kind.MATCH: _ref("match"),
    Kind.TAG: _text("Name of another tag."),
}


def _typed(name: str, required: dict[str, Schema], optional: dict[str, Schema] | None = None) -> Schema:
    return _object({"type": {"const": name}, **required}, optional)


def _function(name: str) -> Schema:
    required = {item.name: _ARGUMENTS[item.kind] for item in FUNCTIONS[name] if item.required}
    optional = {item.name: _ARGUMENTS[item.kind] for item in FUNCTIONS[name] if not item.required}
    return _typed(name, required, optional)


def _joined(of: str) -> dict[str, Schema]:
    parts = {"parts": _list(_ref(of), "Two parts or more.", minItems=2)}
    return {"and": _typed("and", parts), "or": _typed("or", parts), "not": _typed("not", {"part": _ref(of)})}


def _tag_definitions() -> dict[str, Schema]:
    field = _text("Field, as properties.name, or channel.")
    operator: Schema = {"enum": _OPERATORS}
    text_test = {"field": field, "text": _text("Text to look for.")}
    predicates = {
        "compare": _typed("compare", {"field": field, "operator": operator, "value": _SCALAR}),
        "in": _typed("in", {"field": field, "values": _list(_SCALAR, "Values.", minItems=1)}),
        **{name: _typed(name, text_test) for name in ("contains", "startsWith", "endsWith")},
        "has": _typed("has", {"field": field}),
        **_joined("predicate"),
    }
    measures = {name: _function(name) for name in MEASURES}
    conditions = {
        "compare": _typed("compare", {"measure": _ref("measure"), "operator": operator, "value": _SCALAR}),
        **{name: _function(name) for name in FUNCTIONS if name not in MEASURES},
        **_joined("condition"),
    }
    return {
        "match": _object({"event": _ARGUMENTS[Kind.EVENT]}, {"where": _ref("predicate")}, "One event type."),
        "predicate": _cases("type", predicates, "A test of one event, as an object."),
        "measure": _cases("type", measures, "A value over a window, as an object."),
        "condition": _cases("type", conditions, "A condition, as an object."),
    }


def _either(definition: str, description: str) -> Schema:
    """Text, or the object form."""
    return {
        "description": description,
        "type": ["string", "object"],
        "if": {"type": "object"},
        "then": _ref(definition),
    }


_WHEN: Final = _either("condition", 'Condition, as text: count("Product Searched", within: 7d) > 5')
_WHERE: Final = _either("predicate", 'Test of the event, as text: properties.category == "sofa"')
_MEASURE: Final = _either("measure", 'Value, as text: last("Order Completed", properties.total, within: 30d)')
_VERSION: Final[Schema] = {
    "type": "integer",
    "minimum": 1,
    "description": "Raised by the author with each change of meaning.",
}


def _tags() -> dict[str, Schema]:
    tag = _object(
        {
            "tag": _text("Name, lower-case words joined by hyphens."),
            "purpose": _path("Purpose it is computed for; without consent for it nobody carries the tag."),
            "topic": _path("Topic that consent may be scoped to."),
            "when": _WHEN,
        },
        {
            "captures": _map(_MEASURE, "Values the tag carries while it holds, by name."),
            "version": _VERSION,
            "description": _text("For the reader."),
        },
        "One intent tag.",
    )
    return {"tags": _list(tag, "Intent tags.")}


# --- triggers --------------------------------------------------------------------------------------------------------

_MASKING: Final[Schema] = {
    "description": "keep, drop, or an object such as {mask: band, edges: [10, 50]} or {mask: truncate, characters: 2}.",
    "type": ["string", "object"],
    "if": {"type": "string"},
    "then": {"enum": ["keep", "drop"]},
}


def _event_match() -> Schema:
    return _object({"event": _ARGUMENTS[Kind.EVENT]}, {"where": _WHERE}, "An event.")


def _triggers() -> dict[str, Schema]:
    field: Schema = _object(
        {"data_category": _path("Data category that consent must cover.")},
        {
            "measure": _MEASURE,
            "tag": _text("Tag: alone, whether the person carries it; with capture, that value of it."),
            "capture": _text("Name of a captured value of the tag."),
            "masking": _MASKING,
            "sensitive": {
                "type": "boolean",
                "description": "Counts in the sensitive class of the cross-border table.",
            },
        },
        "One field of the fragment: a measure, or a tag.",
    )
    when: Schema = {
        "description": "An event, or the entry into a tag.",
        "type": "object",
        "if": {"required": ["tag"]},
        "then": _object({"tag": _text("Tag whose entry fires.")}),
        "else": _event_match(),
    }
    trigger = _object(
        {
            "trigger": _text("Name, lower-case words joined by hyphens."),
            "when": when,
            "audience": _text("The one CRM it is for.", pattern=_python_pattern(NAME_PATTERN)),
            "purpose": _path("Purpose that consent must cover."),
            "topic": _path("Topic that consent must cover."),
            "fields": {**_map(field, "Fields by claim name."), "minProperties": 1},
        },
        {
            "ttl": _duration("Life of the fragment, at most 30m."),
            "uses": {
                "type": ["integer", "null"],
                "minimum": 1,
                "description": "Leases allowed; none given: any number.",
            },
            "profile": {
                "enum": ["F0", "F1", "F2"],
                "description": "F1 sealed, F0 short and clear, F2 yes or no only.",
            },
            "cooldown": _duration("A second firing for the person within it is dropped."),
            "recipient_country": _text(
                "ISO 3166 country of the audience.", pattern=_python_pattern(COUNTRY_PATTERN)
            ),
            "version": _VERSION,
            "description": _text("For the reader."),
        },
        "One trigger: when, for whom, with which fields.",
    )
    contradiction = _object(
        {
            "name": _text("Name, lower-case words joined by hyphens."),
            "when": _event_match(),
            "field": _text("Field that has become untrue."),
            "values": _list(_text("Value."), "Values of the field that are untrue now.", minItems=1),
        },
        {
            "key_field": _text("Property that must be the same in both events."),
            "version": _VERSION,
            "description": _text("For the reader."),
        },
        "An event that recalls what live fragments say.",
    )
    return {
        "triggers": _list(trigger, "When a fragment is minted."),
        "contradictions": _list(contradiction, "What makes live fragments untrue."),
    }


# --- the other kinds -------------------------------------------------------------------------------------------------


def _catalog() -> dict[str, Schema]:
    kinds = [kind.value for kind in FieldType]
    detailed = _object(
        {"type": {"enum": kinds}},
        {
            "masking": _MASKING,
            "required": {"type": "boolean", "description": "An event without it is a dead letter."},
            "description": _text("For the reader."),
        },
    )
    field: Schema = {
        "description": "Type of the field, or type with masking, required and description.",
        "type": ["string", "object"],
        "if": {"type": "object"},
        "then": detailed,
        "else": {"enum": kinds},
    }
    event: Schema = {
        **_object(
            {},
            {
                "description": _text("For the reader."),
                "fields": _map(field, "Fields by name; dots lead into objects."),
            },
        ),
        "description": "One event type.",
    }
    return {
        "events": _map(
            event,
            "Event types by name. What is not declared is never read.",
            {"minLength": 1, "maxLength": 200},
        )
    }


def _channels() -> dict[str, Schema]:
    channel = _object(
        {},
        {
            "description": _text("For the reader."),
            "form": {"enum": list(_FORMS), "description": "What its bytes are."},
            "source": _text("Tells its message ids apart from other channels'."),
            "probe": {"type": "boolean", "description": "Identifiers are WiFi probe ids."},
            "collect_under": _path("Purpose without which its events are refused at the door."),
            "correct_clock_skew": {"type": "boolean", "description": "Shift times by received - sentAt."},
        },
        "A source of events.",
    )
    return {
        "channels": _map(
            channel, "Channels by name.", {"pattern": _python_pattern(NAME_PATTERN), "maxLength": 64}
        )
    }


def _consent() -> dict[str, Schema]:
    def taxonomy(what: str) -> Schema:
        names = {"pattern": _python_pattern(PATH_PATTERN), "not": {"const": "*"}, "maxLength": 200}
        return _map(
            _text("What it means."), f"{what}, by dotted path; each covers what lies below it.", names
        )

    platform: Schema = {
        "description": "What the categories of a channel's consent banner grant (dayfly.privacy.consent.PlatformMapping).",
        "type": "object",
        "required": ["categories"],
        "properties": {
            "categories": {"type": "object"},
            "terms": {"type": "object"},
            "notice": {"type": "object"},
        },
        "additionalProperties": False,
    }
    return {
        "purposes": taxonomy("Purposes"),
        "topics": taxonomy("Topics of interest"),
        "data_categories": taxonomy("Data categories"),
        "platforms": _map(platform, "By channel."),
    }


def _settings() -> dict[str, Schema]:
    def size(description: str) -> Schema:
        return {"type": "integer", "minimum": 1, "maximum": 10_000_000, "description": description}

    return {
        "history": _duration("How long events are kept; no window may be longer."),
        "allowed_lateness": _duration("An event older than this on arrival is a dead letter."),
        "future_skew": _duration("An event dated further ahead than this is a dead letter."),
        "controller": _text(
            "Who computes tags, as consents name the recipient.",
            pattern=_python_pattern(NAME_PATTERN),
            maxLength=200,
        ),
        "controller_country": _text("ISO 3166 country of the controller.", pattern="^[A-Z]{2}$"),
        "tag_data_category": _path("Data category that computing tags needs consent for."),
        "max_event_bytes": size("Largest event."),
        "max_depth": {**size("Deepest nesting of an event."), "maximum": 64},
        "max_properties": size("Most properties of an event."),
        "max_string_bytes": {**size("Longest text value."), "maximum": 1_048_575},
    }


def _mapping() -> dict[str, Schema]:
    source = {"type": "object"}
    return {
        "name": _text("Name of the mapping."),
        "channel": _text("Declared channel."),
        "event": {**source, "description": "{constant: Name} or {column: x, values: {cell: Name}}."},
        "id": {**source, "description": "{columns: [a, b]} or {row_digest: true}."},
        "subject": {**source, "description": "{column: x, kind: user | anonymous | probe}."},
        "time": {
            **source,
            "description": "{column: x, format: rfc3339 | epoch_s | epoch_ms | %Y-..., zone: Asia/Shanghai}.",
        },
        "fields": {**source, "description": "Our field: column, or {column, type, masking, values}."},
        "link": {**source, "description": "Another identifier of the same person, as subject."},
        "where": _list(source, "Tests a row must pass."),
        "explode": _text("JSON Lines: array whose elements become rows."),
        "delimiter": _text("CSV: one character.", minLength=1, maxLength=1),
    }


def _transfers() -> dict[str, Schema]:
    country = _text("ISO 3166-1 alpha-2.", pattern="^[A-Z]{2}$")
    date = _text('RFC 3339 time with zone, such as "2026-01-01T00:00:00+08:00".')
    row = _object(
        {
            "recipient_country": country,
            "recipient": _text("Who receives.", pattern=_python_pattern(NAME_PATTERN), maxLength=200),
            "field_class": {"enum": [kind.value for kind in FieldClass]},
            "legal_basis": {
                "enum": [basis.value for basis in TransferBasis if basis is not TransferBasis.NONE]
            },
            "valid_from": date,
            "valid_until": date,
            "list_version": _text("Version of the contract, certificate or list.", minLength=1),
        },
        description="One allowed path abroad.",
    )
    threshold = _object(
        {
            "name": _text("Shown in decisions.", minLength=1),
            "legal_bases": _list(_text("Legal path."), "The paths it limits.", minItems=1),
            "field_class": {"enum": [kind.value for kind in FieldClass]},
            "below": {
                "type": "integer",
                "minimum": 0,
                "description": "First head-count that the path no longer carries.",
            },
            "source": _text("Where the figure comes from.", minLength=1),
        },
        {
            "across_recipients": {
                "type": "boolean",
                "description": "Count people over all recipients together.",
            }
        },
        "A yearly head-count of distinct people that stops a transfer.",
    )
    return {
        "home_country": country,
        "rows": _list(row, "Rows of the cross-border table."),
        "thresholds": _list(threshold, "By default China's of March 2024."),
    }


def policy_schema() -> Schema:
    """The schema as a plain value."""
    bodies = {
        "catalog": _catalog(),
        "channels": _channels(),
        "consent": _consent(),
        "settings": _settings(),
        "mapping": _mapping(),
        "transfers": _transfers(),
        "tags": _tags(),
        "triggers": _triggers(),
    }
    needed = {
        "catalog": ["events"], "channels": ["channels"], "tags": ["tags"], "transfers": ["home_country", "rows"],
        "mapping": ["name", "channel", "event", "id", "subject", "time"],
    }  # fmt: skip
    cases = {}
    for kind in KINDS:
        required = {name: bodies[kind][name] for name in needed.get(kind, ())}
        optional = {name: schema for name, schema in bodies[kind].items() if name not in required}
        cases[kind] = _object({"kind": {"const": kind}, **required}, optional)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": "urn:dayfly:policy:1",
        "title": "Dayfly policy document",
        "description": "One document of a policy folder, or a list of them.",
        "if": {"type": "array"},
        "then": {"items": _ref("document")},
        "else": _ref("document"),
        "$defs": {"document": _cases("kind", cases, "A document; kind says which."), **_tag_definitions()},
    }


@cache
def published_schema() -> Schema:
    """The schema as published with the package."""
    schema: Schema = json.loads((files("dayfly.engine.policy") / SCHEMA_FILE).read_text(encoding="utf-8"))
    return schema
