"""Wrapping and passphrases against Project Wycheproof and RFC 7914."""

import gzip
import json
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from dayfly.privacy.errors import InvalidArgument, UnknownKey, WrongKey
from dayfly.privacy.keys import KekRing, PassphraseSeal, ScryptCost
from dayfly.privacy.keys.kek import seal_bytes, unseal_bytes
from dayfly.privacy.keys.provider.seals import derive

from .support import CHEAP, draw, ring


def test_wrapping_agrees_with_wycheproof(shared_data: Path) -> None:
    with gzip.open(shared_data / "wycheproof" / "aes_gcm_test.json.gz") as file:
        groups = json.load(file)["testGroups"]
    seen = {"valid": 0, "invalid": 0}
    for group in groups:
        if (group["keySize"], group["ivSize"]) != (256, 96):
            continue
        for test in group["tests"]:
            key, nonce, context, message, text, tag = (
                bytes.fromhex(test[name]) for name in ("key", "iv", "aad", "msg", "ct", "tag")
            )
            sealed = nonce + text + tag
            if test["result"] == "valid":
                assert unseal_bytes(AESGCM(key), sealed, context) == message
                assert seal_bytes(AESGCM(key), message, context, nonce) == sealed
            else:
                with pytest.raises(WrongKey, match="must open under this key in this place"):
                    unseal_bytes(AESGCM(key), sealed, context)
            seen[test["result"]] += 1
    assert seen["valid"] > 15
    assert seen["invalid"] > 15


def test_scrypt_agrees_with_rfc_7914_section_12() -> None:
    key = derive("pleaseletmein", b"SodiumChloride", ScryptCost(n=16384, r=8, p=1))
    assert key.hex() == "7023bdcb3afd7348461c06cd81fd38ebfda8fbba904f8e3ea9b543f6545da1f2"


def test_the_passphrase_of_rfc_7914_opens_what_a_known_key_sealed() -> None:
    from dayfly.privacy.keys.provider.seals import PassphraseFacts

    known = AESGCM(bytes.fromhex("7023bdcb3afd7348461c06cd81fd38ebfda8fbba904f8e3ea9b543f6545da1f2"))
    nonce = bytes(12)
    wrapped = nonce + known.encrypt(nonce, b"c" * 32, b'{"tenant":"shop"}')
    facts = PassphraseFacts(16384, 8, 1, b"SodiumChloride", wrapped)
    seal = PassphraseSeal(lambda: "pleaseletmein", random_bytes=draw(1))
    assert seal.unseal(facts, {"tenant": "shop"}) == b"c" * 32


def test_a_passphrase_is_the_same_however_its_letters_are_composed() -> None:
    assert derive("caf\u00e9 caf\u00e9 caf\u00e9", b"s" * 16, CHEAP) == derive(
        "cafe\u0301 " * 2 + "cafe\u0301", b"s" * 16, CHEAP
    )


@pytest.mark.parametrize(
    "changed", [{"n": 2**13}, {"n": 2**21}, {"n": 2**14 + 1}, {"r": 7}, {"r": 33}, {"p": 0}, {"p": 17}]
)
def test_scrypt_parameters_outside_the_bounds_are_refused(changed: dict[str, int]) -> None:
    with pytest.raises(InvalidArgument, match=r"must be a power of two in \[2\*\*14, 2\*\*20\]"):
        ScryptCost(**changed)


def test_a_wrapped_key_is_bound_to_key_and_context() -> None:
    keks = ring(1, 2)
    wrapped = keks.wrap(b"k" * 32, b"here")
    assert len(wrapped) == 60
    assert keks.unwrap(2, wrapped, b"here") == b"k" * 32
    for version, context in ((1, b"here"), (2, b"there")):
        with pytest.raises(WrongKey, match="must open under this key in this place"):
            keks.unwrap(version, wrapped, context)
    with pytest.raises(UnknownKey, match=r"kek version=3 must be one of \(1, 2\)"):
        keks.unwrap(3, wrapped, b"here")
    for cut in (0, 11, 27, 59):
        with pytest.raises(WrongKey, match="must open under this key"):
            keks.unwrap(2, wrapped[:cut], b"here")


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({}, "pass at least one"),
        ({0: b"k" * 31 + b"x"}, "must be whole numbers from 1"),
        ({True: b"k" * 31 + b"x"}, "must be whole numbers from 1"),
        ({2**32: b"k" * 31 + b"x"}, "must be whole numbers from 1"),
        ({1: b"kx" * 15}, "must be 32 random bytes"),
        ({1: b"k" * 32}, "must be 32 random bytes"),
        ({1: b"k" * 31 + b"x", 2: b"k" * 31 + b"x"}, "must have different keys"),
    ],
)
def test_key_encryption_keys_that_are_none_are_refused(keys: dict[int, bytes], message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        KekRing(keys, draw(1))


def test_a_nonce_of_another_length_is_refused() -> None:
    keks = KekRing({1: bytes(range(32))}, lambda count: b"n" * (count + 1))
    with pytest.raises(InvalidArgument, match=r"random_bytes\(12\)=<13 bytes> must be as many"):
        keks.wrap(b"k" * 32, b"")
