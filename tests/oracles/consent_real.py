"""The consent portion behind the membership oracle's questions: its own oracle is `tests.oracles.consent`, not this one."""

from dayfly.engine.events import ObservedConsent
from dayfly.engine.policy.model import Channel, Settings
from dayfly.privacy.consent import ConsentRecord, ConsentRequest, PersonConsents, Scope, decide
from dayfly.privacy.consent.platforms import parse_mapping, records_from_rudderstack, records_from_segment

__all__ = ["RealConsent"]


class RealConsent:
    """`PersonConsents` and `decide`: the controller asks for the data that tags are computed from.

    Args:
        settings: Name the controller, its country and the data category; the policy's own, where it has any.
    """

    def __init__(self, settings: Settings | None = None) -> None:
        self.settings = settings or Settings()

    def _asked(self, purpose: str, topic: str, channel: str) -> ConsentRequest:
        to, country = self.settings.controller, self.settings.controller_country
        return ConsentRequest(purpose, topic, (self.settings.tag_data_category,), to, channel, country)

    def empty(self, subject: bytes) -> PersonConsents:
        """Somebody who never said anything."""
        return PersonConsents(subject.hex())

    def given(self, state: PersonConsents, record: ConsentRecord) -> PersonConsents:
        """One more record."""
        return state.with_record(record)

    def withdrawn(self, state: PersonConsents, purpose: str, topic: str, at_ms: int) -> PersonConsents:
        """A withdrawal that is limited by purpose and topic only."""
        return state.with_withdrawal(Scope(purposes=(purpose,), topics=(topic,)), at_ms)

    def observed(
        self, state: PersonConsents, seen: ObservedConsent, subject: bytes, channel: Channel, time_ms: int
    ) -> PersonConsents:
        """What a banner's state in an event says; an IAB string says nothing."""
        if seen.form == "tcf" or not (channel.consent or channel.consent_categories):
            return state
        mapping = channel.consent or parse_mapping({"categories": dict(channel.consent_categories)})
        read = records_from_segment if seen.form == "segment" else records_from_rudderstack
        found = read(seen.content, mapping, subject=subject.hex(), time_ms=time_ms, source=channel.name)
        return state.with_observation(found)

    def merged(
        self, state: PersonConsents, other: PersonConsents, at_ms: int, link: tuple[bytes, bytes]
    ) -> PersonConsents:
        """Two people who turned out to be one at `at_ms`."""
        return state.merged_with(other, at_ms, link=(link[0].hex(), link[1].hex()))

    def allows(self, state: PersonConsents, purpose: str, topic: str, now_ms: int) -> bool:
        """Whether the decision for a tag is yes."""
        return decide(self._asked(purpose, topic, "*"), state, now_ms).allowed

    def may_collect(self, state: PersonConsents, purpose: str, channel: str, now_ms: int) -> bool:
        """Whether the decision for a channel is yes."""
        return decide(self._asked(purpose, "*", channel), state, now_ms).allowed

    def boundaries(self, state: PersonConsents) -> list[int]:
        """Every start and end of validity, and every consent time that has yet to come."""
        records = [entry for entry in state.entries if isinstance(entry, ConsentRecord)]
        validity = [edge for record in records for edge in (record.valid_from_ms, record.valid_until_ms)]
        return validity + [entry.time_ms for entry in state.entries]
