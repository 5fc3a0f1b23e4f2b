"""CloudEvents 1.0 in the three content modes of its HTTP binding, with the attribute rules taken strictly.

The person stands in `subject` with the kind of id before a colon: ``user:``, ``anon:`` or ``probe:``. `source` and `id`
together tell duplicates apart; `data` holds the declared fields.
"""

import base64
import binascii
import re
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import unquote_to_bytes

from dayfly.engine.errors import IntakeError
from dayfly.engine.intake.context import Context, Draft
from dayfly.engine.intake.documents import check_shape, check_size, read_json, read_object, split_array
from dayfly.engine.intake.identity import IdentityKind, Known
from dayfly.engine.intake.reasons import DeadLetterReason
from dayfly.engine.intake.results import Parsed
from dayfly.engine.intake.times import rfc3339_to_ms
from dayfly.engine.policy.model import Channel

__all__ = ["BATCHED", "STRUCTURED", "CloudEventReader", "content_type_of", "split_batch"]

STRUCTURED: Final = "application/cloudevents+json"
BATCHED: Final = "application/cloudevents-batch+json"

_KINDS: Final[Mapping[str, IdentityKind]] = {"user": "user", "anon": "anonymous", "probe": "probe"}
_NAME: Final = re.compile(r"[a-z0-9]+")
_TEXT_ATTRIBUTES: Final = ("id", "source", "type", "subject", "time", "dataschema", "datacontenttype")
_INT32: Final = 2**31
_CONTROL: Final = re.compile("[\x00-\x1f\x7f-\x9f]")


def content_type_of(headers: Mapping[str, str]) -> str:
    """Media type of a message in lower case, without parameters; empty when there is none."""
    for name, value in headers.items():
        if name.lower() == "content-type":
            return value.partition(";")[0].strip().lower()
    return ""


def split_batch(body: bytes) -> list[bytes]:
    """The events of a batched-mode body, unparsed.

    Raises:
        IntakeError: the body is not a JSON array.
    """
    events = split_array(body)
    if events is None:
        read_json(body)
        raise IntakeError(
            DeadLetterReason.NOT_AN_OBJECT, "batch=<hidden> must be a JSON array of events; send one"
        )
    return events


class CloudEventReader:
    """Reads one CloudEvent at a time."""

    def __init__(self, context: Context) -> None:
        self._context = context

    def read_structured(self, raw: bytes, channel: Channel, received_ms: int) -> Parsed:
        """One event in the JSON format.

        Raises:
            IntakeError: it may not enter.
        """
        members = read_object(raw, self._context.settings)
        attributes = {
            name: value
            for name, value in members.items()
            if name not in {"data", "data_base64"} and value is not None
        }
        _check_attributes(attributes)
        return self._finish(attributes, _structured_data(members, attributes), raw, channel, received_ms)

    def read_binary(
        self, headers: Mapping[str, str], body: bytes, channel: Channel, received_ms: int
    ) -> Parsed:
        """One event whose attributes are ``ce-`` headers and whose data is the body.

        Raises:
            IntakeError: it may not enter.
        """
        check_size(body, self._context.settings.max_event_bytes)
        attributes: dict[str, Any] = {}
        for name, value in headers.items():
            attribute = name.lower().removeprefix("ce-")
            if attribute == name.lower():
                continue
            if attribute in attributes or attribute == "datacontenttype":
                raise _bad_attribute(
                    "a header", "must stand once, and datacontenttype is the Content-Type header"
                )
            attributes[attribute] = _header_text(value)
        media_type = content_type_of(headers)
        if media_type:
            attributes["datacontenttype"] = media_type
        _check_attributes(attributes)
        data: Any = {}
        if body:
            _check_json(attributes)
            data = read_json(body)
            check_shape(data, self._context.settings)
        canonical = (
            "\n".join(f"{name}={attributes[name]}" for name in sorted(attributes)).encode() + b"\n\n" + body
        )
        return self._finish(attributes, data, canonical, channel, received_ms)

    def _finish(
        self, attributes: Mapping[str, Any], data: Any, raw: bytes, channel: Channel, received_ms: int
    ) -> Parsed:
        if not isinstance(data, dict):
            raise IntakeError(
                DeadLetterReason.NOT_AN_OBJECT, "data=<hidden> must be a JSON object of fields; send one"
            )
        identities = self._context.identities
        message_id = attributes["source"].encode() + b"\0" + attributes["id"].encode()
        time = attributes.get("time")
        return Draft(self._context, channel, received_ms).finish(
            name=attributes["type"],
            event_id=identities.event_id(channel, message_id),
            digest=identities.digest(raw),
            time_ms=received_ms if time is None else rfc3339_to_ms(time),
            subject=self._subject(attributes.get("subject"), channel, received_ms),
            properties=data,
        )

    def _subject(self, subject: str | None, channel: Channel, received_ms: int) -> Known:
        prefix, colon, raw = (subject or "").partition(":")
        kind = _KINDS.get(prefix)
        if kind is None or not colon or not raw:
            raise IntakeError(
                DeadLetterReason.MISSING_IDENTITY,
                "subject=<hidden> must be user:ID, anon:ID or probe:ID; send one of these",
            )
        if kind == "probe" and not channel.probe:
            raise IntakeError(
                DeadLetterReason.BAD_IDENTIFIER,
                "subject=<hidden> must not be a probe id here; declare the channel with probe: true",
            )
        checked = self._context.identifier(raw, "subject")
        assert checked is not None
        return self._context.known(kind, checked, channel, received_ms)


def _check_attributes(attributes: Mapping[str, Any]) -> None:
    """CloudEvents 1.0.2 sections 3.1 (required and optional attributes) and 2 (naming and types)."""
    for name, value in attributes.items():
        if _NAME.fullmatch(name) is None:
            raise _bad_attribute("an attribute name", "must be lower-case letters and digits")
        is_text = isinstance(value, str) and _CONTROL.search(value) is None
        if name in _TEXT_ATTRIBUTES and not (is_text and value):
            raise _bad_attribute(name, "must be non-empty text without control characters")
        is_integer = isinstance(value, int) and -_INT32 <= value < _INT32
        if not is_text and not is_integer:
            raise _bad_attribute("an extension", "must be text, a boolean or a 32-bit integer")
    for name in ("id", "source", "type"):
        if name not in attributes:
            reason = {"id": DeadLetterReason.MISSING_ID, "type": DeadLetterReason.MISSING_NAME}.get(name)
            raise IntakeError(
                reason or DeadLetterReason.BAD_ATTRIBUTE, f"{name} must be present in a CloudEvent; send it"
            )
    if attributes.get("specversion") != "1.0":
        raise _bad_attribute("specversion", "must be '1.0'")


def _structured_data(members: Mapping[str, Any], attributes: Mapping[str, Any]) -> Any:
    encoded = members.get("data_base64")
    data = members.get("data")
    if encoded is None:
        if data is not None:
            _check_json(attributes)
        return {} if data is None else data
    if data is not None or not isinstance(encoded, str):
        raise _bad_attribute("data_base64", "must be text and must not stand beside data")
    _check_json(attributes)
    try:
        return read_json(base64.b64decode(encoded, validate=True))
    except binascii.Error:
        raise _bad_attribute("data_base64", "must be base64") from None


def _check_json(attributes: Mapping[str, Any]) -> None:
    """Refuse data that is not declared as JSON; an absent content type means JSON (JSON format, section 3.1.1)."""
    media_type = str(attributes.get("datacontenttype", "application/json")).partition(";")[0].strip().lower()
    if media_type not in {"application/json", "text/json"} and not media_type.endswith("+json"):
        raise IntakeError(
            DeadLetterReason.UNSUPPORTED_CONTENT,
            "datacontenttype=<hidden> must be a JSON media type; send application/json",
        )


def _header_text(value: str) -> str:
    """A header value decoded as section 3.1.3.2 of the HTTP binding says: percent-encoded UTF-8, quotes kept."""
    try:
        return unquote_to_bytes(value.strip()).decode()
    except UnicodeError:
        raise _bad_attribute("a header", "must be percent-encoded UTF-8") from None


def _bad_attribute(name: str, rule: str) -> IntakeError:
    return IntakeError(DeadLetterReason.BAD_ATTRIBUTE, f"{name}=<hidden> {rule}; follow CloudEvents 1.0")
