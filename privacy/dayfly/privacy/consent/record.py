"""Consent records with the field names of ISO/IEC TS 27560, their strict parser, canonical bytes and hash chain.

Field meanings follow ISO/IEC TS 27560:2023 as read through the W3C DPV community guide (CG-FINAL 2024-08-01).
"""

import hashlib
import re
from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta

from dayfly.privacy.errors import BrokenChain, InvalidConsent

from .scope import DIMENSIONS, Scope
from .taxonomy import ANY, Name

__all__ = [
    "ENDED",
    "INT64_MAX",
    "SCHEMA_VERSION",
    "ConsentRecord",
    "ConsentState",
    "Evidence",
    "MalformedRecord",
    "Notice",
    "Party",
    "Terms",
    "TransferBasis",
    "UseBudget",
    "canonical_bytes",
    "checked_record",
    "malformed_record",
    "parse_record",
    "record_digest",
    "successor",
    "verify_chain",
]

SCHEMA_VERSION: Final = "dayfly-consent-1"
INT64_MAX: Final = 2**63 - 1

Millis = Annotated[int, Meta(ge=0, le=INT64_MAX)]
Count = Annotated[int, Meta(ge=1, le=INT64_MAX)]
Seconds = Annotated[int, Meta(ge=0, le=INT64_MAX)]
Text = Annotated[str, Meta(max_length=4096)]
Sha256 = Annotated[str, Meta(pattern=r"\A(?:[0-9a-f]{64})?\Z")]


class ConsentState(StrEnum):
    """States of one record. They form a one-way machine: requested, then given, then any of the others."""

    REQUESTED = "requested"
    GIVEN = "given"
    USED = "used"
    WITHDRAWN = "withdrawn"
    EXPIRED = "expired"
    REFUSED = "refused"
    INVALIDATED = "invalidated"


ENDED: Final = frozenset(ConsentState) - {ConsentState.REQUESTED, ConsentState.GIVEN}
"""States that a record never leaves again for `given`."""


class TransferBasis(StrEnum):
    """Legal path by which the data may leave the jurisdiction."""

    NONE = "none"
    CONTRACT = "contract"
    CERTIFICATION = "certification"
    ASSESSMENT = "assessment"
    ADEQUACY = "adequacy"
    EXEMPT = "exempt"


class _Value(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of the parts of a record."""


class Notice(_Value, frozen=True):
    """The privacy notice that was shown: its id, the digest of its text, its language (BCP 47)."""

    notice_id: Text = ""
    sha256: Sha256 = ""
    lang: Text = ""


class Party(_Value, frozen=True):
    """A party to the consent (27560: id, name, address, contact, type)."""

    party_id: Name
    name: Text = ""
    address: Text = ""
    contact: Text = ""
    party_type: Text = ""


class Terms(_Value, frozen=True):
    """Conditions of the processing. Records made from one policy share one `Terms` object."""

    controllers: tuple[Name, ...] = ()
    storage_locations: tuple[Name, ...] = ()
    retention_seconds: Seconds = 0
    jurisdiction: Annotated[str, Meta(pattern=r"\A(?:[A-Z]{2})?\Z")] = ""
    withdrawal_method: Text = ""
    parties: tuple[Party, ...] = ()
    transfer_basis: TransferBasis = TransferBasis.NONE
    transfer_list_version: Text = ""


class UseBudget(_Value, frozen=True):
    """How often the consent may be used: `max_uses`, None without limit; restored when a fragment died unopened."""

    max_uses: Count | None
    restore_if_unopened: bool = False


class Evidence(_Value, frozen=True):
    """How the consent can be shown to have happened. Never read by the decision."""

    event: Text = ""
    source: Text = ""
    reference: Text = ""
    sha256: Sha256 = ""
    tc_string: Text = ""
    signature: Text = ""


class ConsentRecord(_Value, frozen=True):
    """One version of one consent record: an act of a person at a moment.

    Defaults never widen: no scope, no validity, one use, no transfer. Times are int64 milliseconds UTC; validity is the
    half-open interval `[valid_from_ms, valid_until_ms)`.

    Attributes:
        record_id: Identifier shared by all versions of the record.
        version: 1 and up within the record.
        principal: Pseudonym of the person (for 16-byte pseudonyms: their hexadecimal form).
        state: State that this version enters.
        time_ms: Consent time: when the person acted.
        entity: Who indicated the state (`dpv:hasIndicatedBy`); the person when empty.
        prev: SHA-256 (hexadecimal) of the previous version's canonical bytes; empty in the first version.
    """

    record_id: Name
    principal: Name
    state: ConsentState
    time_ms: Millis
    valid_from_ms: Millis = 0
    valid_until_ms: Millis = 0
    scope: Scope = Scope()
    use: UseBudget = UseBudget(max_uses=1)
    version: Count = 1
    schema_version: str = SCHEMA_VERSION
    notice: Notice = Notice()
    terms: Terms = Terms()
    consent_type: Text = ""
    entity: Text = ""
    guardian: Text | None = None
    evidence: Evidence = Evidence()
    prev: Sha256 = ""


class MalformedRecord(_Value, frozen=True):
    """Something that was meant as a consent and cannot be read: it denies whatever it could have been about.

    Attributes:
        record_id: The id it carried, else one made from its digest.
        principal: Whose it is.
        time_ms: Its consent time if that could be read, else when it was received; a later readable act settles it.
        scope: The readable part of its scope; a dimension that could not be read is `"*"`.
        error: Why it could not be read.
        source: Source whose next readable observation lifts it; empty when there is none.
    """

    record_id: Name
    principal: Name
    time_ms: Millis
    scope: Scope
    error: Text
    source: Text = ""


def _value_at(obj: object, path: str) -> object:
    """Value at a msgspec error path such as `$.scope.topics[0]`; the nearest readable ancestor otherwise."""
    for step in re.findall(r"\.(\w+)|\[(\d+)\]", path):
        name, index = step
        if name and isinstance(obj, Mapping) and name in obj:
            obj = obj[name]
        elif index and isinstance(obj, (list, tuple)) and int(index) < len(obj):
            obj = obj[int(index)]
        else:
            break
    return obj


def _unreadable(obj: object, error: Exception) -> InvalidConsent:
    rule, _, path = str(error).partition(" - at ")
    path = path.strip("`") or "$"
    shown = _shown(_value_at(obj, path))
    if len(shown) > 120:
        shown = shown[:117] + "..."
    return InvalidConsent(
        f"record{path[1:]}={shown} must follow the schema ({rule}); correct it or ask the person again"
    )


def _check_grant(record: ConsentRecord) -> None:
    scope, terms = record.scope, record.terms
    if record.valid_from_ms >= record.valid_until_ms:
        raise InvalidConsent(
            f"valid_until_ms={record.valid_until_ms} must be > valid_from_ms={record.valid_from_ms} in a given consent;"
            " state the validity"
        )
    if ANY in scope.purposes:
        raise InvalidConsent("purposes='*' must not be granted; name each purpose")
    abroad = [country for country in scope.recipient_countries if country != terms.jurisdiction]
    if abroad and terms.transfer_basis is TransferBasis.NONE:
        raise InvalidConsent(
            f"recipient_countries={abroad!r} must have a transfer basis because jurisdiction={terms.jurisdiction!r};"
            " set terms.transfer_basis or drop them"
        )


def _check_rules(record: ConsentRecord) -> ConsentRecord:
    if record.schema_version != SCHEMA_VERSION:
        raise InvalidConsent(
            f"schema_version={record.schema_version!r} must be {SCHEMA_VERSION!r}; convert the record first"
        )
    if ANY in (record.record_id, record.principal):
        raise InvalidConsent("record_id and principal='*' must name one record and one person; give both")
    if record.state is ConsentState.GIVEN:
        _check_grant(record)
    return record


def parse_record(obj: Mapping[str, Any]) -> ConsentRecord:
    """Read one record from JSON values, strictly.

    Args:
        obj: Mapping with the fields of `ConsentRecord`; nested parts are mappings, lists are JSON arrays.

    Returns:
        The record.

    Raises:
        InvalidConsent: An unknown or missing field, a wrong type, bad taxonomy syntax, a given consent without
            validity, with purpose `"*"`, or with a foreign country and no transfer basis.
    """
    try:
        record = msgspec.convert(obj, ConsentRecord)
        canonical_bytes(record)  # text that UTF-8 cannot hold is found here, not in a snapshot
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise _unreadable(obj, error) from None
    return _check_rules(record)


def checked_record(record: object) -> ConsentRecord:
    """Return an equal record all of whose fields have been checked.

    Raises:
        InvalidConsent: `record` is no `ConsentRecord`, or one of its fields breaks its rule.
    """
    if not isinstance(record, ConsentRecord):
        raise InvalidConsent(
            f"record={type(record).__name__} must be a ConsentRecord; parse it with parse_record"
        )
    try:
        values = msgspec.to_builtins(record)
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidConsent(
            f"record={type(record).__name__} must hold JSON values ({error}); parse it first"
        ) from None
    return parse_record(values)


def _readable_scope(scope: object) -> Scope:
    """The dimensions that can be read; `"*"` for each that cannot, empty lists included."""
    known: dict[str, tuple[str, ...]] = {}
    for dimension in DIMENSIONS:
        values = scope.get(dimension) if isinstance(scope, Mapping) else getattr(scope, dimension, None)
        try:
            part = msgspec.convert({dimension: values}, Scope)
        except (TypeError, ValueError, OverflowError, RecursionError):
            known[dimension] = (ANY,)
        else:
            known[dimension] = getattr(part, dimension) or (ANY,)
    return msgspec.convert(known, Scope)


def _shown(obj: object) -> str:
    try:
        return repr(obj)
    except RecursionError:
        return type(obj).__name__


def _readable(obj: object, field: str) -> Any:
    return obj.get(field) if isinstance(obj, Mapping) else getattr(obj, field, None)


def malformed_record(
    obj: object, *, principal: str, received_ms: int = INT64_MAX, error: str = "unreadable", source: str = ""
) -> MalformedRecord:
    """Keep what can be read of something that was meant as a consent.

    Guarantees:
        Total: never raises on any `obj`. The result denies every request that the unreadable consent could have been
        about, until an act with a later consent time.

    Args:
        obj: Mapping or `ConsentRecord` with any content.
        principal: Whose consent it is.
        received_ms: When it was received, used where it holds no readable time; no later act can overtake the default.
        error: Why it could not be read.
        source: Source whose next readable observation lifts it.
    """
    record_id, time_ms = _readable(obj, "record_id"), _readable(obj, "time_ms")
    named = isinstance(record_id, str) and re.match(r"\A[A-Za-z0-9][A-Za-z0-9._:/@#+-]{0,199}\Z", record_id)
    if not named:
        record_id = (
            "malformed:" + hashlib.sha256(_shown(obj).encode(errors="backslashreplace")).hexdigest()[:32]
        )
    if isinstance(time_ms, bool) or not isinstance(time_ms, int) or not 0 <= time_ms <= INT64_MAX:
        time_ms = received_ms
    return MalformedRecord(
        record_id=record_id,
        principal=principal,
        time_ms=time_ms,
        scope=_readable_scope(_readable(obj, "scope")),
        error=error[:500],
        source=source,
    )


def canonical_bytes(record: ConsentRecord) -> bytes:
    """The one JSON form of a record: keys sorted, no blanks, every field written."""
    return msgspec.json.encode(record, order="sorted")


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
