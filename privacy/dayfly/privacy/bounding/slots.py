"""The slot table that the kernels fill, and the arena that grows under it."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from dayfly.privacy.errors import InvalidArgument

from .contribution import MAX_CUSTOMERS, Bounded, Contribution
from .frozen import frozen
from .kernels import (
    COUNT_LIMIT,
    FIRST_ROOM,
    Buckets,
    Clamp,
    Layout,
    Marks,
    Rows,
    Settings,
    Slots,
    choose_rows,
    count_customers,
    fill_buckets,
    offer_rows,
    settle,
)

__all__ = ["NO_COUNTS", "NO_VALUES", "WORD_BITS", "Batch", "Method", "SlotTable", "check_method"]

Method = Literal["uniform", "first_come"]

NO_COUNTS: Final = np.empty(0, np.int32)
NO_VALUES: Final = np.empty(0, np.int64)

_NO_LIMIT: Final = np.uint64(2**64 - 1)
_BLOCK_ROWS: Final = 256
_BUCKET_BITS: Final = (
    9  # 512 customers with four slots each are 64 KiB of table: within a cache near the core
)
_MOST_BUCKETS_BITS: Final = 10
WORD_BITS: Final = 64
"""Value bits that every int64 fits."""
_WIDE_GROUP_BITS: Final = 32
_SCRATCH_WORDS: Final = 2**24
"""Words of scratch, 128 MiB: rows are offered so many at once, because the slot table passes through the cache each time."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Rows that are offered together.

    Attributes:
        size: Number of rows.
        customers: Customer codes of `rows`, to be counted first.
        rows: Rows, piece by piece.
        value_bits: Bits that every value fits, in two's complement, `NO_VALUE` aside.
    """

    size: int
    customers: Iterable[NDArray[np.int32]]
    rows: Iterable[Rows]
    value_bits: int = WORD_BITS

    @classmethod
    def of(cls, rows: Rows) -> "Batch":
        """One piece with any values."""
        return cls(rows.customers.size, [rows.customers], [rows])


def check_method(method: str) -> Method:
    """Return `method` when it is known.

    Raises:
        InvalidArgument: It is neither "uniform" nor "first_come".
    """
    if method not in get_args(Method):
        raise InvalidArgument(f"method={method!r} must be one of {get_args(Method)}; pass 'uniform'")
    return "uniform" if method == "uniform" else "first_come"


class SlotTable:
    """At most L0 groups of each customer: 32 bytes a customer and 24 a slot.

    A customer's slots lie side by side in one arena. A customer begins with four and moves to twice as many at the end of the arena when
    they are full, until L0; what is left behind is at most as much again.

    Args:
        customer_words: Word of each customer code; copied.
        group_words: Word of each group code; copied.
        l0: Groups a customer may be in.
        method: "uniform" or "first_come".
    """

    __slots__ = (
        "_heads",
        "_l0",
        "_method",
        "_places",
        "_priorities",
        "_scratch",
        "_slots",
        "_used",
        "group_words",
    )

    def __init__(
        self, customer_words: NDArray[np.uint64], group_words: NDArray[np.uint64], l0: int, method: Method
    ) -> None:
        self._heads = np.empty((0, 2), np.uint64)
        self._places = np.empty((0, 2), np.int64)
        self._slots = np.empty((customer_words.size * min(l0, FIRST_ROOM) + l0, 2), np.int64)
        self._priorities = np.empty(self._slots.shape[0], np.uint64)
        self._used = 0
        self._scratch = np.empty(0, np.uint64)
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
        places = np.zeros((words.size, 2), np.int64)
        self._heads = np.concatenate((self._heads, heads)) if self.customers else heads
        self._places = np.concatenate((self._places, places)) if self._places.size else places

    def add_groups(self, words: NDArray[np.uint64]) -> None:
        """Give the next codes to groups of these words."""
        self.group_words = np.concatenate((self.group_words, words))

    def most_rows(self, value_bits: int) -> int:
        """Most rows of one batch whose values fit so many bits."""
        return max(1, _SCRATCH_WORDS // (1 if self._layout(value_bits).value_bits == value_bits else 2))

    def offer(self, batch: Batch) -> None:
        """Offer rows, or entries of another table with their counts, and enlarge the arena where it is needed.

        Raises:
            InvalidArgument: A code lies outside the table; nothing of the batch is in the table then.
        """
        layout = self._layout(batch.value_bits)
        buckets = self._bucketed(batch, layout)
        settings = Settings(self._l0, int(self._method == "uniform"))
        state = np.array([self._used, 0, 0], np.int64)
        while not offer_rows(self._views(), buckets, layout, settings, state):
            spare = self._slots.shape[0] + 2 * self._l0
            self._slots = np.concatenate((self._slots, np.empty((spare, 2), np.int64)))
            self._priorities = np.concatenate((self._priorities, np.empty(spare, np.uint64)))
        self._used = int(state[0])

    def choose(self, batch: Batch, limit: int, key: np.uint64, taken: NDArray[np.int32]) -> NDArray[np.int64]:
        """Numbers of the rows of a uniform sample of at most `limit` rows per slot; see `choose_rows`.

        Args:
            batch: Rows that filled the table, batch by batch, in the same order. Values are their numbers within the batch, or
                `NO_VALUE` where the row was left out.
            limit: Largest number of rows per (customer, group).
            key: Secret word of the salt.
            taken: `no_marks()` before the first batch; changed in place.
        """
        layout = self._layout(batch.value_bits)
        buckets = self._bucketed(batch, layout)
        chosen = np.zeros(batch.size, np.bool_)
        choose_rows(self._views(), buckets, layout, limit, key, Marks(taken, chosen))
        return np.flatnonzero(chosen)

    def no_marks(self) -> NDArray[np.int32]:
        """Zeros to begin `choose` with."""
        return np.zeros((self._used, 2), np.int32)

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
        return Slots(self._heads, self._places, self.group_words, self._slots, self._priorities)

    def _layout(self, value_bits: int) -> Layout:
        """With the values in the rows where everything fits, else without."""
        shift = max(_BUCKET_BITS, self.customers.bit_length() - _MOST_BUCKETS_BITS)
        group_bits = self.group_words.size.bit_length()
        if shift + group_bits + value_bits <= WORD_BITS:
            return Layout(shift, group_bits, value_bits)
        return Layout(shift, _WIDE_GROUP_BITS, 0)

    def _bucketed(self, batch: Batch, layout: Layout) -> Buckets:
        ends = np.zeros((self.customers >> layout.shift) + 2, np.int64)
        for codes in batch.customers:
            if not count_customers(frozen(codes, np.int32), self.customers, layout.shift, ends[1:]):
                raise _too_large("customers", codes, self.customers)
        np.cumsum(ends, out=ends)
        count, wide = int(ends[-1]), layout.value_bits < batch.value_bits
        if self._scratch.size < count:
            self._scratch = np.empty(count, np.uint64)
        buckets = Buckets(
            rows=self._scratch,
            values=np.empty(count if wide else 0, np.int64),
            counts=np.empty(0, np.int32),
            starts=ends[:-1].copy(),
            ends=ends[:-1],
            queue=np.empty(_BLOCK_ROWS, np.int32),
        )
        for piece in batch.rows:
            if piece.counts.size and not buckets.counts.size:
                buckets = buckets._replace(counts=np.empty(count, np.int32))
            rows = Rows(
                frozen(piece.customers, np.int32),
                frozen(piece.groups, np.int32),
                frozen(piece.counts, np.int32),
                frozen(piece.values, np.int64),
            )
            if not fill_buckets(rows, self.group_words.size, layout, buckets):
                raise _too_large("groups", rows.groups, self.group_words.size)
        return buckets


def _too_large(name: str, codes: NDArray[np.int32], count: int) -> InvalidArgument:
    return InvalidArgument(
        f"{name}={int(codes.max())} must be a code < {count}; encode the column or pass the right count"
    )
