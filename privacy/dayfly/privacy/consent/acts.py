"""From stored records to *acts*: what each record says, when, and for which of a person's identities.

The decision reads acts only. They are derived once per `PersonConsents` value and do not depend on the present time.
"""

from collections.abc import Iterable, Sequence
from enum import IntEnum
from typing import Final, NamedTuple

import msgspec

from dayfly.privacy.errors import InvalidConsent

from .parsing import checked_record, malformed_record
from .reasons import ReasonCode
from .record import ENDED, INT64_MAX, ConsentRecord, ConsentState, MalformedRecord
from .scope import Scope

__all__ = ["Act", "ActKind", "Link", "acts_by_subject", "readable_entry"]

Link = tuple[str, str, int]
"""Two principals that are one person for every act with a consent time after the third member (ms)."""


class ActKind(IntEnum):
    """How an act answers: a grant where it covers, a denial where it touches, a question not at all."""

    GRANT = 0
    DENIAL = 1
    QUESTION = 2


_DENIALS: Final = {
    ConsentState.WITHDRAWN: ReasonCode.WITHDRAWN,
    ConsentState.REFUSED: ReasonCode.REFUSED,
    ConsentState.INVALIDATED: ReasonCode.INVALIDATED,
}
_ENDINGS: Final = {**_DENIALS, ConsentState.USED: ReasonCode.SPENT, ConsentState.EXPIRED: ReasonCode.EXPIRED}


class Act(NamedTuple):
    """One answer of one record.

    Attributes:
        time_ms: Consent time.
        kind: What sort of answer.
        scope: What it is about.
        reason: Why a denial denies; why a grant is dead for good, else `GRANTED`.
        valid_from_ms: First instant of a grant's validity.
        valid_until_ms: First instant after it.
        superseded_ms: Consent time of the record's next given version; int64 max when there is none.
        max_uses: Use budget of a grant, None without limit.
        record_id: The record.
        version: Its version.
    """

    time_ms: int
    kind: ActKind
    scope: Scope
    reason: ReasonCode
    valid_from_ms: int
    valid_until_ms: int
    superseded_ms: int
    max_uses: int | None
    record_id: str
    version: int


def _denial(record: ConsentRecord | MalformedRecord, reason: ReasonCode) -> Act:
    version = record.version if isinstance(record, ConsentRecord) else 0
    return Act(
        record.time_ms, ActKind.DENIAL, record.scope, reason, 0, 0, INT64_MAX, None, record.record_id, version
    )


def _grant(record: ConsentRecord, reason: ReasonCode, superseded_ms: int) -> Act:
    return Act(
        record.time_ms,
        ActKind.GRANT,
        record.scope,
        reason,
        record.valid_from_ms,
        record.valid_until_ms,
        superseded_ms,
        record.use.max_uses,
        record.record_id,
        record.version,
    )


def _given(record: ConsentRecord, later_ms: int, end: ConsentRecord | None) -> Act:
    """The act of a given version; `end` is the record's first ending version, if it has any."""
    if end is None or record.time_ms < end.time_ms:
        reason = ReasonCode.GRANTED if end is None else _ENDINGS[end.state]
        return _grant(record, reason, later_ms)
    if record.time_ms == end.time_ms:
        return _denial(record, ReasonCode.CONFLICT)
    return _denial(record, ReasonCode.STATE_BACKWARDS)


def _record_acts(versions: Sequence[ConsentRecord]) -> Iterable[Act]:
    """Acts of all versions of one record, any order."""
    given_times = sorted({record.time_ms for record in versions if record.state is ConsentState.GIVEN})
    endings = [record for record in versions if record.state in ENDED]
    end = min(endings, key=lambda record: (record.time_ms, record.state), default=None)
    for record in versions:
        if record.state is ConsentState.GIVEN:
            later_ms = next((time for time in given_times if time > record.time_ms), INT64_MAX)
            yield _given(record, later_ms, end)
        elif record.state is ConsentState.REQUESTED:
            first = min(given_times[0] if given_times else INT64_MAX, end.time_ms if end else INT64_MAX)
            if record.time_ms > first:
                yield _denial(record, ReasonCode.STATE_BACKWARDS)
            else:
                yield _denial(record, ReasonCode.REQUESTED)._replace(kind=ActKind.QUESTION)
        elif record.state in _DENIALS:
            yield _denial(record, _DENIALS[record.state])
        elif not given_times or given_times[0] > record.time_ms:
            yield _grant(record, _ENDINGS[record.state], INT64_MAX)


def readable_entry(entry: object, principal: str) -> ConsentRecord | MalformedRecord:
    """The entry itself when every field is sound, else what can be read of it. Total."""
    if isinstance(entry, MalformedRecord):
        owner = entry.principal if isinstance(entry.principal, str) else principal
        error = entry.error if isinstance(entry.error, str) else "unreadable"
        plain = malformed_record(entry, principal=owner, error=error)
        return msgspec.structs.replace(plain, source=entry.source)
    try:
        return checked_record(entry)
    except InvalidConsent as error:
        return malformed_record(entry, principal=principal, error=str(error))


def _joined(subject: str, time_ms: int, links: Sequence[Link]) -> frozenset[str]:
    """The identities that were one with `subject` when an act with consent time `time_ms` was made."""
    members = {subject}
    grown = True
    while grown:
        grown = False
        for one, other, linked_ms in links:
            if linked_ms < time_ms and (one in members) != (other in members):
                members |= {one, other}
                grown = True
    return frozenset(members)


def _acts_of(entries: Sequence[ConsentRecord | MalformedRecord]) -> tuple[Act, ...]:
    records: dict[str, list[ConsentRecord]] = {}
    acts: list[Act] = []
    for entry in entries:
        if isinstance(entry, ConsentRecord):
            records.setdefault(entry.record_id, []).append(entry)
        else:
            acts.append(_denial(entry, ReasonCode.MALFORMED_RECORD))
    for versions in records.values():
        acts.extend(_record_acts(versions))
    acts.sort(key=lambda act: (-act.time_ms, act.record_id, act.version))
    return tuple(acts)


def acts_by_subject(
    entries: Sequence[ConsentRecord | MalformedRecord], links: Sequence[Link]
) -> tuple[tuple[Act, ...], ...]:
    """Acts that speak for each identity of a person, latest first.

    Args:
        entries: Sound records, any order.
        links: The person's merges.

    Returns:
        One tuple of acts per identity that has any, in order of the identities' names.
    """
    if not links:
        return (_acts_of(entries),) if entries else ()
    spoken: dict[str, list[ConsentRecord | MalformedRecord]] = {}
    for entry in entries:
        for identity in _joined(entry.principal, entry.time_ms, links):
            spoken.setdefault(identity, []).append(entry)
    return tuple(_acts_of(spoken[name]) for name in sorted(spoken))
