"""`PersonConsents`: an immutable value, uses, withdrawals, merges, stored form."""

from itertools import permutations
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dayfly.privacy.consent import (
    EVERYTHING,
    INT64_MAX,
    ConsentRecord,
    ConsentRequest,
    ConsentState,
    PersonConsents,
    ReasonCode,
    Scope,
    UseBudget,
    decide,
    successor,
)
from dayfly.privacy.errors import InvalidArgument, InvalidConsent

from ...oracles import consent as oracle
from .cases import END, asking, persons, record, records, requests, scope


@given(st.lists(records(), max_size=5), st.randoms(use_true_random=False))
def test_arrival_order_changes_nothing(acts: list[ConsentRecord], rng: Any) -> None:
    shuffled = acts[:]
    rng.shuffle(shuffled)
    one, two = PersonConsents("p1"), PersonConsents("p1")
    for first, second in zip(acts, shuffled, strict=True):
        one, two = one.with_record(first), two.with_record(second)
    assert one == two
    assert one.to_bytes() == two.to_bytes()


@given(persons())
def test_stored_form_comes_back_equal(person: PersonConsents) -> None:
    assert PersonConsents.from_bytes(person.to_bytes()) == person


def test_adding_the_same_twice_gives_the_same_value() -> None:
    person = PersonConsents("p1").with_record(record())
    assert person.with_record(record()) is person
    marred = person.with_malformed({"record_id": "m"}, 5)
    assert marred.with_malformed({"record_id": "m"}, 5) is marred


def test_a_record_of_somebody_else_is_refused() -> None:
    with pytest.raises(InvalidConsent, match="principal='p2' must be one of this person's pseudonyms"):
        PersonConsents("p1").with_record(record(principal="p2"))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "must be a stored person"),
        (b"[]", "must be a stored person"),
        (b'{"format":"\xff"}', "must be a stored person"),
        (b'{"format":1}', "must be a stored person"),
        (
            PersonConsents("p1").to_bytes().replace(b"consents-1", b"consents-9"),
            "format='dayfly-person-consents-9' must be",
        ),
        (PersonConsents("p1").to_bytes() + b" ", "must be canonical"),
    ],
)
def test_altered_stored_form_is_refused(data: bytes, message: str) -> None:
    with pytest.raises(InvalidConsent, match=message):
        PersonConsents.from_bytes(data)


def test_stored_record_with_broken_field_is_refused() -> None:
    data = PersonConsents("p1").with_record(record()).to_bytes()
    with pytest.raises(InvalidConsent, match="valid_until_ms=10 must be > valid_from_ms=10"):
        PersonConsents.from_bytes(data.replace(b'"valid_until_ms":40', b'"valid_until_ms":10'))


# --- uses ------------------------------------------------------------------------------------------------------------


def test_uses_are_spent_once_per_reservation_and_never_beyond_the_budget() -> None:
    person = PersonConsents("p1").with_record(record(uses=3)).with_use("c1", 2, "r1")
    assert person.with_use("c1", 2, "r1") is person
    assert decide(asking(), person, 12).uses_left == 1
    with pytest.raises(InvalidConsent, match="uses=2 must be <= 1, what is left of 'c1'"):
        person.with_use("c1", 2, "r2")
    with pytest.raises(InvalidConsent, match="reservation_id='r1' must name one use only"):
        person.with_use("c1", 1, "r1")
    with pytest.raises(InvalidConsent, match="record_id='c9' must name a given consent"):
        person.with_use("c9", 1, "r3")
    for uses in (0, -1):
        with pytest.raises(InvalidArgument, match=f"uses={uses} must be > 0"):
            person.with_use("c1", uses, "r4")
    spent = person.with_use("c1", 1, "r5")
    assert decide(asking(), spent, 12).reason is ReasonCode.SPENT
    with pytest.raises(InvalidConsent, match="uses=1 must be <= 0"):
        spent.with_use("c1", 1, "r6")


def test_unlimited_budget_counts_uses_without_an_end() -> None:
    person = PersonConsents("p1").with_record(record(uses=None)).with_use("c1", 10**6, "r1")
    assert decide(asking(), person, 12).uses_left is None


def test_uses_come_back_only_where_the_record_says_so() -> None:
    once = record(use=UseBudget(max_uses=1, restore_if_unopened=True))
    person = PersonConsents("p1").with_record(once).with_use("c1", 1, "r1")
    back = person.with_use_restored("r1")
    assert decide(asking(), person, 12).reason is ReasonCode.SPENT
    assert decide(asking(), back, 12).uses_left == 1
    assert back.with_use_restored("r1") is back
    with pytest.raises(InvalidConsent, match="reservation_id='r1' must not be used again"):
        back.with_use("c1", 1, "r1")
    with pytest.raises(InvalidConsent, match="reservation_id='r9' must be known"):
        back.with_use_restored("r9")
    plain = PersonConsents("p1").with_record(record(uses=1)).with_use("c1", 1, "r1")
    with pytest.raises(InvalidConsent, match="record_id='c1' must say restore_if_unopened"):
        plain.with_use_restored("r1")


def test_withdrawal_speaks_at_its_time_and_scope() -> None:
    person = PersonConsents("p1").with_record(record()).with_withdrawal(scope(topic="sofa"), 12)
    assert decide(asking(), person, 12).reason is ReasonCode.WITHDRAWN
    assert decide(asking(topic="lamp"), person, 12).allowed
    assert person.with_withdrawal(scope(topic="sofa"), 12) is person


def test_unreadable_time_of_a_record_object_is_never_overtaken() -> None:
    broken = msgspec.structs.replace(record(), time_ms="soon")
    person = PersonConsents("p1").with_record(broken)
    assert person.entries[0].time_ms == INT64_MAX
    later = person.with_record(record(at=39, record_id="c2"))
    assert decide(asking(), later, 39).reason is ReasonCode.MALFORMED_RECORD


# --- merges ----------------------------------------------------------------------------------------------------------

MERGES = st.integers(0, END)


@given(persons("p1"), persons("p2"), MERGES)
def test_merging_commutes(one: PersonConsents, two: PersonConsents, at: int) -> None:
    assert one.merged_with(two, at) == two.merged_with(one, at)
    assert one.merged_with(two, at).to_bytes() == two.merged_with(one, at).to_bytes()


@given(persons("p1"), persons("p2"), persons("p3"), MERGES, MERGES)
def test_merging_associates_with_the_links_named(
    one: PersonConsents, two: PersonConsents, three: PersonConsents, first: int, second: int
) -> None:
    left = one.merged_with(two, first, link=("p1", "p2")).merged_with(three, second, link=("p2", "p3"))
    right = one.merged_with(two.merged_with(three, second, link=("p2", "p3")), first, link=("p1", "p2"))
    assert left == right


@given(persons("p1"), persons("p2"), persons("p3"), MERGES)
def test_merging_at_one_instant_associates_in_every_order(
    one: PersonConsents, two: PersonConsents, three: PersonConsents, at: int
) -> None:
    results = {
        a.merged_with(b, at).merged_with(c, at).to_bytes() for a, b, c in permutations((one, two, three))
    } | {a.merged_with(b.merged_with(c, at), at).to_bytes() for a, b, c in permutations((one, two, three))}
    assert len(results) == 1


@given(persons("p1"), persons("p2"), persons("p3"), MERGES, MERGES, st.data())
def test_merged_decision_equals_the_oracle_at_every_instant(
    one: PersonConsents,
    two: PersonConsents,
    three: PersonConsents,
    first: int,
    second: int,
    data: st.DataObject,
) -> None:
    person = one.merged_with(two, first).merged_with(three, second)
    for act in data.draw(st.lists(records(("p1", "p2", "p3")), max_size=2)):
        person = person.with_record(act)
    request = data.draw(requests())
    for now in range(0, END + 1, 5):
        want = oracle.allowed(request, person.entries, person.links, person.spent, now)
        assert decide(request, person, now).allowed == want, now


@given(persons("p1"), persons("p2"), MERGES, requests())
def test_merging_never_allows_what_a_side_that_answered_refuses(
    one: PersonConsents, two: PersonConsents, at: int, request: ConsentRequest
) -> None:
    merged = one.merged_with(two, at)
    for now in range(0, END + 1, 4):
        # acts after the merge speak for both sides and may settle; before it each side keeps its own answer
        if decide(request, merged, now).allowed and not any(entry.time_ms > at for entry in merged.entries):
            sides = [side for side in (one, two) if side.entries]
            assert any(decide(request, side, now).allowed for side in sides)
            for side in sides:
                alone = decide(request, side, now)
                silent = not alone.record_id or alone.reason.value.startswith("out_of_scope")
                assert (
                    alone.allowed
                    or silent
                    or alone.reason in {ReasonCode.REQUESTED, ReasonCode.NOT_YET_VALID}
                )


@given(st.lists(records(), max_size=5), requests(), st.integers(0, END))
def test_merging_with_a_silent_identity_equals_one_identity(
    acts: list[ConsentRecord], request: ConsentRequest, at: int
) -> None:
    alone = PersonConsents("p1")
    for act in acts:
        alone = alone.with_record(act)
    merged = alone.merged_with(PersonConsents("p0"), at)
    for now in range(0, END + 1, 4):
        assert decide(request, merged, now).allowed == decide(request, alone, now).allowed


@given(st.lists(records(("p1", "p2")), max_size=5), requests())
def test_identities_merged_before_any_act_equal_one_from_the_start(
    acts: list[ConsentRecord], request: ConsentRequest
) -> None:
    merged, alone = PersonConsents("p1").merged_with(PersonConsents("p2"), -1), PersonConsents("p1")
    for act in acts:
        merged = merged.with_record(act)
        alone = alone.with_record(msgspec.structs.replace(act, principal="p1"))
    for now in range(0, END + 1, 4):
        mine, theirs = decide(request, merged, now), decide(request, alone, now)
        assert (mine.allowed, mine.until_ms, mine.next_change_ms) == (
            theirs.allowed,
            theirs.until_ms,
            theirs.next_change_ms,
        )


def test_earliest_expiry_of_two_agreeing_sides_wins() -> None:
    one = PersonConsents("p1").with_record(record(window=(10, 30)))
    two = PersonConsents("p2").with_record(record(at=12, record_id="c2", principal="p2", window=(12, 20)))
    decision = decide(asking(), one.merged_with(two, 15), 15)
    assert (decision.allowed, decision.until_ms, decision.record_id) == (True, 20, "c2")


def test_a_settled_conflict_stays_settled_when_a_silent_identity_joins() -> None:
    one = PersonConsents("p1").with_record(record(at=5))
    two = PersonConsents("p2").with_record(record("refused", 7, record_id="c2", principal="p2"))
    settled = one.merged_with(two, 8).with_record(record(at=9, record_id="c3"))
    joined = settled.merged_with(PersonConsents("p3"), 20)
    assert decide(asking(), joined, 25).allowed
    contrary = PersonConsents("p3").with_withdrawal(EVERYTHING, 1)
    assert decide(asking(), settled.merged_with(contrary, 20), 25).reason is ReasonCode.MERGE_CONFLICT


def test_links_must_name_one_pseudonym_of_each_side() -> None:
    with pytest.raises(InvalidConsent, match="principal='p9' must be one of"):
        PersonConsents("p1").merged_with(PersonConsents("p2"), 5, link=("p1", "p9"))


def test_uses_of_both_sides_stay_spent() -> None:
    one = PersonConsents("p1").with_record(record(uses=2)).with_use("c1", 1, "r1")
    two = PersonConsents("p2").with_record(record(principal="p2", uses=2)).with_use("c1", 1, "r2")
    assert decide(asking(), one.merged_with(two, 15), 15).reason is ReasonCode.SPENT


def test_successor_withdraws_a_record_for_good() -> None:
    given_record = record()
    ended = successor(
        given_record, state=ConsentState.WITHDRAWN, time_ms=12, scope=Scope(purposes=("marketing",))
    )
    person = PersonConsents("p1").with_record(ended).with_record(given_record)
    assert decide(asking(), person, 13).reason is ReasonCode.WITHDRAWN
