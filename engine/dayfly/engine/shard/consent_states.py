"""All persons' consents, each beside its bytes, so that a snapshot takes them as they are and reading one decodes nobody."""

from collections.abc import Iterator, Mapping, MutableMapping
from dataclasses import dataclass, field

from dayfly.privacy.consent import PersonConsents

__all__ = ["ConsentStates"]


@dataclass(slots=True, eq=False)
class ConsentStates(MutableMapping[int, PersonConsents]):
    """Consents by person number, in order of these numbers; decoded when they are asked for."""

    _bytes: dict[int, bytes] = field(default_factory=dict)
    _known: dict[int, PersonConsents] = field(default_factory=dict)

    def __getitem__(self, person: int) -> PersonConsents:
        """A person's consents.

        Raises:
            KeyError: the person never said anything.
            InvalidConsent: the bytes that were restored are nothing that `PersonConsents.to_bytes` wrote.
        """
        state = self._known.get(person)
        if state is None:
            state = self._known[person] = PersonConsents.from_bytes(self._bytes[person])
        return state

    def __setitem__(self, person: int, state: PersonConsents) -> None:
        """Keep a person's consents; they are encoded here, once, so that no snapshot has to encode everybody's."""
        self._bytes[person] = state.to_bytes()
        self._known[person] = state

    def __delitem__(self, person: int) -> None:
        """Forget a person's consents."""
        del self._bytes[person]
        self._known.pop(person, None)

    def __iter__(self) -> Iterator[int]:
        """All persons, in order of their numbers, whatever happens meanwhile."""
        return iter(sorted(self._bytes))

    def __len__(self) -> int:
        """How many persons ever said anything."""
        return len(self._bytes)

    def encoded(self) -> dict[int, bytes]:
        """What everybody said, as bytes by person: a copy, which costs some ms per million."""
        return self._bytes.copy()

    def restore(self, encoded: Mapping[int, bytes]) -> None:
        """Take over what `encoded` gave."""
        self._bytes.update(encoded)
