"""Keyed, versioned pseudonyms.

A plain or salted hash of an identifier falls to enumeration in seconds (a 24-bit space of MAC addresses in 8.1 s on one
core); a keyed one does not while the key is secret, and becomes unlinkable when the key is destroyed.
"""

import hashlib
from collections.abc import Callable, Mapping
from typing import Final, NamedTuple, NoReturn, Self

from dayfly.privacy.errors import DeidentificationError

from .keyed import PSEUDONYM_BYTES, check_key, keyed_state, raw_bytes, separation

__all__ = ["Pairwise", "Pseudonym", "PseudonymKeys", "pairwise"]

_AUDIENCES_KEPT: Final = 1_024


class Pseudonym(NamedTuple):
    """A pseudonym and the key version it was made under.

    Attributes:
        value: 16 bytes.
        version: Key version.
    """

    value: bytes
    version: int


class PseudonymKeys:
    """Keys of one tenant, by version; the highest version makes new pseudonyms.

    Args:
        tenant: Name of the tenant, mixed into every pseudonym.
        versions: Version (1 and up) to key (32 to 64 random bytes, no two alike).

    Raises:
        DeidentificationError: No key, a bad version, a key of the wrong length, or two equal keys.

    Guarantees:
        The same identifier under another kind, tenant or version gives an unrelated pseudonym. Key bytes appear in no
        repr, message, pickle or copy of this object.
    """

    __slots__ = ("_keys", "_states", "current_version", "tenant")

    def __init__(self, tenant: str, versions: Mapping[int, bytes]) -> None:
        if not tenant:
            raise DeidentificationError(f"tenant={tenant!r} must not be empty; name the tenant")
        if not versions:
            raise DeidentificationError("versions={} must hold a key; pass at least one version")
        for version, key in versions.items():
            if isinstance(version, bool) or not isinstance(version, int) or version < 1:
                raise DeidentificationError(
                    f"version={version!r} must be a whole number >= 1; number keys from 1"
                )
            check_key(key, f"versions[{version}]")
        if len(set(versions.values())) != len(versions):
            raise DeidentificationError(
                f"versions={sorted(versions)!r} must have different keys; draw a new one each"
            )
        self.tenant: Final = tenant
        self.current_version: Final = max(versions)
        self._keys: Final = dict(versions)
        self._states: Final[dict[tuple[int, str], Callable[[bytes], bytes]]] = {}

    def __repr__(self) -> str:
        return f"PseudonymKeys(tenant={self.tenant!r}, versions={self.versions!r})"

    def __reduce__(self) -> NoReturn:
        raise DeidentificationError(
            "keys=<secret> must not be pickled or copied; load them from their store again"
        )

    @property
    def versions(self) -> tuple[int, ...]:
        """Versions in use, ascending."""
        return tuple(sorted(self._keys))

    def hasher(self, kind: str, *, version: int | None = None) -> Callable[[bytes], bytes]:
        """A function from raw bytes to the 16-byte pseudonym, for hot loops: a pre-keyed state is copied per call.

        Args:
            kind: Domain of the identifier: `user`, `anonymous`, `device`, `group`, ...
            version: Key version, the current one by default.

        Raises:
            DeidentificationError: The version is unknown or retired, or the kind is empty.
        """
        chosen = self.current_version if version is None else version
        found = self._states.get((chosen, kind))
        if found is not None:
            return found
        key = self._keys.get(chosen)
        if key is None or not kind:
            raise DeidentificationError(
                f"version={chosen!r} kind={kind!r} must name a live key of {self.versions!r} and a kind; rotate or correct"
            )
        copy = keyed_state(key, tenant=self.tenant, kind=kind).copy

        def pseudonym(raw: bytes) -> bytes:
            state = copy()
            state.update(raw)
            return state.digest()

        self._states[(chosen, kind)] = pseudonym
        return pseudonym

    def hash_parameters(self, kind: str, *, version: int | None = None) -> tuple[bytes, bytes, bytes]:
        """Key, salt and personalisation of the kind's BLAKE2b-128, for a compiled kernel that computes the same pseudonyms.

        For immediate use: the caller forms its hash state from them and keeps none of the three.

        Raises:
            DeidentificationError: The version is unknown or retired, or the kind is empty.
        """
        chosen = self.current_version if version is None else version
        self.hasher(kind, version=chosen)
        return self._keys[chosen], *separation(tenant=self.tenant, kind=kind)

    def at(self, version: int, kind: str, raw: str | bytes) -> Pseudonym:
        """Pseudonym under one version. Raises `DeidentificationError` when it is unknown or retired."""
        return Pseudonym(self.hasher(kind, version=version)(raw_bytes(raw)), version)

    def current(self, kind: str, raw: str | bytes) -> Pseudonym:
        """Pseudonym under the newest key. Raises `DeidentificationError` on an empty or unencodable identifier."""
        return self.at(self.current_version, kind, raw)

    def previous(self, kind: str, raw: str | bytes) -> tuple[Pseudonym, ...]:
        """Pseudonyms under the older keys that still live, newest first: to link old history during the overlap."""
        older = [version for version in reversed(self.versions) if version != self.current_version]
        return tuple(self.at(version, kind, raw) for version in older)

    def rotated(self, key: bytes) -> Self:
        """Keys with one more version, which becomes the current one. Raises as the constructor."""
        return type(self)(self.tenant, {**self._keys, self.current_version + 1: key})

    def retired(self, version: int) -> Self:
        """Keys without an old version. Once its bytes are gone everywhere, its pseudonyms link to nothing.

        Raises:
            DeidentificationError: The version is unknown or the current one.
        """
        if version not in self._keys or version == self.current_version:
            raise DeidentificationError(
                f"version={version!r} must be an old one of {self.versions!r}; rotate first"
            )
        return type(self)(self.tenant, {one: key for one, key in self._keys.items() if one != version})


def pairwise(pseudonym: bytes, audience: str, key: bytes) -> bytes:
    """The person's name towards one audience, the `sub` of fragments.

    Args:
        pseudonym: 16 bytes.
        audience: Who receives.
        key: 32 to 64 bytes.

    Returns:
        16 bytes; two audiences cannot join them without the key.

    Raises:
        DeidentificationError: Wrong sizes or an empty audience.
    """
    return Pairwise(key)(pseudonym, audience)


class Pairwise:
    """`pairwise` under one key, which prepares each audience once.

    Args:
        key: 32 to 64 bytes.

    Raises:
        DeidentificationError: Not such a key.
    """

    __slots__ = ("_key", "_states")

    def __init__(self, key: bytes) -> None:
        self._key = check_key(key, "key")
        self._states: dict[str, hashlib.blake2b] = {}

    def __call__(self, pseudonym: bytes, audience: str) -> bytes:
        """The 16 bytes that `audience` may see; see `pairwise`.

        Raises:
            DeidentificationError: Wrong size or an empty audience.
        """
        if len(pseudonym) != PSEUDONYM_BYTES or not audience:
            raise DeidentificationError(
                f"pseudonym={len(pseudonym)} bytes audience={audience!r} must be 16 bytes and a name; pass both"
            )
        prepared = self._states.get(audience)
        if prepared is None:
            if len(self._states) >= _AUDIENCES_KEPT:
                self._states.clear()
            prepared = self._states[audience] = keyed_state(self._key, tenant=audience, kind="pairwise")
        state = prepared.copy()
        state.update(pseudonym)
        return state.digest()
