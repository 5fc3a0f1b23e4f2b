"""Versions of one record: each holds the digest of the one before, and none leaves an end."""

import hashlib
from collections.abc import Iterable
from typing import Any

import msgspec

from dayfly.privacy.errors import BrokenChain, InvalidConsent

from .parsing import checked_record
from .record import ENDED, ConsentRecord, ConsentState, canonical_bytes

__all__ = ["record_digest", "successor", "verify_chain"]


def record_digest(record: ConsentRecord) -> str:
    """SHA-256 of the canonical bytes, hexadecimal."""
    return hashlib.sha256(canonical_bytes(record)).hexdigest()


def successor(record: ConsentRecord, *, state: ConsentState, time_ms: int, **changes: Any) -> ConsentRecord:
    """The next version of a record, chained to it.

    Args:
        record: The version before.
        state: State that the new version enters.
        time_ms: When the person (or the keeper of the record) acted.
        changes: Other fields that change.

    Raises:
        InvalidConsent: The one-way machine has no such step, or a changed field breaks its rule.
    """
    backwards = record.state in ENDED and state not in ENDED
    if backwards or (record.state is ConsentState.GIVEN and state is ConsentState.REQUESTED):
        raise InvalidConsent(
            f"state={state.value!r} must not follow {record.state.value!r}; open a new record with a new record_id"
        )
    changed: ConsentRecord = msgspec.structs.replace(
        record,
        state=state,
        time_ms=time_ms,
        version=record.version + 1,
        prev=record_digest(record),
        **changes,
    )
    return checked_record(changed)


def verify_chain(versions: Iterable[ConsentRecord]) -> None:
    """Check that versions, first to last, are numbered and hash-chained without a gap and never step backwards.

    Raises:
        BrokenChain: The first version that does not follow from the one before.
    """
    before: ConsentRecord | None = None
    for record in versions:
        expected = record_digest(before) if before is not None else ""
        number = before.version + 1 if before is not None else 1
        same = before is None or before.record_id == record.record_id
        onward = before is None or before.state not in ENDED or record.state in ENDED
        if record.prev != expected or record.version != number or not same or not onward:
            raise BrokenChain(
                f"record_id={record.record_id!r} version={record.version} must follow version {number - 1}"
                f" with prev={expected!r}; restore the missing or altered version"
            )
        before = record
