"""Checks of contribution bounding: neighbours of tiny universes against the claimed norms, and what a sample must be like."""

from collections.abc import Iterator
from fractions import Fraction
from itertools import combinations_with_replacement, product

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from dayfly.privacy.accounting import Sensitivity
from dayfly.privacy.bounding import (
    NO_VALUE,
    Bounded,
    Contribution,
    Lattice,
    Partial,
    bounded_group_by,
    bounded_rows,
    encode,
)
from dayfly.privacy.bounding.kernels import Clamp, Slots, settle
from dayfly.privacy.errors import InvalidArgument

SALT = bytes(range(16))
GROUPS = 3
Row = tuple[int, int, int]
"""Customer, group, value in lattice units."""


def bounded(rows: list[Row], contribution: Contribution, *, salt: bytes = SALT) -> Bounded:
    """The kernel's totals of some rows."""
    columns = np.array(rows, np.int64).reshape(-1, 3)
    return bounded_group_by(
        columns[:, 0], columns[:, 1], np.ascontiguousarray(columns[:, 2]), GROUPS, contribution, salt=salt
    )


def within(before: NDArray[np.int64], after: NDArray[np.int64], claimed: Sensitivity) -> None:
    """Insist that two vectors differ by no more than is claimed, in all four norms; in Python's own integers."""
    change = [abs(int(a) - int(b)) for a, b in zip(before.ravel(), after.ravel(), strict=True)]
    assert sum(1 for one in change if one) <= claimed.l0
    assert sum(change) <= claimed.l1
    assert sum(one * one for one in change) <= claimed.l2_squared
    assert max(change, default=0) <= claimed.linf


def universes() -> Iterator[list[Row]]:
    """Rows of one customer: every choice of two groups and of values, each once and twice, and one in all groups."""
    values = (-(10**6), -7, 0, 3, 10**6)
    for groups in combinations_with_replacement(range(GROUPS), 2):
        for pair in product(values, repeat=2):
            yield [(1, group, value) for group, value in zip(groups, pair, strict=True)]
    for value in values:
        yield [(1, group, value) for group in range(GROUPS) for _ in range(3)]


OTHERS: list[Row] = [(0, 0, 2), (0, 1, -9), (2, 1, 5), (2, 2, 10**6), (2, 2, -4)]


def neighbours_differ_by_no_more_than_is_claimed() -> None:
    """All norms of counts, sums and customers, for every set of bounds with a sign of its own."""
    for lower, upper in ((0, 5), (-5, 0), (-5, 5), (-2, 7), (3, 9)):
        contribution = Contribution(2, 2, lower, upper)
        without = bounded(OTHERS, contribution)
        for rows in universes():
            whole = bounded([*OTHERS, *rows], contribution)
            within(whole.counts, without.counts, contribution.count_sensitivity())
            within(whole.sums, without.sums, contribution.sum_sensitivity())
            within(whole.customers, without.customers, contribution.customer_sensitivity())


def the_claim_of_a_sum_is_the_largest_bound() -> None:
    """Computed anew: a customer in all groups at the bound that is further from zero."""
    for lower, upper in ((0, 5), (-5, 0), (-3, 0), (-4, 4), (-2, 7)):
        for l0 in (1, 2, 3):
            claimed, far = Contribution(l0, 1, lower, upper).sum_sensitivity(), max(-lower, upper)
            change = [far] * l0
            assert (claimed.l0, claimed.linf) == (l0, far)
            assert claimed.l1 >= sum(change)
            assert claimed.l2_squared >= sum(one * one for one in change)


def as_many_groups_are_kept_as_allowed() -> None:
    """No more, which would break the claim, and no fewer, which would waste what was paid for."""
    for l0 in (1, 2, 3):
        kept = bounded([(0, group, 1) for group in range(GROUPS)], Contribution(l0, 1, 0, 1)).customers
        assert int(kept.sum()) == l0


def kept(customers: int, groups: int, salt: bytes) -> NDArray[np.int64]:
    """Which of all groups each of some customers keeps three of."""
    codes = np.repeat(np.arange(customers), groups)
    rows = np.tile(np.arange(groups), customers)
    found = np.zeros((customers, groups), np.int64)
    for customer in range(customers):
        own = codes == customer
        found[customer] = bounded_group_by(
            codes[own], rows[own], None, groups, Contribution(3), salt=salt
        ).customers
    return found


def samples_differ_between_customers_and_releases() -> None:
    """Each customer of each release keeps other groups, and no group is kept by everybody."""
    first, second = kept(12, 8, SALT), kept(12, 8, SALT[::-1])
    assert (first.sum(axis=1) == 3).all()
    assert len({tuple(row) for row in first}) > 6
    assert (first != second).any(axis=1).sum() > 6


def rows_are_sampled_to_their_limit() -> None:
    """`bounded_rows` keeps exactly as many as allowed of each (customer, group)."""
    customers, groups = np.repeat([0, 1], 10), np.tile(np.repeat([0, 1], 5), 2)
    for limit in (1, 2, 4):
        rows = bounded_rows(customers, groups, 2, Contribution(2, limit), salt=SALT)
        _, counts = np.unique(customers[rows] * 2 + groups[rows], return_counts=True)
        assert counts.tolist() == [limit] * 4


def pieces_merge_to_the_whole() -> None:
    """A customer whose rows lie in two pieces is bounded once, not per piece."""
    contribution = Contribution(1, 2, 0, 3)

    def partial(*groups: int) -> Partial:
        made = Partial(contribution, salt=SALT)
        table = pa.table({"who": [7] * len(groups), "group": list(groups), "value": [5] * len(groups)})
        made.add(encode(table, customer="who", groups=["group"], value="value", lattice=Lattice()))
        return made

    merged, other = partial(0, 1), partial(0, 1, 2)
    merged.merge(other)
    found = merged.finish()
    assert int(found.customers.sum()) == 1
    assert int(found.counts.sum()) <= 2
    assert int(found.sums.sum()) <= 3


def rows_without_a_value_do_not_count() -> None:
    """NaN and infinity: left out, and at the limit; never a number that no clamp holds."""
    units = Lattice(Fraction(1, 4)).units(np.array([np.nan, np.inf, -np.inf, 1.0, 1e300]))
    assert units[0] == NO_VALUE
    assert units[1] == units[4] == -units[2] > 2**30
    assert units[3] == 4
    contribution = Contribution(1, 1, 0, 8)
    found = bounded([(0, 0, int(units[0])), (1, 0, 4)], contribution)
    assert (found.counts[0], found.sums[0], found.customers[0]) == (1, 4, 1)


def large_values_saturate() -> None:
    """They never wrap around to the other sign."""
    values = np.array([2**62, 2**55, -(2**62), 3, -(2**63)], np.int64)
    units = Lattice(Fraction(1, 1024)).units(values)
    assert np.sign(units).tolist() == [1, 1, -1, 1, -1]
    assert units[3] == 3 * 1024


def no_total_can_leave_int64() -> None:
    """Every bound that is accepted fits, with the most customers a table can hold."""
    accepted = []
    for exponent in range(20, 64):
        try:
            accepted.append(Contribution(1, 1, 0, 2**exponent))
        except InvalidArgument:
            continue
    assert accepted
    assert max(one.sum_upper for one in accepted) * (2**31 - 1) < 2**63


def totals_add_up_exactly() -> None:
    """One unit more is one unit more, also beyond what a float can hold."""
    one = np.array([[0, 1]], np.int64)
    words = np.zeros(1, np.uint64)
    table = Slots(np.zeros((1, 2), np.uint64), one, words, np.array([[1, 1]], np.int64), words)
    sums = np.array([2**53], np.int64)
    settle(table, Clamp(1, 0, 1), np.zeros(1, np.int64), sums, np.zeros(1, np.int64))
    assert int(sums[0]) == 2**53 + 1
