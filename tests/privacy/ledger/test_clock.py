"""Renewal and time: periods by a stated epoch, and a clock that steps back."""

from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dayfly.privacy.errors import BudgetExceeded, ClockSteppedBack
from dayfly.privacy.ledger import DAY_MS, WEEK_MS, Account, Limit
from dayfly.privacy.ledger.accounts import Standing

from .support import NOW_MS, Clock, declare, opened, spend

MONDAY = 1_800_230_400_000  # 2027-01-18T00:00:00Z, by `date -u -d 2027-01-18 +%s`
HOUR_MS = 3_600_000


def test_a_weekly_budget_renews_at_midnight_from_sunday_to_monday(tmp_path: Path) -> None:
    clock = Clock(MONDAY - 1)
    with opened(tmp_path / "budget.db", now_ms=clock) as ledger:
        declare(ledger, period_ms=WEEK_MS)
        ledger.spend(spend(Fraction(1)))
        with pytest.raises(BudgetExceeded, match=rf"or wait until {MONDAY} ms UTC, when it renews") as caught:
            ledger.spend(spend(Fraction(1, 100)))
        assert caught.value.renews_at_ms == MONDAY
        clock.now_ms = MONDAY
        receipt = ledger.spend(spend(Fraction(3, 4)))
        assert receipt.remaining[0].left == Fraction(1, 4)
        assert receipt.remaining[0].ever == Fraction(7, 4)
        assert receipt.remaining[0].renews_at_ms == MONDAY + WEEK_MS
        clock.now_ms = MONDAY + WEEK_MS - 1
        with pytest.raises(BudgetExceeded):
            ledger.spend(spend(Fraction(1, 2)))
        clock.now_ms = MONDAY + 5 * WEEK_MS
        assert ledger.remaining("analyst", "ann").spent == 0
        ledger.verify()


def test_periods_begin_at_the_epoch_of_the_account(tmp_path: Path) -> None:
    clock = Clock(MONDAY)
    with opened(tmp_path / "budget.db", now_ms=clock) as ledger:
        declare(ledger, period_ms=DAY_MS, epoch_ms=MONDAY + 6 * HOUR_MS)
        assert ledger.remaining("analyst", "ann").renews_at_ms == MONDAY + 6 * HOUR_MS
        ledger.spend(spend(Fraction(1)))
        clock.now_ms = MONDAY + 6 * HOUR_MS - 1
        with pytest.raises(BudgetExceeded):
            ledger.spend(spend())
        clock.now_ms += 1
        ledger.spend(spend(Fraction(1)))


@given(st.integers(-(2**50), 2**50), st.integers(1, 2**45), st.integers(-(2**50), 2**50))
def test_every_instant_lies_in_the_period_that_it_is_said_to(
    at_ms: int, period_ms: int, epoch_ms: int
) -> None:
    account = Account("analyst", "ann", Limit(epsilon=Fraction(1)), period_ms=period_ms, epoch_ms=epoch_ms)
    end = account.renews_at(at_ms)
    assert end is not None
    assert end - period_ms <= at_ms < end
    assert (end - epoch_ms) % period_ms == 0
    assert account.period(end) == account.period(at_ms) + 1


def test_a_standing_is_never_emptied_by_an_earlier_period() -> None:
    standing = Standing(5, Fraction(1), Fraction(1, 9), Fraction(2), Fraction(2, 9))
    assert standing.at(4) == standing.at(5) == standing
    assert standing.at(6) == Standing(6, Fraction(0), Fraction(0), Fraction(2), Fraction(2, 9))


def test_a_budget_without_period_never_renews(tmp_path: Path) -> None:
    clock = Clock()
    with opened(tmp_path / "budget.db", now_ms=clock) as ledger:
        declare(ledger)
        ledger.spend(spend(Fraction(1)))
        clock.now_ms += 100 * 365 * DAY_MS
        with pytest.raises(BudgetExceeded) as caught:
            ledger.spend(spend())
        assert caught.value.renews_at_ms is None


def test_a_clock_that_steps_back_is_refused_and_renews_nothing(tmp_path: Path) -> None:
    clock = Clock(MONDAY + HOUR_MS)
    with opened(tmp_path / "budget.db", now_ms=clock) as ledger:
        declare(ledger, period_ms=WEEK_MS)
        ledger.spend(spend(Fraction(1)))
        before = ledger.head()
        clock.now_ms = MONDAY - HOUR_MS
        with pytest.raises(
            ClockSteppedBack,
            match=rf"now_ms={MONDAY - HOUR_MS} must be >= {MONDAY + HOUR_MS}, .*set the clock right",
        ) as caught:
            ledger.spend(spend())
        assert (caught.value.now_ms, caught.value.latest_ms) == (MONDAY - HOUR_MS, MONDAY + HOUR_MS)
        with pytest.raises(ClockSteppedBack):
            ledger.declare(Account("analyst", "bob", Limit(epsilon=Fraction(1))))
        assert ledger.remaining("analyst", "ann").left == 0
        assert ledger.remaining("analyst", "ann").as_of_ms == MONDAY + HOUR_MS
        assert ledger.head() == before
        clock.now_ms = MONDAY + 2 * HOUR_MS
        with pytest.raises(BudgetExceeded):
            ledger.spend(spend())


def test_a_small_step_back_stands_still_and_one_millisecond_more_is_refused(tmp_path: Path) -> None:
    clock = Clock(MONDAY)
    with opened(tmp_path / "budget.db", now_ms=clock, clock_slack_ms=500) as ledger:
        declare(ledger, period_ms=WEEK_MS)
        ledger.spend(spend(Fraction(1)))
        clock.now_ms = MONDAY - 500
        with pytest.raises(BudgetExceeded):
            ledger.spend(spend())
        clock.now_ms = MONDAY - 501
        with pytest.raises(ClockSteppedBack):
            ledger.spend(spend())


def test_entries_never_go_back_in_time(tmp_path: Path) -> None:
    clock = Clock()
    with opened(tmp_path / "budget.db", now_ms=clock) as ledger:
        declare(ledger)
        clock.now_ms = NOW_MS + 1_000
        ledger.spend(spend())
        clock.now_ms = NOW_MS
        assert ledger.spend(spend()).at_ms == NOW_MS + 1_000
        ledger.verify()


def test_the_clock_of_another_process_counts(tmp_path: Path) -> None:
    with opened(tmp_path / "budget.db") as one:
        declare(one)
        with opened(tmp_path / "budget.db", now_ms=Clock(NOW_MS + DAY_MS)) as other:
            other.spend(spend())
        with pytest.raises(ClockSteppedBack):
            one.spend(spend())
