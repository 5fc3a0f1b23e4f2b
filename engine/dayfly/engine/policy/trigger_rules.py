"""From documents to triggers and contradictions, each checked against catalogue, tags and taxonomies."""

import re
from collections.abc import Mapping
from typing import Any, Final

import orjson

from dayfly.engine.catalog import FieldType
from dayfly.engine.tags.check import is_kebab
from dayfly.engine.tags.literals import duration_text, field_text, read_duration
from dayfly.engine.tags.render import field_type
from dayfly.engine.tags.tree import Tag
from dayfly.engine.triggers import (
    Contradiction,
    FieldSource,
    OnEvent,
    OnTag,
    TagHeld,
    TagValue,
    Trigger,
    TriggerField,
)
from dayfly.privacy.consent.taxonomy import ANY
from dayfly.privacy.fragments.wire import RESERVED_NAMES

from .context import Context, Spot
from .tag_rules import declared_tags, read_checked_measure, read_match

__all__ = ["MAX_CLEAR_TTL_SECONDS", "MAX_FIELDS", "MAX_TTL_SECONDS", "read_contradictions", "read_triggers"]

MAX_TTL_SECONDS: Final = 1_800
"""Longest life of a fragment."""
MAX_CLEAR_TTL_SECONDS: Final = 300
"""Longest life of a clear fragment (profile F0)."""
MAX_FIELDS: Final = 64
"""Fields of one fragment."""
_CLAIM: Final = re.compile(r"[A-Za-z0-9_.:-]{1,64}", re.ASCII)


def read_triggers(context: Context, tags: tuple[Tag, ...]) -> tuple[Trigger, ...]:
    """All triggers; every finding about each is noted."""
    triggers: dict[str, Trigger] = {}
    for spot, body in context.entries("triggers", "triggers"):
        if body["trigger"] in triggers:
            context.say(spot.at("trigger"), f"trigger={body['trigger']!r} must be named once; rename one")
            continue
        trigger = _TriggerReader(context, spot, tags).trigger(body)
        if trigger is not None:
            triggers[trigger.name] = trigger
    return tuple(triggers.values())


class _TriggerReader:
    """Reads one trigger document."""

    def __init__(self, context: Context, spot: Spot, tags: tuple[Tag, ...]) -> None:
        self._context = context
        self._spot = spot
        self._tags = {tag.name: tag for tag in tags}
        self._declared = set(declared_tags(context))

    def trigger(self, body: Mapping[str, Any]) -> Trigger | None:
        """The trigger, or None when a part cannot be read; findings are noted."""
        profile = body.get("profile", "F1")
        self._heading(body)
        when = self._when(body["when"])
        fields = [
            self._field(self._spot.at("fields", name), value, profile)
            for name, value in body["fields"].items()
        ]
        if len(fields) > MAX_FIELDS:
            self._say("fields", f"fields={len(fields)} must be at most {MAX_FIELDS}; split the trigger")
        ttl_seconds = self._ttl(body, profile)
        cooldown_seconds = self._seconds("cooldown", body.get("cooldown", "0s"))
        read = [field for field in fields if field is not None]
        if when is None or len(read) < len(fields):
            return None
        return Trigger(
            name=body["trigger"],
            when=when,
            audience=body["audience"],
            purpose=body["purpose"],
            topic=body["topic"],
            fields=tuple(read),
            ttl_seconds=ttl_seconds,
            uses=body.get("uses"),
            profile=profile,
            cooldown_seconds=cooldown_seconds,
            recipient_country=body.get("recipient_country", "CN"),
            version=body.get("version", 1),
            text=orjson.dumps(body).decode(),
        )

    def _heading(self, body: Mapping[str, Any]) -> None:
        if not is_kebab(body["trigger"]):
            rule = f"trigger={body['trigger']!r} must be lower-case words joined by hyphens, at most 64 characters"
            self._say("trigger", f"{rule}; write a name such as install-service-tapped")
        for key in ("audience", "purpose", "recipient_country"):
            if body.get(key) == ANY:
                self._say(key, f"{key}='*' must be one value; write one trigger for each")
        self._context.check_declared(self._spot.at("purpose"), body["purpose"], self._context.purposes)
        self._context.check_declared(self._spot.at("topic"), body["topic"], self._context.topics)

    def _when(self, body: Mapping[str, Any]) -> OnEvent | OnTag | None:
        spot = self._spot.at("when")
        if "tag" in body:
            return OnTag(body["tag"]) if self._known_tag(spot.at("tag"), body["tag"]) else None
        match = read_match(self._context, spot, body)
        return None if match is None else OnEvent(match)

    def _field(self, spot: Spot, body: Mapping[str, Any], profile: str) -> TriggerField | None:
        name = str(spot.path[-1])
        if _CLAIM.fullmatch(name) is None or name in RESERVED_NAMES:
            rule = f"field={name!r} must be 1 to 64 letters, digits or _ . : - and no claim of the fragment itself"
            self._context.say_key(spot, f"{rule}; rename it")
        category = body["data_category"]
        self._context.check_declared(spot.at("data_category"), category, self._context.data_categories)
        source = self._source(spot, body)
        if source is None:
            return None
        kind, many = self._kind(source)
        masking = body.get("masking", "keep")
        self._context.masking(spot.at("masking"), masking, kind)
        if profile == "F2" and (kind is not FieldType.BOOLEAN or many or masking != "keep"):
            rule = f"field={name!r} must be true or false, unmasked, in profile F2"
            self._context.say_key(spot, f"{rule}; use a tag as its source, or profile F1")
        return TriggerField(name, source, category, masking, body.get("sensitive", False))

    def _source(self, spot: Spot, body: Mapping[str, Any]) -> FieldSource | None:
        if ("measure" in body) == ("tag" in body) or ("capture" in body and "tag" not in body):
            self._context.say_key(
                spot, "source must be measure, or tag, or tag with capture; give exactly one of them"
            )
            return None
        if "measure" in body:
            return read_checked_measure(self._context, spot.at("measure"), body["measure"])
        if not self._known_tag(spot.at("tag"), body["tag"]):
            return None
        if "capture" not in body:
            return TagHeld(body["tag"])
        names = [capture.name for capture in self._tags[body["tag"]].captures]
        if body["capture"] not in names:
            rule = f"capture={body['capture']!r} must be a captured value of tag {body['tag']!r}"
            self._context.say(spot.at("capture"), f"{rule}; use one of: {', '.join(names) or 'none'}")
            return None
        return TagValue(body["tag"], body["capture"])

    def _kind(self, source: FieldSource) -> tuple[FieldType | None, bool]:
        """Type of a source's value, and whether it is a list of such values."""
        if isinstance(source, TagHeld):
            return FieldType.BOOLEAN, False
        if isinstance(source, TagValue):
            captures = self._tags[source.tag].captures
            source = next(capture.measure for capture in captures if capture.name == source.capture)
        if source.field is None:
            return FieldType.NUMBER, False
        return field_type(
            self._context.catalog, source.match.event, source.field
        ), source.function == "distinct"

    def _known_tag(self, spot: Spot, name: str) -> bool:
        """Whether a tag can be used; one that is declared but refused was reported at its own place."""
        if name not in self._declared:
            known = ", ".join(sorted(self._declared)) or "none"
            self._context.say(spot, f"tag={name!r} must be declared; declare it or use one of: {known}")
        return name in self._tags

    def _ttl(self, body: Mapping[str, Any], profile: str) -> int:
        limit = MAX_CLEAR_TTL_SECONDS if profile == "F0" else MAX_TTL_SECONDS
        seconds = self._seconds("ttl", body["ttl"]) if "ttl" in body else limit
        if not 1 <= seconds <= limit:
            rule = f"ttl={body['ttl']!r} must lie between 1s and {duration_text(limit * 1000)} for profile {profile}"
            self._say("ttl", f"{rule}; shorten it")
        return seconds

    def _seconds(self, key: str, text: str) -> int:
        seconds, rest = divmod(read_duration(text), 1000)
        if rest:
            self._say(key, f"{key}={text!r} must be whole seconds; round it")
        return seconds

    def _say(self, key: str, message: str) -> None:
        self._context.say(self._spot.at(key), message)


# --- contradictions --------------------------------------------------------------------------------------------------


def read_contradictions(context: Context, triggers: tuple[Trigger, ...]) -> tuple[Contradiction, ...]:
    """All contradictions; every finding about each is noted."""
    read: dict[str, Contradiction] = {}
    for spot, body in context.entries("triggers", "contradictions"):
        name = body["name"]
        if not is_kebab(name) or name in read:
            rule = f"contradiction={name!r} must be lower-case words joined by hyphens, and named once"
            context.say(spot.at("name"), f"{rule}; rename it")
        _check_target(context, spot, body, triggers)
        key = _key_field(context, spot, body, triggers) if "key_field" in body else None
        match = read_match(context, spot.at("when"), body["when"])
        if match is not None:
            read[name] = Contradiction(
                name, match, body["field"], tuple(body["values"]), key, body.get("version", 1)
            )
    return tuple(read.values())


def _check_target(
    context: Context, spot: Spot, body: Mapping[str, Any], triggers: tuple[Trigger, ...]
) -> None:
    sections = (document.data.get("triggers") for document in context.of_kind("triggers"))
    bodies = [
        one for section in sections if isinstance(section, list) for one in section if isinstance(one, dict)
    ]
    names = {name for one in bodies if isinstance(one.get("fields"), dict) for name in one["fields"]}
    names |= {field.name for trigger in triggers for field in trigger.fields}
    if body["field"] not in names:
        rule = f"field={body['field']!r} must be a field of some trigger"
        context.say(spot.at("field"), f"{rule}; use one of: {', '.join(sorted(names)) or 'none'}")


def _key_field(context: Context, spot: Spot, body: Mapping[str, Any], triggers: tuple[Trigger, ...]) -> str:
    """Full path of the key property, declared in this event and in those of the triggers whose fragments it recalls."""
    name: str = "properties." + body["key_field"].removeprefix("properties.").replace("`", "")
    events = {body["when"]["event"]} | {
        trigger.when.match.event
        for trigger in triggers
        if isinstance(trigger.when, OnEvent) and any(field.name == body["field"] for field in trigger.fields)
    }
    for event in sorted(events):
        if context.catalog.type_index(event) >= 0 and field_type(context.catalog, event, name) is None:
            rule = f"key_field={field_text(name)!r} must be declared for event {event!r}, so that both events compare"
            context.say(spot.at("key_field"), f"{rule}; declare it")
    return name
