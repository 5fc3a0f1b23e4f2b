"""How much one customer may contribute, and what follows for the sensitivity of bounded counts and sums."""

from dataclasses import dataclass
from typing import Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from dayfly.privacy._check import in_range
from dayfly.privacy.accounting.losses import Sensitivity
from dayfly.privacy.errors import InvalidArgument

__all__ = ["MAX_BOUND", "MAX_CUSTOMERS", "MAX_GROUPS_PER_CUSTOMER", "MAX_ROWS", "Bounded", "Contribution"]

MAX_CUSTOMERS: Final = 2**31 - 1
"""Customers one table can hold."""

MAX_BOUND: Final = 2**32
"""Largest magnitude of a per-group bound in lattice units: times `MAX_CUSTOMERS` it stays below 2^63."""

MAX_ROWS: Final = 2**31 - 1
"""Largest bound of rows per (customer, group)."""

MAX_GROUPS_PER_CUSTOMER: Final = 4_096
"""Largest L0: a customer's groups are searched one after the other."""


@dataclass(frozen=True, slots=True)
class Contribution:
    """Bounds of one customer's contribution to a group-by.

    Attributes:
        l0: Groups a customer may be in, 1 to 4,096.
        rows_per_group: Rows of a customer counted in one group, 1 to 2^31 - 1.
        sum_lower: Least total of a customer in one group, in lattice units.
        sum_upper: Largest total of a customer in one group, in lattice units.

    Guarantees:
        Claim: taking one customer out of a data set (or putting one in) changes bounded counts, sums and customers by no more than
        `count_sensitivity`, `sum_sensitivity` and `customer_sensitivity`, for every salt.

        Argument: each result is a plain sum over customers of a vector that depends on that customer's rows (and the salt) alone, has at
        most `l0` entries that are not zero, and each of those is clamped. No sum leaves int64: at most 2^31 - 1 customers times 2^32.
        The bounds are public parameters, so an overflow is refused here, before any data is read.

    Raises:
        InvalidArgument: A bound is no whole number, out of range, or the two bounds are reversed.
    """

    l0: int
    rows_per_group: int = 1
    sum_lower: int = 0
    sum_upper: int = 0

    def __post_init__(self) -> None:
        for name in ("l0", "rows_per_group", "sum_lower", "sum_upper"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int):
                raise InvalidArgument(f"{name}={value!r} must be a whole number; pass an int")
        in_range(1, MAX_GROUPS_PER_CUSTOMER, l0=self.l0)
        in_range(1, MAX_ROWS, rows_per_group=self.rows_per_group)
        in_range(-MAX_BOUND, MAX_BOUND, sum_lower=self.sum_lower)
        in_range(-MAX_BOUND, MAX_BOUND, sum_upper=self.sum_upper)
        if self.sum_lower > self.sum_upper:
            raise InvalidArgument(
                f"sum_lower={self.sum_lower} must be <= sum_upper={self.sum_upper}; swap the two bounds"
            )

    def _sensitivity(self, linf: int) -> Sensitivity:
        return Sensitivity(
            l0=self.l0 if linf else 0, l1=self.l0 * linf, l2_squared=self.l0 * linf * linf, linf=linf
        )

    def count_sensitivity(self) -> Sensitivity:
        """Of `Bounded.counts`, for one customer added or removed."""
        return self._sensitivity(self.rows_per_group)

    def customer_sensitivity(self) -> Sensitivity:
        """Of `Bounded.customers`, for one customer added or removed."""
        return self._sensitivity(1)

    def sum_sensitivity(self) -> Sensitivity:
        """Of `Bounded.sums`, for one customer added or removed; zero where both bounds are zero, whatever the data."""
        return self._sensitivity(max(abs(self.sum_lower), abs(self.sum_upper)))

    def row_sensitivity(self) -> Sensitivity:
        """Of counts of `bounded_rows` rows per (group, bin): up to `rows_per_group` rows in each of `l0` groups.

        All rows of a group may share one bin (largest L2 and L-infinity) or lie in different ones (largest L0).
        """
        rows = self.rows_per_group
        return Sensitivity(l0=self.l0 * rows, l1=self.l0 * rows, l2_squared=self.l0 * rows * rows, linf=rows)


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Bounded:
    """Bounded totals per group: exact, so private; noise comes before anybody sees them, and its representation shows none.

    Attributes:
        counts: Rows, int64, shape (groups,).
        sums: Totals in lattice units, int64, shape (groups,).
        customers: Distinct customers, int64, shape (groups,).
        keys: Key of each group, or None where groups are bare codes.
    """

    counts: NDArray[np.int64]
    sums: NDArray[np.int64]
    customers: NDArray[np.int64]
    keys: pa.Table | None = None
