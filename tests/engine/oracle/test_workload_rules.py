"""The workload's policies are ones that the checker would let through: a test of the engine with illegal tags means nothing."""

import random

import pytest

from dayfly.engine.tags.check import check_tag
from tests.engine.workload import edited, random_policy


@pytest.mark.parametrize("seed", range(4))
def test_every_tag_may_be_published_also_after_edits(seed: int) -> None:
    rng = random.Random(seed)
    policy = random_policy(rng, 120)
    for _ in range(4):
        known = {tag.name: tag for tag in policy.tags}
        for tag in policy.tags:
            check_tag(tag, policy.catalog, known, policy.settings)
        policy = edited(rng, policy)
