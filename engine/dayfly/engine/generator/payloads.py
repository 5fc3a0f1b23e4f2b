"""The channels' own formats: what an SDK, a sensor, a marketplace export or a telephone system would have sent."""

import csv
import io
from collections.abc import Callable, Mapping
from typing import Final, Literal, TypeAlias

import orjson

from .draw import Draw
from .people import Person
from .sessions import Action
from .times import iso_ms

__all__ = ["FORMS", "MARKETPLACE_COLUMNS", "Form", "render"]

Form: TypeAlias = Literal["segment", "rudderstack", "cloudevents", "csv", "jsonl"]

FORMS: Final[Mapping[str, Form]] = {
    "app": "segment",
    "web": "rudderstack",
    "wifi": "cloudevents",
    "marketplace": "csv",
    "hotline": "jsonl",
}

MARKETPLACE_COLUMNS: Final = (
    "row_id",
    "buyer",
    "event",
    "order_id",
    "total",
    "currency",
    "category",
    "occurred_at",
    "exported_at",
)


def render(person: Person, action: Action, sent_ms: int, draw: Draw) -> bytes:
    """Bytes of `action`, sent at `sent_ms` true time, in its channel's format; phones write their own clock, skew included."""
    return _RENDER[action.channel](person, action, sent_ms, draw)


def _segment(person: Person, action: Action, sent_ms: int, draw: Draw) -> bytes:
    context: dict[str, object] = {
        "library": {"name": "analytics-kotlin", "version": "1.19.2"},
        "device": {"type": "android"},
        "locale": "zh-CN",
    }
    if action.consent:
        context["consent"] = {"categoryPreferences": person.consent or {}}
    message = _spec_message(person, action, draw, anonymous_id=person.app_id, view="screen")
    message["context"] = context
    message["timestamp"] = iso_ms(action.at_ms + person.skew_ms)
    message["sentAt"] = iso_ms(sent_ms + person.skew_ms)
    return orjson.dumps(message)


def _rudder(person: Person, action: Action, sent_ms: int, draw: Draw) -> bytes:
    context: dict[str, object] = {
        "library": {"name": "RudderLabs JavaScript SDK", "version": "3.21.0"},
        "page": {"path": "/", "referrer": "$direct"},
        "locale": "zh-CN",
    }
    if action.consent:
        choices = person.consent or {}
        context["consentManagement"] = {
            "provider": "custom",
            "resolutionStrategy": "and",
            "allowedConsentIds": [category for category, allowed in choices.items() if allowed],
            "deniedConsentIds": [category for category, allowed in choices.items() if not allowed],
        }
    message = _spec_message(person, action, draw, anonymous_id=person.web_id, view="page")
    message["channel"] = "web"
    message["context"] = context
    message["originalTimestamp"] = iso_ms(action.at_ms)
    message["sentAt"] = iso_ms(sent_ms)
    return orjson.dumps(message)


def _spec_message(
    person: Person, action: Action, draw: Draw, *, anonymous_id: str, view: Literal["page", "screen"]
) -> dict[str, object]:
    """The part that Segment's and RudderStack's specifications share."""
    kind = view if action.kind == "view" else action.kind
    message: dict[str, object] = {
        "type": kind,
        "messageId": f"msg-{draw.token(96)}",
        "anonymousId": anonymous_id,
    }
    if action.channel in person.known_on:
        message["userId"] = person.user_id
    if kind == "identify":
        message["traits"] = action.properties
    elif kind == "alias":
        del message["anonymousId"]
        message["previousId"] = anonymous_id
    else:
        message["name" if kind == view else "event"] = action.name
        message["properties"] = action.properties
    return message


def _cloudevent(person: Person, action: Action, sent_ms: int, draw: Draw) -> bytes:
    return orjson.dumps(
        {
            "specversion": "1.0",
            "id": f"w-{draw.token(64)}",
            "source": f"/stores/{person.store}/wifi",
            "type": action.name,
            "time": iso_ms(action.at_ms),
            "subject": f"probe:{action.actor}",
            "datacontenttype": "application/json",
            "recordedtime": iso_ms(sent_ms),
            "data": action.properties,
        }
    )


def _marketplace_row(person: Person, action: Action, sent_ms: int, draw: Draw) -> bytes:
    del person  # the marketplace knows its own buyer names only
    order = action.properties
    verb = {"Order Completed": "placed", "Order Cancelled": "cancelled", "Order Shipped": "shipped"}[
        action.name
    ]
    values = {
        "row_id": draw.token(64),
        "buyer": action.actor,
        "event": verb,
        "order_id": order["order_id"],
        "total": order["total"],
        "currency": "CNY",
        "category": order["category"],
        "occurred_at": iso_ms(action.at_ms),
        "exported_at": iso_ms(sent_ms),
    }
    text = io.StringIO()
    csv.writer(text, lineterminator="").writerow(values[column] for column in MARKETPLACE_COLUMNS)
    return text.getvalue().encode()


def _hotline_line(person: Person, action: Action, sent_ms: int, draw: Draw) -> bytes:
    del person
    return orjson.dumps(
        {
            "call_id": f"c-{draw.token(64)}",
            "customer": action.actor,
            "event": action.name,
            "started_at": iso_ms(action.at_ms),
            "logged_at": iso_ms(sent_ms),
            **action.properties,
        }
    )


_RENDER: Final[Mapping[str, Callable[[Person, Action, int, Draw], bytes]]] = {
    "app": _segment,
    "web": _rudder,
    "wifi": _cloudevent,
    "marketplace": _marketplace_row,
    "hotline": _hotline_line,
}
