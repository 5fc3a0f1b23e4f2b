"""Ring kernels against Python's integers."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dayfly.federation.vertical.kernels import add_gram, add_product
from tests.oracles.ring import gram, product


@given(st.integers(0, 2**32), st.integers(0, 9), st.integers(1, 5), st.integers(1, 5))
def test_products_of_matrices_are_those_of_big_integers(seed: int, rows: int, left: int, right: int) -> None:
    random = np.random.default_rng(seed)
    first, second = (random.integers(0, 2**64, (rows, width), np.uint64) for width in (left, right))
    found = random.integers(0, 2**64, (left, right), np.uint64)
    expected = gram(first.tolist(), second.tolist(), found.tolist())
    add_gram(first, second, found)
    assert found.tolist() == expected


@given(st.integers(0, 2**32), st.integers(0, 9), st.integers(1, 5))
def test_products_with_vectors_are_those_of_big_integers(seed: int, rows: int, width: int) -> None:
    random = np.random.default_rng(seed)
    matrix, vector = (
        random.integers(0, 2**64, (rows, width), np.uint64),
        random.integers(0, 2**64, rows, np.uint64),
    )
    found = random.integers(0, 2**64, width, np.uint64)
    expected = product(matrix.tolist(), vector.tolist(), found.tolist())
    add_product(matrix, vector, found)
    assert found.tolist() == expected


@pytest.mark.parametrize("word", [0, 1, 2**63, 2**64 - 1])
def test_sums_wrap_around(word: int) -> None:
    found = np.array([[2**64 - 1]], np.uint64)
    add_gram(np.full((2, 1), word, np.uint64), np.full((2, 1), word, np.uint64), found)
    assert int(found[0, 0]) == (2 * word * word - 1) % 2**64
