"""The generator's stream: repeatable, in received order, faulty in the stated shares."""

import hashlib
import itertools
import math
from collections import Counter
from collections.abc import Iterable
from typing import Any

import pytest

from dayfly.engine.errors import GeneratorError
from dayfly.engine.generator import FILE_NAMES, Generator, RawEvent, Shares

START_MS = 1_795_305_600_000  # 2026-11-22T00:00:00Z
DAY_MS = 86_400_000
HOUR_MS = 3_600_000

# Every share is raised to at least 2 % so that the sample (more than 40,000 messages) has power: a share off by 30 % lies
# at least six standard deviations away, the bound is four.
SHARES = Shares(duplicate=0.03, disordered=0.05, late=0.02, malformed=0.02)
BOUND_DEVIATIONS = 4.0


def generator(seed: int = 7, *, people: int = 1_500, duration_ms: int = DAY_MS, **settings: Any) -> Generator:
    return Generator(seed, people, START_MS, duration_ms, **settings)


@pytest.fixture(scope="module")
def day() -> list[RawEvent]:
    return list(generator(shares=SHARES))


def bytes_of(events: Iterable[RawEvent]) -> str:
    state = hashlib.sha256()
    for event in events:
        state.update(
            repr((event.channel, event.received_ms, event.form, event.fault)).encode() + event.payload
        )
    return state.hexdigest()


def test_equal_settings_give_equal_bytes() -> None:
    assert bytes_of(generator(people=200)) == bytes_of(generator(people=200))


def test_one_generator_can_be_read_twice() -> None:
    stream = generator(people=100)
    assert list(stream) == list(stream)


@pytest.mark.parametrize("other", [{"seed": 8}, {"people": 201}, {"sessions_per_day": 2.1}])
def test_other_settings_give_other_bytes(other: dict[str, Any]) -> None:
    assert bytes_of(generator(**{"people": 200} | other)) != bytes_of(generator(people=200))


def test_a_longer_span_begins_with_the_same_arrivals() -> None:
    short = list(itertools.islice(generator(people=200, duration_ms=DAY_MS // 2), 500))
    long = list(itertools.islice(generator(people=200, duration_ms=DAY_MS), 500))
    assert short == long


def test_messages_come_in_received_order_and_inside_the_span(day: list[RawEvent]) -> None:
    times = [event.received_ms for event in day]
    assert times == sorted(times)
    assert times[0] >= START_MS
    assert times[-1] < START_MS + DAY_MS


def test_every_channel_has_its_messages(day: list[RawEvent]) -> None:
    assert {event.channel for event in day} == set(FILE_NAMES)
    assert {(event.channel, event.form) for event in day} == {
        ("app", "segment"),
        ("web", "rudderstack"),
        ("wifi", "cloudevents"),
        ("marketplace", "csv"),
        ("hotline", "jsonl"),
    }


def deviations(events: list[RawEvent], fault: str, share: float) -> float:
    """Standard deviations between the counted and the stated share of a fault among first sendings."""
    counts: Counter[str] = Counter(event.fault for event in events)
    sendings = len(events) - counts["duplicate"]
    # A fault of sending (late or disordered) shows on what was not broken, a duplicate on what was not broken either.
    trials = sendings if fault == "malformed" else sendings - counts["malformed"]
    return (counts[fault] / trials - share) / math.sqrt(share * (1 - share) / trials)


@pytest.mark.parametrize("fault", ["duplicate", "disordered", "malformed", "late"])
def test_the_share_of_each_fault_is_as_stated_and_the_test_can_tell_30_percent(
    day: list[RawEvent], fault: str
) -> None:
    assert len(day) > 40_000
    share = getattr(SHARES, fault)
    assert abs(deviations(day, fault, share)) < BOUND_DEVIATIONS
    for wrong in (0.7 * share, 1.3 * share):
        assert abs(deviations(day, fault, wrong)) > BOUND_DEVIATIONS


def test_without_faults_every_payload_comes_once() -> None:
    events = list(generator(people=300, shares=Shares(0.0, 0.0, 0.0, 0.0)))
    assert {event.fault for event in events} == {""}
    assert len({event.payload for event in events}) == len(events)


def test_a_duplicate_repeats_the_bytes_of_an_earlier_message(day: list[RawEvent]) -> None:
    seen = set()
    for event in day:
        if event.fault == "duplicate":
            assert event.payload in seen
        elif event.fault != "malformed":
            assert event.payload not in seen
        seen.add(event.payload)


def test_evenings_are_at_least_five_times_as_busy_as_nights(day: list[RawEvent]) -> None:
    hours = Counter((event.received_ms // HOUR_MS + 8) % 24 for event in day)
    evening, night = sum(hours[hour] for hour in (20, 21)), sum(hours[hour] for hour in (3, 4))
    assert evening > 5 * night


def test_more_sessions_a_day_give_more_messages() -> None:
    few, many = (sum(1 for _ in generator(people=300, sessions_per_day=rate)) for rate in (1.0, 3.0))
    assert 2.0 < many / few < 4.0


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"people": 0}, r"people=0 must be > 0"),
        ({"duration_ms": 0}, r"duration_ms=0 must be > 0"),
        ({"sessions_per_day": 0.0}, r"sessions_per_day=0.0 must be > 0"),
    ],
)
def test_settings_that_describe_nothing_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(GeneratorError, match=message):
        generator(**settings)


@pytest.mark.parametrize(
    ("shares", "message"),
    [
        ({"duplicate": -0.01}, r"duplicate=-0.01 must lie in \[0, 1\]"),
        ({"malformed": 1.01}, r"malformed=1.01 must lie in \[0, 1\]"),
        ({"late": float("nan")}, r"late=nan must lie in \[0, 1\]"),
        ({"late": 0.6, "disordered": 0.5}, r"disordered \+ late=1.1 must be at most 1"),
    ],
)
def test_shares_that_are_none_are_refused(shares: dict[str, Any], message: str) -> None:
    with pytest.raises(GeneratorError, match=message):
        Shares(**shares)


def test_shares_at_their_bounds_are_accepted() -> None:
    shares = Shares(duplicate=1.0, disordered=0.0, late=1.0, malformed=0.0)
    events = list(generator(people=20, shares=shares))
    assert {event.fault for event in events} == {"late", "duplicate"}
