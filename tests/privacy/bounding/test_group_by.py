"""Bounded group-by over codes against the plain-Python oracle, and what it refuses."""

import itertools
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dayfly.privacy.bounding import (
    NO_VALUE,
    Bounded,
    Contribution,
    Lattice,
    Method,
    bounded_group_by,
    group_by,
    slots,
)
from dayfly.privacy.bounding.kernels import Rows
from dayfly.privacy.bounding.slots import Batch, SlotTable
from dayfly.privacy.errors import InvalidArgument

from ...oracles import dp_bounding as oracle

SALT = bytes(range(16))
UNITS = st.one_of(st.integers(-20, 20), st.sampled_from([2**40, -(2**40)]), st.none())


@st.composite
def tables(draw: st.DrawFn) -> tuple[list[oracle.Row], int]:
    """Rows over few customers and groups, some left out, and the number of groups."""
    groups = draw(st.integers(1, 9))
    rows = draw(st.lists(st.tuples(st.integers(-1, 5), st.integers(-1, groups - 1), UNITS), max_size=60))
    return rows, groups


@st.composite
def contributions(draw: st.DrawFn) -> Contribution:
    lower, upper = sorted(draw(st.tuples(st.integers(-30, 30), st.integers(-30, 30))))
    return Contribution(draw(st.integers(1, 9)), draw(st.integers(1, 4)), lower, upper)


def run(
    rows: list[oracle.Row],
    groups: int,
    bounds: Contribution,
    method: Method = "uniform",
    *,
    salt: bytes = SALT,
    packed: bool = False,
) -> Bounded:
    """Bounded totals; `packed`: values come by way of a lattice, which is known to leave room for the codes in one word."""
    customers = np.array([row[0] for row in rows], np.int64)
    where = np.array([row[1] for row in rows], np.int64)
    if packed:
        floats = np.array([np.nan if row[2] is None else row[2] for row in rows], np.float64)
        return bounded_group_by(
            customers, where, floats, groups, bounds, method=method, salt=salt, lattice=Lattice()
        )
    values = np.array([NO_VALUE if row[2] is None else row[2] for row in rows], np.int64)
    return bounded_group_by(customers, where, values, groups, bounds, method=method, salt=salt)


def bounds_of(contribution: Contribution) -> tuple[int, int, int, int]:
    return (contribution.l0, contribution.rows_per_group, contribution.sum_lower, contribution.sum_upper)


def same(bounded: Bounded, expected: oracle.Totals) -> None:
    assert bounded.counts.tolist() == expected.counts
    assert bounded.sums.tolist() == expected.sums
    assert bounded.customers.tolist() == expected.customers


@given(
    tables(),
    contributions(),
    st.binary(min_size=16, max_size=16),
    st.tuples(st.integers(1, 8), st.integers(1, 30), st.integers(1, 7)),
    st.booleans(),
)
def test_uniform_is_the_oracle(
    table: tuple[list[oracle.Row], int],
    bounds: Contribution,
    salt: bytes,
    sizes: tuple[int, int, int],
    packed: bool,  # noqa: FBT001 - a drawn value
) -> None:
    block, chunk, piece = sizes
    rows, groups = table

    expected = oracle.bounded(
        rows, groups, bounds_of(bounds), uniform=True, priority=oracle.salted_priority(salt)
    )

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(slots, "_BLOCK_ROWS", block)
        patch.setattr(slots, "_SCRATCH_WORDS", chunk)
        patch.setattr(group_by, "_PIECE_ROWS", piece)
        same(run(rows, groups, bounds, salt=salt, packed=packed), expected)


@given(tables(), contributions(), st.booleans())
def test_first_come_is_the_oracle(
    table: tuple[list[oracle.Row], int],
    bounds: Contribution,
    packed: bool,  # noqa: FBT001 - a drawn value
) -> None:
    rows, groups = table

    expected = oracle.bounded(rows, groups, bounds_of(bounds), uniform=False, priority=lambda _who, _where: 0)

    same(run(rows, groups, bounds, "first_come", packed=packed), expected)


@given(tables(), contributions(), st.randoms(use_true_random=False))
def test_uniform_does_not_depend_on_row_order(
    table: tuple[list[oracle.Row], int], bounds: Contribution, random: Any
) -> None:
    rows, groups = table
    shuffled = random.sample(rows, len(rows))

    first, second = run(rows, groups, bounds), run(shuffled, groups, bounds)

    assert [first.counts.tolist(), first.sums.tolist()] == [second.counts.tolist(), second.sums.tolist()]


def test_first_come_keeps_what_came_first() -> None:
    rows: list[oracle.Row] = [(0, 2, 5), (0, 1, 7), (0, 2, 1)]

    forwards, backwards = (
        run(order, 3, Contribution(1, 9, 0, 99), "first_come") for order in (rows, [rows[1], rows[0]])
    )

    assert forwards.sums.tolist() == [0, 0, 6]
    assert backwards.sums.tolist() == [0, 7, 0]


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("method", ["uniform", "first_come"])
def test_many_customers_chunks_and_growing_arena_are_the_oracle(
    method: Method,
    packed: bool,  # noqa: FBT001 - a case
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(slots, "_SCRATCH_WORDS", 300)
    monkeypatch.setattr(group_by, "_PIECE_ROWS", 170)
    random = np.random.default_rng(1)
    customers = random.integers(0, 1_100, 2_000)
    customers[:400] = 7
    groups = random.integers(0, 150, 2_000)
    values = random.integers(-50, 50, 2_000)
    bounds = Contribution(40, 2, -60, 60)
    rows = list(zip(customers.tolist(), groups.tolist(), values.tolist(), strict=True))

    expected = oracle.bounded(
        rows, 150, bounds_of(bounds), uniform=method == "uniform", priority=oracle.salted_priority(SALT)
    )

    same(run(rows, 150, bounds, method, packed=packed), expected)


@pytest.mark.parametrize("groups", [2**13 - 1, 2**13])
def test_the_largest_codes_and_values_fit_a_row_with_or_without_a_word_of_its_own_for_the_value(
    groups: int,
) -> None:
    """9 bits of customers, 42 of the value, and 13 of groups, or 14: 64 bits, or one too many."""
    far = 2**40
    rows: list[oracle.Row] = [
        (511, groups - 1, far),
        (512, groups - 1, -far),
        (255, groups - 1, 7),
        (511, 0, -far),
        (1023, 0, far),
    ]
    bounds = Contribution(2, 9, -(2**32), 2**32)

    bounded = run(rows, groups, bounds, packed=True)

    assert bounded.customers[[0, 1, groups - 1]].tolist() == [2, 0, 3]
    assert bounded.sums[[0, groups - 1]].tolist() == [0, 7]
    assert run(rows[:1], groups, bounds, packed=True).sums[groups - 1] == 2**32
    assert run(rows[1:2], groups, bounds, packed=True).sums[groups - 1] == -(2**32)


@pytest.mark.parametrize("dtype", ["i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8"])
def test_codes_of_every_integer_width_mean_the_same(dtype: str) -> None:
    customers, groups = np.array([0, 0, 1, 1, 1], dtype), np.array([0, 1, 0, 0, 2], dtype)

    bounded = bounded_group_by(customers, groups, None, 3, Contribution(3, 1), salt=SALT)

    assert bounded.counts.tolist() == [2, 1, 1]
    assert bounded.sums.tolist() == [0, 0, 0]


def test_columns_may_be_slices_with_steps() -> None:
    table = np.array([[0, 1, 5], [1, 0, 6], [1, 1, 7]], np.int64)

    bounded = bounded_group_by(table[:, 0], table[:, 1], table[:, 2], 2, Contribution(2, 1, 0, 10), salt=SALT)

    assert bounded.sums.tolist() == [6, 12]


def test_floats_go_to_the_lattice_chunk_by_chunk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slots, "_SCRATCH_WORDS", 2)
    values = np.array([0.25, np.nan, np.inf, -0.5, 1.0])

    bounded = bounded_group_by(
        np.arange(5),
        np.zeros(5, int),
        values,
        1,
        Contribution(1, 1, -2, 3),
        salt=SALT,
        lattice=Lattice(Fraction(1, 4)),
    )

    assert bounded.counts.tolist() == [4]
    assert bounded.sums.tolist() == [1 + 3 - 2 + 3]


def test_total_that_wraps_is_still_clamped() -> None:
    values = np.full(2**4, 2**59, np.int64)

    bounded = bounded_group_by(
        np.zeros(16, int), np.zeros(16, int), values, 1, Contribution(1, 1, -5, 5), salt=SALT
    )

    assert bounded.sums.tolist() == [-5]  # 2^63 wraps to -2^63, and -2^63 is clamped


def test_counts_saturate_and_do_not_spill_into_the_group_code() -> None:
    table = SlotTable(np.zeros(1, np.uint64), np.arange(2, dtype=np.uint64), 2, "uniform")
    rows = Rows(
        np.zeros(3, np.int32),
        np.array([1, 1, 1], np.int32),
        np.full(3, 2**31 - 1, np.int32),
        np.ones(3, np.int64),
    )

    table.offer(Batch.of(rows))

    assert table.settle(Contribution(2, 2**31 - 1, 0, 9)).counts.tolist() == [0, 2**31 - 1]
    assert table.entries()[1].groups.tolist() == [1]


@given(tables(), contributions())
def test_groups_of_one_priority_are_ordered_by_code(
    table: tuple[list[oracle.Row], int], bounds: Contribution
) -> None:
    rows, groups = table
    words = np.arange(groups, dtype=np.uint64) // 3
    customers = np.array([row[0] for row in rows], np.int64)
    where = np.array([row[1] for row in rows], np.int64)
    values = np.array([NO_VALUE if row[2] is None else row[2] for row in rows], np.int64)

    bounded = bounded_group_by(
        customers,
        where,
        values,
        groups,
        bounds,
        salt=SALT,
        customer_words=np.zeros(6, np.uint64),
        group_words=words,
    )

    same(
        bounded,
        oracle.bounded(
            rows, groups, bounds_of(bounds), uniform=True, priority=lambda _who, group: oracle.mix(group // 3)
        ),
    )


@pytest.mark.parametrize("order", list(itertools.permutations(range(4))))
@pytest.mark.parametrize("l0", [1, 2, 3])
def test_of_equal_priorities_the_lowest_codes_stay_in_any_order(order: tuple[int, ...], l0: int) -> None:
    bounded = bounded_group_by(
        np.zeros(8, int),
        np.array([*order, *order]),
        None,
        4,
        Contribution(l0, 2),
        salt=SALT,
        customer_words=np.zeros(1, np.uint64),
        group_words=np.full(4, 5, np.uint64),
    )

    assert bounded.counts.tolist() == [2] * l0 + [0] * (4 - l0)


def test_no_rows_and_no_groups_give_empty_totals() -> None:
    none = np.empty(0, np.int64)

    assert bounded_group_by(none, none, none, 2, Contribution(1), salt=SALT).counts.tolist() == [0, 0]
    assert bounded_group_by(none, none, None, 0, Contribution(1), salt=SALT).counts.tolist() == []


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"groups": np.array([0, 3])}, "groups=3 must be a code < 3"),
        ({"groups": np.array([0, 2**40])}, "groups=1099511627776 must lie in"),
        ({"customers": np.array([0, 2**31])}, "customers=2147483649 must lie in"),
        (
            {"customers": np.array([0.0, 1.0])},
            "customers of type float64 .* must be a column of integer codes",
        ),
        ({"groups": np.array([["a"]])}, "groups of type <U1 .* must be a column of integer codes"),
        ({"groups": np.array([0])}, "groups of length 1 must be as long as customers"),
        ({"values": np.array([1])}, "values of length 1 must be as long as customers"),
        ({"values": np.array([1.0, 2.0])}, "values of type float64 must be int64 lattice units"),
        ({"group_count": -1}, "group_count=-1 must lie in"),
        ({"salt": b"short"}, "salt=5 .length. must be 16 random bytes"),
        ({"salt": "0123456789abcdef"}, "salt='str' .length. must be 16 random bytes"),
        ({"method": "last"}, "method='last' must be one of"),
        ({"customer_words": np.zeros(1, np.uint64)}, "customers=1 must be a code < 1"),
        ({"group_words": np.zeros(1, np.uint64)}, "group_words of length 1 must have one word per group"),
    ],
)
def test_bad_columns_are_refused(changed: dict[str, Any], message: str) -> None:
    given_arguments: dict[str, Any] = {
        "customers": np.array([0, 1]),
        "groups": np.array([0, 1]),
        "values": None,
        "group_count": 3,
        "contribution": Contribution(1),
        "salt": SALT,
    }

    with pytest.raises(InvalidArgument, match=message):
        bounded_group_by(**(given_arguments | changed))
