"""Three shards decide what one shard decides, wherever persons have to move."""

import random
from collections import Counter
from collections.abc import Iterable
from typing import Any

import pytest

from dayfly.engine.decisions import Decisions
from dayfly.engine.shard import Shard
from tests.engine.sharded.local import LocalShards
from tests.engine.workload import Mix, as_batches, pseudonym, random_inputs, random_policy

SOME = Mix(observed=0.1, merge=0.02, erase=0.006, link=0.03, consent=0.05, tie=0.0, future=0.03, duplicate=0.05)


def changes(decisions: Iterable[Decisions]) -> Counter[Any]:
    """Tag changes without their sequence numbers, which each shard counts for itself."""
    return Counter(
        (change.at_ms, change.subject, change.tag, change.change, change.reason, change.until_ms)
        for made in decisions
        for change in made.tags
    )


def counted(decisions: Iterable[Decisions]) -> Counter[str]:
    found: Counter[str] = Counter()
    for made in decisions:
        found.update(made.counts)
    return found


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
        assert counted(found)["accepted"] == expected.counts.get("accepted", 0)
        if rng.random() < 0.05:
            several.restart()
    for person in range(people):
        subject = pseudonym(person)
        assert several.shard_of(subject).tags(subject) == one.tags(subject)
    return several.router.moves


@pytest.mark.parametrize("seed", range(6))
def test_every_change_is_that_of_one_shard(seed: int) -> None:
    live(seed, events=300, people=20, tags=30)
