"""What a Segment payload means, restated slowly: `json`, `datetime`, `Decimal` and `hashlib`, no code of the engine's.

The answer is a plain dict per accepted call, or the reason why it is none; only what the general rule decides is here
(no limits on shape), and the payload is known to be an object that `json` reads without duplicate names.
"""

import hashlib
import json
from datetime import datetime, timedelta, timezone
from decimal import ROUND_HALF_EVEN, Decimal
from typing import Any

CALLS = ("track", "page", "screen", "identify", "group", "alias")
EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)  # noqa: UP017 - the long way round, on purpose


class Refused(Exception):  # noqa: N818 - a result of the oracle
    def __init__(self, reason: Any) -> None:
        super().__init__(reason)
        self.reason = reason


def _short(text: str) -> bytes:
    return hashlib.blake2b(text.encode(), digest_size=16).digest()


def pseudonym(tenant: Any, key: Any, kind: Any, raw: Any) -> Any:
    """Keyed BLAKE2b-128 of the identifier, salted by tenant and personalised by kind."""
    return hashlib.blake2b(
        raw.encode(), key=key, digest_size=16, salt=_short(tenant), person=_short(kind)
    ).digest()


def event_id(digest_key: Any, source: Any, message: Any) -> Any:
    channel = hashlib.blake2b(
        source.encode(), key=digest_key, digest_size=32, person=b"dayfly.event-id"
    ).digest()
    return hashlib.blake2b(message, key=channel, digest_size=16).digest()


def digest(digest_key: Any, raw: Any) -> Any:
    return hashlib.blake2b(raw, key=digest_key, digest_size=16, person=b"dayfly.digest").digest()


def micro(value: Any) -> Any:
    number = Decimal(repr(value) if isinstance(value, float) else value)
    if abs(number) > 10**9:
        raise Refused("number_out_of_range")
    return int((number * 10**6).to_integral_value(ROUND_HALF_EVEN))


def milliseconds(text: Any) -> Any:
    """RFC 3339 by `strptime`, the fraction cut by hand."""
    if not isinstance(text, str):
        raise Refused("bad_time")
    body, offset = text, timedelta(0)
    if body[-1:] in ("Z", "z"):
        body = body[:-1]
    elif len(body) > 6 and body[-6] in "+-" and body[-3] == ":":
        sign = -1 if body[-6] == "-" else 1
        hours, minutes = int(body[-5:-3]), int(body[-2:])
        if hours > 23 or minutes > 59:
            raise Refused("bad_time")
        offset, body = sign * timedelta(hours=hours, minutes=minutes), body[:-6]
    else:
        raise Refused("bad_time")
    whole, point, fraction = body.partition(".")
    if (point and not (fraction.isascii() and fraction.isdigit())) or len(whole) != 19:
        raise Refused("bad_time")
    try:
        moment = datetime.strptime(whole.upper().replace(" ", "T"), "%Y-%m-%dT%H:%M:%S").replace(
            tzinfo=EPOCH.tzinfo
        )
    except ValueError:
        raise Refused("bad_time") from None
    if moment.second > 59:
        raise Refused("bad_time")
    return (
        (moment - EPOCH) // timedelta(milliseconds=1)
        + int((fraction + "000")[:3])
        - offset // timedelta(milliseconds=1)
    )


def identifier(value: Any) -> Any:
    if value is None or value == "":
        return None
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise Refused("bad_identifier")
    return str(value)


def member(value: Any, path: Any) -> Any:
    for step in path.split("."):
        if not isinstance(value, dict) or step not in value:
            return None
        value = value[step]
    return value


def fits(value: Any, kind: Any) -> Any:
    """The cell of a declared value: text, number, truth, milliseconds."""
    if kind == "string" and isinstance(value, str):
        return value
    if kind == "boolean" and isinstance(value, bool):
        return value
    if kind == "number" and isinstance(value, int | float) and not isinstance(value, bool):
        return Decimal(micro(value)) / 10**6
    if kind == "time" and isinstance(value, str):
        return milliseconds(value)
    if kind == "time" and isinstance(value, int) and not isinstance(value, bool):
        return value
    raise Refused("type_mismatch")


def read_call(  # noqa: C901, PLR0912 - the whole rule in one place, as a reader would state it
    raw: Any,
    *,
    tenant: Any,
    key: Any,
    digest_key: Any,
    source: Any,
    fields: Any,
    received_ms: Any,
    skew: Any = True,
    future_ms: Any,
    late_ms: Any,
) -> Any:
    """One call.

    `fields` maps event type name to a list of (path, type, required). Returns a dict of the event.
    """
    payload = json.loads(raw)
    call = payload.get("type")
    if call not in CALLS:
        raise Refused("unknown_kind")
    name = "$" + call
    if call == "track":
        name = payload.get("event")
        if not isinstance(name, str) or not name:
            raise Refused("missing_name")
        if name.startswith("$"):
            raise Refused("reserved_name")
    user, anonymous = identifier(payload.get("userId")), identifier(payload.get("anonymousId"))
    if user is None and (anonymous is None or call == "alias"):
        raise Refused("missing_identity")
    links = []
    if call == "group" and identifier(payload.get("groupId")) is None:
        raise Refused("missing_group_id")
    if call == "alias":
        previous = identifier(payload.get("previousId"))
        if previous is None:
            raise Refused("missing_previous_id")
        links = [pseudonym(tenant, key, "anonymous", previous), pseudonym(tenant, key, "user", previous)]
    if call == "identify" and user is not None and anonymous is not None:
        links = [pseudonym(tenant, key, "anonymous", anonymous)]
    subject = pseudonym(
        tenant, key, "anonymous" if user is None else "user", anonymous if user is None else user
    )
    message = identifier(payload.get("messageId"))
    own = digest(digest_key, raw)
    time_ms = event_time(payload, received_ms, skew)
    properties = payload.get("traits" if call in ("identify", "group", "alias") else "properties")
    context = payload.get("context")
    if call == "identify" and not properties:
        properties = (context or {}).get("traits") if isinstance(context or {}, dict) else Refused
    if properties is not None and not isinstance(properties, dict):
        raise Refused("not_an_object")
    properties = dict(properties or {})
    for beside in {"page": ("name", "category"), "screen": ("name", "category"), "group": ("groupId",)}.get(
        call, ()
    ):
        if payload.get(beside) is not None:
            properties[beside] = payload[beside]
    form = consent_form(context)
    if time_ms - received_ms > future_ms:
        raise Refused("in_future")
    if received_ms - time_ms > late_ms:
        raise Refused("too_late")
    cells = None
    if name in fields:
        cells = []
        for path, kind, required in fields[name]:
            value = member(properties, path)
            if value is None and required:
                raise Refused("missing_field")
            cells.append(None if value is None else fits(value, kind))
    return {
        "type": name if name in fields else None,
        "subject": subject,
        "links": [link for link in links if link != subject],
        "event_id": event_id(digest_key, source, b"\0digest" + own if message is None else message.encode()),
        "digest": own,
        "time_ms": time_ms,
        "cells": cells,
        "consent": None if form is None else (form[0], form[1]),
    }


def event_time(payload: Any, received_ms: Any, skew: Any) -> Any:
    times = {}
    for name in ("originalTimestamp", "timestamp", "sentAt"):
        value = payload.get(name)
        times[name] = None if value is None else milliseconds(value)
    if times["originalTimestamp"] is not None and times["timestamp"] is not None:
        return times["timestamp"]
    device = times["timestamp"] if times["originalTimestamp"] is None else times["originalTimestamp"]
    if device is None:
        return received_ms
    return device + (received_ms - times["sentAt"] if skew and times["sentAt"] is not None else 0)


def consent_form(context: Any) -> Any:
    if not isinstance(context, dict):
        return None
    found = []
    if "consent" in context:
        inside = context["consent"]
        evidence = (
            isinstance(inside, dict)
            and "categoryPreferences" not in inside
            and any(key in inside for key in ("tcString", "tcf", "gpp", "gppString"))
        )
        found.append(("tcf" if evidence else "segment", inside))
    if "consentManagement" in context:
        found.append(("rudderstack", context["consentManagement"]))
    answers = [form for form in found if form[0] != "tcf"]
    if len(answers) > 1:
        raise Refused("conflicting_consent")
    if answers or found:
        return (answers or found)[0]
    for key in ("tcString", "tcf", "gpp", "gppString"):
        if key in context:
            return "tcf", context[key]
    return None
