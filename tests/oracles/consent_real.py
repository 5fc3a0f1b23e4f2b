"""The consent portion behind the membership oracle's questions: its own oracle is `tests.oracles.consent`, not this one."""

import msgspec

from dayfly.engine.events import ObservedConsent
from dayfly.engine.policy.model import Channel
from dayfly.privacy.consent import (
    ConsentRecord,
    ConsentRequest,
    PersonConsents,
    Scope,
    decide,
)
from dayfly.privacy.consent.platforms import parse_mapping, records_from_rudderstack, records_from_segment

__all__ = ["RealConsent"]


class RealConsent:
    """`PersonConsents` and `decide`, asked for tags (purpose and topic) and at the door (purpose and channel)."""

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
        if seen.form == "tcf":
            return state
        mapping = parse_mapping({"categories": msgspec.to_builtins(dict(channel.consent_categories))})
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
        return decide(ConsentRequest(purpose, topic), state, now_ms).allowed

    def may_collect(self, state: PersonConsents, purpose: str, channel: str, now_ms: int) -> bool:
        """Whether the decision for a channel is yes."""
        return decide(ConsentRequest(purpose, channel=channel), state, now_ms).allowed

    def boundaries(self, state: PersonConsents) -> list[int]:
        """Every start and end of validity."""
        records = [entry for entry in state.entries if isinstance(entry, ConsentRecord)]
        return [edge for record in records for edge in (record.valid_from_ms, record.valid_until_ms)]
