"""Bounded group-by and bounded rows over columns of codes, chunk by chunk."""

from collections.abc import Iterator
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from dayfly.privacy._check import in_range
from dayfly.privacy.errors import InvalidArgument

from .contribution import MAX_CUSTOMERS, Bounded, Contribution
from .kernels import NO_VALUE, Rows
from .lattice import UNIT_BITS, Lattice
from .salts import SaltedKeys
from .slots import NO_COUNTS, NO_VALUES, WORD_BITS, Batch, Method, SlotTable, check_method

__all__ = ["DEFAULT_MAX_GROUPS", "batches", "bounded_group_by", "bounded_rows"]

DEFAULT_MAX_GROUPS: Final = 2**22
"""Most groups a query may have unless it says otherwise."""

_PIECE_ROWS: Final = 2**17  # what is converted at once, so that it stays in a cache
_NUMBER_BITS: Final = 32
_MOST_GROUPS: Final = 2**31 - 1


def bounded_group_by(
    customers: NDArray[Any],
    groups: NDArray[Any],
    values: NDArray[Any] | None,
    group_count: int,
    contribution: Contribution,
    *,
    method: Method = "uniform",
    salt: bytes,
    lattice: Lattice | None = None,
    customer_words: NDArray[np.uint64] | None = None,
    group_words: NDArray[np.uint64] | None = None,
) -> Bounded:
    """Count, sum and distinct customers of every group, each customer bounded, in one pass.

    Args:
        customers: Code of each row's customer, any integer type, shape (rows,); negative: the row is left out.
        groups: Code of each row's group, below `group_count`; negative: the row is left out.
        values: Lattice units (int64, `NO_VALUE` leaves the row out), or any numbers when `lattice` is given, or None for counts only.
        group_count: Number of groups.
        contribution: Bounds of a customer.
        method: "uniform": a uniform sample of each customer's groups, drawn by the salt; row order does not matter. "first_come": the
            first groups of each customer in row order; cheaper to reason about in a stream, but what arrives early is favoured, and the
            same rows in another order give another answer (of the same sensitivity).
        salt: 16 secret random bytes, fresh for each release.
        lattice: Puts `values` on this lattice, a chunk at a time.
        customer_words: Secret word of each customer code; default: of the code itself. `Columns` passes those of the keys.
        group_words: Secret word of each group code; default: of the code itself.

    Returns:
        Exact bounded totals per group: private until noise is added.

    Raises:
        InvalidArgument: A column is of another type or length, a code is out of range, the salt is not 16 bytes.

    Guarantees:
        Claim: for every salt, one customer added or removed changes the results by at most `contribution.count_sensitivity()`,
        `.sum_sensitivity()` and `.customer_sensitivity()`.

        Assumes: codes and words of other customers do not depend on whether this one is present (pass words of keys, as `Columns` does;
        with bare codes the claim holds in distribution over the salt), and with "first_come" that the order of others' rows does not.

        Source: sums over customers of clamped vectors with at most L0 entries (Wilson et al., "Differentially Private SQL with Bounded
        User Contribution", PoPETs 2020); bottom-k sampling by priorities (Cohen and Kaplan, PODC 2007).
    """
    table = _table(
        customers,
        groups,
        group_count,
        l0=contribution.l0,
        method=method,
        salt=salt,
        customer_words=customer_words,
        group_words=group_words,
    )
    for batch in batches(table, customers, groups, values, lattice):
        table.offer(batch)
    return table.settle(contribution)


def bounded_rows(
    customers: NDArray[Any],
    groups: NDArray[Any],
    group_count: int,
    contribution: Contribution,
    *,
    method: Method = "uniform",
    salt: bytes,
    values: NDArray[Any] | None = None,
    lattice: Lattice | None = None,
    customer_words: NDArray[np.uint64] | None = None,
    group_words: NDArray[np.uint64] | None = None,
) -> NDArray[np.int64]:
    """Rows to keep for quantiles and histograms: at most `rows_per_group` of each of at most `l0` groups of a customer.

    The kept groups are those of `bounded_group_by` with the same salt; within one, the rows are a uniform sample drawn by the salt.

    Args:
        customers: As in `bounded_group_by`.
        groups: As in `bounded_group_by`.
        group_count: Number of groups.
        contribution: `l0` and `rows_per_group` are used.
        method: How groups are kept.
        salt: 16 secret random bytes, fresh for each release.
        values: Given when rows without a value are to be left out.
        lattice: Puts `values` on this lattice.
        customer_words: As in `bounded_group_by`.
        group_words: As in `bounded_group_by`.

    Returns:
        Row numbers, increasing.

    Raises:
        InvalidArgument: As in `bounded_group_by`.

    Guarantees:
        Claim: a customer's kept rows depend on this customer's rows, their order and the salt alone, so that counts of kept rows per
        (group, bin) change by at most `contribution.row_sensitivity()`.

        Assumes: as `bounded_group_by`.
    """
    table = _table(
        customers,
        groups,
        group_count,
        l0=contribution.l0,
        method=method,
        salt=salt,
        customer_words=customer_words,
        group_words=group_words,
    )
    for batch in batches(table, customers, groups, values, lattice):
        table.offer(batch)
    marks = table.no_marks()
    key = SaltedKeys.of(salt).rows[0]
    kept = [np.empty(0, np.int64)]
    first = 0
    for batch in batches(table, customers, groups, values, lattice, numbered=True):
        kept.append(table.choose(batch, contribution.rows_per_group, key, marks) + first)
        first += batch.size
    return np.concatenate(kept)


def _table(
    customers: NDArray[Any],
    groups: NDArray[Any],
    group_count: int,
    *,
    l0: int,
    method: Method,
    salt: bytes,
    customer_words: NDArray[np.uint64] | None,
    group_words: NDArray[np.uint64] | None,
) -> SlotTable:
    check_method(method)
    keys = SaltedKeys.of(salt)
    in_range(0, _MOST_GROUPS, group_count=group_count)
    for name, column in (("customers", customers), ("groups", groups)):
        if column.dtype.kind not in "iu" or column.ndim != 1:
            raise InvalidArgument(
                f"{name} of type {column.dtype} and shape {column.shape} must be a column of integer codes; encode it first"
            )
    if customers.size != groups.size:
        raise InvalidArgument(
            f"groups of length {groups.size} must be as long as customers ({customers.size}); pass whole columns"
        )
    if customer_words is None:
        count = 1 + max(-1, int(customers.max())) if customers.size else 0
        in_range(0, MAX_CUSTOMERS, customers=count)
        customer_words = keys.code_words(count, of=keys.customers)
    if group_words is None:
        group_words = keys.code_words(group_count, of=keys.groups)
    if group_words.size != group_count:
        raise InvalidArgument(
            f"group_words of length {group_words.size} must have one word per group ({group_count}); pass them all"
        )
    return SlotTable(customer_words, group_words, l0, method)


def batches(
    table: SlotTable,
    customers: NDArray[Any],
    groups: NDArray[Any],
    values: NDArray[Any] | None,
    lattice: Lattice | None,
    *,
    numbered: bool = False,
) -> Iterator[Batch]:
    """As many rows at once as the table takes, with the kernels' types; whole columns are never copied.

    Args:
        table: That they are offered to.
        customers: As in `bounded_group_by`.
        groups: As in `bounded_group_by`.
        values: As in `bounded_group_by`.
        lattice: Puts `values` on this lattice.
        numbered: Give each row its number within the batch as its value, where it has one.
    """
    if values is not None and values.size != customers.size:
        raise InvalidArgument(
            f"values of length {values.size} must be as long as customers ({customers.size}); pass whole columns"
        )
    if values is not None and lattice is None and values.dtype != np.int64:
        raise InvalidArgument(
            f"values of type {values.dtype} must be int64 lattice units; pass lattice=Lattice(step) to put them there"
        )
    value_bits = WORD_BITS
    if numbered:
        value_bits = _NUMBER_BITS
    elif values is None:
        value_bits = 0
    elif lattice is not None:
        value_bits = UNIT_BITS
    most = table.most_rows(value_bits)
    for start in range(0, customers.size, most):
        part = slice(start, min(start + most, customers.size))
        units = None if values is None else values[part]
        yield Batch(
            part.stop - part.start,
            (_codes("customers", customers[part][piece]) for piece in _pieces(part)),
            _rows(customers[part], groups[part], units, lattice, numbered=numbered),
            value_bits,
        )


def _pieces(part: slice) -> Iterator[slice]:
    for start in range(0, part.stop - part.start, _PIECE_ROWS):
        yield slice(start, start + _PIECE_ROWS)


def _rows(
    customers: NDArray[Any],
    groups: NDArray[Any],
    values: NDArray[Any] | None,
    lattice: Lattice | None,
    *,
    numbered: bool,
) -> Iterator[Rows]:
    for part in _pieces(slice(0, customers.size)):
        units = NO_VALUES
        if values is not None:
            units = values[part] if lattice is None else lattice.units(values[part])
        if numbered:
            numbers = np.arange(part.start, min(part.stop, customers.size))
            units = np.where(units == NO_VALUE, NO_VALUE, numbers) if units.size else numbers
        yield Rows(_codes("customers", customers[part]), _codes("groups", groups[part]), NO_COUNTS, units)


def _codes(name: str, column: NDArray[Any]) -> NDArray[np.int32]:
    """The same codes as int32, negative ones as they are."""
    if column.dtype.itemsize > 4 or column.dtype == np.uint32:
        top = int(column.max())
        in_range(-1, _MOST_GROUPS, **{name: max(top, -1)})
        column = np.maximum(column, -1) if column.dtype.kind == "i" else column
    return column.astype(np.int32, copy=False)
