"""Pseudonyms: keyed, separated, rotatable, unlinkable once retired; keys that cannot leak through Python's own doors."""

import copy
import hashlib
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dayfly.privacy.deident import PseudonymKeys, pairwise
from dayfly.privacy.errors import DeidentificationError

K1, K2, K3 = (bytes(range(start, start + 32)) for start in (0, 50, 100))
KEYS = PseudonymKeys("shop", {1: K1})


def expected(key: bytes, tenant: str, kind: str, raw: bytes) -> bytes:
    """Keyed BLAKE2b-128 with salt and personalisation, straight from the standard library."""
    salt, person = (hashlib.blake2b(text.encode(), digest_size=16).digest() for text in (tenant, kind))
    return hashlib.blake2b(raw, key=key, digest_size=16, salt=salt, person=person).digest()


@given(
    st.binary(min_size=1, max_size=200),
    st.text(min_size=1, max_size=20).filter(lambda text: text.isprintable()),
)
def test_pseudonym_is_keyed_blake2b(raw: bytes, kind: str) -> None:
    made = KEYS.current(kind, raw)
    assert made == (expected(K1, "shop", kind, raw), 1)
    assert KEYS.hasher(kind)(raw) == made.value
    assert KEYS.hasher(kind)(raw) == made.value  # the pre-keyed state is copied, not consumed


def test_text_and_its_bytes_are_one_identifier() -> None:
    assert KEYS.current("user", "沙发-7") == KEYS.current("user", "沙发-7".encode())


def test_kind_tenant_and_key_separate_domains() -> None:
    values = {
        keys.current(kind, "a").value
        for keys in (KEYS, PseudonymKeys("shop2", {1: K1}), PseudonymKeys("shop", {1: K2}))
        for kind in ("user", "anonymous", "device", "group")
    }
    assert len(values) == 12


def test_rotation_links_old_to_new_until_the_old_key_is_retired() -> None:
    old = KEYS.current("user", "u-1")
    rotated = KEYS.rotated(K2).rotated(K3)
    assert rotated.current("user", "u-1").version == 3
    assert [one.version for one in rotated.previous("user", "u-1")] == [2, 1]
    assert old in rotated.previous("user", "u-1")
    retired = rotated.retired(1)
    assert retired.versions == (2, 3)
    reachable = {retired.current("user", "u-1"), *retired.previous("user", "u-1")}
    assert old.value not in {one.value for one in reachable}
    with pytest.raises(
        DeidentificationError, match=r"version=1 kind='user' must name a live key of \(2, 3\)"
    ):
        retired.at(1, "user", "u-1")


def test_a_single_key_has_no_previous() -> None:
    assert KEYS.previous("user", "u") == ()


@pytest.mark.parametrize("version", [3, 7])
def test_only_old_versions_can_be_retired(version: int) -> None:
    with pytest.raises(DeidentificationError, match=f"version={version} must be an old one"):
        KEYS.rotated(K2).rotated(K3).retired(version)


@pytest.mark.parametrize(
    ("versions", "message"),
    [
        ({}, "must hold a key"),
        ({0: K1}, "version=0 must be a whole number >= 1"),
        ({True: K1}, "version=True must be"),
        ({1: K1[:31]}, r"versions\[1\]=31 must be 32 to 64 bytes"),
        ({1: K1 * 3}, r"versions\[1\]=96 must be 32 to 64 bytes"),
        ({1: "k" * 32}, r"versions\[1\]=str must be"),
        ({1: bytes(32)}, r"versions\[1\]=<constant> must be random"),
        ({1: K1, 2: K1}, r"versions=\[1, 2\] must have different keys"),
    ],
)
def test_bad_keys_are_refused(versions: dict[int, bytes], message: str) -> None:
    with pytest.raises(DeidentificationError, match=message):
        PseudonymKeys("shop", versions)


def test_keys_of_32_and_64_bytes_are_taken() -> None:
    assert PseudonymKeys("shop", {1: K1}).versions == PseudonymKeys("shop", {1: K1 + K2}).versions


def test_empty_tenant_kind_and_identifier_are_refused() -> None:
    with pytest.raises(DeidentificationError, match="tenant='' must not be empty"):
        PseudonymKeys("", {1: K1})
    with pytest.raises(DeidentificationError, match="kind='' must name"):
        KEYS.current("", "a")
    for raw in ("", b"", None, 5):
        with pytest.raises(DeidentificationError, match="must be text or bytes with content"):
            KEYS.current("user", raw)  # type: ignore[arg-type]  # what a careless caller does
    with pytest.raises(DeidentificationError, match="must be encodable as UTF-8"):
        KEYS.current("user", "\ud800")


def test_key_bytes_leave_by_no_door() -> None:
    assert repr(KEYS) == str(KEYS) == "PseudonymKeys(tenant='shop', versions=(1,))"
    for leave in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(DeidentificationError, match="must not be pickled or copied"):
            leave(KEYS)
    with pytest.raises(DeidentificationError) as refused:
        PseudonymKeys("shop", {1: K1[:31]})
    assert K1[:31].hex() not in str(refused.value)
    assert repr(K1[:31]) not in str(refused.value)


def test_pairwise_names_differ_per_audience_and_key() -> None:
    value = KEYS.current("user", "u").value
    names = {pairwise(value, audience, key) for audience in ("crm-1", "crm-2") for key in (K1, K2)}
    assert len(names) == 4
    assert {len(name) for name in names} == {16}
    assert pairwise(value, "crm-1", K1) == expected(K1, "crm-1", "pairwise", value)
    assert KEYS.current("pairwise", value).value not in names
    with pytest.raises(DeidentificationError, match="pseudonym=15 bytes"):
        pairwise(value[:15], "crm-1", K1)
    with pytest.raises(DeidentificationError, match="audience='' must be 16 bytes and a name"):
        pairwise(value, "", K1)
    with pytest.raises(DeidentificationError, match="key=3 must be 32 to 64 bytes"):
        pairwise(value, "crm-1", b"abc")
