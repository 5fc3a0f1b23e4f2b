"""Which of a person's events a measure looks at, the plain way: every event is asked."""

from collections.abc import Sequence
from typing import Any

from dayfly.engine.events import Event
from dayfly.engine.tags.tree import EventMatch

from .predicates import passes

__all__ = ["matching"]


def _present(event: Event) -> dict[str, Any]:
    return {name: value for name, value in event.properties.items() if value is not None}


def matching(
    events: Sequence[Event], match: EventMatch, after_ms: int, *, field: str | None = None
) -> list[int]:
    """Places of the events that match, with time > `after_ms` and `field` present: newest first, then last arrived."""
    places = [
        place
        for place, event in enumerate(events)
        if event.type == match.event
        and event.time_ms > after_ms
        and (match.where is None or passes(match.where, _present(event), event.channel))
        and (field is None or field in event.properties)
    ]
    return sorted(places, key=lambda place: (-events[place].time_ms, -place))
