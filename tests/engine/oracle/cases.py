"""Small words to write a person's life with, so that a case fits a line and its answer can be worked out by hand."""

from collections.abc import Iterable, Sequence
from typing import Any

from dayfly.engine.catalog import Catalog, EventType, FieldSpec, FieldType
from dayfly.engine.events import Event, EventBatch
from dayfly.engine.policy.model import Channel, Policy, Settings
from dayfly.engine.tags.tree import EventMatch, Expression, Predicate, Tag
from tests.oracles.consent_rules import ConsentRules, Everyone
from tests.oracles.membership import OracleEngine

SECOND = 1_000
START = 1_000_000
"""Where offsets count from: the oracle's clock never starts at zero."""

ANN, BEN, CAT = bytes([1] * 16), bytes([2] * 16), bytes([3] * 16)

CATALOG = Catalog(
    types=(
        EventType(
            "view",
            (
                FieldSpec("material", FieldType.STRING),
                FieldSpec("price", FieldType.NUMBER),
                FieldSpec("sale", FieldType.BOOLEAN),
                FieldSpec("due", FieldType.TIME),
            ),
        ),
        EventType("cart", (FieldSpec("price", FieldType.NUMBER),)),
        EventType("order"),
        EventType("cancel"),
    ),
    channels=("app", "shop"),
)

_ids = iter(range(1, 10**9))


def event(kind: str, at: int, *, received: int | None = None, subject: bytes = ANN, **fields: Any) -> Event:
    """An event of `kind` at offset `at`; `id`, `link` and `channel` may be given among the fields."""
    number = fields.pop("id", None) or next(_ids)
    link, channel = fields.pop("link", None), fields.pop("channel", "app")
    return Event(
        event_id=int(str(number)).to_bytes(16, "big"),
        channel=str(channel),
        subject=subject,
        type=kind,
        time_ms=START + at,
        received_ms=START + (at if received is None else received),
        properties=fields,
        link=link if isinstance(link, bytes) else None,
    )


def batch(*events: Event, catalog: Catalog = CATALOG) -> EventBatch:
    """The events as they would arrive."""
    return EventBatch.from_events(events, catalog)


def tag(when: Expression, *, name: str = "t", purpose: str = "service", topic: str = "furniture") -> Tag:
    """A tag with this condition."""
    return Tag(name, purpose, topic, when)


def policy(
    *tags: Tag, settings: Settings | None = None, collect_under: str | None = None, version: int = 1
) -> Policy:
    """A policy of these tags; `collect_under` is for the channel ``shop``."""
    channels = (Channel("app"), Channel("shop", collect_under=collect_under))
    limits = settings or Settings(history_ms=10**6, allowed_lateness_ms=10**5, future_skew_ms=10**4)
    return Policy(version, CATALOG, channels, tags, settings=limits)


def oracle(
    *tags: Tag, consents: ConsentRules | None = None, track: bool = False, **more: Any
) -> OracleEngine:
    """An oracle over these tags, by default with everybody's consent."""
    return OracleEngine(policy(*tags, **more), consents or Everyone(), track=track, untils=track)


def match(kind: str, where: Predicate | None = None) -> EventMatch:
    """Events of `kind` that pass `where`."""
    return EventMatch(kind, where)


def holds_at(when: Expression, events: Iterable[Event], at: int) -> bool:
    """Whether Ann carries a tag with this condition at offset `at`, after these events in order of receipt."""
    engine = oracle(tag(when))
    arrived: Sequence[Event] = sorted(events, key=lambda item: item.received_ms)
    engine.apply([batch(*arrived)], START + at)
    return engine.member(ANN, "t", START + at)
