"""`delivery.db`: what delivery must not forget, in SQLite.

WAL with `synchronous=FULL`: what a committed transaction says survives a crash. `secure_delete` overwrites what is deleted, and
`wipe` empties the log in front of the tables, so that a token is on disk no longer than its fragment lives. The file holds no key,
no secret of an endpoint and no value of a person in the clear.
"""

import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from dayfly.engine.errors import DeliveryError

__all__ = ["DeliveryStore"]

_APPLICATION_ID: Final = 0x64664456
_VERSION: Final = 1
_SCHEMA: Final = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value) WITHOUT ROWID;
CREATE TABLE fragments (
    position INTEGER PRIMARY KEY, jti TEXT NOT NULL UNIQUE, audience TEXT NOT NULL, order_id TEXT NOT NULL,
    digest BLOB NOT NULL, version INTEGER NOT NULL, ready_ms INTEGER NOT NULL, expires_ms INTEGER NOT NULL,
    state TEXT NOT NULL DEFAULT 'live', leases INTEGER NOT NULL DEFAULT 0, settled INTEGER NOT NULL DEFAULT 0,
    recall_position INTEGER, recall_reason TEXT
);
CREATE INDEX fragments_by_order ON fragments (order_id);
CREATE INDEX fragments_by_digest ON fragments (digest, audience) WHERE digest != x'';
CREATE INDEX fragments_by_end ON fragments (expires_ms);
CREATE INDEX fragments_by_audience ON fragments (audience, position);
CREATE INDEX fragments_by_recall ON fragments (audience, recall_position) WHERE recall_position IS NOT NULL;
CREATE TABLE tokens (position INTEGER PRIMARY KEY, token TEXT NOT NULL, expires_ms INTEGER NOT NULL);
CREATE INDEX tokens_by_end ON tokens (expires_ms);
CREATE TABLE jobs (
    id INTEGER PRIMARY KEY, fragment INTEGER NOT NULL, endpoint TEXT NOT NULL, kind TEXT NOT NULL, at_ms INTEGER NOT NULL,
    end_ms INTEGER NOT NULL, due_ms INTEGER NOT NULL, attempts INTEGER NOT NULL DEFAULT 0,
    in_flight INTEGER NOT NULL DEFAULT 0, reached INTEGER NOT NULL DEFAULT 0, state TEXT NOT NULL DEFAULT 'queued',
    UNIQUE (fragment, endpoint, kind)
);
CREATE INDEX jobs_queued ON jobs (endpoint, at_ms) WHERE state != 'done';
CREATE TABLE endpoints (name TEXT PRIMARY KEY, disabled_ms INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE cursors (
    consumer TEXT, audience TEXT, acknowledged INTEGER NOT NULL, handed INTEGER NOT NULL, PRIMARY KEY (consumer, audience)
) WITHOUT ROWID;
CREATE TABLE counts (
    audience TEXT, name TEXT, reason TEXT, n INTEGER NOT NULL, PRIMARY KEY (audience, name, reason)
) WITHOUT ROWID;
"""


class DeliveryStore:
    """One connection to `delivery.db`. Not thread-safe: its owner holds a lock.

    Args:
        path: The file, made with mode 0600 if absent; or `:memory:`.
        tenant: Written on creation and compared afterwards.

    Raises:
        DeliveryError: not our file, another tenant's, a newer version, damaged, or not writable.
    """

    def __init__(self, path: Path | str, *, tenant: str) -> None:
        self._path = str(path)
        try:
            if self._path != ":memory:":
                os.close(os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
            self._db = sqlite3.connect(self._path, isolation_level=None, check_same_thread=False)
        except (OSError, sqlite3.Error) as error:
            raise DeliveryError(
                f"path={self._path!r} must be a file that can be written ({error}); check folder and permissions"
            ) from error
        try:
            self._prepare(tenant)
        except sqlite3.Error as error:
            self._db.close()
            raise DeliveryError(
                f"path={self._path!r} must be a sound delivery database ({error}); restore it, or remove it to deliver anew"
            ) from error
        except DeliveryError:
            self._db.close()
            raise

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Everything in the block is durable when it ends, or nothing of it.

        Raises:
            DeliveryError: the file cannot be written or is damaged.
        """
        try:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield self._db
            except BaseException:
                self._db.execute("ROLLBACK")
                raise
            self._db.execute("COMMIT")
        except sqlite3.Error as error:
            raise DeliveryError(
                f"path={self._path!r} must take a transaction ({error}); free the disk or restore the file, then open again"
            ) from error

    def rows(self, sql: str, parameters: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        """Result of one query."""
        try:
            return self._db.execute(sql, parameters).fetchall()
        except sqlite3.Error as error:
            raise DeliveryError(
                f"path={self._path!r} must be readable ({error}); restore the file"
            ) from error

    def many(self, sql: str, rows: Sequence[Sequence[object]]) -> None:
        """One statement for many rows, within a transaction."""
        self._db.executemany(sql, rows)

    def count(self, audience: str, name: str, *, reason: str = "", n: int = 1) -> None:
        """Add to a count, within a transaction."""
        self._db.execute(
            "INSERT INTO counts VALUES (?, ?, ?, ?) ON CONFLICT DO UPDATE SET n = n + excluded.n",
            (audience, name, reason, n),
        )

    def in_batches(self, sql: str, keys: Sequence[object]) -> list[tuple[Any, ...]]:
        """Rows of a query whose `{}` is replaced by placeholders for some of `keys` at a time."""
        found: list[tuple[Any, ...]] = []
        for start in range(0, len(keys), 500):
            part = keys[start : start + 500]
            found += self.rows(sql.replace("{}", ",".join("?" * len(part))), part)
        return found

    def wipe(self) -> None:
        """Move everything into the tables and cut the log to nothing, so that deleted content is on disk no more."""
        self.rows("PRAGMA wal_checkpoint(TRUNCATE)")

    def close(self) -> None:
        """Wipe and close."""
        try:
            self.wipe()
        finally:
            self._db.close()

    def _prepare(self, tenant: str) -> None:
        application, version = self._pragma("application_id"), self._pragma("user_version")
        empty = not self._db.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]
        if not empty and application != _APPLICATION_ID:
            raise DeliveryError(f"path={self._path!r} must be a delivery database; choose another file")
        if not empty and version != _VERSION:
            raise DeliveryError(
                f"path={self._path!r} has version {version}, which must be {_VERSION}; use the Dayfly that wrote it"
            )
        self._db.execute("PRAGMA secure_delete=ON")
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("PRAGMA synchronous=FULL")
        self._db.execute("PRAGMA temp_store=MEMORY")
        if empty:
            self._create(tenant)
        damage = self._db.execute("PRAGMA quick_check(1)").fetchone()[0]
        if damage != "ok":
            raise DeliveryError(
                f"path={self._path!r} must be sound ({damage}); restore it, or remove it to deliver anew"
            )
        owner = self._db.execute("SELECT value FROM meta WHERE key = 'tenant'").fetchone()
        if owner is None or owner[0] != tenant:
            raise DeliveryError(
                f"path={self._path!r} must belong to tenant={tenant!r}; it is another tenant's, open the right folder"
            )

    def _create(self, tenant: str) -> None:
        """Everything of an empty file in one transaction, so that a crash leaves it empty."""
        with self.transaction() as db:
            for statement in _SCHEMA.split(";"):
                db.execute(statement)
            db.execute(f"PRAGMA application_id={_APPLICATION_ID}")
            db.execute(f"PRAGMA user_version={_VERSION}")
            db.executemany("INSERT INTO meta VALUES (?, ?)", [("tenant", tenant), ("position", 0)])

    def _pragma(self, name: str) -> int:
        value: int = self._db.execute(f"PRAGMA {name}").fetchone()[0]
        return value
