"""Signing keys: published before use, two at a time, retired after the last fragment; key sets as verifiers read them."""

from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from dayfly.privacy.errors import InvalidArgument, InvalidFragment, InvalidKeySet, KeyRotationError
from dayfly.privacy.fragments import KeyRing, Profile, SigningKey, Verifier
from dayfly.privacy.fragments.strict import read_jwks

from .world import AUDIENCE, ISSUER, NOW_MS, World, order

CACHE_MS, SKEW_MS = 600_000, 60_000


def new_key() -> SigningKey:
    return SigningKey(ec.generate_private_key(ec.SECP256R1()))


def kids(ring: KeyRing, now_ms: int) -> list[str]:
    return [key["kid"] for key in ring.jwks(now_ms)["keys"]]


def test_a_new_key_is_published_one_cache_period_before_it_signs() -> None:
    first, second = new_key(), new_key()
    ring = KeyRing(first, cache_period_ms=CACHE_MS, skew_ms=SKEW_MS)
    start = ring.publish(second, NOW_MS)
    assert start == NOW_MS + CACHE_MS
    assert kids(ring, NOW_MS) == [first.kid, second.kid]
    assert ring.signing_key(start - 1, start + 1_799_999) is first
    assert ring.signing_key(start, start + 1_800_000) is second


def test_a_replaced_key_stays_until_its_last_fragment_and_the_skew_are_over() -> None:
    first, second = new_key(), new_key()
    ring = KeyRing(first, cache_period_ms=CACHE_MS, skew_ms=SKEW_MS)
    start = ring.publish(second, NOW_MS)
    last_exp = start + 1_799_999
    ring.signing_key(start - 1, last_exp)
    assert kids(ring, last_exp + SKEW_MS - 1) == [first.kid, second.kid]
    assert kids(ring, last_exp + SKEW_MS) == [second.kid]


def test_rotation_refuses_haste_repetition_and_a_third_key() -> None:
    first, second = new_key(), new_key()
    ring = KeyRing(first, cache_period_ms=CACHE_MS, skew_ms=SKEW_MS)
    with pytest.raises(KeyRotationError, match=r"use_from_ms=.* must be >= now_ms"):
        ring.publish(second, NOW_MS, use_from_ms=NOW_MS + CACHE_MS - 1)
    with pytest.raises(KeyRotationError, match="must be new"):
        ring.publish(first, NOW_MS)
    ring.publish(second, NOW_MS, use_from_ms=NOW_MS + CACHE_MS)
    with pytest.raises(KeyRotationError, match=r"len\(keys\)=2 must be < 2"):
        ring.publish(new_key(), NOW_MS)
    later = NOW_MS + CACHE_MS + SKEW_MS
    ring.publish(new_key(), later)
    assert first.kid not in kids(ring, later)


def test_fragments_of_both_keys_verify_during_the_change_and_a_retired_key_does_not() -> None:
    world = World()
    old = world.cdp.mint(order("old"), NOW_MS).token
    start = world.cdp.rotate(new_key(), NOW_MS)
    verifier = Verifier(world.cdp.jwks(NOW_MS), ISSUER, AUDIENCE)
    new = world.cdp.mint(order("new", issued_at_ms=start, expires_at_ms=start + 1_800_000), start).token
    assert old.split(".")[0] != new.split(".")[0]
    for token in (old, new):
        assert verifier.verify(token, start).profile is Profile.F1
    late = Verifier(world.cdp.jwks(start + 1_860_000), ISSUER, AUDIENCE)
    assert late.verify(new, start + 1_000_000)
    with pytest.raises(InvalidFragment):
        late.verify(old, NOW_MS)


def test_a_signing_key_is_p256_and_shows_only_its_thumbprint() -> None:
    with pytest.raises(InvalidArgument, match="'secp384r1' must be secp256r1"):
        SigningKey(ec.generate_private_key(ec.SECP384R1()))
    key = new_key()
    assert repr(key) == f"SigningKey(kid={key.kid!r})"
    assert set(key.jwk()) == {"kty", "crv", "x", "y", "kid", "use", "alg"}


# --- key sets --------------------------------------------------------------------------------------------------------

GOOD = new_key().jwk()
UNUSABLE: dict[str, Any] = {
    "other type": {**GOOD, "kty": "RSA"},
    "other curve": {**GOOD, "crv": "P-384"},
    "for encryption": {**GOOD, "use": "enc"},
    "other algorithm": {**GOOD, "alg": "ES384"},
    "key_ops sign": {**GOOD, "key_ops": ["sign"]},
    "foreign kid": {**GOOD, "kid": "key-1"},
    "no kid": {name: value for name, value in GOOD.items() if name != "kid"},
    "no x": {name: value for name, value in GOOD.items() if name != "x"},
    "x a number": {**GOOD, "x": 7},
    "x padded": {**GOOD, "x": GOOD["x"] + "="},
    "x too long": {**GOOD, "x": "AAAA" + GOOD["x"]},
    "x of another key": {**GOOD, "x": new_key().jwk()["x"]},
    "off the curve": {**GOOD, "x": "A" * 43},
    "not an object": "x",
    "null": None,
}


@pytest.mark.parametrize("name", UNUSABLE)
def test_an_unusable_entry_is_ignored_beside_a_good_one_and_refused_alone(name: str) -> None:
    assert set(read_jwks({"keys": [UNUSABLE[name], GOOD]})) == {GOOD["kid"]}
    with pytest.raises(InvalidKeySet, match="must include a usable ES256 key"):
        read_jwks({"keys": [UNUSABLE[name]]})


@pytest.mark.parametrize("secret", [{**GOOD, "d": "AAAA"}, {"kty": "oct", "k": "AAAA"}])
def test_a_set_with_a_secret_is_refused_as_a_whole(secret: dict[str, str]) -> None:
    with pytest.raises(InvalidKeySet, match="must hold public keys only"):
        read_jwks({"keys": [GOOD, secret]})


@pytest.mark.parametrize("jwks", [[], None, {}, {"keys": {}}, {"keys": "x"}, "x"])
def test_what_is_no_key_set_is_refused(jwks: Any) -> None:
    with pytest.raises(InvalidKeySet, match="must be an object with a list 'keys'"):
        read_jwks(jwks)


def test_an_empty_set_is_refused() -> None:
    with pytest.raises(InvalidKeySet, match=r"len\(keys\)=0"):
        read_jwks({"keys": []})


def test_the_same_key_twice_is_one_key() -> None:
    assert len(read_jwks({"keys": [GOOD, GOOD]})) == 1
