"""Noise sources that tests can foresee."""

from collections.abc import Iterable, Mapping
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from dayfly.privacy.noise import NoiseSource

Vector = NDArray[np.int64]


class _Unused:
    """The parts of the seam that streams never use."""

    def laplace(self, values: Vector, scale: Fraction, *, l1: int = 1) -> Vector:
        raise AssertionError("streams draw Gaussian noise")

    def laplace_threshold(
        self,
        values: Mapping[int, int],
        scale: Fraction,
        threshold: int,
        *,
        sensitivity: tuple[int, int, int] = (1, 1, 1),
    ) -> dict[int, int]:
        raise AssertionError("streams have no thresholds")

    def gaussian_threshold(
        self,
        values: Mapping[int, int],
        scale: Fraction,
        threshold: int,
        *,
        sensitivity: tuple[int, int, int] = (1, 1, 1),
    ) -> dict[int, int]:
        raise AssertionError("streams have no thresholds")


class NoNoise(_Unused):
    """Adds nothing."""

    def gaussian(self, values: Vector, scale: Fraction, *, l2_squared: int = 1) -> Vector:
        return values.copy()


class SeededNoise(_Unused):
    """Continuous Gaussian rounded, from a seed: for replays and statistics, not for privacy."""

    def __init__(self, seed: int) -> None:
        self.generator = np.random.default_rng(seed)
        self.draws = 0

    def gaussian(self, values: Vector, scale: Fraction, *, l2_squared: int = 1) -> Vector:
        self.draws += 1
        return values + np.rint(self.generator.normal(0, float(scale), values.shape)).astype(np.int64)


class Script(_Unused):
    """Publishes what it was told to, whatever the centres are, and notes the centres."""

    def __init__(self, published: Iterable[Vector]) -> None:
        self.published = iter(published)
        self.centres: list[Vector] = []

    def gaussian(self, values: Vector, scale: Fraction, *, l2_squared: int = 1) -> Vector:
        self.centres.append(values.copy())
        return np.array(next(self.published), np.int64)


class Refusing(_Unused):
    """Fails before anything is drawn."""

    def gaussian(self, values: Vector, scale: Fraction, *, l2_squared: int = 1) -> Vector:
        raise RuntimeError("no entropy")


class Recording(_Unused):
    """Draws from another source and notes the centres and what was published."""

    def __init__(self, source: NoiseSource) -> None:
        self.source = source
        self.centres: list[Vector] = []
        self.drawn: list[Vector] = []

    def gaussian(self, values: Vector, scale: Fraction, *, l2_squared: int = 1) -> Vector:
        self.centres.append(values.copy())
        self.drawn.append(self.source.gaussian(values, scale, l2_squared=l2_squared))
        return self.drawn[-1]
