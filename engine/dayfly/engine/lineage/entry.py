"""What a lineage store keeps of a fragment, and whose it is as a keyed digest."""

import hashlib
from collections.abc import Callable
from typing import Final, Self

import msgspec

from dayfly.privacy.fragments import FragmentOrder

from .block import decode
from .explain import FragmentLineage
from .shape import LineageShape

__all__ = ["SUBJECT_BYTES", "Entry", "decode_entry", "encode_entry", "subject_digest"]

SUBJECT_BYTES: Final = 16


class Entry(msgspec.Struct, frozen=True, array_like=True):
    """Wire form of a fragment's lineage. `subject` is a keyed digest; no value of a field is in it."""

    jti: str
    order_id: str
    subject: bytes
    audience: str
    purpose: str
    topic: str
    trigger_event: bytes
    issued_at_ms: int
    expires_at_ms: int
    block: bytes

    @classmethod
    def of(cls, jti: str, order: FragmentOrder, subject: bytes) -> Self:
        """Of a fragment.

        Args:
            jti: Fragment id.
            order: What it was minted for.
            subject: Digest of whose it is.
        """
        return cls(
            jti,
            order.order_id,
            subject,
            order.audience,
            order.purpose,
            order.topic,
            order.trigger_id,
            order.issued_at_ms,
            order.expires_at_ms,
            order.lineage,
        )

    def lineage(self, shape_of: Callable[[bytes], LineageShape]) -> FragmentLineage:
        """Everything kept about the fragment.

        Args:
            shape_of: The declared shape of a digest; raises where there is none.

        Raises:
            LineageError: The block is malformed.
        """
        block = decode(self.block)
        return FragmentLineage(
            jti=self.jti,
            order_id=self.order_id,
            audience=self.audience,
            purpose=self.purpose,
            topic=self.topic,
            trigger_event=self.trigger_event,
            issued_at_ms=self.issued_at_ms,
            expires_at_ms=self.expires_at_ms,
            block=block,
            shape=shape_of(block.shape),
        )


encode_entry = msgspec.msgpack.Encoder().encode
"""Bytes of an entry."""

decode_entry = msgspec.msgpack.Decoder(Entry).decode
"""Entry of such bytes; raises `msgspec.MsgspecError` where they are none."""


def subject_digest(subject: bytes, key: bytes) -> bytes:
    """Sixteen bytes that stand for a pseudonym; without the key nobody can tell for which.

    Args:
        subject: Pseudonym.
        key: 16 to 64 bytes.
    """
    return hashlib.blake2b(subject, digest_size=SUBJECT_BYTES, key=key, person=b"dayfly-lineage-s").digest()
