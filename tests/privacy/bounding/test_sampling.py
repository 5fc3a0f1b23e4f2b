"""Which groups and rows are kept: uniformly, differently for each customer and each salt."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import chi2

from dayfly.privacy.bounding import (
    NO_VALUE,
    Contribution,
    Method,
    bounded_group_by,
    bounded_rows,
    group_by,
    slots,
)

SALT = b"sampling test ok"


def p_value(observed: NDArray[np.int64], expected: float) -> float:
    statistic = float(((observed - expected) ** 2 / expected).sum())
    return float(chi2.sf(statistic, observed.size - 1))


def kept_sets(customers: int, groups: int, l0: int, salt: bytes) -> NDArray[np.int64]:
    """Groups of each customer, all of whom were in all groups: sorted, shape (customers, l0)."""
    everyone, everywhere = np.repeat(np.arange(customers), groups), np.tile(np.arange(groups), customers)
    rows = bounded_rows(everyone, everywhere, groups, Contribution(l0, 1), salt=salt)
    return everywhere[rows].reshape(customers, l0)


def test_every_pair_of_groups_is_kept_equally_often() -> None:
    kept = kept_sets(12_000, 6, 2, SALT)

    pairs = np.array(
        [np.count_nonzero((kept == pair).all(axis=1)) for pair in itertools.combinations(range(6), 2)]
    )

    assert pairs.sum() == 12_000
    assert p_value(pairs, 12_000 / 15) > 1e-4


def test_two_customers_choose_independently() -> None:
    kept = kept_sets(10_000, 5, 1, SALT)[:, 0].reshape(-1, 2)

    joint = np.bincount(kept[:, 0] * 5 + kept[:, 1], minlength=25)

    assert p_value(joint, 5_000 / 25) > 1e-4


def test_one_customer_chooses_uniformly_over_salts() -> None:
    kept = [int(kept_sets(1, 4, 1, salt.to_bytes(16, "big"))[0, 0]) for salt in range(2_000)]

    assert p_value(np.bincount(kept, minlength=4), 500) > 1e-4


def test_another_salt_keeps_other_groups() -> None:
    first, again, other = (kept_sets(200, 50, 2, salt) for salt in (SALT, SALT, b"another salt ..."))

    assert (first == again).all()
    assert np.count_nonzero((first == other).all(axis=1)) < 5


def test_each_row_of_a_group_is_kept_equally_often() -> None:
    customers = np.repeat(np.arange(6_000), 5)
    rows = bounded_rows(customers, np.zeros_like(customers), 1, Contribution(1, 2), salt=SALT)

    chosen = (rows % 5).reshape(-1, 2)
    pairs = np.array(
        [np.count_nonzero((chosen == pair).all(axis=1)) for pair in itertools.combinations(range(5), 2)]
    )

    assert pairs.sum() == 6_000
    assert p_value(pairs, 600) > 1e-4


@given(
    st.lists(st.tuples(st.integers(-1, 4), st.integers(-1, 4), st.booleans()), max_size=60),
    st.integers(1, 4),
    st.integers(1, 4),
    st.sampled_from(["uniform", "first_come"]),
    st.integers(1, 20),
)
def test_bounded_rows_are_as_many_as_the_bounded_counts(
    rows: list[tuple[int, int, bool]], l0: int, rows_per_group: int, method: Method, chunk: int
) -> None:
    customers, groups = (np.array([row[place] for row in rows], np.int32) for place in (0, 1))
    values = np.array([0 if row[2] else NO_VALUE for row in rows], np.int64)
    bounds = Contribution(l0, rows_per_group)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(slots, "_SCRATCH_WORDS", chunk)
        patch.setattr(group_by, "_PIECE_ROWS", 1 + chunk // 2)
        kept = bounded_rows(customers, groups, 5, bounds, method=method, salt=SALT, values=values)
    bounded = bounded_group_by(customers, groups, values, 5, bounds, method=method, salt=SALT)

    assert (np.diff(kept) > 0).all()
    assert (customers[kept] >= 0).all()
    assert (values[kept] != NO_VALUE).all()
    assert np.bincount(groups[kept], minlength=5).tolist() == bounded.counts.tolist()
