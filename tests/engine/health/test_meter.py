"""The meter against counting one by one, over any cut of the events into frames."""

import itertools
import random
from collections import Counter
from dataclasses import replace

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dayfly.engine.catalog import Catalog, EventType, FieldSpec, FieldType
from dayfly.engine.decisions import DeadLetter, Decisions
from dayfly.engine.errors import FrameError
from dayfly.engine.events import Event, EventBatch
from dayfly.engine.health.meter import (
    AT_ONCE,
    DAYS_KEPT,
    HOUR_MS,
    HOURS_KEPT,
    ChannelMeter,
    bucket_end_ms,
)
from dayfly.engine.inputs import Input, Publish
from dayfly.engine.intake import DeadLetterReason, IntakeResult, RejectedEvent
from dayfly.engine.intake.results import join_batches, take_rows
from dayfly.engine.policy.model import Policy
from dayfly.privacy.audit_log import AuditLog
from tests.oracles.metering import CountedOneByOne

from .events import CATALOG, T0, of_channel, some_events

NOTHING = Decisions()


def batch(events: list[Event]) -> EventBatch:
    return EventBatch.from_events(events, CATALOG)


def check(meter: ChannelMeter, oracle: CountedOneByOne) -> None:
    """Everything the meter says about channels, types and fields is what the oracle counted."""
    hours = sorted({hour for hour, _ in oracle.received})
    for hour in hours:
        book = meter.hour(hour)
        for name in CATALOG.channels:
            assert book["received", name, ""] == book["seen", name, ""] == oracle.received[hour, name]
            assert book["undeclared", name, ""] == oracle.undeclared[hour, name]
        classes = meter.lateness([hour])
        for name in CATALOG.channels:
            late = oracle.late_ms.get((hour, name), [])
            assert (name in classes) == bool(late)
            if late:
                found, worst = classes[name]
                assert worst == max(0, *late)
                ends = {bucket_end_ms(at): int(found[at]) for at in np.flatnonzero(found).tolist()}
                assert ends == Counter(map(_end, late))
    for day in {hour // 24 for hour in hours}:
        counted = {key[1:]: count for key, count in oracle.fields.items() if key[0] == day}
        assert dict(meter.fields([day])) == counted


def _end(late_ms: int) -> int:
    """End of the class of a lateness, found by trying all."""
    return next(bucket_end_ms(one) for one in range(200) if late_ms <= bucket_end_ms(one))


@given(st.integers(0, 2**32), st.lists(st.tuples(st.integers(0, 40), st.integers(0, 3)), max_size=12))
def test_counts_are_those_of_counting_one_by_one(seed: int, frames: list[tuple[int, int]]) -> None:
    draw, now_ms = random.Random(seed), T0
    meter, oracle = ChannelMeter(CATALOG), CountedOneByOne(CATALOG)
    for number, hours in frames:
        now_ms += hours * HOUR_MS // 2
        events = some_events(draw, number, now_ms)
        meter.inputs([batch(events)], now_ms, NOTHING)
        oracle.take(events, now_ms)
    check(meter, oracle)


def test_many_events_are_counted_as_those_that_wait() -> None:
    draw = random.Random(5)
    meter, oracle = ChannelMeter(CATALOG), CountedOneByOne(CATALOG)
    for number in (AT_ONCE - 1, 1, 3 * AT_ONCE):
        events = some_events(draw, number, T0)
        meter.inputs([batch(events)], T0, NOTHING)
        oracle.take(events, T0)
    check(meter, oracle)


def test_rows_that_share_their_values_with_others_are_counted_alone() -> None:
    draw = random.Random(6)
    events = some_events(draw, 60, T0)
    rows = np.array([50, 3, 4, 31, 0, 59, 17], np.intp)
    joined = join_batches(
        take_rows(batch(events), rows), take_rows(batch(events[:20]), np.arange(5, 11)), CATALOG
    )
    meter, oracle = ChannelMeter(CATALOG), CountedOneByOne(CATALOG)
    meter.inputs([joined], T0, NOTHING)
    oracle.take([*(events[row] for row in rows), *events[5:11]], T0)
    check(meter, oracle)


@given(st.integers(0, 2**32), st.lists(st.integers(1, 59), max_size=5))
def test_equal_events_give_equal_bytes_however_they_are_cut(seed: int, cuts: list[int]) -> None:
    events = some_events(random.Random(seed), 60, T0)
    whole, parts = ChannelMeter(CATALOG), ChannelMeter(CATALOG)
    whole.inputs([batch(events)], T0, NOTHING)
    edges = [0, *sorted(set(cuts)), 60]
    for start, end in itertools.pairwise(edges):
        parts.inputs([batch(events[start:end])], T0, NOTHING)
        if draw_flush(seed, start):
            parts.flush()
    assert parts.to_bytes() == whole.to_bytes()


def draw_flush(seed: int, start: int) -> bool:
    return random.Random(seed + start).random() < 0.5


def test_a_meter_goes_on_from_its_bytes_as_if_it_had_never_stopped() -> None:
    draw = random.Random(8)
    whole = ChannelMeter(CATALOG)
    broken = ChannelMeter(CATALOG)
    for step in range(20):
        now_ms = T0 + step * 5 * HOUR_MS
        events = some_events(draw, 30, now_ms)
        letters = [RejectedEvent(now_ms, "web", DeadLetterReason.NOT_JSON, "payload 0", bytes(16), "no")]
        for meter in (whole, broken):
            meter.inputs([batch(events)], now_ms, NOTHING)
            meter.effects(letters, (), now_ms)
        broken = ChannelMeter.from_bytes(broken.to_bytes(), CATALOG)
        assert broken.to_bytes() == whole.to_bytes()


@pytest.mark.parametrize("data", [b"", b"nothing", msgspec.msgpack.encode([1, 2])])
def test_bytes_of_something_else_are_refused(data: bytes) -> None:
    with pytest.raises(FrameError, match=r"must be readable: .*; use an older snapshot"):
        ChannelMeter.from_bytes(data, CATALOG)


def test_bytes_of_a_newer_release_are_refused() -> None:
    stored = msgspec.msgpack.decode(ChannelMeter(CATALOG).to_bytes())
    data = msgspec.msgpack.encode([2, *stored[1:]])
    with pytest.raises(FrameError, match="meter format=2 must be 1; use the release that wrote it"):
        ChannelMeter.from_bytes(data, CATALOG)


@given(st.integers(1, 2**39))
def test_a_lateness_lies_in_its_class(late_ms: int) -> None:
    meter = ChannelMeter(CATALOG)
    event = some_events(random.Random(1), 1, T0)[0]
    meter.inputs([batch([replace(event, time_ms=event.received_ms - late_ms)])], T0, NOTHING)
    ((found, worst),) = meter.lateness([T0 // HOUR_MS]).values()
    (bucket,) = np.flatnonzero(found).tolist()
    assert worst == late_ms
    assert bucket_end_ms(bucket - 1) < late_ms <= bucket_end_ms(bucket)
    assert bucket_end_ms(bucket) <= max(1, 1.19 * late_ms)


def test_duplicates_and_refusals_at_the_door_are_booked_to_the_channel_of_their_frame() -> None:
    meter = ChannelMeter(CATALOG)
    events = of_channel(some_events(random.Random(2), 10, T0), "web")
    meter.inputs([batch(events)], T0, Decisions(counts={"duplicate": 4, "not_collected": 2, "accepted": 6}))
    book = meter.hour(T0 // HOUR_MS)
    assert book["duplicate", "web", ""] == meter.totals["duplicate", "web", ""] == 4
    assert book["not_collected", "web", ""] == 2
    assert book["seen", "web", ""] == 6


def test_duplicates_among_events_of_several_channels_are_booked_to_none() -> None:
    meter = ChannelMeter(CATALOG)
    events = [
        *of_channel(some_events(random.Random(2), 2, T0), "web"),
        *of_channel(some_events(random.Random(3), 2, T0), "app"),
    ]
    meter.inputs([batch(events)], T0, Decisions(counts={"duplicate": 1}))
    assert meter.totals["duplicate", "", ""] == 1
    assert meter.totals["duplicate", "web", ""] == meter.totals["duplicate", "app", ""] == 0


def test_dead_letters_of_the_intake_are_received_and_those_of_the_shard_were_already() -> None:
    meter = ChannelMeter(CATALOG)
    events = of_channel(some_events(random.Random(2), 3, T0), "app")
    meter.inputs([batch(events)], T0, Decisions(dead_letters=(DeadLetter(T0, 0, "app", "too_late"),)))
    meter.effects([RejectedEvent(T0, "app", DeadLetterReason.BAD_TIME, "payload 1", bytes(16), "no")], (), T0)
    book = meter.hour(T0 // HOUR_MS)
    assert book["received", "app", ""] == 4
    assert (book["dead", "app", "too_late"], book["dead", "app", "bad_time"]) == (1, 1)
    assert book["seen", "app", ""] == 2


def test_a_channel_was_last_heard_of_with_its_newest_event_or_dead_letter() -> None:
    meter = ChannelMeter(CATALOG)
    meter.inputs([batch(of_channel(some_events(random.Random(2), 2, T0), "app"))], T0, NOTHING)
    letter = RejectedEvent(T0 + 5, "app", DeadLetterReason.BAD_TIME, "payload 1", bytes(16), "no")
    meter.effects([letter], (), T0 + 5)
    meter.inputs([batch(of_channel(some_events(random.Random(2), 2, T0), "web"))], T0 + 9, NOTHING)
    assert meter.last == {"app": T0 + 5, "web": T0 + 9}


def test_an_intake_result_is_counted_with_its_dead_letters() -> None:
    meter = ChannelMeter(CATALOG)
    events = of_channel(some_events(random.Random(2), 3, T0), "app")
    letter = RejectedEvent(T0, "app", DeadLetterReason.BAD_TIME, "payload 1", bytes(16), "no")
    meter.take(IntakeResult(batch(events), (letter,)), T0)
    assert meter.hour(T0 // HOUR_MS)["received", "app", ""] == 4
    assert meter.hour(T0 // HOUR_MS)["seen", "app", ""] == 3


def test_transfer_and_consent_decisions_are_counted_from_the_audit_lines() -> None:
    lines: list[bytes] = []
    log = AuditLog(lines.append, key=bytes(range(32)))
    for allowed, reason in (
        (True, "allowed"),
        (True, "domestic"),
        (False, "threshold"),
        (False, "threshold"),
    ):
        log.append("transfer", b"p", T0, {"allowed": allowed, "reason": reason, "recipient": "crm"})
    log.append("consent", b"p", T0, {"allowed": False, "reason": "withdrawn"})
    log.append("mint", b"p", T0, {"jti": "x", "kind": "transfer"})
    log.append("lease", b"p", T0, {"uses_before": 1})
    meter = ChannelMeter(CATALOG)
    meter.effects((), lines, T0)
    assert meter.totals == Counter(
        {
            ("transfer.allowed", "", "allowed"): 1,
            ("transfer.allowed", "", "domestic"): 1,
            ("transfer.refused", "", "threshold"): 2,
            ("consent.refused", "", "withdrawn"): 1,
        }
    )


def test_hours_and_days_are_kept_as_long_as_said_and_totals_for_good() -> None:
    meter = ChannelMeter(CATALOG)
    hours = HOURS_KEPT + 30
    for step in range(hours):
        now_ms = T0 + step * HOUR_MS
        meter.inputs([batch(of_channel(some_events(random.Random(step), 1, now_ms), "app"))], now_ms, NOTHING)
    first = T0 // HOUR_MS
    kept = [step for step in range(hours) if meter.hour(first + step)["received", "app", ""]]
    assert kept == list(range(30, hours))
    late = [step for step in range(hours) if meter.lateness([first + step])]
    assert late == list(range(hours - 25, hours))
    days = {(first + step) // 24 for step in range(hours)}
    assert len([day for day in days if meter.fields([day])]) <= DAYS_KEPT + 1
    assert meter.totals["received", "app", ""] == hours
    assert len(meter.to_bytes()) < 100_000


def test_a_new_policy_changes_nothing_of_what_was_counted() -> None:
    events = of_channel(some_events(random.Random(4), 50, T0), "web")
    meter, oracle = ChannelMeter(CATALOG), CountedOneByOne(CATALOG)
    oracle.take(events, T0)
    other = Catalog(
        types=(EventType("Viewed", (FieldSpec("new", FieldType.BOOLEAN),)),), channels=("hotline", "web")
    )
    inputs: list[Input] = [batch(events), Publish(T0, Policy(version=2, catalog=other))]
    meter.inputs(inputs, T0, NOTHING)
    check(meter, oracle)
    before = meter.fields([T0 // HOUR_MS // 24])
    later = [replace(event, type="Viewed") for event in events[:7]]
    meter.inputs([EventBatch.from_events(later, other)], T0, NOTHING)
    missing = sum(event.properties.get("new") is None for event in later)
    after = meter.fields([T0 // HOUR_MS // 24])
    assert after["web", "Viewed", ""] - before["web", "Viewed", ""] == 7
    assert after["web", "Viewed", "new"] - before["web", "Viewed", "new"] == missing
    assert after["web", "Viewed", "price"] == before["web", "Viewed", "price"]
