"""Signing keys of the issuer: publish before use, two alive at a time, retire after the last fragment."""

import hashlib
from collections.abc import Mapping

from cryptography.hazmat.primitives.asymmetric import ec

from dayfly.privacy._check import not_negative
from dayfly.privacy.errors import InvalidArgument, KeyRotationError
from dayfly.privacy.fragments.strict import Profile, sign_es256_digest
from dayfly.privacy.fragments.wire import (
    ANSWER_TYP,
    CLEAR_TYP,
    SEALED_TYP,
    b64url_bytes,
    fragment_header,
    public_jwk,
    thumbprint,
)

__all__ = ["KeyRing", "SigningKey"]

_TYPES = {Profile.F1: SEALED_TYP, Profile.F0: CLEAR_TYP, Profile.F2: ANSWER_TYP}


class SigningKey:
    """An ES256 key with its thumbprint and its fixed headers.

    Args:
        private_key: P-256.
    """

    def __init__(self, private_key: ec.EllipticCurvePrivateKey) -> None:
        if not isinstance(private_key.curve, ec.SECP256R1):
            raise InvalidArgument(
                f"private_key.curve={private_key.curve.name!r} must be secp256r1; make a P-256 key"
            )
        self._key = private_key
        self.kid = thumbprint(private_key.public_key())
        # By the profile's text: the hash of an enumeration's member is computed in Python, that of a string in C.
        self._forms = {
            profile.value: (
                fragment_header(self.kid, typ).encode("ascii") + b".",
                b"~" if profile is Profile.F1 else b"",  # an SD-JWT ends in a tilde (RFC 9901 section 4)
            )
            for profile, typ in _TYPES.items()
        }

    def __repr__(self) -> str:
        """Name the key by its public thumbprint."""
        return f"SigningKey(kid={self.kid!r})"

    def sign(self, profile: Profile, payload: bytes) -> tuple[bytes, bytes]:
        """A compact JWS (RFC 7515 section 3.1) over `payload` with the profile's fixed header, end and a low s.

        Returns:
            The token and its SHA-256: what was hashed to sign is not hashed again.
        """
        head, end = self._forms[profile.value]
        signed = head + b64url_bytes(payload)
        hashed = hashlib.sha256(signed)
        tail = b".%b%b" % (b64url_bytes(sign_es256_digest(self._key, hashed.digest())), end)
        hashed.update(tail)
        return signed + tail, hashed.digest()

    def jwk(self) -> dict[str, str]:
        """Public JWK (RFC 7517) as published."""
        return {**public_jwk(self._key.public_key()), "kid": self.kid, "use": "sig", "alg": "ES256"}


class _Published:
    __slots__ = ("key", "last_exp_ms", "published_ms", "use_from_ms")

    def __init__(self, key: SigningKey, published_ms: int, use_from_ms: int) -> None:
        self.key = key
        self.published_ms = published_ms
        self.use_from_ms = use_from_ms
        self.last_exp_ms = use_from_ms


class KeyRing:
    """The issuer's keys over time. Not thread-safe by itself; the service calls it under its lock.

    Args:
        first: The key in use from the start.
        cache_period_ms: How long verifiers may cache the key set; a new key is published this long before its use.
        skew_ms: How long a replaced key stays published after its last fragment ended.

    Guarantees:
        No token is signed by a key that was not published for one cache period (the first key excepted). A key leaves
        the set only when all its tokens are dead. At most two keys are published at a time.
    """

    def __init__(self, first: SigningKey, *, cache_period_ms: int = 600_000, skew_ms: int = 60_000) -> None:
        self._cache_period_ms = not_negative(cache_period_ms=cache_period_ms)
        self._skew_ms = not_negative(skew_ms=skew_ms)
        self._keys = [_Published(first, 0, 0)]

    def publish(self, key: SigningKey, now_ms: int, *, use_from_ms: int | None = None) -> int:
        """Publish the next key now; it signs from `use_from_ms` (default: one cache period from now), which is returned.

        Raises:
            KeyRotationError: Used too early, published already, or two keys are alive.
        """
        start = now_ms + self._cache_period_ms if use_from_ms is None else use_from_ms
        if start < now_ms + self._cache_period_ms:
            raise KeyRotationError(
                f"use_from_ms={start!r} must be >= now_ms + cache_period_ms = {now_ms + self._cache_period_ms}; wait longer"
            )
        self._retire(now_ms)
        if any(known.key.kid == key.kid for known in self._keys):
            raise KeyRotationError(f"kid={key.kid!r} must be new; make a new key")
        if len(self._keys) >= 2:
            raise KeyRotationError("len(keys)=2 must be < 2; wait until the replaced key is retired")
        self._keys.append(_Published(key, now_ms, start))
        return start

    def signing_key(self, now_ms: int, exp_ms: int) -> SigningKey:
        """The key that signs at `now_ms`; remembered as needed until `exp_ms`."""
        current = self._keys[0]
        for known in self._keys[1:]:  # in the order of their first use
            if known.use_from_ms <= now_ms:
                current = known
        current.last_exp_ms = max(current.last_exp_ms, exp_ms)
        return current.key

    def jwks(self, now_ms: int) -> Mapping[str, list[dict[str, str]]]:
        """The JWK set to publish at `now_ms`."""
        self._retire(now_ms)
        return {"keys": [known.key.jwk() for known in self._keys]}

    def _retire(self, now_ms: int) -> None:
        in_use = max(known.use_from_ms for known in self._keys if known.use_from_ms <= now_ms)
        self._keys = [
            known
            for known in self._keys
            if known.use_from_ms >= in_use or now_ms < max(known.last_exp_ms, in_use) + self._skew_ms
        ]
