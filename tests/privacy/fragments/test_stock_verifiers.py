"""Genuine fragments against other people's libraries, and published examples against ours."""

import hashlib
import json
from typing import Any

import jwt
import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec
from joserfc import jwe as joserfc_jwe
from joserfc import jwt as joserfc_jwt
from joserfc.jwk import ECKey, KeySet, OctKey
from jwcrypto import jwe as jwcrypto_jwe
from jwcrypto import jwk, jws
from sd_jwt.verifier import SDJWTVerifier

from dayfly.privacy.fragments import KeyRing, OrderField, Profile, SigningKey, Verifier
from dayfly.privacy.fragments.cdp.proof import _read
from dayfly.privacy.fragments.crm import open_sealed
from dayfly.privacy.fragments.strict import P256_ORDER, verify_es256
from dayfly.privacy.fragments.wire import RESERVED_NAMES, b64url, b64url_decode, thumbprint

from .attacks import unb64
from .world import AUDIENCE, ISSUER, LEASE_URL, NOW_MS, World, order

SHAPES: list[dict[str, Any]] = [
    {},
    {"use": 1},
    {"use": 7, "version": 3},
    {"topic": "家具.儿童", "fields": (OrderField("房间".encode().hex(), '小户型 \u2028 " \\ \t'),)},
    {"fields": tuple(OrderField(f"f{n}", n * 1.5) for n in range(20))},
    {"fields": (OrderField("one", None),)},
    {"fields": (OrderField("list", ("a", 1, None, True, 2.5)), OrderField("empty", ()))},
    {"profile": Profile.F0},
    {"profile": Profile.F0, "fields": (OrderField("a", "é"),)},
    {"profile": Profile.F2, "fields": (OrderField("q", value=True),)},
]


@pytest.fixture(scope="module")
def world() -> World:
    return World()


@pytest.fixture(params=range(len(SHAPES)))
def token(request: pytest.FixtureRequest, world: World) -> str:
    number = request.param
    name = f"{number}-{world.cdp.minted}"
    return world.cdp.mint(order(name, **SHAPES[number]), NOW_MS).token


def expected(world: World, token: str) -> dict[str, Any]:
    claims: dict[str, Any] = json.loads(unb64(token.rstrip("~").split(".")[1]))
    assert world.crm.verify(token, NOW_MS)
    return claims


def issuer_jwk(world: World) -> dict[str, str]:
    return dict(world.cdp.jwks(NOW_MS)["keys"][0])


def test_pyjwt_accepts_every_shape(world: World, token: str) -> None:
    key = jwt.PyJWK(issuer_jwk(world))
    options: Any = {
        "require": ["exp", "iat", "nbf", "aud", "iss", "jti", "sub"],
        "verify_exp": False,
        "verify_nbf": False,
        "verify_iat": False,
    }
    claims = jwt.decode(
        token.rstrip("~"), key, algorithms=["ES256"], audience=AUDIENCE, issuer=ISSUER, options=options
    )
    assert claims == expected(world, token)


def test_joserfc_accepts_every_shape(world: World, token: str) -> None:
    keys = KeySet.import_key_set(json.loads(json.dumps({"keys": [issuer_jwk(world)]})))
    decoded = joserfc_jwt.decode(token.rstrip("~"), keys, algorithms=["ES256"])
    rules = joserfc_jwt.JWTClaimsRegistry(
        now=NOW_MS // 1000,
        iss={"essential": True, "value": ISSUER},
        aud={"essential": True, "value": AUDIENCE},
    )
    rules.validate(decoded.claims)
    assert decoded.claims == expected(world, token)


def test_jwcrypto_accepts_every_shape(world: World, token: str) -> None:
    parsed = jws.JWS()
    parsed.deserialize(token.rstrip("~"))
    parsed.verify(jwk.JWK(**issuer_jwk(world)), alg="ES256")
    assert json.loads(parsed.payload) == expected(world, token)


def opened_presentation(world: World, names: list[str] | None = None) -> tuple[str, dict[str, Any]]:
    fragment = world.cdp.mint(order(f"p-{world.cdp.minted}"), NOW_MS)
    verified = world.crm.verify(fragment.token, NOW_MS)
    pending = world.ask(verified)
    opened = world.crm.open(verified, pending, world.lease(pending.request), NOW_MS)
    chosen = list(opened.values) if names is None else names
    return opened.present(chosen), {name: opened.values[name] for name in chosen}


@pytest.mark.parametrize("names", [None, [], ["room"], ["room", "materials", "score"]])
def test_sd_jwt_accepts_the_token_and_every_presentation(world: World, names: list[str] | None) -> None:
    presentation, values = opened_presentation(world, names)
    payload = SDJWTVerifier(
        presentation, lambda issuer, header: jwk.JWK(**issuer_jwk(world))
    ).get_verified_payload()
    told = {name: value for name, value in payload.items() if name not in RESERVED_NAMES}
    assert told == json.loads(json.dumps(values))
    assert payload["aud"] == AUDIENCE


def content_key(world: World, jti: str) -> bytes:
    entry = world.cdp._state.live.get(jti)
    assert entry is not None
    return bytes(world.cdp._state.key_of(entry))


def test_joserfc_and_jwcrypto_open_the_sealed_part(world: World) -> None:
    fragment = world.cdp.mint(order(f"s-{world.cdp.minted}"), NOW_MS)
    sealed = json.loads(unb64(fragment.token.split(".")[1]))["sealed"]
    key = content_key(world, fragment.jti)
    plain = joserfc_jwe.decrypt_compact(sealed, OctKey.import_key(key)).plaintext
    other = jwcrypto_jwe.JWE()
    other.deserialize(sealed, jwk.JWK(kty="oct", k=b64url(key)))
    assert plain == other.payload
    assert plain is not None
    assert len(plain) % 256 == 0
    assert len(plain.rstrip(b"~").split(b"~")) == 8


def test_our_verifier_opens_a_fragment_made_by_other_libraries(world: World) -> None:
    """The other direction: JWS by joserfc, JWE by jwcrypto, digests by hashlib; only the low s is ours to ask for."""
    fragment = world.cdp.mint(order(f"x-{world.cdp.minted}"), NOW_MS)
    claims = json.loads(unb64(fragment.token.split(".")[1]))
    text = b64url(b'["AAAAAAAAAAAAAAAAAAAAAA","room","garden"]')
    key = content_key(world, fragment.jti)
    box = jwcrypto_jwe.JWE(
        text.encode() + b"~" * (256 - len(text)),
        protected=json.dumps({"alg": "dir", "enc": "A256GCM", "kid": claims["jti"]}, separators=(",", ":")),
    )
    box.add_recipient(jwk.JWK(kty="oct", k=b64url(key)))
    claims["sealed"] = box.serialize(compact=True)
    claims["_sd"] = [b64url(hashlib.sha256(text.encode()).digest())]
    numbers = world.signing_key.private_numbers()
    point = numbers.public_numbers
    private: dict[str, Any] = {
        "kty": "EC",
        "crv": "P-256",
        "x": b64url(point.x.to_bytes(32, "big")),
        "y": b64url(point.y.to_bytes(32, "big")),
        "d": b64url(numbers.private_value.to_bytes(32, "big")),
    }
    signer = ECKey.import_key(private)
    header = json.loads(unb64(fragment.token.split(".")[0]))
    verifier = Verifier(world.cdp.jwks(NOW_MS), ISSUER, AUDIENCE)
    for _ in range(64):
        token = joserfc_jwt.encode(header, claims, signer, algorithms=["ES256"], default_type=None)
        if int.from_bytes(unb64(token.split(".")[2])[32:], "big") <= P256_ORDER // 2:
            break
    assert open_sealed(verifier.verify(token + "~", NOW_MS), key, NOW_MS + 1).values == {"room": "garden"}


# --- published examples ----------------------------------------------------------------------------------------------


def test_the_digest_example_of_rfc_9901() -> None:
    """Section 4.2.3."""
    disclosure = "WyJfMjZiYzRMVC1hYzZxMktJNmNCVzVlcyIsICJmYW1pbHlfbmFtZSIsICJNw7ZiaXVzIl0"
    assert json.loads(b64url_decode(disclosure)) == ["_26bc4LT-ac6q2KI6cBW5es", "family_name", "Möbius"]
    assert (
        b64url(hashlib.sha256(disclosure.encode()).digest()) == "X9yH0Ajrdm1Oij4tWso9UzzKJvPoDxwmuEcO3XAdRC0"
    )


def test_the_es256_example_of_rfc_7515_has_a_high_s_and_its_twin_holds() -> None:
    """Appendix A.3."""
    x = int.from_bytes(unb64("f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU"), "big")
    y = int.from_bytes(unb64("x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"), "big")
    key = ec.EllipticCurvePublicNumbers(x, y, ec.SECP256R1()).public_key()
    signed = b"eyJhbGciOiJFUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ"
    raw = unb64("DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q")
    low = raw[:32] + (P256_ORDER - int.from_bytes(raw[32:], "big")).to_bytes(32, "big")
    with pytest.raises(InvalidSignature):
        verify_es256(key, signed, raw)
    verify_es256(key, signed, low)
    with pytest.raises(InvalidSignature):
        verify_es256(key, signed + b"x", low)


def test_the_proof_of_rfc_9449_and_its_thumbprint() -> None:
    """Section 4.1 and the `jkt` of section 6.1."""
    proof = (
        "eyJ0eXAiOiJkcG9wK2p3dCIsImFsZyI6IkVTMjU2IiwiandrIjp7Imt0eSI6IkVDIiwieCI6Imw4dEZyaHgtMzR0VjNoUklDUkRZOXpDa0Rs"
        "cEJoRjQyVVFVZldWQVdCRnMiLCJ5IjoiOVZFNGpmX09rX282NHpiVFRsY3VOSmFqSG10NnY5VERWclUwQ2R2R1JEQSIsImNydiI6IlAtMjU2"
        "In19.eyJqdGkiOiItQndDM0VTYzZhY2MybFRjIiwiaHRtIjoiUE9TVCIsImh0dSI6Imh0dHBzOi8vc2VydmVyLmV4YW1wbGUuY29tL3Rva2Vu"
        "IiwiaWF0IjoxNTYyMjYyNjE2fQ.2-GxA6T8lP4vfrg8v-FdWP0A0zdrj8igiMLvqRMUvwnQg4PtFLbdLXiOSsX0x7NVY-FNyJK70nfbV37xRZT3Lg"
    )
    holder, claims = _read(proof)
    assert holder == "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I"
    assert claims == {
        "jti": "-BwC3ESc6acc2lTc",
        "htm": "POST",
        "htu": "https://server.example.com/token",
        "iat": 1562262616,
    }


def test_thumbprints_agree_with_two_libraries() -> None:
    """RFC 7638."""
    for _ in range(20):
        key = ec.generate_private_key(ec.SECP256R1())
        published = SigningKey(key).jwk()
        assert (
            thumbprint(key.public_key())
            == jwk.JWK(**published).thumbprint()
            == ECKey.import_key(dict[str, Any](published)).thumbprint()
        )


def test_the_published_key_set_is_read_by_stock_libraries() -> None:
    published = KeyRing(SigningKey(ec.generate_private_key(ec.SECP256R1()))).jwks(0)
    assert [key.kid for key in KeySet.import_key_set(json.loads(json.dumps(published))).keys] == [
        published["keys"][0]["kid"]
    ]
    assert jwt.PyJWKSet.from_dict(dict(published)).keys[0].algorithm_name == "ES256"
    assert LEASE_URL.startswith("https://")
