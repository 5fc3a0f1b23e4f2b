"""Streams against whole-number arithmetic without bounds, statistics, and their own past."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dayfly.privacy.continual import Blt, Participation, RunningTotals, SquareRoot, StreamPlan, blt
from dayfly.privacy.errors import InvalidArgument, StreamEnded, StreamInterrupted, StreamOrder
from dayfly.privacy.noise import OpenDpNoise

from ...oracles.dp_continual import ExactStream
from .noises import NoNoise, Refusing, Script, SeededNoise

HALF = Fraction(1, 2)
INT64 = st.integers(-(2**63), 2**63 - 1)
MILD = st.integers(-(2**40), 2**40)


def exact(plan: StreamPlan) -> ExactStream:
    if isinstance(plan.factor, Blt):
        return ExactStream(
            fraction_bits=plan.shifts.fraction,
            guard_bits=plan.shifts.guard,
            decays=plan.factor.decays,
            scales=plan.factor.scales,
        )
    column = [int(value) for value in plan.factor.coefficients(plan.length)]
    return ExactStream(fraction_bits=plan.shifts.fraction, guard_bits=0, column=column)


plans = st.sampled_from(
    [
        StreamPlan.running(2, 24),
        StreamPlan.running(2, 24, participation=Participation(magnitude=5_000)),
        StreamPlan(2, 24, blt(24, buffers=1)),
        StreamPlan(2, 8_760, blt(8_760, buffers=3), resolution_bits=8),
        StreamPlan.running(2, 131_072, participation=Participation(magnitude=1 << 40)),
        StreamPlan(2, 24, SquareRoot()),
        StreamPlan(2, 24, SquareRoot(), Participation(magnitude=1 << 30)),
    ]
)


@given(plan=plans, steps=st.lists(st.tuples(INT64 | MILD, INT64 | MILD), min_size=1, max_size=24))
def test_centres_and_totals_are_those_of_unbounded_integers_bit_for_bit(
    plan: StreamPlan, steps: list[tuple[int, int]]
) -> None:
    script = Script(np.array([noisy, -noisy // 2]) for _, noisy in steps)
    stream = RunningTotals(plan, Fraction(7))
    oracles = (exact(plan), exact(plan))
    for step, (increment, noisy) in enumerate(steps):
        increments = np.array([increment, increment // 3])
        published = stream.publish(step, increments, script)
        for series, oracle in enumerate(oracles):
            assert script.centres[step][series] == oracle.centre(int(increments[series]))
            oracle.absorb(int(increments[series]), (noisy, -noisy // 2)[series])
            assert published.lattice[series] == oracle.total


@pytest.mark.parametrize("factor", [blt(24), SquareRoot()], ids=["blt", "root"])
def test_without_noise_the_totals_are_exact(factor: Blt | SquareRoot) -> None:
    increments = np.random.default_rng(1).integers(-50, 1_000, (24, 5))
    stream = RunningTotals(StreamPlan(5, 24, factor), Fraction(1))
    for step in range(24):
        published = stream.publish(step, increments[step], NoNoise())
        assert published.values.tolist() == increments[: step + 1].sum(axis=0).tolist()


def test_restarting_totals_begin_each_block_from_zero_with_fresh_noise() -> None:
    plan = StreamPlan.restarts(1, 5)
    stream, alone = (
        RunningTotals(plan, plan.scale(HALF)),
        RunningTotals(StreamPlan.running(1, 5), plan.scale(HALF)),
    )
    noise = SeededNoise(3)
    for step in range(10):
        stream.publish(step, np.array([step]), noise)
    replay = SeededNoise(3)
    for _ in range(5):
        replay.gaussian(np.zeros(1, np.int64), plan.scale(HALF))
    for step in range(5):
        again = alone.publish(step, np.array([step + 5]), replay)
    assert again.lattice.tolist() == stream.last().lattice.tolist()


def _errors(series: int, noise: OpenDpNoise | SeededNoise) -> tuple[np.ndarray, np.ndarray]:
    plan = StreamPlan.running(series, 24)
    scale = plan.scale(HALF)
    stream = RunningTotals(plan, scale)
    increments = np.ones(series, np.int64)
    found = [stream.publish(step, increments, noise).values - (step + 1) for step in range(24)]
    return np.array(found), plan.standard_errors(scale)


def test_the_noise_has_the_stated_standard_error_at_each_step() -> None:
    errors, stated = _errors(4_000, SeededNoise(11))
    assert errors.std(axis=1) / stated == pytest.approx(np.ones(24), abs=0.06)
    assert np.abs(errors.mean(axis=1)) == pytest.approx(np.zeros(24), abs=0.15)


def test_with_opendp_noise_the_errors_are_the_stated_ones_too() -> None:
    errors, stated = _errors(1_500, OpenDpNoise())
    assert errors.std(axis=1) / stated == pytest.approx(np.ones(24), abs=0.12)


@pytest.mark.slow
def test_with_opendp_noise_the_errors_are_the_stated_ones_closely() -> None:
    errors, stated = _errors(8_000, OpenDpNoise())
    assert errors.std(axis=1) / stated == pytest.approx(np.ones(24), abs=0.05)


def test_intervals_cover_the_truth_as_often_as_they_say() -> None:
    plan = StreamPlan.running(4_000, 24)
    stream = RunningTotals(plan, plan.scale(HALF))
    noise = SeededNoise(5)
    for step in range(24):
        published = stream.publish(step, np.full(4_000, 3), noise)
    low, high = published.interval(0.9)
    assert np.mean((low <= 72) & (high >= 72)) == pytest.approx(0.9, abs=0.025)
    with pytest.raises(InvalidArgument, match=r"confidence=1.0 must lie in \(0, 1\)"):
        published.interval(1.0)


def test_a_step_asked_for_again_is_repeated_and_draws_nothing() -> None:
    stream = RunningTotals(StreamPlan.running(3, 24), Fraction(9))
    noise = SeededNoise(1)
    first = stream.publish(0, np.array([1, 2, 3]), noise)
    again = stream.publish(0, np.array([7, 7, 7]), noise)
    assert again.lattice.tolist() == first.lattice.tolist()
    assert (again.step, again.head) == (first.step, first.head)
    assert noise.draws == 1


@pytest.mark.parametrize("step", [-1, 1, 5])
def test_a_step_out_of_order_is_refused_and_nothing_is_drawn(step: int) -> None:
    stream = RunningTotals(StreamPlan.running(3, 24), Fraction(9))
    noise = SeededNoise(1)
    for done in range(3):
        stream.publish(done, np.zeros(3, np.int64), noise)
    with pytest.raises(StreamOrder, match=f"step={step} must be 3, the next one"):
        stream.publish(step, np.zeros(3, np.int64), noise)
    assert noise.draws == 3


def test_before_the_first_step_there_is_nothing_to_repeat() -> None:
    stream = RunningTotals(StreamPlan.running(3, 24), Fraction(9))
    with pytest.raises(StreamOrder, match="publish step 0 first"):
        stream.publish(-1, np.zeros(3, np.int64), NoNoise())


def test_after_the_last_step_the_stream_has_ended() -> None:
    stream = RunningTotals(StreamPlan.running(1, 2), Fraction(9))
    for step in range(2):
        stream.publish(step, np.zeros(1, np.int64), NoNoise())
    with pytest.raises(
        StreamEnded, match=r"step=2 must be below 2, the steps that were paid for; start a new"
    ):
        stream.publish(2, np.zeros(1, np.int64), NoNoise())


def test_blocks_that_are_counted_end_after_the_last() -> None:
    stream = RunningTotals(StreamPlan.restarts(1, 2, blocks=2), Fraction(9))
    for step in range(4):
        stream.publish(step, np.zeros(1, np.int64), NoNoise())
    with pytest.raises(StreamEnded, match="step=4 must be below 4"):
        stream.publish(4, np.zeros(1, np.int64), NoNoise())


@pytest.mark.parametrize(
    "increments", [np.zeros(2, np.int64), np.zeros(3), np.zeros((3, 1), np.int64), [1, 2, 3]]
)
def test_increments_of_another_shape_or_type_are_refused(increments: object) -> None:
    stream = RunningTotals(StreamPlan.running(3, 24), Fraction(9))
    with pytest.raises(InvalidArgument, match=r"increments=.* must be int64 of shape \(3,\)"):
        stream.publish(0, increments, NoNoise())  # type: ignore[arg-type]


@pytest.mark.parametrize("scale", [0, -1, 1.5, float("nan"), True])
def test_a_scale_that_is_not_exact_and_above_zero_is_refused(scale: object) -> None:
    with pytest.raises(InvalidArgument, match=r"scale=.* must be"):
        RunningTotals(StreamPlan.running(3, 24), scale)  # type: ignore[arg-type]


def test_noise_that_fails_leaves_the_step_to_be_published() -> None:
    stream, twin = (RunningTotals(StreamPlan.restarts(2, 3), Fraction(9)) for _ in range(2))
    noises = SeededNoise(1), SeededNoise(1)
    for step in range(7):
        with pytest.raises(RuntimeError, match="no entropy"):
            stream.publish(step, np.array([4, 5]), Refusing())
        assert stream.step == step
        published = stream.publish(step, np.array([4, 5]), noises[0])
        assert published.lattice.tolist() == twin.publish(step, np.array([4, 5]), noises[1]).lattice.tolist()


def test_a_call_cut_off_in_the_middle_stops_the_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = RunningTotals(StreamPlan.running(2, 3), Fraction(9))

    def cut(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("dayfly.privacy.continual.totals.blt_absorb", cut)
    with pytest.raises(KeyboardInterrupt):
        stream.publish(0, np.array([4, 5]), NoNoise())
    monkeypatch.undo()
    with pytest.raises(StreamInterrupted, match="step=0 must not be left in the middle"):
        stream.publish(0, np.array([4, 5]), NoNoise())


def test_heads_tell_streams_with_different_pasts_apart() -> None:
    plan = StreamPlan.running(1, 24)
    first, second, other = (RunningTotals(plan, Fraction(9), name=name) for name in ("a", "a", "b"))
    assert first.head == second.head != other.head
    for stream, increment in ((first, 1), (second, 2)):
        stream.publish(0, np.array([increment]), NoNoise())
    assert first.head != second.head


def test_what_is_published_cannot_be_changed_from_outside() -> None:
    stream = RunningTotals(StreamPlan.running(1, 24), Fraction(9))
    published = stream.publish(0, np.array([1]), NoNoise())
    with pytest.raises(ValueError, match="read-only"):
        published.lattice[0] = 0


def test_increments_that_are_read_only_or_strided_are_taken_as_they_are() -> None:
    stream = RunningTotals(StreamPlan.running(3, 24), Fraction(9))
    strided, fixed = np.arange(6)[::2], np.array([1, 1, 1])
    fixed.flags.writeable = False
    stream.publish(0, strided, NoNoise())
    assert stream.publish(1, fixed, NoNoise()).values.tolist() == [1, 3, 5]
