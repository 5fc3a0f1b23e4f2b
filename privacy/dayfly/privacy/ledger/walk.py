"""The full check of a ledger: every digest, every link, and every total added up again."""

from dayfly.privacy.errors import LedgerDamaged, LedgerError

from .accounts import Account, Amounts, Standing, charge, covering
from .entries import (
    ZERO,
    Declared,
    Entry,
    Genesis,
    Head,
    Spent,
    account_of,
    amounts_of,
    charge_of,
    decode,
    encode,
    release_of,
)
from .file import LedgerFile

__all__ = ["verify"]


class _Walk:
    """The ledger as far as it was read."""

    def __init__(self, file: LedgerFile) -> None:
        self._file = file
        self._head = Head(0, ZERO)
        self._at_ms: int | None = None
        self._named: dict[tuple[str, str], int] = {}
        self._accounts: dict[int, Account] = {}
        self._standings: dict[int, Standing] = {}
        self._listed = {"accounts": 0, "charged": 0, "releases": 0}

    def step(self, seq: int, body: object, digest: bytes) -> None:
        """Read the next entry."""
        if seq != self._head.entries + 1:
            raise _damaged(seq, f"entry {self._head.entries + 1} is missing before it")
        entry = decode(seq, body, digest)
        if encode(entry)[0] != body:
            raise _damaged(seq, "its text is not canonical")
        if entry.prev != self._head.sha256:
            raise _damaged(seq, f"it does not continue entry {seq - 1}")
        if isinstance(entry, Genesis) != (seq == 1):
            raise _damaged(seq, "a ledger begins once")
        if self._at_ms is not None and entry.at_ms < self._at_ms:
            raise _damaged(seq, f"at_ms={entry.at_ms} is before the entry before it")
        if isinstance(entry, Declared):
            self._declare(entry)
        if isinstance(entry, Spent):
            self._spend(entry)
        self._at_ms = entry.at_ms
        self._head = Head(seq, digest.hex())

    def end(self) -> Head:
        """No table may list more than the entries say."""
        if self._head.entries == 0:
            raise self._file.damaged("it has no entries")
        for table, count in self._listed.items():
            if self._file.rows(f"SELECT count(*) FROM {table}") != [(count,)]:  # noqa: S608 - names from a constant
                raise self._file.damaged(f"table {table} does not list {count} rows, as the entries say")
        return self._head

    def _declare(self, entry: Declared) -> None:
        account = account_of(entry)
        known = self._named.setdefault((entry.scope, entry.name), entry.seq)
        if entry.account != known:
            raise _damaged(entry.seq, f"account {entry.account} is not {entry.scope}={entry.name!r}")
        before = self._accounts.get(known, account)
        if _fixed(before) != _fixed(account):
            raise _damaged(entry.seq, "it changes the unit or the period of an account")
        self._accounts[known] = account
        self._must_list("accounts", "scope = ? AND name = ? AND seq = ?", entry, entry.scope, entry.name)

    def _spend(self, entry: Spent) -> None:
        asked = amounts_of(entry)
        charges = []
        for scope, names in covering(entry.data_set, entry.analyst, entry.purpose):
            numbers = [self._named[scope, name] for name in names if (scope, name) in self._named]
            if not numbers:
                raise _damaged(entry.seq, f"no account covers {scope}={names[-1]!r}")
            for number in numbers:
                charges.append(charge_of(number, self._charge(entry, number, asked)))
                self._must_list("charged", "account = ? AND seq = ?", entry, number)
        if tuple(charges) != entry.charges:
            raise _damaged(entry.seq, "its totals are not those before it plus its cost")
        self._must_list("releases", "release_id = ? AND seq = ?", entry, release_of(entry))

    def _charge(self, entry: Spent, number: int, asked: Amounts) -> Standing:
        try:
            standing = charge(self._accounts[number], self._standings.get(number), asked, entry.at_ms)
        except LedgerError as error:
            raise _damaged(entry.seq, f"it should have been refused: {error}") from error
        self._standings[number] = standing
        return standing

    def _must_list(self, table: str, where: str, entry: Entry, *values: object) -> None:
        if not self._file.rows(f"SELECT 1 FROM {table} WHERE {where}", *values, entry.seq):  # noqa: S608 - constants
            raise _damaged(entry.seq, f"table {table} does not list it")
        self._listed[table] += 1


def verify(file: LedgerFile) -> Head:
    """Check everything; memory grows with the accounts, not with the entries.

    Raises:
        LedgerDamaged: the first thing that does not hold.
    """
    problems = file.rows("PRAGMA integrity_check(1)")
    if problems != [("ok",)]:
        raise file.damaged(f"SQLite finds: {' '.join(str(problems[0][0]).split())}")
    walk = _Walk(file)
    for seq, body, digest in file.each("SELECT seq, body, digest FROM entries ORDER BY seq"):
        walk.step(seq, body, digest)
    return walk.end()


def _fixed(account: Account) -> tuple[object, ...]:
    """What no amendment changes."""
    return account.limit.unit, account.period_ms, account.epoch_ms


def _damaged(seq: int, fact: str) -> LedgerDamaged:
    return LedgerDamaged(
        f"entry={seq} must be as it was written, but {fact}; restore the ledger from a copy that verifies",
        entry=seq,
    )
