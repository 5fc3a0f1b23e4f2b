"""Key providers: the secrets of one tenant in one sealed file (`FileKeyProvider`, `EnvelopeKeyProvider`)."""

import hashlib
from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import UTC, tzinfo
from pathlib import Path
from typing import Final, NoReturn, Self

from dayfly.privacy._check import not_negative
from dayfly.privacy.deident import ProbeKeys, PseudonymKeys
from dayfly.privacy.errors import InvalidArgument, KeyStoreError, UnknownKey
from dayfly.privacy.fragments import KeyRing, SigningKey, note_signer, note_verifier
from dayfly.privacy.fragments.wire import MAX_TTL_SECONDS
from dayfly.privacy.keys.interfaces import KEY_BYTES, DayKeys, KeyName, Kms, NotesKey
from dayfly.privacy.keys.kek import KekRing

from .keyfile import seal_material, unseal_material
from .material import SKEW_MS, Material, load_p256, new_material
from .private_files import make_private, read_private, replace_private
from .seals import KmsSeal, PassphraseSeal, ScryptCost, Seal
from .status import KeyStatus, status_of

__all__ = ["EnvelopeKeyProvider", "FileKeyProvider", "SigningRotation"]


@dataclass(frozen=True, slots=True)
class SigningRotation:
    """A new signing key, for a running service: `ring.publish(key, now_ms, use_from_ms=use_from_ms)`.

    Attributes:
        key: The key; its repr shows the public thumbprint only.
        use_from_ms: When it begins to sign.
    """

    key: SigningKey
    use_from_ms: int


class _SealedProvider:
    """A `KeyProvider` over one sealed file, and the rotations.

    Guarantees:
        A rotation is durable when it returns; when it raises, file and memory are as before. What a rotation drops was
        overwritten on disk; copies of the file that somebody made still hold it. No repr, message, pickle or copy shows a key.

    What cannot be promised: the secrets are `bytes` in this process while it runs, because hashing and signing need them; Python
    neither locks nor overwrites that memory. Switch core dumps and swap off where that matters.
    """

    __slots__ = ("_digest", "_material", "_path", "_random_bytes", "_seal", "_tenant")

    def __init__(
        self,
        path: Path,
        seal: Seal,
        raw: bytes,
        opened: tuple[str, Material],
        random_bytes: Callable[[int], bytes],
    ) -> None:
        self._path: Final = path
        self._random_bytes: Final = random_bytes
        self._seal = seal
        self._digest = hashlib.sha256(raw).digest()
        self._tenant: Final = opened[0]
        self._material = opened[1]

    @classmethod
    def _create(
        cls, path: Path, tenant: str, seal: Seal, material: Material, random_bytes: Callable[[int], bytes]
    ) -> Self:
        if not tenant:
            raise InvalidArgument(f"tenant={tenant!r} must not be empty; name the tenant")
        note_signer(material.origin, load_p256(material.notes))  # refuses an origin that a note cannot carry
        raw = seal_material(material, tenant, seal, random_bytes)
        make_private(path, raw)
        return cls(path, seal, raw, (tenant, material), random_bytes)

    @classmethod
    def _open(cls, path: Path, seal: Seal, random_bytes: Callable[[int], bytes]) -> Self:
        raw = read_private(path)
        return cls(path, seal, raw, unseal_material(raw, str(path), seal), random_bytes)

    def __repr__(self) -> str:
        """Name tenant and file only."""
        return f"{type(self).__name__}(tenant={self._tenant!r}, path={str(self._path)!r})"

    def __reduce__(self) -> NoReturn:
        raise KeyStoreError("provider=<secret> must not be pickled or copied; open the key file again")

    # --- KeyProvider -------------------------------------------------------------------------------------------------

    @property
    def tenant(self) -> str:
        """Name that separates tenants; part of every pseudonym."""
        return self._tenant

    @property
    def tenant_id(self) -> bytes:
        """16 random bytes that tie a store on disk to these keys; not secret."""
        return self._material.tenant_id

    def pseudonyms(self) -> PseudonymKeys:
        """Pseudonym keys by version; the highest makes new pseudonyms."""
        return PseudonymKeys(
            self._tenant, {number: one.key for number, one in self._material.pseudonyms.items()}
        )

    def probes(self, days: DayKeys, *, zone: tzinfo = UTC) -> ProbeKeys:
        """Keys of WiFi probes; the key of a day is asked of `days`, for example `ProbeDayKeys(slots)`."""
        return ProbeKeys(
            self._tenant,
            claim_key=self.key(KeyName.PROBE_CLAIM),
            random_bytes=self._random_bytes,
            zone=zone,
            day_key=days,
        )

    def signing(self, now_ms: int) -> KeyRing:
        """The signing keys as they stand at `now_ms`: those whose fragments have all ended are left out."""
        first, *later = self._material.without_ended(now_ms).signing
        ring = KeyRing(SigningKey(load_p256(first.private)), skew_ms=SKEW_MS)
        for entry in later:
            ring.publish(
                SigningKey(load_p256(entry.private)), entry.published_ms, use_from_ms=entry.use_from_ms
            )
            if first.verify_until_ms is not None:
                ring.signing_key(entry.use_from_ms - 1, first.verify_until_ms)
        return ring

    def notes(self) -> NotesKey:
        """The key under the tombstone log's checkpoints."""
        key, origin = load_p256(self._material.notes), self._material.origin
        public = key.public_key()
        return NotesKey(note_signer(origin, key), note_verifier(origin, public), public)

    def key(self, name: KeyName | str, *, version: int | None = None) -> bytes:
        """A symmetric secret, 32 bytes; the newest version by default.

        Raises:
            UnknownKey: No such name, or a version that never was or was retired.
        """
        versions = self._material.named[_name(name)]
        chosen = max(versions) if version is None else version
        if chosen not in versions:
            raise UnknownKey(
                f"{_name(name).value} version={chosen!r} must be one of {sorted(versions)!r}; it may have been retired"
            )
        return versions[chosen].key

    def key_versions(self, name: KeyName | str) -> tuple[int, ...]:
        """Versions of a symmetric secret that can still be read, ascending. Raises `UnknownKey` for another name."""
        return tuple(sorted(self._material.named[_name(name)]))

    def keks(self) -> KekRing:
        """The key-encryption keys that wrap data keys, by version; the highest wraps new ones."""
        return KekRing({number: one.key for number, one in self._material.keks.items()}, self._random_bytes)

    # --- rotation ----------------------------------------------------------------------------------------------------

    def status(self, now_ms: int) -> KeyStatus:
        """Names, versions and times of all keys; nothing secret."""
        return status_of(self._material, tenant=self._tenant, seal=self._seal.kind, now_ms=now_ms)

    def rotate_signing(
        self,
        now_ms: int,
        *,
        cache_period_ms: int = 600_000,
        longest_ttl_ms: int = MAX_TTL_SECONDS * 1000,
    ) -> SigningRotation:
        """Make the next signing key: published now, used one cache period from now.

        The replaced key stays in the key set until the last fragment that it can have signed has ended.

        Args:
            now_ms: Now, int64 milliseconds UTC.
            cache_period_ms: How long verifiers may cache the key set, at least `KeyRing`'s 600,000.
            longest_ttl_ms: Longest life of a fragment.

        Raises:
            KeyRotationError: Two keys are alive; wait.
        """
        changed = self._material.with_signing(
            now_ms,
            cache_period_ms=not_negative(cache_period_ms=cache_period_ms),
            longest_ttl_ms=not_negative(longest_ttl_ms=longest_ttl_ms),
        )
        self._save(changed)
        newest = changed.signing[-1]
        return SigningRotation(SigningKey(load_p256(newest.private)), newest.use_from_ms)

    def drop_ended_signing(self, now_ms: int) -> int:
        """Destroy the signing keys whose fragments have all ended; returns how many."""
        changed = self._material.without_ended(now_ms)
        dropped = len(self._material.signing) - len(changed.signing)
        if dropped:
            self._save(changed)
        return dropped

    def rotate_pseudonyms(self, now_ms: int) -> int:
        """Make the next pseudonym key; returns its version. The older ones still find the same people."""
        self._save(self._material.with_pseudonyms(self._random_bytes(KEY_BYTES), now_ms))
        return max(self._material.pseudonyms)

    def retire_pseudonym_version(self, version: int) -> None:
        """Destroy an old pseudonym key: what is stored under it links to nobody any more.

        Raises:
            InvalidArgument: It is the current one.
            UnknownKey: There is none.
        """
        self._save(self._material.without_pseudonyms(version))

    def rotate_key(self, name: KeyName | str, now_ms: int) -> int:
        """Make the next version of a named secret and return it; `key(name, version=...)` still gives the older ones.

        Raises:
            InvalidArgument: `digest` and `probe-claim` must stay as they are.
            UnknownKey: No such name.
        """
        chosen = _name(name)
        self._save(self._material.with_named(chosen, self._random_bytes(KEY_BYTES), now_ms))
        return max(self._material.named[chosen])

    def retire_key_version(self, name: KeyName | str, version: int) -> None:
        """Destroy an old version of a named secret: what only it can read is gone. Raises as `retire_pseudonym_version`."""
        self._save(self._material.without_named(_name(name), version))

    def rotate_kek(self, now_ms: int) -> int:
        """Make the next key-encryption key; returns its version. Then: `slots.rewrap(provider.keks())`, then `retire_kek`."""
        self._save(self._material.with_kek(self._random_bytes(KEY_BYTES), now_ms))
        return max(self._material.keks)

    def retire_kek(self, version: int, *, in_use: Collection[int]) -> None:
        """Destroy an old key-encryption key.

        Args:
            version: Which.
            in_use: What `SlotKeys.keks_in_use` says of the tenant's stores, all of them together.

        Raises:
            InvalidArgument: It is the current one, or still in use.
            UnknownKey: There is none.
        """
        self._save(self._material.without_kek(version, in_use))

    def change_seal(self, seal: Seal) -> None:
        """Seal the file in another way from now on. Raises what the new seal raises; the old one then still holds."""
        self._save(self._material, seal=seal)

    def _save(self, material: Material, *, seal: Seal | None = None) -> None:
        """Seal first, write then, change memory last."""
        chosen = seal or self._seal
        raw = seal_material(material, self._tenant, chosen, self._random_bytes)
        replace_private(self._path, raw, expected=self._digest)
        self._digest = hashlib.sha256(raw).digest()
        self._material, self._seal = material, chosen


def _name(name: KeyName | str) -> KeyName:
    try:
        return KeyName(name)
    except ValueError:
        raise UnknownKey(
            f"name={name!r} must be one of {[one.value for one in KeyName]!r}; choose one"
        ) from None


class FileKeyProvider(_SealedProvider):
    """The secrets of one tenant in a file of mode 0600 in a folder of mode 0700.

    The file is sealed under a passphrase (`PassphraseSeal`), a keyring entry (`KeyringSeal`) or, when the caller says so by
    constructing it, not at all (`BareSeal`).
    """

    __slots__ = ()

    @classmethod
    def create(
        cls,
        path: Path,
        tenant: str,
        *,
        seal: Seal,
        random_bytes: Callable[[int], bytes],
        now_ms: int,
        origin: str | None = None,
    ) -> Self:
        """Draw all secrets of a tenant and keep them in a new file.

        Args:
            path: The file; its folder is made with mode 0700 when it is missing.
            tenant: Name that separates tenants; part of every pseudonym, so it can never change.
            seal: How the file is sealed.
            random_bytes: For example `os.urandom`. P-256 keys are drawn by `cryptography`.
            now_ms: Now, int64 milliseconds UTC.
            origin: Name under which checkpoints are signed, by default `dayfly.example/<tenant>`.

        Raises:
            KeyStoreExists: There is a file already.
            KeyFileUnsafe: The folder lets others in.
            KeyStoreFailed: The operating system refuses.
            InvalidArgument: No tenant, an origin that a note cannot carry, or a short passphrase.
            KeyringUnavailable: The seal finds no keyring.
        """
        material = new_material(random_bytes, now_ms, origin=origin or f"dayfly.example/{tenant}")
        return cls._create(path, tenant, seal, material, random_bytes)

    @classmethod
    def open(cls, path: Path, *, seal: Seal, random_bytes: Callable[[int], bytes]) -> Self:
        """Open a key file.

        Raises:
            WrongKey: Another passphrase or keyring entry.
            KeyStoreDamaged: Truncated or altered.
            KeyStoreForeign: No key file.
            KeyStoreVersion: A newer format.
            KeyFileUnsafe: The file or its folder lets others in.
            KeyStoreFailed: Missing, or the operating system refuses.
            KeyringUnavailable: The seal finds no keyring.
            InvalidArgument: It is sealed in another way.
        """
        return cls._open(path, seal, random_bytes)

    def change_passphrase(self, passphrase: Callable[[], str], *, cost: ScryptCost | None = None) -> None:
        """Seal under another passphrase, with a new salt and a new content key.

        Args:
            passphrase: Gives the new one.
            cost: scrypt parameters from now on, by default `ScryptCost()`.

        Raises:
            InvalidArgument: The passphrase is too short; the old one still holds.
        """
        self.change_seal(PassphraseSeal(passphrase, random_bytes=self._random_bytes, cost=cost))


class EnvelopeKeyProvider(_SealedProvider):
    """The secrets of one tenant in a file whose content key a key-management service wraps.

    The service sees a 32-byte content key and the context `{application, purpose, tenant}`, never a secret of the tenant. Its
    key policy decides who can open the file; destroying its key destroys everything under it.
    """

    __slots__ = ()

    @classmethod
    def create(
        cls,
        path: Path,
        tenant: str,
        *,
        kms: Kms,
        random_bytes: Callable[[int], bytes],
        now_ms: int,
        origin: str | None = None,
    ) -> Self:
        """Draw all secrets of a tenant and keep them in a new file.

        Args:
            path: As `FileKeyProvider.create`.
            tenant: As `FileKeyProvider.create`.
            kms: Wraps the content key, also at each rotation.
            random_bytes: As `FileKeyProvider.create`.
            now_ms: As `FileKeyProvider.create`.
            origin: As `FileKeyProvider.create`.

        Raises:
            KmsFailed: The service does not wrap; no file was made.
            KeyStoreExists: There is a file already.
            KeyFileUnsafe: The folder lets others in.
            KeyStoreFailed: The operating system refuses.
            InvalidArgument: No tenant, or an origin that a note cannot carry.
        """
        material = new_material(random_bytes, now_ms, origin=origin or f"dayfly.example/{tenant}")
        return cls._create(path, tenant, KmsSeal(kms), material, random_bytes)

    @classmethod
    def open(cls, path: Path, *, kms: Kms, random_bytes: Callable[[int], bytes]) -> Self:
        """Open a key file.

        Raises:
            KmsFailed: Denied, timed out, or wrapped by another key or for another tenant.
            KeyStoreDamaged: Truncated or altered.
            KeyStoreForeign: No key file.
            KeyStoreVersion: A newer format.
            KeyFileUnsafe: The file or its folder lets others in.
            KeyStoreFailed: Missing, or the operating system refuses.
            InvalidArgument: It is sealed in another way.
        """
        return cls._open(path, KmsSeal(kms), random_bytes)

    def change_kms(self, kms: Kms) -> None:
        """Let another service, or another of its keys, wrap from now on. Raises `KmsFailed`; the old one then still holds."""
        self.change_seal(KmsSeal(kms))
