"""Local DP by exhaustion: every string of random bytes is tried, so probabilities are exact fractions."""

from collections import Counter
from collections.abc import Callable, Hashable
from fractions import Fraction
from itertools import product

import numpy as np
from numpy.typing import NDArray

RandomBytes = Callable[[int], bytes]


def distribution(encode: Callable[[RandomBytes], Hashable], size: int) -> dict[Hashable, Fraction]:
    """Exact probabilities of what `encode` returns when it reads `size` even random bytes in all."""
    found: Counter[Hashable] = Counter()
    for values in product(range(256), repeat=size):
        left = list(values)

        def read(count: int, left: list[int] = left) -> bytes:
            taken = bytes(left[:count])
            assert len(taken) == count, "more bytes read than expected"
            del left[:count]
            return taken

        found[encode(read)] += 1
        assert not left, "fewer bytes read than expected"
    return {report: Fraction(times, 256**size) for report, times in found.items()}


def largest_ratio(first: dict[Hashable, Fraction], second: dict[Hashable, Fraction]) -> Fraction:
    """max P(report | first) / P(report | second); both must have the same reports."""
    assert first.keys() == second.keys()
    return max(first[report] / second[report] for report in first)


def sylvester(size: int) -> NDArray[np.int64]:
    """The Hadamard matrix by Sylvester's doubling."""
    matrix = np.ones((1, 1), np.int64)
    while len(matrix) < size:
        matrix = np.block([[matrix, matrix], [matrix, -matrix]])
    return matrix
