"""The PROV export, read by the reference library for W3C PROV."""

import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from prov.model import (
    ProvActivity,
    ProvAssociation,
    ProvDerivation,
    ProvDocument,
    ProvEntity,
    ProvGeneration,
    ProvMembership,
    ProvUsage,
)

from dayfly.engine.lineage import FragmentLineage, LineageStore, to_prov

from .support import CONSENT, KEY, NOW_MS, SHAPE, event, order, sofa_block


def fragment(block: Any = None, jti: str = "jti-1") -> FragmentLineage:
    store = LineageStore.in_memory(subject_key=KEY)
    store.declare([SHAPE])
    store.put(jti, order(block=block))
    return store.fragment(jti)


def read(found: FragmentLineage) -> Any:
    return ProvDocument.deserialize(content=json.dumps(to_prov(found)), format="json")


def pairs(document: Any, kind: Any, *, first: int = 0, second: int = 1) -> set[tuple[str, str]]:
    return {
        (str(record.args[first]), str(record.args[second]))
        for record in document.get_records(kind)
        if record.args[second] is not None
    }


@pytest.fixture(scope="module")
def document() -> Any:
    return read(fragment())


FIELDS = {"fragment:jti-1/comparing", "fragment:jti-1/materials", "fragment:jti-1/budget"}


def test_fields_are_members_of_the_fragment(document: Any) -> None:
    assert pairs(document, ProvMembership) == {("fragment:jti-1", field) for field in FIELDS}


def test_each_field_is_derived_from_exactly_its_events(document: Any) -> None:
    derived = pairs(document, ProvDerivation)
    expected = {
        *(("fragment:jti-1/comparing", event(number).digest) for number in (1, 2, 3)),
        *(("fragment:jti-1/materials", event(number).digest) for number in (1, 3)),
        ("fragment:jti-1/budget", event(4).digest),
    }
    assert derived == {(field, f"event:{digest.hex()}") for field, digest in expected}


def test_each_field_is_generated_by_an_evaluation_at_the_instant_of_the_decision(document: Any) -> None:
    assert pairs(document, ProvGeneration) == {(field, f"{field}/evaluation") for field in FIELDS}
    instant = datetime.fromtimestamp(NOW_MS / 1_000, UTC).replace(microsecond=123_000)
    for activity in document.get_records(ProvActivity):
        assert activity.get_startTime() == activity.get_endTime() == instant


def test_each_evaluation_used_the_consent_and_followed_its_rules(document: Any) -> None:
    assert pairs(document, ProvUsage) == {
        (f"{field}/evaluation", "consent:c%3A7Q2mZk1b/3") for field in FIELDS
    }
    plans = pairs(document, ProvAssociation, second=2)
    assert ("fragment:jti-1/budget/evaluation", "rule:measure/sofa-advice.budget/2") in plans
    assert ("fragment:jti-1/comparing/evaluation", "rule:tag/comparing-sofa-materials/4") in plans
    assert {plan for _, plan in plans} >= {"rule:trigger/sofa-advice/2"}


def attributes(document: Any, name: str) -> dict[str, Any]:
    (record,) = document.get_record(name)
    return {str(key): value for key, value in record.attributes}


def test_the_consent_stands_with_its_validity(document: Any) -> None:
    found = attributes(document, "consent:c%3A7Q2mZk1b/3")
    for key, time_ms in (("validFrom", CONSENT.valid_from_ms), ("validUntil", CONSENT.valid_until_ms)):
        assert round(found[f"dayfly:{key}"].timestamp() * 1_000) == time_ms


def test_a_rule_stands_with_its_text(document: Any) -> None:
    assert attributes(document, "rule:tag/comparing-sofa-materials/4")["prov:value"] == SHAPE.rules[1].text


def test_a_field_stands_with_its_masking_and_count(document: Any) -> None:
    assert attributes(document, "fragment:jti-1/budget")["dayfly:masking"] == "band at 1000, 5000"
    assert attributes(document, "fragment:jti-1/comparing")["dayfly:contributingEvents"].value == "5"


def test_an_event_stands_with_its_channel(document: Any) -> None:
    found = attributes(document, f"event:{event(2).digest.hex()}")
    assert found["dayfly:channel"] == "web"
    assert "dayfly:received" in found


def test_every_name_that_is_used_is_declared(document: Any) -> None:
    declared = {str(record.identifier) for record in document.get_records(ProvEntity)}
    used = {
        name for kind in (ProvDerivation, ProvMembership) for pair in pairs(document, kind) for name in pair
    }
    assert used <= declared


def test_the_library_writes_it_back_to_the_same_document(document: Any) -> None:
    again = ProvDocument.deserialize(content=document.serialize(format="json"), format="json")
    assert again == document


def test_names_from_outside_cannot_break_the_document() -> None:
    odd = replace(CONSENT, record_id='c:"}{ é/#')
    found = read(fragment(sofa_block(consents=(odd,)), jti="a:b/c d"))
    assert {left for left, _ in pairs(found, ProvMembership)} == {"fragment:a%3Ab%2Fc%20d"}


def test_an_unknown_time_of_receipt_is_left_out() -> None:
    block = sofa_block()
    block = replace(block, events=tuple(replace(source, received_ms=None) for source in block.events))
    found = read(fragment(block))
    assert "dayfly:received" not in attributes(found, f"event:{event(2).digest.hex()}")


def test_neither_values_nor_pseudonyms_leave() -> None:
    text = json.dumps(to_prov(fragment()))
    assert "SECRET" not in text
    assert bytes(range(16)).hex() not in text
