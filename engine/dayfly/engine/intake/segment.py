"""Segment and RudderStack payloads: the general path, which is also what the compiled path must agree with.

The forms are those of the Segment HTTP tracking API and specification and of RudderStack's event specification:
six calls, alone or in ``{"batch": [...]}``; `messageId` tells duplicates apart; `sentAt` corrects the device's clock.
"""

from collections.abc import Mapping
from typing import Any, Final, Literal, TypeAlias

import msgspec

from dayfly.engine.errors import IntakeError
from dayfly.engine.events import ObservedConsent
from dayfly.engine.intake.context import Context, Draft
from dayfly.engine.intake.documents import get_object, read_json, read_object
from dayfly.engine.intake.identity import Known, consent_digest
from dayfly.engine.intake.reasons import DeadLetterReason
from dayfly.engine.intake.results import Parsed
from dayfly.engine.intake.times import rfc3339_to_ms
from dayfly.engine.policy.model import Channel

__all__ = ["SegmentReader"]

ConsentForm: TypeAlias = Literal["segment", "rudderstack", "tcf"]

_NAMES: Final = {
    "page": "$page",
    "screen": "$screen",
    "identify": "$identify",
    "group": "$group",
    "alias": "$alias",
}
_PROMOTED: Final = {"page": ("name", "category"), "screen": ("name", "category"), "group": ("groupId",)}
_TC_IN_CONSENT: Final = ("tcString", "tcf", "gpp", "gppString")
_TC_IN_CONTEXT: Final = ("tcString", "tcf", "gpp", "gppString")


class _RawContext(msgspec.Struct):
    """The original bytes of the members of `context` that may carry consent."""

    consent: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    consent_management: msgspec.Raw | msgspec.UnsetType = msgspec.field(
        default=msgspec.UNSET, name="consentManagement"
    )
    tc_string: msgspec.Raw | msgspec.UnsetType = msgspec.field(default=msgspec.UNSET, name="tcString")
    tcf: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    gpp: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    gpp_string: msgspec.Raw | msgspec.UnsetType = msgspec.field(default=msgspec.UNSET, name="gppString")


class _RawPayload(msgspec.Struct):
    context: _RawContext


_RAW: Final = msgspec.json.Decoder(_RawPayload)


class SegmentReader:
    """Reads one Segment or RudderStack call at a time."""

    def __init__(self, context: Context) -> None:
        self._context = context

    def read(self, raw: bytes, channel: Channel, received_ms: int, *, sent_at: str | None = None) -> Parsed:
        """One call as a checked, de-identified event.

        Args:
            raw: The call's JSON.
            channel: Where it came through.
            received_ms: When, UTC.
            sent_at: The envelope's `sentAt`, for calls without their own.

        Raises:
            IntakeError: it may not enter; `reason` says why.
        """
        payload = read_object(raw, self._context.settings)
        kind = payload.get("type")
        if kind == "track":
            name = self._track_name(payload)
        elif isinstance(kind, str) and kind in _NAMES:
            name = _NAMES[kind]
        else:
            raise IntakeError(
                DeadLetterReason.UNKNOWN_KIND,
                "type=<hidden> must be track, identify, page, screen, group or alias; send one of these",
            )
        digest = self._context.identities.digest(raw)
        subject, link, others = self._people(kind, payload, channel, received_ms)
        return Draft(self._context, channel, received_ms).finish(
            name=name,
            event_id=self._event_id(payload, channel, digest),
            digest=digest,
            time_ms=_time_ms(payload, channel, received_ms, sent_at),
            subject=subject,
            properties=_properties(kind, payload),
            link=link,
            others=others,
            consent=_consent(payload, raw),
        )

    def _track_name(self, payload: Mapping[str, Any]) -> str:
        name = payload.get("event")
        if not isinstance(name, str) or not name:
            raise IntakeError(
                DeadLetterReason.MISSING_NAME, "event=<hidden> must be the event's name; send it as text"
            )
        if name.startswith("$"):
            raise IntakeError(
                DeadLetterReason.RESERVED_NAME,
                "event=<hidden> must not start with '$', which marks the other calls; rename it",
            )
        return name

    def _event_id(self, payload: Mapping[str, Any], channel: Channel, digest: bytes) -> bytes:
        message_id = self._context.identifier(payload.get("messageId"), "messageId")
        if message_id is None:  # hand-made calls: the same bytes twice are one event
            return self._context.identities.event_id(channel, b"\0digest" + digest)
        return self._context.identities.event_id(channel, message_id.encode())

    def _people(
        self, kind: str, payload: Mapping[str, Any], channel: Channel, received_ms: int
    ) -> tuple[Known, Known | None, tuple[Known, ...]]:
        """Subject, the link an identify or alias states, and further identities of the same person."""
        context = self._context
        user = context.identifier(payload.get("userId"), "userId")
        anonymous = context.identifier(payload.get("anonymousId"), "anonymousId")
        if user is None and (anonymous is None or kind == "alias"):
            raise IntakeError(
                DeadLetterReason.MISSING_IDENTITY,
                "userId and anonymousId must not both be absent; send one (an alias needs userId)",
            )
        if kind == "group" and context.identifier(payload.get("groupId"), "groupId") is None:
            raise IntakeError(
                DeadLetterReason.MISSING_GROUP_ID, "groupId must be present in a group call; send it"
            )
        if user is None:
            assert anonymous is not None
            return context.known("anonymous", anonymous, channel, received_ms), None, ()
        subject = context.known("user", user, channel, received_ms)
        if kind == "alias":
            # The specification lets previousId be either kind of id, so it stands for both.
            previous = context.identifier(payload.get("previousId"), "previousId")
            if previous is None:
                raise IntakeError(
                    DeadLetterReason.MISSING_PREVIOUS_ID,
                    "previousId must be present in an alias call; send it",
                )
            link = context.known("anonymous", previous, channel, received_ms)
            return subject, link, (context.known("user", previous, channel, received_ms),)
        if kind == "identify" and anonymous is not None:
            return subject, context.known("anonymous", anonymous, channel, received_ms), ()
        return subject, None, ()


def _properties(kind: str, payload: Mapping[str, Any]) -> Mapping[str, Any]:
    """Where the call keeps its fields, with the members of page, screen and group that stand beside them put in."""
    if kind in {"identify", "group", "alias"}:
        found = get_object(payload, "traits")
        if not found and kind == "identify":  # RudderStack's SDKs put them into the context
            found = get_object(get_object(payload, "context"), "traits")
    else:
        found = get_object(payload, "properties")
    beside = {name: payload[name] for name in _PROMOTED.get(kind, ()) if payload.get(name) is not None}
    return {**found, **beside} if beside else found


def _time_ms(payload: Mapping[str, Any], channel: Channel, received_ms: int, sent_at: str | None) -> int:
    """Event time: the device's time, shifted by how wrong its clock was when it sent (`received - sentAt`).

    A payload with both `originalTimestamp` and `timestamp` has been corrected by another collector already.
    """
    original = _instant(payload, "originalTimestamp")
    stated = _instant(payload, "timestamp")
    sent = _instant(payload, "sentAt")
    if sent is None and sent_at is not None:
        sent = rfc3339_to_ms(sent_at, place="sentAt")
    if original is not None and stated is not None:
        return stated
    device = stated if original is None else original
    if device is None:
        return received_ms
    return device if sent is None or not channel.correct_clock_skew else device + received_ms - sent


def _instant(payload: Mapping[str, Any], name: str) -> int | None:
    value = payload.get(name)
    if value is None:
        return None
    if isinstance(value, str):
        return rfc3339_to_ms(value, place=name)
    raise IntakeError(DeadLetterReason.BAD_TIME, f"{name}=<hidden> must be RFC 3339 text; fix the sender")


def _consent(payload: Mapping[str, Any], raw: bytes) -> ObservedConsent | None:
    """The consent object in `context`, with the digest of its original bytes.

    An empty or unreadable ``context.consent`` is observed too: a present object denies what it does not name. A TC or
    GPP string is evidence, found beside the objects or as the only member of ``context.consent``.
    """
    context = payload.get("context")
    if not isinstance(context, dict):
        return None
    forms = _consent_members(context)
    if not forms:
        return None
    if len(forms) > 1:
        raise IntakeError(
            DeadLetterReason.CONFLICTING_CONSENT,
            "context must hold one of consent and consentManagement; send the one that the person answered",
        )
    form, member = forms[0]
    field_name = {
        "consentManagement": "consent_management",
        "tcString": "tc_string",
        "gppString": "gpp_string",
    }.get(member, member)
    span = bytes(getattr(_RAW.decode(raw).context, field_name))
    return ObservedConsent(form, read_json(span), consent_digest(form, span))


def _consent_members(context: Mapping[str, Any]) -> list[tuple[ConsentForm, str]]:
    found: list[tuple[ConsentForm, str]] = []
    if "consent" in context:
        found.append((_form_of(context["consent"]), "consent"))
    if "consentManagement" in context:
        found.append(("rudderstack", "consentManagement"))
    if not found:
        for name in _TC_IN_CONTEXT:
            if name in context:
                found.append(("tcf", name))
                break
    answers = [form for form in found if form[0] != "tcf"]
    return answers or found


def _form_of(consent: object) -> ConsentForm:
    """Only an object that has a TC string and no category preferences is mere evidence."""
    if (
        isinstance(consent, dict)
        and "categoryPreferences" not in consent
        and any(name in consent for name in _TC_IN_CONSENT)
    ):
        return "tcf"
    return "segment"
