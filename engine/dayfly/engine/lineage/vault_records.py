"""What lies under a lineage vault: sealed records by period, found by keyed names, ties between persons, and their end."""

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from dayfly.engine.errors import LineageError
from dayfly.privacy.errors import KeyDestroyed
from dayfly.privacy.keys import DataKeys

from .vault_file import VaultFile
from .vault_names import RUN, Names
from .vault_opening import SHAPES, VaultSettings, found_vault, load_periods, recognise
from .vault_periods import PURPOSE, SECRET_BYTES, Period, Sealer, Secrets, key_check

__all__ = ["VaultRecords"]

_ALL: Final = 1 << 63


class _Pending(NamedTuple):
    """A record that is not in the file yet."""

    position: int
    period: Period
    number: int
    names: bytes
    payload: bytes


class VaultRecords:
    """Records of one vault; see `LineageVault` for what the parameters mean and when data reaches the file."""

    def __init__(
        self,
        path: Path,
        *,
        keys: DataKeys,
        subject_key: bytes,
        tenant: bytes,
        random_bytes: Callable[[int], bytes],
        settings: VaultSettings,
    ) -> None:
        self._limits, self._keys, self._random_bytes = settings, keys, random_bytes
        self._pending: deque[_Pending] = deque()
        self._ties: deque[tuple[int, bytes, bytes]] = deque()
        self._unwritten: dict[int, bytes] = {}
        self._file = VaultFile(path)
        try:
            if not self._file.rows("SELECT 1 FROM about"):
                found_vault(
                    self._file,
                    keys=keys,
                    tenant=tenant,
                    subject_key=subject_key,
                    random_bytes=random_bytes,
                    settings=settings,
                )
            self.vault, self.applied, self._ended = recognise(
                self._file, tenant=tenant, subject_key=subject_key, settings=settings
            )
            self._passed = self.applied
            self._sealer = Sealer(self.vault, random_bytes)
            self._names = Names(self._file)
            with self._file.guard():
                self._secrets = Secrets(path.with_suffix(".secrets"), self.vault)
            self._periods = load_periods(self._file)
            self._shape_key = self._periods.pop(SHAPES).load(keys, self.vault)
            for period in self._readable():
                self._names.load(period)
        except KeyDestroyed as error:
            self._file.close()
            raise LineageError(f"keys of {path.name!r} must hold its own keys: {error}") from error
        except BaseException:
            self._file.close()
            raise

    def __len__(self) -> int:
        return sum(period.alive for period in self._periods.values())

    @property
    def full(self) -> bool:
        """Whether so much waits that it should be written."""
        return len(self._pending) + len(self._ties) >= self._limits.at_once

    def has_seen(self, position: int) -> bool:
        """Whether everything at a position is in the file: a replay, for positions never fall."""
        return 0 < position <= self._passed or 0 < position < self.applied

    def may_repeat(self, position: int) -> bool:
        """Whether some of what stands at a position may be in the file already."""
        return position <= max(self._passed + 1, self.applied)

    # --- periods -----------------------------------------------------------------------------------------------------

    def period_of(self, time_ms: int) -> Period | None:
        """The period of an instant, its key made if need be; None where its retention has ended."""
        place = time_ms // self._limits.period_ms
        if place < self._ended:
            return None
        period = self._periods.get(place)
        if period is None:
            period = self._periods[place] = self._new_period(place)
        try:
            period.load(self._keys, self.vault)
        except KeyDestroyed:
            return None
        return period

    def readable(self) -> Iterable[Period]:
        """Periods whose key exists, the newest first."""
        return self._readable()

    def _readable(self) -> list[Period]:
        found = []
        for _, period in sorted(self._periods.items(), reverse=True):
            try:
                period.load(self._keys, self.vault)
            except KeyDestroyed:  # its lineage has ended; `expire` removes the rest
                continue
            found.append(period)
        return found

    def _new_period(self, place: int) -> Period:
        key_id, key = self._keys.create(PURPOSE)
        check = key_check(key, self.vault)
        with self._file.transaction():
            self._file.run(
                "INSERT INTO periods (period, key_id, key_check, next, indexed, alive, ended) VALUES (?, ?, ?, 0, 0, 0, 0)",
                place,
                key_id,
                check,
            )
            ((serial,),) = self._file.rows("SELECT serial FROM periods WHERE period = ?", place)
        return Period(serial, place, key_id, check, key=key)

    # --- records -----------------------------------------------------------------------------------------------------

    def add(self, period: Period, names: bytes, payload: bytes, position: int) -> None:
        """Take a record; it is in the file after `flush`."""
        number, period.next, period.alive = period.next, period.next + 1, period.alive + 1
        self._names.add(period, number, names)
        self._unwritten[period.serial << 32 | number] = payload
        self._pending.append(_Pending(position, period, number, names, payload))

    def numbers(self, period: Period, name: bytes, *, whole: bool = True) -> list[int]:
        """Records of a period that bear a name: all, or only the newest."""
        return self._names.find(period, name) if whole else self._names.recent(period, name)

    def read(self, period: Period, number: int) -> bytes | None:
        """Payload of a record, or None when its secret was destroyed.

        Raises:
            LineageError: Damaged.
        """
        record = period.serial << 32 | number
        waiting = self._unwritten.get(record)
        if waiting is not None:
            return waiting
        with self._file.guard():
            secret = self._secrets.read(period.serial, number)
        if secret is None:
            return None
        rows = self._file.rows("SELECT sealed FROM records WHERE id = ?", record)
        if not rows:
            raise LineageError(f"record={record} must exist; the vault is damaged, restore it from a copy")
        return self._sealer.open(period.load(self._keys, self.vault), secret, record, rows[0][0])

    def flush(self, through: int | None = None, *, unfinished: int = 0) -> None:
        """Commit what was taken at positions up to `through` (default: everything).

        More is to come at the position `unfinished`, which therefore does not count as applied.
        """
        limit = _ALL if through is None else through
        taken = [entry for entry in self._pending if entry.position <= limit]
        ties = [tie for tie in self._ties if tie[0] <= limit]
        applied = max(
            [self.applied, through or 0, *(entry.position for entry in taken), *(tie[0] for tie in ties)]
        )
        if unfinished:
            applied = max(self.applied, min(applied, unfinished - 1))
        if not taken and not ties and applied == self.applied:
            return
        touched = {entry.period.serial: entry.period for entry in taken}
        before = {serial: period.written for serial, period in touched.items()}
        try:
            self._write(taken, ties, list(touched.values()), applied)
        except BaseException:
            for serial, period in touched.items():
                period.written = before[serial]
            raise
        self.applied = applied
        for entry in taken:
            self._pending.popleft()
            del self._unwritten[entry.period.serial << 32 | entry.number]
        for _ in ties:
            self._ties.popleft()
        for period in touched.values():
            if period.written - period.indexed >= RUN:
                self._names.forget_run(period)

    def _write(
        self,
        taken: Sequence[_Pending],
        ties: Sequence[tuple[int, bytes, bytes]],
        touched: Sequence[Period],
        applied: int,
    ) -> None:
        rows: list[tuple[Any, ...]] = []
        for period in touched:
            rows += self._sealed(period, [entry for entry in taken if entry.period is period])
        with self._file.transaction():
            self._file.run_many("INSERT INTO records VALUES (?, ?, ?)", rows)
            for period in touched:
                due = period.written - period.indexed >= RUN
                if due:
                    self._names.write_run(period)
                self._file.run(
                    "UPDATE periods SET next = ?, indexed = ?, alive = alive + ? WHERE serial = ?",
                    period.written,
                    period.written if due else period.indexed,
                    sum(entry.period is period for entry in taken),
                    period.serial,
                )
            pairs = [(one, other) for _, one, other in ties]
            self._file.run_many(
                "INSERT OR IGNORE INTO ties VALUES (?, ?)", pairs + [(other, one) for one, other in pairs]
            )
            self._file.run("UPDATE about SET applied = ?", applied)

    def _sealed(self, period: Period, entries: Sequence[_Pending]) -> list[tuple[Any, ...]]:
        """Rows of one period's records; their secrets are durable before any row is."""
        key, first = period.load(self._keys, self.vault), entries[0].number
        secrets = self._random_bytes(SECRET_BYTES * len(entries))
        with self._file.guard():
            self._secrets.write(period.serial, first, secrets)
        period.written = entries[-1].number + 1
        rows = []
        for entry in entries:
            at, record = SECRET_BYTES * (entry.number - first), period.serial << 32 | entry.number
            secret = secrets[at : at + SECRET_BYTES]
            rows.append((record, entry.names, self._sealer.seal(key, secret, record, entry.payload)))
        return rows

    # --- erasing -----------------------------------------------------------------------------------------------------

    def destroy(self, period: Period, numbers: Sequence[int]) -> None:
        """Overwrite the secrets of written records, then remove them and their names."""
        with self._file.guard():
            self._secrets.destroy(period.serial, numbers)
        removed = []
        with self._file.transaction():
            for number in numbers:
                record = period.serial << 32 | number
                for (names,) in self._file.rows("SELECT names FROM records WHERE id = ?", record):
                    self._names.remove(period, number, names)
                    removed.append((number, names))
                self._file.run("DELETE FROM records WHERE id = ?", record)
            self._file.run(
                "UPDATE periods SET alive = alive - ? WHERE serial = ?", len(removed), period.serial
            )
        for number, names in removed:
            self._names.forget(period, number, names)
        period.alive -= len(removed)

    def tie(self, one: bytes, other: bytes, position: int) -> None:
        """Two digests are one person; in the file after `flush`."""
        self._ties.append((position, one, other))

    def group(self, digest: bytes) -> set[bytes]:
        """All digests of the person of `digest`; ties that wait do not count."""
        found, new = {digest}, [digest]
        while new:
            for (other,) in self._file.rows("SELECT other FROM ties WHERE one = ?", new.pop()):
                if other not in found:
                    found.add(other)
                    new.append(other)
        return found

    def untie(self, group: Iterable[bytes], position: int) -> None:
        """Forget a person's ties, and that the log is applied before `position`; nothing of it stays in any file."""
        with self._file.transaction():
            for digest in group:
                self._file.run("DELETE FROM ties WHERE one = ?", digest)
            self.applied = max(self.applied, position - 1)
            self._file.run("UPDATE about SET applied = ?", self.applied)
        self._file.settle()

    def expire(self, now_ms: int, max_records: int) -> int:
        """End periods whose retention is over; see `LineageVault.expire`."""
        over = [
            period
            for period in self._periods.values()
            if (period.period + 1) * self._limits.period_ms + self._limits.retention_ms <= now_ms
        ]
        if over:
            self._keys.destroy([period.key_id for period in over])
            gone = {period.serial for period in over}
            self._ended = max(self._ended, 1 + max(period.period for period in over))
            with self._file.transaction():
                self._file.run("UPDATE about SET ended = ?", self._ended)
                self._file.run_many(
                    "UPDATE periods SET ended = 1 WHERE serial = ?", [(serial,) for serial in gone]
                )
            self._pending = deque(entry for entry in self._pending if entry.period.serial not in gone)
            self._unwritten = {
                record: kept for record, kept in self._unwritten.items() if record >> 32 not in gone
            }
            for period in over:
                del self._periods[period.period]
        self._index_rest(now_ms)
        self._sweep(max_records)
        return sum(period.alive for period in over)

    def _index_rest(self, now_ms: int) -> None:
        """Move the names of periods that get no more records, as a rule, out of memory."""
        for period in self._periods.values():
            if (period.period + 2) * self._limits.period_ms <= now_ms and period.indexed < period.written:
                with self._file.transaction():
                    self._names.write_run(period)
                    self._file.run(
                        "UPDATE periods SET indexed = ? WHERE serial = ?", period.written, period.serial
                    )
                self._names.forget_run(period)

    def _sweep(self, budget: int) -> None:
        """Remove up to `budget` rows of ended periods from the file."""
        swept = False
        for (serial,) in self._file.rows("SELECT serial FROM periods WHERE ended = 1"):
            with self._file.guard():
                self._secrets.drop(serial)
            with self._file.transaction():
                removed = 0
                for table, key in (("records", "id"), ("runs", "place")):
                    removed += self._file.run(
                        f"DELETE FROM {table} WHERE {key} IN "  # noqa: S608 - the two names stand in the line above
                        f"(SELECT {key} FROM {table} WHERE {key} >= ? AND {key} < ? LIMIT ?)",
                        serial << 32,
                        (serial + 1) << 32,
                        budget - removed,
                    )
                if removed < budget:
                    self._file.run("DELETE FROM periods WHERE serial = ?", serial)
            swept, budget = True, budget - removed
            if budget <= 0:
                break
        if swept:
            self._file.settle()

    # --- shapes ------------------------------------------------------------------------------------------------------

    def shapes(self) -> list[bytes]:
        """Contents of all shapes."""
        rows = self._file.rows("SELECT sealed FROM shapes ORDER BY id")
        return [self._sealer.open_shape(self._shape_key, sealed) for (sealed,) in rows]

    def add_shape(self, content: bytes) -> None:
        """Keep the content of a shape."""
        self._file.run(
            "INSERT INTO shapes (sealed) VALUES (?)", self._sealer.seal_shape(self._shape_key, content)
        )

    # --- opening and closing -----------------------------------------------------------------------------------------

    def copy(self, path: Path) -> None:
        """Copy the database, without the secrets, as it was flushed."""
        self._file.copy(path)

    def sync(self) -> None:
        """Make what was flushed durable."""
        self._file.settle()

    def close(self) -> None:
        """Close the file; what was not flushed is lost."""
        self._file.close()
