"""Quantiles over channels: the tree against the normal equations, intervals that hold, a loss that counts every level, and refusals."""

import math
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dayfly.federation.analytics import Quantiles, QuantileSpec, QuantileWorkload, secure_quantiles
from dayfly.federation.analytics.quantiles import _quantile
from dayfly.federation.analytics.trees import consistent, nodes, prefix_variances, tree_of
from dayfly.federation.errors import BadMessage, Declined, InvalidData, InvalidSetting, Refused
from dayfly.federation.local import lost_reply
from dayfly.federation.secagg.messages import encode
from dayfly.privacy.noise import OpenDpNoise
from tests.federation.horizontal.runs import RUN, Paid, grid_of
from tests.federation.secagg.sessions import digest
from tests.oracles import dyadic

SHARES = (0.1, 0.5, 0.9)
SPEC = QuantileSpec("spend", 0.0, 256.0, 8, (30, 1), 3)
GENERATOR = np.random.default_rng(3)
VALUES = {f"shop-{number}": GENERATOR.gamma(2.0, 20.0 + 10 * number, 4_000) for number in range(3)}
EVERYBODY = np.concatenate(list(VALUES.values()))


def released(
    spec: QuantileSpec = SPEC,
    shares: tuple[float, ...] = SHARES,
    *,
    budget: Paid | None = None,
    confidence: float = 0.95,
    **grid: Any,
) -> Quantiles:
    workloads = {
        name: QuantileWorkload(
            name,
            {str(place): value for place, value in enumerate(values)},
            noise=OpenDpNoise(),
            run=RUN,
            budget=budget or Paid(),
        )
        for name, values in VALUES.items()
    }
    _, caller = grid_of(workloads, **grid)
    return secure_quantiles(caller, spec, shares, session=digest("session")[:16], confidence=confidence)


# --- trees -----------------------------------------------------------------------------------------------------------


@given(st.integers(0, 6), st.integers(0, 2**32 - 1))
def test_two_passes_are_the_normal_equations(depth: int, seed: int) -> None:
    noisy = np.random.default_rng(seed).normal(0, 10, nodes(depth))
    np.testing.assert_allclose(consistent(noisy), dyadic.least_squares(noisy), atol=1e-9)


@pytest.mark.parametrize("depth", [1, 3, 6])
def test_a_trees_nodes_are_sums_of_leaves(depth: int) -> None:
    leaves = GENERATOR.integers(0, 100, 1 << depth)
    np.testing.assert_array_equal(tree_of(leaves), dyadic.design(depth) @ leaves)
    np.testing.assert_allclose(consistent(tree_of(leaves).astype(float)), leaves, atol=1e-9)


@pytest.mark.parametrize("depth", [1, 4, 7])
def test_the_stated_variance_of_a_prefix_is_not_below_the_exact_one(depth: int) -> None:
    stated, exact = prefix_variances(depth), dyadic.prefix_variances(depth)
    assert (exact <= stated + 1e-9).all()
    assert stated.max() <= 5 * exact.max()


# --- quantiles -------------------------------------------------------------------------------------------------------


def test_next_to_no_noise_gives_the_quantiles_of_everybody_to_a_part_of_a_leaf() -> None:
    spec = QuantileSpec("spend", 0.0, 512.0, 9, (4, 1), 3)
    found = released(spec)
    truth = np.quantile(EVERYBODY, SHARES)
    assert np.abs([one.value for one in found.quantiles] - truth).max() < 2.0
    assert found.customers == pytest.approx(12_000, abs=60)
    assert found.included == ("shop-0", "shop-1", "shop-2")
    assert (np.diff(found.ranks) >= 0).all()


def test_intervals_hold_the_truth() -> None:
    truth = np.quantile(EVERYBODY, SHARES)
    for _ in range(5):
        found = released(confidence=0.999)
        for one, true in zip(found.quantiles, truth, strict=True):
            assert one.low <= true <= one.high
            assert one.low <= one.value <= one.high


@pytest.mark.parametrize("confidence", [0.2, 0.5, 0.9])
def test_intervals_hold_the_truth_as_often_as_they_say(confidence: float) -> None:
    """400 draws of noise on a fine tree with one customer per leaf, so that misses are seen where widths are too small."""
    depth, sigma = 8, 5.0
    exact = tree_of(np.ones(1 << depth, np.int64))
    edges = np.arange((1 << depth) + 1.0)
    spread = sigma * np.sqrt(prefix_variances(depth))
    hits = 0
    for _ in range(400):
        noisy = exact + GENERATOR.normal(0, sigma, exact.size)
        ranks = np.concatenate([[0.0], np.cumsum(consistent(noisy))])
        found = _quantile(0.3, edges, ranks, spread + 0.3 * sigma, confidence=confidence)
        hits += found.low <= 0.3 * 256 <= found.high
    assert hits >= 400 * confidence


def test_intervals_are_no_wider_than_the_noise_needs() -> None:
    found = released()
    density = len(EVERYBODY) / 100  # customers per unit of value around the median, roughly
    for one in found.quantiles[:2]:
        assert one.high - one.low < 2 + 8 * found.rank_deviation / density * 3


def test_ranks_err_as_little_as_is_stated() -> None:
    truth = np.concatenate([[0], np.cumsum(np.histogram(EVERYBODY, np.linspace(0, 256, 257))[0])])
    truth[-1] = len(EVERYBODY)  # what lies beyond the bounds counts in the last leaf
    errors = [np.abs(released().ranks - truth).max() for _ in range(5)]
    assert max(errors) < 5 * released().rank_deviation
    assert max(errors) > 0.2 * released().rank_deviation


def test_values_beyond_the_bounds_count_in_the_outermost_leaves() -> None:
    spec = QuantileSpec("spend", 20.0, 40.0, 2, (4, 1), 3)
    found = released(spec)
    assert found.customers == pytest.approx(12_000, abs=60)
    assert found.ranks[1] == pytest.approx((EVERYBODY < 25).sum(), abs=60)


def test_the_noise_of_those_who_are_left_still_reaches_the_scale() -> None:
    found = released(faults={("shop-1", 3): lost_reply})
    assert found.included == ("shop-0", "shop-2")
    assert found.customers == pytest.approx(8_000, abs=500)


def test_each_channel_pays_once_for_all_quantiles_and_every_level_counts() -> None:
    budget = Paid()
    found = released(budget=budget, shares=(0.01, 0.25, 0.5, 0.75, 0.99))
    assert budget.losses == [found.loss] * 3
    gaussian = Fraction(3**2 * 9, 2 * 30**2)
    assert gaussian * Fraction(999_999, 1_000_000) < found.loss.rho <= gaussian + Fraction(1, 10**9)


def test_one_customer_moves_the_tree_by_no_more_than_the_sensitivity() -> None:
    workload = QuantileWorkload("a", {"ann": 3.0}, noise=OpenDpNoise(), run=RUN, budget=Paid())
    counts = workload._counts(SPEC)
    assert int((counts**2).sum()) == SPEC.depth + 1
    assert SPEC.loss == SPEC.shares.loss(SPEC.channels**2 * (SPEC.depth + 1), nodes(SPEC.depth))


@pytest.mark.parametrize(
    ("changes", "cause"),
    [
        ({"low": 5.0, "high": 5.0}, "low=5.0 must be below high=5.0"),
        ({"high": math.inf}, "both finite"),
        ({"depth": 0}, "depth=0 must be 1 to 16"),
        ({"depth": 17}, "depth=17 must be 1 to 16"),
        ({"scale": (30, 0)}, "must be a fraction"),
    ],
)
def test_specs_that_contradict_themselves_are_refused_on_both_sides(changes: Any, cause: str) -> None:
    fields = {name: getattr(SPEC, name) for name in SPEC.__struct_fields__} | changes
    spec = QuantileSpec(**fields)
    shop = QuantileWorkload("shop", {"ann": 1.0}, noise=OpenDpNoise(), run=RUN, budget=Paid())
    with pytest.raises(BadMessage, match=cause):
        shop.prepare(encode(spec), threshold=2)
    with pytest.raises(InvalidSetting, match=cause):
        released(spec)


def test_channels_without_values_and_numbers_out_of_range_are_refused() -> None:
    with pytest.raises(InvalidData, match="party='shop' has no customers"):
        QuantileWorkload("shop", {}, noise=OpenDpNoise(), run=RUN, budget=Paid())
    with pytest.raises(InvalidData, match="party='shop' has values that are not finite"):
        QuantileWorkload("shop", {"ann": math.nan}, noise=OpenDpNoise(), run=RUN, budget=Paid())
    with pytest.raises(InvalidSetting, match="must lie inside 0 to 1"):
        released(shares=(0.0,))
    with pytest.raises(InvalidSetting, match="channels=4 must be the number of parties, 3"):
        released(QuantileSpec("spend", 0.0, 1.0, 3, (30, 1), 4))
    with pytest.raises(Declined, match="party='shop-0' declined 'mask': used up"):
        released(budget=Paid("used up"))
    shop = QuantileWorkload("shop", {"ann": 1.0}, noise=OpenDpNoise(), run=RUN, budget=Paid())
    with pytest.raises(Refused, match="members=2 must be at most the agreed channels"):
        shop.words(b"quantiles", members=2)


def test_a_value_on_an_edge_counts_in_the_leaf_that_begins_there() -> None:
    spec = QuantileSpec("spend", 0.0, 4.0, 2, (30, 1), 3)
    customers = {"on the edge": 1.0, "at the end": 4.0, "at the beginning": 0.0}
    workload = QuantileWorkload("a", customers, noise=OpenDpNoise(), run=RUN, budget=Paid())
    assert workload._counts(spec)[-4:].tolist() == [1, 1, 0, 1]


def test_without_noise_the_interval_is_the_leaves_on_both_sides_of_the_crossing() -> None:
    edges, ranks = np.arange(5.0), np.array([0.0, 10.0, 20.0, 30.0, 40.0])
    crossing = _quantile(0.6, edges, ranks, np.zeros(5), confidence=0.95)
    assert (crossing.low, crossing.high) == (2.0, 3.0)
    assert crossing.value == pytest.approx(2.4)
    on_an_edge = _quantile(0.5, edges, ranks, np.zeros(5), confidence=0.95)
    assert (on_an_edge.low, on_an_edge.value, on_an_edge.high) == (1.0, 2.0, 3.0)
