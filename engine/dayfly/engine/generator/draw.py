"""Random draws that are the same on every Python: only `random()` and `getrandbits`, whose streams are guaranteed."""

import math
import random
from collections.abc import Sequence
from typing import TypeVar

__all__ = ["Draw"]

T = TypeVar("T")


class Draw:
    """A seeded source of draws. Equal seeds give equal draws in equal order."""

    __slots__ = ("_bits", "uniform")

    def __init__(self, seed: int) -> None:
        source = random.Random(seed)  # noqa: S311 - simulated behaviour, never a key
        self.uniform = source.random
        self._bits = source.getrandbits

    def chance(self, probability: float) -> bool:
        """True with `probability`."""
        return self.uniform() < probability

    def one_of(self, values: Sequence[T]) -> T:
        """One of `values`, each equally likely."""
        return values[int(self.uniform() * len(values))]

    def between(self, low: int, high: int) -> int:
        """An integer in `[low, high]`, each equally likely."""
        return low + int(self.uniform() * (high - low + 1))

    def exponential(self, mean: float) -> float:
        """An exponentially distributed time with `mean`."""
        return -mean * math.log(1.0 - self.uniform())

    def log_between(self, low: float, high: float) -> float:
        """A value in `[low, high)` whose logarithm is uniform: as many of minutes as of hours."""
        return low * math.exp(self.uniform() * math.log(high / low))

    def token(self, bits: int) -> str:
        """Lower-case hexadecimal text of `bits` random bits, a multiple of four."""
        return f"{self._bits(bits):0{bits // 4}x}"
