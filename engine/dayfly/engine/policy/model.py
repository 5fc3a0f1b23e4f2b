"""A policy: everything an officer or engineer declares, as one frozen value."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from dayfly.engine.catalog import Catalog
from dayfly.engine.tags.tree import Tag
from dayfly.engine.triggers import Contradiction, Trigger
from dayfly.privacy.consent.platforms import PlatformMapping
from dayfly.privacy.transfers.table import TransferTable

__all__ = ["Channel", "Policy", "Settings"]

DAY_MS = 86_400_000


@dataclass(frozen=True, slots=True)
class Settings:
    """Engine-wide settings; each has a safe default.

    Attributes:
        history_ms: How long events are kept for windows and rule edits; no window may be longer.
        allowed_lateness_ms: An event older than this on arrival is a dead letter; also how long event ids are remembered.
        future_skew_ms: An event dated further ahead than this is a dead letter; one within it waits for its time.
        controller, controller_country: Who computes tags, as the recipient that consent must name.
        tag_data_category: Data category that computing tags needs consent for.
        max_event_bytes, max_depth, max_properties, max_string_bytes: Intake limits.
    """

    history_ms: int = 400 * DAY_MS
    allowed_lateness_ms: int = 7 * DAY_MS
    future_skew_ms: int = 5 * 60_000
    controller: str = "cdp"
    controller_country: str = "CN"
    tag_data_category: str = "behaviour"
    max_event_bytes: int = 32_768
    max_depth: int = 12
    max_properties: int = 256
    max_string_bytes: int = 4_096


@dataclass(frozen=True, slots=True)
class Channel:
    """A declared source of events.

    Attributes:
        name: Unique name.
        source: Value that tells its duplicates apart from other channels' (part of the event id).
        probe: Identifiers are WiFi probe ids: pseudonyms rotate daily.
        collect_under: Purpose without which events of this channel are refused at the door, or None.
        consent_categories: Category id -> grant, for consent objects inside events (see `dayfly.privacy.consent`).
        correct_clock_skew: Shift event times by `received - sentAt` as the Segment spec says.
        form: What its bytes are: segment, rudderstack, cloudevents, jsonl, csv, parquet, or "" when not said.
        consent: The same categories parsed, with terms and notice; None when the channel has none.
    """

    name: str
    source: str = ""
    probe: bool = False
    collect_under: str | None = None
    consent_categories: Mapping[str, object] = field(default_factory=lambda: MappingProxyType({}))
    correct_clock_skew: bool = True
    form: str = ""
    consent: PlatformMapping | None = None


@dataclass(frozen=True, slots=True)
class Policy:
    """All declarations of one version.

    `version` rises with each publication; `digest` is SHA-256 over the canonical documents; `source` is those documents,
    so that a snapshot can carry the policy and a reader can see what was in force.
    `transfers` are the rows of `transfer_table` as plain values; without a table nothing may cross a border.
    `purposes`, `topics` and `data_categories` are the declared taxonomies: dotted path -> what it means.
    """

    version: int
    catalog: Catalog
    channels: tuple[Channel, ...] = ()
    tags: tuple[Tag, ...] = ()
    triggers: tuple[Trigger, ...] = ()
    contradictions: tuple[Contradiction, ...] = ()
    settings: Settings = field(default_factory=Settings)
    mappings: Mapping[str, object] = field(default_factory=lambda: MappingProxyType({}))
    transfers: tuple[Mapping[str, object], ...] = ()
    transfer_table: TransferTable | None = None
    purposes: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    topics: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    data_categories: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    source: bytes = b""
    digest: bytes = b""
