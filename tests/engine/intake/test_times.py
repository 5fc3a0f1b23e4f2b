"""RFC 3339 times of the general path against `datetime`, and zones of naive ones."""

from datetime import UTC, datetime, timedelta, timezone
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dayfly.engine.errors import IntakeError
from dayfly.engine.intake.times import MAX_TIME_MS, MIN_TIME_MS, datetime_to_ms, rfc3339_to_ms

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MILLISECOND = timedelta(milliseconds=1)
offsets = st.integers(-23 * 60 - 59, 23 * 60 + 59).map(lambda minutes: timezone(timedelta(minutes=minutes)))


@given(st.datetimes(datetime(2, 1, 1), datetime(9998, 12, 31), timezones=offsets))  # noqa: DTZ001 - bounds are naive
def test_a_time_with_an_offset_is_that_of_datetime(moment: datetime) -> None:
    assert rfc3339_to_ms(moment.isoformat()) == (moment - EPOCH) // MILLISECOND


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1970-01-01T00:00:00.0009Z", 0),
        ("1969-12-31T23:59:59.9999Z", -1),
        ("1970-01-01 00:00:00z", 0),
        ("1970-01-01t08:00:00+0800", 0),
        ("1970-01-01T00:00:00-00:00", 0),
        ("0001-01-01T00:00:00Z", MIN_TIME_MS),
        ("9999-12-31T23:59:59.999999999Z", MAX_TIME_MS),
        ("1970-01-01T00:00:00." + "0" * 60 + "Z", 0),
    ],
)
def test_forms_at_the_edges_are_read(text: str, expected: int) -> None:
    assert rfc3339_to_ms(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "2026-03-10",
        "2026-03-10T12:00:00",
        "2026-03-10T12:00Z",
        "2026-03-10T12:00:00.Z",
        "2026-02-30T12:00:00Z",
        "2026-03-10T24:00:00Z",
        "2026-03-10T23:59:60Z",
        "2026-03-10T12:00:00+24:00",
        "2026-03-10T12:00:00+08:60",
        "0001-01-01T00:00:00+00:01",
        "9999-12-31T23:59:59-00:01",
        "２０２６-03-10T12:00:00Z",
        "2026-03-10T12:00:00Z ",
        "20260310T120000Z",
        "2026-W11-2T12:00:00Z",
    ],
)
def test_other_forms_are_refused(text: str) -> None:
    with pytest.raises(IntakeError, match=r"due=<hidden> must be an RFC 3339 date-time") as caught:
        rfc3339_to_ms(text, place="due")
    assert caught.value.reason == "bad_time"


def test_the_earlier_of_a_repeated_hour_is_taken() -> None:
    moment = datetime(2024, 10, 27, 2, 30)  # noqa: DTZ001 - the zone is the argument under test
    summer = datetime(2024, 10, 27, 0, 30, tzinfo=UTC)
    assert datetime_to_ms(moment, zone=ZoneInfo("Europe/Prague")) == (summer - EPOCH) // MILLISECOND
