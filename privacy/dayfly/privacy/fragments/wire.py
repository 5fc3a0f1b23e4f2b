"""What travels between the CDP and a CRM: claims, headers, lease messages, encodings.

One of the four files that a CRM may copy out (see `crm`): standard library, `cryptography` and `msgspec` only.
Every JSON document has exactly one accepted spelling: the one `encode` writes for its struct.
"""

import hashlib
from collections.abc import Iterable
from enum import StrEnum
from typing import Literal

import msgspec
from cryptography.hazmat.primitives.asymmetric import ec, mlkem, x25519
from cryptography.hazmat.primitives.hpke import (
    AEAD,
    KDF,
    KEM,
    MLKEM768X25519PrivateKey,
    MLKEM768X25519PublicKey,
    Suite,
)
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

__all__ = [
    "ANSWER_TYP",
    "CLEAR_TYP",
    "MAX_EXACT_INT",
    "MAX_TOKEN_CHARS",
    "MAX_TTL_SECONDS",
    "PAD_BLOCK_BYTES",
    "RESERVED_NAMES",
    "SEALED_TYP",
    "AnswerClaims",
    "Claims",
    "ClearClaims",
    "Confirmation",
    "ConsentClaim",
    "JsonScalar",
    "JsonValue",
    "Lease",
    "LeaseRequest",
    "OneTimePrivateKey",
    "OneTimePublicKey",
    "SealedClaims",
    "SuiteName",
    "b64url",
    "b64url_bytes",
    "b64url_decode",
    "b64url_decode_each",
    "encode",
    "encode_lines",
    "fragment_header",
    "hpke_suite",
    "key_commitment",
    "lease_info",
    "new_one_time_key",
    "one_time_public_bytes",
    "one_time_public_key",
    "public_jwk",
    "sealed_header",
    "thumbprint",
]

MAX_TOKEN_CHARS = 8192
MAX_TTL_SECONDS = 1800
PAD_BLOCK_BYTES = 256
MAX_EXACT_INT = 2**53 - 1  # RFC 7493: larger integers change in a JavaScript CRM

SEALED_TYP = "cdp-fragment+sd-jwt"
CLEAR_TYP = "cdp-fragment+jwt"
ANSWER_TYP = "cdp-answer+jwt"

JsonScalar = str | int | float | bool | None
JsonValue = JsonScalar | tuple[JsonScalar, ...]

# --- encodings -------------------------------------------------------------------------------------------------------

_ENCODER = msgspec.json.Encoder()
encode = _ENCODER.encode
encode_lines = _ENCODER.encode_lines

_LAST_CHARACTERS = ("", "AQgw", "AEIMQUYcgkosw048")  # of one and of two bytes more than whole groups of three


def b64url_bytes(data: bytes | bytearray | memoryview) -> bytes:
    """Base64url without padding (RFC 7515 section 2), as ASCII bytes."""
    return (
        encode(data)[1:-1].rstrip(b"=").replace(b"+", b"-").replace(b"/", b"_")
    )  # bytes in JSON are base64 in quotes


def b64url(data: bytes | bytearray | memoryview) -> str:
    """Base64url without padding (RFC 7515 section 2)."""
    text: str = msgspec.to_builtins(data)
    return text.rstrip("=").replace("+", "-").replace("/", "_")


def b64url_decode(text: str) -> bytes:
    """Decode the one canonical base64url spelling of some bytes.

    Raises:
        ValueError: Padding, a foreign character, or unused bits that are not zero; `msgspec.ValidationError` is one too.
    """
    if not text.isascii() or "+" in text or "/" in text or "=" in text:
        raise ValueError("text must be base64url without padding; send it exactly as it was issued")
    standard = text.replace("-", "+").replace("_", "/") + "=="[: -len(text) % 4]
    data = msgspec.convert(standard, bytes)  # several times as fast as `binascii`
    tail = len(data) % 3
    # `convert` refuses every foreign character, but not unused bits that are set; those only fit into the last character.
    if tail and text[-1] not in _LAST_CHARACTERS[tail]:
        raise ValueError("text must leave unused bits zero; send it exactly as it was issued")
    return data


def b64url_decode_each(texts: Iterable[str]) -> list[bytes]:
    """Decode canonical base64url texts.

    Raises:
        ValueError: As in `b64url_decode`.
    """
    return [b64url_decode(text) for text in texts]


# --- claims ----------------------------------------------------------------------------------------------------------


class Confirmation(msgspec.Struct, frozen=True, forbid_unknown_fields=True, gc=False):
    """`cnf` (RFC 7800): the thumbprint of the CRM key that may lease (RFC 9449 section 6.1)."""

    jkt: str


class ConsentClaim(msgspec.Struct, frozen=True, forbid_unknown_fields=True, gc=False):
    """One consent record that this fragment rests on."""

    id: str
    ver: int


class Claims(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, gc=False):
    """Claims that every profile carries; `iat`, `nbf`, `exp` are whole seconds since 1970 UTC."""

    iss: str
    aud: str
    iat: int
    nbf: int
    exp: int
    jti: str
    sub: str
    trg: str
    cst: tuple[ConsentClaim, ...]
    pur: str
    topic: str
    lin: str
    ver: int


class SealedClaims(
    Claims, frozen=True, forbid_unknown_fields=True, kw_only=True, omit_defaults=True, gc=False
):
    """Profile F1: salted digests in the clear, values sealed under a key that only the CDP holds."""

    cnf: Confirmation
    sd: tuple[str, ...] = msgspec.field(name="_sd")
    sd_alg: Literal["sha-256"] = msgspec.field(name="_sd_alg")
    sealed: str
    kc: str
    lease: str
    use: Literal["once"] | int | msgspec.UnsetType = msgspec.UNSET


class ClearClaims(Claims, frozen=True, forbid_unknown_fields=True, kw_only=True, gc=False):
    """Profile F0: the values in the clear, for at most five minutes."""

    val: dict[str, JsonValue]


class AnswerClaims(
    Claims, frozen=True, forbid_unknown_fields=True, kw_only=True, omit_defaults=True, gc=False
):
    """Profile F2: the names of the yes/no questions; the answers stay with the CDP."""

    cnf: Confirmation
    ask: tuple[str, ...]
    kc: str
    lease: str
    use: Literal["once"] | int | msgspec.UnsetType = msgspec.UNSET


# A disclosure must never meet a claim of the payload, nor the two names RFC 9901 section 4.2.1 forbids.
RESERVED_NAMES = frozenset(
    {"_sd", "_sd_alg", "...", "status"}
    | {
        field.encode_name
        for kind in (SealedClaims, ClearClaims, AnswerClaims)
        for field in msgspec.structs.fields(kind)
    }
)


class _Header(msgspec.Struct, frozen=True, gc=False):
    alg: str
    typ: str
    kid: str


def fragment_header(kid: str, typ: str) -> str:
    """The one accepted protected header of a fragment, base64url encoded."""
    return b64url(encode(_Header(alg="ES256", typ=typ, kid=kid)))


_SEALED_HEADER = b64url(
    b'{"alg":"dir","enc":"A256GCM","kid":"'
)  # of 36 bytes, so that encoding can go on after it


def sealed_header(jti: str) -> str:
    """The one accepted protected header of the sealed part (JWE, RFC 7516), base64url encoded."""
    return _SEALED_HEADER + b64url(jti.encode("ascii") + b'"}')


def key_commitment(key: bytes | memoryview) -> bytes:
    """SHA-256("cdp-kc" + key): what token and tombstone say about the key without telling it."""
    digest = hashlib.sha256(b"cdp-kc")
    digest.update(key)
    return digest.digest()


# --- keys ------------------------------------------------------------------------------------------------------------


def public_jwk(key: ec.EllipticCurvePublicKey) -> dict[str, str]:
    """The four required members of a P-256 public key (RFC 7518 section 6.2.1), in thumbprint order."""
    point = key.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    return {"crv": "P-256", "kty": "EC", "x": b64url(point[1:33]), "y": b64url(point[33:])}


def thumbprint(key: ec.EllipticCurvePublicKey) -> str:
    """RFC 7638 SHA-256 thumbprint of a P-256 public key."""
    return b64url(hashlib.sha256(encode(public_jwk(key))).digest())


# --- lease messages --------------------------------------------------------------------------------------------------


class SuiteName(StrEnum):
    """HPKE suites (RFC 9180) that a lease may use; all HKDF-SHA256 and AES-256-GCM."""

    X_WING = "MLKEM768-X25519"
    """Preferred: stays closed even when one of its two halves is broken later."""
    X25519 = "X25519"
    P256 = "P-256"


class LeaseRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True, gc=False):
    """What a CRM posts: which fragment, a public key made for this one request, and the proof of its own key."""

    jti: str
    suite: SuiteName
    otk: str
    """Base64url of the one-time public key: raw for X25519, uncompressed point for P-256, both halves for X-Wing."""
    proof: str
    """DPoP proof (RFC 9449); travels in the `DPoP` header of the HTTP request."""
    ask: str | None = None
    """Profile F2: the name of the question."""


class Lease(msgspec.Struct, frozen=True, forbid_unknown_fields=True, gc=False):
    """What the CDP answers: the fragment's key (F1) or one answer (F2), sealed to the one-time key."""

    jti: str
    suite: SuiteName
    sealed: str
    until_ms: int
    nonce: str
    """Server nonce for the CRM's next proof."""


OneTimePrivateKey = ec.EllipticCurvePrivateKey | x25519.X25519PrivateKey | MLKEM768X25519PrivateKey
OneTimePublicKey = ec.EllipticCurvePublicKey | x25519.X25519PublicKey | MLKEM768X25519PublicKey

_ML_KEM_768_PUBLIC_BYTES = 1184
_SUITES = {
    SuiteName.X_WING: Suite(KEM.MLKEM768_X25519, KDF.HKDF_SHA256, AEAD.AES_256_GCM),
    SuiteName.X25519: Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.AES_256_GCM),
    SuiteName.P256: Suite(KEM.P256, KDF.HKDF_SHA256, AEAD.AES_256_GCM),
}


def hpke_suite(name: SuiteName) -> Suite:
    """The HPKE suite of that name."""
    return _SUITES[name]


def lease_info(jti: str, token_hash: bytes) -> bytes:
    """HPKE `info`: binds a lease to one fragment, so that an answer cannot be replayed for another."""
    return b"cdp-lease-v1\x00" + jti.encode("ascii") + token_hash


def new_one_time_key(suite: SuiteName) -> tuple[OneTimePrivateKey, bytes]:
    """A fresh private key for one lease and the public bytes to send.

    The randomness is the operating system's: `cryptography` offers no other source for key pairs.
    """
    if suite is SuiteName.P256:
        point = ec.generate_private_key(ec.SECP256R1())
        return point, one_time_public_bytes(point.public_key())
    if suite is SuiteName.X25519:
        curve = x25519.X25519PrivateKey.generate()
        return curve, curve.public_key().public_bytes_raw()
    lattice, classic = mlkem.MLKEM768PrivateKey.generate(), x25519.X25519PrivateKey.generate()
    public = lattice.public_key().public_bytes_raw() + classic.public_key().public_bytes_raw()
    return MLKEM768X25519PrivateKey(lattice, classic), public


def one_time_public_bytes(key: ec.EllipticCurvePublicKey) -> bytes:
    """Uncompressed point of a P-256 one-time key (65 bytes)."""
    return key.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)


def one_time_public_key(suite: SuiteName, data: bytes) -> OneTimePublicKey:
    """Read a one-time public key as it came over the wire.

    Raises:
        ValueError: Wrong length, or not a point of the curve.
    """
    if suite is SuiteName.P256:
        if len(data) != 65:
            raise ValueError(f"len(otk)={len(data)} must be 65 for P-256; send the uncompressed point")
        return ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), data)
    if suite is SuiteName.X25519:
        return x25519.X25519PublicKey.from_public_bytes(data)
    lattice, classic = data[:_ML_KEM_768_PUBLIC_BYTES], data[_ML_KEM_768_PUBLIC_BYTES:]
    return MLKEM768X25519PublicKey(
        mlkem.MLKEM768PublicKey.from_public_bytes(lattice), x25519.X25519PublicKey.from_public_bytes(classic)
    )
