"""From an order to a signed token: checks, digests, sealing. Pure: keys, randomness and times come in."""

import binascii
import hashlib
import math
import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Literal

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from dayfly.privacy.errors import InvalidOrder
from dayfly.privacy.fragments.orders import FragmentOrder, OrderField
from dayfly.privacy.fragments.strict import MAX_CLEAR_TTL_SECONDS, Profile
from dayfly.privacy.fragments.wire import (
    MAX_EXACT_INT,
    MAX_TOKEN_CHARS,
    MAX_TTL_SECONDS,
    PAD_BLOCK_BYTES,
    RESERVED_NAMES,
    AnswerClaims,
    ClearClaims,
    Confirmation,
    ConsentClaim,
    JsonValue,
    SealedClaims,
    b64url,
    encode,
    encode_lines,
    sealed_header,
)

from .keys import SigningKey

__all__ = [
    "MAX_FIELDS",
    "Stamp",
    "build_payload",
    "check_order",
    "expiry_seconds",
    "finish_token",
    "random_length",
    "read_answer",
    "seal_answers",
]

MAX_FIELDS = 64
_MAX_TEXT_CHARS = 256
_MAX_LIST_ITEMS = 64
_SALT_BYTES = 18  # 144 bits; a multiple of three, so that all salts are encoded in one call
_SALT_CHARS = 24
_TO_URL = bytes.maketrans(b"+/", b"-_")
_NAME = re.compile(r"[A-Za-z0-9_.:-]{1,64}", re.ASCII)
_ANSWERS = msgspec.json.Decoder(dict[str, bool])
_PAD = b"~" * PAD_BLOCK_BYTES


# --- checks ----------------------------------------------------------------------------------------------------------


@lru_cache(maxsize=4096)  # names come from policies: few, and checked once each
def _check_name(name: str) -> None:
    if _NAME.fullmatch(name) is None or name in RESERVED_NAMES:
        raise InvalidOrder(
            f"field name={name!r} must match {_NAME.pattern} and be no claim name; rename the field"
        )


def _allowed(value: JsonValue) -> bool:
    kind = type(value)
    if kind is str:
        return len(value) <= _MAX_TEXT_CHARS  # type: ignore[arg-type]  # the line above is the check
    if kind is int:
        return -MAX_EXACT_INT <= value <= MAX_EXACT_INT  # type: ignore[operator]
    if kind is float:
        return math.isfinite(value)  # type: ignore[arg-type]
    if isinstance(value, tuple):
        return len(value) <= _MAX_LIST_ITEMS and all(
            not isinstance(item, tuple) and _allowed(item) for item in value
        )
    return value is None or kind is bool


def _check_fields(fields: Sequence[OrderField], profile: Profile) -> None:
    for field in fields:
        _check_name(field.name)
        if not _allowed(field.value):
            raise InvalidOrder(
                f"fields[{field.name!r}] must be a string of <= {_MAX_TEXT_CHARS} characters, a finite number within "
                f"+-(2^53-1), true, false or null, or a tuple of <= {_MAX_LIST_ITEMS} of these; band or shorten the value"
            )
    if profile is Profile.F2 and any(type(field.value) is not bool for field in fields):
        raise InvalidOrder("every value must be true or false in profile F2; ask yes/no questions")


def check_order(order: FragmentOrder) -> None:
    """Check all that can be checked without a clock.

    Raises:
        InvalidOrder: Names the value, the rule and the way out; field values are never quoted.
    """
    if len(order.subject) != 16 or len(order.trigger_id) != 16:
        raise InvalidOrder(
            f"len(subject)={len(order.subject)}, len(trigger_id)={len(order.trigger_id)} must both be 16; pass keyed ids"
        )
    if not (order.order_id and order.audience and order.purpose):
        raise InvalidOrder("order_id, audience and purpose must not be empty; fill them in")
    if not 0 < len(order.consent) <= MAX_FIELDS:
        raise InvalidOrder(
            f"len(consent)={len(order.consent)} must lie in [1, {MAX_FIELDS}]; absent consent is no"
        )
    if not 0 < len(order.fields) <= MAX_FIELDS:
        raise InvalidOrder(f"len(fields)={len(order.fields)} must lie in [1, {MAX_FIELDS}]; disclose less")
    _check_limits(order)
    _check_fields(order.fields, order.profile)
    if len({field.name for field in order.fields}) != len(order.fields):
        raise InvalidOrder(f"field names of order_id={order.order_id!r} must differ; drop the repeated one")


def _check_limits(order: FragmentOrder) -> None:
    if order.use is not None and not 1 <= order.use <= MAX_EXACT_INT:
        raise InvalidOrder(f"use={order.use!r} must lie in [1, 2^53-1] or be None; pass 1 for one-time use")
    if order.use is not None and order.profile is Profile.F0:
        raise InvalidOrder(
            f"use={order.use!r} must be None in profile F0, which nobody counts; order profile F1"
        )
    if not 1 <= order.ttl_seconds <= MAX_TTL_SECONDS:
        raise InvalidOrder(
            f"ttl_seconds={order.ttl_seconds!r} must lie in [1, {MAX_TTL_SECONDS}]; shorten the life"
        )
    if not 0 <= order.version <= MAX_EXACT_INT:
        raise InvalidOrder(f"version={order.version!r} must lie in [0, 2^53-1]; count upwards from 0")
    for ref in order.consent:
        if not 0 <= ref.version <= MAX_EXACT_INT:
            raise InvalidOrder(
                f"consent version={ref.version!r} must lie in [0, 2^53-1]; count upwards from 0"
            )


def expiry_seconds(order: FragmentOrder, now_ms: int, clear_ttl_seconds: int) -> int:
    """The fragment's `exp`: earliest of ttl, the order's own end, consent ends and field ends, in whole seconds."""
    ttl = min(order.ttl_seconds, MAX_TTL_SECONDS)
    if order.profile is Profile.F0:
        ttl = min(ttl, clear_ttl_seconds, MAX_CLEAR_TTL_SECONDS)
    start_s = min(order.issued_at_ms, now_ms) // 1000
    end_ms = min(order.expires_at_ms, (start_s + ttl) * 1000)
    for consent in order.consent:
        end_ms = min(end_ms, consent.valid_until_ms)
    for field in order.fields:
        if field.valid_until_ms is not None:
            end_ms = min(end_ms, field.valid_until_ms)
    return end_ms // 1000


# --- sealing ---------------------------------------------------------------------------------------------------------


def _disclosures(fields: Sequence[OrderField], salt_bytes: bytes) -> tuple[bytes, tuple[str, ...]]:
    """Disclosures joined by `~`, and their sorted digests (RFC 9901 sections 4.2.1 to 4.2.4).

    Encodings are done for all fields in one call: that is most of what a sealed mint costs beside its signature. A zero
    byte after each digest makes it 33 bytes, 44 characters, of which the first 43 are the digest's own base64url.
    """
    salts = b64url(salt_bytes)
    lines = encode_lines(
        [
            (salts[i * _SALT_CHARS : (i + 1) * _SALT_CHARS], field.name, field.value)
            for i, field in enumerate(fields)
        ]
    )
    base64 = binascii.b2a_base64
    joined = b"~".join([base64(line, newline=False) for line in lines.split(b"\n")[:-1]]).translate(
        _TO_URL, b"="
    )
    sha256 = hashlib.sha256
    digests = b64url(b"".join([sha256(text).digest() + b"\0" for text in joined.split(b"~")]))
    return joined, tuple(sorted([digests[i : i + 43] for i in range(0, len(digests), 44)]))


def _seal(jti: str, iv: bytes, key: memoryview, plain: bytes) -> str:
    """JWE compact serialization (RFC 7516), `dir` and `A256GCM`."""
    header = sealed_header(jti)
    sealed = AESGCM(key).encrypt(iv, plain, header.encode("ascii"))
    return f"{header}..{b64url(iv)}.{b64url(sealed[:-16])}.{b64url(sealed[-16:])}"


def seal_answers(order: FragmentOrder, jti: str, iv: bytes, key: memoryview) -> bytes:
    """The answers of an F2 order under its key; shredding the key makes them unreadable to us as well."""
    answers = {field.name: field.value for field in order.fields}
    return iv + AESGCM(key).encrypt(iv, encode(answers), jti.encode("ascii"))


def read_answer(answers: bytes, jti: str, key: memoryview, question: str) -> bytes:
    """One answer of an F2 order, as the JSON to seal to the CRM.

    Raises:
        KeyError: The key was destroyed meanwhile.
    """
    try:
        plain = AESGCM(key).decrypt(answers[:12], answers[12:], jti.encode("ascii"))
    except InvalidTag:
        raise KeyError(jti) from None
    return encode({"ask": question, "yes": _ANSWERS.decode(plain)[question]})


# --- tokens ----------------------------------------------------------------------------------------------------------


class Stamp(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What the mint adds to an order."""

    issuer: str
    iat: int
    exp: int
    jti: str
    sub: bytes
    jkt: str
    kc: str
    lease_path: str


def _use_claim(use: int | None) -> Literal["once"] | int | msgspec.UnsetType:
    if use is None:
        return msgspec.UNSET
    return "once" if use == 1 else use


def _sealed_claims(order: FragmentOrder, stamp: Stamp, key: memoryview, random: bytes) -> SealedClaims:
    count = len(order.fields)
    joined, digests = _disclosures(order.fields, random[: _SALT_BYTES * count])
    padded = joined + _PAD[: PAD_BLOCK_BYTES - len(joined) % PAD_BLOCK_BYTES]
    return SealedClaims(
        iss=stamp.issuer,
        aud=order.audience,
        iat=stamp.iat,
        nbf=stamp.iat,
        exp=stamp.exp,
        jti=stamp.jti,
        sub=b64url(stamp.sub),
        trg=b64url(order.trigger_id),
        cst=tuple([ConsentClaim(ref.record_id, ref.version) for ref in order.consent]),
        pur=order.purpose,
        topic=order.topic,
        lin=b64url(hashlib.sha256(order.lineage).digest()),
        ver=order.version,
        cnf=Confirmation(stamp.jkt),
        sd=digests,
        sd_alg="sha-256",
        sealed=_seal(stamp.jti, random[_SALT_BYTES * count :], key, padded),
        kc=stamp.kc,
        lease=stamp.lease_path,
        use=_use_claim(order.use),
    )


def _clear_claims(order: FragmentOrder, stamp: Stamp) -> ClearClaims:
    return ClearClaims(
        iss=stamp.issuer,
        aud=order.audience,
        iat=stamp.iat,
        nbf=stamp.iat,
        exp=stamp.exp,
        jti=stamp.jti,
        sub=b64url(stamp.sub),
        trg=b64url(order.trigger_id),
        cst=tuple([ConsentClaim(ref.record_id, ref.version) for ref in order.consent]),
        pur=order.purpose,
        topic=order.topic,
        lin=b64url(hashlib.sha256(order.lineage).digest()),
        ver=order.version,
        val={field.name: field.value for field in order.fields},
    )


def _answer_claims(order: FragmentOrder, stamp: Stamp) -> AnswerClaims:
    return AnswerClaims(
        iss=stamp.issuer,
        aud=order.audience,
        iat=stamp.iat,
        nbf=stamp.iat,
        exp=stamp.exp,
        jti=stamp.jti,
        sub=b64url(stamp.sub),
        trg=b64url(order.trigger_id),
        cst=tuple([ConsentClaim(ref.record_id, ref.version) for ref in order.consent]),
        pur=order.purpose,
        topic=order.topic,
        lin=b64url(hashlib.sha256(order.lineage).digest()),
        ver=order.version,
        cnf=Confirmation(stamp.jkt),
        ask=tuple([field.name for field in order.fields]),
        kc=stamp.kc,
        lease=stamp.lease_path,
        use=_use_claim(order.use),
    )


def random_length(order: FragmentOrder) -> int:
    """How many random bytes `build_token` needs: a salt per field and one initialisation vector."""
    return _SALT_BYTES * len(order.fields) + 12


def build_payload(order: FragmentOrder, stamp: Stamp, key: memoryview, random: bytes) -> bytes:
    """The canonical claims of a checked order.

    Args:
        order: Passed `check_order`.
        stamp: What the mint adds.
        key: The fragment's key, in place; unused in profile F0.
        random: `random_length(order)` bytes.
    """
    if order.profile is Profile.F1:
        return encode(_sealed_claims(order, stamp, key, random))
    if order.profile is Profile.F0:
        return encode(_clear_claims(order, stamp))
    return encode(_answer_claims(order, stamp))


def finish_token(profile: Profile, payload: bytes, signing_key: SigningKey) -> bytes:
    """Sign a payload.

    Raises:
        InvalidOrder: The token would be longer than a verifier accepts.
    """
    token = signing_key.sign(profile, payload)
    if profile is Profile.F1:
        token += b"~"  # an SD-JWT ends in a tilde, with or without disclosures (RFC 9901 section 4)
    if len(token) > MAX_TOKEN_CHARS:
        raise InvalidOrder(
            f"len(token)={len(token)} must be <= {MAX_TOKEN_CHARS}; disclose fewer or shorter fields"
        )
    return token
