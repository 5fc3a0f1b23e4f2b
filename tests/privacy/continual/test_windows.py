"""Sliding windows against plain sums and against the public totals."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dayfly.privacy.continual import SlidingTotals, StreamPlan
from dayfly.privacy.errors import InvalidArgument, StreamEnded, StreamOrder

from .noises import NoNoise, Script, SeededNoise

HALF = Fraction(1, 2)


@given(length=st.integers(1, 9), blocks=st.integers(1, 4), data=st.data())
def test_without_noise_a_window_is_the_sum_of_its_steps(
    length: int, blocks: int, data: st.DataObject
) -> None:
    window = data.draw(st.integers(1, length))
    plan = StreamPlan.restarts(2, length, blocks=blocks)
    stream = SlidingTotals(plan, Fraction(1), window)
    added = np.random.default_rng(7).integers(-9, 100, (length * blocks, 2))
    for step in range(length * blocks):
        published = stream.publish(step, added[step], NoNoise())
        expected = added[max(0, step - window + 1) : step + 1].sum(axis=0)
        assert published.values.tolist() == expected.tolist()
        assert published.step == step


@pytest.mark.parametrize(("length", "window"), [(6, 6), (6, 4), (24, 5)])
def test_windows_have_the_stated_standard_errors(length: int, window: int) -> None:
    plan = StreamPlan.restarts(4_000, length)
    stream = SlidingTotals(plan, plan.scale(HALF), window)
    noise = SeededNoise(13)
    for step in range(2 * length):
        published = stream.publish(step, np.ones(4_000, np.int64), noise)
        errors = published.values - min(step + 1, window)
        assert errors.std() == pytest.approx(published.standard_error, rel=0.06), step


def test_a_window_asked_for_again_is_repeated_and_draws_nothing() -> None:
    stream = SlidingTotals(StreamPlan.restarts(2, 3), Fraction(50), 3)
    noise = SeededNoise(1)
    for step in range(5):
        published = stream.publish(step, np.array([1, 2]), noise)
    again = stream.publish(4, np.array([9, 9]), noise)
    assert again.lattice.tolist() == published.lattice.tolist()
    assert again.standard_error == published.standard_error
    assert noise.draws == 5
    with pytest.raises(StreamOrder, match="step=3 must be 5"):
        stream.publish(3, np.array([1, 2]), noise)


def test_windows_of_totals_at_the_edge_of_int64_saturate_and_never_wrap() -> None:
    stream = SlidingTotals(StreamPlan.restarts(1, 3), Fraction(1), 3)
    top = 2**63 - 1
    shown = [
        stream.publish(step, np.zeros(1, np.int64), Script([np.array([top if step < 3 else -top])]))
        for step in range(6)
    ]
    assert [int(one.lattice[0]) >> 60 for one in shown[:3]] == [2, 2, 2]
    assert int(shown[3].lattice[0]) == -(2**61)
    assert int(shown[5].lattice[0]) == -(2**61)


def test_an_endless_stream_of_windows_goes_on_and_a_paid_one_ends() -> None:
    endless = SlidingTotals(StreamPlan.restarts(1, 2), Fraction(1), 2)
    paid = SlidingTotals(StreamPlan.running(1, 2), Fraction(1), 2)
    for step in range(50):
        endless.publish(step, np.array([1]), NoNoise())
    for step in range(2):
        paid.publish(step, np.array([1]), NoNoise())
    with pytest.raises(StreamEnded, match="step=2 must be below 2"):
        paid.publish(2, np.array([1]), NoNoise())


def test_a_window_longer_than_a_block_is_refused() -> None:
    with pytest.raises(InvalidArgument, match="window=4 must lie in"):
        SlidingTotals(StreamPlan.restarts(1, 3), Fraction(1), 4)
    with pytest.raises(InvalidArgument, match="window=0 must lie in"):
        SlidingTotals(StreamPlan.restarts(1, 3), Fraction(1), 0)


def test_the_names_of_the_stream_are_those_of_its_totals() -> None:
    stream = SlidingTotals(StreamPlan.restarts(1, 3), Fraction(2), 2, name="visits")
    assert (stream.name, stream.window, stream.scale, stream.step) == ("visits", 2, Fraction(2), 0)
    assert stream.head == stream.totals.head
