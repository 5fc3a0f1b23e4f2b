"""The decision: boundary table, equality with an independent oracle, exact instants, totality, one mask for many."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dayfly.privacy.consent import (
    EVERYTHING,
    INT64_MAX,
    WAY_OUT,
    ConsentRecord,
    ConsentRequest,
    ConsentState,
    PersonConsents,
    ReasonCode,
    Requirements,
    Scope,
    UseBudget,
    compile_mask,
    decide,
)
from dayfly.privacy.errors import ConsentRefused, InvalidArgument, InvalidConsent

from ...oracles import consent as oracle
from .cases import END, asking, persons, record, requests, scope, told

DOC = Path(__file__).parents[3] / "docs" / "consent.md"


def boundary_rows() -> list[list[str]]:
    table = DOC.read_text(encoding="utf-8").partition("## Boundary cases")[2].partition("\n## ")[0]
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in table.splitlines()
        if line.startswith("|")
    ]
    return rows[2:]


@pytest.mark.parametrize(("known", "asked", "now", "answer"), boundary_rows())
def test_boundary_table_of_the_docs_holds(known: str, asked: str, now: str, answer: str) -> None:
    purpose, _, topic = asked.partition("/")
    request, person = asking(purpose, topic), told(known)
    assert decide(request, person, int(now)).reason == answer
    assert compile_mask([request], person, int(now))[0] == (answer == "granted")
    assert oracle.allowed(request, person.entries, person.links, person.spent, int(now)) == (
        answer == "granted"
    )


def test_boundary_table_has_its_rows() -> None:
    assert len(boundary_rows()) >= 44


def test_every_reason_code_is_documented_and_has_a_way_out() -> None:
    table = DOC.read_text(encoding="utf-8").partition("## Reason codes")[2].partition("\n## ")[0]
    assert re.findall(r"^\| `(\w+)` \|", table, flags=re.MULTILINE) == [code.value for code in ReasonCode]
    assert set(WAY_OUT) == set(ReasonCode)


def test_example_of_the_docs_runs() -> None:
    code = DOC.read_text(encoding="utf-8").partition("```python\n")[2].partition("```")[0]
    exec(compile(code, "docs/consent.md", "exec"), {})


def test_every_reason_code_is_reached() -> None:
    reached = {row[3] for row in boundary_rows()}
    narrow = record(
        scope=scope(
            data_categories=("a",), recipients=("crm",), channels=("app",), recipient_countries=("CN",)
        )
    )
    person = PersonConsents("p1").with_record(narrow)
    good = asking(data_categories=("a.b",))
    assert decide(good, person, 10).allowed
    misses = [
        replace(good, data_categories=("a", "b")),
        replace(good, recipient="crm2"),
        replace(good, channel="store"),
        replace(good, recipient_country="DE"),
        replace(good, purpose="Not a path"),
    ]
    reached |= {decide(request, person, 10).reason.value for request in misses}
    assert reached == {code.value for code in ReasonCode}


@given(persons(), requests())
def test_decision_equals_the_oracle_at_every_instant(person: PersonConsents, request: ConsentRequest) -> None:
    for now in range(END + 1):
        want = oracle.allowed(request, person.entries, person.links, person.spent, now)
        assert decide(request, person, now).allowed == want, now


@given(persons(), requests())
def test_decision_stands_exactly_until_its_instants(person: PersonConsents, request: ConsentRequest) -> None:
    decisions = [decide(request, person, now) for now in range(END + 2)]
    for now, decision in enumerate(decisions[:-1]):
        until = decision.next_change_ms
        assert until > now
        same = decisions[now : min(until, END + 2)]
        assert {(one.allowed, one.reason, one.record_id) for one in same} == {
            (decision.allowed, decision.reason, decision.record_id)
        }
        if decision.allowed:
            ends = [at for at in range(now, END + 2) if not decisions[at].allowed]
            assert decision.until_ms == ends[0]
        else:
            assert decision.until_ms == now


@given(persons(), st.lists(requests(), max_size=63), st.integers(0, END))
def test_mask_equals_single_decisions(person: PersonConsents, asked: list[ConsentRequest], now: int) -> None:
    mask, change = compile_mask(asked, person, now)
    decisions = [decide(request, person, now) for request in asked]
    assert mask == sum(decision.allowed << bit for bit, decision in enumerate(decisions))
    assert change == min((decision.next_change_ms for decision in decisions), default=INT64_MAX)
    assert compile_mask(Requirements(asked), person, now) == (mask, change)


def test_mask_holds_63_requirements_and_no_more() -> None:
    person = PersonConsents("p1").with_record(record())
    assert compile_mask([asking()] * 63, person, 10)[0] == 2**63 - 1
    with pytest.raises(InvalidArgument, match="requirements=64 must be <= 63"):
        compile_mask([asking()] * 64, person, 10)


def test_mask_of_more_scopes_than_are_kept_stays_right() -> None:
    needs = Requirements([asking()])
    person = PersonConsents("p1").with_record(record())
    for number in range(5_000):
        needs.masks(scope(topic=f"t{number}"))
    assert compile_mask(needs, person, 10)[0] == 1


def test_refusal_names_purpose_reason_and_way_out() -> None:
    decision = decide(asking(), PersonConsents("p1"), 5)
    with pytest.raises(
        ConsentRefused, match=r"purpose='service' must be consented .*no_record.*; ask the person"
    ) as caught:
        decision.require()
    assert (caught.value.request, caught.value.reason) == (asking(), ReasonCode.NO_RECORD)
    allowed = decide(asking(), PersonConsents("p1").with_record(record()), 10)
    assert allowed.require() is allowed


@pytest.mark.parametrize(
    ("known", "now", "change"),
    [
        ("*nothing*", 5, INT64_MAX),
        ("given c1@10 service/sofa 12..20", 9, 10),
        ("given c1@10 service/sofa 12..20", 10, 12),
        ("given c1@10 service/sofa 12..20", 11, 12),
        ("given c1@10 service/sofa 12..20", 12, 20),
        ("given c1@10 service/sofa 12..20", 20, INT64_MAX),
        ("given c1@10 service/sofa 10..20 x1; use c1", 15, 20),
        ("given c1@10 service/sofa 10..20; given c1@13 service/sofa 13..30", 11, 13),
        ("given c1@10 service/sofa 10..20; withdrawn w@11 */*", 15, INT64_MAX),
        ("given c1@10 service/sofa 10..20; withdrawn w@11 */*; given c2@18 service/sofa 18..30", 15, 18),
    ],
)
def test_the_next_change_is_the_next_instant_that_matters(known: str, now: int, change: int) -> None:
    assert decide(asking(), told(known), now).next_change_ms == change
    assert compile_mask([asking()], told(known), now)[1] == change


def test_an_expired_version_changes_its_reason_when_it_is_superseded() -> None:
    person = PersonConsents("p1").with_record(record(window=(10, 14)))
    person = person.with_record(record(at=20, version=2, scope=scope(topic="lamp")))
    decision = decide(asking(), person, 15)
    assert (decision.reason, decision.next_change_ms) == (ReasonCode.EXPIRED, 20)
    assert decide(asking(), person, 20).reason is ReasonCode.SUPERSEDED


def test_decision_names_the_tightest_of_equal_grants() -> None:
    one, two = record(record_id="c1", uses=3), record(record_id="c2", uses=2, window=(10, 20))
    decision = decide(asking(), PersonConsents("p1").with_record(one).with_record(two), 12)
    assert (decision.record_id, decision.uses_left, decision.until_ms) == ("c2", 2, 20)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
FIELDS = ConsentRecord.__struct_fields__


@given(
    st.dictionaries(st.sampled_from(FIELDS), JSON, min_size=1),
    JSON,
    JSON,
    st.sampled_from(["direct", "method"]),
)
def test_decide_never_raises_whatever_a_record_or_request_holds(
    changes: dict[str, Any], part: Any, now: Any, way: str
) -> None:
    broken = msgspec.structs.replace(record(), **changes)
    if way == "direct":  # garbage that never went through a method
        person = PersonConsents("p1", (broken, part))
    else:
        try:
            person = PersonConsents("p1").with_record(broken)
        except InvalidConsent:
            return  # readable and somebody else's
    for request in (asking(), replace(asking(), topic=part), replace(asking(), data_categories=part), part):
        for instant in (10, now):
            decision = decide(request, person, instant)
            assert decision.allowed in (True, False)
            assert compile_mask([request], person, instant)[0] == decision.allowed


@pytest.mark.parametrize("junk", [None, 5, 1.5, True, b"sofa", [], {}, ("sofa",)])
@pytest.mark.parametrize(
    "field", ["purpose", "topic", "data_categories", "recipient", "channel", "recipient_country"]
)
def test_malformed_request_is_no_beside_narrow_grants_and_sound_requests(field: str, junk: Any) -> None:
    changes: dict[str, Any] = {field: (junk,) if field == "data_categories" else junk}
    broken = replace(asking(), **changes)
    person = PersonConsents("p1").with_record(
        record(scope=scope(topic="sofa", data_categories=("behaviour",)))
    )
    assert decide(broken, person, 12).reason is ReasonCode.MALFORMED_REQUEST
    assert compile_mask([broken, asking()], person, 12)[0] == 2
    assert compile_mask([broken, asking()], person.with_withdrawal(scope("marketing"), 11), 12)[0] == 2


@pytest.mark.parametrize("person", [None, {}, "p1", 5])
def test_absent_person_is_no(person: Any) -> None:
    assert decide(asking(), person, 10).reason is ReasonCode.NO_RECORD
    assert compile_mask([asking()], person, 10) == (0, INT64_MAX)


@pytest.mark.parametrize("now", [None, True, "10", 10.0, 2**63, -(2**63) - 1])
def test_malformed_instant_is_no(now: Any) -> None:
    person = PersonConsents("p1").with_record(record())
    assert decide(asking(), person, now).reason is ReasonCode.MALFORMED_REQUEST
    assert compile_mask([asking()], person, now) == (0, INT64_MAX)


@pytest.mark.parametrize("field", FIELDS)
def test_a_record_with_one_malformed_field_denies(field: str) -> None:
    broken = msgspec.structs.replace(record(), **{field: {"not": "readable"}})
    person = PersonConsents("p1").with_record(record(at=9, record_id="c0")).with_record(broken)
    assert decide(asking(), person, 12).reason is ReasonCode.MALFORMED_RECORD


def test_request_syntax_is_checked_on_demand() -> None:
    assert asking().checked() == asking()
    with pytest.raises(InvalidConsent, match=r"request=.* must hold one dotted purpose"):
        ConsentRequest("Service").checked()
    with pytest.raises(InvalidConsent, match="two-letter country"):
        asking(recipient_country="cn").checked()


def test_star_is_met_by_star_only() -> None:
    person = PersonConsents("p1").with_record(record(scope=scope(topic="sofa")))
    assert decide(asking(topic="*"), person, 12).reason is ReasonCode.OUT_OF_SCOPE_TOPIC
    person = person.with_record(record(at=11, record_id="c2"))
    assert decide(asking(topic="*"), person, 12).allowed


def test_empty_list_grants_nothing_and_limits_no_denial() -> None:
    person = PersonConsents("p1").with_record(record(scope=Scope(purposes=("service",))))
    assert decide(asking(), person, 12).reason is ReasonCode.OUT_OF_SCOPE_TOPIC
    person = PersonConsents("p1").with_record(record()).with_withdrawal(Scope(), 11)
    assert decide(asking(), person, 12).reason is ReasonCode.WITHDRAWN
    assert PersonConsents("p1").with_withdrawal(EVERYTHING, 11).entries[0].scope == EVERYTHING


def test_use_defaults_to_once() -> None:
    person = PersonConsents("p1").with_record(record(use=UseBudget(max_uses=1))).with_use("c1", 1, "r")
    assert ConsentRecord(record_id="x", principal="p", state=ConsentState.GIVEN, time_ms=0).use == UseBudget(
        max_uses=1
    )
    assert decide(asking(), person, 12).reason is ReasonCode.SPENT
