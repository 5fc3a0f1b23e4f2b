"""What a source (a consent banner, a tag manager) asserts about a person, told apart from an act of the person.

Such a source repeats its state on every event. Only an answer that *changes* at the source is an act of consent; a
repeated one neither renews a consent nor overrides a withdrawal made elsewhere.
"""

from collections.abc import Sequence

import msgspec

from .record import ConsentRecord, ConsentState, MalformedRecord
from .scope import scopes_meet

__all__ = ["Observation", "Observed", "observe"]

Entry = ConsentRecord | MalformedRecord


class Observation(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One assertion of one source: an answer per category of the mapping, or an unreadable object.

    Attributes:
        principal: Whose consent the source speaks of.
        source: Name of the source.
        time_ms: When the source asserted it.
        digest: SHA-256 (hexadecimal) of the object's canonical form.
        records: One record per category, its category in `evidence.reference`, its consent time `time_ms`.
        malformed: Set instead of `records` when the object could not be read.
    """

    principal: str
    source: str
    time_ms: int
    digest: str
    records: tuple[ConsentRecord, ...] = ()
    malformed: MalformedRecord | None = None


class Observed(msgspec.Struct, frozen=True, order=True, forbid_unknown_fields=True):
    """What one source last asserted: when, and which record holds its present answer for each category."""

    principal: str
    source: str
    last_ms: int
    digest: str
    answers: tuple[tuple[str, str], ...] = ()


def _stance(record: ConsentRecord) -> tuple[object, ...]:
    """What makes two answers the same answer.

    A yes stays the same yes when the mapping behind it is edited, so that an edit can never widen what somebody
    agreed to; a no with another scope is another no.
    """
    return (record.state,) if record.state is ConsentState.GIVEN else (record.state, record.scope)


def _moved(record: ConsentRecord, time_ms: int) -> ConsentRecord:
    """The same answer, given earlier; its validity moves with it."""
    shift = record.time_ms - time_ms
    return msgspec.structs.replace(
        record,
        time_ms=time_ms,
        valid_from_ms=record.valid_from_ms - shift,
        valid_until_ms=record.valid_until_ms - shift,
    )


def _present(entries: Sequence[Entry], seen: Observed) -> dict[str, ConsentRecord]:
    by_id = {entry.record_id: entry for entry in entries if isinstance(entry, ConsentRecord)}
    return {category: by_id[record_id] for category, record_id in seen.answers if record_id in by_id}


def _lifted(entries: Sequence[Entry], new: Observation) -> tuple[Entry, ...]:
    """The entries without what this source asserted unreadably before."""
    return tuple(
        entry
        for entry in entries
        if not (
            isinstance(entry, MalformedRecord)
            and (entry.principal, entry.source) == (new.principal, new.source)
        )
    )


def _acts(present: dict[str, ConsentRecord], new: Observation) -> list[ConsentRecord]:
    """Answers that are acts: those that changed, and each repeated no that a changed yes would otherwise override."""
    changed = [
        record
        for record in new.records
        if (before := present.get(record.evidence.reference)) is None or _stance(before) != _stance(record)
    ]
    granted = [record.scope for record in changed if record.state is ConsentState.GIVEN]
    repeated = [
        record
        for record in new.records
        if record.state is not ConsentState.GIVEN
        and record not in changed
        and any(scopes_meet(scope, record.scope) for scope in granted)
    ]
    return changed + repeated


def _newer(entries: Sequence[Entry], seen: Observed, new: Observation) -> tuple[tuple[Entry, ...], Observed]:
    """An assertion after the last one: changed answers are acts, an unreadable one denies until the next readable."""
    kept = _lifted(entries, new)
    if new.malformed is not None:
        return (*kept, new.malformed), msgspec.structs.replace(seen, last_ms=new.time_ms, digest=new.digest)
    acts = _acts(_present(entries, seen), new)
    answers = {**dict(seen.answers), **{record.evidence.reference: record.record_id for record in acts}}
    last = Observed(new.principal, new.source, new.time_ms, new.digest, tuple(sorted(answers.items())))
    return (*kept, *acts), last


def _older(entries: Sequence[Entry], seen: Observed, late: Observation) -> tuple[Entry, ...]:
    """An assertion that arrives late: its denials count at their time; its grants can only make a present one older."""
    present = _present(entries, seen)
    result = list(entries)
    for record in late.records:
        before = present.get(record.evidence.reference)
        same = before is not None and _stance(before) == _stance(record)
        if record.state is not ConsentState.GIVEN:
            if not same or (before is not None and record.time_ms < before.time_ms):
                result.append(record)
        elif same and before is not None and record.time_ms < before.time_ms:
            result[result.index(before)] = _moved(before, record.time_ms)
    return tuple(result)


def observe(
    entries: tuple[Entry, ...], observed: tuple[Observed, ...], new: Observation
) -> tuple[tuple[Entry, ...], tuple[Observed, ...]]:
    """Entries and observed states after one more assertion.

    Guarantees:
        Assertions that arrive out of order never give a grant that they would not give in order; where the order cannot
        be told from what is kept, the answer is no.
    """
    seen = next((one for one in observed if (one.principal, one.source) == (new.principal, new.source)), None)
    if seen is None:
        seen = Observed(new.principal, new.source, -1, "")
    others = tuple(one for one in observed if one is not seen)
    if new.time_ms > seen.last_ms:
        if new.digest == seen.digest:
            last = msgspec.structs.replace(seen, last_ms=new.time_ms)
            return entries, tuple(sorted((*others, last)))
        entries, last = _newer(entries, seen, new)
        return entries, tuple(sorted((*others, last)))
    if new.time_ms == seen.last_ms and new.digest == seen.digest:
        return entries, observed
    return _older(entries, seen, new), observed
