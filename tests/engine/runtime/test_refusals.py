"""What may not be minted is not, and the reason is counted."""

from typing import Any

import pytest

from dayfly.engine.policy.model import Policy
from dayfly.engine.runtime import Outcome
from dayfly.privacy.audit_log import verify_audit
from dayfly.privacy.consent import UseBudget
from dayfly.privacy.errors import LeaseRefused

from .world import DAY_MS, EUROPE, T0, TERMS, World, changed, consent_record, fragments_of

SHIPPED: dict[str, Any] = {"order_id": "o-1", "status": "shipping"}


def ship(world: World, user: str, at_ms: int, order_id: str = "o-1") -> Outcome:
    return world.act(user, "Order Shipped", at_ms, **{**SHIPPED, "order_id": order_id})


def reasons(world: World, outcome: Outcome) -> dict[str, int]:
    return dict(world.engine.refusals_by_reason(outcome))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"state": "refused"}, "refused"),
        ({"state": "withdrawn"}, "withdrawn"),
        ({"state": "invalidated"}, "invalidated"),
        ({"state": "requested"}, "requested"),
        ({"valid_until_ms": T0 + 1_000}, "expired"),
        ({"valid_from_ms": T0 + DAY_MS}, "not_yet_valid"),
        ({"purposes": ("marketing",)}, "out_of_scope_purpose"),
        ({"topics": ("furniture.sofa",)}, "out_of_scope_topic"),
        ({"data_categories": ("behaviour",)}, "out_of_scope_data"),
        ({"recipients": ("cdp", "crm-cn-1")}, "out_of_scope_recipient"),
        ({"recipient_countries": ("CN",)}, "out_of_scope_country"),
    ],
)
def test_each_way_of_not_being_consented_is_refused_with_its_reason(
    changes: dict[str, Any], reason: str
) -> None:
    world = World()
    world.allow("u-1", T0, **changes)
    outcome = ship(world, "u-1", T0 + 1_000)
    assert reasons(world, outcome) == {reason: 1}
    assert outcome.fragments == ()


def test_a_person_who_was_never_asked_is_refused() -> None:
    world = World()
    assert reasons(world, ship(world, "u-1", T0)) == {"no_record": 1}


def test_a_spent_consent_is_refused() -> None:
    world = World()
    world.allow("u-1", T0, use=UseBudget(max_uses=1), purposes=("service.order",), topics=("orders",))
    assert len(ship(world, "u-1", T0 + 1).fragments) == 1
    outcome = ship(world, "u-1", T0 + 2, "o-2")
    assert reasons(world, outcome) == {"spent": 1}


def test_two_answers_of_one_instant_that_differ_are_a_refusal() -> None:
    world = World()
    world.allow("u-1", T0)
    world.allow("u-1", T0, state="refused", record_id="c-2")
    assert reasons(world, ship(world, "u-1", T0 + 1)) == {"conflict": 1}


def test_a_record_about_somebody_else_allows_nothing_and_is_a_dead_letter() -> None:
    world = World()
    foreign = consent_record(world.person("u-2"), T0)
    outcome = world.engine.consent(world.person("u-1"), foreign, T0)
    assert [letter.reason for letter in outcome.decisions.dead_letters] == ["foreign_consent"]
    assert reasons(world, ship(world, "u-1", T0 + 1)) == {"no_record": 1}


def without_table() -> Policy:
    return changed("transfers", lambda document: document.update(rows=[]))


def test_a_recipient_abroad_without_a_row_in_the_table_is_refused_at_the_mint() -> None:
    world = World(without_table())
    world.allow("u-1", T0)
    outcome = ship(world, "u-1", T0 + 1)
    assert outcome.fragments == ()
    assert [item.trigger for item in outcome.mint_refusals] == ["order-shipping"]
    assert list(reasons(world, outcome)) == ["mint.TransferRefused"]


def at_most(people: int) -> Policy:
    threshold = {
        "name": "a few",
        "legal_bases": ["contract"],
        "field_class": "ordinary",
        "below": people,
        "source": "this test",
    }
    return changed("transfers", lambda document: document.update(thresholds=[threshold]))


def test_transfers_stop_before_the_head_count_reaches_its_threshold() -> None:
    world = World(at_most(3))
    minted = []
    for number in range(5):
        world.allow(f"u-{number}", T0)
        minted.append(len(ship(world, f"u-{number}", T0 + 1 + number).fragments))
    assert minted == [1, 1, 0, 0, 0]


def test_stores_that_share_a_head_count_have_equal_parts_of_it() -> None:
    world = World(at_most(5), shards=2)
    minted = []
    for number in range(4):
        world.allow(f"u-{number}", T0)
        minted.append(len(ship(world, f"u-{number}", T0 + 1 + number).fragments))
    assert minted == [1, 0, 0, 0], "2 of 5 each, rounded down: fewer than 2"


def test_somebody_counted_this_year_may_still_be_sent() -> None:
    world = World(at_most(3))
    for number in range(3):
        world.allow(f"u-{number}", T0)
        ship(world, f"u-{number}", T0 + 1 + number)
    assert len(ship(world, "u-0", T0 + DAY_MS, "o-2").fragments) == 1


def test_recipients_at_home_need_no_row_in_the_table() -> None:
    world = World(without_table())
    world.allow("u-1", T0)
    assert len(world.compare_sofas("u-1", T0 + 1).fragments) == 1


def test_an_audience_without_a_registered_key_gets_nothing() -> None:
    world = World()
    del world.crm_keys[EUROPE]
    recipients = {name: world.client(name, T0).jkt for name in world.crm_keys}
    poorer = World(seed=2)
    poorer.engine.fragments._mint._recipients = recipients
    poorer.allow("u-1", T0)
    assert reasons(poorer, ship(poorer, "u-1", T0 + 1)) == {"mint.InvalidOrder": 1}


def test_a_use_spent_for_an_order_that_the_mint_refused_comes_back() -> None:
    world = World(without_table())
    budget = UseBudget(max_uses=1, restore_if_unopened=True)
    world.allow("u-1", T0, use=budget, purposes=("service.order",), topics=("orders",), terms=TERMS)
    outcome = ship(world, "u-1", T0 + 1)
    (refused,) = outcome.mint_refusals
    assert world.engine.shard.consents_of(world.person("u-1")).restored == (refused.order_id,)


def test_a_trigger_that_is_refused_again_and_again_ends_with_its_use_spent() -> None:
    """The tag comes back with the use, fires again, and is refused again: that must end, and end in no."""
    world = World()
    world.engine.fragments._mint._recipients = {}
    world.act("u-1", "Segment Consent Preference Updated", T0, consent={"children-once": True})
    for number in range(3):
        seen: dict[str, Any] = {
            "product_id": f"k-{number}",
            "category": "kids",
            "audience": "children",
            "price": 900,
        }
        outcome = world.act("u-1", "Product Viewed", T0 + 1 + number, **seen)
    assert 1 <= len(outcome.mint_refusals) <= 4
    assert outcome.fragments == ()


def test_every_decision_at_mint_and_lease_stands_in_the_audit_log() -> None:
    world = World()
    world.allow("u-1", T0)
    (fragment,) = ship(world, "u-1", T0 + 1).fragments
    world.open(fragment, T0 + 1_000)
    world.engine.withdraw(world.person("u-1"), T0 + 2_000)
    with pytest.raises(LeaseRefused, match="gone"):
        world.open(fragment, T0 + 3_000)
    lines = world.engine.audit_lines
    assert verify_audit(lines) == world.engine.audit.head
    kinds = [line.split(b'"kind":"')[1].split(b'"')[0].decode() for line in lines]
    assert kinds == ["consent", "transfer", "mint", "consent", "transfer", "lease"]


def test_a_policy_without_the_trigger_refuses_its_fragments_from_then_on() -> None:
    def drop_shipping(document: dict[str, Any]) -> None:
        document["triggers"] = [item for item in document["triggers"] if item["trigger"] != "order-shipping"]
        document["contradictions"] = []

    world = World()
    world.allow("u-1", T0)
    (fragment,) = ship(world, "u-1", T0 + 1).fragments
    outcome = world.engine.publish(changed("triggers", drop_shipping, version=2), T0 + 1_000)
    assert [item.jti for item in outcome.destroyed] == [fragment.jti]
    assert fragments_of(ship(world, "u-1", T0 + 2_000, "o-2"), "order-shipping") == []
