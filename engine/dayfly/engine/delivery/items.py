"""What delivery reads from the engine's feed: a fragment can be fetched, must be forgotten, has died.

Positions rise through the feed, so that delivery can resume after a restart and drop what it has read already. Nothing here is
a value of a person in the clear: the token is sealed, the digest is keyed.
"""

import msgspec

__all__ = ["FeedItem", "FragmentEnded", "FragmentReady", "FragmentRecalled"]


class FragmentReady(msgspec.Struct, frozen=True, kw_only=True, gc=False, tag="ready"):
    """A fragment was minted and may be delivered.

    `subject_digest` says which fragments replace each other: a digest of (subject, trigger) under a key that only the engine
    holds. Of one digest and audience only the highest `version` is delivered; empty means that nothing replaces it by version.
    """

    position: int
    at_ms: int
    jti: str
    order_id: str
    audience: str
    version: int
    token: str
    expires_at_ms: int
    subject_digest: bytes = b""


class FragmentRecalled(msgspec.Struct, frozen=True, kw_only=True, gc=False, tag="recalled"):
    """Fragments are no longer true or allowed: deliver them to nobody, and tell the audience where one may have arrived.

    A fragment is meant when its order id or its own id is listed.
    """

    position: int
    at_ms: int
    audience: str
    reason: str
    order_ids: tuple[str, ...] = ()
    jtis: tuple[str, ...] = ()


class FragmentEnded(msgspec.Struct, frozen=True, kw_only=True, gc=False, tag="ended"):
    """A fragment's key is destroyed; `leases` is how often it was opened before (0 with reason `expired`: unused)."""

    position: int
    at_ms: int
    jti: str
    audience: str
    reason: str
    leases: int


FeedItem = FragmentReady | FragmentRecalled | FragmentEnded
