"""The engine's time: the wall clock's, but never back; steps are reported."""

from hypothesis import given
from hypothesis import strategies as st

from dayfly.engine.durable.clock import SteadyClock


class Wall:
    def __init__(self, *times: int) -> None:
        self.times = iter(times)

    def __call__(self) -> int:
        return next(self.times)


def test_a_step_back_is_waited_out_and_reported() -> None:
    clock = SteadyClock(Wall(1_000_000, 1_000_001, 400_000, 400_005, 1_000_001, 1_000_002))
    assert [clock() for _ in range(3)] == [1_000_001, 1_000_001, 1_000_001]
    assert (clock.steps_back, clock.largest_step_ms, clock.behind_ms) == (1, -600_001, 599_996)
    assert [clock(), clock()] == [1_000_001, 1_000_002]
    assert clock.behind_ms == 0


def test_a_step_ahead_is_followed_and_reported_from_its_size_on() -> None:
    clock = SteadyClock(Wall(0, 59_999, 119_999), jump_ms=60_000)
    assert (clock(), clock.steps_ahead) == (59_999, 0)
    assert (clock(), clock.steps_ahead, clock.largest_step_ms) == (119_999, 1, 60_000)


def test_a_start_before_the_time_of_the_store_waits_for_it() -> None:
    clock = SteadyClock(Wall(1_000, 2_000), start_ms=900_000)
    assert (clock(), clock.steps_back, clock.largest_step_ms) == (900_000, 1, -899_000)


def test_a_start_a_little_before_the_time_of_the_store_is_no_step() -> None:
    clock = SteadyClock(Wall(1_000, 1_000), start_ms=61_000, jump_ms=60_000)
    assert (clock(), clock.steps_back) == (61_000, 0)


@given(st.lists(st.integers(0, 10_000_000), min_size=2))
def test_time_never_falls_and_is_the_highest_seen(times: list[int]) -> None:
    clock = SteadyClock(Wall(*times))
    told = [clock() for _ in times[1:]]
    assert told == [max(times[: index + 2]) for index in range(len(told))]
