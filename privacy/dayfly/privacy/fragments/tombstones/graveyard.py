"""The tombstone log with its balance: minted = live + tombstones, at every signed checkpoint."""

from collections import deque
from typing import Protocol

from dayfly.privacy.fragments.cdp.registry import Entry
from dayfly.privacy.fragments.orders import Destroyed, DestroyReason

from .merkle import MerkleTree
from .note import Checkpoint, NoteSigner, sign_note
from .receipt import DeletionReceipt, Tombstone
from .sink import TombstoneSink

__all__ = ["Graves", "Graveyard", "death_of", "stone_of"]


class Graves(Protocol):
    """What a fragment service needs of a graveyard. Touched only under the service's lock."""

    minted: int
    """Fragments minted since the log began; the service counts it up."""

    def __len__(self) -> int:
        """Number of tombstones."""
        ...

    def bury(self, entry: Entry, reason: DestroyReason, now_ms: int) -> Destroyed:
        """Append the tombstone of a fragment whose key is overwritten already."""
        ...

    def checkpoint(self, live: int, now_ms: int) -> str:
        """Sign the log as it stands, with `live` fragments alive."""
        ...

    def receipt(self, jti: str, live: int, now_ms: int) -> DeletionReceipt | None:
        """Receipt of a dead fragment, or None."""
        ...

    def consistency(self, old_size: int, size: int) -> tuple[bytes, ...]:
        """Proof that the log of `size` only appended to that of `old_size`."""
        ...


def stone_of(entry: Entry, reason: DestroyReason, now_ms: int) -> Tombstone:
    """The tombstone of a fragment."""
    return Tombstone(
        jti=entry.jti,
        kc=entry.kc,
        iat=entry.iat,
        exp=entry.exp,
        dead_ms=now_ms,
        reason=reason,
        leases=entry.leases,
    )


def death_of(entry: Entry, reason: DestroyReason, now_ms: int) -> Destroyed:
    """What the caller learns of a fragment's death."""
    view = entry.view
    return Destroyed(
        jti=entry.jti,
        order_id=view.order_id,
        audience=view.audience,
        subject=view.subject,
        reason=reason,
        at_ms=now_ms,
        leases=entry.leases,
        consent=view.consent,
    )


class Graveyard:
    """Graves in memory: counts births, records deaths, signs checkpoints. Touched only under the service's lock.

    Args:
        signer: Signs checkpoints; its name is the log's origin.
        sink: Receives entries and checkpoints, or None: in memory only.
    """

    def __init__(self, signer: NoteSigner, sink: TombstoneSink | None) -> None:
        self._signer = signer
        self._sink = sink
        self._tree = MerkleTree()
        self._entries: dict[str, tuple[int, Tombstone]] = {}
        self._unsunk: deque[bytes] = deque()
        self._note = ""
        self._covered = -1
        self.minted = 0

    def __len__(self) -> int:
        """Number of tombstones."""
        return len(self._tree)

    def bury(self, entry: Entry, reason: DestroyReason, now_ms: int) -> Destroyed:
        """Append the tombstone of a fragment whose key is overwritten already."""
        stone = stone_of(entry, reason, now_ms)
        raw = stone.entry()
        self._entries[entry.jti] = (self._tree.append(raw), stone)
        if self._sink is not None:
            self._unsunk.append(raw)
        return death_of(entry, reason, now_ms)

    def checkpoint(self, live: int, now_ms: int) -> str:
        """Hand the new entries to the sink and sign the log as it stands.

        An error of the sink passes through; what it did not take is handed to it again next time.

        Args:
            live: Fragments alive.
            now_ms: Current time.
        """
        while self._unsunk and self._sink is not None:
            self._sink.tombstone(self._unsunk[0])
            self._unsunk.popleft()
        size = len(self._tree)
        text = Checkpoint(self._signer.name, size, self._tree.root(), self.minted, live, now_ms).text()
        note = sign_note(text, self._signer)
        if self._sink is not None:
            self._sink.checkpoint(note)
        self._note, self._covered = note, size
        return self._note

    def receipt(self, jti: str, live: int, now_ms: int) -> DeletionReceipt | None:
        """Receipt of a dead fragment under the newest checkpoint, or a new one where that does not cover it yet."""
        found = self._entries.get(jti)
        if found is None:
            return None
        index, stone = found
        if index >= self._covered:
            self.checkpoint(live, now_ms)
        proof = self._tree.inclusion_proof(index, self._covered)
        return DeletionReceipt(tombstone=stone, index=index, proof=proof, checkpoint=self._note)

    def consistency(self, old_size: int, size: int) -> tuple[bytes, ...]:
        """Proof that the log of `size` only appended to that of `old_size`."""
        return self._tree.consistency_proof(old_size, size)
