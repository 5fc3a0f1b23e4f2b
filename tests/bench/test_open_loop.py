"""The open loop measures from the planned arrival: a stall is paid by everybody who would have arrived meanwhile."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dayfly.bench.errors import BadLoad
from dayfly.bench.open_loop import SPIN_S, drive, poisson_arrivals


class Clock:
    """A clock that moves when something sleeps, works, or looks at it."""

    def __init__(self, look_s: float = 1e-6) -> None:
        self.now_s = 1_000.0
        self.look_s = look_s
        self.slept: list[float] = []

    def __call__(self) -> float:
        self.now_s += self.look_s
        return self.now_s

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now_s += seconds


class Server:
    """Takes `base + each * events` seconds for a batch, and once much longer."""

    def __init__(self, clock: Clock, *, each_s: float = 0.0, stall: tuple[int, float] = (-1, 0.0)) -> None:
        self.clock, self.each_s, self.stall = clock, each_s, stall
        self.batches: list[tuple[int, int]] = []

    def __call__(self, start: int, end: int, _now_s: float) -> None:
        self.batches.append((start, end))
        self.clock.now_s += self.each_s * (end - start)
        if start <= self.stall[0] < end:
            self.clock.now_s += self.stall[1]


def test_a_stall_is_paid_by_all_who_were_planned_to_arrive_in_it() -> None:
    clock = Clock()
    server = Server(clock, stall=(10, 0.050))
    arrivals = [number * 0.001 for number in range(100)]
    loop = drive(arrivals, server, clock=clock, sleep=clock.sleep)
    late = loop.seconds[11:60]
    assert np.allclose(late, 0.050 - 0.001 * np.arange(1, 50), atol=1e-3)
    assert (loop.seconds > 0.0005).sum() == pytest.approx(50, abs=1)
    assert float(np.percentile(loop.seconds, 50, method="inverted_cdf")) >= 0.0


def test_whatever_waits_is_one_batch_and_never_more_than_the_limit() -> None:
    clock = Clock()
    server = Server(clock, stall=(0, 1.0))
    drive(
        [0.0, *(0.1 + number * 0.001 for number in range(100))],
        server,
        clock=clock,
        sleep=clock.sleep,
        max_batch=64,
    )
    assert server.batches == [(0, 1), (1, 65), (65, 101)]


def test_nobody_is_served_before_the_planned_arrival() -> None:
    clock = Clock()
    begun: list[float] = []
    arrivals = [0.0, 0.2, 0.2000001, 0.7]

    def serve(start: int, end: int, now_s: float) -> None:
        begun.append(now_s)
        assert all(arrivals[index] <= now_s for index in range(start, end))

    loop = drive(arrivals, serve, clock=clock, sleep=clock.sleep)
    assert len(begun) == loop.batches
    assert (loop.seconds > 0).all()


def test_the_loop_sleeps_through_long_gaps_and_polls_the_last_half_millisecond() -> None:
    clock = Clock()
    loop = drive([1.0], Server(clock), clock=clock, sleep=clock.sleep)
    assert len(clock.slept) == 1
    assert 1.0 - SPIN_S - 1e-5 < clock.slept[0] < 1.0 - SPIN_S
    assert loop.seconds[0] < 1e-5


def test_time_in_batches_is_told_apart_from_waiting() -> None:
    clock = Clock()
    loop = drive([0.0, 1.0], Server(clock, each_s=0.25), clock=clock, sleep=clock.sleep)
    assert loop.busy_s == pytest.approx(0.5, abs=1e-4)
    assert loop.elapsed_s == pytest.approx(1.25, abs=1e-3)


@given(st.lists(st.floats(0, 0.2), min_size=1, max_size=60), st.floats(0, 0.01), st.integers(1, 7))
def test_every_event_is_served_once_in_order(gaps: list[float], each_s: float, most: int) -> None:
    clock = Clock()
    server = Server(clock, each_s=each_s)
    arrivals = np.cumsum(gaps)
    loop = drive(arrivals, server, clock=clock, sleep=clock.sleep, max_batch=most)
    assert [index for start, end in server.batches for index in range(start, end)] == list(range(len(gaps)))
    assert max(end - start for start, end in server.batches) <= most
    finish = np.asarray(loop.seconds) + arrivals
    assert (np.diff(finish) >= 0).all()


def test_poisson_arrivals_have_the_rate_and_exponential_gaps() -> None:
    arrivals = poisson_arrivals(1_000, 50, np.random.default_rng(3))
    gaps = np.diff(arrivals)
    assert len(arrivals) == pytest.approx(50_000, abs=5 * np.sqrt(50_000))
    assert arrivals[-1] < 50
    assert gaps.std() == pytest.approx(gaps.mean(), rel=0.03)
    assert (gaps > 2 * gaps.mean()).mean() == pytest.approx(np.exp(-2), rel=0.05)


@pytest.mark.parametrize(
    ("rate", "seconds", "message"),
    [
        (0, 1, "rate=0 must be a positive number; pass for example"),
        (-5.0, 1, "rate=-5.0 must be a positive number"),
        (float("nan"), 1, "rate=nan must be a positive number"),
        (10, float("inf"), "seconds=inf must be a positive number"),
        (10, 1e-9, "rate=10 for seconds=1e-09 must bring at least one event; measure longer"),
    ],
)
def test_a_load_that_cannot_be_measured_is_refused(rate: float, seconds: float, message: str) -> None:
    with pytest.raises(BadLoad, match=message):
        poisson_arrivals(rate, seconds, np.random.default_rng(1))
