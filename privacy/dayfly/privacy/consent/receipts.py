"""Consent receipts: what the person or an auditor gets, with the mandatory fields of ISO/IEC TS 27560:2023."""

from typing import Any, Final

import msgspec

from dayfly.privacy.errors import InvalidConsent

from .chain import record_digest
from .record import ConsentRecord, ConsentState, Party

__all__ = ["ConsentReceipt", "missing_fields", "receipt", "receipt_json", "receipt_json_ld"]


class ConsentReceipt(msgspec.Struct, frozen=True, kw_only=True):
    """A receipt: its own id and time, the record's mandatory 27560 fields, and the record's digest."""

    receipt_id: str
    issued_at_ms: int
    schema_version: str
    record_id: str
    record_version: int
    record_sha256: str
    pii_principal_id: str
    privacy_notice: str
    privacy_notice_sha256: str
    language: str
    purposes: tuple[str, ...]
    topics: tuple[str, ...]
    pii_types: tuple[str, ...]
    pii_controllers: tuple[str, ...]
    storage_locations: tuple[str, ...]
    retention_seconds: int
    jurisdiction: str
    recipient_third_parties: tuple[str, ...]
    recipient_countries: tuple[str, ...]
    transfer_basis: str
    channels: tuple[str, ...]
    withdrawal_method: str
    parties: tuple[Party, ...]
    event_time_ms: int
    valid_from_ms: int
    valid_until_ms: int
    max_uses: int | None
    entity_id: str
    consent_type: str
    event_state: str


def missing_fields(record: ConsentRecord) -> tuple[str, ...]:
    """Mandatory 27560 fields that a record does not fill in; a record may decide without them, a receipt may not be."""
    wanted: dict[str, object] = {
        "notice.notice_id": record.notice.notice_id,
        "notice.lang": record.notice.lang,
        "scope.purposes": record.scope.purposes,
        "scope.data_categories": record.scope.data_categories,
        "scope.recipients": record.scope.recipients,
        "terms.controllers": record.terms.controllers,
        "terms.storage_locations": record.terms.storage_locations,
        "terms.retention_seconds": record.terms.retention_seconds,
        "terms.jurisdiction": record.terms.jurisdiction,
        "terms.withdrawal_method": record.terms.withdrawal_method,
        "terms.parties": record.terms.parties,
        "consent_type": record.consent_type,
    }
    return tuple(name for name, value in wanted.items() if not value)


def receipt(record: ConsentRecord, *, issued_at_ms: int, receipt_id: str) -> ConsentReceipt:
    """Make the receipt of one version of a record.

    Args:
        record: A checked record.
        issued_at_ms: Time of issue, int64 milliseconds UTC.
        receipt_id: The receipt's own identifier.

    Raises:
        InvalidConsent: The record leaves mandatory fields empty.
    """
    missing = missing_fields(record)
    if missing:
        raise InvalidConsent(
            f"record_id={record.record_id!r} must fill {list(missing)!r} for a receipt; complete it"
        )
    scope, terms = record.scope, record.terms
    return ConsentReceipt(
        receipt_id=receipt_id,
        issued_at_ms=issued_at_ms,
        schema_version=record.schema_version,
        record_id=record.record_id,
        record_version=record.version,
        record_sha256=record_digest(record),
        pii_principal_id=record.principal,
        privacy_notice=record.notice.notice_id,
        privacy_notice_sha256=record.notice.sha256,
        language=record.notice.lang,
        purposes=scope.purposes,
        topics=scope.topics,
        pii_types=scope.data_categories,
        pii_controllers=terms.controllers,
        storage_locations=terms.storage_locations,
        retention_seconds=terms.retention_seconds,
        jurisdiction=terms.jurisdiction,
        recipient_third_parties=scope.recipients,
        recipient_countries=scope.recipient_countries,
        transfer_basis=terms.transfer_basis.value,
        channels=scope.channels,
        withdrawal_method=terms.withdrawal_method,
        parties=terms.parties,
        event_time_ms=record.time_ms,
        valid_from_ms=record.valid_from_ms,
        valid_until_ms=record.valid_until_ms,
        max_uses=record.use.max_uses,
        entity_id=record.entity or record.principal,
        consent_type=record.consent_type,
        event_state=record.state.value,
    )


def receipt_json(issued: ConsentReceipt) -> bytes:
    """Canonical JSON of a receipt."""
    return msgspec.json.encode(issued, order="sorted")


_CONTEXT: Final = {
    "dct": "http://purl.org/dc/terms/",
    "dpv": "https://w3id.org/dpv#",
    "loc": "https://w3id.org/dpv/loc#",
    "xsd": "http://www.w3.org/2001/XMLSchema#",
    "dayfly": "urn:dayfly:consent:",
}
_STATUS: Final = {
    ConsentState.REQUESTED: "dpv:ConsentRequested",
    ConsentState.GIVEN: "dpv:ConsentGiven",
    ConsentState.USED: "dpv:ConsentExpired",
    ConsentState.WITHDRAWN: "dpv:ConsentWithdrawn",
    ConsentState.EXPIRED: "dpv:ConsentExpired",
    ConsentState.REFUSED: "dpv:ConsentRefused",
    ConsentState.INVALIDATED: "dpv:ConsentInvalidated",
}


def receipt_json_ld(issued: ConsentReceipt) -> dict[str, Any]:
    """The receipt as JSON-LD with terms of the W3C Data Privacy Vocabulary, the shape of the 27560 community guide."""
    process = {
        "@type": "dpv:Process",
        "dpv:hasPurpose": [f"dayfly:{purpose}" for purpose in issued.purposes],
        "dpv:hasPersonalData": [f"dayfly:{category}" for category in issued.pii_types],
        "dpv:hasDataController": list(issued.pii_controllers),
        "dpv:hasRecipient": list(issued.recipient_third_parties),
        "dpv:hasJurisdiction": f"loc:{issued.jurisdiction}",
        "dpv:hasStorageCondition": [
            {"@type": "dpv:StorageLocation", "dpv:hasLocation": list(issued.storage_locations)},
            {"@type": "dpv:StorageDuration", "dpv:hasDuration": f"PT{issued.retention_seconds}S"},
        ],
        "dpv:hasConsentControl": {
            "@type": "dpv:WithdrawConsent",
            "dpv:isExercisedAt": issued.withdrawal_method,
        },
    }
    record = {
        "@type": "dpv:ConsentRecord",
        "dct:identifier": issued.record_id,
        "dct:hasVersion": issued.record_version,
        "dct:conformsTo": "https://w3id.org/dpv/schema/dpv-27560#record",
        "dpv:hasDataSubject": issued.pii_principal_id,
        "dpv:hasNotice": {
            "@type": "dpv:ConsentNotice",
            "dct:identifier": issued.privacy_notice,
            "dct:language": issued.language,
        },
        "dpv:hasProcess": process,
        "dpv:hasConsentStatus": {
            "@type": _STATUS[ConsentState(issued.event_state)],
            "dpv:isIndicatedBy": issued.entity_id,
            "dayfly:event_time_ms": issued.event_time_ms,
            "dayfly:valid_from_ms": issued.valid_from_ms,
            "dayfly:valid_until_ms": issued.valid_until_ms,
        },
        "dayfly:topics": list(issued.topics),
        "dayfly:channels": list(issued.channels),
        "dayfly:recipient_countries": list(issued.recipient_countries),
        "dayfly:transfer_basis": issued.transfer_basis,
        "dayfly:max_uses": issued.max_uses,
        "dayfly:sha256": issued.record_sha256,
    }
    return {
        "@context": dict(_CONTEXT),
        "@type": "dpv:ConsentReceipt",
        "@id": f"dayfly:receipt:{issued.receipt_id}",
        "dct:identifier": issued.receipt_id,
        "dct:conformsTo": "https://w3id.org/dpv/schema/dpv-27560#receipt",
        "dayfly:issued_at_ms": issued.issued_at_ms,
        "dpv:hasRecordOfActivity": record,
    }
