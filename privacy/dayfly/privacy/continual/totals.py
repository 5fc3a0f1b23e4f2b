"""Running totals of thousands of series, one kernel call per step, with noise that is correlated over the steps.

The state machine of `dayfly.privacy.continual.plan`. Its state is private as the data are: who has the buffers and what
was published knows the exact increments. `StreamFile` keeps it in a file that only its owner can read.
"""

import hashlib
from fractions import Fraction
from typing import Final

import numpy as np
from numpy.typing import NDArray

from dayfly.privacy.accounting.rounding import positive_exact
from dayfly.privacy.errors import InvalidArgument, StreamEnded, StreamInterrupted, StreamOrder
from dayfly.privacy.noise import NoiseSource

from .factors import FRACTION_BITS, Blt, SquareRoot
from .kernels import blt_absorb, blt_centre, toeplitz_absorb, toeplitz_centre
from .plan import StreamPlan
from .published import Published

__all__ = ["RunningTotals", "checked_increments", "next_head"]

Vector = NDArray[np.int64]
_ROWS: Final = 4
_UNIT: Final = 1 << FRACTION_BITS


class RunningTotals:
    """Noisy running totals, step by step.

    Args:
        plan: What is published and what one customer may contribute.
        scale: Noise scale in points of the lattice, from `plan.scale(rho)`. `plan.loss(scale)` must have been spent before.
        name: Name of the stream, part of every head.

    Raises:
        InvalidArgument: A scale that is not an exact number above zero.

    Guarantees:
        Everything published together is `plan.loss(scale)`-zCDP with the customer as unit, exactly, under the
        participation bounds of the plan. Each total is the exact one plus noise whose distribution does not depend on
        the data, within `plan.rounding_error`. A step is published once: asked again, the last one is repeated bit for bit, and
        no noise is drawn. The buffers take 32 bytes per series (BLT); the published totals, 8 more, are public.
    """

    __slots__ = (
        "_coefficients",
        "_errors",
        "_head",
        "_l2_squared",
        "_name",
        "_plan",
        "_scale",
        "_shifts",
        "_state",
        "_step",
        "_torn",
        "_totals",
    )

    def __init__(self, plan: StreamPlan, scale: Fraction, *, name: str = "") -> None:
        self._plan = plan
        self._scale = positive_exact("scale", scale)
        self._name = name
        self._coefficients = _coefficients(plan)
        self._shifts = plan.shifts
        self._l2_squared = plan.l2_squared
        self._errors = plan.standard_errors(self._scale)
        rows = _ROWS if isinstance(plan.factor, Blt) else plan.length
        self._state = np.zeros((rows, plan.series), np.int64)
        self._totals = np.zeros(plan.series, np.int64)
        self._step = 0
        self._torn = False
        described = f"dayfly stream {name}\n{plan!r}\n{scale}"
        self._head = hashlib.sha256(described.encode()).digest()

    @property
    def plan(self) -> StreamPlan:
        """What is published."""
        return self._plan

    @property
    def scale(self) -> Fraction:
        """Noise scale in points of the lattice."""
        return self._scale

    @property
    def name(self) -> str:
        """Name of the stream."""
        return self._name

    @property
    def step(self) -> int:
        """The step that comes next, from zero."""
        return self._step

    @property
    def head(self) -> bytes:
        """32 bytes that stand for everything published so far."""
        return self._head

    def publish(self, step: int, increments: Vector, noise: NoiseSource) -> Published:
        """Take in what a step added and publish the totals after it.

        Args:
            step: The next step; or the one published last, which is then repeated, its increments ignored.
            increments: int64 (series,), units. Larger ones than `plan.largest_increment` are clamped, which no error
                tells, because an error would tell something about the data.
            noise: Where the discrete Gaussian comes from.

        Raises:
            StreamEnded: All steps of the plan are published.
            StreamOrder: Another step than the next or the last.
            InvalidArgument: Increments of another type or shape.
            StreamInterrupted: An earlier call was cut off in the middle; restore the saved state.
        """
        if self._torn:
            raise StreamInterrupted(
                f"step={self._step!r} must not be left in the middle; restore the stream from its saved state"
            )
        if step == self._step - 1:
            return self.last()
        if self._plan.blocks is not None and step >= self._plan.blocks * self._plan.length:
            raise StreamEnded(
                f"step={step!r} must be below {self._plan.blocks * self._plan.length}, the steps that were paid for; "
                "start a new stream, with its own spend, and add its totals to the last ones published"
            )
        if step != self._step:
            raise StreamOrder(
                f"step={step!r} must be {self._step!r}, the next one; publish steps in order, with zeros where nothing came"
            )
        self._advance(checked_increments(increments, self._plan.series), noise)
        return self.last()

    def _advance(self, increments: Vector, noise: NoiseSource) -> None:
        plan, place = self._plan, self._step % self._plan.length
        history = np.zeros_like(self._state) if place == 0 else self._state
        centres = np.empty(plan.series, np.int64)
        if isinstance(plan.factor, Blt):
            blt_centre(history, self._coefficients[1], increments, self._shifts, centres)
        else:
            toeplitz_centre(history[:place], self._coefficients, increments, self._shifts, centres)
        noisy = checked_increments(
            noise.gaussian(centres, self._scale, l2_squared=self._l2_squared), plan.series
        )
        self._torn = True
        if place == 0:
            self._state[:] = 0
            self._totals[:] = 0
        if isinstance(plan.factor, Blt):
            blt_absorb(self._state, self._coefficients[0], increments, noisy, self._shifts, self._totals)
        else:
            toeplitz_absorb(self._state[place], increments, noisy, self._shifts, self._totals)
        self._head = next_head(self._head, self._step, self._totals)
        self._step += 1
        self._torn = False

    def last(self) -> Published:
        """The step published last, again.

        Raises:
            StreamOrder: Nothing was published yet.
        """
        if self._step == 0:
            raise StreamOrder("step=-1 must be >= 0; publish step 0 first")
        totals = self._totals.copy()
        totals.flags.writeable = False
        place = (self._step - 1) % self._plan.length
        error = float(self._errors[place])
        return Published(self._step - 1, totals, self._shifts.fraction, error, self._head)

    def state(self) -> tuple[int, bytes, Vector, Vector]:
        """Step, head, buffers and totals, as they are stored."""
        return self._step, self._head, self._state, self._totals

    def restore(self, step: int, head: bytes, state: Vector, totals: Vector) -> None:
        """Continue where `state` was taken.

        Raises:
            InvalidArgument: Arrays of another shape than the plan asks for.
        """
        if state.shape != self._state.shape or totals.shape != self._totals.shape:
            raise InvalidArgument(
                f"shapes={state.shape!r}, {totals.shape!r} must be {self._state.shape!r}, {self._totals.shape!r}; "
                "restore with the plan that the state was saved under"
            )
        self._step, self._head, self._state, self._totals = step, head, state.copy(), totals.copy()


def checked_increments(increments: object, series: int) -> Vector:
    """The increments, if they are int64 (series,).

    Raises:
        InvalidArgument: They are not.
    """
    if (
        not isinstance(increments, np.ndarray)
        or increments.dtype != np.int64
        or increments.shape != (series,)
    ):
        shape = getattr(increments, "shape", None)
        kind = getattr(increments, "dtype", type(increments).__name__)
        raise InvalidArgument(
            f"increments={kind} of shape {shape} must be int64 of shape ({series},); put floats on a lattice first"
        )
    if increments.flags.c_contiguous and increments.flags.writeable:
        return increments
    return increments.copy()  # the kernels are compiled for one kind of array


def next_head(head: bytes, step: int, totals: Vector) -> bytes:
    """Chain one publication to all before it."""
    digest = hashlib.sha256(head)
    digest.update(step.to_bytes(8, "little"))
    digest.update(totals.astype("<i8", copy=False).data)
    return digest.digest()


def _coefficients(plan: StreamPlan) -> Vector:
    """Decays and scales, padded to four buffers of no effect; or the square root's column after its first entry."""
    if isinstance(plan.factor, SquareRoot):
        return plan.factor.coefficients(plan.length)[1:]
    padding = (0,) * (_ROWS - len(plan.factor.decays))
    return np.array([plan.factor.decays + padding, plan.factor.scales + padding], np.int64)
