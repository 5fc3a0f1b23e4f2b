"""What the host did with the shard's decisions, as the bytes of a log frame.

Everything in it came from the clock, from randomness or from outside, so that it cannot be had again by replaying inputs:
names of minted fragments, their ends, leases given, audit lines. No fragment key is in it, and no value of a fragment but
inside its sealed token; the clear token of an F0 fragment is left out.
"""

from typing import Final

import msgspec

from dayfly.engine.decisions import Recall, TagChange
from dayfly.engine.errors import FrameError
from dayfly.engine.intake import RejectedEvent
from dayfly.privacy.fragments import ConsentRef, FragmentOrder

__all__ = ["Counted", "Effects", "Ended", "Leased", "Minted", "Unminted", "decode_effects", "encode_effects"]

_FORMAT: Final = 1


class Minted(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A fragment was minted.

    Attributes:
        kc: Commitment to its key, as its tombstone will carry it; empty where it has no key.
        iat, exp: Issued and over, in whole seconds.
        token: What the CRM gets; empty for a fragment in the clear.
        order: Its order without the values, for the lineage.
    """

    jti: str
    kc: str
    iat: int
    exp: int
    profile: str
    token: str
    order: FragmentOrder


class Ended(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A fragment died; `consent` names the records that it rested on."""

    jti: str
    order_id: str
    audience: str
    subject: bytes
    reason: str
    at_ms: int
    leases: int
    consent: tuple[ConsentRef, ...] = ()


class Unminted(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """An order that the mint refused."""

    order_id: str
    reason: str


class Leased(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The key of a fragment was given to its audience."""

    jti: str
    at_ms: int


class Counted(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A person's data crossed a border and counts for the year."""

    subject: bytes
    recipient: str
    field_class: str
    at_ms: int


class Effects(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Wire form of a frame.

    Attributes:
        covers: Position of the newest inputs whose decisions are carried out by this and earlier effects.
        first_item: Number of the first feed item of this frame; the items follow from the lists below, in their order.
        tags: Tags entered and left, where the feed carries them.
        audit: Lines of the audit log.
        letters: Inputs that did not become events, without their content.
        erased: Erasures logged up to this position are complete: nothing can bring these persons back.
        first_stone, stones: Index of the first tombstone of this frame in the tombstone log, and the entries from there.
    """

    format: int = _FORMAT
    at_ms: int
    covers: int
    first_item: int
    minted: tuple[Minted, ...] = ()
    recalled: tuple[Recall, ...] = ()
    ended: tuple[Ended, ...] = ()
    unminted: tuple[Unminted, ...] = ()
    leased: tuple[Leased, ...] = ()
    counted: tuple[Counted, ...] = ()
    tags: tuple[TagChange, ...] = ()
    audit: tuple[bytes, ...] = ()
    letters: tuple[RejectedEvent, ...] = ()
    erased: int = 0
    first_stone: int = 0
    stones: tuple[bytes, ...] = ()


encode_effects = msgspec.msgpack.Encoder().encode
"""Bytes of an effects frame."""

_decode = msgspec.msgpack.Decoder(Effects).decode


def decode_effects(payload: bytes) -> Effects:
    """Effects of a frame.

    Raises:
        FrameError: the bytes are no such frame, or of a newer format.
    """
    try:
        effects = _decode(payload)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise FrameError(
            f"frame of {len(payload)} bytes must hold effects: {error}; restore the store from a backup"
        ) from error
    if effects.format != _FORMAT:
        raise FrameError(
            f"frame format={effects.format} must be {_FORMAT}; read it with the release that wrote it"
        )
    return effects
