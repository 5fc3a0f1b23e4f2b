"""Key agreement and mask streams: X25519 (RFC 7748), HKDF-SHA-256 (RFC 5869), ChaCha20 (RFC 8439); all seeds have 256 bits."""

from typing import Final

import numpy as np
from cryptography.hazmat.primitives import hashes, hmac
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from numpy.typing import NDArray

from dayfly.federation.errors import BadMessage

__all__ = ["PairKeys", "Seeds", "commitment", "derive", "mask", "stream"]

_BYTES: Final = 32
TAG_BYTES: Final = 16


def derive(secret: bytes, label: str, *context: bytes) -> bytes:
    """32 bytes from a secret; context parts are framed, so that no two lists of parts are the same input."""
    info = b"dayfly secagg v1 " + label.encode() + b"".join(len(part).to_bytes(4) + part for part in context)
    return HKDF(hashes.SHA256(), _BYTES, salt=None, info=info).derive(secret)


def stream(seed: bytes, size: int) -> bytes:
    """Key stream of a seed that is used once."""
    return Cipher(algorithms.ChaCha20(seed, bytes(16)), mode=None).encryptor().update(bytes(size))


def mask(seed: bytes, words: int) -> NDArray[np.uint64]:
    """Uniform ring words of a seed."""
    return np.frombuffer(stream(seed, 8 * words), "<u8")


def commitment(seed: bytes) -> bytes:
    """32 bytes that tell nothing about a uniform seed, and fit no other."""
    digest = hashes.Hash(hashes.SHA256())
    digest.update(b"dayfly secagg v1 commitment" + seed)
    return digest.finalize()


class PairKeys:
    """What two parties of a session share.

    Args:
        secret: Of the key agreement.
        session: 32 bytes that name session and roster.
        pair: Both names, sorted, framed.
    """

    __slots__ = ("_master", "_tags")

    def __init__(self, secret: bytes, session: bytes, pair: bytes) -> None:
        self._master: Final = derive(secret, "pair", session, pair)
        self._tags: Final = derive(self._master, "tags")

    def seed(self, round_number: int) -> bytes:
        """Seed of the pair's mask in a round, before the release is bound in."""
        return derive(self._master, "round", round_number.to_bytes(4))

    def channel(self, sender: str) -> bytes:
        """Key under which `sender` encrypts its one bundle for the other."""
        return derive(self._master, "channel", sender.encode())

    def tag(self, sender: str, transcript: bytes) -> bytes:
        """Proof for the other that `sender` took part in exactly this round."""
        code = hmac.HMAC(self._tags, hashes.SHA256())
        code.update(len(sender).to_bytes(4) + sender.encode() + transcript)
        return code.finalize()[:TAG_BYTES]


class Seeds:
    """A member's own secrets of a session, all derived from 32 random bytes."""

    __slots__ = ("_root", "agreement")

    def __init__(self, root: bytes) -> None:
        self._root: Final = root
        self.agreement: Final = X25519PrivateKey.from_private_bytes(derive(root, "agreement"))

    @property
    def public_key(self) -> bytes:
        """32 bytes for the others."""
        return self.agreement.public_key().public_bytes_raw()

    def secret_with(self, party: str, public_key: bytes) -> bytes:
        """The agreed secret.

        Raises:
            BadMessage: the key is of small order or malformed (RFC 7748, section 6.1).
        """
        try:
            return self.agreement.exchange(X25519PublicKey.from_public_bytes(public_key))
        except ValueError:
            raise BadMessage(party, "must send a valid X25519 key; restart its node") from None

    def own(self, round_number: int) -> bytes:
        """Seed of the member's self-mask in a round."""
        return derive(self._root, "self", round_number.to_bytes(4))

    def polynomial(self, session: bytes, size: int) -> bytes:
        """Coefficients for sharing; bound to the session and roster, so that two rosters never share one polynomial."""
        return stream(derive(self._root, "polynomial", session), size)
