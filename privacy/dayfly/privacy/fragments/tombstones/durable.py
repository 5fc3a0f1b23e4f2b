"""A graveyard over the log on disk: the same service, and nothing forgotten when the process ends."""

import threading
from collections.abc import Callable, Iterable
from typing import Final

from dayfly.privacy.errors import TombstoneLogError
from dayfly.privacy.fragments.cdp.registry import Entry
from dayfly.privacy.fragments.orders import Destroyed, DestroyReason

from .graveyard import death_of, stone_of
from .log import TombstoneLog
from .note import Checkpoint, NoteSigner, sign_note
from .receipt import DeletionReceipt, Tombstone

__all__ = ["DurableGraveyard"]

_AT_ONCE: Final = 512
"""Tombstones handed to the operating system in one write."""


class DurableGraveyard:
    """Counts births, records deaths on disk, signs checkpoints. Touched only under the service's lock.

    Where the service's host has a log of its own, the tombstone log is a view of it and must never run ahead: an entry that a
    crash takes from the host's log would come back with another content, behind a checkpoint that was signed already. With
    `ready`, entries stay in memory until the host has said that they are durable there (`release`).

    Args:
        log: An open log; the graveyard closes it.
        signer: Signs checkpoints; its name is the log's origin.
        ready: Called with the number of entries that a checkpoint is about to sign; returns when all of them are durable in the
            host's log, and raises where they cannot be. It must not wait for a thread that calls the service. None: this
            log is the only one.

    Attributes:
        minted: Fragments minted since the log began. After opening it is what the newest checkpoint says, until `settle`.

    Raises:
        TombstoneLogError: `log` is another log than the signer's.
    """

    def __init__(
        self, log: TombstoneLog, signer: NoteSigner, *, ready: Callable[[int], None] | None = None
    ) -> None:
        newest = log.newest
        if newest is not None and newest.origin != signer.name:
            raise TombstoneLogError(
                f"origin={newest.origin!r} must be {signer.name!r}; open this signer's own folder"
            )
        self._log, self._signer, self._ready = log, signer, ready
        self._released = len(log) if ready is not None else None
        self._keeping = threading.RLock()
        self.minted = max(len(log), 0 if newest is None else newest.minted)

    def __len__(self) -> int:
        """Number of tombstones."""
        return len(self._log)

    # --- recovery ----------------------------------------------------------------------------------------------------

    def restore(self, index: int, entries: Iterable[bytes]) -> None:
        """Append again what the host's log holds, of which some may be here; the first has index `index`.

        Raises:
            TombstoneConflict: See `TombstoneLog.append_from`.
        """
        self._log.append_from(index, entries)

    def bury_lost(self, stones: Iterable[Tombstone]) -> None:
        """Append the tombstones of fragments whose keys died with the process."""
        for stone in stones:
            self._log.append(stone)

    def settle(self, live: int) -> None:
        """End of recovery: minted = live + tombstones.

        Raises:
            TombstoneLogError: A checkpoint says that more were minted: a fragment is neither alive nor buried.
        """
        minted, newest = live + len(self), self._log.newest
        if newest is not None and minted < newest.minted:
            raise TombstoneLogError(
                f"live + tombstones={minted} must be at least the {newest.minted} minted that were signed; bury what is missing"
            )
        self.minted = minted

    # --- the service's side ------------------------------------------------------------------------------------------

    def bury(self, entry: Entry, reason: DestroyReason, now_ms: int) -> Destroyed:
        """Append the tombstone of a fragment whose key is overwritten already."""
        self._log.append(stone_of(entry, reason, now_ms))
        if self._released is None:
            self._flush(len(self._log))
        return death_of(entry, reason, now_ms)

    def checkpoint(self, live: int, now_ms: int) -> str:
        """Make the log durable and sign it as it stands.

        Errors of the disk and of `ready` pass through; nothing is lost, and the next call tries again.

        Args:
            live: Fragments alive.
            now_ms: Current time.
        """
        size = len(self)
        if self._ready is not None:
            self._ready(size)
            self._released = size
        with self._keeping:
            checkpoint = self.begin(live, now_ms)
            note = sign_note(checkpoint.text(), self._signer)
            self._log.checkpoint(note, checkpoint)
            return note

    def receipt(self, jti: str, live: int, now_ms: int) -> DeletionReceipt | None:
        """Receipt of a dead fragment under the newest checkpoint, or a new one where that does not cover it yet."""
        found = self._log.find(jti)
        if found is None:
            return None
        index, stone = found
        with self._keeping:  # note and size are of one checkpoint
            if self._log.newest is None or index >= self._log.newest.size:
                self.checkpoint(live, now_ms)
            proof = self._log.inclusion_proof(index, self._log.newest.size if self._log.newest else 0)
            return DeletionReceipt(tombstone=stone, index=index, proof=proof, checkpoint=self._log.note)

    def consistency(self, old_size: int, size: int) -> tuple[bytes, ...]:
        """Proof that the log of `size` only appended to that of `old_size`."""
        return self._log.consistency_proof(old_size, size)

    # --- the host's side ---------------------------------------------------------------------------------------------

    def entries(self, since: int) -> tuple[bytes, ...]:
        """Entries from index `since` on, for the host's own log."""
        return tuple(self._log.entries(since))

    def release(self, size: int, *, at_once: bool = False) -> None:
        """The first `size` entries are durable in the host's log: they may go to disk here.

        Args:
            size: Entries.
            at_once: Hand them to the operating system now, and not some hundreds together.
        """
        if self._released is not None:
            self._released = max(self._released, size)
            self._flush(self._released)
        if at_once:
            self._log.flush(size)

    def begin(self, live: int, now_ms: int) -> Checkpoint:
        """What a checkpoint of the log as it stands says.

        Args:
            live: Fragments alive.
            now_ms: Current time.
        """
        return Checkpoint(self._signer.name, len(self), self._log.root(), self.minted, live, now_ms)

    def finish(self, checkpoint: Checkpoint) -> None:
        """Sign what `begin` gave and keep it, durably; from any thread, while others append. Nothing where a newer one is kept.

        The host's log must be durable that far, and the entries released `at_once`.
        """
        with self._keeping:
            newest = self._log.newest
            if newest is None or newest.at_ms <= checkpoint.at_ms:
                self._log.keep(sign_note(checkpoint.text(), self._signer), checkpoint)

    def close(self) -> None:
        """Write what may be written, and close the log. `FragmentService.close` signs the last checkpoint before."""
        self._log.close(self._released)

    def _flush(self, size: int) -> None:
        if size - self._log.flushed >= _AT_ONCE:
            self._log.flush(size)
