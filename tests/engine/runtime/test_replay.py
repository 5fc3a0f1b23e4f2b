"""Replay: the events' own clock, batches, ticks, pace, and what is counted."""

from collections.abc import Iterator
from typing import Any

import orjson
import pytest

from dayfly.engine.errors import RunError
from dayfly.engine.generator.times import iso_ms
from dayfly.engine.runtime import RawMessage, Replay, RunTally, Step

from .world import MINUTE_MS, T0, World


class Clock:
    """A monotonic clock that moves by what is waited, and by `step_ns` whenever it is read."""

    def __init__(self, step_ns: int = 0) -> None:
        self.now_ns = 0
        self.step_ns = step_ns
        self.waits: list[float] = []

    def __call__(self) -> int:
        self.now_ns += self.step_ns
        return self.now_ns

    def sleep(self, seconds: float) -> None:
        self.waits.append(seconds)
        self.now_ns += int(seconds * 1e9)


def message(
    number: int, at_ms: int, event: str = "App Opened", channel: str = "app", **properties: object
) -> RawMessage:
    body = {
        "type": "track",
        "messageId": f"m-{number}",
        "userId": "u-1",
        "event": event,
        "properties": properties,
        "timestamp": iso_ms(at_ms),
    }
    return RawMessage(at_ms, channel, "segment", orjson.dumps(body))


def replayed(world: World, *messages: RawMessage, **settings: Any) -> list[Step]:
    return list(Replay(world.engine, clock_ns=Clock(), **settings).steps(messages))


def test_messages_close_in_time_are_taken_in_together_and_others_alone() -> None:
    times = [T0, T0 + 20, T0 + 21, T0 + 500]
    steps = replayed(World(), *(message(number, time) for number, time in enumerate(times)), batch_ms=20)
    assert [len(step.group) for step in steps if step.group] == [2, 1, 1]


def test_messages_of_two_channels_are_taken_in_one_after_the_other() -> None:
    steps = replayed(World(), message(0, T0), message(1, T0, channel="web"), message(2, T0))
    assert [step.group[0].channel for step in steps if step.group] == ["app", "web", "app"]


def test_time_passes_in_whole_ticks_between_arrivals() -> None:
    steps = replayed(World(), message(0, T0 + 300), message(1, T0 + 3_100))
    assert [step.now_ms - T0 for step in steps] == [300, 1_000, 2_000, 3_000, 3_100]


def test_after_an_hour_of_silence_ticks_are_half_a_minute_apart() -> None:
    steps = replayed(
        World(), message(0, T0), message(1, T0 + 3_600_000 + 5 * MINUTE_MS), tick_ms=60_000 // 60
    )
    assert len(steps) == 3_600 + 10 + 1
    assert steps[-2].now_ms - steps[-3].now_ms == 30_000


def test_a_fragment_that_nobody_opens_dies_at_its_end_although_no_event_comes() -> None:
    world = World()
    world.allow("u-1", T0)
    tapped = message(0, T0 + 1, "Install Service Tapped", sku="s-1")
    steps = replayed(world, tapped, message(1, T0 + 40 * MINUTE_MS))
    (fragment,) = steps[0].outcome.fragments
    (death,) = [step for step in steps if step.outcome.destroyed]
    assert death.now_ms == fragment.expires_at_ms


def test_a_timer_mints_in_its_own_second_although_no_event_comes() -> None:
    world = World()
    world.allow("u-1", T0)
    cart = message(0, T0 + 1_000, "Product Added", product_id="p-1", price=100)
    checkout = message(1, T0 + 2_000, "Checkout Started", total=600)
    steps = replayed(world, cart, checkout, message(2, T0 + 40 * MINUTE_MS))
    (minted,) = [step for step in steps if step.outcome.fragments]
    assert minted.now_ms == T0 + 2_000 + 30 * MINUTE_MS


def test_a_pace_is_kept_by_waiting_for_what_is_left() -> None:
    clock = Clock()
    replay = Replay(World().engine, clock_ns=clock, speed=10.0, sleep=clock.sleep)
    list(replay.steps([message(0, T0), message(1, T0 + 2_000)]))
    assert sum(clock.waits) == pytest.approx(0.2)


def test_without_a_pace_nothing_waits() -> None:
    clock = Clock()
    list(
        Replay(World().engine, clock_ns=clock, sleep=clock.sleep).steps(
            [message(0, T0), message(1, T0 + 2_000)]
        )
    )
    assert clock.waits == []


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"tick_ms": 0}, "tick_ms=0 must be 1 to 60000"),
        ({"tick_ms": 60_001}, "tick_ms=60001 must be"),
        ({"batch_ms": -1}, "batch_ms=-1 must be 0 to 60000"),
        ({"batch_ms": 60_001}, "batch_ms=60001 must be"),
        ({"speed": -1.0}, r"speed=-1\.0 must be >= 0"),
        ({"speed": 1.0}, "come with a way to wait"),
    ],
)
def test_settings_out_of_range_are_refused(settings: dict[str, Any], text: str) -> None:
    with pytest.raises(RunError, match=text):
        Replay(World().engine, clock_ns=Clock(), **settings)


def test_a_tally_balances_and_its_latencies_are_what_the_clock_said() -> None:
    world, tally = World(), RunTally()
    world.allow("u-1", T0)
    messages: Iterator[RawMessage] = (
        message(number, T0 + 1_000 * number, "Install Service Tapped", sku="s") for number in range(1, 11)
    )
    replay = Replay(world.engine, clock_ns=Clock(step_ns=1_000_000), batch_ms=0)
    for step in [*replay.steps(messages), *replay.until(T0 + 60 * MINUTE_MS)]:
        tally.add(step)
    assert tally.received == tally.batches == tally.events["accepted"] == 10
    assert tally.minted == {"install-service-tapped": 10}
    assert tally.destroyed == {"superseded": 9, "expired": 1}
    assert (tally.live, tally.unopened) == (0, 1)
    assert tally.held == 0
    assert tally.latency_ms() == {"p50": 1.0, "p99": 1.0, "p99.9": 1.0, "max": 1.0}


def test_a_tally_without_batches_has_no_latency() -> None:
    assert RunTally().latency_ms() == {}
