"""A new policy takes effect on everybody at once, from history; one that does not compile changes nothing."""

from dataclasses import replace
from typing import Any

import pytest

from dayfly.engine.catalog import Catalog, EventType, FieldSpec, FieldType
from dayfly.engine.decisions import Decisions
from dayfly.engine.errors import ShardError
from dayfly.engine.inputs import Input, Publish, Tick
from dayfly.engine.policy.model import Policy, Settings
from dayfly.engine.shard.shard import Shard
from dayfly.engine.tags.tree import Capture
from dayfly.engine.triggers import OnTag
from tests.engine.shard.house import (
    ANN,
    BEN,
    CATALOG,
    HOUR,
    MINUTE,
    NUMBER,
    ON_ORDER,
    START,
    TEXT,
    House,
    event,
    grant,
    measure,
    policy,
    tag,
)

LOOKS = tag("looks", 'count("view", within: 10m) > 1')
FOND = tag(
    "fond",
    'count("view", where: properties.material == "oak" && properties.price > 1, within: 10m) > 0',
    Capture("materials", measure("distinct", "view", "material", 10 * MINUTE)),
    Capture("dearest", measure("max", "view", "price", 10 * MINUTE)),
)


def changes(made: Decisions) -> list[tuple[str, str, str]]:
    return [(change.tag, change.change, change.reason) for change in made.tags]


def settled(*rules: Any) -> House:
    """Ann looked at oak twice and at silk once."""
    house = House.of(policy(tags=rules))
    house.tell(
        grant(),
        event("view", 1, material="oak", price=3),
        event("view", 2, material="silk", price=7),
        event("view", 3, material="oak"),
    )
    return house


# --- rules ---------------------------------------------------------------------------------------------------------------


def test_a_new_tag_is_entered_from_history_at_the_instant_of_publication() -> None:
    house = settled(LOOKS)
    made = house.tell(Publish(START + MINUTE, policy(version=2, tags=(LOOKS, FOND))))
    assert changes(made) == [("fond", "enter", "when")]
    assert (made.tags[0].at_ms, made.tags[0].until_ms) == (START + MINUTE, START + 1 + 10 * MINUTE)
    assert house.shard.tags(ANN)["fond"] == {"materials": ["oak", "silk"], "dearest": 7}
    assert changes(house.tell(at=HOUR)) == [("fond", "leave", "when"), ("looks", "leave", "when")]


def test_a_tag_that_is_gone_is_left_once_and_can_come_back() -> None:
    house = settled(LOOKS, FOND)
    gone = house.tell(Publish(START + 10, policy(version=2, tags=(FOND,))))
    assert changes(gone) == [("looks", "leave", "unpublished")]
    assert set(house.shard.tags(ANN)) == {"fond"}
    back = house.tell(Publish(START + 20, policy(version=3, tags=(FOND, LOOKS))))
    assert changes(back) == [("looks", "enter", "when")]
    with pytest.raises(ShardError, match=r"tag='nothing' must be declared; use one of: fond, looks"):
        house.shard.explain(ANN, "nothing")


def test_a_tag_whose_condition_changed_is_left_or_kept_by_its_new_condition() -> None:
    house = settled(LOOKS, FOND)
    stricter = tag("looks", 'count("view", within: 10m) > 3')
    assert changes(house.tell(Publish(START + 10, policy(version=2, tags=(stricter, FOND))))) == [
        ("looks", "leave", "when")
    ]
    wider = tag("looks", 'count("view", within: 20m) > 2')
    made = house.tell(Publish(START + 20, policy(version=3, tags=(wider, FOND))))
    assert changes(made) == [("looks", "enter", "when")]
    assert made.tags[0].until_ms == START + 1 + 20 * MINUTE


def test_a_publication_that_changes_nothing_tells_nothing_and_keeps_timers() -> None:
    house = settled(LOOKS, FOND)
    since = house.shard.explain(ANN, "looks")["since_ms"]
    again = house.tell(Publish(START + 10, policy(version=2, tags=(FOND, LOOKS))))
    assert again.tags == ()
    assert house.shard.explain(ANN, "looks")["since_ms"] == since == START + 2
    assert [(change.tag, change.at_ms) for change in house.tell(at=HOUR).tags] == [
        ("fond", START + 1 + 10 * MINUTE),
        ("looks", START + 2 + 10 * MINUTE),
    ]


def test_a_tag_of_another_purpose_is_left_without_consent() -> None:
    house = settled(LOOKS)
    asked = replace(LOOKS, purpose="profiling")
    assert changes(house.tell(Publish(START + 10, policy(version=2, tags=(asked,))))) == [
        ("looks", "leave", "consent")
    ]


def test_a_publication_fires_the_triggers_of_tags_that_it_brings() -> None:
    trigger = replace(
        ON_ORDER, when=OnTag("looks"), fields=(replace(ON_ORDER.fields[0], source=measure("count", "view")),)
    )
    house = settled()
    made = house.tell(Publish(START + 10, policy(version=2, tags=(LOOKS,), triggers=(trigger,))))
    assert [item.order.fields[0].value for item in made.orders] == [3]
    assert house.tell(Publish(START + 20, policy(version=3, tags=(LOOKS,), triggers=(trigger,)))).orders == ()


def test_a_shorter_history_forgets_and_a_longer_one_brings_nothing_back() -> None:
    days = tag("days", 'count("view", within: 1h) > 0')
    house = settled(days)
    short = Settings(history_ms=MINUTE, allowed_lateness_ms=1_000, future_skew_ms=1_000)
    made = house.tell(Publish(START + 2 * MINUTE, policy(version=2, tags=(), settings=short)))
    assert changes(made) == [("days", "leave", "unpublished")]
    saved = Shard.restore(house.shard.snapshot(), house.shard.policy)
    long = Publish(START + 3 * MINUTE, policy(version=3, tags=(days,)))
    assert changes(saved.apply([long], START + 3 * MINUTE)) == []


# --- the catalogue -------------------------------------------------------------------------------------------------------


def with_view(*specs: FieldSpec, others: tuple[EventType, ...] = CATALOG.types[1:]) -> Catalog:
    return Catalog((EventType("view", specs), *others), CATALOG.channels)


MATERIAL, PRICE = FieldSpec("material", TEXT), FieldSpec("price", NUMBER)
COLOUR = FieldSpec("colour", TEXT)


@pytest.mark.parametrize(
    "catalog",
    [
        with_view(COLOUR, MATERIAL, PRICE),
        with_view(PRICE, MATERIAL),
        with_view(MATERIAL, COLOUR, PRICE, others=CATALOG.types[:0:-1]),
        with_view(MATERIAL, PRICE, others=()),
        Catalog((*CATALOG.types[::-1], EventType("new", (COLOUR,))), CATALOG.channels),
    ],
    ids=["field-added-before", "fields-reordered", "all-reordered", "other-types-gone", "types-reordered"],
)
def test_history_keeps_its_meaning_when_the_catalogue_changes(catalog: Catalog) -> None:
    house = settled(LOOKS, FOND)
    rules = replace(policy(version=2, tags=(LOOKS, FOND), triggers=()), catalog=catalog)
    assert changes(house.tell(Publish(START + 10, rules))) == []
    assert house.shard.tags(ANN)["fond"] == {"materials": ["oak", "silk"], "dearest": 7}
    house.tell(event("view", 20, material="felt", price=9))
    assert house.shard.tags(ANN)["fond"] == {"materials": ["felt", "oak", "silk"], "dearest": 9}
    again = Shard.restore(house.shard.snapshot(), rules)
    assert again.snapshot() == house.shard.snapshot()
    assert again.tags(ANN) == house.shard.tags(ANN)


def test_a_field_that_is_gone_is_gone_for_good() -> None:
    house = settled(LOOKS)
    narrow = replace(policy(version=2, tags=(LOOKS,), triggers=()), catalog=with_view(PRICE))
    house.tell(Publish(START + 10, narrow))
    assert b"silk" not in house.shard.snapshot()
    assert b"silk" not in house.shard.arrays.strings.text.tobytes()
    assert changes(house.tell(Publish(START + 20, policy(version=3, tags=(LOOKS, FOND))))) == []


def test_a_field_of_another_type_is_absent_in_what_was_sent_before() -> None:
    house = settled(LOOKS, FOND)
    catalog = with_view(FieldSpec("material", FieldType.NUMBER), PRICE)
    counted = tag("counted", 'count("view", where: has(properties.material), within: 10m) > 0')
    dear = tag("dear", 'max("view", properties.price, within: 10m) == 7')
    rules = replace(policy(version=2, tags=(counted, dear), triggers=()), catalog=catalog)
    made = house.tell(Publish(START + 10, rules))
    assert changes(made) == [
        ("looks", "leave", "unpublished"),
        ("fond", "leave", "unpublished"),
        ("dear", "enter", "when"),
    ]
    assert changes(house.tell(event("view", 20, material=5))) == [("counted", "enter", "when")]


def test_events_of_a_type_that_is_gone_do_not_come_back_with_it() -> None:
    house = settled(LOOKS)
    house.tell(event("ping", 5), grant(BEN, at=5), event("view", 6, subject=BEN))
    without = replace(
        policy(version=2, tags=(), triggers=()), catalog=Catalog(CATALOG.types[1:], CATALOG.channels)
    )
    assert changes(house.tell(Publish(START + 10, without))) == [("looks", "leave", "unpublished")]
    pinged = tag("pinged", 'count("ping", within: 10m) > 0')
    made = house.tell(Publish(START + 20, policy(version=3, tags=(LOOKS, pinged))))
    assert changes(made) == [("pinged", "enter", "when")]
    assert changes(house.tell(event("view", 30), event("view", 31))) == [("looks", "enter", "when")]


def test_events_sent_under_the_old_catalogue_wait_and_count_under_the_new_one() -> None:
    house = settled(LOOKS)
    house.tell(event("view", 2 * MINUTE, received=10, material="felt", price=2))
    rules = replace(
        policy(version=2, tags=(LOOKS, FOND), triggers=()), catalog=with_view(COLOUR, PRICE, MATERIAL)
    )
    house.tell(Publish(START + 20, rules), Tick(START + 2 * MINUTE))
    assert house.shard.tags(ANN)["fond"]["materials"] == ["felt", "oak", "silk"]


# --- what does not compile -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (
            policy(version=2, tags=(tag("a", 'in_tag("b")'),)),
            r"in_tag='b' must name a declared tag; run the policy check",
        ),
        (
            policy(version=2, tags=(tag("a", 'in_tag("b")'), tag("b", 'in_tag("a")'))),
            r"tag='a' must not depend on itself \(a -> b\); run the policy check",
        ),
        (
            policy(version=2, triggers=(replace(ON_ORDER, when=OnTag("nowhere")),)),
            r"trigger='on-order' must name a declared tag; run the policy check",
        ),
    ],
)
def test_a_policy_that_does_not_compile_changes_nothing_at_all(wrong: Policy, message: str) -> None:
    house = settled(LOOKS)
    before = house.shard.snapshot()
    told: list[Input] = [grant(BEN, at=5), Publish(START + 10, wrong), grant(BEN, at=20)]
    with pytest.raises(ShardError, match=message):
        house.shard.apply(told, START + HOUR)
    assert house.shard.snapshot() == before
    assert house.shard.policy.version == 1
    assert changes(house.tell(event("view", 30, subject=BEN), event("view", 31), at=40)) == []
    with pytest.raises(ShardError, match=message):
        Shard(wrong)
