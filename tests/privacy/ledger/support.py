"""What the tests of the ledger share: a clock moved by hand, and spends with as few words as possible."""

import itertools
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

from dayfly.privacy.ledger import Account, Amounts, Ledger, Limit, Scope, Spend

NOW_MS = 1_800_000_000_000
_numbers = itertools.count(1)


@dataclass
class Clock:
    """Says what it was set to."""

    now_ms: int = NOW_MS

    def __call__(self) -> int:
        return self.now_ms


class FailingConnection:
    """Stands before a connection and fails one statement as a full disk does."""

    def __init__(self, inner: Any, statement: str) -> None:
        self._inner = inner
        self._statement = statement

    def execute(self, sql: str, *values: Any) -> Any:
        if sql.startswith(self._statement):
            error = sqlite3.OperationalError("database or disk is full")
            error.sqlite_errorcode = sqlite3.SQLITE_FULL
            raise error
        return self._inner.execute(sql, *values)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


def cost(epsilon: Any = Fraction(1, 10), *, rho: Any = None, delta: Any = Fraction(0)) -> Amounts:
    """A cost; rho follows from epsilon unless given."""
    implied = epsilon * epsilon / 2 if rho is None and epsilon is not None else rho
    return Amounts(epsilon, implied, delta)


def spend(
    epsilon: Any = Fraction(1, 10),
    *,
    rho: Any = None,
    delta: Any = Fraction(0),
    data_set: str = "orders",
    analyst: str = "ann",
    purpose: str = "marketing",
    what: str = "sha256:count",
    release_id: bytes | None = None,
) -> Spend:
    """A spend under a new release id."""
    return Spend(
        data_set=data_set,
        analyst=analyst,
        purpose=purpose,
        cost=cost(epsilon, rho=rho, delta=delta),
        what=what,
        release_id=next(_numbers).to_bytes(16) if release_id is None else release_id,
    )


def declare(ledger: Ledger, limit: Limit | None = None, **changes: Any) -> None:
    """Accounts for `spend`, all with one limit."""
    for scope, name in (("data_set", "orders"), ("analyst", "ann"), ("purpose", "marketing")):
        ledger.declare(Account(_scope(scope), name, limit or Limit(epsilon=Fraction(1)), **changes))


def open_ledger(path: Path, **changes: Any) -> Ledger:
    """The ledger at `path`, made if absent."""
    return Ledger.open(path, **{"now_ms": Clock(), "create": True, **changes})


@contextmanager
def opened(path: Path, **changes: Any) -> Iterator[Ledger]:
    """`open_ledger`, closed at the end."""
    with open_ledger(path, **changes) as ledger:
        yield ledger


@contextmanager
def surgery(path: Path) -> Iterator[sqlite3.Connection]:
    """The file without its triggers, to change what nobody may change; the triggers are put back."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        triggers = connection.execute("SELECT name, sql FROM sqlite_master WHERE type = 'trigger'").fetchall()
        for name, _ in triggers:
            connection.execute(f"DROP TRIGGER {name}")
        yield connection
        for _, sql in triggers:
            connection.execute(sql)
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def _scope(text: str) -> Scope:
    assert text in ("data_set", "analyst", "purpose")
    return text  # type: ignore[return-value]  # the assertion says so
