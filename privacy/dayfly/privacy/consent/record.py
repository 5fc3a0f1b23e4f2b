"""Consent records with the field names of ISO/IEC TS 27560, and their canonical bytes.

Field meanings follow ISO/IEC TS 27560:2023 as read through the W3C DPV community guide (CG-FINAL 2024-08-01).
"""

from enum import StrEnum
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from .scope import Scope
from .taxonomy import Name

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


def canonical_bytes(record: ConsentRecord) -> bytes:
    """The one JSON form of a record: keys sorted, no blanks, every field written."""
    return msgspec.json.encode(record, order="sorted")
