"""Processes that kill themselves before or after each statement of making a ledger, declaring accounts and spending.

`python -m tests.privacy.ledger.dying [--made]` prints how many died. Run in a process of its own, because it forks.
"""

import itertools
import os
import shutil
import signal
import sqlite3
import sys
import tempfile
from fractions import Fraction
from pathlib import Path
from typing import Any

from dayfly.privacy.ledger import Ledger

from .support import declare, open_ledger, spend

__all__ = ["die_at_every_statement"]

EPSILON = Fraction(1, 3)


class Dying:
    """A connection of a process that dies at its `at`-th statement, whichever connection runs it."""

    count = 0
    at = 0
    before = True

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    def execute(self, sql: str, *values: Any) -> Any:
        """Run a statement, unless the process dies first."""
        Dying.count += 1
        if Dying.count == Dying.at and Dying.before:
            os.kill(os.getpid(), signal.SIGKILL)
        result = self._inner.execute(sql, *values)
        if Dying.count == Dying.at:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


def asks(ledger: Ledger) -> bool:
    """The spend of every process here, under one release id."""
    return ledger.spend(spend(EPSILON, release_id=b"one release")).fresh


def live(folder: Path, at: int, *, before: bool) -> None:
    """Make, declare and spend; leave a file behind as soon as there is a receipt."""
    connect = sqlite3.connect

    def connecting(path: Any, **options: Any) -> Any:
        inner = connect(path, **options)
        return inner if path == ":memory:" else Dying(inner)

    sqlite3.connect = connecting  # type: ignore[assignment]
    Dying.at, Dying.before = at, before
    ledger = open_ledger(folder / "budget.db")
    declare(ledger)
    asks(ledger)
    (folder / "holds").touch()
    ledger.head()
    ledger.close()
    os._exit(0)


def after(folder: Path) -> tuple[bool, bool]:
    """What the dead left: whether they held a receipt, and whether the ledger has the spend. Then the same is asked again."""
    with open_ledger(folder / "budget.db") as ledger:
        ledger.verify()
        declare(ledger)
        held, spent = (folder / "holds").exists(), bool(ledger.history())
        assert spent or not held
        assert asks(ledger) is not spent
        for scope, name in (("data_set", "orders"), ("analyst", "ann"), ("purpose", "marketing")):
            assert ledger.remaining(scope, name).spent == EPSILON  # type: ignore[arg-type]
        ledger.verify()
        return held, spent


def die_at_every_statement(folder: Path, *, made: bool) -> list[tuple[bool, bool]]:
    """One process per statement and side of it; what `after` says of each that died.

    Args:
        folder: For the ledgers, one per process.
        made: Whether each finds its ledger made and its accounts declared, or makes them.
    """
    told = []
    ready = folder / "ready"
    ready.mkdir()
    if made:
        with open_ledger(ready / "budget.db") as ledger:
            declare(ledger)
    for at, before in ((number // 2, number % 2 == 0) for number in itertools.count(2)):
        place = folder / f"{at}-{before}"
        shutil.copytree(ready, place)
        pid = os.fork()
        if pid == 0:
            try:
                live(place, at, before=before)
            finally:
                os._exit(1)
        status = os.waitpid(pid, 0)[1]
        told.append(after(place))
        if not os.WIFSIGNALED(status):
            assert status == 0
            return told[:-1]
    raise AssertionError


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as name:
        died = die_at_every_statement(Path(name), made="--made" in sys.argv)
        print(len(died), sum(held for held, _ in died), sum(spent for _, spent in died))  # noqa: T201 - a program
