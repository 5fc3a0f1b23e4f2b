"""What is out and no longer true or allowed is recalled: contradictions, withdrawals, merges, erasures; and nothing else is."""

from dataclasses import replace
from typing import Any

import pytest

from dayfly.engine.decisions import Decisions
from dayfly.engine.inputs import ConsentWithdrawn, Erase, FragmentEnded, Merge, Publish
from dayfly.engine.policy.model import Channel
from dayfly.privacy.consent import ConsentState
from tests.engine.shard.house import (
    ANN,
    BEN,
    CANCELLED,
    CAT,
    DAY,
    MINUTE,
    ON_ORDER,
    START,
    House,
    event,
    grant,
    match,
    policy,
)

KEYED = replace(CANCELLED, key_field="properties.order_id")


def ordered(at: int, status: str = "shipping", **more: Any) -> Any:
    return event(
        "order", at, more.pop("subject", ANN), order_id=more.pop("order_id", "o-1"), status=status, **more
    )


def recalled(made: Decisions) -> list[tuple[str, str, tuple[str, ...]]]:
    return [(recall.reason, recall.audience, recall.order_ids) for recall in made.recalls]


# --- contradictions ------------------------------------------------------------------------------------------------------


def test_a_contradiction_recalls_what_said_one_of_its_values() -> None:
    house = House.of(policy(contradictions=(CANCELLED,)))
    order = house.order(grant(), ordered(1))
    made = house.tell(event("cancel", 2, order_id="another"))
    assert recalled(made) == [("contradicted", "crm", (order.order_id,))]
    assert made.recalls[0].at_ms == START + 2
    assert recalled(house.tell(event("cancel", 3))) == []


@pytest.mark.parametrize("status", ["delivered", "shipping "])
def test_a_contradiction_leaves_what_said_something_else(status: str) -> None:
    house = House.of(policy(contradictions=(CANCELLED,)))
    house.order(grant(), ordered(1, status))
    assert recalled(house.tell(event("cancel", 2))) == []


def test_a_contradiction_with_a_key_recalls_the_order_of_that_key_only() -> None:
    second = replace(ON_ORDER, name="second", audience="crm-2")
    house = House.of(policy(contradictions=(KEYED,), triggers=(ON_ORDER, second)))
    first = [item.order.order_id for item in house.tell(grant(), ordered(1, order_id="o-7")).orders]
    assert recalled(house.tell(event("cancel", 2, order_id="o-8"), event("cancel", 3))) == []
    made = house.tell(event("cancel", 4, order_id="o-7"))
    assert recalled(made) == [("contradicted", "crm", (first[0],)), ("contradicted", "crm-2", (first[1],))]
    assert made.recalls[0].sequence == made.recalls[1].sequence


def test_a_contradiction_looks_at_the_value_before_masking() -> None:
    masked = replace(ON_ORDER.fields[0], masking={"mask": "truncate", "characters": 2})
    house = House.of(policy(contradictions=(CANCELLED,), triggers=(replace(ON_ORDER, fields=(masked,)),)))
    order = house.order(grant(), ordered(1))
    assert order.fields[0].value == "sh"
    assert recalled(house.tell(event("cancel", 2))) == [("contradicted", "crm", (order.order_id,))]


def test_a_contradiction_concerns_the_person_of_its_event_only() -> None:
    house = House.of(policy(contradictions=(CANCELLED,)))
    house.tell(grant(), grant(BEN), ordered(1))
    assert recalled(house.tell(event("cancel", 2, subject=BEN))) == []


def test_an_event_that_contradicts_and_fires_recalls_first_and_then_orders() -> None:
    rule = replace(CANCELLED, when=match("order", "status", "paid"))
    house = House.of(policy(contradictions=(rule,)))
    order = house.order(grant(), ordered(1))
    made = house.tell(ordered(2, "paid"))
    assert recalled(made) == [("contradicted", "crm", (order.order_id,))]
    assert made.recalls[0].sequence < made.orders[0].sequence
    assert made.orders[0].order.supersedes == ()


@pytest.mark.parametrize(("at", "count"), [(30 * MINUTE, 1), (30 * MINUTE + 1, 0)])
def test_what_expired_is_not_recalled(at: int, count: int) -> None:
    house = House.of(policy(contradictions=(CANCELLED,)))
    house.order(grant(), ordered(1))
    assert len(house.tell(event("cancel", at)).recalls) == count


def test_what_ended_or_was_superseded_is_not_recalled_again() -> None:
    house = House.of(policy(contradictions=(CANCELLED,)))
    first = house.order(grant(), ordered(1))
    second = house.order(ordered(2))
    house.tell(FragmentEnded(START + 3, first.order_id, unopened=False))
    assert recalled(house.tell(event("cancel", 4))) == [("contradicted", "crm", (second.order_id,))]
    third = house.order(ordered(5))
    house.tell(FragmentEnded(START + 6, third.order_id, unopened=False))
    assert recalled(house.tell(event("cancel", 7))) == []


def test_a_recall_works_after_a_restart() -> None:
    house = House.of(policy(contradictions=(KEYED,)))
    order = house.order(grant(), ordered(1, order_id="o-7"))
    house.shard = type(house.shard).restore(house.shard.snapshot(), house.shard.policy)
    assert recalled(house.tell(event("cancel", 2, order_id="o-8"))) == []
    assert recalled(house.tell(event("cancel", 2, order_id="o-7"))) == [
        ("contradicted", "crm", (order.order_id,))
    ]


# --- consent -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("purpose", "topic", "count"),
    [
        ("*", "*", 1),
        ("service", "*", 1),
        ("service", "sofa", 1),
        ("marketing", "*", 0),
        ("service", "kitchen", 0),
    ],
)
def test_a_withdrawal_recalls_what_rests_on_what_it_withdraws(purpose: str, topic: str, count: int) -> None:
    house = House.of()
    order = house.order(grant(), ordered(1))
    made = house.tell(ConsentWithdrawn(START + 2, ANN, purpose, topic))
    assert recalled(made) == [("withdrawn", "crm", (order.order_id,))] * count


def test_a_refusal_later_recalls_and_another_persons_does_not() -> None:
    house = House.of()
    order = house.order(grant(), grant(BEN), ordered(1))
    assert recalled(house.tell(ConsentWithdrawn(START + 2, BEN))) == []
    refusal = grant(at=3, state=ConsentState.REFUSED)
    assert recalled(house.tell(refusal)) == [("withdrawn", "crm", (order.order_id,))]


def test_a_withdrawal_recalls_a_one_time_order_that_is_still_out() -> None:
    house = House.of()
    order = house.order(grant(uses=1), ordered(1))
    assert recalled(house.tell(ConsentWithdrawn(START + 2, ANN))) == [("withdrawn", "crm", (order.order_id,))]


def test_an_order_that_spent_the_last_use_stays_when_something_else_is_said() -> None:
    house = House.of()
    order = house.order(grant(uses=1), ordered(1))
    assert recalled(house.tell(grant(at=2, purposes=("profiling",)))) == []
    assert recalled(house.tell(ConsentWithdrawn(START + 3, ANN, "marketing"))) == []
    assert recalled(house.tell(ConsentWithdrawn(START + 4, ANN, "service"))) == [
        ("withdrawn", "crm", (order.order_id,))
    ]


def test_an_order_that_outlives_a_consent_is_not_made_and_none_is_recalled_when_it_ends() -> None:
    house = House.of()
    order = house.order(grant(until=MINUTE), ordered(1))
    assert order.expires_at_ms == START + MINUTE
    assert recalled(house.tell(at=DAY)) == []


# --- people --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["merge", "link"])
def test_a_merge_with_somebody_who_said_no_recalls(how: str) -> None:
    house = House.of()
    order = house.order(grant(), ordered(1), grant(BEN, at=1, state=ConsentState.REFUSED))
    linked = event("ping", 2, link=BEN) if how == "link" else Merge(START + 2, ANN, BEN)
    assert recalled(house.tell(linked)) == [("withdrawn", "crm", (order.order_id,))]
    after = house.tell(ordered(3))
    assert (after.orders, [refusal.reason for refusal in after.refusals]) == ((), ["merge_conflict"])


def test_an_event_that_passed_the_door_is_kept_although_the_merge_it_brings_closes_the_door() -> None:
    channels = (Channel("app"), Channel("web"), Channel("shop", collect_under="service"))
    house = House.of(policy(channels=channels))
    house.tell(grant(), grant(BEN, at=1, state=ConsentState.REFUSED))
    made = house.tell(ordered(2, channel="shop", link=BEN))
    assert dict(made.counts).get("accepted") == 1
    assert "not_collected" not in made.counts
    assert [refusal.reason for refusal in made.refusals] == ["merge_conflict"]
    assert house.tell(ordered(3, channel="shop")).counts["not_collected"] == 1


def test_a_merge_with_somebody_who_agrees_keeps_the_orders_of_both_under_one_person() -> None:
    house = House.of(policy(contradictions=(CANCELLED,)))
    made = house.tell(grant(), grant(BEN), ordered(1), ordered(1, subject=BEN))
    ids = {item.order.order_id for item in made.orders}
    assert recalled(house.tell(Merge(START + 2, BEN, ANN))) == []
    found = recalled(house.tell(event("cancel", 3, subject=ANN)))
    assert [(reason, set(orders)) for reason, _, orders in found] == [("contradicted", ids)]


def test_a_newer_order_after_a_merge_supersedes_those_of_both() -> None:
    house = House.of()
    made = house.tell(grant(), grant(BEN), ordered(1), ordered(1, subject=BEN))
    ids = {item.order.order_id for item in made.orders}
    house.tell(Merge(START + 2, ANN, BEN))
    assert set(house.order(ordered(3, subject=BEN)).supersedes) == ids


def test_an_erasure_recalls_everything_of_the_person_and_nothing_of_others() -> None:
    house = House.of()
    made = house.tell(grant(), grant(BEN), ordered(1), ordered(1, subject=BEN))
    mine = next(item.order.order_id for item in made.orders if item.order.subject == ANN)
    assert recalled(house.tell(Erase(START + 2, ANN))) == [("erased", "crm", (mine,))]
    assert recalled(house.tell(Erase(START + 3, ANN))) == []
    again = house.tell(ordered(4))
    assert [refusal.reason for refusal in again.refusals] == ["no_record"]


def test_a_policy_without_the_trigger_recalls_what_it_had_sent() -> None:
    house = House.of()
    order = house.order(grant(), ordered(1))
    made = house.tell(Publish(START + 2, policy(version=2, triggers=())))
    assert recalled(made) == [("withdrawn", "crm", (order.order_id,))]


def test_a_policy_under_which_the_trigger_needs_another_consent_recalls() -> None:
    house = House.of()
    order = house.order(grant(), ordered(1))
    wider = replace(ON_ORDER, purpose="profiling", version=2)
    assert recalled(house.tell(Publish(START + 2, policy(version=2)))) == []
    made = house.tell(Publish(START + 3, policy(version=3, triggers=(wider,))))
    assert recalled(made) == [("withdrawn", "crm", (order.order_id,))]


def test_two_who_were_merged_before_either_said_anything_are_one_for_every_later_word() -> None:
    house = House.of(policy())
    house.tell(event("view", 0), event("view", 1, subject=BEN), Merge(START + 2, ANN, BEN))
    made = house.tell(grant(at=3), grant(subject=BEN, at=4), ordered(4))
    assert [letter.reason for letter in made.dead_letters] == []
    assert [item.order.subject for item in made.orders] == [ANN]
    house.tell(Merge(START + 5, BEN, CAT))
    assert len(house.tell(ordered(6, subject=CAT)).orders) == 1
