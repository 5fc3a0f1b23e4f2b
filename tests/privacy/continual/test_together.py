"""From rows of customers to published totals: bounding, limiter, ledger, noise and file in one chain."""

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dayfly.privacy.accounting import cost_of
from dayfly.privacy.bounding import Contribution, bounded_group_by
from dayfly.privacy.continual import (
    Participation,
    ParticipationLimiter,
    RunningTotals,
    StreamFile,
    StreamPlan,
)
from dayfly.privacy.errors import BudgetExceeded
from dayfly.privacy.ledger import Account, Ledger, Limit, Spend
from dayfly.privacy.noise import OpenDpNoise

from .noises import Recording, Script, SeededNoise

Rows = list[list[tuple[int, int, int]]]

PART = Participation(magnitude=9, steps=2, min_separation=2, series=2)
BOUNDS = Contribution(l0=PART.series, sum_lower=-3, sum_upper=PART.magnitude)
rows = st.lists(
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3), st.integers(-50, 50)), max_size=8),
    min_size=5,
    max_size=5,
)


def increments(stream: Rows) -> np.ndarray:
    """Bounded sums of each step, from (customer, series, value) rows."""
    limiter, found = ParticipationLimiter(PART), []
    for step, batch in enumerate(stream):
        table = np.array(batch, np.int64).reshape(-1, 3)
        kept = table[limiter.admit(step, np.ascontiguousarray(table[:, 0]))]
        customers, series, values = (np.ascontiguousarray(column) for column in kept.T)
        salt = step.to_bytes(16, "big")
        found.append(bounded_group_by(customers, series, values, 4, BOUNDS, salt=salt).sums)
    return np.array(found)


@given(stream=rows)
def test_one_customer_moves_the_increments_only_within_the_participation_bounds(stream: Rows) -> None:
    without = [[row for row in batch if row[0] != 0] for batch in stream]
    moved = np.abs(increments(stream) - increments(without))
    steps = np.flatnonzero(moved.any(axis=1))
    assert len(steps) <= PART.steps
    assert np.all(np.diff(steps) >= PART.min_separation)
    assert np.all(np.count_nonzero(moved, axis=1) <= PART.series)
    assert moved.max(initial=0) <= PART.magnitude


@given(stream=rows, seed=st.integers(0, 1_000))
def test_one_customer_moves_the_centres_no_further_than_the_sensitivity(stream: Rows, seed: int) -> None:
    plan = StreamPlan.running(4, 5, participation=PART)
    published = np.random.default_rng(seed).integers(-(2**40), 2**40, (5, 4))
    without = [[row for row in batch if row[0] != 0] for batch in stream]
    centres = []
    for data in (stream, without):
        script, totals = Script(published), RunningTotals(plan, Fraction(1))
        for step, added in enumerate(increments(data)):
            totals.publish(step, added, script)
        centres.append(np.array(script.centres, dtype=object))
    assert np.sum((centres[0] - centres[1]) ** 2) <= plan.l2_squared


def test_the_loss_that_a_reader_can_see_is_on_average_what_was_paid() -> None:
    """The log-likelihood ratio of what was published has mean rho and variance 2 rho for the worst neighbour."""
    series, rho = 1_500, Fraction(1, 2)
    plan = StreamPlan.running(series, 24, participation=Participation(steps=2, min_separation=5))
    scale = plan.scale(rho)
    kept, stream = Recording(OpenDpNoise()), RunningTotals(plan, scale)
    for step in range(24):
        stream.publish(step, np.full(series, 10), kept)
    script, neighbour = Script(kept.drawn), RunningTotals(plan, scale)
    for step in range(24):
        neighbour.publish(step, np.full(series, 11 if step in (0, 5) else 10), script)
    drawn = np.array(kept.drawn, np.float64)
    away = (drawn - np.array(script.centres)) ** 2 - (drawn - np.array(kept.centres)) ** 2
    loss = away.sum(axis=0) / (2 * float(scale) ** 2)
    assert loss.mean() == pytest.approx(float(rho), abs=5 * (2 * float(rho) / series) ** 0.5)
    assert loss.var() == pytest.approx(2 * float(rho), rel=0.2)


def test_a_stream_is_paid_once_and_goes_on_without_paying(tmp_path: Path) -> None:
    plan = StreamPlan.running(2, 24)
    scale = plan.scale(Fraction(1, 2))
    spend = Spend(
        data_set="orders",
        analyst="ann",
        purpose="dashboards",
        cost=cost_of(plan.loss(scale)),
        what="orders by shop, running, a day of hours",
        release_id=b"orders by shop 2026-11-23",
    )
    limit = Limit(rho=Fraction(3, 4))
    with Ledger.open(tmp_path / "budget.db", now_ms=lambda: 1_800_000_000_000, create=True) as ledger:
        ledger.declare(Account("data_set", "orders", limit))
        ledger.declare(Account("analyst", "ann", limit))
        ledger.declare(Account("purpose", "dashboards", limit))
        assert ledger.spend(spend).fresh
        StreamFile.create(tmp_path / "stream", RunningTotals(plan, scale, name="orders by shop")).close()
        for step in range(24):
            with StreamFile.open(tmp_path / "stream", published_steps=step) as file:
                file.publish(step, np.array([3, 4]), SeededNoise(step))
        left = ledger.remaining("data_set", "orders").left
        assert Fraction(1, 4) <= left < Fraction(1, 4) + Fraction(1, 1_000)
        second = Spend(
            data_set="orders",
            analyst="ann",
            purpose="dashboards",
            cost=spend.cost,
            what="the same again",
            release_id=b"another id",
        )
        with pytest.raises(BudgetExceeded, match="must"):
            ledger.spend(second)
