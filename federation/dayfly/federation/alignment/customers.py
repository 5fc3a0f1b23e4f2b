"""Who enters an alignment: customers whose consent stands, each once.

Claim: only rows enter of whose persons the decision function of `dayfly.privacy.consent` says yes for the agreed purpose now, and says that
this yes stands until the manifest expires if nothing more arrives; and training stops where one of them says no later.
Precondition: the channel's consents are those it was given; a channel that hands in others' consents is not found out by anybody.
Argument: `decide` is total and fails closed: absent, malformed, expired and withdrawn are no. `Customers.insist` asks it again.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from typing import Literal, Self

import numpy as np
from numpy.typing import NDArray

from dayfly.federation.alignment.identifiers import mask, normalise_all
from dayfly.federation.alignment.messages import Kind
from dayfly.federation.alignment.rows import Rows
from dayfly.federation.errors import ConsentWithdrawn, InvalidData, InvalidIdentifier
from dayfly.privacy.consent import ConsentRequest, Decider, PersonConsents

__all__ = ["Customers", "Duplicates"]

Duplicates = Literal["refuse", "first"]


@dataclass(frozen=True, slots=True, eq=False)
class Customers:
    """A channel's customers, in its own order.

    Attributes:
        party: The channel.
        kind: Of identifier.
        identifiers: Normalised; see `of`.
        persons: What is known of each one's consents; None: nothing, which is no.
        request: The use for which consent is needed, as the channel's policy names it.
        first: int64 (n,), the first row with the same identifier: itself, unless duplicates were allowed.
    """

    party: str
    kind: Kind
    identifiers: Sequence[str]
    persons: Sequence[PersonConsents | None]
    request: ConsentRequest
    first: NDArray[np.int64]

    @classmethod
    def of(
        cls,
        party: str,
        identifiers: Sequence[str],
        persons: Sequence[PersonConsents | None],
        request: ConsentRequest,
        *,
        kind: Kind,
        region: str | None = None,
        duplicates: Duplicates = "refuse",
        executor: Executor | None = None,
        done: Callable[[int], object] = lambda _: None,
    ) -> Self:
        """Normalise identifiers and find those that come twice.

        Args:
            party: The channel's name.
            identifiers: As the channel has them, one per row.
            persons: One per row.
            request: The use for which consent is needed; `request.purpose` must be the run's.
            kind: Of identifier.
            region: ISO 3166-1 alpha-2 code of phone numbers without country code.
            duplicates: ``refuse`` raises; ``first`` has the first row of equal identifiers take part, if the consents of all of them
                say yes, and the others not.
            executor: See `normalise_all`.
            done: See `normalise_all`.

        Raises:
            InvalidData: not one person per identifier, an identifier that breaks its rule, or one that comes twice; shown masked.
            InvalidSetting: there is no such kind.
        """
        if len(persons) != len(identifiers):
            raise InvalidData(
                party,
                f"must have one person's consents per identifier, not {len(persons)} for {len(identifiers)}; pass None for none",
            )
        try:
            normal = normalise_all(kind, identifiers, region=region, executor=executor, done=done)
        except InvalidIdentifier as error:
            raise InvalidData(party, f"has an identifier that breaks its rule: {error}") from None
        places: dict[str, int] = {}
        first = np.array(
            [places.setdefault(identifier, row) for row, identifier in enumerate(normal)], np.int64
        )
        again = np.flatnonzero(first != np.arange(first.size))
        if again.size and duplicates == "refuse":
            row = int(again[0])
            raise InvalidData(
                party,
                f"must have one row per customer; {kind}={mask(normal[row])} of row {row} is that of row {first[row]} too"
                f" ({again.size} such rows); merge them, or pass duplicates='first'",
            )
        return cls(party, kind, normal, persons, request, first)

    def with_persons(self, persons: Sequence[PersonConsents | None]) -> Self:
        """The same customers with what is known of their consents now."""
        return replace(self, persons=persons)

    def entering(self, *, now_ms: int, until_ms: int) -> NDArray[np.int64]:
        """Rows that take part, ascending.

        Args:
            now_ms: The present instant, int64 milliseconds UTC.
            until_ms: Consents must stand until then.
        """
        return np.flatnonzero(self._first_of_all_who_consent(now_ms, until_ms))

    def insist(self, rows: Rows, now_ms: int) -> None:
        """Insist, before a training spends anything, that what aligned rows rest on still stands.

        Args:
            rows: From the alignment of these customers.
            now_ms: The present instant, int64 milliseconds UTC.

        Raises:
            ManifestExpired: the manifest does not hold any more.
            WrongManifest: it is for another purpose.
            ConsentWithdrawn: a customer who takes part does not consent any more, or nothing is known of it; align again without it.
        """
        rows.manifest.insist(now_ms, self.request.purpose)
        if not len(self.persons) == len(self.identifiers) == rows.positions.size:
            raise ConsentWithdrawn(
                rows.manifest.party,
                f"must have the consents of its {rows.positions.size} aligned customers, not of {len(self.persons)}; align again",
            )
        if (rows.taking_part & ~self._first_of_all_who_consent(now_ms, now_ms)).any():
            raise ConsentWithdrawn(
                rows.manifest.party,
                f"has rows whose consent for purpose={self.request.purpose!r} was withdrawn since they were aligned, or ended;"
                " nothing was spent, align again without them",
            )

    def _first_of_all_who_consent(self, now_ms: int, until_ms: int) -> NDArray[np.bool_]:
        """Bool (n,): rows that are the first of their identifier, and for whose identifier no row says no."""
        decided = Decider(self.request)
        stands = np.zeros(self.first.size, np.bool_)
        for row, person in enumerate(self.persons):
            if person is not None:
                decision = decided(person, now_ms)
                stands[row] = decision.allowed and decision.until_ms >= until_ms
        refused = np.zeros(self.first.size, np.bool_)
        refused[self.first[~stands]] = True
        firsts: NDArray[np.bool_] = self.first == np.arange(self.first.size)
        return firsts & ~refused
