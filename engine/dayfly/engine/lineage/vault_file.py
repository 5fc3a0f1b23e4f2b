"""The SQLite file under a lineage vault: made, recognised, and every failure of it told as a `LineageError`."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Final

from dayfly.engine.errors import LineageError

__all__ = ["VaultFile"]

_APPLICATION: Final = 0x4446_4C56  # "DFLV"
_VERSION: Final = 1
_SCHEMA: Final = """
CREATE TABLE about (
  vault BLOB NOT NULL, tenant BLOB NOT NULL, subject_check BLOB NOT NULL,
  period_ms INTEGER NOT NULL, applied INTEGER NOT NULL, ended INTEGER NOT NULL
);
CREATE TABLE periods (
  serial INTEGER PRIMARY KEY, period INTEGER NOT NULL UNIQUE, key_id INTEGER NOT NULL, key_check BLOB NOT NULL,
  next INTEGER NOT NULL, indexed INTEGER NOT NULL, alive INTEGER NOT NULL, ended INTEGER NOT NULL
);
CREATE TABLE records (id INTEGER PRIMARY KEY, names BLOB NOT NULL, sealed BLOB NOT NULL);
CREATE TABLE runs (place INTEGER PRIMARY KEY, names BLOB NOT NULL);
CREATE TABLE shapes (id INTEGER PRIMARY KEY, sealed BLOB NOT NULL);
CREATE TABLE ties (one BLOB NOT NULL, other BLOB NOT NULL, PRIMARY KEY (one, other)) WITHOUT ROWID;
"""
_SETTINGS: Final = (
    "journal_mode = WAL",
    "synchronous = NORMAL",  # a power cut may take the newest commits, never the file; the caller's log brings them back
    "secure_delete = ON",
    "wal_autocheckpoint = 4000",
    "cache_size = -32768",
)


class VaultFile:
    """One connection, one writer.

    Args:
        path: Made if absent, mode 0600.

    Raises:
        LineageError: Not a vault, of a newer version, damaged, or open elsewhere. Nothing was overwritten.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        with self.guard():
            path.touch(mode=0o600)
            self._connection = sqlite3.connect(
                path, isolation_level=None, timeout=0.1, check_same_thread=False
            )
        try:
            with self.guard():
                self._connection.execute(
                    "PRAGMA locking_mode = EXCLUSIVE"
                )  # before the first read, which takes the lock
                self._recognise()
                for setting in _SETTINGS:
                    self._connection.execute(f"PRAGMA {setting}")
                if self._version() == 0:
                    self._make()
        except BaseException:
            self._connection.close()
            raise

    def rows(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        """All rows of a query."""
        with self.guard():
            return self._connection.execute(statement, values).fetchall()

    def run(self, statement: str, *values: Any) -> int:
        """Execute a change; returns the number of rows it touched."""
        with self.guard():
            return self._connection.execute(statement, values).rowcount

    def run_many(self, statement: str, rows: list[tuple[Any, ...]]) -> None:
        """Execute a change for each of `rows`."""
        with self.guard():
            self._connection.executemany(statement, rows)

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All changes within, or none."""
        self.run("BEGIN IMMEDIATE")
        try:
            yield
            self.run("COMMIT")
        except BaseException:
            if self._connection.in_transaction:
                self.run("ROLLBACK")
            raise

    def settle(self) -> None:
        """Make everything durable in the file itself, and cut the write-ahead log to nothing."""
        ((busy, _, _),) = self.rows("PRAGMA wal_checkpoint(TRUNCATE)")
        if busy:
            raise LineageError(f"path={self._path.name!r} must have no other reader; close it and try again")

    def copy(self, path: Path) -> None:
        """Copy everything committed into a new database; through SQLite, as opening its file would drop its locks."""
        with self.guard(), closing(sqlite3.connect(path)) as target:
            target.execute("PRAGMA synchronous = OFF")
            self._connection.backup(target)

    def close(self) -> None:
        """Close; SQLite removes its write-ahead log."""
        self._connection.close()

    @contextmanager
    def guard(self) -> Iterator[None]:
        """Turn what SQLite and the file system say into what the caller can do about it."""
        try:
            yield
        except (sqlite3.Error, OSError, UnicodeDecodeError) as error:
            text = str(error)
            way_out = "restore it from a copy"
            if "locked" in text or "busy" in text:
                way_out = "close the process that has it open"
            elif (
                "full" in text
                or "readonly" in text
                or "unable to open" in text
                or "disk I/O" in text
                or isinstance(error, OSError)
            ):
                way_out = "give it room and the right to write, then reopen"
            raise LineageError(
                f"path={self._path.name!r} must be a lineage vault in order: {text}; {way_out}"
            ) from error

    def _recognise(self) -> None:
        """Refuse foreign and newer files before any setting could change them."""
        application = self._pragma("application_id")
        empty = application == 0 and not self._connection.execute("SELECT 1 FROM sqlite_master").fetchone()
        if not empty and application != _APPLICATION:
            raise LineageError(f"path={self._path.name!r} must be a lineage vault; choose another path")
        if self._version() > _VERSION:
            raise LineageError(
                f"path={self._path.name!r} version={self._version()} must be at most {_VERSION}; open it with a newer release"
            )

    def _make(self) -> None:
        self._connection.executescript(
            f"BEGIN; {_SCHEMA} PRAGMA application_id = {_APPLICATION}; PRAGMA user_version = {_VERSION}; COMMIT;"
        )

    def _version(self) -> int:
        return self._pragma("user_version")

    def _pragma(self, name: str) -> int:
        return int(self._connection.execute(f"PRAGMA {name}").fetchone()[0])
