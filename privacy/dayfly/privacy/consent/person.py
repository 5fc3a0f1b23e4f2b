"""`PersonConsents`: everything that is known about one person's consents, as an immutable value."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Final, Self

import msgspec

from dayfly.privacy.errors import InvalidArgument, InvalidConsent

from .acts import Act, Link, acts_by_subject, readable_entry
from .links import canonical_links, subjects_of
from .observation import Observation, Observed, observe
from .parsing import checked_record, malformed_record
from .record import INT64_MAX, ConsentRecord, ConsentState, MalformedRecord
from .scope import Scope

if TYPE_CHECKING:  # the decision reads persons
    from .decision import Decision

__all__ = ["PersonConsents", "Use"]

Entry = ConsentRecord | MalformedRecord
_FORMAT: Final = "dayfly-person-consents-1"


class Use(msgspec.Struct, frozen=True, forbid_unknown_fields=True, order=True):
    """Uses of one record reserved under one id."""

    reservation_id: str
    record_id: str
    uses: int


class _Stored(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    format: str
    subject: str
    records: tuple[ConsentRecord, ...]
    malformed: tuple[MalformedRecord, ...]
    links: tuple[Link, ...]
    uses: tuple[Use, ...]
    restored: tuple[str, ...]
    observed: tuple[Observed, ...]


def _order(entry: Entry) -> tuple[int, str, bytes]:
    return entry.time_ms, entry.record_id, msgspec.json.encode(entry, order="sorted")


def _with_entries(entries: tuple[Entry, ...], new: tuple[Entry, ...]) -> tuple[Entry, ...]:
    added = [entry for entry in new if entry not in entries]
    if not added:
        return entries
    if len(added) == 1 and not entries:  # most people consent once; the order's key is a whole JSON document
        return tuple(added)
    return tuple(sorted(dict.fromkeys((*entries, *added)), key=_order))


@dataclass(frozen=True, slots=True)
class PersonConsents:
    """One person's consents: records, merged identities, uses spent and states observed at sources.

    Immutable; every method returns a new value, or the same one when nothing changed. Two values that hold the same
    facts are equal and have equal bytes, in whatever order the facts arrived.

    Attributes:
        subject: The pseudonym under which the person is known; the smallest one after merges.
        entries: Readable and unreadable records, ordered by consent time.
        links: Merges in canonical form.
        uses: Uses reserved, ordered.
        restored: Reservation ids given back, ordered.
        observed: What each source last asserted, ordered.
    """

    subject: str
    entries: tuple[Entry, ...] = ()
    links: tuple[Link, ...] = ()
    uses: tuple[Use, ...] = ()
    restored: tuple[str, ...] = ()
    observed: tuple[Observed, ...] = ()
    _view: tuple[tuple[Act, ...], ...] | None = field(default=None, init=False, repr=False, compare=False)
    _spent: dict[str, int] | None = field(default=None, init=False, repr=False, compare=False)
    _checked: bool = field(default=False, init=False, repr=False, compare=False)
    _kept: "tuple[int, Decision] | None" = field(default=None, init=False, repr=False, compare=False)

    def _next(self, **changes: Any) -> Self:
        """The value with some fields changed; entries that the methods checked are not checked again."""
        changed = replace(self, **changes)
        if self._checked or not self.entries:
            object.__setattr__(changed, "_checked", True)
        return changed

    @property
    def subjects(self) -> frozenset[str]:
        """Every pseudonym of the person."""
        return subjects_of(self.subject, self.links)

    @property
    def acts(self) -> tuple[tuple[Act, ...], ...]:
        """Acts per identity, latest first; derived at first use and kept."""
        view = self._view
        if view is None:
            view = acts_by_subject(self._readable(), self.links)
            object.__setattr__(self, "_view", view)
        return view

    def _readable(self) -> Sequence[Entry]:
        """Entries every field of which is sound; of anything else, what can be read of it."""
        if self._checked:
            return self.entries
        return [readable_entry(entry, self.subject) for entry in self.entries]

    @property
    def spent(self) -> dict[str, int]:
        """Uses spent per record id; derived at first use and kept. Not to be changed."""
        spent = self._spent
        if spent is None:
            spent = {}
            for use in self.uses:
                if use.reservation_id not in self.restored:
                    spent[use.record_id] = spent.get(use.record_id, 0) + use.uses
            object.__setattr__(self, "_spent", spent)
        return spent

    @property
    def kept(self) -> "tuple[int, Decision] | None":
        """The last yes that was decided on this very value, and at which instant; see `Decider`."""
        return self._kept

    def keep(self, now_ms: int, decision: "Decision") -> None:
        """Keep a yes that was decided on this value at an instant."""
        object.__setattr__(self, "_kept", (now_ms, decision))

    def require_subject(self, principal: str) -> None:
        """Check that `principal` is one of this person's pseudonyms.

        Raises:
            InvalidConsent: It is not.
        """
        if principal not in self.subjects:
            raise InvalidConsent(
                f"principal={principal!r} must be one of this person's pseudonyms; merge the identities first"
            )

    def with_record(self, record: ConsentRecord) -> Self:
        """Add one version of one record.

        A record with an unreadable field is kept as a `MalformedRecord`, which denies what it could have been about.

        Raises:
            InvalidConsent: The record is readable and belongs to somebody else.
        """
        entry: Entry
        try:
            entry = checked_record(record)
        except InvalidConsent as error:
            entry = malformed_record(record, principal=self.subject, error=str(error))
        self.require_subject(entry.principal)
        entries = _with_entries(self.entries, (entry,))
        return self if entries is self.entries else self._next(entries=entries)

    def with_malformed(self, obj: object, received_ms: int, *, error: str = "unreadable") -> Self:
        """Add something that was meant as a consent and could not be parsed; it denies until a later readable act."""
        entry = malformed_record(obj, principal=self.subject, received_ms=received_ms, error=error)
        entries = _with_entries(self.entries, (entry,))
        return self if entries is self.entries else self._next(entries=entries)

    def with_withdrawal(self, scope: Scope, time_ms: int) -> Self:
        """Withdraw consent for a scope, whatever record gave it. An empty list in `scope` limits nothing."""
        record_id = "w:" + sha256(f"{time_ms}:{scope!r}".encode(errors="backslashreplace")).hexdigest()[:32]
        record = ConsentRecord(
            record_id=record_id,
            principal=self.subject,
            state=ConsentState.WITHDRAWN,
            time_ms=time_ms,
            scope=scope,
        )
        return self.with_record(record)

    def with_use(self, record_id: str, uses: int, reservation_id: str) -> Self:
        """Spend uses of a record's budget. Repeating the same reservation changes nothing.

        Raises:
            InvalidConsent: The record is unknown, the budget is too small, or the reservation id was used for something
                else or given back.
            InvalidArgument: `uses` is not above zero.
        """
        use = Use(reservation_id, record_id, _positive_uses(uses))
        if reservation_id in self.restored:
            raise InvalidConsent(f"reservation_id={reservation_id!r} must not be used again; take a new id")
        if use in self.uses:
            return self
        if any(known.reservation_id == reservation_id for known in self.uses):
            raise InvalidConsent(f"reservation_id={reservation_id!r} must name one use only; take a new id")
        record = self._newest_given(record_id)
        limit = record.use.max_uses
        left = INT64_MAX if limit is None else limit - self.spent.get(record_id, 0)
        if uses > left:
            raise InvalidConsent(
                f"uses={uses} must be <= {max(left, 0)}, what is left of {record_id!r}; ask the person again"
            )
        return self._next(uses=tuple(sorted((*self.uses, use))))

    def with_use_restored(self, reservation_id: str) -> Self:
        """Give back the uses of a reservation whose fragment died unopened. Repeating it changes nothing.

        Raises:
            InvalidConsent: The reservation is unknown, or its record does not allow restoring.
        """
        if reservation_id in self.restored:
            return self
        use = next((use for use in self.uses if use.reservation_id == reservation_id), None)
        if use is None:
            raise InvalidConsent(
                f"reservation_id={reservation_id!r} must be known; restore only what with_use reserved"
            )
        if not self._newest_given(use.record_id).use.restore_if_unopened:
            raise InvalidConsent(
                f"record_id={use.record_id!r} must say restore_if_unopened to get uses back; count them as spent"
            )
        return self._next(restored=tuple(sorted((*self.restored, reservation_id))))

    def with_observation(self, observation: Observation) -> Self:
        """Take in what a source asserts about the person now; an answer it merely repeats is not a new act.

        `entries` stays the identical object when no answer changed. Raises as `with_record`.
        """
        self.require_subject(observation.principal)
        entries, observed = observe(self.entries, self.observed, observation)
        if entries is self.entries:
            return self if observed is self.observed else self._next(observed=observed)
        sound = [entry if entry in self.entries else readable_entry(entry, self.subject) for entry in entries]
        for entry in sound:
            self.require_subject(entry.principal)
        ordered = tuple(sorted(dict.fromkeys(sound), key=_order))
        if ordered != self.entries:
            return self._next(entries=ordered, observed=observed)
        return self if observed == self.observed else self._next(observed=observed)

    def merged_with(
        self, other: "PersonConsents", merged_at_ms: int, *, link: tuple[str, str] | None = None
    ) -> Self:
        """Join two persons who turned out to be one.

        Args:
            other: The other identity's consents.
            merged_at_ms: Acts with a later consent time speak for the whole person.
            link: The two pseudonyms that were found to be one, one of each side; the sides' `subject` by default.
        """
        one, two = link or (self.subject, other.subject)
        self.require_subject(one)
        other.require_subject(two)
        links = canonical_links((*self.links, *other.links, (one, two, merged_at_ms)))
        observed = {(seen.principal, seen.source): seen for seen in sorted((*self.observed, *other.observed))}
        merged = replace(
            self,
            subject=min(self.subject, other.subject),
            entries=_with_entries(self.entries, other.entries),
            links=links,
            uses=tuple(sorted({*self.uses, *other.uses})),
            restored=tuple(sorted({*self.restored, *other.restored})),
            observed=tuple(sorted(observed.values())),
        )
        if all(side._checked or not side.entries for side in (self, other)):  # noqa: SLF001 - own class
            object.__setattr__(merged, "_checked", True)
        return merged

    def _newest_given(self, record_id: str) -> ConsentRecord:
        given = [
            entry
            for entry in self.entries
            if isinstance(entry, ConsentRecord)
            and entry.record_id == record_id
            and entry.state is ConsentState.GIVEN
        ]
        if not given:
            raise InvalidConsent(
                f"record_id={record_id!r} must name a given consent of this person; decide first"
            )
        return given[-1]

    def to_bytes(self) -> bytes:
        """Canonical JSON; equal values give equal bytes."""
        stored = _Stored(
            _FORMAT,
            self.subject,
            tuple(entry for entry in self.entries if isinstance(entry, ConsentRecord)),
            tuple(entry for entry in self.entries if isinstance(entry, MalformedRecord)),
            self.links,
            self.uses,
            self.restored,
            self.observed,
        )
        return msgspec.json.encode(stored, order="sorted")

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Read back what `to_bytes` wrote.

        Raises:
            InvalidConsent: The bytes are not of this format, not canonical, or hold an unreadable record.
        """
        try:
            stored = msgspec.json.decode(data, type=_Stored)
        except (ValueError, RecursionError) as error:
            raise InvalidConsent(
                f"data of {len(data)} bytes must be a stored person ({error}); restore a snapshot"
            ) from None
        if stored.format != _FORMAT:
            raise InvalidConsent(
                f"format={stored.format!r} must be {_FORMAT!r}; restore with the version that wrote it"
            )
        entries: tuple[Entry, ...] = tuple(sorted((*stored.records, *stored.malformed), key=_order))
        person = cls(stored.subject, entries, stored.links, stored.uses, stored.restored, stored.observed)
        for record in stored.records:
            checked_record(record)
        object.__setattr__(person, "_checked", True)
        if person.to_bytes() != data:
            raise InvalidConsent(
                f"data of {len(data)} bytes must be canonical; store only what to_bytes wrote"
            )
        return person


def _positive_uses(uses: int) -> int:
    if uses <= 0:
        raise InvalidArgument(f"uses={uses!r} must be > 0; pass the number of uses spent")
    return uses
