"""The SQLite file of a ledger: made, recognised, append-only, and each of its failures told as a `LedgerError`.

WAL with ``synchronous=FULL``: when a commit returns, SQLite has synced it (https://sqlite.org/pragma.html#pragma_synchronous).
Triggers refuse to change, delete or replace a row of any table, and to add an entry anywhere but at the end; on opening, the
tables and triggers are compared with what they were made as.

The file is never opened but through SQLite: closing any other descriptor of it would drop the locks that this process holds
(https://sqlite.org/howtocorrupt.html section 2.2).
"""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import cache
from pathlib import Path
from typing import Any, Final

from dayfly.privacy.errors import (
    LedgerBusy,
    LedgerDamaged,
    LedgerError,
    LedgerForeign,
    LedgerMissing,
    LedgerRolledBack,
    LedgerUnwritable,
    LedgerVersion,
)

from .entries import FORMAT_VERSION

__all__ = ["APPLICATION_ID", "LedgerFile"]

APPLICATION_ID: Final = 0x4446_424C  # "DFBL"


_SCHEMA: Final = """
CREATE TABLE entries (seq INTEGER PRIMARY KEY, body TEXT NOT NULL, digest BLOB NOT NULL);
CREATE TABLE accounts (scope TEXT, name TEXT, seq INTEGER, PRIMARY KEY (scope, name, seq)) WITHOUT ROWID;
CREATE TABLE charged (account INTEGER, seq INTEGER, PRIMARY KEY (account, seq)) WITHOUT ROWID;
CREATE TABLE releases (release_id BLOB PRIMARY KEY, seq INTEGER NOT NULL) WITHOUT ROWID;

CREATE TRIGGER entries_kept BEFORE DELETE ON entries
  BEGIN SELECT RAISE(ABORT, 'the ledger is append-only'); END;
CREATE TRIGGER entries_unchanged BEFORE UPDATE ON entries
  BEGIN SELECT RAISE(ABORT, 'the ledger is append-only'); END;
CREATE TRIGGER entries_appended BEFORE INSERT ON entries
  WHEN NOT (NEW.seq = 1 + coalesce((SELECT max(seq) FROM entries), 0))
  BEGIN SELECT RAISE(ABORT, 'the ledger is append-only'); END;

CREATE TRIGGER accounts_kept BEFORE DELETE ON accounts
  BEGIN SELECT RAISE(ABORT, 'the ledger is append-only'); END;
CREATE TRIGGER accounts_unchanged BEFORE UPDATE ON accounts
  BEGIN SELECT RAISE(ABORT, 'the ledger is append-only'); END;
CREATE TRIGGER accounts_appended BEFORE INSERT ON accounts
  WHEN NOT (NEW.seq = (SELECT max(seq) FROM entries)
    AND NOT EXISTS (SELECT 1 FROM accounts WHERE scope = NEW.scope AND name = NEW.name AND seq = NEW.seq))
  BEGIN SELECT RAISE(ABORT, 'the ledger is append-only'); END;

CREATE TRIGGER charged_kept BEFORE DELETE ON charged
  BEGIN SELECT RAISE(ABORT, 'the ledger is append-only'); END;
CREATE TRIGGER charged_unchanged BEFORE UPDATE ON charged
  BEGIN SELECT RAISE(ABORT, 'the ledger is append-only'); END;
CREATE TRIGGER charged_appended BEFORE INSERT ON charged
  WHEN NOT (NEW.seq = (SELECT max(seq) FROM entries)
    AND NOT EXISTS (SELECT 1 FROM charged WHERE account = NEW.account AND seq = NEW.seq))
  BEGIN SELECT RAISE(ABORT, 'the ledger is append-only'); END;

CREATE TRIGGER releases_kept BEFORE DELETE ON releases
  BEGIN SELECT RAISE(ABORT, 'the ledger is append-only'); END;
CREATE TRIGGER releases_unchanged BEFORE UPDATE ON releases
  BEGIN SELECT RAISE(ABORT, 'the ledger is append-only'); END;
CREATE TRIGGER releases_appended BEFORE INSERT ON releases
  WHEN NOT (NEW.seq = (SELECT max(seq) FROM entries)
    AND NOT EXISTS (SELECT 1 FROM releases WHERE release_id = NEW.release_id))
  BEGIN SELECT RAISE(ABORT, 'the ledger is append-only'); END;
"""
_SETTINGS: Final = (
    "synchronous = FULL",
    "fullfsync = ON",  # where fsync alone does not reach the disk
    "checkpoint_fullfsync = ON",
    "trusted_schema = OFF",
    "cell_size_check = ON",
)
_SHAPE: Final = "SELECT type, name, sql FROM sqlite_master WHERE name NOT LIKE 'sqlite_%' ORDER BY name"


class LedgerFile:
    """One connection. Not thread-safe: its owner holds a lock.

    Args:
        path: Of the file.
        busy_seconds: How long to wait for other writers.

    Raises:
        LedgerUnwritable: the folder or file cannot be written.
    """

    def __init__(self, path: Path, *, busy_seconds: float) -> None:
        self._path = path
        self._busy_seconds = busy_seconds
        self._identity: tuple[int, int] | None = None
        if not path.exists():
            raise LedgerMissing(
                f"path={path.name!r} must be a ledger; check the path, or open it with create=True"
            )
        try:
            self._connection = sqlite3.connect(
                path, isolation_level=None, timeout=busy_seconds, check_same_thread=False
            )
        except sqlite3.Error as error:
            raise self._told(error) from error

    @classmethod
    def make(cls, path: Path) -> None:
        """Make an empty file that only its owner can read, unless there is one.

        Raises:
            LedgerUnwritable: the folder cannot be written.
        """
        try:
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        except FileExistsError:
            return
        except OSError as error:
            raise LedgerUnwritable(
                f"path={path.name!r} must be in a folder that can be written ({error.strerror}); change its rights"
            ) from error

    def another(self) -> "LedgerFile":
        """A second connection, for long readings beside the writing.

        Raises:
            LedgerError: the file at the path can no longer be recognised.
        """
        file = LedgerFile(self._path, busy_seconds=self._busy_seconds)
        try:
            file.recognise()
        except BaseException:
            file.close()
            raise
        return file

    def empty(self) -> bool:
        """Whether nothing was ever written."""
        return self._pragma("application_id") == 0 and not self.rows("SELECT 1 FROM sqlite_master")

    def prepare(self) -> None:
        """Set up an empty file, within a transaction that the caller ends with the first entry."""
        for statement in _statements():
            self.run(statement)
        self.run(f"PRAGMA application_id = {APPLICATION_ID}")
        self.run(f"PRAGMA user_version = {FORMAT_VERSION}")

    def settle_mode(self) -> None:
        """Write-ahead logging, which the file remembers."""
        ((mode,),) = self.rows("PRAGMA journal_mode = WAL")
        if mode != "wal":
            raise LedgerUnwritable(
                f"path={self._path.name!r} must allow SQLite's WAL (journal_mode={mode!r}); use a local disk"
            )

    def recognise(self) -> None:
        """Refuse what is not a ledger of this version, unchanged in its tables and triggers.

        Raises:
            LedgerForeign, LedgerVersion, LedgerDamaged: as their names say.
        """
        if self._pragma("application_id") != APPLICATION_ID:
            raise LedgerForeign(
                f"path={self._path.name!r} must be a Dayfly ledger; choose another path, nothing was written"
            )
        version = self._pragma("user_version")
        if version > FORMAT_VERSION:
            raise LedgerVersion(
                f"path={self._path.name!r} version={version} must be at most {FORMAT_VERSION}; "
                "open it with a newer release of Dayfly"
            )
        if version != FORMAT_VERSION or tuple(self.rows(_SHAPE)) != _shape():
            raise self.damaged("its tables or triggers were changed")
        for setting in _SETTINGS:
            self.run(f"PRAGMA {setting}")
        self._identity = self._on_disk()

    def rows(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        """All rows of a query."""
        try:
            return self._connection.execute(statement, values).fetchall()
        except (sqlite3.Error, UnicodeDecodeError) as error:
            raise self._told(error) from error

    def each(self, statement: str, *values: Any) -> Iterator[tuple[Any, ...]]:
        """Rows of a query as they are read."""
        try:
            yield from self._connection.execute(statement, values)
        except (sqlite3.Error, UnicodeDecodeError) as error:
            raise self._told(error) from error

    def run(self, statement: str, *values: Any) -> None:
        """Execute a change."""
        try:
            self._connection.execute(statement, values)
        except sqlite3.Error as error:
            raise self._told(error) from error

    @contextmanager
    def changing(self) -> Iterator[None]:
        """Alone among all writers; all changes within are durable when the block ends, or none is made.

        Raises:
            LedgerBusy: others kept writing for longer than `busy_seconds`.
            LedgerRolledBack: the file at the path is no longer the one that was opened.
        """
        with self._within("BEGIN IMMEDIATE"):
            if self._identity is not None and self._on_disk() != self._identity:
                raise LedgerRolledBack(
                    f"path={self._path.name!r} must stay the file that was opened, but it was replaced; "
                    "close this ledger and open it again"
                )
            yield

    @contextmanager
    def reading(self) -> Iterator[None]:
        """One unchanging view for all queries within."""
        with self._within("BEGIN"):
            yield

    @contextmanager
    def _within(self, begin: str) -> Iterator[None]:
        self.run(begin)
        try:
            yield
            self.run("COMMIT")
        except BaseException:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            raise

    def close(self) -> None:
        """Close; the last one to do so moves the write-ahead log into the file."""
        self._connection.close()

    def damaged(self, fact: str) -> LedgerDamaged:
        """The error for a file that is not as it was written."""
        return LedgerDamaged(
            f"path={self._path.name!r} must be as it was written, but {fact}; restore a copy that verifies"
        )

    def _told(self, error: Exception) -> LedgerError:
        code = getattr(error, "sqlite_errorcode", 0)
        place = f"path={self._path.name!r}"
        match code & 0xFF:
            case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
                return LedgerBusy(f"{place} must be free ({error}); nothing was spent, try again")
            case (
                sqlite3.SQLITE_FULL
                | sqlite3.SQLITE_READONLY
                | sqlite3.SQLITE_CANTOPEN
                | sqlite3.SQLITE_PERM
                | sqlite3.SQLITE_IOERR
            ):
                return LedgerUnwritable(
                    f"{place} must be writable ({error}); give it room and the right to write, then try again"
                )
            case sqlite3.SQLITE_NOTADB:
                return LedgerForeign(f"{place} must be a Dayfly ledger ({error}); choose another path")
            case _:
                return self.damaged(str(error))

    def _on_disk(self) -> tuple[int, int] | None:
        try:
            status = self._path.stat()
        except OSError:
            return None
        return status.st_dev, status.st_ino

    def _pragma(self, name: str) -> int:
        return int(self.rows(f"PRAGMA {name}")[0][0])


def _statements() -> list[str]:
    """The schema, statement by statement: `executescript` would end the transaction."""
    found, rest = [], ""
    for line in _SCHEMA.splitlines():
        rest += line + "\n"
        if sqlite3.complete_statement(rest):
            if rest.strip():
                found.append(rest.strip())
            rest = ""
    return found


@cache
def _shape() -> tuple[tuple[Any, ...], ...]:
    """What `sqlite_master` must say."""
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.executescript(_SCHEMA)
        return tuple(connection.execute(_SHAPE).fetchall())
