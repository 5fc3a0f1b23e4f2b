"""What a ledger's entries say, and how another one is added: no clock, no lock, within the transactions of its owner."""

from collections.abc import Iterator
from typing import NamedTuple

from dayfly.privacy.errors import ReleaseConflict

from . import opening
from .accounts import (
    Account,
    Amounts,
    Remaining,
    Scope,
    Standing,
    charge,
    covering,
    limit_text,
    missing,
)
from .amounts import written
from .entries import (
    Declared,
    Entry,
    Head,
    Spent,
    account_of,
    amounts_of,
    charge_of,
    encode,
    standing_of,
)
from .file import LedgerFile
from .values import Receipt, Spend

__all__ = ["Book", "Held", "Plan"]


class Held(NamedTuple):
    """An account in the ledger.

    Attributes:
        id: The number of its first entry.
        account: What its newest declaration says.
    """

    id: int
    account: Account


class Plan(NamedTuple):
    """A spend that every account accepts.

    Attributes:
        asked: What it costs.
        at_ms: When (ms UTC).
        charges: The accounts and where they stand after it.
    """

    asked: Amounts
    at_ms: int
    charges: list[tuple[Held, Standing]]


class Book:
    """The entries of one file.

    Args:
        file: In which a transaction is open at every call.
        head: The newest entry known.
    """

    def __init__(self, file: LedgerFile, head: Head) -> None:
        self._file = file
        self.head = head
        self._declared: dict[int, Held] = {}
        self._standings: dict[int, tuple[int, Standing]] = {}

    def refresh(self) -> Entry:
        """The newest entry, after checking that the file still holds what was seen of it last.

        Raises:
            LedgerDamaged, LedgerRolledBack: it was changed, or an older copy put in its place.
        """
        entry, head = opening.newest(self._file)
        opening.must_hold(self._file, head, self.head, "seen by this process")
        self.head = head
        return entry

    def back_to(self, head: Head) -> None:
        """Forget what was read or added since: the transaction failed."""
        self.head = head
        self._standings.clear()

    def held(self, scope: Scope, name: str) -> Held | None:
        """An account by name; None where there is none."""
        ((seq,),) = self._file.rows("SELECT max(seq) FROM accounts WHERE scope = ? AND name = ?", scope, name)
        if seq is None:
            return None
        held = self._declared.get(seq)
        if held is None:
            entry = opening.entry_at(self._file, seq)
            if not isinstance(entry, Declared):
                raise self._file.damaged(f"entry {seq} is listed as an account and is not")
            held = self._declared[seq] = Held(entry.account, account_of(entry))
        if (held.account.scope, held.account.name) != (scope, name):
            raise self._file.damaged(f"entry {seq} is listed as the account {scope}={name!r} and is not")
        return held

    def must_hold(self, scope: Scope, name: str) -> Held:
        """An account by name.

        Raises:
            AccountMissing: there is none.
        """
        held = self.held(scope, name)
        if held is None:
            raise missing(scope, name)
        return held

    def standing(self, account: int) -> Standing | None:
        """What an account was last charged to; None where it never was."""
        ((seq,),) = self._file.rows("SELECT max(seq) FROM charged WHERE account = ?", account)
        if seq is None:
            return None
        known = self._standings.get(account)
        if known is None or known[0] != seq:
            entry = opening.entry_at(self._file, seq)
            if not isinstance(entry, Spent):
                raise self._file.damaged(f"entry {seq} is listed as a spend and is not")
            known = self._standings[account] = seq, standing_of(entry, account)
        return known[1]

    def plan(self, spend: Spend, asked: Amounts, at_ms: int) -> Plan:
        """Ask every account that covers a spend.

        Raises:
            AccountMissing: a data set, analyst or purpose has none.
            BudgetExceeded, EpsilonUnbounded: one says no.
        """
        charges = [
            (held, charge(held.account, self.standing(held.id), asked, at_ms))
            for held in self._covering(spend)
        ]
        return Plan(asked, at_ms, charges)

    def append_spend(self, spend: Spend, plan: Plan) -> Receipt:
        """Add a spend."""
        asked = plan.asked
        seq = self._append(
            Spent(
                seq=self.head.entries + 1,
                prev=self.head.sha256,
                at_ms=plan.at_ms,
                release_id=spend.release_id.hex(),
                analyst=spend.analyst,
                data_set=spend.data_set,
                purpose=spend.purpose,
                what=spend.what,
                epsilon=None if asked.epsilon is None else written(asked.epsilon),
                rho=written(asked.rho),
                delta=written(asked.delta),
                charges=tuple(charge_of(held.id, standing) for held, standing in plan.charges),
            )
        )
        for held, standing in plan.charges:
            self._file.run("INSERT INTO charged VALUES (?, ?)", held.id, seq)
            self._standings[held.id] = seq, standing
        self._file.run("INSERT INTO releases VALUES (?, ?)", spend.release_id, seq)
        return _receipt(spend, plan, self.head, fresh=True)

    def append_account(self, account: Account, account_id: int | None, at_ms: int) -> None:
        """Add an account, or another limit of the one that `account_id` names."""
        unit, limit, delta = limit_text(account.limit)
        seq = self.head.entries + 1
        entry = Declared(
            seq=seq,
            prev=self.head.sha256,
            at_ms=at_ms,
            account=seq if account_id is None else account_id,
            scope=account.scope,
            name=account.name,
            unit=unit,
            limit=limit,
            delta=delta,
            period_ms=account.period_ms,
            epoch_ms=account.epoch_ms,
        )
        self._append(entry)
        self._file.run("INSERT INTO accounts VALUES (?, ?, ?)", account.scope, account.name, seq)

    def earlier(self, spend: Spend, asked: Amounts) -> Receipt | None:
        """The receipt of a release id that was spent before; None where it is new.

        Raises:
            ReleaseConflict: it was spent for something else.
        """
        found = self._file.rows("SELECT seq FROM releases WHERE release_id = ?", spend.release_id)
        if not found:
            return None
        entry = opening.entry_at(self._file, found[0][0])
        if not isinstance(entry, Spent) or entry.release_id != spend.release_id.hex():
            raise self._file.damaged(f"entry {entry.seq} is listed for a release and is not its spend")
        then = (entry.data_set, entry.analyst, entry.purpose, entry.what, amounts_of(entry))
        if then != (spend.data_set, spend.analyst, spend.purpose, spend.what, asked):
            raise ReleaseConflict(
                f"release_id={entry.release_id} must be new, but entry {entry.seq} spent it on what={entry.what!r}; "
                "draw another id for another release"
            )
        charged = {one.account for one in entry.charges}
        charges = [
            (held, standing_of(entry, held.id)) for held in self._covering(spend) if held.id in charged
        ]
        return _receipt(
            spend, Plan(asked, entry.at_ms, charges), Head(entry.seq, encode(entry)[1].hex()), fresh=False
        )

    def _covering(self, spend: Spend) -> Iterator[Held]:
        for scope, names in covering(spend.data_set, spend.analyst, spend.purpose):
            found = [held for name in names if (held := self.held(scope, name)) is not None]
            if not found:
                raise missing(scope, names[-1])
            yield from found

    def _append(self, entry: Entry) -> int:
        body, digest = encode(entry)
        self._file.run("INSERT INTO entries VALUES (?, ?, ?)", entry.seq, body, digest)
        self.head = Head(entry.seq, digest.hex())
        return entry.seq


def _receipt(spend: Spend, plan: Plan, head: Head, *, fresh: bool) -> Receipt:
    remaining = tuple(Remaining.of(held.account, standing, plan.at_ms) for held, standing in plan.charges)
    return Receipt(spend.release_id, plan.at_ms, plan.asked, head, remaining, fresh)
