"""Strict reading of JSON: what is refused, under which code, and the limits on shape.

orjson decides what JSON is (RFC 8259, UTF-8 only, no NaN, no lone surrogates). A name that stands twice in one object
means its last value, as in every browser; both paths of intake hold to that.
"""

import json
from collections.abc import Mapping
from typing import Any, Final, NoReturn

import msgspec
import orjson

from dayfly.engine.errors import IntakeError
from dayfly.engine.intake.reasons import DeadLetterReason
from dayfly.engine.policy.model import Settings

__all__ = [
    "check_shape",
    "check_size",
    "get_object",
    "read_json",
    "read_object",
    "split_array",
    "split_envelope",
]


class _Envelope(msgspec.Struct):
    batch: list[msgspec.Raw]
    sent_at: msgspec.Raw | msgspec.UnsetType = msgspec.field(default=msgspec.UNSET, name="sentAt")


_ENVELOPE: Final = msgspec.json.Decoder(_Envelope)
_ARRAY: Final = msgspec.json.Decoder(list[msgspec.Raw])

_READER_DEPTH: Final = 500
"""A document that orjson refused and that nests deeper than this was refused for its depth, whatever else is in it."""


def check_size(raw: bytes, limit: int) -> None:
    """Refuse more than `limit` bytes.

    Raises:
        IntakeError: `TOO_LARGE`.
    """
    if len(raw) > limit:
        raise IntakeError(
            DeadLetterReason.TOO_LARGE,
            f"size={len(raw)} bytes must be at most {limit}; send less in one piece or raise the limit in the settings",
        )


def read_json(raw: bytes) -> Any:
    """Parse one JSON document.

    Raises:
        IntakeError: `INVALID_UTF8`, `NOT_JSON`, `NON_FINITE_NUMBER`, `NUMBER_OUT_OF_RANGE`, `LONE_SURROGATE` or `TOO_DEEP`.
    """
    try:
        return orjson.loads(raw)
    except orjson.JSONDecodeError:
        raise _refusal(raw) from None


def read_object(raw: bytes, settings: Settings) -> dict[str, Any]:
    """Parse one event: a JSON object within the limits of `settings`.

    Raises:
        IntakeError: as `read_json`, or `TOO_LARGE`, `NOT_AN_OBJECT`, `TOO_DEEP`, `TOO_MANY_PROPERTIES`.
    """
    check_size(raw, settings.max_event_bytes)
    value = read_json(raw)
    if not isinstance(value, dict):
        raise IntakeError(
            DeadLetterReason.NOT_AN_OBJECT, "event=<hidden> must be a JSON object; send one object per event"
        )
    # The counts are upper bounds, quick to take; only an event near a limit is walked.
    if raw.count(b"{") + raw.count(b"[") > settings.max_depth or raw.count(b":") > settings.max_properties:
        check_shape(value, settings)
    return value


def check_shape(value: object, settings: Settings) -> None:
    """Refuse nesting beyond `max_depth` containers and more than `max_properties` members over all levels.

    Raises:
        IntakeError: `TOO_DEEP` or `TOO_MANY_PROPERTIES`.
    """
    members = 0
    depth = 0
    level: list[Any] = [value]
    while level := [item for item in level if isinstance(item, dict | list)]:
        depth += 1
        members += sum(len(item) for item in level if isinstance(item, dict))
        if depth > settings.max_depth:
            raise IntakeError(
                DeadLetterReason.TOO_DEEP,
                f"depth={depth} must be at most {settings.max_depth}; flatten the event or raise the limit",
            )
        if members > settings.max_properties:
            raise IntakeError(
                DeadLetterReason.TOO_MANY_PROPERTIES,
                f"members={members} must be at most {settings.max_properties}; send fewer or raise the limit",
            )
        level = [item for box in level for item in (box.values() if isinstance(box, dict) else box)]


def split_envelope(raw: bytes) -> tuple[list[bytes], str | None] | None:
    """The original bytes of each event in ``{"batch": [...], "sentAt": ...}``, or None when `raw` is no such object.

    Returns:
        The events, unparsed, and the envelope's `sentAt` text; `sentAt` of another type counts as absent.
    """
    try:
        envelope = _ENVELOPE.decode(raw)
        # Raw members are not validated by msgspec: one that is no JSON makes the whole body none, which the reader of
        # single calls then refuses with the reason.
        sent_at = None if envelope.sent_at is msgspec.UNSET else read_json(bytes(envelope.sent_at))
    except (msgspec.DecodeError, RecursionError, IntakeError):
        return None
    return [bytes(item) for item in envelope.batch], sent_at if isinstance(sent_at, str) else None


def split_array(raw: bytes) -> list[bytes] | None:
    """The original bytes of each element of a JSON array, or None when `raw` is not one."""
    try:
        return [bytes(item) for item in _ARRAY.decode(raw)]
    except (msgspec.DecodeError, RecursionError):
        return None


def get_object(container: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """Member `name` as an object; absent and null are an empty one.

    Raises:
        IntakeError: `NOT_AN_OBJECT`.
    """
    value = container.get(name)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise IntakeError(
            DeadLetterReason.NOT_AN_OBJECT, f"{name}=<hidden> must be a JSON object; send one or leave it out"
        )
    return value


def _non_finite(_literal: str) -> NoReturn:
    raise IntakeError(
        DeadLetterReason.NON_FINITE_NUMBER,
        "number=<hidden> must be finite; leave the field out where there is no value",
    )


def _refusal(raw: bytes) -> IntakeError:
    """Why orjson refused `raw`, found by reading it again with the laxer reader of the standard library."""
    too_deep = IntakeError(DeadLetterReason.TOO_DEEP, "depth must be within the settings; flatten the event")
    try:
        value = json.loads(raw.decode(), parse_constant=_non_finite, parse_int=float)
    except UnicodeDecodeError as error:
        return IntakeError(
            DeadLetterReason.INVALID_UTF8, f"byte={error.start} must continue UTF-8 text; send JSON in UTF-8"
        )
    except RecursionError:
        return too_deep
    except IntakeError as error:
        return error
    except json.JSONDecodeError as error:
        return IntakeError(
            DeadLetterReason.NOT_JSON,
            f"character={error.pos} must continue a JSON document; send RFC 8259 JSON",
        )
    if _nesting(value) > _READER_DEPTH:
        return too_deep
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return IntakeError(
            DeadLetterReason.LONE_SURROGATE,
            "text=<hidden> must hold whole characters; fix the sender's escapes",
        )
    return IntakeError(
        DeadLetterReason.NUMBER_OUT_OF_RANGE, "number=<hidden> must fit a double; send a smaller number"
    )


def _nesting(value: object) -> int:
    depth = 0
    level = [value]
    while level := [item for item in level if isinstance(item, dict | list)]:
        depth += 1
        level = [item for box in level for item in (box.values() if isinstance(box, dict) else box)]
    return depth
