"""Where a channel's customers are in the common row space: what alignment gives to training."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dayfly.federation.alignment.manifest import Manifest
from dayfly.federation.errors import InvalidData

__all__ = ["Rows", "distinct"]


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """A channel's places in a universe of rows; whether another channel has a customer there, nobody but the coordinator can tell.

    Attributes:
        universe: N, rows of the common space, more than there are customers.
        positions: int64 (n,), for each of the channel's customers, in the channel's own order, its row, or -1 where it does not take part.
        manifest: What the channel signed.

    Raises:
        InvalidData: positions are not distinct rows of the universe.
    """

    universe: int
    positions: NDArray[np.int64]
    manifest: Manifest

    def __post_init__(self) -> None:
        placed = self.positions[self.positions != -1]
        if self.positions.ndim != 1 or self.positions.dtype != np.int64:
            raise InvalidData(self.manifest.party, "must have positions as a one-dimensional int64 array")
        if placed.size and not (placed.min() >= 0 and placed.max() < self.universe):
            raise InvalidData(
                self.manifest.party,
                f"must have positions in 0 .. {self.universe - 1}, or -1 for none; align again",
            )
        if not distinct(placed, self.universe):
            raise InvalidData(self.manifest.party, "must have one row per customer; align again")

    @property
    def taking_part(self) -> NDArray[np.bool_]:
        """Bool (n,): which of the channel's customers have a row."""
        return self.positions >= 0

    def spread(self, matrix: NDArray[np.float64]) -> NDArray[np.float64]:
        """Values in the common row space.

        Args:
            matrix: (n, d) or (n,), in the channel's own order.

        Returns:
            (N, d) or (N,) of the same dtype; zeros where the channel has no customer who takes part.

        Raises:
            InvalidData: there is not one row per customer.
        """
        if matrix.shape[:1] != self.positions.shape:
            raise InvalidData(
                self.manifest.party,
                f"must have one row for each of its {self.positions.size} aligned customers, not shape {matrix.shape}",
            )
        spread = np.zeros((self.universe, *matrix.shape[1:]), matrix.dtype)
        part = self.taking_part
        spread[self.positions[part]] = matrix[part]
        return spread


def distinct(rows: NDArray[np.int64], universe: int) -> bool:
    """Whether no row comes twice; all must be in the universe. Many times cheaper than `numpy.unique`."""
    taken = np.zeros(universe, np.bool_)
    taken[rows] = True
    return int(np.count_nonzero(taken)) == rows.size
