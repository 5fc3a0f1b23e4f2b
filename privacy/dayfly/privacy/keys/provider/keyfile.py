"""The key file: one JSON document with a readable head and sealed secrets."""

import hashlib
from collections.abc import Callable
from typing import Final

import msgspec
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from dayfly.privacy.errors import (
    KeyStoreDamaged,
    KeyStoreForeign,
    KeyStoreVersion,
    WrongKey,
)
from dayfly.privacy.keys.interfaces import KEY_BYTES
from dayfly.privacy.keys.kek import NONCE_BYTES, seal_bytes, unseal_bytes

from .material import Material
from .seals import Facts, Seal

__all__ = ["FORMAT", "VERSION", "KeyFileHead", "read_head", "seal_material", "unseal_material"]

FORMAT: Final = "dayfly-keys"
VERSION: Final = 1
_CHECK_BYTES: Final = 16


class _Known(msgspec.Struct, frozen=True):
    format: str
    version: int


class KeyFileHead(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a key file shows without being unsealed.

    Attributes:
        format: `dayfly-keys`.
        version: Of the format.
        tenant: Name of the tenant.
        seal: How it is sealed.
    """

    format: str
    version: int
    tenant: str
    seal: Facts


class _KeyFile(KeyFileHead, frozen=True, forbid_unknown_fields=True):
    sealed: bytes
    checksum: bytes


def _check(head: bytes, sealed: bytes) -> bytes:
    digest = hashlib.blake2b(digest_size=_CHECK_BYTES, person=b"dayfly key file")
    digest.update(len(head).to_bytes(8, "little") + head + sealed)
    return digest.digest()


def _head_bytes(head: KeyFileHead) -> bytes:
    return msgspec.json.encode([head.format, head.version, head.tenant, head.seal])


def _context(tenant: str) -> dict[str, str]:
    return {"application": "dayfly", "purpose": "key file", "tenant": tenant}


def seal_material(material: Material, tenant: str, seal: Seal, random_bytes: Callable[[int], bytes]) -> bytes:
    """The file's bytes, under a content key drawn anew. Raises what the seal raises."""
    content_key = random_bytes(KEY_BYTES)
    head = KeyFileHead(FORMAT, VERSION, tenant, seal.seal(content_key, _context(tenant)))
    bound = _head_bytes(head)
    sealed = seal_bytes(
        AESGCM(content_key), msgspec.msgpack.encode(material), bound, random_bytes(NONCE_BYTES)
    )
    whole = _KeyFile(head.format, head.version, head.tenant, head.seal, sealed, _check(bound, sealed))
    return msgspec.json.format(msgspec.json.encode(whole), indent=1) + b"\n"


def _parse(raw: bytes, name: str) -> _KeyFile:
    try:
        known = msgspec.json.decode(raw, type=_Known)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        known = None
    if known is None or known.format != FORMAT:
        if b'"' + FORMAT.encode() + b'"' in raw:
            raise KeyStoreDamaged(f"path={name!r} must be a whole key file; restore it from its backup")
        raise KeyStoreForeign(f"path={name!r} must be a key file of Dayfly; give the right path")
    if known.version > VERSION:
        raise KeyStoreVersion(
            f"version={known.version!r} of {name!r} must be <= {VERSION}; use a newer Dayfly"
        )
    try:
        found = msgspec.json.decode(raw, type=_KeyFile)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        found = None
    if found is None or found.checksum != _check(_head_bytes(found), found.sealed):
        raise KeyStoreDamaged(f"path={name!r} must be a whole key file; restore it from its backup")
    return found


def read_head(raw: bytes, name: str) -> KeyFileHead:
    """What the file shows without being unsealed.

    Raises:
        KeyStoreForeign: No key file.
        KeyStoreVersion: A newer format.
        KeyStoreDamaged: Truncated or altered.
    """
    found = _parse(raw, name)
    return KeyFileHead(found.format, found.version, found.tenant, found.seal)


def unseal_material(raw: bytes, name: str, seal: Seal) -> tuple[str, Material]:
    """Tenant and secrets of a file.

    Raises:
        KeyStoreForeign: No key file.
        KeyStoreVersion: A newer format.
        KeyStoreDamaged: Truncated or altered.
        WrongKey: Another passphrase or keyring entry.
        KmsFailed: The service does not unwrap.
        KeyringUnavailable: No keyring.
        InvalidArgument: Sealed in another way.
    """
    found = _parse(raw, name)
    content_key = seal.unseal(found.seal, _context(found.tenant))
    damaged = KeyStoreDamaged(f"path={name!r} must hold sealed secrets; restore it from its backup")
    try:
        plain = unseal_bytes(AESGCM(content_key), found.sealed, _head_bytes(found))
    except (WrongKey, ValueError):
        raise damaged from None
    try:
        return found.tenant, msgspec.msgpack.decode(plain, type=Material).check()
    except (msgspec.MsgspecError, UnicodeDecodeError):
        raise damaged from None
    finally:
        plain[:] = bytes(len(plain))
