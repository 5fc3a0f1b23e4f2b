"""Percentiles are observed values by nearest rank; medians come from interleaved rounds without the first."""

import gc
import math
import statistics
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dayfly.bench.measuring import interleaved, percentile, percentiles, quiet_heap


@given(
    st.lists(st.floats(0, 1e6, allow_nan=False), min_size=1, max_size=300),
    st.sampled_from([1.0, 50.0, 90.0, 99.0, 99.9, 100.0]),
)
def test_a_percentile_is_what_numpy_calls_the_inverted_distribution(
    values: list[float], percent: float
) -> None:
    assert percentile(sorted(values), percent) == np.percentile(values, percent, method="inverted_cdf")


@pytest.mark.parametrize(
    ("count", "percent", "rank"),
    [(1, 99.9, 1), (100, 99.0, 99), (101, 99.0, 100), (1000, 99.9, 999), (1001, 99.9, 1000), (10, 99.9, 10)],
)
def test_the_rank_is_the_smallest_that_covers_the_share(count: int, percent: float, rank: int) -> None:
    assert percentile([float(value) for value in range(1, count + 1)], percent) == rank


def test_four_percentiles_are_shown_of_values_in_any_order() -> None:
    found = percentiles([float(value) for value in reversed(range(1, 2001))])
    assert found == {"p50": 1000.0, "p99": 1980.0, "p99.9": 1998.0, "max": 2000.0}


def test_every_round_runs_every_case_and_the_first_round_does_not_count() -> None:
    now = [0]
    order: list[str] = []
    costs = {"a": iter([10**12, 1, 2, 30]), "b": iter([10**12, 5, 5, 5])}

    def case(name: str) -> Callable[[], None]:
        def run() -> None:
            order.append(name)
            now[0] += next(costs[name])

        return run

    found = interleaved({"a": case("a"), "b": case("b")}, rounds=3, clock=lambda: now[0])
    assert order == ["a", "b"] * 4
    assert found == {"a": 2e-9, "b": 5e-9}
    assert math.isclose(found["a"] * 1e9, statistics.median([1, 2, 30]))


def test_no_garbage_is_collected_within_and_the_collector_is_back_afterwards() -> None:
    with quiet_heap():
        assert not gc.isenabled()
        assert gc.get_freeze_count() > 0
    assert gc.isenabled()
    assert gc.get_freeze_count() == 0


def test_the_collector_is_back_after_an_error() -> None:
    with pytest.raises(KeyError, match="case"), quiet_heap():
        raise KeyError("case")
    assert gc.isenabled()
