"""`DeadLetters`: rejected events in a folder, one sealed file per period."""

import fcntl
import hashlib
import os
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Final, Self

from dayfly.engine.errors import DeadLetterError
from dayfly.engine.intake.results import RejectedEvent
from dayfly.privacy.errors import DayflyError, KeyDestroyed
from dayfly.privacy.keys import DataKeys

from .period_file import Head, PeriodFile, key_check

__all__ = ["SUFFIX", "DeadLetterSettings", "DeadLetters", "tenant_digest"]

PURPOSE: Final = "dead"
SUFFIX: Final = ".dead"


def tenant_digest(tenant: bytes) -> bytes:
    """What the files say of whose letters they hold."""
    return hashlib.blake2b(tenant, digest_size=16, person=b"dayfly-dead").digest()


@dataclass(frozen=True, slots=True)
class DeadLetterSettings:
    """Limits of the dead letters.

    Attributes:
        period_ms: Letters of so many milliseconds share a data key; fixed when the folder is made.
        retention_ms: A period's key is destroyed so long after the period's end.

    Raises:
        DeadLetterError: A value is out of its range.
    """

    period_ms: int = 86_400_000
    retention_ms: int = 30 * 86_400_000

    def __post_init__(self) -> None:
        """Check the ranges."""
        if self.period_ms < 1 or self.retention_ms < 0:
            raise DeadLetterError(
                f"period_ms={self.period_ms} must be > 0 and retention_ms={self.retention_ms} >= 0; pass larger values"
            )


class DeadLetters:
    """Append-only dead letters, counted by channel and reason as long as they are kept. Not thread-safe.

    What personal data can be in it: none in words. A letter tells when intake took an input, through which channel, where it
    stood in its batch or file, which rule it broke, and a keyed digest of its bytes. Who holds both the digest key and the input
    itself can tell that this input was rejected; `erase` serves that case.

    With positions of the caller's log, letters wait in memory until `flush(through)` says that the log holds them. Without,
    `append` returns when they are durable.

    Args:
        folder: Made if absent; one process at a time has it open.
        keys: Where the data keys of periods live (purpose "dead").
        tenant: Whose letters these are; another tenant's folder is refused.
        random_bytes: For nonces.
        settings: Limits.

    Raises:
        DeadLetterError: Damaged, foreign, newer, open elsewhere, or keys that are not its own. Nothing was overwritten.

    Guarantees:
        No value of an input is in any file, and nothing of a letter can be read once its period's key is destroyed.
    """

    def __init__(
        self,
        folder: Path,
        *,
        keys: DataKeys,
        tenant: bytes,
        random_bytes: Callable[[int], bytes],
        settings: DeadLetterSettings | None = None,
    ) -> None:
        self._folder, self._keys, self._random_bytes = folder, keys, random_bytes
        self._limits = settings or DeadLetterSettings()
        self._tenant = tenant_digest(tenant)
        self._waiting: list[tuple[int, RejectedEvent]] = []
        self._files: dict[int, PeriodFile] = {}
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            self._open_all()
        except BaseException:
            self.close()
            raise

    @property
    def counts(self) -> Mapping[tuple[str, str], int]:
        """Letters kept, by (channel, reason); those that wait are among them."""
        found: Counter[tuple[str, str]] = Counter()
        for file in self._files.values():
            for channel, reason, number in file.counts:
                found[channel, reason] += number
        for _, letter in self._waiting:
            found[letter.channel, letter.reason.value] += 1
        return MappingProxyType(found)

    @property
    def applied(self) -> int:
        """Everything appended at a position up to this one is in a file, or has ended with its retention."""
        return max((file.position for file in self._files.values()), default=0)

    def append(self, letters: Iterable[RejectedEvent], *, position: int = 0) -> int:
        """Keep `letters`.

        Args:
            letters: From intake.
            position: Where the caller's log holds them, never falling, from 1; 0: there is no such log.

        Returns:
            How many were taken: none where `position` was applied before.
        """
        if 0 < position <= self.applied:
            return 0
        taken = [(position, letter) for letter in letters]
        self._waiting += taken
        if position == 0:
            self.flush()
        return len(taken)

    def flush(self, through: int | None = None) -> None:
        """Write what was appended at positions up to `through` (default: everything), durably.

        Raises:
            OSError: The disk refuses; what was not written waits on.
        """
        due: dict[int, list[tuple[int, RejectedEvent]]] = {}
        for entry in self._waiting:
            if through is None or entry[0] <= through:
                due.setdefault(entry[1].at_ms // self._limits.period_ms, []).append(entry)
        newest = max((position for entries in due.values() for position, _ in entries), default=0)
        for number, (period, entries) in enumerate(due.items(), 1):
            file = self._files.get(period) or self._make(period)
            # Only the last block carries the position: after a crash between two, letters come twice rather than never.
            file.append([letter for _, letter in entries], newest if number == len(due) else 0)
            written = {id(entry) for entry in entries}
            self._waiting = [entry for entry in self._waiting if id(entry) not in written]

    def read(self) -> Iterator[RejectedEvent]:
        """All letters that were written, period by period, in the order of writing."""
        for _, file in sorted(self._files.items()):
            for _, letters in file.letters():
                yield from letters

    def erase(self, digests: Collection[bytes]) -> int:
        """Remove the letters of inputs with these digests: their periods are written anew under fresh keys, the old keys destroyed.

        Returns:
            How many letters were removed.
        """
        self.flush()
        wanted, removed = frozenset(digests), 0
        for period, file in list(self._files.items()):
            blocks = list(file.letters())
            hits = sum(letter.digest in wanted for _, letters in blocks for letter in letters)
            if hits:
                self._rewrite(
                    period,
                    [
                        (at, [letter for letter in letters if letter.digest not in wanted])
                        for at, letters in blocks
                    ],
                )
                removed += hits
        return removed

    def expire(self, now_ms: int) -> int:
        """Destroy the keys of periods whose retention is over, and their files; returns the number of letters that ended."""
        over = {
            period: file
            for period, file in self._files.items()
            if (period + 1) * self._limits.period_ms + self._limits.retention_ms <= now_ms
        }
        if not over:
            return 0
        self._keys.destroy([file.head.key_id for file in over.values()])
        ended = 0
        for period, file in over.items():
            ended += sum(number for _, _, number in file.counts)
            file.close()
            del self._files[period]
            self._path(period).unlink()
        os.fsync(self._lock)
        return ended

    def close(self) -> None:
        """Close; what was not flushed is left to the caller's log."""
        for file in self._files.values():
            file.close()
        self._files = {}
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _open_all(self) -> None:
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise DeadLetterError(
                f"folder={self._folder.name!r} must have one writer; close the other process first"
            ) from None
        for leftover in self._folder.glob(f"*{SUFFIX}.new"):
            leftover.unlink()  # an erasure that did not come to its end; the old file still stands
        for path in sorted(self._folder.glob(f"*{SUFFIX}")):
            head = Head.read(path)
            if head is None:
                path.unlink()  # cut while it was made: it never held a letter
                continue
            self._check(path, head)
            try:
                key = self._key(path, head)
            except KeyDestroyed:
                path.unlink()  # an end that did not come to its end
                continue
            self._files[head.period] = PeriodFile(path, head, key, self._random_bytes)
            if head.replaces:  # an erasure may have stopped before its last step
                self._keys.destroy([head.replaces])

    def _check(self, path: Path, head: Head) -> None:
        if head.tenant != self._tenant:
            raise DeadLetterError(f"file={path.name!r} must be of this tenant; open the right folder")
        if head.period_ms != self._limits.period_ms:
            raise DeadLetterError(
                f"period_ms={self._limits.period_ms} must be {head.period_ms}, as the folder was made; keep the setting"
            )
        if path != self._path(head.period):
            raise DeadLetterError(
                f"file={path.name!r} must be named after its period {head.period}; name it back"
            )

    def _key(self, path: Path, head: Head) -> bytes:
        try:
            key = self._keys.get(head.key_id)
        except KeyDestroyed:
            raise
        except DayflyError as error:
            raise DeadLetterError(f"file={path.name!r} must find its key in this store: {error}") from error
        if key_check(key) != head.key_check:
            raise DeadLetterError(
                f"key_id={head.key_id} must be the key that {path.name!r} was made with; open it with its own keys"
            )
        return key

    def _make(self, period: int, *, replaces: int = 0) -> PeriodFile:
        key_id, key = self._keys.create(PURPOSE)
        head = Head(self._tenant, period, self._limits.period_ms, key_id, replaces, key_check(key))
        suffix = ".new" if replaces else ""
        path = self._path(period)
        made = PeriodFile(path.with_name(path.name + suffix), head, key, self._random_bytes)
        if not replaces:
            self._files[period] = made
        os.fsync(self._lock)
        return made

    def _rewrite(self, period: int, blocks: Iterable[tuple[int, list[RejectedEvent]]]) -> None:
        """Replace a period's file by one of these blocks; from then on the old key's copies are unreadable."""
        old = self._files[period]
        fresh = self._make(period, replaces=old.head.key_id)
        for position, letters in blocks:
            fresh.append(letters, position)
        path = self._path(period)
        path.with_name(f"{path.name}.new").replace(path)
        os.fsync(self._lock)
        self._files[period] = fresh
        old.close()
        self._keys.destroy([old.head.key_id])

    def _path(self, period: int) -> Path:
        return self._folder / f"{period:012d}{SUFFIX}"
