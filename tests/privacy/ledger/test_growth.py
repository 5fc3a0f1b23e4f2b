"""Opening and spending do not grow with history: counted in instructions of SQLite's machine, not on a clock."""

import sqlite3
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from dayfly.privacy.ledger import GRID, Ledger, Limit

from .support import declare, open_ledger, opened, spend


class Counter:
    """Counts the instructions of every connection made while it stands."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = 0
        connect = sqlite3.connect

        def connecting(*arguments: Any, **options: Any) -> sqlite3.Connection:
            connection: sqlite3.Connection = connect(*arguments, **options)
            connection.set_progress_handler(self.tick, 1)
            return connection

        monkeypatch.setattr(sqlite3, "connect", connecting)

    def tick(self) -> int:
        self.count += 1
        return 0

    def of(self, call: Any, *arguments: Any) -> int:
        before = self.count
        call(*arguments)
        return self.count - before


def grow(ledger: Ledger, spends: int) -> None:
    """Without waiting for the disk, which is not what is counted here."""
    ledger._file.run("PRAGMA synchronous = OFF")
    for _ in range(spends):
        ledger.spend(spend(Fraction(1, 1009)))
    ledger._file.run("PRAGMA synchronous = FULL")


@pytest.mark.parametrize("spends", [1_000, pytest.param(10_000, marks=pytest.mark.slow)])
def test_opening_and_spending_cost_the_same_after_many_spends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spends: int
) -> None:
    counter = Counter(monkeypatch)
    path = tmp_path / "budget.db"
    with opened(path) as ledger:
        declare(ledger, Limit(epsilon=Fraction(10**6)))
        grow(ledger, 5)
        early = counter.of(ledger.spend, spend())
        early_check, early_left = (
            counter.of(ledger.check, spend()),
            counter.of(ledger.remaining, "analyst", "ann"),
        )
    early_open = counter.of(lambda: open_ledger(path).close())
    assert early > 50
    assert early_open > 50
    with opened(path) as ledger:
        grow(ledger, spends)
        assert counter.of(ledger.spend, spend()) <= 1.2 * early
        assert counter.of(ledger.check, spend()) <= 1.2 * early_check
        assert counter.of(ledger.remaining, "analyst", "ann") <= 1.2 * early_left
    assert counter.of(lambda: open_ledger(path).close()) <= 1.2 * early_open


def test_amounts_stop_growing_at_the_grid(tmp_path: Path) -> None:
    """Denominators are pairwise coprime, so the exact sum would have hundreds of digits."""
    path = tmp_path / "budget.db"
    primes = [n for n in range(1_000, 1_400) if all(n % d for d in range(2, 40))]
    with opened(path) as ledger:
        declare(ledger, Limit(epsilon=Fraction(10**6)))
        exact = Fraction(0)
        for prime in primes:
            exact += Fraction(1, prime)
            ledger.spend(spend(Fraction(1, prime)))
        spent = ledger.remaining("analyst", "ann").spent
        assert len(str(exact)) > 300
        assert len(str(spent)) < 110
        assert exact < spent < exact + Fraction(len(primes), GRID)
        ledger.verify()
