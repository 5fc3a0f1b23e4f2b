"""The shipped table, and the square root, against dense matrices and published figures."""

import json
import math
from importlib.resources import files

import numpy as np
import pytest

from dayfly.privacy.continual import Blt, SquareRoot, blt, tabulated_lengths
from dayfly.privacy.errors import InvalidArgument

from ...oracles.dp_continual import UNIT, blt_matrix, max_error, running_matrix, series_max_error, toeplitz

ROWS = json.loads(files("dayfly.privacy.continual").joinpath("blt_table.json").read_text())["rows"]

# `reference/dp.md` section 6: sqrt Toeplitz from its closed form, BLT from jax-privacy 2.0.0.
ROOT_ERRORS = {256: 2.8310, 1_024: 3.2726, 8_760: 3.9559, 16_384: 4.1552, 65_536: 4.5964, 131_072: 4.8171}
BLT_ERRORS = {
    1_024: (3.8649, 3.3298, 3.2776, 3.2729),
    8_760: (5.4700, 4.1601, 3.9881, 3.9604),
    65_536: (7.6074, 5.0809, 4.6972, 4.6171),
}


def root_error(length: int) -> float:
    """`sum_k f_k^2`, the closed form of the square root's error."""
    value, total = 1.0, 1.0
    for k in range(1, length):
        value *= 1 - 1 / (2 * k)
        total += value * value
    return total


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row['length']}-{len(row['decays'])}")
def test_every_row_of_the_table_has_the_error_that_it_states(row: dict[str, object]) -> None:
    length, decays, scales = row["length"], row["decays"], row["scales"]
    assert isinstance(length, int)
    assert isinstance(decays, list)
    assert isinstance(scales, list)
    assert series_max_error(length, decays, scales) == pytest.approx(row["max_error"], abs=2e-6)


@pytest.mark.parametrize(
    "row",
    [row for row in ROWS if row["length"] <= 365],
    ids=lambda row: f"{row['length']}-{len(row['decays'])}",
)
def test_short_rows_have_their_error_by_dense_matrices_too(row: dict[str, object]) -> None:
    length, decays, scales = row["length"], row["decays"], row["scales"]
    assert isinstance(length, int)
    assert isinstance(decays, list)
    assert isinstance(scales, list)
    assert max_error(blt_matrix(length, decays, scales)) == pytest.approx(row["max_error"], abs=2e-6)


@pytest.mark.parametrize(("length", "buffers"), [(n, d) for n in BLT_ERRORS for d in (1, 2, 3, 4)])
def test_the_table_is_as_good_as_the_factors_that_jax_privacy_finds(length: int, buffers: int) -> None:
    factor = blt(length, buffers=buffers)
    found = series_max_error(length, factor.decays, factor.scales)
    assert found == pytest.approx(BLT_ERRORS[length][buffers - 1], abs=6e-5)


def test_the_factor_of_a_year_of_hours_is_the_one_that_jax_privacy_finds() -> None:
    factor = blt(8_760)
    assert np.array(factor.decays) / UNIT == pytest.approx(
        [0.99988574, 0.99775489, 0.97287027, 0.71713163], abs=1e-5
    )
    assert np.array(factor.scales) / UNIT == pytest.approx(
        [0.01473736, 0.0382665, 0.12682853, 0.3018198], abs=1e-5
    )


def test_four_buffers_are_within_seven_thousandths_of_the_square_root_at_every_tabulated_length() -> None:
    for row in ROWS:
        if len(row["decays"]) == 4:
            ratio = row["max_error"] / root_error(row["length"])
            assert 1 - 1e-6 <= ratio <= 1.007, row["length"]


@pytest.mark.parametrize(("length", "error"), ROOT_ERRORS.items())
def test_the_closed_form_of_the_square_root_is_the_published_one(length: int, error: float) -> None:
    assert root_error(length) == pytest.approx(error, abs=6e-5)
    assert root_error(length) == pytest.approx(math.log(length) / math.pi + 1.0663, abs=2e-3)


@pytest.mark.parametrize("length", [1, 2, 24, 168])
def test_the_square_root_squared_is_the_matrix_of_running_totals(length: int) -> None:
    factor = SquareRoot()
    dense = toeplitz(factor.columns(length))
    assert dense @ dense == pytest.approx(running_matrix(length), abs=length * 2e-9)
    assert toeplitz(factor.rows(length)) @ dense == pytest.approx(running_matrix(length), abs=1e-9)
    assert max_error(dense) == pytest.approx(root_error(length), abs=1e-6)


def test_the_square_root_begins_as_the_paper_writes_it() -> None:
    expected = [1, 1 / 2, 3 / 8, 5 / 16, 35 / 128]
    assert SquareRoot().coefficients(5).tolist() == [round(value * UNIT) for value in expected]


@pytest.mark.parametrize("buffers", [1, 2, 3, 4])
def test_columns_and_rows_of_a_blt_are_those_of_dense_matrices(buffers: int) -> None:
    factor = blt(168, buffers=buffers)
    dense = blt_matrix(168, factor.decays, factor.scales)
    assert factor.columns(168) == pytest.approx(dense[:, 0], abs=1e-12)
    rows = np.linalg.solve(dense.T, running_matrix(168).T).T
    assert factor.rows(168) == pytest.approx(rows[:, 0], abs=1e-9)


@pytest.mark.parametrize("length", tabulated_lengths())
def test_the_reach_is_never_below_the_column_and_hardly_above(length: int) -> None:
    reach = np.array(blt(length).reach(1 << 20, length, guard_bits=12)) / 2**20
    column = blt(length).columns(length)
    assert np.all(reach >= column - 1e-12)
    assert np.linalg.norm(reach) <= np.linalg.norm(column) * 1.0001
    assert np.all(np.diff(reach) <= 0)


def test_the_reach_of_the_square_root_is_its_column_rounded_up() -> None:
    reach = SquareRoot().reach(1_000, 50, guard_bits=0)
    column = SquareRoot().coefficients(50)
    assert reach == [-(-1_000 * int(value) // UNIT) for value in column]


def test_a_length_between_two_rows_takes_the_longer_one() -> None:
    assert blt(25) == blt(52)
    assert blt(24) != blt(25)


def test_a_stream_longer_than_the_table_is_refused_with_the_way_out() -> None:
    assert blt(131_072)
    with pytest.raises(InvalidArgument, match=r"length=131073 must be <= 131072; restart the totals"):
        blt(131_073)


@pytest.mark.parametrize(
    ("decays", "scales", "message"),
    [
        ((), (), "buffers=0 must lie in"),
        ((5, 4, 3, 2, 1), (1,) * 5, "buffers=5 must lie in"),
        ((5, 4), (1,), r"scales=\(1,\) must be as many"),
        ((4, 5), (1, 1), r"decays=\(4, 5\) must fall"),
        ((4, 4), (1, 1), r"decays=\(4, 4\) must fall"),
        ((4, 0), (1, 1), r"decays=\(4, 0\) must fall and be > 0"),
        ((UNIT,), (1,), "decay=1073741824 must lie in"),
        ((5,), (0,), "must be > 0 and sum to at most"),
        ((5, 4), (UNIT, 1), "must be > 0 and sum to at most"),
    ],
)
def test_numbers_that_are_no_blt_are_refused(
    decays: tuple[int, ...], scales: tuple[int, ...], message: str
) -> None:
    with pytest.raises(InvalidArgument, match=message):
        Blt(decays, scales)


def test_scales_that_sum_to_one_are_allowed() -> None:
    assert Blt((UNIT - 1,), (UNIT,)).reach(10, 3, guard_bits=0) == [10, 10, 10]


@pytest.mark.parametrize("length", [0, 16_385])
def test_a_square_root_beyond_its_proof_is_refused(length: int) -> None:
    with pytest.raises(InvalidArgument, match=f"length={length} must lie in"):
        SquareRoot().coefficients(length)


def test_buffers_outside_one_to_four_are_refused() -> None:
    with pytest.raises(InvalidArgument, match="buffers=5 must lie in"):
        blt(24, buffers=5)
