"""The furniture retailer's policy loads, says what the issue asks for, and works on a small story."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from dayfly.engine.events import Event, EventBatch
from dayfly.engine.intake.mapping import FileMapping
from dayfly.engine.policy.load import check_folder, example_policy_folder, load_policy, policy_from_source
from dayfly.engine.policy.model import Policy
from dayfly.engine.tags.functions import FUNCTIONS
from dayfly.engine.tags.sentence import describe_tag
from dayfly.engine.tags.text import parse_expression
from dayfly.engine.triggers import OnEvent, OnTag
from dayfly.privacy.consent.taxonomy import covers
from tests.oracles.consent_rules import Everyone
from tests.oracles.membership import OracleEngine

MINUTE = 60_000
DAY = 86_400_000
START = 1_767_225_600_000


@pytest.fixture(scope="module")
def policy() -> Policy:
    return load_policy(example_policy_folder(), version=1)


def test_example_has_no_problems_and_rebuilds_from_its_source(policy: Policy) -> None:
    assert check_folder(example_policy_folder()) == ()
    assert policy_from_source(policy.source) == policy


def test_example_has_all_channels_and_their_files(policy: Policy) -> None:
    assert {channel.name: channel.form for channel in policy.channels} == {
        "app": "segment", "web": "rudderstack", "wifi": "cloudevents", "marketplace": "csv", "hotline": "jsonl",
    }  # fmt: skip
    assert [channel.name for channel in policy.channels if channel.probe] == ["wifi"]
    assert {mapping.channel for mapping in policy.mappings.values() if isinstance(mapping, FileMapping)} == {
        "marketplace",
        "hotline",
    }


def test_example_uses_every_family_of_functions(policy: Policy) -> None:
    texts = " ".join(tag.text for tag in policy.tags)
    used = {name for name in FUNCTIONS if f"{name}(" in texts}
    assert used >= {
        "count",
        "distinct",
        "sum",
        "avg",
        "min",
        "absent",
        "first_time",
        "regularly",
        "stopped",
        "restarted",
        "sequence",
        "in_tag",
    }
    assert all(parse_expression(tag.text) == tag.when for tag in policy.tags)
    assert all(tag.name in describe_tag(tag) for tag in policy.tags)


def test_example_has_triggers_of_every_profile_on_events_and_tags(policy: Policy) -> None:
    assert {trigger.profile for trigger in policy.triggers} == {"F0", "F1", "F2"}
    assert {type(trigger.when) for trigger in policy.triggers} == {OnEvent, OnTag}
    assert {trigger.audience for trigger in policy.triggers} == {"crm-cn-1", "crm-eu-1"}
    once = next(trigger for trigger in policy.triggers if trigger.name == "childrens-furniture-once")
    assert (once.uses, once.topic) == (1, "furniture.children")
    cancelled = policy.contradictions[0]
    assert (cancelled.when.event, cancelled.field, cancelled.values) == (
        "Order Cancelled",
        "order_status",
        ("shipping",),
    )


def test_every_tag_and_trigger_can_be_consented_to(policy: Policy) -> None:
    grants = [
        rule.scope
        for channel in policy.channels
        if channel.consent
        for rule in channel.consent.categories.values()
    ]
    for tag in policy.tags:
        assert any(
            any(covers(purpose, tag.purpose) for purpose in scope.purposes)
            and any(covers(topic, tag.topic) for topic in scope.topics)
            and policy.settings.controller in scope.recipients
            and policy.settings.tag_data_category in scope.data_categories
            and policy.settings.controller_country in scope.recipient_countries
            for scope in grants
        ), tag.name
    for trigger in policy.triggers:
        wanted = {field.data_category for field in trigger.fields}
        assert any(
            any(covers(purpose, trigger.purpose) for purpose in scope.purposes)
            and any(covers(topic, trigger.topic) for topic in scope.topics)
            and trigger.audience in scope.recipients
            and trigger.recipient_country in scope.recipient_countries
            and wanted <= set(scope.data_categories)
            for scope in grants
        ), trigger.name


def test_one_time_grant_covers_childrens_furniture_only(policy: Policy) -> None:
    consent = next(channel.consent for channel in policy.channels if channel.name == "app")
    assert consent is not None
    once = consent.categories["children-once"]
    assert (once.max_uses, once.validity_seconds, once.scope.topics) == (1, 86_400, ("furniture.children",))


def test_foreign_recipient_has_a_row_in_the_transfer_table(policy: Policy) -> None:
    assert policy.transfer_table is not None
    abroad = {
        trigger.audience
        for trigger in policy.triggers
        if trigger.recipient_country != policy.transfer_table.home_country
    }
    assert abroad == {row.recipient for row in policy.transfer_table.rows}


Said = tuple[str, int, Mapping[str, Any]]


def story(*events: Said) -> list[Event]:
    return [
        Event(
            event_id=at.to_bytes(16, "big"),
            channel="app",
            subject=bytes(range(16)),
            type=name,
            time_ms=START + when,
            received_ms=START + when,
            properties=fields,
            digest=at.to_bytes(16, "little"),
        )
        for at, (name, when, fields) in enumerate(events)
    ]


def carried(policy: Policy, events: list[Event], now: int) -> frozenset[str]:
    """Tags of the person by the independent recount."""
    engine = OracleEngine(
        replace(policy, channels=tuple(replace(channel, collect_under=None) for channel in policy.channels)),
        Everyone(),
    )
    engine.apply([EventBatch.from_events(events, policy.catalog)], START + now)
    return engine.tags(bytes(range(16)), START + now)


def test_sixth_search_in_a_week_makes_the_storage_tag_and_the_week_ends_it(policy: Policy) -> None:
    searches = story(*[("Product Searched", at * DAY, {"query": "小户型收纳柜"}) for at in range(6)])
    assert "searching-small-flat-storage" not in carried(policy, searches[:5], 5 * DAY)
    assert "searching-small-flat-storage" in carried(policy, searches, 7 * DAY - 1)
    assert "searching-small-flat-storage" not in carried(policy, searches, 7 * DAY)


def test_three_materials_make_the_sofa_tag(policy: Policy) -> None:
    def views(*materials: str) -> list[Event]:
        sofa = {"product_id": "p", "category": "sofa", "price": 4_000}
        return story(
            *[("Product Viewed", at, {**sofa, "material": material}) for at, material in enumerate(materials)]
        )

    assert "comparing-sofa-materials" in carried(policy, views("leather", "fabric", "velvet"), 10)
    assert "comparing-sofa-materials" not in carried(policy, views("leather", "fabric", "leather"), 10)


def test_cart_without_order_is_abandoned_after_half_an_hour(policy: Policy) -> None:
    cart: list[Said] = [
        ("Product Added", 0, {"product_id": "p"}),
        ("Checkout Started", MINUTE, {"total": 900}),
    ]
    bought: list[Said] = [*cart, ("Order Completed", 20 * MINUTE, {"order_id": "o"})]
    assert "cart-abandoned" not in carried(policy, story(*cart), 31 * MINUTE - 1)
    assert "cart-abandoned" in carried(policy, story(*cart), 31 * MINUTE)
    assert "cart-abandoned" not in carried(policy, story(*bought), 31 * MINUTE)


def test_order_then_cancellation_takes_the_big_spender_tag_away(policy: Policy) -> None:
    order = ("Order Completed", 0, {"order_id": "o", "total": 20_000.01})
    assert {"big-spender", "first-order"} <= carried(policy, story(order), 1)
    after = carried(policy, story(order, ("Order Cancelled", MINUTE, {"order_id": "o"})), MINUTE)
    assert "bought-then-cancelled" in after
    assert "big-spender" not in after


def test_shipping_ends_with_delivery(policy: Policy) -> None:
    shipped = ("Order Shipped", 0, {"order_id": "o", "status": "shipping"})
    assert "order-under-way" in carried(policy, story(shipped), 1)
    assert "order-under-way" not in carried(
        policy, story(shipped, ("Order Delivered", DAY, {"order_id": "o"})), DAY
    )


def test_rhythm_tags_follow_visits(policy: Policy) -> None:
    weekly = story(*[("App Opened", week * 7 * DAY, {}) for week in (0, 1, 2)])
    assert "weekly-visitor" in carried(policy, weekly, 20 * DAY)
    back = story(("App Opened", 0, {}), ("App Opened", 60 * DAY, {}))
    assert "back-again" in carried(policy, back, 60 * DAY)
    bought = story(("Order Completed", 0, {"order_id": "o"}))
    assert "lapsed" not in carried(policy, bought, 180 * DAY - 1)
    assert "lapsed" in carried(policy, bought, 180 * DAY)
