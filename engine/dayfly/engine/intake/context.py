"""What every channel's reader shares: the policy's parts, compiled once, and the checks that do not depend on the form."""

from collections.abc import Mapping
from typing import Any

from dayfly.engine.errors import CatalogError, IntakeError
from dayfly.engine.events import Event, ObservedConsent
from dayfly.engine.intake.fields import TypeReader
from dayfly.engine.intake.identity import Identities, IdentityKind, IntakeKeys, Known, identifier_text
from dayfly.engine.intake.reasons import DeadLetterReason
from dayfly.engine.intake.results import Parsed
from dayfly.engine.policy.model import Channel, Policy, Settings

__all__ = ["Context", "Draft"]


class Context:
    """A policy and keys, ready for reading events.

    Attributes:
        policy: What is declared.
        identities: Where raw identifiers end.
        readers: Field readers per declared event type.
    """

    def __init__(self, policy: Policy, keys: IntakeKeys) -> None:
        self.policy = policy
        self.identities = Identities(policy, keys)
        self.readers: Mapping[str, TypeReader] = {
            event_type.name: TypeReader.compile(event_type, self.identities.mask_of)
            for event_type in policy.catalog.types
        }
        self._channels = {channel.name: channel for channel in policy.channels}

    @property
    def settings(self) -> Settings:
        """The policy's settings."""
        return self.policy.settings

    def channel(self, name: str) -> Channel:
        """The declared channel `name`.

        Raises:
            CatalogError: it is not declared.
        """
        self.policy.catalog.channel_index(name)
        channel = self._channels.get(name)
        if channel is None:
            raise CatalogError(f"channel={name!r} must be described in the policy's channels; add it there")
        return channel

    def check_clock(self, time_ms: int, received_ms: int) -> None:
        """Refuse events too far from their arrival; exactly at a limit is within it.

        Raises:
            IntakeError: `IN_FUTURE` or `TOO_LATE`.
        """
        ahead = time_ms - received_ms
        if ahead > self.settings.future_skew_ms:
            raise IntakeError(
                DeadLetterReason.IN_FUTURE,
                f"time={ahead} ms ahead of arrival must be at most {self.settings.future_skew_ms}; set the sender's clock",
            )
        if -ahead > self.settings.allowed_lateness_ms:
            raise IntakeError(
                DeadLetterReason.TOO_LATE,
                f"time={-ahead} ms before arrival must be at most {self.settings.allowed_lateness_ms}; send sooner",
            )

    def identifier(self, value: object, name: str) -> str | None:
        """A raw identifier as text, None when absent.

        Raises:
            IntakeError: `BAD_IDENTIFIER`.
        """
        return identifier_text(value, name, self.settings.max_string_bytes)

    def known(self, kind: IdentityKind, raw: str, channel: Channel, received_ms: int) -> Known:
        """The pseudonym of a raw identifier; on a probe channel every device id is a probe id."""
        used: IdentityKind = "probe" if channel.probe and kind == "anonymous" else kind
        return self.identities.known(used, raw, received_ms)


class Draft:
    """An event in the making: the parts a form has read, put together the same way for every form."""

    def __init__(self, context: Context, channel: Channel, received_ms: int) -> None:
        self.context = context
        self.channel = channel
        self.received_ms = received_ms

    def finish(
        self,
        *,
        name: str,
        event_id: bytes,
        digest: bytes,
        time_ms: int,
        subject: Known,
        properties: Mapping[str, Any],
        link: Known | None = None,
        others: tuple[Known, ...] = (),
        consent: ObservedConsent | None = None,
    ) -> Parsed:
        """Check the clock, read the declared fields and settle identities.

        While pseudonym keys overlap, the older pseudonym of the subject becomes the link where the event has none of its own.

        Raises:
            IntakeError: the event may not enter.
        """
        self.context.check_clock(time_ms, self.received_ms)
        reader = self.context.readers.get(name)
        values = {} if reader is None else reader.read(properties, self.context.settings.max_string_bytes)
        people = (subject, *((link,) if link else ()), *others)
        same = [known.pseudonym for known in people[1:]] + [
            older for known in people for older in known.previous
        ]
        same = [pseudonym for pseudonym in dict.fromkeys(same) if pseudonym != subject.pseudonym]
        event = Event(
            event_id=event_id,
            channel=self.channel.name,
            subject=subject.pseudonym,
            type=name,
            time_ms=time_ms,
            received_ms=self.received_ms,
            properties=values,
            digest=digest,
            link=same[0] if same else None,
            consent=consent,
        )
        also = tuple((subject.pseudonym, pseudonym) for pseudonym in same[1:])
        return Parsed(event, also, subject.randomised)
