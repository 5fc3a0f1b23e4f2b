"""Counting consents in strides against asking the full decision about everybody."""

import random
from collections import Counter

import pytest

from dayfly.engine.health.consents import ConsentWalk
from dayfly.engine.health.meter import DAY_MS
from dayfly.engine.health.model import ConsentHealth
from dayfly.engine.inputs import ConsentGiven, ConsentWithdrawn, Erase, Input, Merge, Publish
from dayfly.engine.shard import Shard
from dayfly.privacy.consent import ConsentRecord, UseBudget, decide
from tests.engine.runtime.world import T0, changed, consent_record, furniture

PURPOSES = ("service", "marketing", "service.installation", "marketing.loyalty", "elsewhere")


def person(number: int) -> bytes:
    return number.to_bytes(16, "big")


def give(shard: Shard, number: int, at_ms: int = T0, **changes: object) -> ConsentRecord:
    record = consent_record(person(number), at_ms, **changes)
    shard.apply([ConsentGiven(at_ms, person(number), record)], at_ms)
    return record


def walked(shard: Shard, now_ms: int, stride: int = 256) -> ConsentHealth:
    """A full count."""
    walk = ConsentWalk(shard, stride=stride)
    while not walk.step(now_ms):
        pass
    return walk.health(now_ms)


def some_people(draw: random.Random, number: int) -> tuple[Shard, int]:
    """A shard with people of every kind, and its instant."""
    shard, now_ms = Shard(furniture()), T0
    inputs: list[Input] = []
    for one in range(1, number + 1):
        now_ms += 1
        for version in range(draw.randrange(3)):
            record = consent_record(
                person(one),
                now_ms,
                record_id=f"c-{version}",
                purposes=tuple(draw.sample(PURPOSES, draw.randrange(1, 3))),
                valid_until_ms=now_ms + draw.randrange(1, 20 * DAY_MS),
                use=UseBudget(max_uses=draw.choice([None, 1, 5])),
            )
            inputs.append(ConsentGiven(now_ms, person(one), record))
        if draw.random() < 0.2:
            inputs.append(ConsentWithdrawn(now_ms, person(one), draw.choice(PURPOSES)))
        if draw.random() < 0.1:
            inputs.append(Merge(now_ms, person(one), person(max(1, one - 1))))
        if draw.random() < 0.1:
            inputs.append(Erase(now_ms, person(draw.randrange(1, one + 1))))
    now_ms += 2 * DAY_MS
    shard.apply(inputs, now_ms)
    return shard, now_ms


@pytest.mark.parametrize("seed", range(4))
def test_coverage_is_what_the_full_decision_says_of_everybody(seed: int) -> None:
    shard, now_ms = some_people(random.Random(seed), 60)
    known = {frozenset(shard.names_of(person(one))): person(one) for one in range(1, 61)}
    expected: Counter[str] = Counter()
    anything = 0
    requests = shard.arrays.compiled.requirements
    for subject in known.values():
        allowed = {
            request.purpose
            for request in requests
            if decide(request, shard.consents_of(subject), now_ms).allowed
        }
        expected.update(allowed)
        anything += bool(allowed)
    found = walked(shard, now_ms)
    assert found.coverage == {purpose: expected[purpose] for purpose in sorted({r.purpose for r in requests})}
    assert found.any_purpose == anything
    assert found.looked_at == found.people


@pytest.mark.parametrize("stride", [1, 7, 59, 60, 61, 1_000])
def test_small_strides_count_as_large_ones(stride: int) -> None:
    shard, now_ms = some_people(random.Random(11), 60)
    assert walked(shard, now_ms, stride) == walked(shard, now_ms)


def test_merged_and_erased_people_are_not_counted() -> None:
    shard = Shard(furniture())
    for number in range(1, 5):
        give(shard, number)
    assert walked(shard, T0).people == 4
    shard.apply([Merge(T0, person(1), person(2)), Erase(T0, person(4))], T0)
    found = walked(shard, T0)
    assert (found.people, found.any_purpose) == (2, 2)


def test_people_met_since_the_count_are_known_and_not_looked_at() -> None:
    shard = Shard(furniture())
    for number in range(1, 5):
        give(shard, number)
    shard.apply([Erase(T0, person(4))], T0)
    walk = ConsentWalk(shard, stride=2)
    assert [walk.step(T0), walk.step(T0)] == [False, True]
    give(shard, 7)
    found = walk.health(T0)
    assert (found.people, found.looked_at) == (4, 3)


@pytest.mark.parametrize(
    ("left_ms", "day", "week"),
    [(DAY_MS, 1, 1), (DAY_MS + 1, 0, 1), (7 * DAY_MS, 0, 1), (7 * DAY_MS + 1, 0, 0), (1, 1, 1)],
)
def test_a_consent_ends_within_a_day_or_a_week(left_ms: int, day: int, week: int) -> None:
    shard = Shard(furniture())
    give(shard, 1, valid_until_ms=T0 + left_ms)
    found = walked(shard, T0)
    assert (found.given, found.end_24h, found.end_7d) == (1, day, week)
    ended = walked(shard, T0 + left_ms)
    assert (ended.given, ended.end_24h, ended.end_7d) == (0, 0, 0)


def test_a_consent_that_has_not_begun_is_not_in_force() -> None:
    shard = Shard(furniture())
    give(shard, 1, valid_from_ms=T0 + 1)
    assert walked(shard, T0).given == 0
    assert walked(shard, T0 + 1).given == 1


def test_a_withdrawn_consent_allows_nothing() -> None:
    shard = Shard(furniture())
    give(shard, 1)
    shard.apply([ConsentWithdrawn(T0 + 1, person(1), "*", "*")], T0 + 1)
    assert walked(shard, T0 + 1).any_purpose == 0


def test_uses_left_are_what_was_granted_without_what_was_spent() -> None:
    shard = Shard(furniture())
    give(shard, 1, use=UseBudget(max_uses=5), purposes=("service",))
    give(shard, 2, use=UseBudget(max_uses=2), purposes=("service", "surprise"))
    give(shard, 3)
    state = shard.consents_of(person(1))
    shard.consents.change(0, state.with_use("c-1", 3, "order-1"))
    found = walked(shard, T0).uses
    assert {purpose: (budget.left, budget.total) for purpose, budget in found.items()} == {
        "service": (4, 7),
        "other": (2, 2),
    }


def test_a_new_policy_begins_the_count_again() -> None:
    shard = Shard(furniture())
    for number in range(1, 9):
        give(shard, number)
    walk = ConsentWalk(shard, stride=3)
    assert not walk.step(T0)
    policy = changed("trigger", lambda document: document.update(purpose="marketing.loyalty"), version=2)
    shard.apply([Publish(T0 + 1, policy)], T0 + 1)
    assert [walk.step(T0 + 1) for _ in range(3)] == [False, False, True]
    assert walk.health(T0 + 2).looked_at == 8
    assert walk.health(T0 + 2).at_ms == T0 + 1


def test_before_the_first_full_count_the_part_that_is_there_is_shown() -> None:
    shard = Shard(furniture())
    for number in range(1, 9):
        give(shard, number)
    walk = ConsentWalk(shard, stride=3)
    walk.step(T0)
    found = walk.health(T0)
    assert (found.people, found.looked_at) == (8, 3)


def test_a_small_shop_is_counted_at_once() -> None:
    shard = Shard(furniture())
    give(shard, 1)
    walk = ConsentWalk(shard)
    assert walk.health(T0).given == 1
    give(shard, 2)
    assert walk.health(T0).given == 2
