"""Events for the meter, and frames of them."""

import random
from dataclasses import replace

from dayfly.engine.catalog import Catalog, EventType, FieldSpec, FieldType
from dayfly.engine.events import Event, Value

T0 = 1_795_305_600_000
"""Begins an hour, and a day."""

CATALOG = Catalog(
    types=(
        EventType("$alias"),
        EventType(
            "Viewed",
            (
                FieldSpec("id", FieldType.STRING, required=True),
                FieldSpec("price", FieldType.NUMBER),
                FieldSpec("new", FieldType.BOOLEAN),
            ),
        ),
        EventType("Ping"),
        EventType("Searched", (FieldSpec("query", FieldType.STRING), FieldSpec("at", FieldType.TIME))),
    ),
    channels=("app", "web", "wifi"),
)


def some_events(draw: random.Random, number: int, now_ms: int) -> list[Event]:
    """Events of all types and channels, late by anything up to some weeks, with fields missing here and there."""
    return [_event(draw, now_ms) for _ in range(number)]


def _event(draw: random.Random, now_ms: int) -> Event:
    every: dict[str, Value] = {"id": "x7", "price": 12, "new": True, "query": "sofa", "at": now_ms}
    properties = {name: value for name, value in every.items() if draw.random() < 0.7}
    late_ms = draw.choice([0, -200, 1, draw.randrange(1_000), int(2 ** draw.uniform(0, 32))])
    return Event(
        event_id=draw.randbytes(16),
        channel=draw.choice(CATALOG.channels),
        subject=draw.randbytes(16),
        type=draw.choice(["$alias", "Viewed", "Viewed", "Ping", "Searched", "Unknown"]),
        time_ms=now_ms - late_ms,
        received_ms=now_ms,
        properties=properties,
    )


def of_channel(events: list[Event], channel: str) -> list[Event]:
    return [replace(event, channel=channel) for event in events]
