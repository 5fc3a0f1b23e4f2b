"""Checks of the budget ledger: nobody overspends, nothing is given back, and no rounding is in the analyst's favour."""

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from dayfly.privacy.errors import DayflyError
from dayfly.privacy.ledger import WEEK_MS, Account, Ledger, Limit, Spend
from dayfly.privacy.ledger.accounts import Scope
from dayfly.privacy.ledger.amounts import round_up

NOW_MS = 1_800_000_000_000
ACCOUNTS: tuple[tuple[Scope, str], ...] = (
    ("data_set", "orders"),
    ("analyst", "ann"),
    ("purpose", "marketing"),
)


class Loss(NamedTuple):
    """A cost that was not checked by anybody."""

    epsilon: Fraction | None
    rho: Fraction
    delta: Fraction = Fraction(0)


def spend(ledger: Ledger, epsilon: Fraction, number: int, *, delta: Fraction = Fraction(0)) -> bool:
    """Whether a spend was accepted as new."""
    cost = Loss(epsilon, epsilon * epsilon / 2, delta)
    name = number.to_bytes(16, "big")
    try:
        receipt = ledger.spend(
            Spend(data_set="orders", analyst="ann", purpose="marketing", cost=cost, what="q", release_id=name)
        )
    except DayflyError:
        return False
    return receipt.fresh


def opened(folder: str, now_ms: Callable[[], int], **limit: Fraction) -> Ledger:
    """A new ledger with three accounts that renew weekly."""
    ledger = Ledger.open(Path(folder) / "budget.db", now_ms=now_ms, create=True)
    for scope, name in ACCOUNTS:
        ledger.declare(Account(scope, name, Limit(**limit), period_ms=WEEK_MS))
    return ledger


def two_openers_share_one_budget() -> None:
    """Two handles on one file take turns; together they get ten tenths and no more."""
    with TemporaryDirectory() as folder, opened(folder, lambda: NOW_MS, epsilon=Fraction(1)) as first:
        with Ledger.open(Path(folder) / "budget.db", now_ms=lambda: NOW_MS) as second:
            accepted = [
                spend(ledger, Fraction(1, 10), 2 * turn + place)
                for turn in range(10)
                for place, ledger in enumerate((first, second))
            ]
        assert accepted == [True] * 10 + [False] * 10
        assert first.remaining("analyst", "ann").left == 0


def every_account_is_charged_and_can_refuse() -> None:
    """The smallest of the three limits decides, and a refusal charges nobody."""
    for tight, _ in ACCOUNTS:
        with TemporaryDirectory() as folder, opened(folder, lambda: NOW_MS, epsilon=Fraction(1)) as ledger:
            for scope, name in ACCOUNTS:
                amount = Fraction(1, 4) if scope == tight else Fraction(1)
                ledger.amend(Account(scope, name, Limit(epsilon=amount), period_ms=WEEK_MS))
            assert spend(ledger, Fraction(1, 5), 1)
            assert not spend(ledger, Fraction(1, 5), 2)
            assert all(ledger.remaining(*account).spent == Fraction(1, 5) for account in ACCOUNTS)


def delta_is_limited_too() -> None:
    """An account of delta 0 accepts no threshold."""
    with TemporaryDirectory() as folder, opened(folder, lambda: NOW_MS, epsilon=Fraction(9)) as ledger:
        assert not spend(ledger, Fraction(1), 1, delta=Fraction(1, 10**9))


def a_repeated_release_is_told_and_spends_nothing() -> None:
    """The same id again: no second charge, and no leave to draw new noise."""
    with TemporaryDirectory() as folder, opened(folder, lambda: NOW_MS, epsilon=Fraction(1)) as ledger:
        assert spend(ledger, Fraction(1, 2), 1)
        assert not spend(ledger, Fraction(1, 2), 1)
        assert ledger.remaining("analyst", "ann").spent == Fraction(1, 2)


def a_clock_set_back_renews_nothing() -> None:
    """A week is spent; then the clock goes back to the week before, and forth again."""
    now = [NOW_MS]
    with TemporaryDirectory() as folder, opened(folder, lambda: now[0], epsilon=Fraction(1)) as ledger:
        assert spend(ledger, Fraction(1), 1)
        accepted = []
        for number, at in enumerate((NOW_MS - WEEK_MS, NOW_MS, NOW_MS - 2 * WEEK_MS, NOW_MS + 1), start=2):
            now[0] = at
            accepted.append(spend(ledger, Fraction(1), number))
        assert not any(accepted)
        now[0] = NOW_MS + WEEK_MS
        assert spend(ledger, Fraction(1), 9)


def a_negative_loss_is_no_refund() -> None:
    """Nobody can give budget back by claiming to lose less than nothing."""
    with TemporaryDirectory() as folder, opened(folder, lambda: NOW_MS, epsilon=Fraction(1)) as ledger:
        assert spend(ledger, Fraction(1), 1)
        spend(ledger, Fraction(-1), 2)
        assert ledger.remaining("analyst", "ann").left == 0


def amounts_are_rounded_up() -> None:
    """In fractions: what is charged is never below the loss."""
    with TemporaryDirectory() as folder, opened(folder, lambda: NOW_MS, epsilon=Fraction(9)) as ledger:
        losses = [Fraction(1, prime) for prime in (43, 47, 53, 10**60 + 7)]
        assert all(round_up(loss) >= loss for loss in losses)
        assert all(spend(ledger, loss, number) for number, loss in enumerate(losses))
        assert ledger.remaining("analyst", "ann").spent >= sum(losses)


def a_spend_is_there_after_reopening() -> None:
    """Another opener of the file, after the first was dropped without being closed, sees the loss."""
    with TemporaryDirectory() as folder:
        ledger = opened(folder, lambda: NOW_MS, epsilon=Fraction(1))
        assert spend(ledger, Fraction(3, 4), 1)
        with Ledger.open(Path(folder) / "budget.db", now_ms=lambda: NOW_MS) as again:
            assert again.remaining("data_set", "orders").left == Fraction(1, 4)
        ledger.close()


def a_commit_is_synced() -> None:
    """What no test within one machine's memory can see, asked of SQLite: FULL (2) or EXTRA (3)."""
    with TemporaryDirectory() as folder, opened(folder, lambda: NOW_MS, epsilon=Fraction(1)) as ledger:
        ((level,),) = ledger._file.rows("PRAGMA synchronous")
        assert level >= 2
