"""What follows from an answer, and how long is waited."""

from datetime import UTC, datetime
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dayfly.engine.delivery.outcomes import Outcome, from_status, retry_after_ms
from dayfly.engine.delivery.schedule import Backoff

from .support import NOW, middle


@pytest.mark.parametrize(
    ("status", "retry_after", "outcome"),
    [
        (200, None, Outcome.DELIVERED),
        (204, None, Outcome.DELIVERED),
        (299, None, Outcome.DELIVERED),
        (199, None, Outcome.FAILED),
        (300, None, Outcome.FAILED),
        (301, None, Outcome.FAILED),
        (400, None, Outcome.REFUSED),
        (401, "5", Outcome.REFUSED),
        (404, None, Outcome.REFUSED),
        (410, None, Outcome.GONE),
        (429, None, Outcome.FAILED),
        (429, "7", Outcome.THROTTLED),
        (429, "soon", Outcome.FAILED),
        (499, None, Outcome.REFUSED),
        (500, "7", Outcome.FAILED),
        (503, None, Outcome.FAILED),
        (503, "7", Outcome.THROTTLED),
    ],
)
def test_a_status_decides(status: int, retry_after: str | None, outcome: Outcome) -> None:
    result = from_status(status, retry_after, now_ms=NOW)
    assert result.outcome is outcome
    assert result.reason == f"http_{status}"
    assert result.reached
    assert result.wait_ms == (7_000 if outcome is Outcome.THROTTLED else 0)


@pytest.mark.parametrize(
    ("value", "wait_ms"),
    [
        (None, None),
        ("", None),
        ("0", 0),
        (" 120 ", 120_000),
        ("3600", 3_600_000),
        ("3601", 3_600_000),
        ("9" * 400, 3_600_000),
        ("-1", None),
        ("1.5", None),
        ("²", None),
        ("tomorrow", None),
        (format_datetime(datetime.fromtimestamp(NOW / 1000 + 90, UTC), usegmt=True), 90_000),
        (format_datetime(datetime.fromtimestamp(NOW / 1000 - 90, UTC), usegmt=True), 0),
        ("Fri, 15 Jan 2027 08:01:00 -0000", 60_000),
        ("Fri, 31 Dec 9999 23:59:59 GMT", 3_600_000),
        ("Fri, 31 Dec 99999 23:59:59 GMT", None),
    ],
)
def test_retry_after_is_seconds_or_a_date(value: str | None, wait_ms: int | None) -> None:
    assert retry_after_ms(value, now_ms=NOW) == wait_ms


@given(st.text(max_size=60))
def test_any_retry_after_is_read_or_ignored(value: str) -> None:
    wait_ms = retry_after_ms(value, now_ms=NOW)
    assert wait_ms is None or 0 <= wait_ms <= 3_600_000


def test_the_schedule_is_the_one_of_fragments_and_its_last_delay_repeats() -> None:
    backoff = Backoff()
    delays = [backoff.delay_ms(attempts, middle) for attempts in range(9)]
    assert delays == [0, 1_000, 5_000, 30_000, 120_000, 300_000, 600_000, 600_000, 600_000]


@given(st.integers(0, 40), st.floats(0, 1, exclude_max=True))
def test_jitter_spreads_by_a_fifth_either_way(attempts: int, drawn: float) -> None:
    backoff = Backoff()
    written = backoff.delay_ms(attempts, middle)
    delay_ms = backoff.delay_ms(attempts, lambda: drawn)
    assert round(written * 0.8) <= delay_ms <= round(written * 1.2)


def test_rests_double_up_to_their_bound() -> None:
    backoff = Backoff()
    assert [backoff.rest_after_ms(rests, middle) for rests in (0, 1, 2, 3, 1_000)] == [
        10_000,
        20_000,
        40_000,
        60_000,
        60_000,
    ]
