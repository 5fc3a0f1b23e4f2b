"""The slot table that the kernels fill, and the arena that grows under it."""

from typing import Final, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from dayfly.privacy.errors import InvalidArgument

from .contribution import MAX_CUSTOMERS, Bounded, Contribution
from .kernels import Clamp, Rows, Settings, Slots, offer_rows, settle

__all__ = ["NO_COUNTS", "NO_VALUES", "Method", "SlotTable", "check_method"]

Method = Literal["uniform", "first_come"]

NO_COUNTS: Final = np.empty(0, np.int32)
NO_VALUES: Final = np.empty(0, np.int64)

_NO_LIMIT: Final = np.uint64(2**64 - 1)
_BLOCK_ROWS: Final = 1_024
_HEADER: Final = np.dtype(
    [("word", "<u8"), ("limit", "<u8"), ("start", "<i8"), ("size", "<i4"), ("room", "<i4")], align=True
)
_SLOT: Final = np.dtype([("group", "<i4"), ("count", "<i4"), ("sum", "<i8")], align=True)


def check_method(method: str) -> Method:
    """Return `method` when it is known.

    Raises:
        InvalidArgument: It is neither "uniform" nor "first_come".
    """
    if method not in get_args(Method):
        raise InvalidArgument(f"method={method!r} must be one of {get_args(Method)}; pass 'uniform'")
    return "uniform" if method == "uniform" else "first_come"


class SlotTable:
    """At most L0 groups of each customer, 32 bytes a customer and 16 a slot.

    A customer's slots lie side by side in one arena. A customer begins with four and moves to twice as many at the end of the arena when
    they are full, until L0; what is left behind is at most as much again.

    Args:
        customer_words: Word of each customer code; copied.
        group_words: Word of each group code; kept by reference.
        l0: Groups a customer may be in.
        method: "uniform" or "first_come".
    """

    __slots__ = ("_headers", "_l0", "_method", "_queue", "_slots", "_used", "group_words")

    def __init__(
        self, customer_words: NDArray[np.uint64], group_words: NDArray[np.uint64], l0: int, method: Method
    ) -> None:
        self._headers = _headers(customer_words)
        self._slots = np.zeros(customer_words.size * min(l0, 4) + l0, _SLOT)
        self._used = np.zeros(1, np.int64)
        self._queue = np.empty(_BLOCK_ROWS, np.int32)
        self._l0 = l0
        self._method = method
        self.group_words = group_words

    @property
    def customers(self) -> int:
        """Number of customer codes."""
        return int(self._headers.size)

    @property
    def arena(self) -> int:
        """Number of slots there is room for."""
        return int(self._slots.size)

    def add_customers(self, words: NDArray[np.uint64]) -> None:
        """Give the next codes to customers of these words."""
        if self.customers + words.size > MAX_CUSTOMERS:
            raise InvalidArgument(
                f"customers={self.customers + words.size} must be <= {MAX_CUSTOMERS}; split the data by customer"
            )
        self._headers = np.concatenate((self._headers, _headers(words)))

    def add_groups(self, words: NDArray[np.uint64]) -> None:
        """Give the next codes to groups of these words."""
        self.group_words = np.concatenate((self.group_words, words))

    def offer(
        self,
        customers: NDArray[np.int32],
        groups: NDArray[np.int32],
        *,
        counts: NDArray[np.int32] = NO_COUNTS,
        values: NDArray[np.int64] = NO_VALUES,
    ) -> None:
        """Offer rows, or entries of another table with their counts, and enlarge the arena where it is needed.

        Raises:
            InvalidArgument: A code lies outside the table.
        """
        _check_codes("customers", customers, self.customers)
        _check_codes("groups", groups, self.group_words.size)
        rows = Rows(customers, groups, counts, values)
        settings = Settings(self._l0, int(self._method == "uniform"))
        done = 0
        while True:
            done = offer_rows(self.views(), rows, settings, self._used, self._queue, done)
            if done == customers.size:
                return
            self._slots = np.concatenate((self._slots, np.zeros(self._slots.size + 2 * self._l0, _SLOT)))

    def views(self) -> Slots:
        """What the kernels take."""
        head, slots = self._headers, self._slots
        return Slots(
            head["word"],
            head["limit"],
            head["start"],
            head["size"],
            head["room"],
            self.group_words,
            slots["group"],
            slots["count"],
            slots["sum"],
        )

    def entries(self) -> tuple[NDArray[np.int32], Rows]:
        """Held slots, as rows with counts and totals that can be offered to another table.

        Returns:
            Slots held by each customer, and the rows, in customer order and within a customer in slot order.
        """
        sizes = self._headers["size"].astype(np.int64)
        ends = np.cumsum(sizes)
        total = int(ends[-1]) if ends.size else 0
        where = np.arange(total) + np.repeat(self._headers["start"] - (ends - sizes), sizes)
        held = self._slots[where]
        customers = np.repeat(np.arange(self.customers, dtype=np.int32), sizes)
        rows = Rows(
            customers,
            np.ascontiguousarray(held["group"]),
            np.ascontiguousarray(held["count"]),
            np.ascontiguousarray(held["sum"]),
        )
        return sizes.astype(np.int32), rows

    def settle(self, contribution: Contribution) -> Bounded:
        """Clamp each slot and add up per group."""
        size = self.group_words.size
        counts, sums, customers = (np.zeros(size, np.int64) for _ in range(3))
        clamp = Clamp(contribution.rows_per_group, contribution.sum_lower, contribution.sum_upper)
        settle(self.views(), clamp, counts, sums, customers)
        return Bounded(counts, sums, customers)


def _headers(words: NDArray[np.uint64]) -> NDArray[np.void]:
    headers = np.zeros(words.size, _HEADER)
    headers["word"] = words
    headers["limit"] = _NO_LIMIT
    return headers


def _check_codes(name: str, codes: NDArray[np.int32], count: int) -> None:
    if codes.size and int(codes.max()) >= count:
        raise InvalidArgument(
            f"{name}={int(codes.max())} must be a code < {count}; encode the column or pass the right count"
        )
