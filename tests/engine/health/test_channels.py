"""What is expected of a channel, and what came of it."""

import random

import numpy as np
import pytest

from dayfly.engine.decisions import Decisions
from dayfly.engine.events import EventBatch
from dayfly.engine.health.channels import channel_health, check_expected, transfer_health, unplaced
from dayfly.engine.health.meter import DAYS_KEPT, HOUR_MS, ChannelMeter
from dayfly.engine.health.model import ChannelHealth
from dayfly.engine.intake import DeadLetterReason, RejectedEvent
from dayfly.privacy.audit_log import AuditLog
from dayfly.privacy.errors import InvalidArgument

from .events import CATALOG, T0, of_channel, some_events

NOTHING = Decisions()


def came(meter: ChannelMeter, at_ms: int, number: int, channel: str = "app") -> None:
    events = of_channel(some_events(random.Random(at_ms), number, at_ms), channel)
    meter.inputs([EventBatch.from_events(events, CATALOG)], at_ms, NOTHING)


def app(meter: ChannelMeter, now_ms: int, **expected: float) -> ChannelHealth:
    return channel_health(meter, CATALOG, now_ms, expected)[0]


def test_nothing_is_expected_before_anything_is_known() -> None:
    found = app(ChannelMeter(CATALOG), T0)
    assert (found.expected, found.basis, found.completeness, found.silent_ms) == (None, "unknown", None, None)
    assert (found.received, found.lateness_p50_ms, found.lateness_max_ms, found.fields) == (0, None, None, ())
    assert len(found.hours) == 25


def test_a_declared_expectation_holds_for_the_full_hours_since_the_meter_began() -> None:
    meter = ChannelMeter(CATALOG)
    came(meter, T0 + 1, 5)
    came(meter, T0 + HOUR_MS, 30)
    came(meter, T0 + 2 * HOUR_MS, 10)
    found = app(meter, T0 + 3 * HOUR_MS + 5, app=40.0)
    assert [hour.expected for hour in found.hours] == [None] * 22 + [40.0, 40.0, None]
    assert (found.expected, found.basis, found.completeness) == (80.0, "declared", 0.5)
    assert (found.received, found.seen) == (45, 45)
    assert found.silent_ms == HOUR_MS + 5


def test_a_meter_that_began_with_the_hour_expects_something_of_that_hour() -> None:
    meter = ChannelMeter(CATALOG)
    came(meter, T0, 5)
    found = app(meter, T0 + HOUR_MS, app=10.0)
    assert (found.expected, found.completeness) == (10.0, 0.5)


def test_a_channel_is_judged_by_the_same_hours_of_the_days_before() -> None:
    meter = ChannelMeter(CATALOG)
    for day in range(DAYS_KEPT + 1):
        for hour in range(24):
            more = DAYS_KEPT if day == 0 else 0
            came(meter, T0 + (24 * day + hour) * HOUR_MS, 9 + hour + more if day < DAYS_KEPT else 5)
    now_ms = T0 + 24 * (DAYS_KEPT + 1) * HOUR_MS
    found = app(meter, now_ms)
    assert [hour.expected for hour in found.hours[:-1]] == [10 + hour for hour in range(24)]
    assert (found.expected, found.basis) == (sum(range(10, 34)), "history")
    assert found.completeness == 24 * 5 / sum(range(10, 34))


def test_the_average_is_over_the_days_that_were_counted_only() -> None:
    meter = ChannelMeter(CATALOG)
    came(meter, T0, 12)
    came(meter, T0 + 24 * HOUR_MS, 18)
    came(meter, T0 + 48 * HOUR_MS, 1)
    found = app(meter, T0 + 49 * HOUR_MS)
    assert found.hours[-2].expected == 15.0
    assert found.hours[-2].seen == 1


def test_where_nothing_was_usual_nothing_can_be_incomplete() -> None:
    meter = ChannelMeter(CATALOG)
    came(meter, T0, 3, "web")
    found = app(meter, T0 + 26 * HOUR_MS)
    assert (found.expected, found.completeness) == (0.0, None)


def test_what_is_older_than_the_window_is_in_the_totals_alone() -> None:
    meter = ChannelMeter(CATALOG)
    came(meter, T0, 7)
    assert app(meter, T0 + 24 * HOUR_MS).received == 7
    found = app(meter, T0 + 25 * HOUR_MS)
    assert (found.received, found.total_received) == (0, 7)


def test_lost_is_what_came_and_cannot_be_used() -> None:
    meter = ChannelMeter(CATALOG)
    events = of_channel(some_events(random.Random(1), 10, T0), "app")
    meter.inputs([EventBatch.from_events(events, CATALOG)], T0, Decisions(counts={"duplicate": 3}))
    letter = RejectedEvent(T0, "app", DeadLetterReason.NOT_JSON, "payload 0", bytes(16), "no")
    meter.effects([letter, letter], (), T0)
    found = app(meter, T0)
    assert (found.received, found.seen, found.duplicates, found.dead) == (12, 7, 3, {"not_json": 2})
    assert (found.hours[-1].seen, found.hours[-1].lost) == (7, 5)


@pytest.mark.parametrize("seed", range(5))
def test_quantiles_of_lateness_are_those_of_sorting_but_for_the_width_of_a_class(seed: int) -> None:
    meter = ChannelMeter(CATALOG)
    events = of_channel(some_events(random.Random(seed), 700, T0), "app")
    meter.inputs([EventBatch.from_events(events, CATALOG)], T0, NOTHING)
    late = np.maximum([event.received_ms - event.time_ms for event in events], 0)
    found = app(meter, T0)
    assert found.lateness_max_ms == late.max()
    for share, said in ((0.5, found.lateness_p50_ms), (0.99, found.lateness_p99_ms)):
        exact = int(np.quantile(late, share, method="inverted_cdf"))
        assert said is not None
        assert exact <= said <= max(1.0, 1.19 * exact)


def test_fields_are_those_of_the_types_that_came() -> None:
    meter = ChannelMeter(CATALOG)
    events = [event for event in some_events(random.Random(9), 80, T0) if event.type == "Viewed"]
    events = of_channel(events, "app")
    meter.inputs([EventBatch.from_events(events, CATALOG)], T0, NOTHING)
    found = {entry.field: entry for entry in app(meter, T0).fields}
    assert list(found) == ["id", "price", "new"]
    assert found["id"].required
    for name, entry in found.items():
        assert entry.events == len(events)
        assert entry.missing == sum(name not in event.properties for event in events)


def test_what_belongs_to_no_declared_channel_is_shown_apart() -> None:
    meter = ChannelMeter(CATALOG)
    letter = RejectedEvent(T0, "gone", DeadLetterReason.NOT_JSON, "payload 0", bytes(16), "no")
    meter.effects([letter], (), T0)
    came(meter, T0, 1)
    assert unplaced(meter, CATALOG.channels) == {"not_json": 1}
    assert unplaced(meter, (*CATALOG.channels, "gone")) == {}


def test_transfers_are_those_of_the_last_seven_days() -> None:
    meter, lines = ChannelMeter(CATALOG), list[bytes]()
    log = AuditLog(lines.append, key=bytes(range(32)))
    log.append("transfer", b"p", T0, {"allowed": True, "reason": "domestic"})
    log.append("transfer", b"p", T0, {"allowed": False, "reason": "expired"})
    meter.effects((), lines[:1], T0)
    meter.effects((), lines[1:], T0 + HOUR_MS)

    def at(hours: int) -> tuple[dict[str, int], dict[str, int], float | None]:
        found = transfer_health(meter, T0 + hours * HOUR_MS, audit_lines=2, audit_checked=2, audit_broken="")
        assert (found.total_allowed, found.total_refused) == ({"domestic": 1}, {"expired": 1})
        return found.allowed, found.refused, found.pass_rate

    assert at(1) == ({"domestic": 1}, {"expired": 1}, 0.5)
    assert at(24 * 7 - 1) == ({"domestic": 1}, {"expired": 1}, 0.5)
    assert at(24 * 7) == ({}, {"expired": 1}, 0.0)
    assert at(24 * 7 + 1) == ({}, {}, None)


def test_an_expectation_of_an_unknown_channel_is_refused() -> None:
    with pytest.raises(InvalidArgument, match="expected='fax' must name a declared channel; use one of: app"):
        check_expected({"fax": 1.0}, CATALOG)


@pytest.mark.parametrize("number", [0, -1.0, float("nan"), float("inf"), True])
def test_an_expectation_must_be_a_number_above_zero(number: float) -> None:
    with pytest.raises(InvalidArgument, match=r"expected\['app'\]=.* must be above 0 events per hour"):
        check_expected({"app": number}, CATALOG)
