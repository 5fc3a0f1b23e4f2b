"""The budget ledger: a loss is on disk before its noise is drawn, and nothing ever gives it back.

Proof note.
    *Claim.* Whatever crashes and whoever else spends: (1) each loss that could have been seen is in the ledger; (2) no account
    is ever above its limit; (3) an entry once committed is never changed.
    *Precondition.* Callers draw noise only after `Ledger.spend` returned a fresh receipt. The disk keeps what it
    reported as synced. The file is local (SQLite's locks do not hold on network file systems) and changed through this class.
    *Argument.* (1) `spend` returns after SQLite's commit returned, which under WAL with ``synchronous=FULL`` is after the entry
    was synced; there is no operation that lowers a total, hence no refund to be replayed by accident. A crash before the
    commit leaves no entry and no receipt, so no noise. A crash, or a failing disk, during it leaves an entry or none; if it
    leaves one, the budget is spent for an answer that nobody got: the error is on the safe side. (2) Reading the totals,
    the decision and the new entry are one ``BEGIN IMMEDIATE`` transaction; SQLite runs those one after another, among
    threads and processes alike, so every decision sees all earlier spends; `charge` never goes above a limit, and an entry
    charges all its accounts or is not written. (3) Triggers refuse changes, and the chain of digests shows what circumvented them.

What can be detected, and what cannot.
    - An entry edited, removed from the middle, reordered or inserted: by `Ledger.verify`; at once, if it is the last one or the
      newest of an account that is charged. A file cut short or with damaged pages: when opened, or by `verify`.
    - The file, or the file without its ``-wal``, put back to an older copy: when opened, by the head file beside it. That file
      is not synced at each spend, so after a power cut the last moments before it may go unnoticed.
    - The whole folder put back, head file included: not from the folder itself, however one stores it. Only a head kept
      elsewhere shows it: `Receipt.head` travels with every result; pass the newest as `expected_head`.
    - A rewritten ledger with all digests recomputed, by somebody who may write the file and the head file: as the line before.
    - A clock set ahead renews budgets early; nothing in the ledger can tell. Set back again, it is refused until it has caught up.
"""

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final, Self

from dayfly.privacy._check import not_negative
from dayfly.privacy.errors import AccountConflict, ClockSteppedBack, InvalidArgument, LedgerClosed

from . import opening, reports, walk
from .accounts import Account, Remaining, Scope, charged_amounts, told
from .anchor import Anchor
from .book import Book, Held
from .entries import Entry, Head
from .file import LedgerFile
from .values import Odometer, Receipt, Spend, Spending

__all__ = ["Ledger"]


class Ledger:
    """Budgets, and every spend against them. Made by `Ledger.open`; for any number of threads.

    Several processes may open one ledger; each sees the truth at every call. A forked child opens it anew.

    Guarantees:
        See the module's proof note: a spend is durable when it returns, no account exceeds its limit, nothing is refunded.
        Entries hold no data of customers, so the erasure of a person changes no budget.
    """

    def __init__(
        self, file: LedgerFile, anchor: Anchor, head: Head, now_ms: Callable[[], int], slack_ms: int
    ) -> None:
        self._file: Final = file
        self._anchor: Final = anchor
        self._now_ms: Final = now_ms
        self._slack_ms: Final = slack_ms
        self._lock: Final = threading.Lock()
        self._pid: Final = os.getpid()
        self._book: Final = Book(file, head)
        self._closed = False

    @classmethod
    def open(
        cls,
        path: Path | str,
        *,
        now_ms: Callable[[], int],
        create: bool = False,
        expected_head: Head | None = None,
        renew_anchor: bool = False,
        busy_seconds: float = 10.0,
        clock_slack_ms: int = 2_000,
        random_bytes: Callable[[int], bytes] = os.urandom,
    ) -> "Ledger":
        """Open a ledger, checking its end; the time this takes does not grow with its history.

        Args:
            path: Of the SQLite file. The head file beside it is called the same with ``.head`` added.
            now_ms: The clock (ms UTC), read while the ledger is locked.
            create: Make it if there is none.
            expected_head: A head that it once had, such as the newest `Receipt.head` you kept; it must still hold it.
            renew_anchor: Begin a new head file, after the old one was lost and you checked the ledger otherwise.
            busy_seconds: How long to wait for other writers.
            clock_slack_ms: How far the clock may be behind the newest entry; time then stands still until it caught up.
            random_bytes: Draws the identity of a new ledger.

        Raises:
            LedgerMissing: there is none, and `create` is false.
            LedgerForeign, LedgerVersion, LedgerDamaged, LedgerRolledBack: it cannot be trusted; see each.
            LedgerUnwritable, LedgerBusy: it cannot be written, or not now.
        """
        not_negative(clock_slack_ms=clock_slack_ms)
        file, anchor, head = opening.open_files(
            Path(path),
            create=(lambda: opening.new_genesis(now_ms(), random_bytes(16))) if create else None,
            expected=expected_head,
            renew_anchor=renew_anchor,
            busy_seconds=busy_seconds,
        )
        return cls(file, anchor, head, now_ms, clock_slack_ms)

    def declare(self, account: Account) -> None:
        """Open an account; an equal one that stands already is left as it is.

        It counts from now on: what was spent before, under accounts that stood then, is not in it. So declare the data set's first, whose
        limit is the promise to its customers, and a purpose below another whenever it is needed.

        Raises:
            AccountConflict: one stands with another limit or period.
        """
        with self._changing() as tail:
            held = self._book.held(account.scope, account.name)
            if held is not None and held.account != account:
                raise AccountConflict(
                    f"account {told(account)} must equal what is declared, {told(held.account)} with "
                    f"period_ms={held.account.period_ms} epoch_ms={held.account.epoch_ms}; call amend to change its limit"
                )
            if held is None:
                self._book.append_account(account, None, self._time(tail))

    def amend(self, account: Account) -> None:
        """Change the limit of an account; what was spent stays spent.

        Raises:
            AccountMissing: there is none of that scope and name.
            AccountConflict: its period or epoch differs, which would renew it at another time, or its unit, in which it was spent.
        """
        with self._changing() as tail:
            held = self._book.must_hold(account.scope, account.name)
            _must_amend(held.account, account)
            if held.account != account:
                self._book.append_account(account, held.id, self._time(tail))

    def spend(self, spend: Spend) -> Receipt:
        """Charge a loss to every account that covers it, durably, or to none. Draw the noise afterwards.

        A release id that was spent before returns its receipt again, with `fresh` false, and spends nothing.

        Raises:
            InvalidArgument: the cost is no exact, consistent, positive loss.
            BudgetExceeded, EpsilonUnbounded, AccountMissing: an account says no.
            ReleaseConflict: the release id stands for another spend.
            ClockSteppedBack: the clock is behind the newest entry.
            LedgerError: the file cannot be trusted or written; see the tree in `dayfly.privacy.errors`.

        Guarantees:
            When it returns, the spend is synced to disk. When it raises, the caller must release nothing; the ledger is
            as before (after an error of the disk during the commit it may hold the spend: never less than was seen).
        """
        asked = charged_amounts(spend.cost)
        with self._changing() as tail:
            earlier = self._book.earlier(spend, asked)
            if earlier is not None:
                return earlier
            return self._book.append_spend(spend, self._book.plan(spend, asked, self._time(tail)))

    def check(self, spend: Spend) -> None:
        """Raise what `spend` would raise now; change nothing.

        Guarantees:
            Reads totals only. Another spend may come between this and `spend`, which decides anew.
        """
        asked = charged_amounts(spend.cost)
        with self._reading() as tail:
            if self._book.earlier(spend, asked) is None:
                self._book.plan(spend, asked, self._time(tail))

    def remaining(self, scope: Scope, name: str) -> Remaining:
        """Where an account stands now.

        Raises:
            AccountMissing: there is none of that scope and name.
        """
        with self._reading() as tail:
            return self._remaining(self._book.must_hold(scope, name), tail)

    def accounts(self) -> list[Remaining]:
        """All accounts, by scope and name, as they stand now."""
        with self._reading() as tail:
            names = self._file.rows("SELECT DISTINCT scope, name FROM accounts ORDER BY scope, name")
            return [self._remaining(self._book.must_hold(scope, name), tail) for scope, name in names]

    def history(
        self, *, scope: Scope | None = None, name: str | None = None, newest: int | None = None
    ) -> list[Spending]:
        """Who spent what on which query, oldest first.

        Args:
            scope: With `name`: only spends that charged this account.
            name: See `scope`.
            newest: At most so many, the newest ones.

        Raises:
            InvalidArgument: one of `scope` and `name` without the other, or `newest` below zero.
            AccountMissing: there is no such account.
        """
        if (scope is None) != (name is None):
            raise InvalidArgument(f"scope={scope!r} name={name!r} must come together; pass both or neither")
        not_negative(newest=newest or 0)
        with self._reading():
            account = None
            if scope is not None and name is not None:
                account = self._book.must_hold(scope, name).id
            return reports.history(self._file, account=account, newest=newest)

    def odometer(self, by: Scope) -> list[Odometer]:
        """What all spends together lost, per data set, analyst or purpose; reads the whole history."""
        with self._reading():
            return reports.odometer(self._file, by)

    def head(self) -> Head:
        """Where the ledger stands; keep it elsewhere, and a rollback is noticed when it is passed as `expected_head`."""
        with self._reading():
            return self._book.head

    def verify(self) -> Head:
        """Walk the whole chain and add everything up again; others may spend meanwhile.

        Returns:
            The head that was reached.

        Raises:
            LedgerDamaged: the first entry that does not hold, or damage of the file.
            LedgerRolledBack: it lacks what this process saw of it.
        """
        with self._usable():
            file, seen = self._file.another(), self._book.head
        with closing(file), file.reading():
            Book(file, seen).refresh()
            return walk.verify(file)

    def close(self) -> None:
        """Close; further calls raise. A forked child's copy is only forgotten."""
        if self._pid != os.getpid():
            return
        with self._lock:
            if not self._closed:
                self._closed = True
                self._file.close()
                self._anchor.settle()
                self._anchor.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @contextmanager
    def _usable(self) -> Iterator[None]:
        if self._pid != os.getpid():
            raise LedgerClosed(
                f"pid={os.getpid()} must be {self._pid}, which opened this ledger; open it again in the forked child"
            )
        with self._lock:
            if self._closed:
                raise LedgerClosed("ledger=closed must be open; open it again")
            yield

    @contextmanager
    def _changing(self) -> Iterator[Entry]:
        """The newest entry; what is appended within is durable when the block ends."""
        with self._usable():
            before = self._book.head
            try:
                with self._file.changing():
                    yield self._book.refresh()
            except BaseException:
                self._book.back_to(before)
                raise
            if self._book.head != before:
                self._anchor.note(self._book.head)

    @contextmanager
    def _reading(self) -> Iterator[Entry]:
        with self._usable(), self._file.reading():
            yield self._book.refresh()

    def _remaining(self, held: Held, tail: Entry) -> Remaining:
        at_ms = max(self._now_ms(), tail.at_ms)
        return Remaining.of(held.account, self._book.standing(held.id), at_ms)

    def _time(self, tail: Entry) -> int:
        """Now, and never before the newest entry."""
        latest_ms = tail.at_ms
        now = self._now_ms()
        if type(now) is not int:
            raise InvalidArgument(f"now_ms={now!r} must be an int; pass a clock of ms UTC")
        if now < latest_ms - self._slack_ms:
            raise ClockSteppedBack(
                f"now_ms={now} must be >= {latest_ms}, when the newest entry was written; set the clock right, or wait until it has caught up",
                now_ms=now,
                latest_ms=latest_ms,
            )
        return max(now, latest_ms)


def _must_amend(before: Account, after: Account) -> None:
    for name, old, new in (
        ("unit", before.limit.unit, after.limit.unit),
        ("period_ms", before.period_ms, after.period_ms),
        ("epoch_ms", before.epoch_ms, after.epoch_ms),
    ):
        if old != new:
            raise AccountConflict(
                f"{name}={new!r} must stay {old!r} in the account {before.scope}={before.name!r}; change the amount only"
            )
