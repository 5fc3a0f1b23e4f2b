"""Keyed BLAKE2b-128 (RFC 7693) with domain separation, the one primitive of this package."""

import hashlib
from typing import Final

from dayfly.privacy.errors import DeidentificationError

__all__ = ["PSEUDONYM_BYTES", "check_key", "keyed_state", "raw_bytes", "separation"]

PSEUDONYM_BYTES: Final = 16
_MIN_KEY: Final = 32
_MAX_KEY: Final = 64


def check_key(key: bytes, name: str) -> bytes:
    """Return `key` when it is 32 to 64 bytes that are not all equal; messages never show it.

    Raises:
        DeidentificationError: Wrong type, wrong length or a constant key.
    """
    if not isinstance(key, bytes) or not _MIN_KEY <= len(key) <= _MAX_KEY:
        size = len(key) if isinstance(key, bytes) else type(key).__name__
        raise DeidentificationError(
            f"{name}={size} must be {_MIN_KEY} to {_MAX_KEY} bytes; draw it from random_bytes"
        )
    if len(set(key)) == 1:
        raise DeidentificationError(f"{name}=<constant> must be random bytes; draw it from random_bytes")
    return key


def _label(text: str) -> bytes:
    return hashlib.blake2b(text.encode(), digest_size=16).digest()


def keyed_state(key: bytes, *, tenant: str, kind: str) -> "hashlib.blake2b":
    """A keyed hash state with tenant and kind mixed in as BLAKE2b salt and personalisation; copy it to use it."""
    salt, person = separation(tenant=tenant, kind=kind)
    return hashlib.blake2b(key=key, digest_size=PSEUDONYM_BYTES, salt=salt, person=person)


def separation(*, tenant: str, kind: str) -> tuple[bytes, bytes]:
    """BLAKE2b salt and personalisation that keep tenants and kinds apart."""
    return _label(tenant), _label(kind)


def raw_bytes(raw: str | bytes) -> bytes:
    """Bytes of a raw identifier, text as UTF-8.

    Raises:
        DeidentificationError: Empty, of another type, or text that UTF-8 cannot hold. The message does not show it.
    """
    try:
        data = raw.encode() if isinstance(raw, str) else raw
    except UnicodeEncodeError:
        raise DeidentificationError(
            "raw=<text> must be encodable as UTF-8; repair it at the source"
        ) from None
    if not isinstance(data, bytes) or not data:
        raise DeidentificationError(
            f"raw=<{type(raw).__name__}> must be text or bytes with content; drop the event"
        )
    return data
