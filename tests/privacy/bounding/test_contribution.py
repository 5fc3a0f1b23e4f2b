"""Bounds of a contribution and the sensitivities that follow."""

from typing import Any

import pytest

from dayfly.privacy.bounding import Contribution
from dayfly.privacy.bounding.contribution import MAX_BOUND, MAX_CUSTOMERS, MAX_ROWS
from dayfly.privacy.errors import InvalidArgument


def test_sensitivities_are_those_of_l0_groups_with_clamped_entries() -> None:
    bounds = Contribution(4, 10, -3, 7)

    count, total, people, rows = (
        bounds.count_sensitivity(),
        bounds.sum_sensitivity(),
        bounds.customer_sensitivity(),
        bounds.row_sensitivity(),
    )

    assert (count.l0, count.l1, count.l2_squared, count.linf) == (4, 40, 400, 10)
    assert (total.l0, total.l1, total.l2_squared, total.linf) == (4, 28, 196, 7)
    assert (people.l0, people.l1, people.l2_squared, people.linf) == (4, 4, 4, 1)
    assert (rows.l0, rows.l1, rows.l2_squared, rows.linf) == (40, 40, 400, 10)


@pytest.mark.parametrize(
    ("lower", "upper", "linf"), [(0, 5, 5), (-5, 0, 5), (-9, 2, 9), (3, 5, 5), (-5, -3, 5), (0, 0, 0)]
)
def test_sum_sensitivity_is_the_larger_magnitude_of_the_bounds(lower: int, upper: int, linf: int) -> None:
    assert Contribution(2, 1, lower, upper).sum_sensitivity().linf == linf


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0,), "l0=0 must lie in"),
        ((-1,), "l0=-1 must lie in"),
        ((4_097,), "l0=4097 must lie in"),
        ((1, 0), "rows_per_group=0 must lie in"),
        ((1, MAX_ROWS + 1), "rows_per_group=2147483648 must lie in"),
        ((1, 1, 5, 4), "sum_lower=5 must be <= sum_upper=4"),
        ((1, 1, 0, MAX_BOUND + 1), "sum_upper=4294967297 must lie in"),
        ((1, 1, -MAX_BOUND - 1, 0), "sum_lower=-4294967297 must lie in"),
        ((1.0,), "l0=1.0 must be a whole number"),
        ((True,), "l0=True must be a whole number"),
        ((1, 1, 0, float("nan")), "sum_upper=nan must be a whole number"),
    ],
)
def test_bounds_that_make_no_sense_are_refused(arguments: tuple[Any, ...], message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        Contribution(*arguments)


def test_largest_bounds_cannot_overflow_int64() -> None:
    assert Contribution(1, MAX_ROWS, -MAX_BOUND, MAX_BOUND).l0 == 1
    assert MAX_CUSTOMERS * MAX_BOUND < 2**63
    assert MAX_CUSTOMERS * MAX_ROWS < 2**63
