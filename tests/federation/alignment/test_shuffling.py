"""Orders: permutations, all of them equally often, and nothing but the seed decides."""

import itertools
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dayfly.federation.alignment import shuffling
from dayfly.federation.alignment.shuffling import permutation

from .runs import digest


@given(st.binary(min_size=32, max_size=32), st.integers(0, 300))
def test_every_place_comes_once(seed: bytes, size: int) -> None:
    assert sorted(permutation(seed, size).tolist()) == list(range(size))
    assert np.array_equal(permutation(seed, size), permutation(seed, size))


def test_all_orders_come_equally_often() -> None:
    runs = 4_800
    found = Counter(tuple(permutation(digest(number), 4).tolist()) for number in range(runs))
    orders = list(itertools.permutations(range(4)))
    expected = runs / len(orders)
    chi_square = sum((found[order] - expected) ** 2 / expected for order in orders)
    assert chi_square < 64.2  # of 23 degrees of freedom: exceeded with probability 1e-5


def test_equal_words_are_drawn_again(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = [bytes(24), np.array([7, 5, 7], "<u8").tobytes(), np.array([7, 5, 6], "<u8").tobytes()]

    class Words:
        def __init__(self, *args: object, **_: object) -> None: ...

        def encryptor(self) -> "Words":
            return self

        def update(self, _: bytes) -> bytes:
            return drawn.pop(0)

    monkeypatch.setattr(shuffling, "Cipher", Words)
    assert permutation(bytes(32), 3).tolist() == [1, 2, 0]
    assert not drawn
