"""The strict verifier: accepts exactly the bytes that the issuer writes, and nothing that merely means the same.

One of the four files that a CRM may copy out (see `crm`). Measured reason for not using a JOSE library: carefully
configured stock libraries accept 16 to 34 of 89 hostile tokens (`docs/fragments.md`, Threat model).
"""

import hashlib
import re
from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import Any

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed, encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256

from dayfly.privacy.errors import ExpiredFragment, InvalidArgument, InvalidFragment, InvalidKeySet

from .wire import (
    ANSWER_TYP,
    CLEAR_TYP,
    MAX_EXACT_INT,
    MAX_TOKEN_CHARS,
    MAX_TTL_SECONDS,
    PAD_BLOCK_BYTES,
    RESERVED_NAMES,
    SEALED_TYP,
    AnswerClaims,
    Claims,
    ClearClaims,
    SealedClaims,
    b64url_decode,
    b64url_decode_each,
    encode,
    fragment_header,
    sealed_header,
    thumbprint,
)

__all__ = [
    "MAX_CLEAR_TTL_SECONDS",
    "P256_ORDER",
    "Profile",
    "ReplayGuard",
    "Verified",
    "Verifier",
    "read_jwks",
    "sign_es256",
    "sign_es256_digest",
    "verify_es256",
]

P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
MAX_CLEAR_TTL_SECONDS = 300
_HALF_ORDER = P256_ORDER // 2
_HALF_ORDER_BYTES = _HALF_ORDER.to_bytes(32, "big")
_ECDSA = ec.ECDSA(SHA256())
_ECDSA_DIGEST = ec.ECDSA(Prehashed(SHA256()))
_MAX_MEMBERS = 64

_LAST_OF_16 = "AQgw"  # base64url of 16 bytes ends in two bits of data and four zeros
_LAST_OF_32 = "AEIMQUYcgkosw048"  # base64url of 32 bytes ends in four bits of data and two zeros
_B64_16 = re.compile(rf"[A-Za-z0-9_-]{{21}}[{_LAST_OF_16}]", re.ASCII)
_B64_32 = re.compile(rf"[A-Za-z0-9_-]{{42}}[{_LAST_OF_32}]", re.ASCII)
_LEASE_PATH = re.compile(r"/[A-Za-z0-9._~/-]{0,127}", re.ASCII)


class Profile(StrEnum):
    """The three forms of a fragment."""

    F0 = "F0"
    """Values in the clear for at most five minutes, for a CRM that can only read a JWT."""
    F1 = "F1"
    """Values sealed under a leased key: the default."""
    F2 = "F2"
    """Yes/no answers only; no value ever leaves."""


class _Refused(Exception):  # noqa: N818 - carries the reason to the log and never leaves this module
    """Why a token was refused; for the log only."""


def _require(held: bool, reason: str) -> None:  # noqa: FBT001 - the condition is the subject of the call
    if not held:
        raise _Refused(reason)


# --- signature -------------------------------------------------------------------------------------------------------


def verify_es256(key: ec.EllipticCurvePublicKey, message: bytes, signature: bytes) -> None:
    """Check an ES256 signature (RFC 7518 section 3.4) in its one accepted form: 64 bytes with a low s.

    Args:
        key: P-256 public key.
        message: The signed bytes.
        signature: r and s, 32 big-endian bytes each.

    Raises:
        InvalidSignature: Wrong length, r or s out of range, s above half the order, or not this key's signature.

    Guarantees:
        At most one signature value is accepted per (r, message, key), so a token has no second valid spelling.
    """
    if len(signature) != 64:
        raise InvalidSignature
    r, s = int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big")
    if not (0 < r < P256_ORDER and 0 < s <= _HALF_ORDER):
        raise InvalidSignature
    key.verify(encode_dss_signature(r, s), message, _ECDSA)


def sign_es256(key: ec.EllipticCurvePrivateKey, message: bytes) -> bytes:
    """ES256 signature (RFC 7518 section 3.4) in the form that `verify_es256` accepts: 64 bytes with a low s."""
    return sign_es256_digest(key, hashlib.sha256(message).digest())


def sign_es256_digest(key: ec.EllipticCurvePrivateKey, digest: bytes) -> bytes:
    """`sign_es256` of the message with this SHA-256."""
    der = key.sign(
        digest, _ECDSA_DIGEST
    )  # 30 len 02 len(r) r 02 len(s) s; every length of a P-256 signature fits in one byte
    split = 4 + der[3]
    r, s = der[4:split][-32:].rjust(32, b"\0"), der[split + 2 :][-32:].rjust(32, b"\0")
    return r + (s if s <= _HALF_ORDER_BYTES else (P256_ORDER - int.from_bytes(s, "big")).to_bytes(32, "big"))


# --- key sets --------------------------------------------------------------------------------------------------------


def _usable(jwk: Any) -> tuple[str, ec.EllipticCurvePublicKey] | None:
    """The key of one JWKS entry, or None where RFC 7517 section 5 lets a reader ignore the entry."""
    if not isinstance(jwk, Mapping) or jwk.get("kty") != "EC" or jwk.get("crv") != "P-256":
        return None
    if (
        jwk.get("use", "sig") != "sig"
        or jwk.get("alg", "ES256") != "ES256"
        or jwk.get("key_ops", ["verify"]) != ["verify"]
    ):
        return None
    try:
        x, y = b64url_decode(jwk["x"]), b64url_decode(jwk["y"])
        if len(x) != 32 or len(y) != 32:
            return None
        numbers = ec.EllipticCurvePublicNumbers(
            int.from_bytes(x, "big"), int.from_bytes(y, "big"), ec.SECP256R1()
        )
        key = numbers.public_key()
    except (KeyError, AttributeError, ValueError):
        return None
    # A kid that is not the key's own thumbprint could name two keys; ours never does.
    return (kid, key) if jwk.get("kid") == (kid := thumbprint(key)) else None


def read_jwks(jwks: Mapping[str, Any]) -> dict[str, ec.EllipticCurvePublicKey]:
    """Read the usable P-256 signature keys of a pinned JWK set (RFC 7517), by `kid`.

    Entries of other types are ignored, so that the issuer may publish more than this reader knows.

    Raises:
        InvalidKeySet: Not a key set, a private or symmetric key inside, or no usable key.
    """
    keys = jwks.get("keys") if isinstance(jwks, Mapping) else None
    if not isinstance(keys, list | tuple):
        raise InvalidKeySet(
            f"jwks={type(jwks).__name__} must be an object with a list 'keys'; fetch it again"
        )
    if any(isinstance(key, Mapping) and ("d" in key or "k" in key) for key in keys):
        raise InvalidKeySet(
            "jwks=<hidden> must hold public keys only; the issuer must replace the exposed key"
        )
    usable = dict(found for key in keys if (found := _usable(key)) is not None)
    if not usable:
        raise InvalidKeySet(f"len(keys)={len(keys)} must include a usable ES256 key; fetch the key set again")
    return usable


# --- claims ----------------------------------------------------------------------------------------------------------


class Verified(msgspec.Struct, frozen=True, gc=False):
    """A token that was genuine and in time at the moment of the check."""

    profile: Profile
    claims: Claims
    jws: str
    """The signed part without the closing tilde of an SD-JWT."""
    token: str


_DECODERS: Mapping[Profile, msgspec.json.Decoder[Claims]] = {
    Profile.F1: msgspec.json.Decoder(SealedClaims),
    Profile.F0: msgspec.json.Decoder(ClearClaims),
    Profile.F2: msgspec.json.Decoder(AnswerClaims),
}
_TYPES = {Profile.F1: SEALED_TYP, Profile.F0: CLEAR_TYP, Profile.F2: ANSWER_TYP}


def _check_common(claims: Claims, max_ttl_seconds: int) -> None:
    _require(claims.iat == claims.nbf and 0 <= claims.iat < claims.exp, "times out of order")
    _require(claims.exp - claims.iat <= max_ttl_seconds, "life too long")
    _require(_B64_16.fullmatch(claims.jti) is not None, "jti")
    _require(_B64_16.fullmatch(claims.sub) is not None, "sub")
    _require(_B64_16.fullmatch(claims.trg) is not None, "trg")
    _require(_B64_32.fullmatch(claims.lin) is not None, "lin")
    _require(0 < len(claims.cst) <= _MAX_MEMBERS and bool(claims.pur), "consent or purpose")
    _require(all(0 <= ref.ver <= MAX_EXACT_INT for ref in claims.cst), "consent version")
    _require(0 <= claims.ver <= MAX_EXACT_INT, "version")


def _check_leased(claims: SealedClaims | AnswerClaims) -> None:
    _require(_B64_32.fullmatch(claims.cnf.jkt) is not None, "cnf")
    _require(_B64_32.fullmatch(claims.kc) is not None, "kc")
    _require(_LEASE_PATH.fullmatch(claims.lease) is not None, "lease path")
    if not isinstance(claims.use, str | msgspec.UnsetType):
        _require(2 <= claims.use <= MAX_EXACT_INT, "use")


def _spelled_base64url(text: str) -> bool:
    """Whether only base64url characters occur; the C methods are faster than a pattern on a kilobyte."""
    return text.isascii() and text.replace("-", "0").replace("_", "0").isalnum()


def _check_sealed(claims: SealedClaims) -> None:
    sd = claims.sd
    _require(0 < len(sd) <= _MAX_MEMBERS, "number of digests")
    _require(all(len(one) == 43 and one[42] in _LAST_OF_32 for one in sd), "digest length")
    _require(_spelled_base64url("".join(sd)), "digest spelling")
    _require(list(sd) == sorted(set(sd)), "digests not sorted and distinct")
    header, key, iv, text, tag = claims.sealed.split(".")
    _require(header == sealed_header(claims.jti) and not key, "sealed header")
    _require(len(iv) == 16 and len(tag) == 22 and tag[21] in _LAST_OF_16, "sealed shape")
    # The spelling of the text itself is checked when it is decoded to be opened; its length can only be whole blocks.
    _require(len(text) > 0 and len(text) * 6 // 8 % PAD_BLOCK_BYTES == 0, "sealed length")
    _require(_spelled_base64url(iv + tag), "sealed spelling")


def _check_profile(profile: Profile, claims: Claims) -> None:
    _check_common(claims, MAX_CLEAR_TTL_SECONDS if profile is Profile.F0 else MAX_TTL_SECONDS)
    if isinstance(claims, SealedClaims):
        _check_leased(claims)
        _check_sealed(claims)
    elif isinstance(claims, AnswerClaims):
        _check_leased(claims)
        _require(0 < len(claims.ask) <= _MAX_MEMBERS and len(set(claims.ask)) == len(claims.ask), "questions")
    elif isinstance(claims, ClearClaims):
        _require(0 < len(claims.val) <= _MAX_MEMBERS and RESERVED_NAMES.isdisjoint(claims.val), "values")


# --- verifier --------------------------------------------------------------------------------------------------------


class ReplayGuard:
    """Remembers the `jti` of clear fragments until they expire; sealed ones are counted by the CDP at the lease.

    Args:
        capacity: Largest number of live `jti`; one more is refused rather than forgetting a live one.
    """

    def __init__(self, *, capacity: int = 65_536) -> None:
        if capacity < 1:
            raise InvalidArgument(f"capacity={capacity!r} must be > 0; pass a larger capacity")
        self._capacity = capacity
        self._until: dict[str, int] = {}

    def admit(self, jti: str, exp_seconds: int, now_ms: int) -> None:
        """Let one `jti` through once.

        Raises:
            InvalidFragment: Seen before, or no room among the live ones.
        """
        if len(self._until) >= self._capacity:
            self._until = {seen: exp for seen, exp in self._until.items() if exp * 1000 > now_ms}
        if jti in self._until or len(self._until) >= self._capacity:
            raise InvalidFragment
        self._until[jti] = exp_seconds


class Verifier:
    """Verifies fragments offline for one audience.

    Args:
        jwks: The issuer's published keys, pinned; never fetched by what a token says.
        issuer: The one accepted `iss`.
        audience: The one accepted `aud`.
        skew_ms: How far the issuer's clock may run ahead of ours. Never prolongs a life.
        profiles: Accepted profiles.
        log: Receives the reason of each refusal; a reason holds no token, claim or key.

    Guarantees:
        `verify` returns a genuine fragment in time or raises `InvalidFragment`; nothing else escapes for any `token`.
    """

    def __init__(
        self,
        jwks: Mapping[str, Any],
        issuer: str,
        audience: str,
        *,
        skew_ms: int = 5_000,
        profiles: tuple[Profile, ...] = (Profile.F1,),
        log: Callable[[str], None] | None = None,
    ) -> None:
        self._issuer = issuer
        self._audience = audience
        self._skew_ms = skew_ms
        self._log = log
        self._headers = {
            fragment_header(kid, _TYPES[profile]): (profile, key)
            for kid, key in read_jwks(jwks).items()
            for profile in profiles
        }

    def verify(self, token: str, now_ms: int) -> Verified:
        """Verify `token` at `now_ms` (valid from `nbf` up to, and not at, `exp`).

        Raises:
            InvalidFragment: Not genuine for this issuer, audience and time; carries no reason.
            ExpiredFragment: Genuine, but `now_ms >= exp`.
        """
        reason = ""
        try:
            verified = self._genuine(token)
            _require(verified.claims.nbf * 1000 <= now_ms + self._skew_ms, "not yet valid")
        except (_Refused, InvalidSignature, ValueError, RecursionError, AttributeError, TypeError) as refusal:
            # Our own reasons are fixed words; a library's message could quote the token, so only its class is told.
            reason = str(refusal) if isinstance(refusal, _Refused) else type(refusal).__name__
            verified = None
        if verified is None:  # raised outside the handler: the public error has no cause and no context
            self._tell(reason)
            raise InvalidFragment
        if now_ms >= verified.claims.exp * 1000:
            self._tell("expired")
            raise ExpiredFragment
        return verified

    def _tell(self, reason: str) -> None:
        if self._log is not None:
            self._log(reason)

    def _genuine(self, token: str) -> Verified:
        _require(
            isinstance(token, str) and 0 < len(token) <= MAX_TOKEN_CHARS and token.isascii(), "length or type"
        )
        jws = token.removesuffix("~")
        header, payload_text, signature_text = jws.split(".")
        known = self._headers.get(header)
        if known is None:
            raise _Refused("header")
        profile, key = known
        _require((profile is Profile.F1) == (jws is not token), "closing tilde")
        payload, signature = b64url_decode_each((payload_text, signature_text))
        verify_es256(key, jws[: len(header) + 1 + len(payload_text)].encode("ascii"), signature)
        claims = _DECODERS[profile].decode(payload)
        _require(encode(claims) == payload, "payload not canonical")
        _require(claims.iss == self._issuer and claims.aud == self._audience, "issuer or audience")
        _check_profile(profile, claims)
        return Verified(profile, claims, jws, token)
