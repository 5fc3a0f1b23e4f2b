"""Points: X25519 against RFC 7748, which curve a point is on against Ed25519 keys, forms and repetitions against plain integers."""

from concurrent.futures import ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from dayfly.federation.alignment.multiplication import POINT_BYTES, multiply, worker_pool
from dayfly.federation.alignment.points import (
    are_canonical,
    are_distinct,
    group_equal,
    hashed,
    on_curve,
    padding_points,
)
from dayfly.federation.errors import Refused

from .runs import digest

PRIME = 2**255 - 19
KEY, SEED = digest("key"), digest("seed")

SMALL_ORDER = (
    0,
    1,
    PRIME - 1,
    325606250916557431795983626356110631294008115727848805560023387167927233504,
    39382357235489614581723060781553021112529911719440698176882885853963445705823,
)
"""u-coordinates of order 1, 2, 4 and 8 on the curve and its twist (https://cr.yp.to/ecdh.html, "validate")."""

RFC_7748_5_2 = (
    (
        "a546e36bf0527c9d3b16154b82465edd62144c0ac1fc5a18506a2244ba449ac4",
        "e6db6867583030db3594c1a424b15f7c726624ec26b3353b10a903a6d0ab1c4c",
        "c3da55379de9c6908e94ea4df28d084f32eccf03491c71f754b4075577a28552",
    ),
    (
        "4b66e9d4d1b4673c5ad22691957d6af5c11b6421e0ea01d42ca4169e7918ba0d",
        "e5210f12786811d3f4b7959d0538ae2c31dbe7106fc03c3efc4cd549c715a493",
        "95cbde9476e8907d7aade45cb4b873f88b595a68799fa152e6f8f7647aac7957",
    ),
)
ALICE, BOB = (
    bytes.fromhex("77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a"),
    bytes.fromhex("5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb"),
)
SHARED = bytes.fromhex("4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742")
"""RFC 7748, section 6.1."""


def point(u: int) -> bytes:
    return u.to_bytes(POINT_BYTES, "little")


@pytest.mark.parametrize(("scalar", "u", "product"), RFC_7748_5_2)
def test_multiplying_gives_the_products_of_rfc_7748(scalar: str, u: str, product: str) -> None:
    assert multiply(bytes.fromhex(scalar), bytes.fromhex(u)).hex() == product


def test_a_thousand_rounds_give_the_product_of_rfc_7748() -> None:
    scalar = u = point(9)
    for _ in range(1_000):
        scalar, u = multiply(scalar, u), scalar
    assert scalar.hex() == "684cf59ba83309552800ef566f2f4d3c1c3887c49360e3875f2eb94d99532c51"


def test_two_scalars_give_one_product_in_either_order() -> None:
    base = point(9)
    assert multiply(ALICE, multiply(BOB, base)) == multiply(BOB, multiply(ALICE, base)) == SHARED


@given(st.lists(st.binary(min_size=1, max_size=20), max_size=6), st.permutations(range(4)))
def test_the_order_of_scalars_does_not_matter_for_hashed_points_on_either_curve(
    names: list[bytes], order: list[int]
) -> None:
    points = hashed(KEY, "id", names)
    straight, shuffled = points, points
    for number in range(4):
        straight = multiply(digest("scalar", number), straight)
        shuffled = multiply(digest("scalar", order[number]), shuffled)
    assert straight == shuffled


@pytest.mark.parametrize("u", SMALL_ORDER)
def test_a_point_of_small_order_is_refused_wherever_it_stands(u: int) -> None:
    with pytest.raises(ValueError, match="Error computing shared key"):
        multiply(ALICE, point(9) + point(u))


def test_batches_and_executors_give_the_same_bytes_in_order() -> None:
    points = hashed(KEY, "id", [b"%d" % number for number in range(4_100)])
    heard: list[int] = []
    here = multiply(ALICE, points, done=heard.append)
    assert heard == [4_096, 4]
    assert here[: 32 * 3] == b"".join(multiply(ALICE, points[at : at + 32]) for at in (0, 32, 64))
    assert here[-32:] == multiply(ALICE, points[-32:])
    with ThreadPoolExecutor(2) as executor:
        assert multiply(ALICE, points, executor=executor) == here


@pytest.mark.slow
def test_processes_give_the_same_bytes() -> None:
    points = hashed(KEY, "id", [b"%d" % number for number in range(4_100)])
    with worker_pool(2) as executor:
        assert executor is not None
        assert multiply(ALICE, points, executor=executor) == multiply(ALICE, points)
        with pytest.raises(ValueError, match="Error computing shared key"):
            multiply(ALICE, point(0), executor=executor)


def test_a_process_that_dies_is_said_so() -> None:
    class Dead(ThreadPoolExecutor):
        def map(self, *_: Any, **__: Any) -> Any:
            raise BrokenProcessPool("gone")

    with pytest.raises(Refused, match="workers=<dead> must live through the run"):
        multiply(ALICE, point(9), executor=Dead(1))


def test_one_worker_is_this_process() -> None:
    with worker_pool(1) as executor:
        assert executor is None


def test_ed25519_keys_are_on_the_curve() -> None:
    for number in range(40):
        key = Ed25519PrivateKey.from_private_bytes(digest(number)).public_key().public_bytes_raw()
        y = int.from_bytes(key, "little") & (2**255 - 1)
        assert on_curve(point((1 + y) * pow(1 - y, -1, PRIME) % PRIME))


def test_a_product_stays_on_the_curve_of_its_point_and_hashes_are_on_both() -> None:
    points = hashed(KEY, "id", [b"%d" % number for number in range(400)])
    products = multiply(ALICE, points)
    sides = [on_curve(points[at : at + 32]) for at in range(0, len(points), 32)]
    assert sides == [on_curve(products[at : at + 32]) for at in range(0, len(products), 32)]
    assert 140 < sum(sides) < 260  # 6 standard deviations


def test_padding_has_as_many_points_of_either_curve_as_asked_for() -> None:
    points = padding_points(KEY, SEED, (5, 9))
    sides = [on_curve(points[at : at + 32]) for at in range(0, len(points), 32)]
    assert sides == [True] * 5 + [False] * 9
    assert are_distinct(points)
    assert padding_points(KEY, SEED, (5, 9)) == points
    assert padding_points(KEY, digest("other"), (5, 9)) != points
    assert padding_points(KEY, SEED, (0, 0)) == b""


def test_hashes_depend_on_key_kind_and_identifier() -> None:
    seen = {
        hashed(KEY, "id", [b"a"]),
        hashed(SEED, "id", [b"a"]),
        hashed(KEY, "email", [b"a"]),
        hashed(KEY, "id", [b"b"]),
        hashed(KEY, "i", [b"da"]),
    }
    assert len(seen) == 5
    assert hashed(KEY, "id", []) == b""


def test_no_customer_is_hashed_to_the_point_of_padding() -> None:
    seed = b"\x02id" + bytes(29)
    same_input = hashed(KEY, "id", [bytes(29) + bytes(8)])
    assert same_input not in (padding_points(KEY, seed, (1, 0)), padding_points(KEY, seed, (0, 1)))


@given(st.lists(st.integers(PRIME - 40, 2**256 - 1) | st.integers(0, 2**256 - 1), max_size=4))
def test_a_form_is_canonical_exactly_when_all_coordinates_are_below_the_prime(values: list[int]) -> None:
    packed = b"".join(value.to_bytes(32, "little") for value in values)
    assert are_canonical(packed) == all(value < PRIME for value in values)


@pytest.mark.parametrize(
    ("u", "canonical"),
    [(PRIME - 1, True), (PRIME, False), (2**255 - 1, False), (2**255, False), (2**64 - 19, True)],
)
def test_the_prime_itself_is_the_first_form_that_is_not_canonical(u: int, canonical: bool) -> None:  # noqa: FBT001 - a table
    assert are_canonical(point(u)) is canonical


@given(
    st.lists(
        st.tuples(st.integers(0, 2), st.integers(0, 2), st.integers(0, 2), st.integers(0, 2)), max_size=12
    )
)
def test_equal_points_have_one_number_also_when_first_words_are_made_to_collide(
    words: list[tuple[int, int, int, int]],
) -> None:
    packed = b"".join(word.to_bytes(8, "little") for four in words for word in four)
    groups, count = group_equal(packed)
    assert count == len(set(words))
    assert set(groups.tolist()) == set(range(count))
    for one, left in zip(groups, words, strict=True):
        for other, right in zip(groups, words, strict=True):
            assert (one == other) == (left == right)
    assert are_distinct(packed) == (len(set(words)) == len(words))
