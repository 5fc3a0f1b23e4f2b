"""Who is who: every party signs with the Ed25519 key that its node was registered with."""

from collections.abc import Mapping
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from dayfly.federation.errors import InvalidSetting, WrongIdentity

__all__ = ["Identities", "SigningIdentity"]

_CONTEXT: Final = b"dayfly federation v1\x00"
KEY_BYTES: Final = 32


class SigningIdentity:
    """A party's own name and private key.

    Args:
        name: As registered.
        private_key: 32 bytes, an Ed25519 private key (RFC 8032).
    """

    __slots__ = ("_key", "name")

    def __init__(self, name: str, private_key: bytes) -> None:
        if len(private_key) != KEY_BYTES:
            raise InvalidSetting(
                f"private_key={len(private_key)} bytes must be {KEY_BYTES}; pass the raw Ed25519 key"
            )
        self.name: Final = name
        self._key: Final = Ed25519PrivateKey.from_private_bytes(private_key)

    @property
    def public_key(self) -> bytes:
        """32 bytes to register."""
        return self._key.public_key().public_bytes_raw()

    def sign(self, kind: bytes, body: bytes) -> bytes:
        """64 bytes; a signature for one kind of message is none for another."""
        return self._key.sign(_CONTEXT + kind + b"\x00" + body)


class Identities:
    """Registered parties and their public keys; fixed for a run.

    Args:
        keys: Name to 32 bytes.
    """

    __slots__ = ("_keys",)

    def __init__(self, keys: Mapping[str, bytes]) -> None:
        if len(set(keys.values())) != len(keys):
            raise InvalidSetting(f"keys={sorted(keys)} must be distinct; register one key per party")
        self._keys: Final = {name: Ed25519PublicKey.from_public_bytes(key) for name, key in keys.items()}

    @property
    def names(self) -> tuple[str, ...]:
        """Registered parties, sorted."""
        return tuple(sorted(self._keys))

    def verify(self, party: str, kind: bytes, body: bytes, signature: bytes) -> None:
        """Insist on a signature.

        Raises:
            WrongIdentity: the party is not registered, or it is not its signature.
        """
        key = self._keys.get(party)
        if key is None:
            raise WrongIdentity(
                party, f"must be registered ({', '.join(self.names)}); register its node key first"
            )
        try:
            key.verify(signature, _CONTEXT + kind + b"\x00" + body)
        except InvalidSignature:
            raise WrongIdentity(
                party,
                f"must sign its {kind.decode()} with its registered key; stop the run and find out who sent it",
            ) from None
