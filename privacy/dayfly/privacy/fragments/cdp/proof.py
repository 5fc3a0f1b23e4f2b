"""The CDP's side of the lease proof: DPoP (RFC 9449), server nonces, bounded memories of what was used.

A proof comes from any JOSE library, so its JSON may be spelled freely; what it says is checked to the letter.
"""

import hashlib
import hmac
import json
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256

from dayfly.privacy._check import positive
from dayfly.privacy.errors import LeaseRefused, NonceRequired
from dayfly.privacy.fragments.orders import LeaseReason
from dayfly.privacy.fragments.wire import b64url, b64url_decode, thumbprint

__all__ = ["NonceSource", "SeenOnce", "check_proof"]

_ECDSA = ec.ECDSA(SHA256())
_MAX_PROOF_CHARS = 4096
_JWK_MEMBERS = {"kty", "crv", "x", "y", "kid", "use", "alg", "key_ops", "ext"}


class NonceSource:
    """Server nonces without a table: each is a keyed hash of its time window.

    Args:
        key: 32 secret bytes.
        window_ms: A nonce is accepted in its own window and the next one.
    """

    def __init__(self, key: bytes, *, window_ms: int = 60_000) -> None:
        self._key = key
        self.window_ms = positive(window_ms=window_ms)

    def current(self, now_ms: int) -> str:
        """The nonce to hand out at `now_ms`."""
        return self._of(now_ms // self.window_ms)

    def accepts(self, nonce: object, now_ms: int) -> bool:
        """Whether `nonce` was handed out in this window or the one before."""
        if not isinstance(nonce, str) or not nonce.isascii():
            return False
        window = now_ms // self.window_ms
        return any(hmac.compare_digest(nonce, self._of(index)) for index in (window, window - 1))

    def _of(self, window: int) -> str:
        return b64url(
            hmac.digest(self._key, b"dpop-nonce" + window.to_bytes(8, "big", signed=True), "sha256")[:18]
        )


class SeenOnce:
    """Remembers tokens for a time; full means refuse, never forget.

    Args:
        capacity: Largest number remembered.
        keep_ms: How long each is remembered at least.
    """

    def __init__(self, *, capacity: int, keep_ms: int) -> None:
        self._capacity = positive(capacity=capacity)
        self._keep_ms = positive(keep_ms=keep_ms)
        self._until: dict[bytes, int] = {}  # insertion order is time order: the oldest stands first

    def __len__(self) -> int:
        """Number remembered."""
        return len(self._until)

    def admit(self, token: bytes, now_ms: int, reason: LeaseReason) -> None:
        """Let `token` through the first time.

        Args:
            token: What must not come twice.
            now_ms: Never falls from call to call.
            reason: Code of the refusal when it was seen before.

        Raises:
            LeaseRefused: Seen before, or (`busy`) no room.
        """
        while self._until and self._until[oldest := next(iter(self._until))] <= now_ms:
            del self._until[oldest]
        if token in self._until:
            raise LeaseRefused(reason, "make a new proof and a new one-time key for every request")
        if len(self._until) >= self._capacity:
            raise LeaseRefused(LeaseReason.BUSY, "ask again in a minute")
        self._until[token] = now_ms + self._keep_ms


def _no_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("members must not repeat; send each once")
    return members


def _object(text: str) -> dict[str, Any]:
    value = json.loads(b64url_decode(text).decode("utf-8"), object_pairs_hook=_no_repeats)
    if not isinstance(value, dict):
        raise TypeError("JSON must be an object; send one")
    return value


def _proof_key(header: dict[str, Any]) -> ec.EllipticCurvePublicKey:
    """The P-256 key inside the header (RFC 9449 section 4.2)."""
    jwk = header["jwk"]
    if header.keys() != {"typ", "alg", "jwk"} or header["typ"] != "dpop+jwt" or header["alg"] != "ES256":
        raise ValueError("header must be exactly typ, alg and jwk; use a DPoP library")
    if not jwk.keys() <= _JWK_MEMBERS or jwk["kty"] != "EC" or jwk["crv"] != "P-256":
        raise ValueError("jwk must be a public P-256 key; send kty, crv, x and y")
    x, y = b64url_decode(jwk["x"]), b64url_decode(jwk["y"])
    if len(x) != 32 or len(y) != 32:
        raise ValueError("x and y must have 32 bytes each; keep leading zeros")
    numbers = ec.EllipticCurvePublicNumbers(
        int.from_bytes(x, "big"), int.from_bytes(y, "big"), ec.SECP256R1()
    )
    return numbers.public_key()


def _read(proof: str) -> tuple[str, dict[str, Any]]:
    """Thumbprint and claims of a proof whose signature holds."""
    if not isinstance(proof, str) or len(proof) > _MAX_PROOF_CHARS:
        raise ValueError("proof must be a compact JWS of <= 4096 characters; send a DPoP proof")
    header_text, payload_text, signature_text = proof.split(".")
    key = _proof_key(_object(header_text))
    signature = b64url_decode(signature_text)
    if len(signature) != 64:
        raise ValueError("signature must have 64 bytes; use ES256")
    der = encode_dss_signature(int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big"))
    key.verify(der, f"{header_text}.{payload_text}".encode("ascii"), _ECDSA)
    return thumbprint(key), _object(payload_text)


def check_proof(
    proof: str,
    *,
    jkt: str,
    url: str,
    token_hash: bytes,
    one_time_public: bytes,
    nonces: NonceSource,
    now_ms: int,
    max_age_ms: int,
) -> str:
    """Check a DPoP proof against one fragment and one one-time key.

    Args:
        proof: Compact JWS.
        jkt: Thumbprint in the fragment's `cnf`.
        url: The lease service's own URL (`htu`).
        token_hash: SHA-256 of the fragment as issued (`ath`).
        one_time_public: The public key of the request (`otk` is its SHA-256), so that nobody can swap it.
        nonces: Server nonces.
        now_ms: Current time.
        max_age_ms: Largest distance of `iat` from now, either way.

    Returns:
        The proof's `jti`, to be admitted once.

    Raises:
        LeaseRefused: `proof`, without saying which part.
        NonceRequired: All else holds, and the nonce is not current.
    """
    expected = {
        "htm": "POST",
        "htu": url,
        "ath": b64url(token_hash),
        "otk": b64url(hashlib.sha256(one_time_public).digest()),
    }
    claims: dict[str, Any] = {}
    jti: object = None
    try:
        holder, claims = _read(proof)
        iat, jti = claims["iat"], claims["jti"]
        held = (
            hmac.compare_digest(holder, jkt)
            and type(iat) is int
            and abs(iat * 1000 - now_ms) <= max_age_ms
            and type(jti) is str
            and 16 <= len(jti) <= 256
            and all(claims.get(name) == value for name, value in expected.items())
        )
    except (InvalidSignature, ValueError, TypeError, KeyError, AttributeError, RecursionError, OverflowError):
        held = False
    if not held:
        raise LeaseRefused(
            LeaseReason.PROOF, "send a DPoP proof by the registered key for exactly this request"
        )
    if not nonces.accepts(claims.get("nonce"), now_ms):
        raise NonceRequired(nonces.current(now_ms))
    return str(jti)
