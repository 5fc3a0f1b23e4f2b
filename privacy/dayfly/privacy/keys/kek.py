"""Key-encryption keys: data keys are wrapped with AES-256-GCM, which also binds where the wrapped key belongs.

AES key wrap (RFC 3394) would be deterministic and 20 bytes shorter, but cannot bind tenant, id and purpose: a wrapped key that
somebody moved to another slot would open there.
"""

from collections.abc import Callable, Mapping
from typing import Final, NoReturn

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from dayfly.privacy.errors import InvalidArgument, KeyStoreError, UnknownKey, WrongKey

__all__ = ["NONCE_BYTES", "TAG_BYTES", "KekRing", "seal_bytes", "unseal_bytes"]

NONCE_BYTES: Final = 12
TAG_BYTES: Final = 16
_KEK_BYTES: Final = 32


def seal_bytes(key: AESGCM, plaintext: bytes | bytearray, context: bytes, nonce: bytes) -> bytes:
    """`nonce || ciphertext || tag` (NIST SP 800-38D with a random 96-bit nonce)."""
    if len(nonce) != NONCE_BYTES:
        raise InvalidArgument(
            f"random_bytes({NONCE_BYTES})=<{len(nonce)} bytes> must be as many as asked; repair the source"
        )
    return nonce + key.encrypt(nonce, plaintext, context)


def unseal_bytes(key: AESGCM, sealed: bytes | memoryview, context: bytes) -> bytearray:
    """The plaintext, written straight into a buffer that the caller can overwrite.

    Raises:
        WrongKey: Another key, another context, or altered bytes: the tag does not tell which.
    """
    view = memoryview(sealed)
    plaintext = bytearray(max(len(view) - NONCE_BYTES - TAG_BYTES, 0))
    try:
        key.decrypt_into(view[:NONCE_BYTES], view[NONCE_BYTES:], context, plaintext)
    except (InvalidTag, ValueError) as error:
        raise WrongKey(
            "sealed=<bytes> must open under this key in this place; use the key that sealed it"
        ) from error
    return plaintext


class KekRing:
    """Key-encryption keys of one tenant by version; the highest wraps.

    Args:
        keys: Version (1 and up) to 32 random bytes.
        random_bytes: Source of nonces.

    Raises:
        InvalidArgument: No key, a bad version, a key of another length, or two equal keys.

    Guarantees:
        Key bytes appear in no repr, message, pickle or copy. Only OpenSSL's contexts keep them, and it overwrites those
        when they are freed.
    """

    __slots__ = ("_ciphers", "_random_bytes", "current")

    def __init__(self, keys: Mapping[int, bytes], random_bytes: Callable[[int], bytes]) -> None:
        if not keys or any(isinstance(one, bool) or not 1 <= one < 2**32 for one in keys):
            raise InvalidArgument(
                f"versions={sorted(keys)!r} must be whole numbers from 1; pass at least one key-encryption key"
            )
        for version, key in keys.items():
            if len(key) != _KEK_BYTES or len(set(key)) == 1:
                raise InvalidArgument(
                    f"kek version={version!r} must be {_KEK_BYTES} random bytes; draw it from random_bytes"
                )
        if len({bytes(key) for key in keys.values()}) != len(keys):
            raise InvalidArgument(f"versions={sorted(keys)!r} must have different keys; draw a new one each")
        self._ciphers: Final = {version: AESGCM(key) for version, key in keys.items()}
        self._random_bytes: Final = random_bytes
        self.current: Final = max(keys)

    def __repr__(self) -> str:
        """Name the versions only."""
        return f"KekRing(versions={self.versions!r})"

    def __reduce__(self) -> NoReturn:
        raise KeyStoreError("keks=<secret> must not be pickled or copied; ask the key provider again")

    @property
    def versions(self) -> tuple[int, ...]:
        """Versions that unwrap, ascending."""
        return tuple(sorted(self._ciphers))

    def wrap(self, key: bytes | bytearray, context: bytes) -> bytes:
        """A key under the current version, bound to `context`: `nonce || ciphertext || tag`, 28 bytes longer."""
        return seal_bytes(self._ciphers[self.current], key, context, self._random_bytes(NONCE_BYTES))

    def unwrap(self, version: int, wrapped: bytes | memoryview, context: bytes) -> bytearray:
        """The key again; the caller overwrites the buffer when done.

        Raises:
            UnknownKey: No such version here.
            WrongKey: Another key, another context, or altered bytes.
        """
        cipher = self._ciphers.get(version)
        if cipher is None:
            raise UnknownKey(
                f"kek version={version!r} must be one of {self.versions!r}; keep an old key until `rewrap` has finished"
            )
        return unseal_bytes(cipher, wrapped, context)
