"""Declarative triggers: when a consented moment mints a fragment, for whom, with which fields, and what contradicts it."""

from dataclasses import dataclass
from typing import Literal, TypeAlias

from dayfly.engine.tags.tree import EventMatch, Measure

__all__ = [
    "Contradiction",
    "FieldSource",
    "OnEvent",
    "OnTag",
    "TagHeld",
    "TagValue",
    "Trigger",
    "TriggerField",
]


@dataclass(frozen=True, slots=True)
class OnEvent:
    """Fires on each accepted event that matches."""

    match: EventMatch


@dataclass(frozen=True, slots=True)
class OnTag:
    """Fires when the tag is entered."""

    tag: str


@dataclass(frozen=True, slots=True)
class TagHeld:
    """Field source: whether the person carries the tag, as a boolean."""

    tag: str


@dataclass(frozen=True, slots=True)
class TagValue:
    """Field source: a captured value of a tag; left out while the tag does not hold."""

    tag: str
    capture: str


FieldSource: TypeAlias = Measure | TagHeld | TagValue
"""What a field shows: a measure over a window (`last` of a property, a count ...), a tag, or a tag's captured value."""


@dataclass(frozen=True, slots=True)
class TriggerField:
    """One field of the fragment.

    Attributes:
        name: Claim name in the fragment.
        source: Where the value comes from.
        data_category: Data category that consent must cover.
        masking: Masking rule as in `dayfly.privacy.deident`, applied before the value leaves the engine.
        sensitive: Counted in the sensitive class of the cross-border table.
    """

    name: str
    source: FieldSource
    data_category: str
    masking: object = "keep"
    sensitive: bool = False


@dataclass(frozen=True, slots=True)
class Trigger:
    """One trigger document.

    Attributes:
        when: Event or tag that fires it.
        audience: The one CRM (recipient) the fragment is for.
        purpose, topic: What consent must cover.
        ttl_seconds: Life of the fragment, at most 1800.
        uses: Leases allowed, or None for any number within the life.
        profile: Fragment profile: F1 sealed SD-JWT, F0 short clear JWT, F2 answer only.
        cooldown_seconds: A second firing for the same person within it is not an order (0: every firing).
        recipient_country: ISO 3166 country of the audience, for the cross-border table.
        text: The document as text, shown by lineage.
    """

    name: str
    when: OnEvent | OnTag
    audience: str
    purpose: str
    topic: str
    fields: tuple[TriggerField, ...]
    ttl_seconds: int = 1800
    uses: int | None = None
    profile: Literal["F0", "F1", "F2"] = "F1"
    cooldown_seconds: int = 0
    recipient_country: str = "CN"
    version: int = 1
    text: str = ""


@dataclass(frozen=True, slots=True)
class Contradiction:
    """An event that makes live fragments untrue: those whose field `field` has one of `values` are superseded.

    When `key_field` is set, only fragments whose triggering event has the same value in that property are superseded
    (cancelling order 7 does not recall what was said about order 8).
    """

    name: str
    when: EventMatch
    field: str
    values: tuple[str, ...]
    key_field: str | None = None
    version: int = 1
