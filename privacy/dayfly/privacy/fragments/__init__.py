"""Signed, sealed, self-destroying profile fragments: mint, verify, lease, open, shred, prove.

`docs/fragments.md` is the specification. The CDP's side is `FragmentService`; a CRM needs `crm` alone.
"""

from .cdp.keys import KeyRing, SigningKey
from .crm import Answer, CrmClient, OpenedFragment, PendingLease
from .orders import (
    ConsentRef,
    Destroyed,
    DestroyReason,
    Fragment,
    FragmentEvent,
    FragmentOrder,
    LeaseReason,
    LiveFragment,
    OrderField,
    OrderView,
    RuleRef,
)
from .service import FragmentService, ServiceSettings
from .strict import Profile, ReplayGuard, Verified, Verifier
from .tombstones import (
    AppendOnlyFile,
    Checkpoint,
    DeletionReceipt,
    NoteVerifier,
    Tombstone,
    TombstoneSink,
    note_signer,
    note_verifier,
    verify_log_grew,
    verify_receipt,
)
from .wire import Lease, LeaseRequest, SuiteName

__all__ = [
    "Answer",
    "AppendOnlyFile",
    "Checkpoint",
    "ConsentRef",
    "CrmClient",
    "DeletionReceipt",
    "DestroyReason",
    "Destroyed",
    "Fragment",
    "FragmentEvent",
    "FragmentOrder",
    "FragmentService",
    "KeyRing",
    "Lease",
    "LeaseReason",
    "LeaseRequest",
    "LiveFragment",
    "NoteVerifier",
    "OpenedFragment",
    "OrderField",
    "OrderView",
    "PendingLease",
    "Profile",
    "ReplayGuard",
    "RuleRef",
    "ServiceSettings",
    "SigningKey",
    "SuiteName",
    "Tombstone",
    "TombstoneSink",
    "Verified",
    "Verifier",
    "note_signer",
    "note_verifier",
    "verify_log_grew",
    "verify_receipt",
]
