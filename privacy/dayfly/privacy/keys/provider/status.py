"""What may be shown of a provider's keys: names, versions and times, never a key."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from dayfly.privacy.fragments import SigningKey

from .material import Material, Versions, load_p256

__all__ = ["KeyStatus", "SigningState", "SigningStatus", "VersionStatus", "status_of"]


class SigningState(StrEnum):
    """Where a signing key is in its life."""

    PUBLISHED = "published"
    """Known to verifiers, not used yet."""
    SIGNING = "signing"
    VERIFYING = "verifying"
    """Replaced; its fragments may still live."""
    ENDED = "ended"
    """No fragment of it lives; dropped at the next rotation or by `drop_ended_signing`."""


@dataclass(frozen=True, slots=True)
class SigningStatus:
    """A signing key.

    Attributes:
        kid: Public thumbprint.
        state: Where it is in its life.
        published_ms: Since when verifiers may know it.
        use_from_ms: Since when it signs.
        verify_until_ms: When its last fragment has ended; None while it is the newest.
    """

    kid: str
    state: SigningState
    published_ms: int
    use_from_ms: int
    verify_until_ms: int | None


class VersionStatus(NamedTuple):
    """A version of a symmetric secret."""

    version: int
    made_ms: int


@dataclass(frozen=True, slots=True)
class KeyStatus:
    """All keys of a provider.

    Attributes:
        tenant: Name of the tenant.
        tenant_id: Its id as hexadecimal digits.
        origin: Name under which checkpoints are signed.
        seal: `passphrase`, `keyring`, `kms` or `bare`.
        signing: Signing keys, oldest first.
        versions: Secret (`pseudonym`, `kek` or a `KeyName`) to its versions, oldest first.
    """

    tenant: str
    tenant_id: str
    origin: str
    seal: str
    signing: tuple[SigningStatus, ...]
    versions: Mapping[str, tuple[VersionStatus, ...]]


def _versions(versions: Versions) -> tuple[VersionStatus, ...]:
    return tuple(VersionStatus(number, versions[number].made_ms) for number in sorted(versions))


def _signing(material: Material, now_ms: int) -> tuple[SigningStatus, ...]:
    found = []
    newest = max(entry.use_from_ms for entry in material.signing)
    for entry in material.signing:
        if entry.ended(now_ms):
            state = SigningState.ENDED
        elif now_ms < entry.use_from_ms:
            state = SigningState.PUBLISHED
        elif entry.use_from_ms < newest <= now_ms:
            state = SigningState.VERIFYING
        else:
            state = SigningState.SIGNING
        kid = SigningKey(load_p256(entry.private)).kid
        found.append(SigningStatus(kid, state, entry.published_ms, entry.use_from_ms, entry.verify_until_ms))
    return tuple(found)


def status_of(material: Material, *, tenant: str, seal: str, now_ms: int) -> KeyStatus:
    """What may be shown at `now_ms`."""
    named = {name.value: _versions(versions) for name, versions in material.named.items()}
    return KeyStatus(
        tenant=tenant,
        tenant_id=material.tenant_id.hex(),
        origin=material.origin,
        seal=seal,
        signing=_signing(material, now_ms),
        versions={"pseudonym": _versions(material.pseudonyms), "kek": _versions(material.keks), **named},
    )
