"""Receipts, and import of the W3C guide's samples."""

import csv
import io
import json
from datetime import UTC
from pathlib import Path
from typing import Any

import msgspec
import pytest

from dayfly.privacy.consent import (
    ConsentRecord,
    ConsentState,
    DpvTaxonomy,
    Notice,
    Party,
    PersonConsents,
    Terms,
    decide,
    load_json_ld,
    missing_fields,
    receipt,
    receipt_json,
    receipt_json_ld,
    record_digest,
    record_from_dpv,
)
from dayfly.privacy.errors import InvalidConsent

from .cases import asking, record, scope


def complete() -> ConsentRecord:
    """A record with every mandatory 27560 field."""
    return record(
        consent_type="explicit",
        notice=Notice(notice_id="n-44", sha256="ab" * 32, lang="zh-CN"),
        scope=scope(topic="sofa", recipients=("crm",), recipient_countries=("CN",)),
        terms=Terms(
            controllers=("retailer-cn",),
            storage_locations=("CN",),
            retention_seconds=1800,
            jurisdiction="CN",
            withdrawal_method="https://example.com/w/1",
            parties=(
                Party(
                    party_id="retailer-cn", name="Retailer", address="a", contact="c", party_type="controller"
                ),
            ),
        ),
    )


def test_receipt_repeats_the_mandatory_fields() -> None:
    issued = json.loads(receipt_json(receipt(complete(), issued_at_ms=99, receipt_id="r-1")))
    assert issued == {
        "receipt_id": "r-1", "issued_at_ms": 99, "schema_version": "dayfly-consent-1", "record_id": "c1",
        "record_version": 1, "record_sha256": record_digest(complete()), "pii_principal_id": "p1",
        "privacy_notice": "n-44", "privacy_notice_sha256": "ab" * 32, "language": "zh-CN", "purposes": ["service"],
        "topics": ["sofa"], "pii_types": ["*"], "pii_controllers": ["retailer-cn"], "storage_locations": ["CN"],
        "retention_seconds": 1800, "jurisdiction": "CN", "recipient_third_parties": ["crm"],
        "recipient_countries": ["CN"], "transfer_basis": "none", "channels": ["*"],
        "withdrawal_method": "https://example.com/w/1",
        "parties": [{"party_id": "retailer-cn", "name": "Retailer", "address": "a", "contact": "c", "party_type": "controller"}],
        "event_time_ms": 10, "valid_from_ms": 10, "valid_until_ms": 40, "max_uses": None, "entity_id": "p1",
        "consent_type": "explicit", "event_state": "given",
    }  # fmt: skip


MANDATORY = {
    "notice.notice_id", "notice.lang", "scope.purposes", "scope.data_categories", "scope.recipients", "terms.controllers",
    "terms.storage_locations", "terms.retention_seconds", "terms.jurisdiction", "terms.withdrawal_method", "terms.parties",
    "consent_type",
}  # fmt: skip


@pytest.mark.parametrize("name", sorted(MANDATORY))
def test_receipt_of_an_incomplete_record_is_refused(name: str) -> None:
    part, _, field = name.partition(".")
    whole = complete()
    if field:
        inner = getattr(whole, part)
        empty: Any = type(getattr(inner, field))()
        whole = msgspec.structs.replace(whole, **{part: msgspec.structs.replace(inner, **{field: empty})})
    else:
        whole = msgspec.structs.replace(whole, **{part: ""})
    assert missing_fields(whole) == (name,)
    with pytest.raises(InvalidConsent, match=rf"must fill \['{name}'\] for a receipt; complete it"):
        receipt(whole, issued_at_ms=1, receipt_id="r")
    assert set(missing_fields(record(scope=scope().__class__(), consent_type=""))) >= MANDATORY - {
        "terms.jurisdiction"
    }


def table(shared_data: Path, name: str) -> list[dict[str, str]]:
    """Rows of one of DPV's tables."""
    text = (shared_data / "dpv" / "2.3" / f"{name}.csv").read_text(encoding="utf-8")
    return list(csv.DictReader(io.StringIO(text, newline="")))


def vocabulary(shared_data: Path) -> set[str]:
    return {
        row["term"]
        for file in (
            "purposes",
            "consent_status",
            "consent_types",
            "consent_controls",
            "legal_basis",
            "personal_data",
        )
        for row in table(shared_data, file)
    }


def test_json_ld_uses_statuses_that_the_vocabulary_has(shared_data: Path) -> None:
    terms = vocabulary(shared_data)
    for state in ConsentState:
        whole = msgspec.structs.replace(complete(), state=state)
        exported = receipt_json_ld(receipt(whole, issued_at_ms=1, receipt_id="r"))
        status = exported["dpv:hasRecordOfActivity"]["dpv:hasConsentStatus"]["@type"]
        assert status.removeprefix("dpv:") in terms
        control = exported["dpv:hasRecordOfActivity"]["dpv:hasProcess"]["dpv:hasConsentControl"]["@type"]
        assert control.removeprefix("dpv:") in terms
        assert json.loads(json.dumps(exported)) == exported


def test_json_ld_has_the_shape_of_the_guides_receipt(shared_data: Path) -> None:
    samples = json.loads(
        (shared_data / "dpv" / "consent_27560_guide_samples.json").read_text(encoding="utf-8")
    )["samples"]
    theirs = next(json.loads(one["text"]) for one in samples if one["n"] == 88)
    ours = receipt_json_ld(receipt(complete(), issued_at_ms=1, receipt_id="r"))
    assert ours["@type"] == theirs["@type"]
    assert ours["dct:conformsTo"] == theirs["dct:conformsTo"]
    mine, guide = ours["dpv:hasRecordOfActivity"], theirs["dpv:hasRecordOfActivity"]
    shared = {"@type", "dct:identifier", "dct:conformsTo", "dpv:hasDataSubject", "dpv:hasProcess"}
    assert shared <= set(mine) & set(guide)


# --- import ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def taxonomy(shared_data: Path) -> DpvTaxonomy:
    """DPV 2.3 purposes."""
    return DpvTaxonomy.from_rows(table(shared_data, "purposes"))


def sample() -> dict[str, Any]:
    """A whole record in the guide's terms."""
    return {
        "@id": "https://example.com/a6f58318",
        "@type": "dpv:ConsentRecord",
        "dct:identifier": "a6f58318",
        "dpv:hasDataSubject": {"@id": "0760c9ba"},
        "dpv:hasProcess": {
            "dpv:hasPurpose": "dpv:ServicePersonalisation",
            "dpv:hasPersonalData": "pd:EmailAddress",
            "dpv:hasDataController": "ex:Acme",
            "dpv:hasRecipient": ["ex:Beta"],
            "dpv:hasJurisdiction": "loc:IE",
        },
        "dpv:hasConsentStatus": {
            "@type": ["dpv:ConsentGiven", "dpv:ExplicitlyExpressedConsent"],
            "dpv:isIndicatedAtTime": "2023-11-05T16:18:25Z",
            "dpv:hasDuration": {"@type": "dpv:UntilTimeDuration", "rdf:value": "2023-12-31T23:59:59Z"},
        },
    }


def test_dpv_record_is_imported_and_decides(taxonomy: DpvTaxonomy) -> None:
    imported = record_from_dpv(sample(), taxonomy, topics=["*"], channels=["*"], recipient_countries=["IE"])
    assert (imported.time_ms, imported.valid_until_ms) == (1_699_201_105_000, 1_704_067_199_000)
    person = PersonConsents("0760c9ba").with_record(imported)
    request = asking(
        "dpv.personalisation.service-personalisation.personalised-benefits",
        data_categories=("pd.email-address",), recipient="ex:Beta", recipient_country="IE",
    )  # fmt: skip
    assert decide(request, person, 1_699_201_105_000).allowed
    assert not decide(asking("dpv.personalisation"), person, 1_699_201_105_000).allowed


def test_what_dpv_cannot_say_defaults_to_nothing(taxonomy: DpvTaxonomy) -> None:
    imported = record_from_dpv(sample(), taxonomy)
    assert (imported.scope.topics, imported.scope.channels, imported.scope.recipient_countries) == (
        (),
        (),
        (),
    )
    assert imported.use.max_uses == 1


def changed(path: str, value: Any) -> dict[str, Any]:
    obj = sample()
    *parents, last = path.split("/")
    inner = obj
    for parent in parents:
        inner = inner[parent]
    if value is None:
        del inner[last]
    else:
        inner[last] = value
    return obj


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("dpv:hasConsentStatus", None, "dpv:hasConsentStatus='None' must be exactly one object"),
        ("dpv:hasConsentStatus", [{}, {}], "must be exactly one object"),
        (
            "dpv:hasConsentStatus/@type",
            "dpv:ConsentUnknown",
            "dpv:hasConsentStatus='dpv:ConsentUnknown' must be one known status",
        ),
        (
            "dpv:hasConsentStatus/@type",
            ["dpv:ConsentGiven", "dpv:ConsentRefused"],
            "must be one known status",
        ),
        ("dpv:hasConsentStatus/dpv:isIndicatedAtTime", "2023-11-05T16:18:25", "must have a time zone"),
        ("dpv:hasConsentStatus/dpv:isIndicatedAtTime", "soon", "must be a date and time"),
        (
            "dpv:hasConsentStatus/dpv:hasDuration",
            "P6M",
            "dpv:hasDuration='P6M' must be seconds or an UntilTimeDuration",
        ),
        ("dpv:hasConsentStatus/dpv:hasDuration", None, "dpv:hasDuration=None must"),
        ("dpv:hasProcess", [{}, {}], "split the record per process"),
        ("dpv:hasProcess/dpv:hasPurpose", None, r"process=\['dpv:hasPurpose'\] must not be empty"),
        ("dpv:hasProcess/dpv:hasRecipient", None, r"process=\['dpv:hasRecipient'\] must not be empty"),
        (
            "dpv:hasProcess/dpv:hasPurpose",
            "dpv:Nonsense",
            "purpose='dpv:Nonsense' must be a purpose of the vocabulary",
        ),
        ("dpv:hasProcess/dpv:hasPurpose", {"skos:broader": "dpv:Marketing"}, "must name one thing"),
        ("dpv:hasProcess/dpv:hasJurisdiction", "loc:EU-wide", "must follow the schema"),
        ("dpv:hasDataSubject", None, "dpv:hasDataSubject=None must name one thing"),
    ],
)
def test_dpv_record_without_what_is_needed_is_refused(
    taxonomy: DpvTaxonomy, path: str, value: Any, message: str
) -> None:
    with pytest.raises(InvalidConsent, match=message):
        record_from_dpv(changed(path, value), taxonomy)


def test_seconds_and_a_known_zone_are_accepted(taxonomy: DpvTaxonomy) -> None:
    obj = changed("dpv:hasConsentStatus/dpv:hasDuration", 60)
    obj["dpv:hasConsentStatus"]["dpv:isIndicatedAtTime"] = "2023-11-05T16:18:25"
    imported = record_from_dpv(obj, taxonomy, naive_zone=UTC)
    assert imported.valid_until_ms - imported.valid_from_ms == 60_000


def test_every_sample_of_the_guide_is_imported_or_refused_with_a_reason(
    shared_data: Path, taxonomy: DpvTaxonomy
) -> None:
    samples = json.loads(
        (shared_data / "dpv" / "consent_27560_guide_samples.json").read_text(encoding="utf-8")
    )["samples"]
    assert len(samples) > 50
    for one in samples:
        with pytest.raises(InvalidConsent, match="must") as refused:
            record_from_dpv(load_json_ld(one["text"]), taxonomy, naive_zone=UTC)
        assert "; " in str(refused.value)


def test_parts_of_the_guides_samples_make_a_record(shared_data: Path, taxonomy: DpvTaxonomy) -> None:
    samples = json.loads(
        (shared_data / "dpv" / "consent_27560_guide_samples.json").read_text(encoding="utf-8")
    )["samples"]
    text = {one["n"]: one["text"] for one in samples}
    obj = load_json_ld(text[72]) | load_json_ld(text[6])
    obj["dpv:hasProcess"] = (
        load_json_ld(text[40])["dpv:hasProcess"] | load_json_ld(text[51])["dpv:hasProcess"]
    )
    imported = record_from_dpv(obj, taxonomy, naive_zone=UTC)
    assert imported.scope.purposes == ("dpv.service-management.service-provision",)
    assert imported.scope.data_categories == ("pd.email", "pd.name")
    assert imported.scope.recipients == ("ex:Beta",)


def test_repeated_keys_and_other_texts_are_refused() -> None:
    with pytest.raises(InvalidConsent, match=r"keys=\['a'\] must occur once"):
        load_json_ld('{"a": 1, "a": 2}')
    with pytest.raises(InvalidConsent, match="must be JSON"):
        load_json_ld("{")
    with pytest.raises(InvalidConsent, match="must be a JSON object"):
        load_json_ld("[]")


def test_dpv_hierarchy_becomes_paths(taxonomy: DpvTaxonomy) -> None:
    assert taxonomy.path("dpv:Marketing") == "dpv.marketing"
    assert taxonomy.path("https://w3id.org/dpv#DirectMarketing") == "dpv.marketing.direct-marketing"
    assert taxonomy.path("ProtectionOfIPR").endswith("protection-of-ipr")
    assert len(taxonomy.paths) > 100
