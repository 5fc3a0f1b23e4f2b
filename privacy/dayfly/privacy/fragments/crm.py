"""What a CRM needs: verify a fragment offline, lease its key, open it, pass on a part of it.

Needs the fragment, the CDP's JWK set and the CRM's own P-256 key; imports `cryptography`, `msgspec` and three files of
Dayfly. To use it without installing Dayfly, copy these four files, keeping their paths::

    dayfly/privacy/errors.py
    dayfly/privacy/fragments/wire.py
    dayfly/privacy/fragments/strict.py
    dayfly/privacy/fragments/crm.py

The transport is the caller's: post `PendingLease.request`, hand the answer to `open`.
"""

import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from dayfly.privacy.errors import ExpiredFragment, InvalidArgument, InvalidFragment

from .strict import Profile, Verified, Verifier, sign_es256
from .wire import (
    PAD_BLOCK_BYTES,
    RESERVED_NAMES,
    AnswerClaims,
    JsonValue,
    Lease,
    LeaseRequest,
    OneTimePrivateKey,
    SealedClaims,
    SuiteName,
    b64url,
    b64url_decode,
    b64url_decode_each,
    encode,
    encode_lines,
    hpke_suite,
    key_commitment,
    lease_info,
    new_one_time_key,
    public_jwk,
    thumbprint,
)

__all__ = ["Answer", "CrmClient", "OpenedFragment", "PendingLease", "open_sealed"]

_MIN_SALT_CHARS = 22
_DISCLOSURE = msgspec.json.Decoder(tuple[str, str, JsonValue])
_ANSWER = msgspec.json.Decoder(dict[str, str | bool])


@dataclass(frozen=True, slots=True)
class PendingLease:
    """A lease request on its way, with the one-time private key that only this process holds."""

    request: LeaseRequest
    one_time_key: OneTimePrivateKey = field(repr=False)


@dataclass(frozen=True, slots=True)
class Answer:
    """The CDP's answer to one yes/no question (profile F2)."""

    question: str
    yes: bool


@dataclass(frozen=True, slots=True)
class OpenedFragment:
    """The values of a fragment, checked against the signed digests. Drop it at `until_ms`.

    Attributes:
        claims: The signed claims.
        values: Field name to value.
        until_ms: End of the lease; the values must not be used later.
    """

    claims: SealedClaims
    values: Mapping[str, JsonValue] = field(repr=False)
    until_ms: int
    _jws: str = field(repr=False)
    _disclosures: Mapping[str, str] = field(repr=False)

    def present(self, names: Iterable[str]) -> str:
        """An SD-JWT (RFC 9901) that discloses only `names`, in the order of the fragment, to pass on.

        Raises:
            InvalidArgument: A name that this fragment does not hold.
        """
        wanted = set(names)
        if unknown := sorted(wanted - self._disclosures.keys()):
            raise InvalidArgument(
                f"names={unknown!r} must be fields of the fragment; choose from {sorted(self.values)}"
            )
        chosen = [text for name, text in self._disclosures.items() if name in wanted]
        return "~".join([self._jws, *chosen, ""])


def _read_disclosures(raw: list[bytes]) -> list[tuple[str, JsonValue]]:
    """Names and values of decoded disclosures (RFC 9901 section 4.2.1)."""
    read = [_DISCLOSURE.decode(one) for one in raw]
    # Canonical spelling holds no raw line break, so that equal joined lines are equal line by line.
    canonical = encode_lines(read) == b"\n".join([*raw, b""])
    for salt, name, _ in read:
        canonical = canonical and len(salt) >= _MIN_SALT_CHARS and name not in RESERVED_NAMES
    if not canonical:
        raise ValueError(
            "disclosure must be canonical, salted and outside the claims; ask for a new fragment"
        )
    return [(name, value) for _, name, value in read]


def _unseal(claims: SealedClaims, key: bytes) -> bytes:
    """Decrypt `sealed` (JWE `dir` + `A256GCM`, whose header the verifier has compared) and take the padding off."""
    header, _, *sealed = claims.sealed.split(".")
    iv, text, tag = b64url_decode_each(sealed)
    plain = AESGCM(key).decrypt(iv, text + tag, header.encode("ascii"))
    joined = plain.rstrip(b"~")
    if len(plain) % PAD_BLOCK_BYTES or not 1 <= len(plain) - len(joined) <= PAD_BLOCK_BYTES:
        raise ValueError("padding must fill the last block exactly; ask for a new fragment")
    return joined


def open_sealed(fragment: Verified, key: bytes, until_ms: int) -> OpenedFragment:
    """Decrypt a verified F1 fragment and check every value against the signed digests.

    Args:
        fragment: What `Verifier.verify` returned.
        key: The 32 leased bytes; not kept.
        until_ms: End of the lease.

    Raises:
        InvalidFragment: Wrong key or profile, or the values are not exactly those that were signed.

    Guarantees:
        The set of disclosures equals the set of signed digests: none added, none withheld, none twice.
    """
    claims = fragment.claims
    if not isinstance(claims, SealedClaims):
        raise InvalidFragment
    read: list[tuple[str, JsonValue]] = []
    texts: list[str] = []
    joined = b""
    try:
        joined = _unseal(claims, key)
        texts = joined.decode("ascii").split("~")
        read = _read_disclosures(b64url_decode_each(texts))
    except (ValueError, InvalidTag, RecursionError):
        read, joined = [], b""
    sha256 = hashlib.sha256
    # A zero byte after each digest makes it 44 characters, of which the first 43 are its own.
    hashed = b64url(b"".join([sha256(text).digest() + b"\0" for text in joined.split(b"~")]))
    digests = sorted([hashed[i : i + 43] for i in range(0, len(hashed), 44)])
    values = dict(read)
    if tuple(digests) != claims.sd or len(values) != len(digests) or b64url(key_commitment(key)) != claims.kc:
        raise InvalidFragment
    return OpenedFragment(
        claims=claims,
        values=values,
        until_ms=until_ms,
        _jws=fragment.jws,
        _disclosures=dict(zip(values, texts, strict=True)),
    )


class CrmClient:
    """One CRM's side of the protocol.

    Args:
        jwks: The CDP's published key set, pinned by the CRM.
        issuer: The CDP's `iss`.
        audience: This CRM's name at the CDP.
        key: This CRM's long-lived P-256 key; its thumbprint is registered with the CDP. Proves, never decrypts.
        lease_url: Full URL of the CDP's lease service, pinned by the CRM; never taken from a token.
        random_bytes: Source of randomness, for example `os.urandom`.
        skew_ms: How far the CDP's clock may run ahead.
        profiles: Accepted profiles.
        log: Receives the reason of each refused token.
    """

    def __init__(
        self,
        *,
        jwks: Mapping[str, Any],
        issuer: str,
        audience: str,
        key: ec.EllipticCurvePrivateKey,
        lease_url: str,
        random_bytes: Callable[[int], bytes],
        skew_ms: int = 5_000,
        profiles: tuple[Profile, ...] = (Profile.F1, Profile.F2),
        log: Callable[[str], None] | None = None,
    ) -> None:
        self._verifier = Verifier(jwks, issuer, audience, skew_ms=skew_ms, profiles=profiles, log=log)
        self._key = key
        self._url = lease_url
        self._random_bytes = random_bytes
        header = {"typ": "dpop+jwt", "alg": "ES256", "jwk": public_jwk(key.public_key())}
        self._proof_header = b64url(encode(header))

    @property
    def jkt(self) -> str:
        """Thumbprint of this CRM's key, to register with the CDP."""
        return thumbprint(self._key.public_key())

    def verify(self, token: str, now_ms: int) -> Verified:
        """Verify a fragment offline; see `Verifier.verify`.

        Raises:
            InvalidFragment: Not genuine for this CRM now; `ExpiredFragment` when only its time is over.
        """
        return self._verifier.verify(token, now_ms)

    def lease_request(
        self,
        fragment: Verified,
        now_ms: int,
        nonce: str,
        *,
        suite: SuiteName = SuiteName.X_WING,
        question: str | None = None,
    ) -> PendingLease:
        """Make a lease request with a fresh one-time key and a DPoP proof (RFC 9449).

        Args:
            fragment: A verified F1 or F2 fragment.
            now_ms: Current time.
            nonce: The CDP's latest nonce (from the last lease, or from its `use_dpop_nonce` answer).
            suite: HPKE suite of the one-time key.
            question: Profile F2: which question.

        Raises:
            InvalidArgument: A profile that is not leased, or a question that the fragment does not offer.
        """
        claims = fragment.claims
        if not isinstance(claims, SealedClaims | AnswerClaims):
            raise InvalidArgument(
                f"profile={fragment.profile.value!r} must be F1 or F2; read F0 from its claims"
            )
        if question not in (claims.ask if isinstance(claims, AnswerClaims) else (None,)):
            raise InvalidArgument(
                f"question={question!r} must be one that the fragment offers; see its claims"
            )
        private, public = new_one_time_key(suite)
        proof = self._proof(fragment.token, public, nonce, now_ms)
        return PendingLease(LeaseRequest(claims.jti, suite, b64url(public), proof, question), private)

    def _proof(self, token: str, one_time_public: bytes, nonce: str, now_ms: int) -> str:
        claims = {
            "jti": b64url(self._random_bytes(16)),
            "htm": "POST",
            "htu": self._url,
            "iat": now_ms // 1000,
            "nonce": nonce,
            "ath": b64url(hashlib.sha256(token.encode("ascii")).digest()),
            "otk": b64url(hashlib.sha256(one_time_public).digest()),
        }
        signed = f"{self._proof_header}.{b64url(encode(claims))}"
        return f"{signed}.{b64url(sign_es256(self._key, signed.encode('ascii')))}"

    def open(self, fragment: Verified, pending: PendingLease, lease: Lease, now_ms: int) -> OpenedFragment:
        """Open an F1 fragment with the leased key.

        Raises:
            ExpiredFragment: The lease or the fragment is over.
            InvalidFragment: The lease does not belong to this request and fragment, or the values were altered.
        """
        key = self._unwrap(fragment, pending, lease, now_ms)
        return open_sealed(fragment, key, min(lease.until_ms, fragment.claims.exp * 1000))

    def answer(self, fragment: Verified, pending: PendingLease, lease: Lease, now_ms: int) -> Answer:
        """Read the answer to the question of an F2 fragment.

        Raises:
            ExpiredFragment: The lease or the fragment is over.
            InvalidFragment: The answer does not belong to this request and fragment.
        """
        plain = self._unwrap(fragment, pending, lease, now_ms)
        try:
            told = _ANSWER.decode(plain)
        except ValueError:
            told = {}
        question, yes = pending.request.ask, told.get("yes")
        if question is None or told.get("ask") != question or not isinstance(yes, bool):
            raise InvalidFragment
        return Answer(question, yes)

    def _unwrap(self, fragment: Verified, pending: PendingLease, lease: Lease, now_ms: int) -> bytes:
        claims, request = fragment.claims, pending.request
        if now_ms >= min(lease.until_ms, claims.exp * 1000):
            raise ExpiredFragment
        info = lease_info(claims.jti, hashlib.sha256(fragment.token.encode("ascii")).digest())
        plain: bytes | None
        try:
            plain = hpke_suite(request.suite).decrypt(
                b64url_decode(lease.sealed), pending.one_time_key, info=info
            )
        except (ValueError, InvalidTag):
            plain = None
        if plain is None or not lease.jti == request.jti == claims.jti:
            raise InvalidFragment
        return plain
