"""Our published vectors: read by our verifier and, for what is genuine, by a second one on other libraries (joserfc)."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from joserfc import jwe, jwt
from joserfc.jwk import KeySet, OctKey

from dayfly.privacy.errors import ExpiredFragment, InvalidFragment
from dayfly.privacy.fragments import Profile, Verifier
from dayfly.privacy.fragments.crm import open_sealed

from .attacks import b64, unb64

FOLDER = Path(__file__).parents[2] / "vectors" / "fragments"


def load(name: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((FOLDER / f"{name}.json").read_text())
    return content


def verifier(vectors: dict[str, Any]) -> Verifier:
    return Verifier(vectors["jwks"], vectors["issuer"], vectors["audience"], profiles=tuple(Profile))


def second_opinion(vectors: dict[str, Any], token: str, key: bytes) -> dict[str, Any]:
    """Values of an F1 fragment by joserfc, hashlib and json alone."""
    claims = jwt.decode(
        token.rstrip("~"), KeySet.import_key_set(vectors["jwks"]), algorithms=["ES256"]
    ).claims
    assert claims["kc"] == b64(hashlib.sha256(b"cdp-kc" + key).digest())
    plain = jwe.decrypt_compact(claims["sealed"], OctKey.import_key(key)).plaintext
    assert plain is not None
    texts = plain.rstrip(b"~").split(b"~")
    assert sorted(b64(hashlib.sha256(text).digest()) for text in texts) == claims["_sd"]
    return {name: value for _, name, value in (json.loads(unb64(text.decode())) for text in texts)}


ISSUED = load("issue")


@pytest.mark.parametrize("number", range(len(ISSUED["fragments"])))
def test_an_issued_fragment_reads_the_same_by_both_verifiers(number: int) -> None:
    vector = ISSUED["fragments"][number]
    verified = verifier(ISSUED).verify(vector["token"], ISSUED["now_ms"])
    assert verified.profile == vector["profile"]
    if verified.profile is Profile.F1:
        key = bytes.fromhex(vector["key"])
        opened = open_sealed(verified, key, ISSUED["now_ms"])
        assert (
            json.loads(json.dumps(dict(opened.values)))
            == vector["values"]
            == second_opinion(ISSUED, vector["token"], key)
        )


@pytest.mark.parametrize("number", range(4))
def test_the_times_of_a_fragment(number: int) -> None:
    vectors = load("verify")
    at = vectors["times"][number]
    if at["result"] == "valid":
        assert verifier(vectors).verify(vectors["token"], at["now_ms"])
    else:
        with pytest.raises(ExpiredFragment if at["result"] == "expired" else InvalidFragment) as caught:
            verifier(vectors).verify(vectors["token"], at["now_ms"])
        assert isinstance(caught.value, ExpiredFragment) is (at["result"] == "expired")


def test_every_invalid_vector_is_refused_and_the_genuine_one_beside_them_is_not() -> None:
    vectors = load("invalid")
    checker = Verifier(vectors["jwks"], vectors["issuer"], vectors["audience"])
    assert checker.verify(vectors["genuine"], vectors["now_ms"])
    assert len(vectors["tokens"]) >= 50
    for vector in vectors["tokens"]:
        with pytest.raises(InvalidFragment):
            checker.verify(vector["token"], vectors["now_ms"])
