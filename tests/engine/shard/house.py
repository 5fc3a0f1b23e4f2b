"""A small furniture house: four kinds of events, a few words to write a life with, and the policy each test changes."""

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from dayfly.engine.catalog import Catalog, EventType, FieldSpec, FieldType
from dayfly.engine.decisions import Decisions, OrderMade
from dayfly.engine.events import Event, EventBatch
from dayfly.engine.inputs import ConsentGiven, Input
from dayfly.engine.policy.model import Channel, Policy, Settings
from dayfly.engine.shard.shard import Shard
from dayfly.engine.tags.text import parse_expression
from dayfly.engine.tags.tree import Capture, EventMatch, FieldComparison, Measure, MeasureName, Predicate, Tag
from dayfly.engine.triggers import Contradiction, FieldSource, OnEvent, Trigger, TriggerField
from dayfly.privacy.consent import ConsentRecord, ConsentState, Scope, Terms, TransferBasis, UseBudget
from dayfly.privacy.fragments import FragmentOrder

START = 1_767_225_600_000
SECOND, MINUTE, HOUR, DAY = 1_000, 60_000, 3_600_000, 86_400_000
ANN, BEN, CAT = (bytes([0xA0 + number] * 7 + [0x5C] * 9) for number in range(3))
TEXT, NUMBER = FieldType.STRING, FieldType.NUMBER

CATALOG = Catalog(
    types=(
        EventType("view", (FieldSpec("material", TEXT), FieldSpec("price", NUMBER))),
        EventType(
            "order",
            (FieldSpec("order_id", TEXT), FieldSpec("status", TEXT), FieldSpec("total", NUMBER)),
        ),
        EventType("cancel", (FieldSpec("order_id", TEXT),)),
        EventType("ping"),
    ),
    channels=("app", "web", "shop"),
)


def tag(name: str, text: str, *captures: Capture, purpose: str = "service", topic: str = "sofa") -> Tag:
    return Tag(name, purpose, topic, parse_expression(text), captures, text=text)


def match(event: str, field: str | None = None, value: str = "") -> EventMatch:
    where: Predicate | None = None if field is None else FieldComparison(f"properties.{field}", "==", value)
    return EventMatch(event, where)


def measure(
    function: MeasureName, event: str, field: str | None = None, within_ms: int = HOUR, **where: str
) -> Measure:
    found = match(event, *next(iter(where.items()))) if where else match(event)
    return Measure(function, found, within_ms, None if field is None else f"properties.{field}")


def shows(name: str, source: FieldSource, **more: Any) -> TriggerField:
    return TriggerField(name, source, more.pop("data_category", "behaviour"), **more)


STATUS = shows("status", measure("last", "order", "status"))
CANCELLED = Contradiction("cancelled", match("cancel"), "status", ("shipping", "paid"))
ON_ORDER = Trigger("on-order", OnEvent(match("order")), "crm", "service", "sofa", (STATUS,), text="on order")


def policy(**changes: Any) -> Policy:
    """The house's policy, by default with one trigger that tells the CRM the state of an order."""
    channels = tuple(Channel(name, name) for name in CATALOG.channels)
    settings = Settings(history_ms=2 * DAY, allowed_lateness_ms=HOUR, future_skew_ms=5 * MINUTE)
    usual = {"channels": channels, "settings": settings, "triggers": (ON_ORDER,)}
    return Policy(changes.pop("version", 1), CATALOG, **{**usual, **changes})


def with_trigger(**changes: Any) -> Policy:
    """The same with another form of that trigger."""
    return policy(triggers=(replace(ON_ORDER, **changes),))


_numbers = itertools.count(1)


def event(kind: str, at: int, subject: bytes = ANN, **properties: Any) -> Event:
    """One event at offset `at`; `link`, `channel`, `received`, `number` and `consent` may be given too."""
    number = properties.pop("number", None) or next(_numbers)
    link, channel = properties.pop("link", None), properties.pop("channel", "app")
    received, consent = properties.pop("received", at), properties.pop("consent", None)
    return Event(
        event_id=number.to_bytes(8, "big") + b"eventid!",
        channel=channel,
        subject=subject,
        type=kind,
        time_ms=START + at,
        received_ms=START + received,
        properties=properties,
        digest=number.to_bytes(8, "big") + b"digest!!",
        link=link,
        consent=consent,
    )


def grant(subject: bytes = ANN, at: int = 0, **changes: Any) -> ConsentGiven:
    """A yes of a person for a day, to service and marketing, all topics and everybody; `changes` narrow it."""
    until = changes.pop("until", 30 * DAY)
    every = ("*",)
    scope = {
        "purposes": ("service", "marketing"),
        "topics": every,
        "data_categories": every,
        "recipients": every,
        "channels": every,
        "recipient_countries": every,
    }
    scope |= {name: changes.pop(name) for name in list(changes) if name in scope}
    budget = UseBudget(
        max_uses=changes.pop("uses", None), restore_if_unopened=changes.pop("restore_if_unopened", False)
    )
    whose = changes.pop("principal", subject)
    record = {
        "record_id": f"r-{whose.hex()[:6]}-{at}-{len(scope['purposes'])}",
        "state": ConsentState.GIVEN,
        "time_ms": START + at,
        "valid_from_ms": START + at,
        "valid_until_ms": START + until,
    }
    made = ConsentRecord(
        principal=whose.hex(),
        scope=Scope(**scope),
        use=budget,
        terms=Terms(transfer_basis=TransferBasis.CONTRACT),
        **{**record, **changes},
    )
    return ConsentGiven(START + at, subject, made)


@dataclass(slots=True)
class House:
    """A shard of the house and everything it decided."""

    shard: Shard
    made: list[Decisions]

    @classmethod
    def of(cls, rules: Policy | None = None) -> "House":
        return cls(Shard(rules or policy()), [])

    def tell(self, *told: Event | Input, at: int | None = None) -> Decisions:
        """Tell it events and other inputs in order; afterwards the clock is at `at`, by default at the last of them."""
        inputs: list[Input] = []
        for batched, items in itertools.groupby(told, lambda item: isinstance(item, Event)):
            group: Iterable[Any] = items
            inputs += (
                [EventBatch.from_events(list(group), self.shard.policy.catalog)] if batched else list(group)
            )
        ends = [item.received_ms if isinstance(item, Event) else _instant(item) for item in told]
        made = self.shard.apply(inputs, max(ends) if at is None else START + at)
        self.made.append(made)
        return made

    def order(self, *told: Event | Input, at: int | None = None) -> FragmentOrder:
        """Tell it something that makes exactly one order."""
        return one(self.tell(*told, at=at).orders).order


def _instant(item: Input) -> int:
    return int(item.received_ms[-1]) if isinstance(item, EventBatch) else item.at_ms


def one(found: Sequence[OrderMade]) -> OrderMade:
    """The only order."""
    assert len(found) == 1, found
    return found[0]
