"""Makes participation bounds hold: rows of customers who have had their share of steps are left out.

Claim:
    Among the rows let through, no customer is in more than `participation.steps` steps, and any two of a customer's
    steps are at least `participation.min_separation` apart.

Precondition:
    Each person has one id; two persons never share one. Steps come in order.

Argument:
    A customer is let through at a new step only when fewer than `steps` are used and the last one is far enough away,
    and is counted then. What happens to one customer depends on the rows of no other, so adding or removing a
    customer changes that customer's rows only.

Source:
    Contribution bounding as in Zhang et al., VLDB 2024 (DP-SQLP), arXiv 2303.18086; the rule is first come, first kept.
"""

from typing import Self

import numpy as np
from numpy.typing import NDArray

from dayfly.privacy._check import not_negative
from dayfly.privacy.errors import InvalidArgument, StreamOrder

from .participation import Participation

__all__ = ["ParticipationLimiter"]


class ParticipationLimiter:
    """Who took part when. Holds ids of customers; 24 bytes each.

    Args:
        participation: The bounds; `magnitude` and `series` are enforced by the aggregation, not here.

    Guarantees:
        See the module's claim. Asked again about the same step (a retry after a crash), a customer counted in it is let
        through again and counted once.
    """

    __slots__ = ("_ids", "_last", "_participation", "_step", "_used")

    def __init__(self, participation: Participation) -> None:
        self._participation = participation
        self._ids = np.zeros(0, np.int64)
        self._used = np.zeros(0, np.int64)
        self._last = np.zeros(0, np.int64)
        self._step = 0

    @property
    def participation(self) -> Participation:
        """The bounds."""
        return self._participation

    def __len__(self) -> int:
        return len(self._ids)

    def admit(self, step: int, customers: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Which rows of a step may count.

        Args:
            step: The step that the rows belong to.
            customers: int64 (rows,), an id per row; the same id for the same customer in every step.

        Returns:
            bool (rows,): all rows of a customer, or none.

        Raises:
            InvalidArgument: Ids of another type or shape, or a step below zero.
            StreamOrder: A step before one that was asked about already.
        """
        if not isinstance(customers, np.ndarray) or customers.dtype != np.int64 or customers.ndim != 1:
            kind = getattr(customers, "dtype", type(customers).__name__)
            raise InvalidArgument(
                f"customers={kind} must be a one-dimensional int64 array; pass one stable id per row"
            )
        if not_negative(step=step) < self._step:
            raise StreamOrder(f"step={step!r} must be >= {self._step!r}; ask about the steps in order")
        self._step = step
        present, row_of = np.unique(customers, return_inverse=True)
        place = self._places(present)
        again = self._last[place] == step
        near = (self._used[place] > 0) & (step - self._last[place] < self._participation.min_separation)
        fresh = ~again & ~near & (self._used[place] < self._participation.steps)
        self._used[place[fresh]] += 1
        self._last[place[fresh]] = step
        admitted: NDArray[np.bool_] = (again | fresh)[row_of]
        return admitted

    def _places(self, present: NDArray[np.int64]) -> NDArray[np.intp]:
        """Where the ids stand; new ones are put in, unused."""
        new = present[~np.isin(present, self._ids, assume_unique=True)]
        if new.size:
            at = np.searchsorted(self._ids, new)
            self._ids = np.insert(self._ids, at, new)
            self._used = np.insert(self._used, at, 0)
            self._last = np.insert(self._last, at, -1)
        return np.searchsorted(self._ids, present)

    def state(self) -> tuple[int, NDArray[np.int64]]:
        """Last step, and int64 (3, customers): ids rising, steps used, last step."""
        return self._step, np.stack([self._ids, self._used, self._last])

    @classmethod
    def restored(cls, participation: Participation, step: int, state: NDArray[np.int64]) -> Self:
        """A limiter that goes on where `state` was taken."""
        limiter = cls(participation)
        limiter._step = step
        limiter._ids, limiter._used, limiter._last = (row.copy() for row in state)
        return limiter
