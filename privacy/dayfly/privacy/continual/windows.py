"""Sliding windows: the sum over the last w steps of every series, from running totals that are public already.

Claim:
    A sliding window costs nothing beyond the running totals that it is computed from.

Argument:
    It is a difference of published totals (post-processing): within a block, the total now less the total `w` steps
    ago; where the window reaches into the block before, the total now, plus that block's last total, less its total `w`
    steps ago.

Error:
    `StreamPlan.window_errors`. For a window of a week of hours it is at most 4.21 sigma in an endless stream that
    restarts weekly, and 4.23 in a stream of one year without restarts; for a day, 3.12 and 3.62.
"""

from fractions import Fraction
from typing import Final

import numpy as np
from numpy.typing import NDArray

from dayfly.privacy._check import in_range
from dayfly.privacy.errors import InvalidArgument
from dayfly.privacy.noise import NoiseSource

from .plan import StreamPlan
from .published import Published
from .totals import RunningTotals

__all__ = ["SlidingTotals"]

Vector = NDArray[np.int64]
_LIMIT: Final = 1 << 61


class SlidingTotals:
    """Noisy sums over the last `window` steps, step by step; until that many have passed, over all so far.

    Args:
        plan: The running totals beneath; `StreamPlan.restarts(series, window)` for a stream without end.
        scale: Noise scale in points of the lattice, from `plan.scale(rho)`. `plan.loss(scale)` must have been spent before.
        window: Steps, at most `plan.length`.
        name: Name of the stream.

    Raises:
        InvalidArgument: A window longer than a block, or a scale that is not an exact number above zero.

    Guarantees:
        As `RunningTotals`: the windows are computed from what that publishes. Besides the buffers, `window` published
        totals are kept, 8 bytes each per series, all public.
    """

    __slots__ = ("_closing", "_recent", "_shown", "_totals", "_window")

    def __init__(self, plan: StreamPlan, scale: Fraction, window: int, *, name: str = "") -> None:
        in_range(1, plan.length, window=window)
        self._totals = RunningTotals(plan, scale, name=name)
        self._window = window
        self._recent = np.zeros((window, plan.series), np.int64)
        self._closing = np.zeros(plan.series, np.int64)
        self._shown = np.zeros(plan.series, np.int64)

    @property
    def totals(self) -> RunningTotals:
        """The running totals beneath."""
        return self._totals

    @property
    def plan(self) -> StreamPlan:
        """The plan of the running totals beneath."""
        return self._totals.plan

    @property
    def scale(self) -> Fraction:
        """Noise scale in points of the lattice."""
        return self._totals.scale

    @property
    def name(self) -> str:
        """Name of the stream."""
        return self._totals.name

    @property
    def window(self) -> int:
        """Steps of the window."""
        return self._window

    @property
    def step(self) -> int:
        """The step that comes next, from zero."""
        return self._totals.step

    @property
    def head(self) -> bytes:
        """32 bytes that stand for everything published so far."""
        return self._totals.head

    def publish(self, step: int, increments: Vector, noise: NoiseSource) -> Published:
        """Take in what a step added and publish the window that ends with it.

        Args:
            step: The next step; or the one published last, which is then repeated, its increments ignored.
            increments: int64 (series,), units.
            noise: Where the discrete Gaussian comes from.

        Raises:
            StreamError, InvalidArgument: As `RunningTotals.publish`.
        """
        before = self._totals.step
        total = self._totals.publish(step, increments, noise).lattice
        if self._totals.step == before:
            return self.last()
        slot, place, block = step % self._window, step % self.plan.length, step // self.plan.length
        total = np.clip(total, -_LIMIT, _LIMIT)  # three of them add up within int64
        self._shown = total.copy()
        if place >= self._window:
            self._shown -= self._recent[slot]
        elif block > 0:
            self._shown += self._closing - self._recent[slot]
        self._recent[slot] = total
        if place == self.plan.length - 1:
            self._closing = total.copy()
        return self.last()

    def last(self) -> Published:
        """The window published last, again.

        Raises:
            StreamOrder: Nothing was published yet.
        """
        total = self._totals.last()
        block, place = divmod(total.step, self.plan.length)
        error = self.plan.window_errors(self.scale, self._window, first_block=block == 0)[place]
        shown = self._shown.copy()
        shown.flags.writeable = False
        return Published(total.step, shown, total.fraction_bits, float(error), total.head)

    def state(self) -> tuple[Vector, Vector, Vector]:
        """Recent totals, last total of the block before and the window shown last, as they are stored."""
        return self._recent, self._closing, self._shown

    def restore(self, recent: Vector, closing: Vector, shown: Vector) -> None:
        """Continue where `state` was taken; `totals` is restored by itself.

        Raises:
            InvalidArgument: Arrays of another shape than the plan asks for.
        """
        if (
            recent.shape != self._recent.shape
            or closing.shape != self._closing.shape
            or shown.shape != closing.shape
        ):
            raise InvalidArgument(
                f"shapes={recent.shape!r}, {closing.shape!r}, {shown.shape!r} must fit window={self._window!r} and "
                f"series={self.plan.series!r}; restore with the plan that the state was saved under"
            )
        self._recent, self._closing, self._shown = recent.copy(), closing.copy(), shown.copy()
