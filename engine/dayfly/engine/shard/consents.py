"""Consent inside the shard: each person's acts, and their compiled form that the kernels test with one instruction."""

from dataclasses import dataclass, field, replace

import msgspec
import numpy as np
import numpy.typing as npt

from dayfly.engine.events import ObservedConsent
from dayfly.engine.policy.model import Channel
from dayfly.engine.shard import kernels_layout, kernels_settle
from dayfly.engine.shard.consent_states import ConsentStates
from dayfly.engine.shard.state import Arrays
from dayfly.privacy.consent import (
    INT64_MAX,
    ConsentRequest,
    Decision,
    PersonConsents,
    Requirements,
    Scope,
    compile_mask,
    decide,
)
from dayfly.privacy.consent.platforms import (
    PlatformMapping,
    parse_mapping,
    records_from_rudderstack,
    records_from_segment,
)

__all__ = ["Consents", "principal"]


def principal(subject: bytes) -> str:
    """Name of a pseudonym in consent records."""
    return subject.hex()


@dataclass(slots=True)
class Consents:
    """All persons' consents by person number; persons who never said anything are not in it."""

    arrays: Arrays
    states: ConsentStates = field(default_factory=ConsentStates)
    watched: dict[int, tuple[str, str]] = field(default_factory=dict)
    _groups: list[Requirements] = field(default_factory=list)
    _tags_of: dict[int, list[tuple[int, int]]] = field(default_factory=dict)
    _mappings: dict[str, PlatformMapping | None] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Prepare for the policy in force."""
        self.use_policy()

    def use_policy(self) -> None:
        """Take over requirements and category mappings of the policy in force; masks must be computed anew."""
        compiled = self.arrays.compiled
        self._groups = [Requirements(group) for group in compiled.mask_groups()]
        tags: dict[int, dict[int, int]] = {}
        for tag, requirement in enumerate(compiled.tag_bits):
            words = tags.setdefault(compiled.bit_of(requirement), {})
            words[tag >> 6] = words.get(tag >> 6, 0) | 1 << (tag & 63)
        self._tags_of = {bit: sorted(words.items()) for bit, words in tags.items()}
        self._mappings = {channel.name: _mapping(channel) for channel in compiled.policy.channels}

    def of(self, person: int, subject: bytes) -> PersonConsents:
        """A person's consents."""
        state = self.states.get(person)
        return PersonConsents(principal(subject)) if state is None else state

    def decide(self, person: int, request: ConsentRequest, now_ms: int) -> Decision:
        """The full decision."""
        return decide(request, self.states.get(person) or PersonConsents("nobody"), now_ms)

    def change(self, person: int, state: PersonConsents) -> None:
        """Put a new state in force: mask, timer, and the marks of the tags that this turned on or off."""
        self.states[person] = state
        self.refresh(person)

    def refresh(self, person: int) -> None:
        """Compute a person's masks at the clock and mark the tags whose permission changed."""
        core = self.arrays.core
        now = int(core.control[kernels_layout.CLOCK])
        state = self.states.get(person)
        words, due = [0] * len(self._groups), INT64_MAX
        if state is not None:
            for word, group in enumerate(self._groups):
                words[word], change = compile_mask(group, state, now)
                due = min(due, change)
        fresh = np.array(words, np.uint64)
        self._mark(core.masks[person] ^ fresh)
        core.masks[person] = fresh
        if int(core.control[kernels_layout.HEAP]) + 4 >= len(core.heap):
            self.arrays.grow()
        kernels_settle.arm_consent(self.arrays.handle, person, 0 if due == INT64_MAX else due)

    def _mark(self, changed: npt.NDArray[np.uint64]) -> None:
        """Mark the tags whose bit of a mask changed."""
        marks = self.arrays.core.marks
        for word, turned in enumerate(changed.tolist()):
            bits = turned
            while bits:
                lowest = bits & -bits
                bits ^= lowest
                for position, tags in self._tags_of.get(word * 64 + lowest.bit_length() - 1, ()):
                    marks[position] |= np.uint64(tags)

    def observe(self, person: int, subject: bytes, seen: ObservedConsent, channel: str, time_ms: int) -> None:
        """Read a consent object that travelled in an event. An IAB string is evidence and changes nothing."""
        mapping = self._mappings.get(channel)
        if seen.form == "tcf" or mapping is None:
            return
        read = records_from_segment if seen.form == "segment" else records_from_rudderstack
        found = read(seen.content, mapping, subject=principal(subject), time_ms=time_ms, source=channel)
        self.note_repeat(person)
        before = self.of(person, subject)
        after = before.with_observation(found)
        if after.entries is before.entries:  # only the time of the last look changed
            self.states[person] = after
        else:
            self.change(person, after)

    def watch(self, person: int, subject: bytes, channel: str, mark: int, time_ms: int) -> None:
        """Remember which object was read last: the kernels pass over its repetitions and note only their newest time."""
        row = self.arrays.core.people[person]
        repeated = int(row[kernels_layout.CONSENT_SEEN]) == mark
        latest = max(time_ms, int(row[kernels_layout.CONSENT_SEEN_AT])) if repeated else time_ms
        row[kernels_layout.CONSENT_SEEN], row[kernels_layout.CONSENT_SEEN_AT] = mark, latest
        self.watched[person] = (principal(subject), channel)

    def note_repeat(self, person: int) -> None:
        """Tell a person's consents when the object that was read last was repeated last, which is not a new act."""
        state, who = self.states.get(person), self.watched.get(person)
        if state is None or who is None:
            return
        latest = int(self.arrays.core.people[person, kernels_layout.CONSENT_SEEN_AT])
        seen = next((one for one in state.observed if (one.principal, one.source) == who), None)
        if seen is not None and seen.last_ms < latest:
            others = (one for one in state.observed if one is not seen)
            newer = msgspec.structs.replace(seen, last_ms=latest)
            self.states[person] = replace(state, observed=tuple(sorted((*others, newer))))

    def forget(self, person: int) -> None:
        """Forget what a person said."""
        self.states.pop(person, None)
        self.watched.pop(person, None)

    def withdraw(self, person: int, subject: bytes, purpose: str, topic: str, now_ms: int) -> None:
        """Withdraw everything under a purpose and a topic."""
        scope = Scope(purposes=(purpose,), topics=(topic,))
        self.change(person, self.of(person, subject).with_withdrawal(scope, now_ms))

    def merge(self, stays: int, goes: int, names: tuple[bytes, bytes], now_ms: int) -> None:
        """Join the consents of two persons who turned out to be one; objects in events are read anew from now on.

        Also where neither has said anything yet: what either says later is to be about both, from this instant on.
        """
        for person in (stays, goes):
            self.note_repeat(person)
            self.watched.pop(person, None)
        mine, other = self.states.get(stays), self.states.pop(goes, None)
        one = mine or PersonConsents(principal(names[0]))
        two = other or PersonConsents(principal(names[1]))
        link = (principal(names[0]), principal(names[1]))
        self.states[stays] = one.merged_with(two, now_ms, link=link)


def _mapping(channel: Channel) -> PlatformMapping | None:
    if channel.consent is not None:
        return channel.consent
    if not channel.consent_categories:
        return None
    return parse_mapping({"categories": dict(channel.consent_categories)})
