"""What a stream is going to publish, what it costs and how exact it will be: all known before the first step.

Claim:
    A stream under `StreamPlan` `p` with noise of `scale` is rho-zCDP with `rho = p.l2_squared / (2 scale^2)`, for all it
    ever publishes together, when neighbours differ in one customer within `p.participation`, and also when increments are
    chosen by somebody who has seen what was published before.

Precondition:
    The participation bounds hold (`ParticipationLimiter`, and the clamping of `dayfly.privacy.bounding`); the increments
    reach the stream as exact int64 units; one history is published only (`StreamFile`).

Argument:
    At each step the stream publishes `centre + z`, clamped, with a fresh discrete Gaussian `z` on the integers, where
    `centre` is a function of the increments and of what was published (the kernels compute it without floats); totals
    are sums of what was published. Given the published past, neighbours' centres of this step differ by an
    integer vector `d_t`, and by `dayfly.privacy.continual.participation` the squares of all `d_t` sum to at most
    `l2_squared` along every possible past. A discrete Gaussian shifted by an integer vector `d` has Renyi divergence of
    order `a` at most `a |d|^2 / (2 scale^2)` (Canonne, Kamath, Steinke 2020, Theorem 14 and Proposition 5). Composition
    with losses that depend on the past but sum to a constant bound is the privacy filter of zCDP: by backward
    induction over the steps, `E[exp((a - 1) L_t..n)] <= exp((a - 1) a (rho - spent before t))`.

Source:
    Denisov, McMahan, Rush, Smith, Thakurta, arXiv 2202.08312 (adaptive inputs); Canonne, Kamath, Steinke, NeurIPS 2020;
    Feldman, Zrnic, NeurIPS 2021, Theorem 4.3 (filters). That the centre may be a rounded, non-linear function is ours:
    nothing in the argument needs it to be linear.
"""

from dataclasses import dataclass, field
from fractions import Fraction
from functools import lru_cache
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray

from dayfly.privacy._check import in_range, positive
from dayfly.privacy.accounting import ZcdpLoss, gaussian_scale
from dayfly.privacy.errors import InvalidArgument

from .factors import Blt, SquareRoot, blt
from .kernels import BUFFER_LIMIT, TOTAL_LIMIT, Shifts
from .participation import Participation, l2_squared

__all__ = ["StreamPlan"]

_GUARD_BITS: Final = 12
_LONGEST: Final = 1 << 20
# A buffer of slow decay holds some 2^9 times the noise of a step; 2^5 standard deviations of that must fit.
_HEADROOM_BITS: Final = 14


@dataclass(frozen=True, slots=True)
class StreamPlan:
    """Running totals of many series: how many, how long, and what one customer may contribute.

    Attributes:
        series: Series that advance together.
        length: Steps until the totals end or restart.
        factor: How noise is correlated over the steps; `blt(length)` unless there is a reason.
        participation: Bounds of one customer.
        blocks: Blocks of `length` steps, each starting from zero; None: without end.
        resolution_bits: The noise lattice divides the largest contribution of a customer by at least 2 to this power.

    Raises:
        InvalidArgument: A number out of range.
    """

    series: int
    length: int
    factor: Blt | SquareRoot
    participation: Participation = field(default_factory=Participation)
    blocks: int | None = 1
    resolution_bits: int = 20

    def __post_init__(self) -> None:
        positive(series=self.series)
        in_range(1, _LONGEST, length=self.length)
        in_range(8, 32, resolution_bits=self.resolution_bits)
        if self.blocks is not None:
            positive(blocks=self.blocks)
        if isinstance(self.factor, SquareRoot):
            self.factor.coefficients(self.length)

    @classmethod
    def running(cls, series: int, length: int, *, participation: Participation | None = None) -> Self:
        """Running totals over `length` steps, with the shipped BLT factor.

        Raises:
            InvalidArgument: Longer than the table of factors, or a number out of range.
        """
        return cls(series, length, blt(length), participation or Participation())

    @classmethod
    def restarts(
        cls,
        series: int,
        length: int,
        *,
        participation: Participation | None = None,
        blocks: int | None = None,
    ) -> Self:
        """Running totals that begin again from zero every `length` steps, say every day; without end by default.

        Raises:
            InvalidArgument: Longer than the table of factors, or a number out of range.
        """
        return cls(series, length, blt(length), participation or Participation(), blocks)

    @property
    def shifts(self) -> Shifts:
        """Positions of the binary point: one unit is `2**shifts.fraction` points of the noise lattice."""
        fraction = max(0, self.resolution_bits + 1 - self.participation.magnitude.bit_length())
        return Shifts(fraction, _GUARD_BITS if isinstance(self.factor, Blt) else 0)

    @property
    def largest_total(self) -> int:
        """Totals beyond this size, in units, saturate."""
        return TOTAL_LIMIT >> self.shifts.fraction

    @property
    def largest_increment(self) -> int:
        """Increments beyond this size, in units, are clamped to it, which moves neighbours no further apart."""
        return BUFFER_LIMIT >> self.shifts.fraction

    @property
    def l2_squared(self) -> int:
        """Squared L2 sensitivity of the whole stream in points of the noise lattice: an exact upper bound."""
        return _sensitivity(self)

    def scale(self, rho: Fraction | int) -> Fraction:
        """Noise scale, in points of the lattice, for which the whole stream costs at most `rho`.

        Raises:
            InvalidArgument: `rho` is not exact or not above zero, or is so small that its noise does not fit the lattice.
        """
        scale = gaussian_scale(self.l2_squared, rho)
        largest = BUFFER_LIMIT >> (_HEADROOM_BITS + self.shifts.guard)
        if scale > largest:
            raise InvalidArgument(
                f"rho={rho!r} must leave noise of at most {largest} points of the lattice; lower resolution_bits="
                f"{self.resolution_bits!r}, tighten the participation bounds, or spend more"
            )
        return scale

    def loss(self, scale: Fraction) -> ZcdpLoss:
        """What the whole stream costs: to be spent in the ledger once, before the first step."""
        return ZcdpLoss(Fraction(self.l2_squared) / (2 * scale * scale))

    @property
    def error_factor(self) -> float:
        """Largest standard error of a running total, over that of publishing one step alone at the same cost.

        With one participation this is `||B||_(2->inf) ||C||_(1->2)`, roundings included: 3.9605 at 8,760 steps, where a
        binary tree has 13.49. With many it grows as the sensitivity does, for the factor stays the one of a single
        participation.
        """
        alone = self.participation.series * (self.participation.magnitude << self.shifts.fraction) ** 2
        return float(np.sqrt(self.l2_squared / alone * np.sum(_weights(self) ** 2)))

    def standard_errors(self, scale: Fraction) -> NDArray[np.float64]:
        """Standard error of the running total after each step of a block: float64 (length,), units."""
        errors: NDArray[np.float64] = float(scale) / 2**self.shifts.fraction * np.sqrt(_variances(self))
        return errors

    def window_errors(
        self, scale: Fraction, window: int, *, first_block: bool = False
    ) -> NDArray[np.float64]:
        """Standard error of the sum over the last `window` steps: float64 (length,) by position in a block, units.

        Within a block it is that of the difference of two running totals. A window that reaches into the block before
        adds two independent errors; streams without restarts have none. The smallest largest error of an endless stream
        is that of blocks as long as the window.

        Args:
            scale: Noise scale in points of the lattice.
            window: Steps of the window.
            first_block: No block came before, so a window that is not full yet is a running total.

        Raises:
            InvalidArgument: A window longer than a block.
        """
        in_range(1, self.length, window=window)
        variances = _window_variances(self, window, first_block=first_block)
        errors: NDArray[np.float64] = float(scale) / 2**self.shifts.fraction * np.sqrt(variances)
        return errors

    @property
    def rounding_error(self) -> float:
        """Bound on what all roundings together add to a running total, in units; part of no confidence interval."""
        reach = 1.0
        if isinstance(self.factor, Blt):
            reach += float(np.sum(self.factor.columns(self.length)[1:])) / 2**self.shifts.guard
        return float(np.sum(np.abs(_weights(self))) * reach / 2 / 2**self.shifts.fraction)


def _rest(weights: NDArray[np.float64], steps: int) -> float:
    """Variance of a block's last total less the one `steps` steps before it, in units of a draw's."""
    newer = weights[:steps]
    older = weights[steps:] - weights[: len(weights) - steps]
    return float(newer @ newer + older @ older)


@lru_cache(maxsize=256)
def _sensitivity(plan: StreamPlan) -> int:
    impulse = plan.participation.magnitude << plan.shifts.fraction
    reach = plan.factor.reach(impulse, plan.length, guard_bits=plan.shifts.guard)
    return l2_squared(reach, plan.participation, blocks=plan.blocks)


@lru_cache(maxsize=256)
def _weights(plan: StreamPlan) -> NDArray[np.float64]:
    return plan.factor.rows(plan.length)


@lru_cache(maxsize=256)
def _variances(plan: StreamPlan) -> NDArray[np.float64]:
    """Variance of the running total after each step, in units of a draw's."""
    return np.cumsum(_weights(plan) ** 2)


@lru_cache(maxsize=256)
def _window_variances(plan: StreamPlan, window: int, *, first_block: bool) -> NDArray[np.float64]:
    weights = _weights(plan)
    variances = _variances(plan).copy()
    variances[window:] = variances[window - 1] + np.cumsum((weights[window:] - weights[:-window]) ** 2)
    if plan.blocks != 1 and not first_block:
        variances[: window - 1] += [_rest(weights, steps) for steps in range(window - 1, 0, -1)]
    return variances
