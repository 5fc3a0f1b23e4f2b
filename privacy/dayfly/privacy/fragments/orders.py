"""What the engine asks for (`FragmentOrder`) and what the mint tells about it (`OrderView`, `Fragment`, `Destroyed`)."""

from enum import StrEnum
from typing import Literal

import msgspec

from .strict import Profile
from .wire import MAX_TTL_SECONDS, JsonValue

__all__ = [
    "ConsentRef",
    "DestroyReason",
    "Destroyed",
    "EventKind",
    "Fragment",
    "FragmentEvent",
    "FragmentOrder",
    "LeaseReason",
    "LiveFragment",
    "OrderField",
    "OrderView",
    "RuleRef",
]


class OrderField(msgspec.Struct, frozen=True, gc=False):
    """One value of a fragment: a JSON scalar or a list of scalars, and the end of its own validity."""

    name: str
    value: JsonValue
    valid_until_ms: int | None = None


class ConsentRef(msgspec.Struct, frozen=True, gc=False):
    """One consent record that an order rests on, and the first instant at which it no longer holds."""

    record_id: str
    version: int
    valid_until_ms: int


class RuleRef(msgspec.Struct, frozen=True, gc=False):
    """The rule that fired."""

    id: str
    version: int


class FragmentOrder(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """An order to mint one fragment. Built by the engine; holds no key and no raw identifier.

    All times are milliseconds since 1970 UTC.
    """

    order_id: str
    """Unique per decision; a second order with the same id is refused."""
    audience: str
    """Exactly one recipient."""
    purpose: str
    topic: str = ""
    trigger_id: bytes
    """16 bytes: keyed id of the consented event that triggered the order."""
    rule: RuleRef
    fields: tuple[OrderField, ...]
    subject: bytes
    """16 bytes: the internal pseudonym; the token carries a pairwise one per audience instead."""
    consent: tuple[ConsentRef, ...]
    """At least one."""
    use: int | None = None
    """How often the key may be leased (1 = once), or None: as often as asked until it expires."""
    ttl_seconds: int = MAX_TTL_SECONDS
    issued_at_ms: int
    expires_at_ms: int
    """Already the earliest of ttl, consent ends and field ends; the mint takes the minimum again itself."""
    lineage: bytes
    """The lineage block; the token carries its SHA-256."""
    profile: Profile = Profile.F1
    version: int = 0
    """Grows with each fragment that supersedes another of the same subject and audience."""
    supersedes: tuple[str, ...] = ()
    """Ids of the orders whose fragments die when this one is minted."""


class OrderView(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What the consent gate decides on: everything of an order but its values.

    The gate is called with it at the mint and again at each lease, inside the atomic step that counts the use.
    """

    at: Literal["mint", "lease"]
    now_ms: int
    uses: int
    """Leases given so far; the one under decision not included."""
    order_id: str
    audience: str
    purpose: str
    topic: str
    trigger_id: bytes
    rule: RuleRef
    field_names: tuple[str, ...]
    subject: bytes
    consent: tuple[ConsentRef, ...]
    profile: Profile


class Fragment(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A minted fragment. `token` is what goes to the CRM."""

    token: str
    jti: str
    order_id: str
    audience: str
    profile: Profile
    issued_at_ms: int
    expires_at_ms: int
    """A whole second; the fragment is dead at this instant and valid one millisecond before."""
    kc: str = ""
    """Commitment to its key, which its tombstone will carry too; empty where there is no key."""


class DestroyReason(StrEnum):
    """Why a fragment died; part of its tombstone."""

    ABORTED = "aborted"
    """The mint failed half way; the token never left."""
    CLOSED = "closed"
    ERASED = "erased"
    EXPIRED = "expired"
    LOST = "lost"
    """The process that held the key ended without destroying it; nobody has it."""
    OPERATOR = "operator"
    SUPERSEDED = "superseded"
    USED = "used"
    WITHDRAWN = "withdrawn"


class LeaseReason(StrEnum):
    """Codes of `LeaseRefused.reason`."""

    BUSY = "busy"
    """A bounded memory (proofs, one-time keys) is full; nothing is forgotten early."""
    CONSENT = "consent"
    GONE = "gone"
    """No live fragment of that name: expired, used up, withdrawn, superseded, or never minted."""
    NOT_LEASED = "not_leased"
    """Profile and request do not fit (a clear fragment, or a question where a key is due)."""
    ONE_TIME_KEY = "one_time_key"
    """Malformed, or seen before."""
    PROOF = "proof"
    REPLAY = "replay"


class Destroyed(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One death, as the caller learns it: to send recalls and to give back a budget that was never used."""

    jti: str
    order_id: str
    audience: str
    subject: bytes
    reason: DestroyReason
    at_ms: int
    leases: int
    """0 with reason `expired` means: expired unopened."""
    consent: tuple[ConsentRef, ...]


class LiveFragment(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A fragment that can still be leased (or, in the clear, is still valid)."""

    jti: str
    order_id: str
    audience: str
    profile: Profile
    expires_at_ms: int
    leases: int


EventKind = Literal[
    "minted", "mint_refused", "leased", "lease_refused", "destroyed", "checkpoint", "unlocked"
]


class FragmentEvent(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One line of the fragment log. Holds no key, token, value or subject."""

    kind: EventKind
    at_ms: int
    jti: str = ""
    order_id: str = ""
    reason: str = ""
