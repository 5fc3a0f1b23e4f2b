"""From a consented moment to an opened fragment, and every way in which it dies."""

import threading
from typing import Any, cast

import pytest

from dayfly.engine.intake import FileMapping
from dayfly.privacy.errors import ExpiredFragment, InvalidFragment, LeaseRefused
from dayfly.privacy.fragments import Fragment, LeaseReason, LeaseRequest, verify_receipt
from dayfly.privacy.fragments.wire import Lease, SealedClaims

from .world import (
    CHINA,
    DAY_MS,
    EUROPE,
    MINUTE_MS,
    T0,
    World,
    changed,
    consent_record,
    fragments_of,
    furniture,
    wrapping_kernels,
)

SOFA = "advise-on-sofa-materials"
HOTLINE = cast("FileMapping", furniture().mappings["hotline-calls"])
KIDS = "childrens-furniture-once"
SHIPPING = "order-shipping"


@pytest.fixture
def world() -> World:
    return World()


def look_at_childrens_beds(world: World, user: str, at_ms: int) -> list[Fragment]:
    found = []
    for number in range(3):
        seen: dict[str, Any] = {
            "product_id": f"k-{number}",
            "category": "kids",
            "audience": "children",
            "price": 900,
        }
        found += fragments_of(world.act(user, "Product Viewed", at_ms + number, **seen), KIDS)
    return found


def ship(world: World, user: str, order_id: str, at_ms: int) -> Fragment:
    properties: dict[str, Any] = {
        "order_id": order_id,
        "status": "shipping",
        "delivery_at": "2026-12-01T10:00:00Z",
    }
    (fragment,) = fragments_of(world.act(user, "Order Shipped", at_ms, **properties), SHIPPING)
    return fragment


def test_a_consented_moment_becomes_a_fragment_that_its_crm_verifies_leases_and_opens(world: World) -> None:
    world.allow("u-1", T0)
    (fragment,) = world.compare_sofas("u-1", T0 + 1).fragments
    opened = world.open(fragment, T0 + 3_000)
    assert dict(opened.values) == {"materials": ("fabric", "leather", "velvet"), "budget": "2000..5000"}
    assert (opened.claims.aud, opened.claims.pur) == (CHINA, "service.recommendation")
    assert opened.until_ms == T0 + 3_000 + 300_000


def test_a_fragment_says_nothing_to_another_audience(world: World) -> None:
    world.allow("u-1", T0)
    (fragment,) = world.compare_sofas("u-1", T0 + 1).fragments
    with pytest.raises(InvalidFragment, match="genuine fragment for this audience"):
        world.client(EUROPE, T0 + 3_000).verify(fragment.token, T0 + 3_000)


def test_the_token_names_a_person_by_another_name_for_each_audience_and_never_by_the_pseudonym(
    world: World,
) -> None:
    world.allow("u-1", T0)
    (first,) = world.compare_sofas("u-1", T0 + 1).fragments
    second = ship(world, "u-1", "o-1", T0 + 10_000)
    names = [
        world.client(fragment.audience, T0 + 11_000).verify(fragment.token, T0 + 11_000).claims.sub
        for fragment in (first, second)
    ]
    assert len({*names, world.person("u-1").hex()}) == 3


def test_a_yes_no_fragment_answers_its_question_and_nothing_else(world: World) -> None:
    world.allow("u-1", T0)
    world.act("u-1", "Order Completed", T0 + 1, order_id="o-1", total=25_000)
    call = b'{"call_id":"c-1","customer":"u-1","event":"Hotline Called","started_at":"2026-11-22T09:20:01Z","subject":"advice"}\n'
    (result,) = world.engine.intake.jsonl(call, HOTLINE, T0 + 2_000)
    (fragment,) = fragments_of(world.engine.take(result, T0 + 2_000), "green-channel")
    verified, pending = world.ask(fragment, T0 + 3_000, question="big_spender")
    answer = world.client(CHINA, T0 + 3_000).answer(
        verified, pending, world.engine.lease(pending.request, T0 + 3_000), T0 + 3_000
    )
    assert (answer.question, answer.yes) == ("big_spender", True)


def test_a_withdrawal_between_mint_and_lease_refuses_the_lease_and_leaves_a_receipt(world: World) -> None:
    world.allow("u-1", T0)
    (fragment,) = world.compare_sofas("u-1", T0 + 1).fragments
    request = world.request(fragment, T0 + 3_000)
    claims = world.client(CHINA, T0 + 3_000).verify(fragment.token, T0 + 3_000).claims
    assert isinstance(claims, SealedClaims)
    outcome = world.engine.withdraw(world.person("u-1"), T0 + 3_001)
    assert [(item.jti, item.reason.value) for item in outcome.destroyed] == [(fragment.jti, "withdrawn")]
    with pytest.raises(LeaseRefused, match="gone") as refused:
        world.engine.lease(request, T0 + 3_002)
    assert refused.value.reason is LeaseReason.GONE
    receipt = world.engine.fragments.receipt(fragment.jti)
    checkpoint = verify_receipt(receipt, world.keys.notes_verifier, "dayfly.example/shop", kc=claims.kc)
    assert (checkpoint.minted, checkpoint.live, checkpoint.size) == (1, 0, 1)


def test_a_consent_that_ends_between_mint_and_lease_refuses_the_lease_without_any_event(world: World) -> None:
    end = T0 + 10 * MINUTE_MS
    world.allow("u-1", T0, valid_until_ms=end)
    (fragment,) = world.compare_sofas("u-1", T0 + 1).fragments
    assert fragment.expires_at_ms == end  # a fragment never outlives its consent
    request = world.request(fragment, end - 1)
    with pytest.raises(LeaseRefused, match="gone"):
        world.engine.lease(request, end)


def test_the_gate_at_the_lease_refuses_what_the_recall_has_not_reached_yet(world: World) -> None:
    world.allow("u-1", T0)
    (fragment,) = world.compare_sofas("u-1", T0 + 1).fragments
    request = world.request(fragment, T0 + 3_000)
    person = world.person("u-1")
    refusal = consent_record(person, T0 + 2_500, state="refused", record_id="c-2")
    shard = world.engine.shard
    number = shard.orders.live[fragment.order_id].person
    shard.consents.states[number] = shard.consents.states[number].with_record(
        refusal
    )  # no recall follows from this
    with pytest.raises(LeaseRefused, match="consent") as refused:
        world.engine.lease(request, T0 + 3_000)
    assert refused.value.reason is LeaseReason.CONSENT


def test_a_fragment_dies_at_its_whole_second_and_not_a_millisecond_before(world: World) -> None:
    world.allow("u-1", T0)
    (fragment,) = world.compare_sofas("u-1", T0 + 1).fragments
    end = fragment.expires_at_ms
    assert world.engine.tick(end - 1).destroyed == ()
    outcome = world.engine.tick(end)
    assert [(item.jti, item.reason.value, item.leases) for item in outcome.destroyed] == [
        (fragment.jti, "expired", 0)
    ]
    with pytest.raises(ExpiredFragment):
        world.client(CHINA, end).verify(fragment.token, end)


def test_a_one_time_consent_gives_exactly_one_fragment_once_it_was_opened(world: World) -> None:
    world.act("u-1", "Segment Consent Preference Updated", T0, consent={"children-once": True})
    (fragment,) = look_at_childrens_beds(world, "u-1", T0 + 1)
    assert world.open(fragment, T0 + 1_000).values == {"childrens_furniture": True}
    with pytest.raises(LeaseRefused, match="gone"):
        world.open(fragment, T0 + 2_000)
    later = [world.engine.tick(T0 + minute * MINUTE_MS) for minute in range(1, 60)]
    again = look_at_childrens_beds(world, "u-1", T0 + DAY_MS // 2)
    assert [outcome.fragments for outcome in later if outcome.fragments] == []
    assert again == []
    assert world.engine.fragments.minted == 1


def test_a_use_that_nobody_opened_comes_back_where_the_consent_says_so(world: World) -> None:
    world.act("u-1", "Segment Consent Preference Updated", T0, consent={"children-once": True})
    (fragment,) = look_at_childrens_beds(world, "u-1", T0 + 1)
    person = world.person("u-1")
    assert world.engine.shard.consents_of(person).restored == ()
    outcome = world.engine.tick(fragment.expires_at_ms)
    assert fragment.order_id in world.engine.shard.consents_of(person).restored
    assert [item.leases for item in outcome.destroyed] == [0]
    assert len(fragments_of(outcome, KIDS)) == 1  # the condition still holds and is consented again


def test_a_use_that_nobody_opened_stays_spent_where_the_consent_does_not_say_so() -> None:
    def keep_spent(document: dict[str, Any]) -> None:
        for platform in document["platforms"].values():
            platform["categories"]["children-once"]["restore_if_unopened"] = False

    world = World(changed("consent", keep_spent))
    world.act("u-1", "Segment Consent Preference Updated", T0, consent={"children-once": True})
    (fragment,) = look_at_childrens_beds(world, "u-1", T0 + 1)
    assert world.engine.tick(fragment.expires_at_ms).fragments == ()
    assert look_at_childrens_beds(world, "u-1", T0 + DAY_MS // 2) == []


def test_a_cancelled_order_recalls_its_own_fragment_and_no_other(world: World) -> None:
    for user in ("u-1", "u-2"):
        world.allow(user, T0)
    mine = ship(world, "u-1", "o-1", T0 + 1)
    theirs = ship(world, "u-2", "o-2", T0 + 2)
    outcome = world.act("u-1", "Order Cancelled", T0 + 60_000, order_id="o-1", reason="changed mind")
    assert [(item.jti, item.reason.value) for item in outcome.destroyed] == [(mine.jti, "superseded")]
    assert [item.reason for item in outcome.decisions.recalls] == ["contradicted"]
    with pytest.raises(LeaseRefused, match="gone"):
        world.open(mine, T0 + 61_000)
    assert world.open(theirs, T0 + 61_000).values["order_status"] == "shipping"


def test_cancelling_one_order_leaves_what_was_said_about_another_of_the_same_person(world: World) -> None:
    world.allow("u-1", T0)
    fragment = ship(world, "u-1", "o-8", T0 + 1)
    outcome = world.act("u-1", "Order Cancelled", T0 + 60_000, order_id="o-7", reason="changed mind")
    assert (outcome.destroyed, outcome.decisions.recalls) == ((), ())
    assert world.open(fragment, T0 + 61_000).values["order_status"] == "shipping"


def test_a_newer_fragment_of_a_trigger_supersedes_the_older_one(world: World) -> None:
    world.allow("u-1", T0)
    older = ship(world, "u-1", "o-1", T0 + 1)
    newer = ship(world, "u-1", "o-2", T0 + 60_000)
    dead = world.engine.tick(T0 + 60_001).destroyed
    assert [(item.jti, item.reason.value) for item in dead] == [(older.jti, "superseded")]
    with pytest.raises(LeaseRefused, match="gone"):
        world.open(older, T0 + 61_000)
    assert world.open(newer, T0 + 61_000).values["order_status"] == "shipping"


def test_of_many_simultaneous_leases_of_a_one_time_fragment_exactly_one_gets_the_key(world: World) -> None:
    world.allow("u-1", T0)
    (fragment,) = fragments_of(
        world.act("u-1", "Install Service Tapped", T0 + 1, sku="s-1"), "install-service-tapped"
    )
    requests = [world.request(fragment, T0 + 2_000) for _ in range(16)]
    given: list[Lease] = []
    refused: list[str] = []
    start = threading.Barrier(len(requests))

    def lease(request: LeaseRequest) -> None:
        start.wait()
        try:
            with wrapping_kernels():
                given.append(world.engine.lease(request, T0 + 3_000))
        except LeaseRefused as refusal:
            refused.append(refusal.reason)

    threads = [threading.Thread(target=lease, args=(request,)) for request in requests]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(given) == 1
    assert set(refused) == {LeaseReason.GONE}
    assert len(refused) == 15


def test_what_time_brings_at_a_lease_is_reported_with_the_next_call(world: World) -> None:
    world.allow("u-1", T0)
    world.allow("u-2", T0, valid_until_ms=T0 + 5 * MINUTE_MS)
    (fragment,) = world.compare_sofas("u-1", T0 + 1).fragments
    world.compare_sofas("u-2", T0 + 5_000)
    world.open(fragment, T0 + 6 * MINUTE_MS)  # by now the tag of u-2 has ended with its consent
    assert world.engine.shard.clock_ms == T0 + 6 * MINUTE_MS
    left = [
        item.subject
        for item in world.engine.tick(T0 + 7 * MINUTE_MS).decisions.tags
        if item.change == "leave"
    ]
    assert left == [world.person("u-2")]


def test_closing_destroys_every_live_fragment_and_can_be_repeated(world: World) -> None:
    world.allow("u-1", T0)
    (fragment,) = world.compare_sofas("u-1", T0 + 1).fragments
    world.engine.close()
    world.engine.close()
    assert world.engine.fragments.receipt(fragment.jti).tombstone.reason.value == "closed"
