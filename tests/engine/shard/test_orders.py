"""Orders: when a trigger fires, what the order says, how long it lives, and when it is not made, with the reason."""

from dataclasses import replace
from typing import Any

import pytest

from dayfly.engine.events import ObservedConsent
from dayfly.engine.inputs import ConsentWithdrawn, FragmentEnded, Merge, OrderRefused, Tick
from dayfly.engine.lineage.block import decode
from dayfly.engine.policy.model import Channel
from dayfly.engine.tags.tree import Capture
from dayfly.engine.triggers import OnEvent, OnTag, TagHeld, TagValue
from dayfly.privacy.consent import ConsentState
from dayfly.privacy.consent.platforms import parse_mapping
from tests.engine.shard.house import (
    ANN,
    BEN,
    DAY,
    HOUR,
    MINUTE,
    ON_ORDER,
    SECOND,
    START,
    STATUS,
    House,
    event,
    grant,
    match,
    measure,
    policy,
    shows,
    tag,
    with_trigger,
)

BROWSING = tag(
    "browsing",
    'count("view", within: 10m) > 1',
    Capture("materials", measure("distinct", "view", "material", 10 * MINUTE)),
)


def ordered(at: int, status: str = "shipping", **more: Any) -> Any:
    return event("order", at, order_id=more.pop("order_id", "o-1"), status=status, total=9.5, **more)


def values(order: Any) -> dict[str, object]:
    return {field.name: field.value for field in order.fields}


def reasons(made: Any) -> list[str]:
    return [refusal.reason for refusal in made.refusals]


# --- firing ------------------------------------------------------------------------------------------------------------


def test_an_event_that_matches_makes_an_order_that_says_what_the_policy_says() -> None:
    house = House.of()
    order = house.order(grant(), ordered(SECOND))
    assert (order.audience, order.purpose, order.topic, order.subject) == ("crm", "service", "sofa", ANN)
    assert (order.rule.id, order.rule.version) == ("on-order", 1)
    assert values(order) == {"status": "shipping"}
    assert order.issued_at_ms == START + SECOND
    assert order.expires_at_ms == START + SECOND + 30 * MINUTE
    assert order.consent[0].valid_until_ms == START + 30 * DAY


def test_an_event_that_does_not_match_makes_none() -> None:
    house = House.of(with_trigger(when=OnEvent(match("order", "status", "paid"))))
    assert house.tell(grant(), ordered(1), event("ping", 2)).orders == ()
    assert len(house.tell(ordered(3, "paid")).orders) == 1


def test_a_late_event_and_a_waiting_one_fire_when_they_are_taken_in_and_a_duplicate_does_not() -> None:
    house = House.of()
    first = ordered(1, number=10**6)
    assert len(house.tell(grant(), first).orders) == 1
    assert house.tell(replace(first, received_ms=START + 5)).orders == ()
    assert len(house.tell(ordered(2, received=10)).orders) == 1
    waiting = ordered(MINUTE, received=20)
    assert house.tell(waiting).orders == ()
    made = house.tell(Tick(START + MINUTE))
    assert [order.at_ms for order in made.orders] == [START + MINUTE]


def test_entering_a_tag_makes_an_order_once_at_the_very_instant() -> None:
    rules = policy(
        tags=(BROWSING,),
        triggers=(
            replace(
                ON_ORDER,
                when=OnTag("browsing"),
                fields=(
                    shows("materials", TagValue("browsing", "materials")),
                    shows("here", TagHeld("browsing")),
                ),
            ),
        ),
    )
    house = House.of(rules)
    newest = event("view", 2, material="oak")
    order = house.order(grant(), event("view", 1, material="silk"), newest)
    assert values(order) == {"materials": ("oak", "silk"), "here": True}
    assert order.trigger_id == newest.digest
    assert house.tell(event("view", 3, material="felt")).orders == ()
    assert house.tell(at=HOUR).orders == ()
    again = house.order(event("view", HOUR), event("view", HOUR + 1))
    assert values(again) == {"here": True}


def test_a_tag_that_time_alone_brings_makes_its_order_at_that_instant() -> None:
    gone = tag("gone", 'absent("view", within: 10m)')
    fields = (shows("gone", TagHeld("gone")),)
    rules = policy(tags=(gone,), triggers=(replace(ON_ORDER, when=OnTag("gone"), fields=fields),))
    house = House.of(rules)
    assert house.tell(grant(), event("view", 1)).orders == house.made[0].orders
    made = house.tell(at=HOUR)
    assert [item.at_ms for item in made.orders] == [START + 1 + 10 * MINUTE]


# --- what is shown -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        (measure("count", "view"), 3),
        (measure("distinct", "view", "material"), ("oak", "silk")),
        (measure("sum", "view", "price"), 6),
        (measure("avg", "view", "price"), 3),
        (measure("min", "view", "price"), 1.5),
        (measure("max", "view", "price"), 4.5),
        (measure("first", "view", "material"), "silk"),
        (measure("last", "view", "material"), "oak"),
        (TagHeld("browsing"), True),
        (TagHeld("buying"), False),
        (TagValue("browsing", "materials"), ("oak", "silk")),
    ],
)
def test_a_field_shows_its_source(source: Any, expected: object) -> None:
    buying = tag("buying", 'count("cancel", within: 1m) > 0')
    trigger = replace(ON_ORDER, fields=(shows("it", source),))
    house = House.of(policy(tags=(BROWSING, buying), triggers=(trigger,)))
    views = (("silk", 1.5), ("oak", 4.5), (None, None))
    house.tell(
        grant(), *(event("view", at, material=name, price=price) for at, (name, price) in enumerate(views))
    )
    assert values(house.order(ordered(10))) == {"it": expected}


def test_a_field_without_a_value_is_left_out_and_an_order_without_fields_is_refused() -> None:
    sources = (
        shows("price", measure("max", "view", "price")),
        shows("held", TagValue("browsing", "materials")),
    )
    both = House.of(policy(tags=(BROWSING,), triggers=(replace(ON_ORDER, fields=(*sources, STATUS)),)))
    assert values(both.order(grant(), ordered(1))) == {"status": "shipping"}
    neither = House.of(policy(tags=(BROWSING,), triggers=(replace(ON_ORDER, fields=sources),)))
    made = neither.tell(grant(), ordered(1))
    assert (made.orders, reasons(made)) == ((), ["no_value"])


@pytest.mark.parametrize(
    ("masking", "expected"),
    [
        ("keep", {"total": 1234, "status": "shipping"}),
        ({"mask": "truncate", "characters": 4}, {"total": 1234, "status": "ship"}),
        ({"mask": "band", "edges": [1000, 2000]}, {"total": "1000..2000", "status": "shipping"}),
        ("drop", {"status": "shipping"}),
    ],
)
def test_each_field_is_masked_by_its_own_rule(masking: Any, expected: dict[str, object]) -> None:
    on_status = isinstance(masking, dict) and masking["mask"] == "truncate"
    fields = (
        shows("total", measure("last", "order", "total"), masking="keep" if on_status else masking),
        shows("status", measure("last", "order", "status"), masking=masking if on_status else "keep"),
    )
    house = House.of(with_trigger(fields=fields))
    paid = event("order", 1, status="shipping", total=1234)
    assert values(house.order(grant(), paid)) == expected


# --- how long it lives ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ttl_seconds", "consent_until", "held_until", "expected"),
    [
        (60, 30 * DAY, 10 * MINUTE, 1 + MINUTE),
        (1800, 5 * MINUTE, 10 * MINUTE, 5 * MINUTE),
        (1800, 30 * DAY, 10 * MINUTE, 10 * MINUTE),
    ],
)
def test_an_order_ends_with_the_earliest_of_ttl_consent_and_what_it_says(
    ttl_seconds: int, consent_until: int, held_until: int, expected: int
) -> None:
    seen = tag("seen", 'count("view", within: 10m) > 0')
    trigger = replace(ON_ORDER, ttl_seconds=ttl_seconds, fields=(shows("seen", TagHeld("seen")),))
    house = House.of(policy(tags=(seen,), triggers=(trigger,)))
    order = house.order(grant(until=consent_until), event("view", 0), ordered(1))
    assert order.expires_at_ms == START + expected
    assert order.fields[0].valid_until_ms == START + held_until


@pytest.mark.parametrize(("second", "made"), [(59_999, 0), (60_000, 1)])
def test_a_cooldown_is_silent_until_its_very_end(second: int, made: int) -> None:
    house = House.of(with_trigger(cooldown_seconds=60))
    house.order(grant(), ordered(0))
    decided = house.tell(ordered(second))
    assert (len(decided.orders), decided.refusals) == (made, ())


def test_a_cooldown_is_each_persons_own_and_survives_a_restart_and_a_merge() -> None:
    house = House.of(with_trigger(cooldown_seconds=60))
    assert len(house.tell(grant(), grant(BEN), ordered(1), ordered(2, subject=BEN)).orders) == 2
    house.shard = type(house.shard).restore(house.shard.snapshot(), house.shard.policy)
    assert house.tell(ordered(3)).orders == ()
    house.tell(Merge(START + 4, ANN, BEN))
    assert house.tell(ordered(60_001)).orders == ()
    assert len(house.tell(ordered(60_002)).orders) == 1


# --- consent -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ((), "no_record"),
        ((grant(purposes=("marketing",)),), "out_of_scope_purpose"),
        ((grant(topics=("kitchen",)),), "out_of_scope_topic"),
        ((grant(data_categories=("address",)),), "out_of_scope_data"),
        ((grant(recipients=("someone-else",)),), "out_of_scope_recipient"),
        ((grant(channels=("app",)),), "out_of_scope_channel"),
        ((grant(recipient_countries=("DE",)),), "out_of_scope_country"),
        ((grant(until=MINUTE),), "expired"),
        ((grant(valid_from_ms=START + DAY),), "not_yet_valid"),
        ((grant(state=ConsentState.REFUSED),), "refused"),
        ((grant(state=ConsentState.REQUESTED),), "requested"),
        ((grant(), ConsentWithdrawn(START + 1, ANN)), "withdrawn"),
        ((grant(), ConsentWithdrawn(START + 1, ANN, "service", "sofa")), "withdrawn"),
    ],
)
def test_a_trigger_without_consent_is_refused_with_the_reason(given: tuple[Any, ...], reason: str) -> None:
    house = House.of()
    made = house.tell(*given, ordered(MINUTE))
    assert made.orders == ()
    refusal = made.refusals[0]
    assert (refusal.trigger, refusal.subject, refusal.reason) == ("on-order", ANN, reason)
    assert refusal.at_ms == START + MINUTE


def test_a_withdrawal_of_another_purpose_refuses_nothing() -> None:
    house = House.of()
    assert len(house.tell(grant(), ConsentWithdrawn(START, ANN, "marketing"), ordered(1)).orders) == 1


def test_a_trigger_whose_tag_lost_its_consent_tells_nothing() -> None:
    trigger = replace(ON_ORDER, purpose="marketing", fields=(shows("held", TagHeld("browsing")),))
    house = House.of(policy(tags=(BROWSING,), triggers=(trigger,)))
    house.tell(grant(), event("view", 1), event("view", 2))
    assert values(house.order(ordered(3))) == {"held": True}
    house.tell(ConsentWithdrawn(START + 4, ANN, "service"))
    assert values(house.order(ordered(5))) == {"held": False}


def test_a_record_of_another_person_is_a_dead_letter_and_gives_nothing() -> None:
    house = House.of()
    made = house.tell(grant(ANN, principal=BEN), ordered(1))
    assert [(letter.reason, letter.channel, letter.index) for letter in made.dead_letters] == [
        ("foreign_consent", "consent", -1)
    ]
    assert reasons(made) == ["no_record"]


def test_the_door_of_a_channel_opens_with_consent_only() -> None:
    channels = (Channel("app"), Channel("web"), Channel("shop", collect_under="marketing"))
    house = House.of(policy(channels=channels))
    closed = house.tell(
        ordered(1, channel="shop"), grant(at=1, purposes=("service",)), ordered(2, channel="shop")
    )
    assert (closed.orders, dict(closed.counts)) == ((), {"not_collected": 2})
    opened = house.tell(grant(at=3), ordered(4, channel="shop"), ordered(4))
    assert (len(opened.orders), opened.counts["accepted"]) == (2, 2)
    shut = house.tell(ConsentWithdrawn(START + 5, ANN, "marketing"), ordered(6, channel="shop"))
    assert (shut.orders, shut.counts["not_collected"]) == ((), 1)


def test_consent_that_travels_with_the_event_opens_the_door_and_the_order() -> None:
    every = ("topics", "data_categories", "recipients", "channels", "recipient_countries")
    scope = {"purposes": ["service"], **{name: ["*"] for name in every}}
    mapping = parse_mapping(
        {
            "categories": {"help": {"scope": scope, "validity_seconds": 600, "max_uses": None}},
            "terms": {"transfer_basis": "contract"},
        }
    )
    channels = (
        Channel("app", collect_under="service", form="segment", consent=mapping),
        Channel("web"),
        Channel("shop"),
    )
    house = House.of(policy(channels=channels))
    yes = ObservedConsent("segment", {"categoryPreferences": {"help": True}}, 77)
    no = ObservedConsent("segment", {"categoryPreferences": {"help": False}}, 78)
    assert house.tell(ordered(0)).counts["not_collected"] == 1
    order = house.order(ordered(1, consent=yes))
    assert order.consent[0].valid_until_ms == START + 1 + 600_000
    made = house.tell(ordered(2, consent=no))
    assert made.counts["not_collected"] == 1
    assert [(recall.order_ids, recall.reason) for recall in made.recalls] == [
        ((order.order_id,), "withdrawn")
    ]


# --- budgets -------------------------------------------------------------------------------------------------------------


def test_a_one_time_consent_gives_one_order_which_it_does_not_recall() -> None:
    house = House.of()
    made = house.tell(grant(uses=1), ordered(1), ordered(2))
    assert (len(made.orders), reasons(made), made.recalls) == (1, ["spent"], ())
    assert house.tell(at=HOUR).recalls == ()


def test_a_budget_of_three_gives_three() -> None:
    house = House.of()
    made = house.tell(grant(uses=3), *(ordered(at) for at in range(1, 6)))
    assert (len(made.orders), reasons(made)) == (3, ["spent", "spent"])


@pytest.mark.parametrize(("budget", "again"), [({"restore_if_unopened": True}, 1), ({}, 0)])
@pytest.mark.parametrize("how", ["refused", "unopened"])
def test_a_use_that_nobody_saw_comes_back_only_where_the_consent_says_so(
    budget: dict[str, Any], again: int, how: str
) -> None:
    house = House.of()
    order = house.order(grant(uses=1, **budget), ordered(1))
    end: Any = (
        OrderRefused(START + 2, order.order_id, "no key")
        if how == "refused"
        else FragmentEnded(START + 2, order.order_id, unopened=True)
    )
    made = house.tell(end, ordered(3))
    assert (len(made.orders), len(made.refusals)) == (again, 1 - again)


def test_a_use_that_was_seen_never_comes_back_and_a_use_comes_back_once() -> None:
    house = House.of()
    seen = house.order(grant(uses=1, restore_if_unopened=True), ordered(1))
    assert reasons(house.tell(FragmentEnded(START + 2, seen.order_id, unopened=False), ordered(3))) == [
        "spent"
    ]
    other = House.of()
    first = other.order(grant(uses=1, restore_if_unopened=True), ordered(1))
    refused = OrderRefused(START + 2, first.order_id, "no key")
    assert len(other.tell(refused, ordered(3)).orders) == 1
    assert reasons(other.tell(replace(refused, at_ms=START + 4), ordered(5))) == ["spent"]


def test_an_order_that_nobody_knows_ends_without_a_word() -> None:
    house = House.of()
    made = house.tell(grant(), FragmentEnded(START + 1, "ff" * 16, unopened=True))
    assert (made.orders, made.recalls, made.refusals) == ((), (), ())


# --- one after the other ---------------------------------------------------------------------------------------------------


def test_a_newer_order_supersedes_the_older_one_of_the_same_rule_while_it_lives() -> None:
    house = House.of(with_trigger(ttl_seconds=60))
    first = house.order(grant(), ordered(0))
    second = house.order(ordered(59_999))
    assert second.supersedes == (first.order_id,)
    assert second.version > first.version
    assert second.order_id != first.order_id
    third = house.order(ordered(59_999 + 60_000))
    assert third.supersedes == ()


def test_orders_of_another_person_rule_or_audience_are_not_superseded() -> None:
    triggers = (ON_ORDER, replace(ON_ORDER, name="second"), replace(ON_ORDER, name="third", audience="crm-2"))
    house = House.of(policy(triggers=triggers))
    made = house.tell(grant(), grant(BEN), ordered(1), ordered(1, subject=BEN))
    assert [item.order.supersedes for item in made.orders] == [()] * 6
    assert len({item.order.order_id for item in made.orders}) == 6
    assert [item.sequence for item in made.orders] == sorted({item.sequence for item in made.orders})


def test_two_orders_at_one_instant_have_different_ids() -> None:
    made = House.of().tell(grant(), ordered(1), ordered(1))
    first, second = (item.order for item in made.orders)
    assert first.order_id != second.order_id
    assert second.supersedes == (first.order_id,)


# --- lineage ---------------------------------------------------------------------------------------------------------------


def test_the_lineage_of_an_order_names_exactly_the_events_behind_each_field() -> None:
    fields = (
        shows("cheapest", measure("min", "view", "price")),
        shows("materials", measure("distinct", "view", "material")),
        STATUS,
    )
    house = House.of(with_trigger(fields=fields))
    views = [
        event("view", 1, material="oak", price=7, channel="web"),
        event("view", 2, material="silk", price=3),
        event("view", 3, material="oak", price=9),
        event("view", 4),
        event("view", 5, subject=BEN, material="felt", price=1),
    ]
    last = ordered(6, channel="shop")
    given = grant()
    order = house.order(given, *views, last)
    block = decode(order.lineage)
    named = {
        fields[entry.field].name: {
            block.events[place].digest for place in range(len(block.events)) if entry.events >> place & 1
        }
        for entry in block.fields
    }
    assert named == {
        "cheapest": {views[1].digest},
        "materials": {views[1].digest, views[2].digest},
        "status": {last.digest},
    }
    assert {fields[entry.field].name: entry.total for entry in block.fields} == {
        "cheapest": 1,
        "materials": 2,
        "status": 1,
    }
    assert {(item.digest, item.channel, item.time_ms) for item in block.events} == {
        (views[1].digest, 0, START + 2),
        (views[2].digest, 0, START + 3),
        (last.digest, 2, START + 6),
    }
    consent = block.consents[0]
    assert (consent.record_id, consent.version) == (given.record.record_id, 1)
    assert (consent.valid_from_ms, consent.valid_until_ms) == (START, START + 30 * DAY)
    assert block.as_of_ms == START + 6
    assert order.trigger_id == last.digest


def test_lineage_says_how_many_events_there_were_beyond_those_it_names() -> None:
    house = House.of(with_trigger(fields=(shows("views", measure("count", "view")),)))
    house.tell(grant(), *(event("view", at) for at in range(1, 31)))
    block = decode(house.order(ordered(40)).lineage)
    assert block.fields[0].total == 30
    assert [item.time_ms - START for item in block.events] == sorted(
        (item.time_ms - START for item in block.events), reverse=True
    )
    assert block.events[0].time_ms == START + 30
