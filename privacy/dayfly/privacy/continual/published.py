"""What a stream shows the world after a step."""

from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from dayfly.privacy.errors import InvalidArgument

__all__ = ["Published"]


@dataclass(frozen=True, slots=True, eq=False)
class Published:
    """Noisy totals of all series after one step. Whoever has it may compute with it freely: that costs nothing.

    Attributes:
        step: The step, from zero.
        lattice: int64 (series,), totals in points of the noise lattice; read-only.
        fraction_bits: One unit is `2**fraction_bits` points.
        standard_error: Of each total, in units; the same for all series, and it depends on no private value.
        head: 32 bytes that stand for everything published so far; two streams that forked have different ones.
    """

    step: int
    lattice: NDArray[np.int64]
    fraction_bits: int
    standard_error: float
    head: bytes

    @property
    def values(self) -> NDArray[np.float64]:
        """Unbiased totals: float64 (series,), units. They may be negative or fall; rounding them is up to the reader."""
        return np.ldexp(self.lattice.astype(np.float64), -self.fraction_bits)

    def interval(self, confidence: float = 0.95) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Lower and upper ends that each cover the true total with this probability: float64 (series,) each, units.

        The noise is a weighted sum of independent discrete Gaussians; the quantile is the normal one.

        Raises:
            InvalidArgument: A confidence outside (0, 1).
        """
        if not 0 < confidence < 1:
            raise InvalidArgument(f"confidence={confidence!r} must lie in (0, 1); pass 0.95 for 95 %")
        half = NormalDist().inv_cdf((1 + confidence) / 2) * self.standard_error
        return self.values - half, self.values + half
