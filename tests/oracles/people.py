"""The oracle's memory: every person with every accepted event, and what changes them (events, merges, erasures)."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.oracles.recount import Recorded
from tests.oracles.unpack import Arrived

__all__ = ["People", "Person", "Waiting"]


@dataclass(slots=True, eq=False)
class Person:
    """One person: the pseudonym that stays, all pseudonyms, all events by type, consent, and the tags last seen held."""

    subject: bytes
    consents: Any
    pseudonyms: set[bytes] = field(default_factory=set)
    events: dict[str, list[Recorded]] = field(default_factory=dict)
    held: set[str] = field(default_factory=set)

    def times(self) -> list[int]:
        """Times of all events."""
        return [event.time_ms for events in self.events.values() for event in events]


@dataclass(frozen=True, slots=True)
class Waiting:
    """A future event that was received and waits for its time."""

    time_ms: int
    arrival: int
    row: Arrived
    event: Recorded


@dataclass(slots=True)
class People:
    """Who is who. `no_consents` makes the consent state of somebody new."""

    no_consents: Callable[[bytes], Any]
    by_pseudonym: dict[bytes, Person] = field(default_factory=dict)

    def known(self, pseudonym: bytes) -> Person | None:
        """The person behind `pseudonym`, None for somebody never heard of (or forgotten)."""
        return self.by_pseudonym.get(pseudonym)

    def meet(self, pseudonym: bytes) -> Person:
        """The person behind `pseudonym`, new if need be."""
        person = self.by_pseudonym.get(pseudonym)
        if person is None:
            person = Person(pseudonym, self.no_consents(pseudonym), {pseudonym})
            self.by_pseudonym[pseudonym] = person
        return person

    def all(self) -> Sequence[Person]:
        """Every person once, in order of first being met."""
        return list({id(person): person for person in self.by_pseudonym.values()}.values())

    def join(self, stays: Person, goes: Person, consents: Any) -> None:
        """Make two people one: the union of their events, with `consents`."""
        for kind, events in goes.events.items():
            stays.events.setdefault(kind, []).extend(events)
        stays.consents = consents
        stays.pseudonyms |= goes.pseudonyms
        for pseudonym in goes.pseudonyms:
            self.by_pseudonym[pseudonym] = stays

    def forget(self, person: Person) -> None:
        """Nothing of the person remains."""
        for pseudonym in person.pseudonyms:
            del self.by_pseudonym[pseudonym]

    def copy(self) -> "People":
        """An independent copy, for questions about the future."""
        twin = People(self.no_consents)
        for person in self.all():
            events = {kind: list(events) for kind, events in person.events.items()}
            other = Person(person.subject, person.consents, set(person.pseudonyms), events, set(person.held))
            twin.by_pseudonym.update(dict.fromkeys(person.pseudonyms, other))
        return twin
