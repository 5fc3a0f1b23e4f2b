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
    b64url_bytes,
    encode,
    encode_lines,
    sealed_header,
)

from .keys import SigningKey

__all__ = [
    "MAX_FIELDS",
    "Drawn",
    "Stamp",
    "build_payload",
    "check_order",
    "drawn",
    "expiry_seconds",
    "finish_token",
    "random_length",
    "read_answer",
    "seal_answers",
]

MAX_FIELDS = 64
_MAX_TEXT_CHARS = 256
_MAX_LIST_ITEMS = 64
_NAME_BYTES = 16
_IV_BYTES = 12
_SALT_BYTES = 18  # 144 bits; a multiple of three, so that all salts are encoded in one call
_SALT_CHARS = 24
_TO_URL = bytes.maketrans(b"+/", b"-_")
_NAME = re.compile(r"[A-Za-z0-9_.:-]{1,64}", re.ASCII)
_ANSWERS = msgspec.json.Decoder(dict[str, bool])
_ZEROS = b"\0\0"
_PAD = b"~" * PAD_BLOCK_BYTES


# --- checks ----------------------------------------------------------------------------------------------------------


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
        for item in value:
            if not (type(item) is str and len(item) <= _MAX_TEXT_CHARS) and (
                isinstance(item, tuple) or not _allowed(item)
            ):
                return False
        return len(value) <= _MAX_LIST_ITEMS
    return value is None or kind is bool


@lru_cache(maxsize=4096)  # a trigger's fields, in the same order again and again
def _check_names(names: tuple[str, ...]) -> bool:
    """Check every name, and tell whether they all differ."""
    for name in names:
        _check_name(name)
    return len(set(names)) == len(names)


def _check_fields(order: FragmentOrder, names: tuple[str, ...]) -> None:
    differ = _check_names(names)
    for field in order.fields:
        value = field.value
        if not (type(value) is str and len(value) <= _MAX_TEXT_CHARS) and not _allowed(value):
            raise InvalidOrder(
                f"fields[{field.name!r}] must be a string of <= {_MAX_TEXT_CHARS} characters, a finite number within "
                f"+-(2^53-1), true, false or null, or a tuple of <= {_MAX_LIST_ITEMS} of these; band or shorten the value"
            )
    if order.profile is Profile.F2 and any(type(field.value) is not bool for field in order.fields):
        raise InvalidOrder("every value must be true or false in profile F2; ask yes/no questions")
    if not differ:
        raise InvalidOrder(f"field names of order_id={order.order_id!r} must differ; drop the repeated one")


def check_order(order: FragmentOrder) -> tuple[str, ...]:
    """Check all that can be checked without a clock.

    Returns:
        The names of the fields.

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
    names = tuple([field.name for field in order.fields])
    _check_fields(order, names)
    return names


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


class Drawn(msgspec.Struct, frozen=True, gc=False):
    """Random bytes of one fragment with what they are spelled like in base64url.

    Everything is encoded in one call: each part is as long as a multiple of three, or filled up to it with zeros, so that
    its own spelling can be cut out.

    Attributes:
        jti: 16 random bytes, spelled.
        kc: The key commitment, spelled.
        salts: `_SALT_CHARS` characters per field.
        iv: 12 random bytes.
        iv_text: The same, spelled.
    """

    jti: str
    kc: str
    salts: str
    iv: bytes
    iv_text: bytes


def random_length(order: FragmentOrder) -> int:
    """How many random bytes `drawn` needs: a name, a salt per field and one initialisation vector."""
    return _NAME_BYTES + _SALT_BYTES * len(order.fields) + _IV_BYTES


def drawn(random: bytes, commitment: bytes) -> Drawn:
    """Spell out `random_length(order)` random bytes and a key commitment of 32 bytes (empty without a key)."""
    if not commitment:
        return Drawn(b64url(random[:_NAME_BYTES]), "", "", random[-_IV_BYTES:], b"")
    spelled = b64url_bytes(b"%b\0\0%b\0%b" % (random[:_NAME_BYTES], commitment, random[_NAME_BYTES:]))
    text = spelled.decode("ascii")
    return Drawn(text[:22], text[24:67], text[68:-16], random[-_IV_BYTES:], spelled[-16:])


def _disclosures(fields: Sequence[OrderField], salts: str) -> list[bytes]:
    """Disclosures, base64url encoded (RFC 9901 section 4.2.1)."""
    at, triples = 0, []
    for field in fields:
        end = at + _SALT_CHARS
        triples.append((salts[at:end], field.name, field.value))
        at = end
    base64 = binascii.b2a_base64
    joined = b"~".join([base64(line, newline=False) for line in encode_lines(triples).splitlines()])
    return joined.translate(_TO_URL, b"=").split(b"~")


def _seal(jti: str, random: Drawn, key: memoryview, plain: bytes) -> bytes:
    """JWE compact serialization (RFC 7516), `dir` and `A256GCM`."""
    header = sealed_header(jti).encode("ascii")
    sealed = AESGCM(key).encrypt(random.iv, plain, header)
    size = len(plain)
    filled = -size % 3
    text = b64url_bytes(b"%b%b%b\0\0" % (sealed[:size], _ZEROS[:filled], sealed[size:]))
    return b"%b..%b.%b.%b" % (header, random.iv_text, text[: (size * 4 + 2) // 3], text[-24:-2])


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


def _sealed_claims(order: FragmentOrder, stamp: Stamp, key: memoryview, random: Drawn) -> SealedClaims:
    disclosures = _disclosures(order.fields, random.salts)
    joined = b"~".join(disclosures)
    sha256 = hashlib.sha256
    # As in `Drawn`, all spelled in one call: two ids of 16 bytes, then digests of 32.
    hashes = [sha256(order.lineage).digest(), *[sha256(text).digest() for text in disclosures], b""]
    text = b64url(b"%b\0\0%b\0\0%b" % (stamp.sub, order.trigger_id, b"\0".join(hashes)))
    digests = [text[start : start + 43] for start in range(92, len(text), 44)]
    digests.sort()
    padded = joined + _PAD[: PAD_BLOCK_BYTES - len(joined) % PAD_BLOCK_BYTES]
    return SealedClaims(
        iss=stamp.issuer,
        aud=order.audience,
        iat=stamp.iat,
        nbf=stamp.iat,
        exp=stamp.exp,
        jti=stamp.jti,
        sub=text[:22],
        trg=text[24:46],
        cst=_consent_claims(order),
        pur=order.purpose,
        topic=order.topic,
        lin=text[48:91],
        ver=order.version,
        cnf=Confirmation(stamp.jkt),
        sd=tuple(digests),  # sorted: their order must not tell the fields' (RFC 9901 section 4.2.4.1)
        sd_alg="sha-256",
        sealed=msgspec.Raw(b'"%b"' % _seal(stamp.jti, random, key, padded)),  # type: ignore[arg-type]  # text, as JSON already
        kc=stamp.kc,
        lease=stamp.lease_path,
        use=_use_claim(order.use),
    )


def _consent_claims(order: FragmentOrder) -> tuple[ConsentClaim, ...]:
    return tuple([ConsentClaim(ref.record_id, ref.version) for ref in order.consent])


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
        cst=_consent_claims(order),
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
        cst=_consent_claims(order),
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


def build_payload(order: FragmentOrder, stamp: Stamp, key: memoryview, random: Drawn) -> bytes:
    """The canonical claims of a checked order.

    Args:
        order: Passed `check_order`.
        stamp: What the mint adds.
        key: The fragment's key, in place; unused in profile F0.
        random: Randomness of this fragment.
    """
    if order.profile is Profile.F1:
        return encode(_sealed_claims(order, stamp, key, random))
    if order.profile is Profile.F0:
        return encode(_clear_claims(order, stamp))
    return encode(_answer_claims(order, stamp))


def finish_token(profile: Profile, payload: bytes, signing_key: SigningKey) -> tuple[bytes, bytes]:
    """Sign a payload.

    Returns:
        The token and its SHA-256.

    Raises:
        InvalidOrder: The token would be longer than a verifier accepts.
    """
    token, token_hash = signing_key.sign(profile, payload)
    if len(token) > MAX_TOKEN_CHARS:
        raise InvalidOrder(
            f"len(token)={len(token)} must be <= {MAX_TOKEN_CHARS}; disclose fewer or shorter fields"
        )
    return token, token_hash
