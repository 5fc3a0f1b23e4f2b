"""Proof of destruction: tombstones in a Merkle log (RFC 9162) with signed checkpoints (C2SP)."""

from .log import TombstoneLog
from .merkle import MerkleTree, leaf_hash, root_from_inclusion, verify_consistency
from .note import (
    Checkpoint,
    NoteKey,
    NoteSigner,
    NoteVerifier,
    note_signer,
    note_verifier,
    open_note,
    sign_note,
)
from .receipt import DeletionReceipt, Tombstone, verify_log_grew, verify_receipt
from .sink import AppendOnlyFile, TombstoneSink, read_entries

__all__ = [
    "AppendOnlyFile",
    "Checkpoint",
    "DeletionReceipt",
    "MerkleTree",
    "NoteKey",
    "NoteSigner",
    "NoteVerifier",
    "Tombstone",
    "TombstoneLog",
    "TombstoneSink",
    "leaf_hash",
    "note_signer",
    "note_verifier",
    "open_note",
    "read_entries",
    "root_from_inclusion",
    "sign_note",
    "verify_consistency",
    "verify_log_grew",
    "verify_receipt",
]
