"""From documents to settings, catalogue, channels, taxonomies, mappings and the transfer table."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

from dayfly.engine.catalog import Catalog, EventType, FieldSpec, FieldType
from dayfly.engine.errors import CatalogError
from dayfly.engine.intake.mapping import FileMapping, check_mapping, parse_mapping
from dayfly.engine.tags.literals import duration_text, field_text, read_duration, read_field, read_time
from dayfly.privacy.consent import platforms
from dayfly.privacy.consent.platforms import PlatformMapping
from dayfly.privacy.deident.masking import Band
from dayfly.privacy.errors import ConsentError, InvalidArgument
from dayfly.privacy.transfers.table import TransferTable, parse_transfer_table

from .context import Context, Spot
from .model import Channel, Settings

__all__ = [
    "read_catalog",
    "read_channels",
    "read_mappings",
    "read_settings",
    "read_taxonomies",
    "read_transfers",
]

_DURATIONS: Final = {
    "history": "history_ms",
    "allowed_lateness": "allowed_lateness_ms",
    "future_skew": "future_skew_ms",
}


def read_settings(context: Context) -> Settings:
    """Settings of all documents together; each may be given once."""
    given: dict[str, Any] = {}
    for document in context.of_kind("settings"):
        for key, value in document.data.items():
            spot = Spot(document, (key,))
            if key == "kind" or not context.sound(spot):
                continue
            name = str(_DURATIONS.get(key, key))
            if name in given:
                context.say(spot, f"{key}={value!r} must be set once; remove one of them")
                continue
            given[name] = read_duration(value) if key in _DURATIONS else value
            if isinstance(given[name], int) and given[name] <= 0:
                context.say(spot, f"{key}={value!r} must be above zero; raise it")
    settings = Settings(**given)
    for document in context.of_kind("settings"):
        if "tag_data_category" in document.data:
            spot = Spot(document, ("tag_data_category",))
            context.check_declared(spot, settings.tag_data_category, context.data_categories)
    if settings.allowed_lateness_ms > settings.history_ms:
        late, history = duration_text(settings.allowed_lateness_ms), duration_text(settings.history_ms)
        document = next(context.of_kind("settings"))
        context.say(
            Spot(document, ()), f"allowed_lateness={late} must be at most history={history}; shorten it"
        )
    return settings


def read_taxonomies(context: Context) -> None:
    """Declared purposes, topics and data categories, into `context`."""
    for section, known in (
        ("purposes", context.purposes),
        ("topics", context.topics),
        ("data_categories", context.data_categories),
    ):
        for spot, meaning in context.entries("consent", section):
            name = str(spot.path[1])
            if name in known:
                context.say_key(spot, f"{section}={name!r} must be declared once; remove one")
            known[name] = meaning


def read_channels(context: Context) -> tuple[Channel, ...]:
    """All channels, with what their consent banners grant."""
    grants = _platforms(context)
    channels: dict[str, Channel] = {}
    for spot, body in context.entries("channels", "channels"):
        name = str(spot.path[1])
        if name in channels:
            context.say_key(spot, f"channel={name!r} must be declared once; remove one")
            continue
        if "collect_under" in body:
            context.check_declared(spot.at("collect_under"), body["collect_under"], context.purposes)
        parsed, plain, _ = grants.get(name, (None, {}, spot))
        channels[name] = Channel(
            name=name,
            source=body.get("source", name),
            probe=body.get("probe", False),
            collect_under=body.get("collect_under"),
            consent_categories=MappingProxyType(plain),
            correct_clock_skew=body.get("correct_clock_skew", True),
            form=body.get("form", ""),
            consent=parsed,
        )
    for name in grants.keys() - channels.keys():
        context.say_key(
            grants[name][2], f"channel={name!r} must be declared; use one of: {', '.join(channels)}"
        )
    return tuple(channels.values())


def _platforms(context: Context) -> dict[str, tuple[PlatformMapping, dict[str, Any], Spot]]:
    """Consent banners by channel: parsed, their categories as plain values, and where they stand."""
    found: dict[str, tuple[PlatformMapping, dict[str, Any], Spot]] = {}
    for spot, body in context.entries("consent", "platforms"):
        name = str(spot.path[1])
        if name in found:
            context.say_key(spot, f"platform={name!r} must be given once; remove one")
        try:
            parsed = platforms.parse_mapping(body)
        except ConsentError as error:
            context.say(spot, str(error))
            continue
        _check_scopes(context, spot, parsed)
        found[name] = (parsed, body["categories"], spot)
    return found


def _check_scopes(context: Context, spot: Spot, mapping: PlatformMapping) -> None:
    for category, rule in mapping.categories.items():
        scope = spot.at("categories", category, "scope")
        for section, values, known in (
            ("purposes", rule.scope.purposes, context.purposes),
            ("topics", rule.scope.topics, context.topics),
            ("data_categories", rule.scope.data_categories, context.data_categories),
        ):
            for at, value in enumerate(values):
                context.check_declared(scope.at(section, at), value, known)


def read_catalog(context: Context, channels: tuple[Channel, ...]) -> Catalog:
    """All event types, over the channels."""
    types: dict[str, EventType] = {}
    for spot, body in context.entries("catalog", "events"):
        name = str(spot.path[1])
        if name in types:
            context.say_key(spot, f"event={name!r} must be declared once; remove one")
            continue
        fields = body.get("fields", {}).items()
        types[name] = EventType(
            name, tuple(_field(context, spot.at("fields", key), key, value) for key, value in fields)
        )
    return Catalog(tuple(types.values()), tuple(channel.name for channel in channels))


def _field(context: Context, spot: Spot, name: str, body: str | dict[str, Any]) -> FieldSpec:
    detail: dict[str, Any] = {"type": body} if isinstance(body, str) else body
    kind = FieldType(detail["type"])
    rule = detail.get("masking", "keep")
    try:
        read_field(field_text(f"properties.{name}"))
    except ValueError as error:
        context.say_key(spot, str(error))
    if isinstance(context.masking(spot.at("masking"), rule, kind), Band):
        message = "masking=band must not stand in the catalogue, it turns a number into text"
        context.say(spot.at("masking"), f"{message}; use truncate with decimals here, band in a trigger")
    return FieldSpec(name, kind, rule, detail.get("required", False))


def read_mappings(context: Context, catalog: Catalog) -> Mapping[str, FileMapping]:
    """File mappings by name, checked against the catalogue."""
    mappings: dict[str, FileMapping] = {}
    for document in context.of_kind("mapping"):
        spot = Spot(document, ())
        if not context.sound(spot):
            continue
        body = {key: value for key, value in document.data.items() if key not in ("kind", "name")}
        name = document.data["name"]
        if name in mappings:
            context.say(spot.at("name"), f"mapping={name!r} must be named once; rename one")
        try:
            mappings[name] = parse_mapping(body)
            check_mapping(mappings[name], catalog)
        except CatalogError as error:
            context.say(spot, str(error))
    return MappingProxyType(mappings)


def read_transfers(context: Context) -> TransferTable | None:
    """The cross-border table; None when the policy has none, and then nothing may leave the home country."""
    table: TransferTable | None = None
    for document in context.of_kind("transfers"):
        spot = Spot(document, ())
        if not context.sound(spot):
            continue
        if table is not None:
            context.say(spot, "transfers must be one document; merge the rows into the first")
            continue
        body = {key: value for key, value in document.data.items() if key != "kind"}
        try:
            table = parse_transfer_table({**body, "rows": [_row(row) for row in body["rows"]]})
        except (InvalidArgument, ValueError) as error:
            context.say(spot.at("rows"), str(error))
    return table


def _row(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row with its dates as milliseconds."""
    plain = dict(row)
    for key in ("valid_from", "valid_until"):
        plain[f"{key}_ms"] = int(read_time(plain.pop(key)))
    return plain
