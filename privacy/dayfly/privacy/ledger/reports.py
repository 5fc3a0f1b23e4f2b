"""What was spent, for people: the history, the odometer, and the rows of a table of budgets."""

from collections.abc import Iterator
from fractions import Fraction
from typing import TYPE_CHECKING, get_args

from dayfly.privacy.errors import InvalidArgument

from .accounts import Remaining, Scope
from .amounts import shown
from .entries import Spent, amounts_of, decode, release_of
from .file import LedgerFile
from .values import BudgetRow, Odometer, Spending

if TYPE_CHECKING:
    from .ledger import Ledger

__all__ = ["budget_rows", "history", "odometer"]

_ENTRIES = "SELECT seq, body, digest FROM entries"
_CHARGED = "SELECT seq, body, digest FROM charged CROSS JOIN entries USING (seq) WHERE account = ? ORDER BY charged.seq DESC"


def history(file: LedgerFile, *, account: int | None, newest: int | None) -> list[Spending]:
    """Spends, oldest first; see `Ledger.history`."""
    statement = f"{_ENTRIES} ORDER BY seq DESC" if account is None else _CHARGED
    found: list[Spending] = []
    for entry in _spends(file, statement, () if account is None else (account,)):
        if newest is not None and len(found) >= newest:
            break
        found.append(
            Spending(
                entry.seq,
                entry.at_ms,
                release_of(entry),
                entry.analyst,
                entry.data_set,
                entry.purpose,
                entry.what,
                amounts_of(entry),
            )
        )
    return found[::-1]


def odometer(file: LedgerFile, by: Scope) -> list[Odometer]:
    """Sums over all spends; see `Ledger.odometer`."""
    if by not in get_args(Scope):
        raise InvalidArgument(f"by={by!r} must be one of {get_args(Scope)}; choose one")
    zero = Fraction(0)
    sums: dict[str, Odometer] = {}
    for entry in _spends(file, f"{_ENTRIES} ORDER BY seq"):
        name, cost = getattr(entry, by), amounts_of(entry)
        before = sums.get(name, Odometer(name, 0, zero, zero, zero))
        sums[name] = Odometer(
            name,
            before.spends + 1,
            None if before.epsilon is None or cost.epsilon is None else before.epsilon + cost.epsilon,
            before.rho + cost.rho,
            before.delta + cost.delta,
        )
    return [sums[name] for name in sorted(sums)]


def budget_rows(ledger: "Ledger") -> list[BudgetRow]:
    """One row per account, by scope and name, as `dayfly sandbox budget` prints them."""
    return [_row(one) for one in ledger.accounts()]


def _row(one: Remaining) -> BudgetRow:
    limit = one.account.limit
    return BudgetRow(
        scope=one.account.scope,
        name=one.account.name,
        unit=limit.unit,
        limit=shown(limit.amount),
        spent=shown(one.spent),
        left=shown(one.left),
        share=min(1.0, float(one.spent / limit.amount)),
        delta_limit=shown(limit.delta),
        delta_left=shown(one.left_delta),
        ever=shown(one.ever),
        renews_at_ms=one.renews_at_ms,
    )


def _spends(file: LedgerFile, statement: str, values: tuple[object, ...] = ()) -> Iterator[Spent]:
    for seq, body, digest in file.each(statement, *values):
        entry = decode(seq, body, digest)
        if isinstance(entry, Spent):
            yield entry
