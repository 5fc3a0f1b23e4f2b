"""Manifests stand for exactly what was signed; rows put values where customers are, and zeros elsewhere."""

from typing import Any

import msgspec
import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from hypothesis import given
from hypothesis import strategies as st

from dayfly.federation.alignment import Manifest, Rows
from dayfly.federation.errors import InvalidData, ManifestExpired, WrongIdentity, WrongManifest
from dayfly.federation.identity import Identities, SigningIdentity

from .runs import HOUR_MS, NOW_MS, PURPOSE, digest

RUN = digest("run")[:16]
SHOP, OTHER = (SigningIdentity(name, digest("node", name)) for name in ("shop", "other"))
IDENTITIES = Identities({"shop": SHOP.public_key, "other": OTHER.public_key})
PLAIN = Manifest("shop", RUN, PURPOSE, 12, NOW_MS, NOW_MS + HOUR_MS, digest("points"))
SIGNED = PLAIN.signed(SHOP)


def test_a_signed_manifest_passes() -> None:
    SIGNED.verify(IDENTITIES, run=RUN)
    SIGNED.insist(NOW_MS, PURPOSE)
    body = msgspec.msgpack.encode(msgspec.structs.replace(SIGNED, signature=b""))
    Ed25519PublicKey.from_public_bytes(SHOP.public_key).verify(
        SIGNED.signature, b"dayfly federation v1\x00manifest\x00" + body
    )


@pytest.mark.parametrize(
    "change",
    [
        {"count": 13},
        {"purpose": "counting"},
        {"issued_ms": NOW_MS - 1},
        {"expires_ms": NOW_MS + HOUR_MS + 1},
        {"points_digest": digest("others")},
        {"run": digest("other run")[:16]},
        {"signature": b""},
        {"party": "other"},
    ],
)
def test_a_changed_manifest_is_not_the_channels(change: dict[str, Any]) -> None:
    changed = msgspec.structs.replace(SIGNED, **change)
    with pytest.raises(WrongIdentity, match="must sign its manifest with its registered key"):
        changed.verify(IDENTITIES, run=changed.run)
    assert change.keys() == {"signature"} or changed.digest() != SIGNED.digest()


def test_the_digest_is_of_what_is_signed() -> None:
    assert SIGNED.digest() == PLAIN.digest() != msgspec.structs.replace(PLAIN, count=13).digest()


def test_a_manifest_of_another_run_is_refused() -> None:
    with pytest.raises(
        WrongManifest, match="party='shop' must send the manifest of this run, not of another one"
    ):
        SIGNED.verify(IDENTITIES, run=digest("other run")[:16])


def test_a_channel_signs_only_its_own() -> None:
    with pytest.raises(WrongManifest, match="party='shop' must sign its own manifest; 'other' cannot"):
        PLAIN.signed(OTHER)


@pytest.mark.parametrize("now_ms", [NOW_MS - 1, NOW_MS + HOUR_MS])
def test_a_manifest_holds_from_its_issue_to_its_expiry(now_ms: int) -> None:
    SIGNED.insist(NOW_MS + HOUR_MS - 1, PURPOSE)
    with pytest.raises(
        ManifestExpired, match=f"party='shop' must have a manifest that holds at now_ms={now_ms}"
    ):
        SIGNED.insist(now_ms, PURPOSE)


def test_a_manifest_is_for_one_purpose() -> None:
    with pytest.raises(WrongManifest, match="must have a manifest for purpose='counting', not 'joint-model'"):
        SIGNED.insist(NOW_MS, "counting")


@given(st.integers(0, 12), st.integers(0, 8), st.randoms(use_true_random=False))
def test_values_are_spread_to_their_rows_and_the_rest_is_zero(size: int, spare: int, random: Any) -> None:
    universe = size + spare
    chosen = random.sample(range(universe), size)
    positions = np.array([row if random.random() < 0.7 else -1 for row in chosen], np.int64)
    matrix = np.arange(1.0, 2 * size + 1).reshape(size, 2)
    rows = Rows(universe, positions, SIGNED)
    spread = rows.spread(matrix)
    expected = [[0.0, 0.0] for _ in range(universe)]
    for values, position in zip(matrix.tolist(), positions.tolist(), strict=True):
        if position >= 0:
            expected[position] = values
    assert spread.tolist() == expected
    assert rows.spread(matrix[:, 0]).tolist() == [row[0] for row in expected]
    assert rows.taking_part.tolist() == [position >= 0 for position in positions.tolist()]


@pytest.mark.parametrize("shape", [(2, 2), (4,), ()])
def test_there_must_be_one_row_per_customer(shape: tuple[int, ...]) -> None:
    rows = Rows(5, np.array([4, -1, 0]), SIGNED)
    with pytest.raises(InvalidData, match="must have one row for each of its 3 aligned customers, not shape"):
        rows.spread(np.zeros(shape))


@pytest.mark.parametrize(
    ("positions", "cause"),
    [
        (np.array([[0]]), "one-dimensional int64 array"),
        (np.array([0.0]), "one-dimensional int64 array"),
        (np.array([5]), r"in 0 \.\. 4, or -1 for none"),
        (np.array([-2]), r"in 0 \.\. 4, or -1 for none"),
        (np.array([3, -1, 3]), "must have one row per customer; align again"),
    ],
)
def test_positions_are_distinct_rows_of_the_universe(positions: Any, cause: str) -> None:
    Rows(5, np.array([4, -1, -1]), SIGNED)
    with pytest.raises(InvalidData, match=cause):
        Rows(5, positions, SIGNED)
