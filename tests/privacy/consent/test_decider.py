"""A prepared request answers as `decide` does, whatever was asked before."""

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dayfly.privacy.consent import ConsentRequest, Decider, PersonConsents, ReasonCode, decide

from .cases import END, asking, persons, record, requests


@given(
    persons(),
    st.lists(requests(), min_size=1, max_size=3),
    st.lists(st.tuples(st.integers(0, 2), st.integers(0, END)), max_size=12),
)
def test_decider_equals_decide_on_one_state_in_any_order_of_requests_and_instants(
    person: PersonConsents, asked: Sequence[ConsentRequest], steps: Sequence[tuple[int, int]]
) -> None:
    deciders = [Decider(request) for request in asked]
    for which, now in steps:
        number = which % len(asked)
        assert deciders[number](person, now) == decide(asked[number], person, now)


@given(persons(), requests())
def test_decider_equals_decide_at_every_instant_forwards_and_backwards(
    person: PersonConsents, request: ConsentRequest
) -> None:
    decider = Decider(request)
    for now in (*range(END), *reversed(range(END))):
        assert decider(person, now) == decide(request, person, now)


def test_a_yes_is_kept_until_it_could_change_and_no_longer() -> None:
    person, decider = PersonConsents("p1").with_record(record(at=10, window=(10, 20))), Decider(asking())
    first = decider(person, 12)
    assert decider(person, 19) is first
    assert (first.allowed, first.next_change_ms) == (True, 20)
    assert decider(person, 20).reason is ReasonCode.EXPIRED
    assert decider(person, 11) == decide(asking(), person, 11)


def test_a_new_state_is_decided_anew() -> None:
    person, decider = PersonConsents("p1").with_record(record(at=10, uses=1)), Decider(asking())
    assert decider(person, 12).uses_left == 1
    assert decider(person.with_use("c1", 1, "order-1"), 12).reason is ReasonCode.SPENT
    assert decider(person.with_record(record("withdrawn", at=11)), 12).reason is ReasonCode.WITHDRAWN


def test_another_request_is_not_answered_by_what_is_kept() -> None:
    person = PersonConsents("p1").with_record(record(at=10))
    assert Decider(asking("service"))(person, 12).allowed
    assert not Decider(asking("marketing"))(person, 12).allowed


@pytest.mark.parametrize("junk", [None, 7, [], "service", ConsentRequest(7)])  # type: ignore[arg-type]
def test_junk_is_no(junk: Any) -> None:
    person = PersonConsents("p1").with_record(record(at=10))
    assert Decider(asking())(person, 12).allowed
    assert Decider(junk)(person, 12).reason is ReasonCode.MALFORMED_REQUEST
    assert Decider(asking())(junk, 12).reason is ReasonCode.NO_RECORD


@pytest.mark.parametrize("junk", [None, True, 1.5, "12", 2**63])
def test_a_malformed_instant_is_no(junk: Any) -> None:
    person = PersonConsents("p1").with_record(record(at=10))
    assert Decider(asking())(person, 12).allowed
    assert Decider(asking())(person, junk).reason is ReasonCode.MALFORMED_REQUEST
