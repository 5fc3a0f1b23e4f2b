"""The head file beside a ledger: what shows that the ledger was put back to an older copy.

Two slots of 512 bytes, written in turn and in place after each commit, without waiting for the disk. Opening demands that
the ledger still holds the newest head that either slot names.

Proof note.
    *Claim.* A head file never names an entry that the ledger beside it lacks, unless the ledger lost entries that were
    committed.
    *Precondition.* The file system writes a sector wholly or not at all, or the slot's check value tells.
    *Argument.* A head is written only after its entry's commit returned, that is after the entry reached the disk. A crash or
    power cut can therefore leave the file too old, never too new; a torn slot fails its check and the other one counts.
    A file that is too old only notices less: a ledger put back to a state at or after it.
"""

import contextlib
import fcntl
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from dayfly.privacy.errors import LedgerRolledBack, LedgerUnwritable

from .entries import Head

__all__ = ["Anchor"]

_SLOT_BYTES: Final = 512
_KIND: Final = "dayfly-ledger-head"


class Anchor:
    """The head file of one ledger.

    Args:
        path: Of the head file; made if absent, mode 0600.

    Raises:
        LedgerUnwritable: it cannot be made or written.
    """

    __slots__ = ("_descriptor", "_ledger", "_path")

    def __init__(self, path: Path) -> None:
        self._path = path
        self._ledger = ""
        try:
            self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            if os.fstat(self._descriptor).st_size < 2 * _SLOT_BYTES:
                os.posix_fallocate(self._descriptor, 0, 2 * _SLOT_BYTES)
        except OSError as error:
            raise LedgerUnwritable(
                f"path={path.name!r} must be a file that can be written ({error.strerror}); "
                "give the folder room and the right to write, then open again"
            ) from error

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """While one process opens or makes the ledger, others wait."""
        fcntl.flock(self._descriptor, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.flock(self._descriptor, fcntl.LOCK_UN)

    def read(self) -> tuple[str, Head] | None:
        """Identity of the ledger and its newest known head; None where nothing was ever written.

        Raises:
            LedgerRolledBack: neither slot can be read.
        """
        raw = os.pread(self._descriptor, 2 * _SLOT_BYTES, 0)
        if not raw.strip(b"\0"):
            return None
        slots = (raw[:_SLOT_BYTES], raw[_SLOT_BYTES : 2 * _SLOT_BYTES])
        found = [slot for slot in map(_parse, slots) if slot is not None]
        if not found:
            raise LedgerRolledBack(
                f"path={self._path.name!r} must name the ledger's head, but neither slot can be read; "
                "check the ledger against a head kept elsewhere, then open it with renew_anchor=True"
            )
        return max(found, key=lambda one: one[1].entries)

    def belong(self, ledger: str) -> None:
        """Name the ledger that heads are noted for."""
        self._ledger = ledger

    def note(self, head: Head) -> None:
        """Write a head whose entry is committed.

        A failure is passed over: the spend is durable already, and an old head file only notices less.
        """
        text = f"{_KIND} 1 {self._ledger} {head.entries} {head.sha256}"
        line = f"{text} {_check(text)}".ljust(_SLOT_BYTES - 1) + "\n"
        with contextlib.suppress(OSError):
            os.pwrite(self._descriptor, line.encode(), _SLOT_BYTES * (head.entries % 2))

    def forget(self) -> None:
        """Empty both slots."""
        os.pwrite(self._descriptor, bytes(2 * _SLOT_BYTES), 0)

    def settle(self) -> None:
        """Bring what was noted to the disk."""
        with contextlib.suppress(OSError):
            os.fdatasync(self._descriptor)

    def close(self) -> None:
        """Close the file."""
        os.close(self._descriptor)


def _check(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _parse(slot: bytes) -> tuple[str, Head] | None:
    text, _, check = slot.decode("ascii", "replace").strip().rpartition(" ")
    if not text or _check(text) != check:
        return None
    kind, version, ledger, entries, digest = text.split(" ")
    if (kind, version) != (_KIND, "1"):
        return None
    return ledger, Head(int(entries), digest)
