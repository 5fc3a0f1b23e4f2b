"""The manifest: what a channel brought into an alignment, for what purpose and until when, signed by its node.

Claim: a manifest that `verify` and `insist` let pass was signed by the registered node for this run and this purpose, and has not expired.
Precondition: node keys are the registered ones; the clock is right.
Argument: every field is under the signature (Ed25519, RFC 8032), in a context of its own.
Not claimed: that the customers behind the count did consent. Only the channel sees their consents; it signs that it asked them.
"""

import hashlib
from typing import Self

import msgspec

from dayfly.federation.errors import ManifestExpired, WrongManifest
from dayfly.federation.identity import Identities, SigningIdentity

__all__ = ["Manifest"]

_KIND = b"manifest"


class Manifest(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """A channel's signed statement about its set.

    Attributes:
        party: The channel.
        run: Of the alignment.
        purpose: What its customers consented to.
        count: Size of its set, padding included.
        issued_ms: When consents were decided, int64 milliseconds UTC.
        expires_ms: First instant at which the set must not be used any more.
        points_digest: 32 bytes, SHA-256 of the blinded set as it left the channel.
        signature: 64 bytes of Ed25519.
    """

    party: str
    run: bytes
    purpose: str
    count: int
    issued_ms: int
    expires_ms: int
    points_digest: bytes
    signature: bytes = b""

    def signed(self, identity: SigningIdentity) -> Self:
        """The manifest with its channel's signature.

        Raises:
            WrongManifest: it is another channel's.
        """
        if identity.name != self.party:
            raise WrongManifest(self.party, f"must sign its own manifest; {identity.name!r} cannot")
        return msgspec.structs.replace(self, signature=identity.sign(_KIND, self._body()))

    def digest(self) -> bytes:
        """32 bytes that name the manifest: SHA-256 of everything that is signed."""
        return hashlib.sha256(self._body()).digest()

    def verify(self, identities: Identities, *, run: bytes) -> None:
        """Insist on the channel's signature for a run.

        Raises:
            WrongIdentity: the channel's registered node did not sign it, or it was changed.
            WrongManifest: it is of another run.
        """
        identities.verify(self.party, _KIND, self._body(), self.signature)
        if self.run != run:
            raise WrongManifest(
                self.party, "must send the manifest of this run, not of another one; align again"
            )

    def insist(self, now_ms: int, purpose: str) -> None:
        """Insist that the set may be used for a purpose at an instant.

        Raises:
            ManifestExpired: not any more, or not yet.
            WrongManifest: it is for another purpose.
        """
        if self.purpose != purpose:
            raise WrongManifest(
                self.party,
                f"must have a manifest for purpose={purpose!r}, not {self.purpose!r}; align again for that purpose",
            )
        if not self.issued_ms <= now_ms < self.expires_ms:
            raise ManifestExpired(
                self.party,
                f"must have a manifest that holds at now_ms={now_ms}, not one from {self.issued_ms} to {self.expires_ms}; align again",
            )

    def _body(self) -> bytes:
        return msgspec.msgpack.encode(msgspec.structs.replace(self, signature=b""))
