"""What the membership oracle asks of consent, and two small answers: everybody consents, and a scripted person's acts.

The third answer, the real consent portion, is `RealConsent` in `tests.oracles.consent_real`. A state is opaque to the oracle: it only hands
it back.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from dayfly.engine.events import ObservedConsent
from dayfly.engine.policy.model import Channel
from dayfly.privacy.consent import ConsentRecord, ConsentState

__all__ = ["FOREVER", "ConsentRules", "Everyone", "ScriptedAct", "ScriptedConsent", "ScriptedState"]

FOREVER: Final = 2**63 - 1


class ConsentRules(Protocol):
    """One person's consent as a pure value, and the questions the oracle asks about it."""

    def empty(self, subject: bytes) -> Any:
        """The state of a person who never said anything."""

    def given(self, state: Any, record: ConsentRecord) -> Any:
        """The state after a `ConsentGiven`."""

    def withdrawn(self, state: Any, purpose: str, topic: str, at_ms: int) -> Any:
        """The state after a `ConsentWithdrawn`."""

    def observed(
        self, state: Any, seen: ObservedConsent, subject: bytes, channel: Channel, time_ms: int
    ) -> Any:
        """The state after an event that carried a consent object."""

    def merged(self, state: Any, other: Any, at_ms: int, link: tuple[bytes, bytes]) -> Any:
        """The state of two people who turned out to be one because these two pseudonyms are."""

    def allows(self, state: Any, purpose: str, topic: str, now_ms: int) -> bool:
        """Whether a tag with this purpose and topic may be computed."""

    def may_collect(self, state: Any, purpose: str, channel: str, now_ms: int) -> bool:
        """Whether an event of a channel with `collect_under` may be taken in."""

    def boundaries(self, state: Any) -> Iterable[int]:
        """Every instant at which an answer could change by itself."""


class Everyone:
    """Everybody consents to everything: for tests that are not about consent."""

    def empty(self, subject: bytes) -> None:
        """Nothing to remember."""

    def given(self, state: None, record: object) -> None:
        """Nothing changes."""

    def withdrawn(self, state: None, purpose: str, topic: str, at_ms: int) -> None:
        """Nothing changes."""

    def observed(
        self, state: None, seen: ObservedConsent, subject: bytes, channel: Channel, time_ms: int
    ) -> None:
        """Nothing changes."""

    def merged(self, state: None, other: None, at_ms: int, link: tuple[bytes, bytes]) -> None:
        """Nothing changes."""

    def allows(self, state: None, purpose: str, topic: str, now_ms: int) -> bool:
        """Always."""
        return True

    def may_collect(self, state: None, purpose: str, channel: str, now_ms: int) -> bool:
        """Always."""
        return True

    def boundaries(self, state: None) -> tuple[int, ...]:
        """Never changes."""
        return ()


@dataclass(frozen=True, slots=True)
class ScriptedAct:
    """A person says yes or no to a purpose and a topic (`*`: all) for the instants `[from_ms, until_ms)`."""

    at_ms: int
    purpose: str = "*"
    topic: str = "*"
    granted: bool = True
    from_ms: int = -FOREVER
    until_ms: int = FOREVER

    def covers(self, purpose: str, topic: str) -> bool:
        """Whether the act is about this request; taxonomies are covered downwards at dots."""
        return _below(self.purpose, purpose) and _below(self.topic, topic)


@dataclass(frozen=True, slots=True)
class ScriptedState:
    """Acts in order of arrival since the merge at `merged_ms` of the two `sides` (none: from the start)."""

    acts: tuple[ScriptedAct, ...] = ()
    sides: tuple["ScriptedState", ...] = field(default=())

    def answer(self, purpose: str, topic: str, now_ms: int) -> bool | None:
        """Yes, no, or None when no act is about it: the latest act decides, two sides must not disagree."""
        about = [act for act in self.acts if act.covers(purpose, topic)]
        if about:
            last = max(enumerate(about), key=lambda item: (item[1].at_ms, item[0]))[1]
            return last.granted and last.from_ms <= now_ms < last.until_ms
        answers = [side.answer(purpose, topic, now_ms) for side in self.sides]
        known = [answer for answer in answers if answer is not None]
        return all(known) if known else None


class ScriptedConsent:
    """A simple rule to script tests with: the latest covering act decides, merged sides must agree, silence is no."""

    def empty(self, subject: bytes) -> ScriptedState:
        """A person who never said anything."""
        return ScriptedState()

    def given(self, state: ScriptedState, record: ConsentRecord) -> ScriptedState:
        """One more act, read from a record with one purpose and one topic."""
        granted = record.state is ConsentState.GIVEN
        (purpose,), (topic,) = record.scope.purposes, record.scope.topics
        act = ScriptedAct(
            record.time_ms,
            purpose,
            topic,
            granted,
            record.valid_from_ms,
            record.valid_until_ms if granted else FOREVER,
        )
        return ScriptedState((*state.acts, act), state.sides)

    def withdrawn(self, state: ScriptedState, purpose: str, topic: str, at_ms: int) -> ScriptedState:
        """One more act that says no."""
        return ScriptedState((*state.acts, ScriptedAct(at_ms, purpose, topic, granted=False)), state.sides)

    def observed(
        self, state: ScriptedState, seen: ObservedConsent, subject: bytes, channel: Channel, time_ms: int
    ) -> ScriptedState:
        """Consent objects are not read by the script."""
        return state

    def merged(
        self, state: ScriptedState, other: ScriptedState, at_ms: int, link: tuple[bytes, bytes]
    ) -> ScriptedState:
        """Both sides, to be settled by acts that come later."""
        return ScriptedState((), (state, other))

    def allows(self, state: ScriptedState, purpose: str, topic: str, now_ms: int) -> bool:
        """Whether the answer is yes."""
        return state.answer(purpose, topic, now_ms) is True

    def may_collect(self, state: ScriptedState, purpose: str, channel: str, now_ms: int) -> bool:
        """Whether the answer for any topic is yes."""
        return state.answer(purpose, "*", now_ms) is True

    def boundaries(self, state: ScriptedState) -> list[int]:
        """Starts and ends of the acts' validity."""
        own = [edge for act in state.acts for edge in (act.from_ms, act.until_ms)]
        return own + [edge for side in state.sides for edge in self.boundaries(side)]


def _below(scope: str, asked: str) -> bool:
    return scope in ("*", asked) or asked.startswith(scope + ".")
