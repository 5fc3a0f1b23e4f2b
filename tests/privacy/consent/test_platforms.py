"""Consent platforms: what Segment and RudderStack say, what repeats of it mean, and that TC strings grant nothing."""

import gzip
import json
from itertools import permutations, product
from pathlib import Path
from typing import Any

import msgspec
import pytest

from dayfly.privacy.consent import (
    EVERYTHING,
    ConsentRequest,
    ConsentState,
    Observation,
    PersonConsents,
    PlatformMapping,
    ReasonCode,
    Terms,
    UseBudget,
    decide,
    parse_mapping,
    records_from_rudderstack,
    records_from_segment,
    tc_string_evidence,
)
from dayfly.privacy.errors import InvalidConsent

from .cases import record, scope

ALL: dict[str, Any] = {
    "topics": ["*"],
    "data_categories": ["*"],
    "recipients": ["*"],
    "channels": ["*"],
    "recipient_countries": ["CN"],
}
POLICY: dict[str, Any] = {
    "categories": {
        "func": {"scope": {"purposes": ["service"], **ALL}, "validity_seconds": 100, "max_uses": None},
        "pers": {
            "scope": {"purposes": ["service.recommendation"], **ALL},
            "validity_seconds": 100,
            "max_uses": None,
        },
        "ads": {"scope": {"purposes": ["marketing"], **ALL}, "validity_seconds": 10, "max_uses": 1},
    },
    "terms": {"jurisdiction": "CN"},
}
MAPPING = parse_mapping(POLICY)


def asks(purpose: str) -> ConsentRequest:
    """A request in the home country."""
    return ConsentRequest(purpose, "sofa", ("behaviour",), "crm", "app", "CN")


def seen(
    time_ms: int, *, source: str = "web", mapping: PlatformMapping = MAPPING, **answers: bool
) -> Observation:
    """A Segment object with these answers."""
    return records_from_segment(
        {"categoryPreferences": answers}, mapping, subject="p1", time_ms=time_ms, source=source
    )


def after(*observations: Observation) -> PersonConsents:
    """A person after some observations."""
    person = PersonConsents("p1")
    for observation in observations:
        person = person.with_observation(observation)
    return person


def reasons(person: PersonConsents, now: int) -> list[str]:
    """Reasons for the three purposes of the policy."""
    return [
        decide(asks(purpose), person, now).reason.value
        for purpose in ("service", "service.recommendation", "marketing")
    ]


def test_true_grants_false_and_absent_refuse_and_unmapped_grants_nothing() -> None:
    person = after(seen(1000, func=True, pers=True, unknown=True))
    assert reasons(person, 1000) == ["granted", "granted", "refused"]
    assert decide(asks("unknown"), person, 1000).reason is ReasonCode.OUT_OF_SCOPE_PURPOSE
    assert reasons(after(seen(1000)), 1000) == ["refused"] * 3
    assert {one.evidence.source for one in person.entries if hasattr(one, "evidence")} == {"web"}


def test_validity_and_uses_come_from_the_mapping() -> None:
    person = after(seen(1000, ads=True))
    decision = decide(asks("marketing"), person, 1000)
    assert (decision.until_ms, decision.uses_left) == (11_000, 1)
    assert decide(asks("marketing"), person, 11_000).reason is ReasonCode.EXPIRED


@pytest.mark.parametrize(
    "obj",
    [
        None, 5, "x", [], {}, {"categoryPreferences": None}, {"categoryPreferences": ["func"]},
        {"categoryPreferences": {"func": "true"}}, {"categoryPreferences": {"func": 1, "pers": True}},
        {"categoryPreferences": {"func": None}}, {"categoryPreferences": {"func": True, "ads": "conflict"}},
        {"categorypreferences": {"func": True}}, {"categoryPreferences": {"func": {"x": [float("nan")]}}}, "\ud800",
    ],
)  # fmt: skip
def test_unreadable_segment_object_denies_all_that_the_mapping_grants(obj: object) -> None:
    yes = after(seen(1000, func=True, pers=True, ads=True))
    observation = records_from_segment(obj, MAPPING, subject="p1", time_ms=2000, source="web")
    person = yes.with_observation(observation)
    assert reasons(person, 2000) == ["malformed_record"] * 3
    assert decide(asks("support"), person, 2000).reason is ReasonCode.OUT_OF_SCOPE_PURPOSE


def test_unreadable_object_is_lifted_by_the_next_readable_one_and_renews_nothing() -> None:
    person = after(
        seen(1000, func=True, pers=True),
        records_from_segment(5, MAPPING, subject="p1", time_ms=3000, source="web"),
    )
    back = person.with_observation(seen(4000, func=True, pers=True))
    assert reasons(back, 4000)[0] == "granted"
    assert decide(asks("service"), back, 4000).until_ms == 101_000
    withdrawn = person.with_withdrawal(EVERYTHING, 2000).with_observation(seen(4000, func=True, pers=True))
    assert reasons(withdrawn, 4000)[0] == "withdrawn"


@pytest.mark.parametrize(
    ("obj", "expected"),
    [
        (
            {"allowedConsentIds": ["func", "pers"], "deniedConsentIds": ["ads"]},
            ["granted", "granted", "refused"],
        ),
        ({"allowedConsentIds": ["func", "pers"]}, ["granted", "granted", "refused"]),
        ({"deniedConsentIds": ["ads"], "provider": "custom", "resolutionStrategy": "or"}, ["refused"] * 3),
        (
            {"allowedConsentIds": ["func", "pers", "ads"], "deniedConsentIds": ["ads"]},
            ["granted", "granted", "refused"],
        ),
        ({"allowedConsentIds": []}, ["refused"] * 3),
        ({"allowedConsentIds": "func"}, ["malformed_record"] * 3),
        ({"allowedConsentIds": ["func", 5]}, ["malformed_record"] * 3),
        ({"allowedConsentIds": ["func"], "deniedConsentIds": None}, ["malformed_record"] * 3),
        ({"provider": "oneTrust"}, ["malformed_record"] * 3),
        ("allowedConsentIds", ["malformed_record"] * 3),
        (None, ["malformed_record"] * 3),
    ],
)
def test_rudderstack_object(obj: object, expected: list[str]) -> None:
    observation = records_from_rudderstack(obj, MAPPING, subject="p1", time_ms=1000, source="rs")
    assert reasons(after(observation), 1000) == expected


def test_a_no_beside_a_broader_yes_is_a_conflict_and_stays_no() -> None:
    assert reasons(after(seen(1000, func=True)), 1000) == ["conflict", "conflict", "refused"]
    toggled = after(seen(1000, func=True), seen(2000), seen(3000, func=True))
    assert reasons(toggled, 3000)[1] == "conflict"


# --- repeats ---------------------------------------------------------------------------------------------------------


def test_a_repeated_yes_overrides_no_withdrawal_and_renews_nothing() -> None:
    person = after(seen(1000, func=True, pers=True, ads=True)).with_withdrawal(scope("marketing"), 2000)
    repeated = person.with_observation(seen(3000, func=True, pers=True, ads=True))
    assert repeated.entries is person.entries
    assert reasons(repeated, 3000) == ["granted", "granted", "withdrawn"]
    assert decide(asks("service"), repeated, 3000).until_ms == 101_000
    other_answer_changed = repeated.with_observation(seen(4000, func=False, pers=True, ads=True))
    assert reasons(other_answer_changed, 4000) == ["refused", "refused", "withdrawn"]
    assert (
        reasons(other_answer_changed.with_observation(seen(5000, func=True, pers=True, ads=True)), 5000)[2]
        == "withdrawn"
    )


def test_a_new_yes_after_a_no_of_the_same_source_is_an_act() -> None:
    person = after(seen(1000, ads=True)).with_withdrawal(EVERYTHING, 2000)
    person = person.with_observation(seen(3000, ads=False)).with_observation(seen(4000, ads=True))
    assert reasons(person, 4000)[2] == "granted"


def test_the_same_observation_twice_gives_the_same_value() -> None:
    person = after(seen(1000, func=True))
    assert person.with_observation(seen(1000, func=True)) is person


def test_a_repeated_yes_under_an_edited_mapping_widens_nothing() -> None:
    wider = json.loads(json.dumps(POLICY))
    wider["categories"]["ads"]["scope"]["purposes"] = ["marketing", "profiling"]
    person = after(seen(1000, ads=True))
    person = person.with_observation(seen(2000, mapping=parse_mapping(wider), ads=True, func=True, pers=True))
    assert decide(asks("profiling"), person, 2000).reason is ReasonCode.OUT_OF_SCOPE_PURPOSE
    assert reasons(person, 2000)[2] == "granted"


def test_two_answers_of_one_source_at_one_instant_resolve_to_no() -> None:
    for first, second in permutations((True, False)):
        person = after(seen(1000, ads=first), seen(1000, ads=second))
        assert reasons(person, 1000)[2] in {"conflict", "refused"}


def test_sources_are_told_apart() -> None:
    person = after(seen(1000, ads=True), seen(2000, source="tv", ads=False))
    assert reasons(person, 2000)[2] == "refused"
    assert reasons(person.with_observation(seen(3000, ads=True)), 3000)[2] == "refused"
    assert reasons(person.with_observation(seen(3000, source="tv", ads=True)), 3000)[2] == "granted"


def test_observations_of_somebody_else_are_refused() -> None:
    other = records_from_segment({}, MAPPING, subject="p2", time_ms=1, source="web")
    with pytest.raises(InvalidConsent, match="principal='p2' must be one of"):
        PersonConsents("p1").with_observation(other)


def test_observed_states_of_both_sides_survive_a_merge() -> None:
    one, two = after(seen(1000, ads=True)), PersonConsents("p2")
    merged = one.merged_with(two, 1500).with_withdrawal(EVERYTHING, 2000)
    assert reasons(merged.with_observation(seen(3000, ads=True)), 3000)[2] == "withdrawn"
    assert merged == two.merged_with(one, 1500).with_withdrawal(EVERYTHING, 2000)
    assert PersonConsents.from_bytes(merged.to_bytes()) == merged


def in_order(statements: list[tuple[int, bool]], withdrawals: list[int], now: int) -> bool:
    """What a person who toggles one switch, and withdraws elsewhere, has last said: an independent recount."""
    acts: list[tuple[int, bool]] = [(at, False) for at in withdrawals]
    before: bool | None = None
    for at, answer in sorted(statements):
        if answer != before:
            acts.append((at, answer))
        before = answer
    latest = max((at for at, _ in acts if at <= now), default=None)
    return latest is not None and all(answer for at, answer in acts if at == latest)


def disordered(length: int) -> int:
    """Every history of `length` answers and one withdrawal, in every order of arrival; how many were allowed."""
    allowed = 0
    for answers in product((True, False), repeat=length):
        statements = [(2 * at + 1, answer) for at, answer in enumerate(answers)]
        for withdrawal in range(0, 2 * length + 1, 2):
            truth = in_order(statements, [withdrawal], 20)
            arriving: list[tuple[int, bool | None]] = [*statements, (withdrawal, None)]
            for order in permutations(arriving):
                person = PersonConsents("p1")
                for at, answer in order:
                    if answer is None:
                        person = person.with_withdrawal(scope("marketing"), at)
                    else:
                        person = person.with_observation(seen(at, ads=answer))
                yes = decide(asks("marketing"), person, 20).allowed
                assert truth or not yes, order
                allowed += yes
    return allowed


def test_disorder_never_grants_what_order_refuses() -> None:
    assert disordered(3) > 0


@pytest.mark.slow
def test_longer_disorder_never_grants_what_order_refuses() -> None:
    assert disordered(5) > 0


def test_every_short_history_in_order_equals_the_recount() -> None:
    for answers in product((True, False), repeat=4):
        for withdrawal in (0, 2, 4, 6, 8):
            statements = [(2 * at + 1, answer) for at, answer in enumerate(answers)]
            person = PersonConsents("p1")
            for at in range(9):
                if at == withdrawal:
                    person = person.with_withdrawal(scope("marketing"), at)
                for when, answer in statements:
                    if when == at:
                        person = person.with_observation(seen(at, ads=answer))
            assert decide(asks("marketing"), person, 9).allowed == in_order(statements, [withdrawal], 9)


# --- mappings --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.pop("max_uses"), "missing required field `max_uses`"),
        (lambda c: c.pop("validity_seconds"), "missing required field `validity_seconds`"),
        (lambda c: c.update(validity_seconds=0), "Expected `int` >= 1"),
        (lambda c: c.update(extra=1), "unknown field `extra`"),
        (
            lambda c: c["scope"].update(topics=[]),
            r"categories\['ads'\]\.scope=\['topics'\] must not be empty",
        ),
        (lambda c: c["scope"].update(purposes=["*"]), r"purposes='\*' must not be granted"),
        (lambda c: c["scope"].update(recipient_countries=["DE"]), "must have a transfer basis"),
    ],
)
def test_mapping_that_no_record_could_follow_is_refused(change: Any, message: str) -> None:
    policy = json.loads(json.dumps(POLICY))
    change(policy["categories"]["ads"])
    with pytest.raises(InvalidConsent, match=message):
        parse_mapping(policy)


# --- TC strings ------------------------------------------------------------------------------------------------------


def test_no_tc_or_gpp_string_changes_a_decision(shared_data: Path) -> None:
    vectors = json.loads(gzip.decompress((shared_data / "consent_vectors" / "gpp_iab.json.gz").read_bytes()))[
        "vectors"
    ]
    strings = [vector["string"] for vector in vectors if isinstance(vector.get("string"), str)]
    assert len(strings) > 150
    sound = record(
        terms=Terms(jurisdiction="CN"), scope=scope(recipient_countries=("CN",)), use=UseBudget(max_uses=None)
    )
    requests = [asks("service"), asks("marketing"), asks("advertising")]
    plain = PersonConsents("p1").with_record(sound)
    for string in strings:
        carried = msgspec.structs.replace(sound, evidence=tc_string_evidence(string, source="web"))
        person = PersonConsents("p1").with_record(carried)
        for request in requests:
            assert decide(request, person, 20).reason is decide(request, plain, 20).reason
        for reader in (records_from_segment, records_from_rudderstack):
            for obj in (
                string,
                {"tcString": string},
                {"categoryPreferences": string},
                {"allowedConsentIds": string},
            ):
                observation = reader(obj, MAPPING, subject="p1", time_ms=30, source="tcf")
                assert not any(one.state is ConsentState.GIVEN for one in observation.records)
                assert not any(decide(request, after(observation), 30).allowed for request in requests)
