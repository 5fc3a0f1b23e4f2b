"""Tombstones and deletion receipts, and the free function that checks a receipt offline."""

from collections.abc import Sequence

import msgspec

from dayfly.privacy.errors import InvalidReceipt
from dayfly.privacy.fragments.orders import DestroyReason

from .merkle import root_from_inclusion, verify_consistency
from .note import Checkpoint, NoteVerifier, open_note

__all__ = ["DeletionReceipt", "Tombstone", "verify_log_grew", "verify_receipt"]


class Tombstone(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What stays of a fragment: no value, no subject, no key. Its canonical JSON is the log's entry."""

    v: int = 1
    jti: str
    kc: str
    """Commitment to the destroyed key, as the token carried it; empty for a clear fragment, which has none."""
    iat: int
    exp: int
    dead_ms: int
    reason: DestroyReason
    leases: int
    """How often the key had been given out; what was opened then is out of our hands."""

    def entry(self) -> bytes:
        """The log entry."""
        return msgspec.json.encode(self)


class DeletionReceipt(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A tombstone, its place in the log, and the signed checkpoint that covers it. JSON both ways by `msgspec`."""

    tombstone: Tombstone
    index: int
    proof: tuple[bytes, ...]
    checkpoint: str


def verify_receipt(
    receipt: DeletionReceipt, verifier: NoteVerifier, origin: str, *, kc: str | None = None
) -> Checkpoint:
    """Check a receipt offline, with nothing but the log's public key and name.

    Args:
        receipt: As handed out by the CDP.
        verifier: The log's trusted key.
        origin: The log's name.
        kc: The `kc` claim of the fragment in question, to show that the receipt speaks of that very key.

    Returns:
        The checkpoint that covers the tombstone.

    Raises:
        InvalidReceipt: Signature, balance, place or key commitment does not hold.
    """
    checkpoint = Checkpoint.from_text(open_note(receipt.checkpoint, verifier))
    if checkpoint.origin != origin:
        raise InvalidReceipt(f"origin={checkpoint.origin!r} must be {origin!r}; ask the right log")
    root = root_from_inclusion(receipt.tombstone.entry(), receipt.index, checkpoint.size, receipt.proof)
    if root != checkpoint.root:
        raise InvalidReceipt(f"index={receipt.index!r} must hold this tombstone; it is not in the signed log")
    if kc is not None and kc != receipt.tombstone.kc:
        raise InvalidReceipt("tombstone.kc must equal the fragment's kc; this receipt is about another key")
    return checkpoint


def verify_log_grew(older: str, newer: str, proof: Sequence[bytes], verifier: NoteVerifier) -> None:
    """Check that the log of checkpoint `newer` only appended to that of `older`.

    Raises:
        InvalidReceipt: A signature fails, the names differ, or an entry was changed or removed.
    """
    old, new = (Checkpoint.from_text(open_note(note, verifier)) for note in (older, newer))
    if old.origin != new.origin or new.minted < old.minted:
        raise InvalidReceipt(
            f"origin={new.origin!r} must be the same log and its counts grow; do not trust it"
        )
    verify_consistency(old.size, old.root, new.size, new.root, proof)
