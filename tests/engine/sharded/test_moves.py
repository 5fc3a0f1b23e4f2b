"""Three shards decide what one shard decides, wherever persons have to move."""

import random
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import pytest

from dayfly.engine.decisions import Decisions
from dayfly.engine.errors import ShardError
from dayfly.engine.events import Event, EventBatch
from dayfly.engine.inputs import Arrive, Depart, Merge
from dayfly.engine.shard import Shard
from dayfly.engine.shard.parcels import read_parcel
from dayfly.privacy.fragments import FragmentOrder
from tests.engine.shard import house
from tests.engine.sharded.local import LocalShards
from tests.engine.workload import Mix, as_batches, pseudonym, random_inputs, random_policy

SOME = Mix(observed=0.1, merge=0.03, erase=0.006, link=0.1, consent=0.05, tie=0.0, future=0.05, duplicate=0.1)


def changes(decisions: Iterable[Decisions]) -> Counter[Any]:
    """Tag changes without their sequence numbers, which each shard counts for itself."""
    return Counter(
        (change.at_ms, change.subject, change.tag, change.change, change.reason, change.until_ms)
        for made in decisions
        for change in made.tags
    )


def orders(decisions: Iterable[Decisions]) -> Counter[Any]:
    """Orders without what is made of sequence numbers, and without those that they replace: a move recalls them."""
    return Counter(
        (made.at_ms, made.order.subject, made.order.rule.id, made.order.fields, made.order.expires_at_ms)
        for decision in decisions
        for made in decision.orders
    )


def counted(decisions: Iterable[Decisions], name: str) -> int:
    return sum(made.counts.get(name, 0) for made in decisions)


def live(seed: int, *, events: int, people: int, tags: int, shards: int = 3, edits: int = 2) -> int:
    rng = random.Random(seed)
    policy = random_policy(rng, tags)
    inputs = random_inputs(rng, policy, events=events, people=people, edits=edits, mix=SOME)
    one, several = Shard(policy), LocalShards(policy, shards)
    for part, now_ms in as_batches(inputs, random.Random(seed + 1)):
        expected = one.apply(part, now_ms)
        several.apply(part, now_ms)
        found = several.decisions()
        assert changes(found) == changes([expected])
        assert orders(found) == orders([expected])
        for name in ("accepted", "too_late", "too_far_ahead", "not_collected", "undeclared"):
            assert counted(found, name) == counted([expected], name), name
        if rng.random() < 0.05:
            several.restart()
    for person in range(people):
        subject = pseudonym(person)
        assert several.shard_of(subject).tags(subject) == one.tags(subject)
        assert several.shard_of(subject).consents_of(subject) == one.consents_of(subject)
    return several.router.moves


@pytest.mark.parametrize("seed", range(6))
def test_every_change_is_that_of_one_shard(seed: int) -> None:
    assert live(seed, events=300, people=40, tags=30) > 0


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(100, 130))
def test_every_change_of_a_longer_life_is_that_of_one_shard(seed: int) -> None:
    live(seed, events=800, people=10 + seed % 50, tags=30 + seed % 20, shards=2 + seed % 4, edits=seed % 5)


# --- one move -------------------------------------------------------------------------------------------------------------


def far_apart(shards: LocalShards) -> tuple[bytes, bytes]:
    """Two pseudonyms whose homes differ."""
    home = shards.router.routes.home
    first = pseudonym(0)
    return first, next(name for name in map(pseudonym, range(1, 100)) if home(name) != home(first))


def told(shards: LocalShards, *events: Event) -> list[Decisions]:
    shards.apply([EventBatch.from_events(events, house.CATALOG)], events[-1].received_ms)
    return shards.decisions()


def test_an_event_seen_before_the_move_is_a_duplicate_after_it() -> None:
    shards = LocalShards(house.policy(), 2)
    ann, ben = far_apart(shards)
    view = house.event("view", 0, ben)
    assert counted(told(shards, view), "accepted") == 1
    shards.apply([Merge(house.START + 1, ann, ben)], house.START + 1)
    again = replace(view, received_ms=house.START + 2)
    assert counted(told(shards, again), "accepted") == 0
    shards.restart()
    assert counted(told(shards, again), "accepted") == 0


def test_a_link_that_waits_for_its_time_finds_both() -> None:
    one, shards = Shard(house.policy()), LocalShards(house.policy(), 2)
    ann, ben = far_apart(shards)
    home = shards.router.routes.home
    cat = next(name for name in map(pseudonym, range(1, 100)) if name != ben and home(name) == home(ben))
    ahead = house.event("view", house.MINUTE, ann, received=0, link=ben)
    carries_off = house.event("view", 1, cat, link=ben)
    for item in (house.event("view", -1, ben), ahead, carries_off):
        told(shards, item)
        one.apply([EventBatch.from_events([item], house.CATALOG)], item.received_ms)
    shards.apply([], house.START + house.HOUR)
    one.apply([], house.START + house.HOUR)
    names = {name for name in (ann, ben, cat) if set(one.names_of(name)) == set(one.names_of(ann))}
    assert names == {ann, ben, cat}
    assert set(shards.shard_of(ann).names_of(ann)) == names
    assert len({shards.router.routes.home(name) for name in names}) == 1


def test_a_crash_between_departure_and_arrival_loses_nobody() -> None:
    shards = LocalShards(house.policy(), 2)
    ann, ben = far_apart(shards)
    told(shards, house.event("view", 0, ben))
    source, to = shards.router.routes.home(ben), shards.router.routes.home(ann)
    shards.ports[source].depart(Depart(house.START, (ben,), source, to))
    shards.restart()
    assert shards.router.heal(house.START) == 1
    assert shards.router.routes.home(ben) == to
    assert not shards.ports[source].outbox()
    assert len(shards.shard_of(ben).names_of(ben)) == 1
    assert shards.shard_of(ben).arrays.core.people[0, 3] == 1


def test_a_parcel_that_comes_twice_changes_nothing() -> None:
    shards = LocalShards(house.policy(), 2)
    ann, ben = far_apart(shards)
    told(shards, house.event("view", 0, ben))
    source, to = shards.router.routes.home(ben), shards.router.routes.home(ann)
    parcel = shards.ports[source].depart(Depart(house.START, (ben,), source, to))
    shards.ports[to].arrive(Arrive(house.START, parcel))
    before = shards.ports[to].shard.snapshot()
    shards.restart()
    shards.router.heal(house.START)
    assert shards.ports[to].shard.snapshot() == before


def test_live_orders_are_recalled_by_a_move() -> None:
    shards = LocalShards(house.policy(), 2)
    ann, ben = far_apart(shards)
    shards.apply([house.grant(ben)], house.START)
    made = told(shards, house.event("order", 1, ben, order_id="o", status="paid", total=1))
    (order,) = (made.order for decision in made for made in decision.orders)
    shards.apply([Merge(house.START + 2, ann, ben)], house.START + 2)
    (recall,) = (recall for decision in shards.decisions() for recall in decision.recalls)
    assert (recall.reason, recall.order_ids) == ("merged", (order.order_id,))


def test_a_parcel_of_another_policy_is_refused() -> None:
    shards = LocalShards(house.policy(), 2)
    _, ben = far_apart(shards)
    source = shards.router.routes.home(ben)
    parcel = shards.ports[source].depart(Depart(house.START, (ben,), source, 1 - source))
    other = Shard(house.policy(version=2))
    with pytest.raises(ShardError, match="must be the one in force"):
        other.apply([Arrive(house.START, parcel)], house.START)


def test_somebody_known_already_is_refused() -> None:
    shards = LocalShards(house.policy(), 2)
    _, ben = far_apart(shards)
    told(shards, house.event("view", 0, ben))
    source = shards.router.routes.home(ben)
    parcel = shards.ports[source].depart(Depart(house.START, (ben,), source, 1 - source))
    told(shards, house.event("view", 0, ben))
    with pytest.raises(ShardError, match="must be unknown here"):
        shards.ports[source].arrive(Arrive(house.START, parcel))


def test_bytes_that_are_no_parcel_are_refused() -> None:
    with pytest.raises(ShardError, match="must be readable"):
        read_parcel(b"\xc1")


def test_an_event_that_waits_moves_along() -> None:
    shards = LocalShards(house.policy(), 2)
    ann, ben = far_apart(shards)
    told(shards, house.event("view", house.MINUTE, ben, received=0))
    shards.apply([Merge(house.START + 1, ann, ben)], house.START + 1)
    assert counted(shards.decisions(), "accepted") == 0
    shards.restart()
    shards.apply([], house.START + house.HOUR)
    assert counted(shards.decisions(), "accepted") == 1
    assert len(shards.shard_of(ann).waiting) == 0


def test_a_cooldown_moves_along_and_versions_go_on_rising() -> None:
    shards = LocalShards(house.with_trigger(cooldown_seconds=3_600), 2)
    ann, ben = far_apart(shards)
    shards.apply([house.grant(ben), house.grant(ann)], house.START)
    bought = [house.event("order", number, ben, order_id="o", status="paid", total=1) for number in range(20)]
    (first,) = orders_of(told(shards, *bought))
    rises = shards.shard_of(ben).arrays.core.control[1]
    shards.apply([Merge(house.START + 21, ann, ben)], house.START + 21)
    again = house.event("order", 22, ben, order_id="o", status="paid", total=1)
    assert not orders_of(told(shards, again))
    later = house.event("order", 22 + house.HOUR, ben, order_id="o", status="paid", total=1)
    (second,) = orders_of(told(shards, later))
    assert second.version > rises >= first.version + 19, "each firing counts, also within the cooldown"


def orders_of(decisions: Iterable[Decisions]) -> list[FragmentOrder]:
    return [made.order for decision in decisions for made in decision.orders]


def test_nobody_arrives_before_the_departure() -> None:
    shards = LocalShards(house.policy(), 2)
    ann, ben = far_apart(shards)
    told(shards, house.event("view", 0, ben))
    shards._home(ben).tell([], house.START + house.MINUTE)
    shards.router.bring_together([(ann, ben)], house.START + 1)
    assert shards.shard_of(ann).clock_ms == house.START + house.MINUTE
