"""The bench's window kernel counts what a recount counts, so that its speed is the speed of the right answer."""

from collections import defaultdict

import numpy as np

from dayfly.bench.kernels_bench import update_windows
from dayfly.bench.windows_case import counting_policy
from dayfly.engine.shard.kernels_lines import Lines
from dayfly.engine.shard.state import aligned_rows
from dayfly.engine.tags.tree import And, Comparison


def _passed(events: list[tuple[int, int, int]], rules: list[tuple[int, int]]) -> int:
    """How often the count of a (customer, feature) within a window just became k + 1, by recounting at each event."""
    times: dict[tuple[int, int], list[int]] = defaultdict(list)
    found = 0
    for customer, feature, time in events:
        mine = times[customer, feature]
        before = list(mine)
        mine.append(time)
        for within, most in rules:
            now = sum(1 for at in mine if at > time - within)
            earlier = sum(1 for at in before if at > time - within)
            found += earlier == most and now == most + 1
    return found


def test_bare_updates_pass_thresholds_when_a_recount_says_so() -> None:
    draw = np.random.default_rng(5)
    customers, features = draw.integers(0, 20, 3_000), draw.integers(0, 3, 3_000).astype(np.int32)
    times = np.cumsum(draw.integers(0, 40, 3_000)) + 1
    rules = [(1_500, 2), (9_000, 4)]
    table = aligned_rows(1 << 10)
    lines = Lines(
        table,
        table.reshape(-1),
        np.zeros(1 << 16, np.int64),
        np.full(64, -1, np.int64),
        np.zeros(4, np.int64),
    )
    found = update_windows(lines, customers, features, times, np.array(rules, np.int64))
    expected = _passed(list(zip(customers.tolist(), features.tolist(), times.tolist(), strict=True)), rules)
    assert found == expected > 100
    assert lines.meta[0] == 60


def test_the_counting_policy_has_as_many_tags_as_asked_and_only_counts() -> None:
    for tags in (50, 500):
        policy = counting_policy(tags)
        assert len(policy.tags) == tags
        for tag in policy.tags:
            parts = tag.when.parts if isinstance(tag.when, And) else (tag.when,)
            assert all(isinstance(part, Comparison) and part.measure.function == "count" for part in parts)
