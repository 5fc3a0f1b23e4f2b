"""What channels send each other through the coordinator, so that it can neither read nor change it.

Claim: the coordinator learns the length of what one channel sends another, and nothing else; what opens was sealed by that channel, in
this run, with this roster, for this place in the protocol.
Precondition: node keys are the registered ones; `random_bytes` is good.
Argument: X25519 agreement (RFC 7748) of keys that live for one run, each signed by its node together with run and settings; HKDF-SHA-256
(RFC 5869) gives a key for each direction, bound to the digest of the roster; ChaCha20-Poly1305 (RFC 8439) with a nonce that is the place in the
protocol. A party seals once for each place.
"""

import hashlib
from collections.abc import Iterable
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from dayfly.federation.errors import BadMessage

__all__ = ["TAG_BYTES", "Agreement", "Place", "Seals", "framed", "group_key"]

TAG_BYTES: Final = 16
_KEY_BYTES: Final = 32

Place = tuple[int, int, int]
"""What a sealed message is: 0 a bundle or 1 a piece, of whose set, and which piece of it."""


def framed(*parts: bytes) -> bytes:
    """Parts one after the other, each with its length, so that no two lists of parts are the same bytes."""
    return b"".join(len(part).to_bytes(4) + part for part in parts)


class Agreement:
    """A channel's key of one run.

    Args:
        private_key: 32 random bytes.
    """

    __slots__ = ("_key",)

    def __init__(self, private_key: bytes) -> None:
        self._key: Final = X25519PrivateKey.from_private_bytes(private_key)

    @property
    def public_key(self) -> bytes:
        """32 bytes for the others."""
        return self._key.public_key().public_bytes_raw()

    def secret_with(self, party: str, public_key: bytes) -> bytes:
        """The agreed secret.

        Raises:
            BadMessage: the key is of small order or malformed (RFC 7748, section 6.1).
        """
        try:
            return self._key.exchange(X25519PublicKey.from_public_bytes(public_key))
        except ValueError:
            raise BadMessage(party, "must send a valid X25519 key; restart its node") from None


class Seals:
    """A channel's sealed lines to the others.

    Args:
        me: Its name.
        secrets: Of the others, agreed.
        roster: 32 bytes, digest of all keys, the run and the settings.
    """

    __slots__ = ("_me", "_roster", "_secrets")

    def __init__(self, me: str, secrets: Iterable[tuple[str, bytes]], roster: bytes) -> None:
        self._me: Final = me
        self._roster: Final = roster
        self._secrets: Final = dict(secrets)

    def seal(self, recipient: str, place: Place, body: bytes) -> bytes:
        """`body` for another channel; once per recipient and place."""
        return self._line(recipient, self._me, recipient).encrypt(_nonce(place), body, None)

    def open(self, sender: str, place: Place, sealed: bytes) -> bytes:
        """What another channel sealed for this one.

        Raises:
            BadMessage: it did not, or it was changed, exchanged or is of another run.
        """
        try:
            return self._line(sender, sender, self._me).decrypt(_nonce(place), sealed, None)
        except (InvalidTag, ValueError):
            raise BadMessage(
                sender,
                f"must send {self._me!r} what it sealed for it in this run; it, or the coordinator, sent something else",
            ) from None

    def _line(self, other: str, sender: str, recipient: str) -> ChaCha20Poly1305:
        info = b"dayfly alignment v1 line" + framed(self._roster, sender.encode(), recipient.encode())
        return ChaCha20Poly1305(
            HKDF(hashes.SHA256(), _KEY_BYTES, salt=None, info=info).derive(self._secrets[other])
        )


def group_key(roster: bytes, shares: Iterable[bytes]) -> bytes:
    """32 bytes that need every channel's share: the key of the hash."""
    return hashlib.sha256(b"dayfly alignment v1 group key" + framed(roster, *shares)).digest()


def _nonce(place: Place) -> bytes:
    kind, owner, piece = place
    return kind.to_bytes(1) + owner.to_bytes(1) + piece.to_bytes(10)
