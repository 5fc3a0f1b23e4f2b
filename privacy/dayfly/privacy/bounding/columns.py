"""Tables to codes: what the bounding kernels take, with the keys that the codes stand for."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from dayfly.privacy.errors import InvalidColumns, TooManyGroups

from .contribution import Bounded, Contribution
from .group_by import DEFAULT_MAX_GROUPS, bounded_group_by, bounded_rows
from .kernels import rename_codes
from .keys import (
    as_arrow,
    codes_of_column,
    codes_of_columns,
    key_array,
    known_table,
    match_keys,
    order_of_keys,
    restored,
)
from .lattice import Lattice
from .salts import SaltedKeys
from .slots import Method
from .tables import read_columns, value_column

__all__ = ["Columns", "encode"]


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Columns:
    """Coded columns of one table; its representation shows none of them.

    Attributes:
        customers: Code of each row's customer; -1 where the row has none.
        customer_keys: Key of each customer code: int64 or large_string.
        groups: Code of each row's group; -1 where its key is not among the known ones.
        group_keys: Key of each group code, one column per group-by column; no columns when everything is one group.
        values: Numbers of the value column, NaN where there is none, or None.
        lattice: Where values go.
        known: Whether the keys were given. When they were found in the data they are as private as the data.
    """

    customers: NDArray[np.int32]
    customer_keys: pa.Array
    groups: NDArray[np.int32]
    group_keys: pa.Table
    values: NDArray[Any] | None
    lattice: Lattice
    known: bool

    @property
    def group_count(self) -> int:
        """Number of group codes."""
        return self.group_keys.num_rows if self.group_keys.num_columns else 1

    def with_values(self, values: Any, *, lattice: Lattice) -> "Columns":
        """The same customers and groups with another value column, shape (rows,)."""
        numbers = value_column("values", values)
        if numbers.size != self.customers.size:
            raise InvalidColumns(
                f"values of length {numbers.size} must be {self.customers.size} long; pass a value per row"
            )
        return replace(self, values=numbers, lattice=lattice)

    def without_values(self) -> "Columns":
        """The same customers and groups, every row counting."""
        return replace(self, values=None)

    def where(self, mask: NDArray[np.bool_]) -> "Columns":
        """Only rows where `mask` is true; the others stay in place with group code -1.

        A mask must be decided row by row, or from the rows of the same customer alone: one that looks at other customers' rows would let
        one customer change what another contributes.
        """
        if mask.shape != self.groups.shape or mask.dtype != np.bool_:
            raise InvalidColumns(
                f"mask of type {mask.dtype} and shape {mask.shape} must be one bool per row, shape {self.groups.shape}; pass such"
            )
        return replace(self, groups=np.where(mask, self.groups, np.int32(-1)))

    def words(self, salt: bytes) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
        """Secret words of the customers' and of the groups' keys."""
        keys = SaltedKeys.of(salt)
        groups = keys.group_words(self.group_keys) if self.group_keys.num_columns else np.zeros(1, np.uint64)
        return keys.customer_words(self.customer_keys), groups

    def group_by(self, contribution: Contribution, *, method: Method = "uniform", salt: bytes) -> Bounded:
        """`bounded_group_by` of these columns, with the keys' words, so that its guarantee holds for every salt.

        Returns:
            Totals with `keys`. Keys that were found in the data and that nobody kept are left out.
        """
        customer_words, group_words = self.words(salt)
        bounded = bounded_group_by(
            self.customers,
            self.groups,
            self.values,
            self.group_count,
            contribution,
            method=method,
            salt=salt,
            lattice=self.lattice,
            customer_words=customer_words,
            group_words=group_words,
        )
        return keyed(bounded, self.group_keys, known=self.known)

    def rows(
        self, contribution: Contribution, *, method: Method = "uniform", salt: bytes
    ) -> NDArray[np.int64]:
        """`bounded_rows` of these columns, with the keys' words."""
        customer_words, group_words = self.words(salt)
        return bounded_rows(
            self.customers,
            self.groups,
            self.group_count,
            contribution,
            method=method,
            salt=salt,
            values=self.values,
            lattice=self.lattice,
            customer_words=customer_words,
            group_words=group_words,
        )


def keyed(bounded: Bounded, keys: pa.Table, *, known: bool) -> Bounded:
    """Totals with their keys; keys found in the data stay only where a customer was kept."""
    if known or not keys.num_columns:
        return replace(bounded, keys=keys)
    kept = np.flatnonzero(bounded.customers)
    return Bounded(
        bounded.counts[kept], bounded.sums[kept], bounded.customers[kept], keys.take(pa.array(kept))
    )


def encode(
    source: Any,
    *,
    customer: str,
    groups: Sequence[str] = (),
    value: str | None = None,
    lattice: Lattice | None = None,
    known_keys: Any = None,
    max_groups: int = DEFAULT_MAX_GROUPS,
) -> Columns:
    """Code the columns of a table.

    Rules, each decided row by row:

    - a row whose customer is null has no unit of privacy and is left out;
    - a row whose value is null or NaN is left out of counts too, when a value column is given; infinities saturate;
    - null is a group key like any other;
    - with `known_keys`, rows of other keys are left out before anything is bounded, so that they use up none of a customer's groups.

    Args:
        source: An Arrow table or record batch, a Parquet path, a mapping of columns, or a data frame that speaks Arrow.
        customer: Column of the unit of privacy: integers or strings.
        groups: Group-by columns: integers, strings, booleans, dates; none for one group of everything.
        value: Column of numbers, or None for counts only.
        lattice: Where values go; default: whole numbers.
        known_keys: The groups of the answer, in its order: values (one column), tuples (several), or an Arrow table. None: those in the data.
        max_groups: Largest number of groups.

    Returns:
        Codes and keys. Without `known_keys` the keys are sorted, nulls last.

    Raises:
        InvalidColumns: A column is missing or of a wrong type, or known keys do not fit or repeat.
        TooManyGroups: There are more groups than `max_groups`.
    """
    names = [customer, *groups, *([] if value is None else [value])]
    found = read_columns(source, names)
    customers, customer_keys = _customers(customer, found[customer])
    if groups:
        codes, table = _groups({name: found[name] for name in groups}, known_keys, max_groups)
    elif known_keys is None:
        codes, table = np.zeros(customers.size, np.int32), pa.table({})
    else:
        raise InvalidColumns("known_keys must be None without group-by columns; name the columns in groups=")
    return Columns(
        customers=customers,
        customer_keys=customer_keys,
        groups=codes,
        group_keys=table,
        values=None if value is None else value_column(value, found[value]),
        lattice=Lattice() if lattice is None else lattice,
        known=known_keys is not None or not groups,
    )


def _customers(name: str, column: Any) -> tuple[NDArray[np.int32], pa.Array]:
    """Customer codes, -1 for null."""
    codes, keys = codes_of_column(key_array(name, column))
    if keys.null_count:
        missing = np.asarray(keys.is_null())
        renamed = np.where(missing, -1, np.cumsum(~missing) - 1).astype(np.int32)
        rename_codes(codes, renamed)
        keys = keys.drop_null()
    return codes, keys


def _groups(found: dict[str, Any], known_keys: Any, max_groups: int) -> tuple[NDArray[np.int32], pa.Table]:
    """Group codes and the key table, in canonical or in the given order."""
    names = list(found)
    shown_as = [as_arrow(name, column) for name, column in found.items()]
    columns = [key_array(name, column) for name, column in zip(names, shown_as, strict=True)]
    if known_keys is not None:
        known = known_table(known_keys, columns, names)
        _few_enough(known.num_rows, max_groups)
    codes, table = codes_of_columns(columns, names)
    if known_keys is None:
        _few_enough(table.num_rows, max_groups)
        order = order_of_keys(table)
        renamed = np.empty(order.size, np.int32)
        renamed[order] = np.arange(order.size, dtype=np.int32)
        table = table.take(pa.array(order))
    else:
        renamed, table = match_keys(table, known), known
    if not np.array_equal(renamed, np.arange(renamed.size)):
        rename_codes(codes, renamed)
    shown = [restored(table.column(name), column.type) for name, column in zip(names, shown_as, strict=True)]
    return codes, pa.table(shown, names=names)


def _few_enough(count: int, max_groups: int) -> None:
    """Refuse too many groups without telling how many, which for keys found in the data is private."""
    if count > max_groups:
        raise TooManyGroups(
            f"max_groups={max_groups} must be at least the number of groups; group by coarser keys or raise max_groups"
        )
