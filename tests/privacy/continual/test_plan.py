"""What a plan promises: sensitivity over all neighbours, cost, and errors against dense matrices."""

from collections.abc import Sequence
from fractions import Fraction
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dayfly.privacy.accounting import ZcdpLoss, cost_of
from dayfly.privacy.continual import Blt, Participation, RunningTotals, SquareRoot, StreamPlan, blt
from dayfly.privacy.continual.participation import l2_squared
from dayfly.privacy.errors import InvalidArgument

from ...oracles.dp_continual import binary_tree_error, patterns, running_matrix, toeplitz
from .noises import Script

HALF = Fraction(1, 2)


def moved(plan: StreamPlan, first: np.ndarray, second: np.ndarray, published: Sequence[np.ndarray]) -> int:
    """Squared distance of the centres of two data sets under the same published past."""
    scripts = []
    for increments in (first, second):
        script = Script(published)
        stream = RunningTotals(plan, Fraction(1))
        for step, added in enumerate(increments):
            stream.publish(step, np.asarray(added, np.int64), script)
        scripts.append(np.array(script.centres, dtype=object))
    return int(np.sum((scripts[0] - scripts[1]) ** 2))


@pytest.mark.parametrize("factor", [blt(24), blt(24, buffers=1), SquareRoot()], ids=["blt4", "blt1", "root"])
@pytest.mark.parametrize(("steps", "separation"), [(1, 1), (2, 1), (2, 2), (3, 2), (5, 1)])
def test_no_neighbour_of_a_tiny_stream_moves_the_centres_further_than_stated(
    factor: Blt | SquareRoot, steps: int, separation: int
) -> None:
    length, generator = 5, np.random.default_rng(2)
    plan = StreamPlan(
        1, length, factor, Participation(steps=steps, min_separation=separation), resolution_bits=8
    )
    published = [generator.integers(-(2**12), 2**12, 1) for _ in range(length)]
    base = generator.integers(0, 5, (length, 1))
    worst = 0
    for pattern in patterns(length, steps, separation):
        for signs in product((-1, 1), repeat=len(pattern)):
            other = base.copy()
            other[list(pattern), 0] += np.array(signs, np.int64)
            worst = max(worst, moved(plan, base, other, published))
    assert plan.l2_squared * 0.97 <= worst <= plan.l2_squared


def test_restarts_keep_every_neighbour_within_the_stated_distance() -> None:
    generator = np.random.default_rng(3)
    plan = StreamPlan(1, 3, blt(24), Participation(steps=3, min_separation=2), blocks=2, resolution_bits=8)
    published = [generator.integers(-(2**12), 2**12, 1) for _ in range(6)]
    base = generator.integers(0, 5, (6, 1))
    worst = 0
    for pattern in patterns(6, 3, 2):
        other = base.copy()
        other[list(pattern), 0] += 1
        worst = max(worst, moved(plan, base, other, published))
    assert plan.l2_squared * 0.75 <= worst <= plan.l2_squared


def test_a_customer_in_several_series_moves_them_all_and_no_further_than_stated() -> None:
    generator = np.random.default_rng(4)
    plan = StreamPlan(3, 4, blt(24), Participation(magnitude=3, steps=2, series=2), resolution_bits=8)
    published = [generator.integers(-(2**12), 2**12, 3) for _ in range(4)]
    base = generator.integers(0, 5, (4, 3))
    worst = 0
    for pattern in patterns(4, 2, 1):
        for chosen in product(((0, 1), (0, 2), (1, 2)), repeat=len(pattern)):
            other = base.copy()
            for step, series in zip(pattern, chosen, strict=True):
                other[step, list(series)] += 3
            worst = max(worst, moved(plan, base, other, published))
    assert plan.l2_squared * 0.97 <= worst <= plan.l2_squared


@given(
    data=st.data(),
    steps=st.integers(1, 4),
    separation=st.integers(1, 9),
    magnitude=st.sampled_from([1, 7, 300]),
    blocks=st.sampled_from([1, 2]),
)
def test_random_neighbours_of_longer_streams_stay_within_the_stated_distance(
    data: st.DataObject, steps: int, separation: int, magnitude: int, blocks: int
) -> None:
    length = 24
    part = Participation(magnitude=magnitude, steps=steps, min_separation=separation)
    plan = StreamPlan(1, length, blt(length), part, blocks=blocks, resolution_bits=8)
    seed = data.draw(st.integers(0, 2**32 - 1))
    generator = np.random.default_rng(seed)
    wide = data.draw(st.sampled_from([2**10, 2**40, 2**62]))
    published = [generator.integers(-wide, wide, 1) for _ in range(length * blocks)]
    base = generator.integers(-(2**50), 2**50, (length * blocks, 1))
    other, step = base.copy(), data.draw(st.integers(0, separation))
    for _ in range(steps):
        if step < length * blocks:
            other[step, 0] += data.draw(st.integers(-magnitude, magnitude))
        step += separation + data.draw(st.integers(0, 3))
    assert moved(plan, base, other, published) <= plan.l2_squared


@given(
    reach=st.lists(st.integers(1, 50), min_size=1, max_size=9).map(lambda found: sorted(found, reverse=True)),
    steps=st.integers(1, 10),
    separation=st.integers(1, 10),
)
def test_the_earliest_steps_are_the_worst_by_exhaustion(
    reach: list[int], steps: int, separation: int
) -> None:
    worst = 0
    for pattern in patterns(len(reach), steps, separation):
        total = [0] * len(reach)
        for start in pattern:
            for k in range(start, len(reach)):
                total[k] += reach[k - start]
        worst = max(worst, sum(value * value for value in total))
    part = Participation(steps=steps, min_separation=separation)
    assert l2_squared(reach, part, blocks=1) == worst


@given(
    reach=st.lists(st.integers(1, 50), min_size=1, max_size=4).map(lambda found: sorted(found, reverse=True)),
    steps=st.integers(1, 6),
    separation=st.integers(1, 5),
)
def test_over_blocks_no_pattern_is_worse_than_stated(reach: list[int], steps: int, separation: int) -> None:
    length, worst = len(reach), 0
    for pattern in patterns(2 * length, steps, separation):
        total = [0] * (2 * length)
        for start in pattern:
            for k in range(start, (start // length + 1) * length):
                total[k] += reach[k - start]
        worst = max(worst, sum(value * value for value in total))
    part = Participation(steps=steps, min_separation=separation)
    assert worst <= l2_squared(reach, part, blocks=2) <= l2_squared(reach, part, blocks=None)


@pytest.mark.parametrize("blocks", [1, 2, None])
def test_three_series_per_step_cost_three_times_one(blocks: int | None) -> None:
    one, three = (Participation(steps=2, series=series) for series in (1, 3))
    assert l2_squared([5, 3, 1], three, blocks=blocks) == 3 * l2_squared([5, 3, 1], one, blocks=blocks)


def test_one_participation_costs_the_same_with_restarts_as_without() -> None:
    assert StreamPlan.restarts(1, 24).l2_squared == StreamPlan.running(1, 24).l2_squared


def test_a_year_of_hourly_totals_has_an_error_below_the_bar_and_a_third_of_the_tree() -> None:
    plan = StreamPlan.running(1_200, 8_760)
    assert 3.9604 <= plan.error_factor <= 3.9606
    assert binary_tree_error(8_760) == pytest.approx(13.49, abs=0.005)
    assert binary_tree_error(8_760) / plan.error_factor > 3.4
    assert plan.rounding_error < 1e-4


@pytest.mark.parametrize("rho", [HALF, Fraction(1, 100), Fraction(7, 3), 2])
def test_the_scale_costs_what_was_asked_and_hardly_less(rho: Fraction | int) -> None:
    plan = StreamPlan.running(10, 365, participation=Participation(steps=3, min_separation=7, series=2))
    loss = plan.loss(plan.scale(rho))
    assert isinstance(loss, ZcdpLoss)
    assert rho * (1 - Fraction(1, 10**9)) <= loss.rho <= rho
    assert cost_of(loss).rho >= loss.rho


def test_errors_are_those_of_dense_matrices() -> None:
    plan = StreamPlan.running(1, 52)
    factor = toeplitz(plan.factor.columns(52))
    rows = np.linalg.solve(factor.T, running_matrix(52).T).T
    unit = float(plan.scale(HALF)) / 2**plan.shifts.fraction
    assert plan.standard_errors(plan.scale(HALF)) == pytest.approx(np.linalg.norm(rows, axis=1) * unit)
    assert plan.error_factor == pytest.approx(
        np.linalg.norm(rows, axis=1).max() * np.linalg.norm(factor, axis=0).max(), rel=1e-4
    )


@pytest.mark.parametrize(("length", "window"), [(12, 12), (12, 5), (12, 1)])
def test_window_errors_are_those_of_dense_matrices(length: int, window: int) -> None:
    plan = StreamPlan.restarts(1, length)
    factor = toeplitz(plan.factor.columns(length))
    rows = np.zeros((2 * length, 2 * length))
    block = np.linalg.solve(factor.T, running_matrix(length).T).T
    rows[:length, :length] = rows[length:, length:] = block
    unit = float(plan.scale(HALF)) / 2**plan.shifts.fraction
    expected = []
    for t in range(length, 2 * length):
        row = rows[t].copy()
        if t - window >= length:
            row -= rows[t - window]
        elif t - window < length - 1:
            row += rows[length - 1] - rows[t - window]
        expected.append(np.linalg.norm(row) * unit)
    assert plan.window_errors(plan.scale(HALF), window) == pytest.approx(np.array(expected))


def test_the_window_errors_that_the_docs_state() -> None:
    hourly = StreamPlan.running(1, 8_760)
    scale = hourly.scale(HALF)
    for window, endless, in_a_year in ((24, 3.12, 3.63), (168, 4.21, 4.24)):
        plan = StreamPlan.restarts(1, window)
        assert plan.window_errors(plan.scale(HALF), window).max() == pytest.approx(endless, abs=0.01)
        assert hourly.window_errors(scale, window).max() == pytest.approx(in_a_year, abs=0.01)


def test_a_window_longer_than_a_block_is_refused() -> None:
    plan = StreamPlan.restarts(1, 24)
    assert len(plan.window_errors(plan.scale(HALF), 24)) == 24
    with pytest.raises(InvalidArgument, match="window=25 must lie in"):
        plan.window_errors(plan.scale(HALF), 25)


@pytest.mark.parametrize("rho", [0, -1, Fraction(-1, 2), 0.5, float("nan"), True])
def test_a_budget_that_is_not_exact_and_above_zero_is_refused(rho: object) -> None:
    with pytest.raises(InvalidArgument, match=r"rho=.* must be"):
        StreamPlan.running(1, 24).scale(rho)  # type: ignore[arg-type]


def test_noise_that_the_lattice_cannot_hold_is_refused_with_the_way_out() -> None:
    plan = StreamPlan.running(1, 24)
    assert plan.scale(Fraction(1, 10**6))
    with pytest.raises(InvalidArgument, match="lower resolution_bits=20, tighten"):
        plan.scale(Fraction(1, 10**10))
    assert StreamPlan(1, 24, blt(24), resolution_bits=16).scale(Fraction(1, 10**10))


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: StreamPlan.running(0, 24), "series=0 must be > 0"),
        (lambda: StreamPlan.running(1, 0), "length=0 must be > 0"),
        (lambda: StreamPlan.running(1, 200_000), "length=200000 must be <= 131072"),
        (lambda: StreamPlan(1, 2**20 + 1, blt(24)), "length=1048577 must lie in"),
        (lambda: StreamPlan.restarts(1, 24, blocks=0), "blocks=0 must be > 0"),
        (lambda: StreamPlan(1, 24, blt(24), resolution_bits=7), "resolution_bits=7 must lie in"),
        (lambda: StreamPlan(1, 24, blt(24), resolution_bits=33), "resolution_bits=33 must lie in"),
        (lambda: StreamPlan(1, 16_385, SquareRoot()), "length=16385 must lie in"),
        (lambda: Participation(steps=0), "steps=0 must lie in"),
        (lambda: Participation(min_separation=0), "min_separation=0 must lie in"),
        (lambda: Participation(series=0), "series=0 must lie in"),
        (lambda: Participation(magnitude=0), "magnitude=0 must lie in"),
        (lambda: Participation(magnitude=2**40 + 1), "magnitude=1099511627777 must lie in"),
    ],
)
def test_numbers_out_of_range_are_refused(build: object, message: str) -> None:
    assert callable(build)
    with pytest.raises(InvalidArgument, match=message):
        build()


def test_large_contributions_use_the_units_themselves_as_lattice() -> None:
    plan = StreamPlan.running(1, 24, participation=Participation(magnitude=1 << 30))
    assert plan.shifts.fraction == 0
    assert plan.largest_total == 1 << 62
    assert StreamPlan.running(1, 24).shifts.fraction == 20
    assert StreamPlan.running(1, 24).largest_increment == 1 << 40
