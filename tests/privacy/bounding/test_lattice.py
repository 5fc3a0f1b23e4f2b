"""Values on the lattice: nearest multiples, saturation, and what has no value."""

from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dayfly.privacy.bounding import NO_VALUE, ROW_LIMIT, Lattice
from dayfly.privacy.errors import InvalidArgument

from ...oracles.dp_bounding import nearest_multiple

BINARY = [Fraction(1), Fraction(1, 2), Fraction(1, 1024), Fraction(1, 2**40), Fraction(4)]


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False)), st.sampled_from(BINARY))
def test_floats_go_to_the_nearest_multiple_of_a_binary_step(values: list[float], step: Fraction) -> None:
    assert Lattice(step).units(np.array(values, np.float64)).tolist() == [
        nearest_multiple(value, step, ROW_LIMIT) for value in values
    ]


@given(
    st.lists(st.integers(-(10**9), 10**9)),
    st.sampled_from([Fraction(1, 100), Fraction(1, 1000), Fraction(5)]),
)
def test_decimal_multiples_come_back_exactly(units: list[int], step: Fraction) -> None:
    values = np.array([float(unit * step) for unit in units], np.float64)

    assert Lattice(step).units(values).tolist() == units


@pytest.mark.parametrize("dtype", ["i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8"])
@pytest.mark.parametrize("step", [Fraction(1), Fraction(1, 100), Fraction(1, 2**45)])
def test_integers_of_every_width_are_exact_and_saturate(dtype: str, step: Fraction) -> None:
    edges = np.iinfo(dtype)
    candidates = {
        edges.min,
        edges.min + 1,
        -1,
        0,
        1,
        2,
        100,
        edges.max - 1,
        edges.max,
        ROW_LIMIT,
        ROW_LIMIT + 1,
        -ROW_LIMIT - 1,
        ROW_LIMIT // 100,
    }
    values = np.array(sorted(value for value in candidates if edges.min <= value <= edges.max), dtype)

    assert Lattice(step).units(values).tolist() == [
        nearest_multiple(int(value), step, ROW_LIMIT) for value in values
    ]


def test_infinities_saturate_and_nan_has_no_value() -> None:
    units = Lattice(Fraction(1, 8)).units(np.array([np.inf, -np.inf, np.nan, 1e300, -0.0]))

    assert units.tolist() == [ROW_LIMIT, -ROW_LIMIT, NO_VALUE, ROW_LIMIT, 0]


def test_booleans_are_zero_and_one() -> None:
    assert Lattice(Fraction(1, 4)).units(np.array([True, False])).tolist() == [4, 0]


def test_bounds_are_widened_to_the_lattice() -> None:
    lattice = Lattice(Fraction(1, 10))

    assert (lattice.lower(Fraction(-1, 3)), lattice.upper(Fraction(1, 3))) == (-4, 4)
    assert (lattice.lower(2), lattice.upper(2)) == (20, 20)
    assert lattice.value(-4) == Fraction(-2, 5)


@pytest.mark.parametrize("step", [Fraction(0), Fraction(-1, 2), 0.5, 1, "0.01"])
def test_steps_that_are_no_positive_fraction_are_refused(step: Any) -> None:
    with pytest.raises(InvalidArgument, match=r"step=.* must be a Fraction > 0"):
        Lattice(step)


@pytest.mark.parametrize("step", [Fraction(1, 3), Fraction(1, 2**54), Fraction(2**53 + 1)])
def test_steps_that_floats_cannot_hold_are_refused(step: Fraction) -> None:
    with pytest.raises(InvalidArgument, match="must be a decimal or binary fraction of at most 53 bits"):
        Lattice(step)


def test_values_that_are_no_numbers_are_refused() -> None:
    with pytest.raises(InvalidArgument, match="values of type <U1 must be integers, floats or booleans"):
        Lattice().units(np.array(["1"]))
