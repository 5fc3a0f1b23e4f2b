"""The budget: what a spend costs with a long history, and what a plan fixed ahead is worth."""

import tempfile
import time
from fractions import Fraction
from pathlib import Path
from typing import Final

from dayfly.privacy.accounting import Cost, LaplaceLoss, epsilon_of_rho
from dayfly.privacy.accounting.plans import Plan
from dayfly.privacy.ledger import Account, Ledger, Limit, Scope, Spend

from .measuring import median
from .rows import Row, at_most

__all__ = ["bench_ledger", "run"]

SPENDS: Final = 10_000
GROWTH_BAR: Final = 1.5
QUERIES: Final = 100
EPSILON: Final = Fraction(1, 10)
DELTA: Final = Fraction(1, 1_000_000)
STEPS: Final = 100
"""Lattice steps of one customer: sums, not bare counts, whose coarse noise tells a little more."""

PLAN_BAR: Final = 4.70
NOW_MS: Final = 1_795_358_400_123
NAMES: Final[dict[Scope, str]] = {"data_set": "orders", "analyst": "ann", "purpose": "marketing"}


def run(*, quick: bool) -> list[Row]:
    """Two rows."""
    return [_history(SPENDS // 5 if quick else SPENDS), _plan()]


def bench_ledger(folder: Path) -> Ledger:
    """A new ledger with accounts that no bench can exhaust."""
    ledger = Ledger.open(folder / "budget.db", now_ms=lambda: NOW_MS, create=True)
    for scope, name in NAMES.items():
        ledger.declare(Account(scope, name, Limit(epsilon=Fraction(10**6), delta=Fraction(1, 2))))
    return ledger


def _history(spends: int) -> Row:
    cost = Cost(EPSILON, EPSILON**2 / 2, Fraction(0))
    with tempfile.TemporaryDirectory() as folder, bench_ledger(Path(folder)) as ledger:
        cpu, wall = [], []
        for number in range(spends):
            begin, begin_cpu = time.perf_counter_ns(), time.thread_time_ns()
            ledger.spend(
                Spend(
                    data_set="orders",
                    analyst="ann",
                    purpose="marketing",
                    cost=cost,
                    what="count",
                    release_id=number.to_bytes(16),
                )
            )
            wall.append(time.perf_counter_ns() - begin)
            cpu.append(time.thread_time_ns() - begin_cpu)
    part = spends // 10
    growth = median(cpu[-part:]) / median(cpu[:part])
    return Row(
        suite="sandbox",
        case=f"a spend after {spends:,} spends",
        measured=round(median(wall[-part:]) / 1e6, 3),
        unit="ms",
        peer="the same ledger when empty",
        ratio=round(growth, 2),
        note=f"durable; empty {median(wall[:part]) / 1e6:.3f} ms; the ratio is of CPU time, medians of {part:,}",
        **at_most(growth, GROWTH_BAR, "x"),
    )


def _plan() -> Row:
    plan = Plan.of([LaplaceLoss(STEPS / EPSILON, STEPS)] * QUERIES)
    begin = time.process_time()
    epsilon = plan.epsilon(DELTA)
    seconds = time.process_time() - begin
    converted = epsilon_of_rho(QUERIES * EPSILON**2 / 2, DELTA)
    return Row(
        suite="sandbox",
        case=f"{QUERIES} Laplace queries at epsilon {float(EPSILON):g}, delta {float(DELTA):g}, fixed ahead",
        measured=round(epsilon, 4),
        unit="epsilon",
        peer="zCDP, as OpenDP and Tumult compose",
        ratio=round(converted / epsilon, 3),
        note=f"zCDP {converted:.3f}, basic composition {float(QUERIES * EPSILON):g}; {seconds:.2f} CPU s",
        **at_most(epsilon, PLAN_BAR, "epsilon"),
    )
