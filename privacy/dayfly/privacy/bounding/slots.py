"""The slot table that the kernels fill, and the arena that grows under it."""

from typing import Final, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from dayfly.privacy.errors import InvalidArgument

from .contribution import MAX_CUSTOMERS, Bounded, Contribution
from .frozen import frozen
from .kernels import (
    COUNT_LIMIT,
    FIRST_ROOM,
    NO_VALUE,
    Buckets,
    Clamp,
    Marks,
    Rows,
    Settings,
    Slots,
    choose_rows,
    fill_buckets,
    offer_rows,
    settle,
)

__all__ = ["NO_COUNTS", "NO_VALUES", "Method", "SlotTable", "check_method"]

Method = Literal["uniform", "first_come"]

NO_COUNTS: Final = np.empty(0, np.int32)
NO_VALUES: Final = np.empty(0, np.int64)

_NO_LIMIT: Final = np.uint64(2**64 - 1)
_BLOCK_ROWS: Final = 256
_BUCKET_BITS: Final = (
    9  # 512 customers with four slots each are 48 KiB of table: within the cache next to the core
)
_MOST_BUCKETS_BITS: Final = 10


def check_method(method: str) -> Method:
    """Return `method` when it is known.

    Raises:
        InvalidArgument: It is neither "uniform" nor "first_come".
    """
    if method not in get_args(Method):
        raise InvalidArgument(f"method={method!r} must be one of {get_args(Method)}; pass 'uniform'")
    return "uniform" if method == "uniform" else "first_come"


class SlotTable:
    """At most L0 groups of each customer: 32 bytes a customer and 16 a slot.

    A customer's slots lie side by side in one arena. A customer begins with four and moves to twice as many at the end of the arena when
    they are full, until L0; what is left behind is at most as much again.

    Args:
        customer_words: Word of each customer code; copied.
        group_words: Word of each group code; copied.
        l0: Groups a customer may be in.
        method: "uniform" or "first_come".
    """

    __slots__ = ("_heads", "_l0", "_method", "_places", "_scratch", "_slots", "_used", "group_words")

    def __init__(
        self, customer_words: NDArray[np.uint64], group_words: NDArray[np.uint64], l0: int, method: Method
    ) -> None:
        self._heads = np.empty((0, 2), np.uint64)
        self._places = np.empty((0, 2), np.int64)
        self._slots = np.empty((customer_words.size * min(l0, FIRST_ROOM) + l0, 2), np.int64)
        self._used = np.zeros(1, np.int64)
        self._scratch = np.empty((0, 2), np.int64)
        self._l0 = l0
        self._method = method
        self.group_words = group_words.copy()
        self.add_customers(customer_words)

    @property
    def customers(self) -> int:
        """Number of customer codes."""
        return int(self._heads.shape[0])

    def add_customers(self, words: NDArray[np.uint64]) -> None:
        """Give the next codes to customers of these words."""
        if self.customers + words.size > MAX_CUSTOMERS:
            raise InvalidArgument(
                f"customers={self.customers + words.size} must be <= {MAX_CUSTOMERS}; split the data by customer"
            )
        heads = np.empty((words.size, 2), np.uint64)
        heads[:, 0] = words
        heads[:, 1] = _NO_LIMIT
        self._heads = np.concatenate((self._heads, heads))
        self._places = np.concatenate((self._places, np.zeros((words.size, 2), np.int64)))

    def add_groups(self, words: NDArray[np.uint64]) -> None:
        """Give the next codes to groups of these words."""
        self.group_words = np.concatenate((self.group_words, words))

    def offer(self, rows: Rows) -> None:
        """Offer rows, or entries of another table with their counts, and enlarge the arena where it is needed.

        Raises:
            InvalidArgument: A code lies outside the table.
        """
        buckets, count = self._bucketed(rows)
        settings = Settings(self._l0, int(self._method == "uniform"))
        done = 0
        while True:
            done = offer_rows(self._views(), buckets, (done, count), settings, self._used)
            if done == count:
                return
            spare = np.empty((self._slots.shape[0] + 2 * self._l0, 2), np.int64)
            self._slots = np.concatenate((self._slots, spare))

    def choose(self, rows: Rows, limit: int, key: np.uint64, taken: NDArray[np.int32]) -> NDArray[np.int64]:
        """Numbers of the rows of a uniform sample of at most `limit` rows per slot; see `choose_rows`.

        Args:
            rows: Rows that filled the table, a chunk at a time, in the same order.
            limit: Largest number of rows per (customer, group).
            key: Secret word of the salt.
            taken: `no_marks()` before the first chunk; changed in place.
        """
        numbers = np.arange(rows.customers.size, dtype=np.int64)
        if rows.values.size:
            numbers[rows.values == NO_VALUE] = NO_VALUE
        buckets, count = self._bucketed(rows._replace(values=numbers))
        chosen = np.zeros(rows.customers.size, np.bool_)
        choose_rows(self._views(), buckets, count, limit, key, Marks(taken, chosen))
        return np.flatnonzero(chosen)

    def no_marks(self) -> NDArray[np.int32]:
        """Zeros to begin `choose` with."""
        return np.zeros((int(self._used[0]), 2), np.int32)

    def entries(self) -> tuple[NDArray[np.int64], Rows]:
        """Held slots, as rows with counts and totals that can be offered to another table.

        Returns:
            Number of slots of each customer, and the rows, by customer and then in slot order.
        """
        sizes = self._places[:, 1]
        ends = np.cumsum(sizes)
        total = int(ends[-1]) if ends.size else 0
        held = self._slots[np.arange(total) + np.repeat(self._places[:, 0] - (ends - sizes), sizes)]
        customers = np.repeat(np.arange(self.customers, dtype=np.int32), sizes)
        groups = (held[:, 0] >> 32).astype(np.int32)
        counts = (held[:, 0] & COUNT_LIMIT).astype(np.int32)
        return sizes.copy(), Rows(customers, groups, counts, held[:, 1].copy())

    def settle(self, contribution: Contribution) -> Bounded:
        """Clamp each slot and add up per group."""
        size = self.group_words.size
        counts, sums, customers = (np.zeros(size, np.int64) for _ in range(3))
        clamp = Clamp(contribution.rows_per_group, contribution.sum_lower, contribution.sum_upper)
        settle(self._views(), clamp, counts, sums, customers)
        return Bounded(counts, sums, customers)

    def _views(self) -> Slots:
        return Slots(self._heads, self._places, self.group_words, self._slots)

    def _bucketed(self, rows: Rows) -> tuple[Buckets, int]:
        if self._scratch.shape[0] < rows.customers.size:
            self._scratch = np.empty((rows.customers.size, 2), np.int64)
        shift = max(_BUCKET_BITS, self.customers.bit_length() - _MOST_BUCKETS_BITS)
        buckets = Buckets(
            rows=self._scratch,
            counts=np.empty(rows.counts.size, np.int32),
            offsets=np.empty((self.customers >> shift) + 1, np.int64),
            queue=np.empty(_BLOCK_ROWS, np.int32),
        )
        sizes = (self.customers, self.group_words.size)
        rows = Rows(
            frozen(rows.customers, np.int32),
            frozen(rows.groups, np.int32),
            frozen(rows.counts, np.int32),
            frozen(rows.values, np.int64),
        )
        count = fill_buckets(rows, sizes, shift, buckets)
        if count < 0:
            _check_codes("customers", rows.customers, self.customers)
            _check_codes("groups", rows.groups, self.group_words.size)
        return buckets, count


def _check_codes(name: str, codes: NDArray[np.int32], count: int) -> None:
    if codes.size and int(codes.max()) >= count:
        raise InvalidArgument(
            f"{name}={int(codes.max())} must be a code < {count}; encode the column or pass the right count"
        )
