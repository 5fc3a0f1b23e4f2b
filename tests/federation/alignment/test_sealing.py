"""Sealed lines: only who it was sealed for opens it, in its place, in its run, with its roster."""

from itertools import product

import pytest

from dayfly.federation.alignment.sealing import TAG_BYTES, Agreement, Place, Seals, framed, group_key
from dayfly.federation.errors import BadMessage

from .runs import digest

ROSTER = digest("roster")
PLACE: Place = (1, 2, 3)
KEYS = {name: Agreement(digest("key", name)) for name in ("app", "shop", "till")}


def seals(me: str, roster: bytes = ROSTER) -> Seals:
    secrets = [(name, KEYS[me].secret_with(name, key.public_key)) for name, key in KEYS.items() if name != me]
    return Seals(me, secrets, roster)


SEALED = seals("app").seal("shop", PLACE, b"points")


def test_what_is_sealed_opens_where_it_belongs_and_is_a_tag_longer() -> None:
    assert seals("shop").open("app", PLACE, SEALED) == b"points"
    assert len(SEALED) == len(b"points") + TAG_BYTES


@pytest.mark.parametrize("place", [(0, 2, 3), (1, 1, 3), (1, 2, 4), (1, 2, 3 + 2**32)])
def test_another_place_does_not_open(place: Place) -> None:
    with pytest.raises(BadMessage, match="party='app' must send 'shop' what it sealed for it in this run"):
        seals("shop").open("app", place, SEALED)


def test_another_roster_does_not_open_even_where_the_two_keys_are_the_same() -> None:
    with pytest.raises(BadMessage, match="party='app' must send 'shop' what it sealed"):
        seals("shop", digest("other roster")).open("app", PLACE, SEALED)


def test_neither_another_channel_nor_the_other_direction_opens() -> None:
    with pytest.raises(BadMessage, match="party='app' must send 'till' what it sealed"):
        seals("till").open("app", PLACE, SEALED)
    with pytest.raises(BadMessage, match="party='shop' must send 'app' what it sealed"):
        seals("app").open("shop", PLACE, SEALED)


@pytest.mark.parametrize("sealed", [b"", SEALED[:-1], SEALED + b"\x00", bytes(len(SEALED))])
def test_changed_bytes_do_not_open(sealed: bytes) -> None:
    with pytest.raises(BadMessage, match="party='app' must send 'shop' what it sealed"):
        seals("shop").open("app", PLACE, sealed)


def test_the_groups_key_needs_every_share_in_its_place_and_the_roster() -> None:
    shares = [digest("share", number) for number in range(3)]
    keys = {
        group_key(ROSTER, shares),
        group_key(digest("other roster"), shares),
        group_key(ROSTER, shares[::-1]),
        group_key(ROSTER, shares[:2]),
        group_key(ROSTER, [*shares[:2], digest("other share")]),
    }
    assert len(keys) == 5


def test_framed_parts_are_told_apart() -> None:
    lists = [
        parts for size in range(3) for parts in product((b"", b"a", b"\x00\x00\x00\x01", b"aa"), repeat=size)
    ]
    assert len({framed(*parts) for parts in lists}) == len(lists)
