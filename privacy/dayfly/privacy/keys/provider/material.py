"""The long-lived secrets of a tenant as one value, and how rotation changes it. Pure: every change makes a new value."""

from collections.abc import Callable, Collection
from typing import Any, Final, Self

import msgspec
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_der_private_key,
)

from dayfly.privacy.errors import InvalidArgument, KeyRotationError, KeyStoreDamaged, UnknownKey
from dayfly.privacy.keys.interfaces import KEY_BYTES, KeyName
from dayfly.privacy.keys.slots.layout import TENANT_BYTES

__all__ = [
    "SKEW_MS",
    "Material",
    "SigningEntry",
    "Version",
    "load_p256",
    "new_material",
    "new_p256",
]

SKEW_MS: Final = 60_000
"""How long a replaced signing key stays published after its last fragment ended, as in `KeyRing`."""
_FIXED: Final = frozenset({KeyName.DIGEST, KeyName.PROBE_CLAIM})


class _Secret(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A struct whose repr shows nothing."""

    def __repr__(self) -> str:
        return f"{type(self).__name__}(<secret>)"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        return []


class SigningEntry(_Secret, frozen=True):
    """A signing key and its time.

    Attributes:
        private: PKCS 8, DER.
        published_ms: Since when verifiers may know it.
        use_from_ms: Since when it signs.
        verify_until_ms: When the last fragment that it signed has ended; None while it is the newest.
    """

    private: bytes
    published_ms: int
    use_from_ms: int
    verify_until_ms: int | None = None

    def ended(self, now_ms: int) -> bool:
        """Whether nothing that it signed is alive."""
        return self.verify_until_ms is not None and now_ms >= self.verify_until_ms + SKEW_MS


class Version(_Secret, frozen=True):
    """One version of a symmetric secret.

    Attributes:
        key: 32 bytes.
        made_ms: When it was drawn.
    """

    key: bytes
    made_ms: int


Versions = dict[int, Version]


class Material(_Secret, frozen=True):
    """Everything that a provider keeps secret.

    Attributes:
        tenant_id: 16 random bytes; not secret.
        origin: Name under which checkpoints are signed; not secret.
        signing: Signing keys in the order of their use, at most two.
        notes: PKCS 8, DER.
        pseudonyms: Pseudonym keys.
        named: The secrets of `KeyName`.
        keks: Key-encryption keys.
    """

    tenant_id: bytes
    origin: str
    signing: tuple[SigningEntry, ...]
    notes: bytes
    pseudonyms: Versions
    named: dict[KeyName, Versions]
    keks: Versions

    def check(self) -> Self:
        """Return itself when it is complete.

        Raises:
            KeyStoreDamaged: A secret is missing or of the wrong size.
        """
        groups = [self.pseudonyms, self.keks, *self.named.values()]
        whole = (
            len(self.tenant_id) == TENANT_BYTES
            and 1 <= len(self.signing) <= 2
            and set(self.named) == set(KeyName)
            and all(groups)
            and all(
                number >= 1 and len(one.key) == KEY_BYTES for group in groups for number, one in group.items()
            )
        )
        if not whole:
            raise KeyStoreDamaged(
                "secrets=<incomplete> must hold every key of a tenant; restore the key file from its backup"
            )
        for entry in self.signing:
            load_p256(entry.private)
        load_p256(self.notes)
        return self

    def with_signing(self, now_ms: int, *, cache_period_ms: int, longest_ttl_ms: int) -> Self:
        """One more signing key, used one cache period from now; ended ones are dropped.

        Raises:
            KeyRotationError: Two keys are alive already.
        """
        first, *others = self.without_ended(now_ms).signing
        if others:
            until = first.verify_until_ms
            raise KeyRotationError(
                f"signing keys={1 + len(others)} must be < 2; wait until the replaced one has ended at {until} + {SKEW_MS} ms"
            )
        use_from_ms = now_ms + cache_period_ms
        replaced = msgspec.structs.replace(first, verify_until_ms=use_from_ms + longest_ttl_ms)
        return msgspec.structs.replace(
            self, signing=(replaced, SigningEntry(new_p256(), now_ms, use_from_ms))
        )

    def without_ended(self, now_ms: int) -> Self:
        """Without the signing keys whose fragments have all ended."""
        return msgspec.structs.replace(
            self, signing=tuple(entry for entry in self.signing if not entry.ended(now_ms))
        )

    def with_pseudonyms(self, key: bytes, now_ms: int) -> Self:
        """One more pseudonym key, which becomes the current one."""
        return msgspec.structs.replace(self, pseudonyms=_added(self.pseudonyms, key, now_ms))

    def without_pseudonyms(self, version: int) -> Self:
        """Without an old pseudonym key. Raises `InvalidArgument` for the current one, `UnknownKey` for none."""
        return msgspec.structs.replace(self, pseudonyms=_removed(self.pseudonyms, "pseudonym", version))

    def with_named(self, name: KeyName, key: bytes, now_ms: int) -> Self:
        """One more version of a named secret.

        Raises:
            InvalidArgument: The secret must stay as it is.
        """
        if name in _FIXED:
            raise InvalidArgument(
                f"name={name.value!r} must not be rotated, because events sent again and claims would no longer be "
                f"recognised; rotate another one, or start a new store"
            )
        return msgspec.structs.replace(
            self, named={**self.named, name: _added(self.named[name], key, now_ms)}
        )

    def without_named(self, name: KeyName, version: int) -> Self:
        """Without an old version of a named secret. Raises as `without_pseudonyms`."""
        return msgspec.structs.replace(
            self, named={**self.named, name: _removed(self.named[name], name.value, version)}
        )

    def with_kek(self, key: bytes, now_ms: int) -> Self:
        """One more key-encryption key, which wraps from now on."""
        return msgspec.structs.replace(self, keks=_added(self.keks, key, now_ms))

    def without_kek(self, version: int, in_use: Collection[int]) -> Self:
        """Without an old key-encryption key.

        Raises:
            InvalidArgument: It is the current one, or some data key is still under it.
            UnknownKey: There is none of that version.
        """
        if version in in_use:
            raise InvalidArgument(
                f"version={version!r} must not be among in_use={sorted(in_use)!r}; let `SlotKeys.rewrap` finish first"
            )
        return msgspec.structs.replace(self, keks=_removed(self.keks, "kek", version))


def _added(versions: Versions, key: bytes, now_ms: int) -> Versions:
    if len(key) != KEY_BYTES or any(key == one.key for one in versions.values()):
        raise InvalidArgument(
            f"random_bytes({KEY_BYTES})=<{len(key)} bytes> must be {KEY_BYTES} new random bytes; repair the source"
        )
    return {**versions, max(versions, default=0) + 1: Version(key, now_ms)}


def _removed(versions: Versions, kind: str, version: int) -> Versions:
    if version not in versions:
        raise UnknownKey(f"{kind} version={version!r} must be one of {sorted(versions)!r}; choose an old one")
    if version == max(versions):
        raise InvalidArgument(f"{kind} version={version!r} must not be the current one; rotate first")
    return {number: one for number, one in versions.items() if number != version}


def new_material(random_bytes: Callable[[int], bytes], now_ms: int, *, origin: str) -> Material:
    """Fresh secrets. The P-256 keys are drawn by `cryptography`, everything else from `random_bytes`."""
    return Material(
        tenant_id=random_bytes(TENANT_BYTES),
        origin=origin,
        signing=(SigningEntry(new_p256(), now_ms, now_ms),),
        notes=new_p256(),
        pseudonyms=_added({}, random_bytes(KEY_BYTES), now_ms),
        named={name: _added({}, random_bytes(KEY_BYTES), now_ms) for name in KeyName},
        keks=_added({}, random_bytes(KEY_BYTES), now_ms),
    ).check()


def new_p256() -> bytes:
    """A new P-256 private key as PKCS 8, DER."""
    key = ec.generate_private_key(ec.SECP256R1())
    return key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())


def load_p256(der: bytes) -> ec.EllipticCurvePrivateKey:
    """The private key.

    Raises:
        KeyStoreDamaged: Not a P-256 key.
    """
    try:
        key = load_der_private_key(der, None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
        raise KeyStoreDamaged(
            "signing key=<secret> must be a P-256 key; restore the key file from its backup"
        )
    return key
