"""How often one customer may take part in a stream, and how far that can move it.

Claim:
    Let a customer change, at no more than `steps` steps that are at least `min_separation` apart, at most `series` series
    per step, each increment by at most `magnitude`. Then the vector of all centres (see
    `dayfly.privacy.continual.factors`) moves by at most `sqrt(l2_squared(...))` in the Euclidean norm, whatever was
    published so far.

Argument:
    Let `h` be the reach of one contribution, non-negative and non-increasing, and `P_i` the series touched at the i-th
    step `s_i`. The squared norm is at most `sum_(i,j) |P_i and P_j| G(s_i, s_j)`, hence at most
    `series * sum_(i,j) G(s_i, s_j)`, with `G(s, t) = sum_k h[k] h[k + |t - s|]`, k running up to the end of the stream.
    `G` falls when the two steps move apart, because `h` does not increase, and when the later step moves later, because
    terms drop out. With gaps of at least `b` it is therefore largest at the steps 0, b, 2b, ...; one more step never
    lowers it. With restarts, only steps of the same block meet, and each `G` is at most that of a pair that begins its
    block; summed over all pairs of `steps` steps this bounds every way of spreading them over blocks.

Source:
    Choquette-Choo, McMahan, Rush, Thakurta, arXiv 2211.06530, and Kalinin, Lampert, arXiv 2405.13763 (worst case at the
    earliest steps for non-increasing Toeplitz factors); here for integer bounds of rounded arithmetic.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from dayfly.privacy._check import in_range

__all__ = ["Participation", "l2_squared"]

_LARGEST_MAGNITUDE: Final = 1 << 40
_MOST: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Participation:
    """What one customer may contribute to a stream, over its whole life. The unit of privacy is the customer.

    Attributes:
        magnitude: Largest change of one increment, in units (1 for counts of customers; the sum bound in lattice units).
        steps: Most steps in which the customer may take part.
        min_separation: Fewest steps from one participation to the next (1: any).
        series: Most series that the customer changes in one step.

    Raises:
        InvalidArgument: A bound below one, or beyond 2^40 (magnitude) or 2^20 (the others).
    """

    magnitude: int = 1
    steps: int = 1
    min_separation: int = 1
    series: int = 1

    def __post_init__(self) -> None:
        in_range(1, _LARGEST_MAGNITUDE, magnitude=self.magnitude)
        in_range(1, _MOST, steps=self.steps)
        in_range(1, _MOST, min_separation=self.min_separation)
        in_range(1, _MOST, series=self.series)


def l2_squared(reach: list[int], participation: Participation, *, blocks: int | None) -> int:
    """Squared Euclidean distance that one customer can move all centres by, exact and rounded up.

    Args:
        reach: `Factor.reach` of the largest increment, over one block.
        participation: The customer's bounds.
        blocks: How often the stream restarts, 1 for never, None without end.
    """
    gap = participation.min_separation
    in_block = -(-len(reach) // gap)
    if blocks == 1:
        moved = _stacked(reach, gap, min(participation.steps, in_block))
        squares: list[int] = [value * value for value in moved.tolist()]
        return participation.series * sum(squares)
    steps = participation.steps if blocks is None else min(participation.steps, blocks * in_block)
    values = np.array(reach, dtype=object)
    total = steps * int(values @ values)
    for apart in range(1, min(steps, in_block)):
        overlap = int(values[apart * gap :] @ values[: len(reach) - apart * gap])
        total += 2 * (steps - apart) * overlap
    return participation.series * total


def _stacked(reach: list[int], gap: int, steps: int) -> NDArray[np.int64]:
    """`sum_(i < steps) reach[t - i gap]` for every t, by one running sum per residue of t."""
    moved = np.array(reach, np.int64)  # at most 2^20 terms below 2^41 each: sums stay below 2^62
    for first in range(min(gap, len(reach))):
        sums = np.cumsum(moved[first::gap])
        sums[steps:] = sums[steps:] - sums[:-steps]
        moved[first::gap] = sums
    return moved
