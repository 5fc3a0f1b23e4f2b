"""The seams of key management: what the engine and its stores ask for, and what a key service has to answer."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, tzinfo
from enum import StrEnum
from typing import Final, Protocol

from cryptography.hazmat.primitives.asymmetric import ec

from dayfly.privacy.deident import ProbeKeys, PseudonymKeys
from dayfly.privacy.fragments import KeyRing, NoteVerifier
from dayfly.privacy.fragments.tombstones.note import NoteSigner

from .kek import KekRing

__all__ = [
    "KEY_BYTES",
    "DataKeys",
    "DayKeys",
    "DestroyedKey",
    "KeyName",
    "KeyProvider",
    "Kms",
    "ListedKeys",
    "NotesKey",
]

KEY_BYTES: Final = 32


class KeyName(StrEnum):
    """The symmetric secrets of a tenant, 32 bytes each."""

    DIGEST = "digest"
    """Keys event ids and digests of original bytes. Never rotated: an event sent again must keep its id."""
    AUDIT = "audit"
    """Hides pseudonyms in the audit log."""
    LINEAGE = "lineage"
    """Hides in the lineage store whose fragment it was."""
    PAIRWISE = "pairwise"
    """Makes a person's name for each audience."""
    PROBE_CLAIM = "probe-claim"
    """Recognises claimed WiFi devices on later days. Never rotated: the claims would be lost."""


@dataclass(frozen=True, slots=True)
class DestroyedKey:
    """One line of the record of destroyed data keys; holds no key byte, fit for an erasure certificate.

    Attributes:
        key_id: Which key.
        purpose: What it was for; empty where a damaged slot no longer told.
        destroyed_ms: When it was overwritten, int64 milliseconds UTC, as read just before; after a crash in the middle, when that
            was completed.
    """

    key_id: int
    purpose: str
    destroyed_ms: int


@dataclass(frozen=True, slots=True)
class NotesKey:
    """The key under the tombstone log's checkpoints.

    Attributes:
        signer: Signs checkpoints under the tenant's origin.
        verifier: What trusts them.
        public: The same key as it is published.
    """

    signer: NoteSigner = field(repr=False)
    verifier: NoteVerifier
    public: ec.EllipticCurvePublicKey


class DataKeys(Protocol):
    """Random 256-bit keys that encrypt one thing each and are destroyed with it."""

    def create(self, purpose: str) -> tuple[int, bytes]:
        """A new key: its id, which never comes again, and 32 bytes. Durable when it returns."""
        ...

    def get(self, key_id: int) -> bytes:
        """The key's 32 bytes. Raises `KeyDestroyed` when it is gone, `UnknownKey` when it never was."""
        ...

    def destroy(self, key_ids: Iterable[int]) -> None:
        """Destroy keys, durably when it returns. Unknown ids raise and destroy nothing; destroyed ones are skipped."""
        ...

    def live(self, purpose: str) -> tuple[int, ...]:
        """Ids of the keys that exist for a purpose, ascending."""
        ...


class ListedKeys(DataKeys, Protocol):
    """Data keys that can tell for which purposes any are alive."""

    def purposes(self) -> tuple[str, ...]:
        """Purposes with at least one live key, sorted."""
        ...


class DayKeys(Protocol):
    """One key per local day; of earlier days there is none."""

    def __call__(self, day: int, /) -> bytes:
        """The key of a local day (days since 1970-01-01); entering a day destroys the keys of earlier ones."""
        ...


class Kms(Protocol):
    """A key-management service. Whatever it raises becomes `KmsFailed`; it should bound its own waiting."""

    def wrap(self, plaintext: bytes, context: Mapping[str, str]) -> bytes:
        """Ciphertext of 32 bytes, bound to the context (AWS: encryption context; Google: additional data)."""
        ...

    def unwrap(self, ciphertext: bytes, context: Mapping[str, str]) -> bytes:
        """The 32 bytes again, for the same context only."""
        ...


class KeyProvider(Protocol):
    """All long-lived secrets of one tenant. What it returns holds keys; nothing it returns shows one in its repr."""

    @property
    def tenant(self) -> str:
        """Name that separates tenants; part of every pseudonym."""
        ...

    @property
    def tenant_id(self) -> bytes:
        """16 random bytes that tie a store on disk to these keys; not secret."""
        ...

    def pseudonyms(self) -> PseudonymKeys:
        """Pseudonym keys by version; the highest makes new pseudonyms."""
        ...

    def probes(self, days: DayKeys, *, zone: tzinfo = UTC) -> ProbeKeys:
        """Keys of WiFi probes; the key of a day is asked of `days`, so it survives a restart and nothing else."""
        ...

    def signing(self, now_ms: int) -> KeyRing:
        """The keys that sign fragments, with those whose fragments may still live."""
        ...

    def notes(self) -> NotesKey:
        """The key under the tombstone log's checkpoints."""
        ...

    def key(self, name: KeyName | str, *, version: int | None = None) -> bytes:
        """A symmetric secret, 32 bytes; the newest version by default.

        Raises:
            UnknownKey: No such name, or a version that never was or was retired.
        """
        ...

    def key_versions(self, name: KeyName | str) -> tuple[int, ...]:
        """Versions of a symmetric secret that can still be read, ascending."""
        ...

    def keks(self) -> KekRing:
        """The key-encryption keys that wrap data keys, by version; the highest wraps new ones."""
        ...
