"""Continual release in Python integers, fractions and dense matrices, written from the formulas and sharing no code with it."""

import math
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from itertools import combinations, pairwise

import numpy as np
from numpy.typing import NDArray

Noise = Callable[[int], int]
UNIT = 2**30


def clip(value: int, limit: int) -> int:
    return max(-limit, min(limit, value))


def nearest(value: Fraction) -> int:
    """Nearest integer, halves up."""
    return math.floor(value + Fraction(1, 2))


class ExactStream:
    """One series under a BLT (decays and scales) or a square root (neither), with unbounded integers and fractions."""

    def __init__(
        self,
        *,
        fraction_bits: int,
        guard_bits: int,
        decays: Sequence[int] = (),
        scales: Sequence[int] = (),
        column: Sequence[int] = (),
    ) -> None:
        self.fraction_bits = fraction_bits
        self.guard = 2**guard_bits
        self.decays = [Fraction(decay, UNIT) for decay in decays]
        self.scales = [Fraction(scale, UNIT) for scale in scales]
        self.column = [Fraction(value, UNIT) for value in column]
        self.buffers = [0] * len(decays)
        self.history: list[int] = []
        self.total = 0

    def centre(self, increment: int) -> int:
        if self.column:
            returned = nearest(
                sum(
                    (self.column[len(self.history) - k] * value for k, value in enumerate(self.history)),
                    Fraction(0),
                )
            )
        else:
            weighed = math.floor(
                sum(
                    (scale * buffer for scale, buffer in zip(self.scales, self.buffers, strict=True)),
                    Fraction(0),
                )
            )
            returned = math.floor(Fraction(weighed + self.guard // 2, self.guard))
        return self.lattice(increment) - returned

    def lattice(self, increment: int) -> int:
        return clip(increment, 2**60 >> self.fraction_bits) << self.fraction_bits

    def absorb(self, increment: int, noisy: int) -> None:
        seen = clip(noisy, 2**61)
        residual = seen - self.lattice(increment)
        if self.column:
            self.history.append(clip(residual, 2**54))
        else:
            guarded = clip(residual, 2**60 // self.guard) * self.guard
            self.buffers = [
                clip(nearest(decay * buffer) + guarded, 2**60)
                for decay, buffer in zip(self.decays, self.buffers, strict=True)
            ]
        self.total = clip(self.total + seen, 2**62)

    def publish(self, increment: int, draw: Noise) -> int:
        centre = self.centre(increment)
        self.absorb(increment, clip(centre + draw(centre), 2**63 - 1))
        return self.total


def toeplitz(column: NDArray[np.float64]) -> NDArray[np.float64]:
    """The dense lower triangular matrix with this first column."""
    length = len(column)
    matrix = np.zeros((length, length))
    for k in range(length):
        matrix[k:, k] = column[: length - k]
    return matrix


def blt_matrix(length: int, decays: Sequence[int], scales: Sequence[int]) -> NDArray[np.float64]:
    """`C` entry by entry."""
    matrix = np.eye(length)
    for t in range(length):
        for k in range(t):
            matrix[t, k] = sum(
                scale / UNIT * (decay / UNIT) ** (t - k - 1)
                for decay, scale in zip(decays, scales, strict=True)
            )
    return matrix


def running_matrix(length: int) -> NDArray[np.float64]:
    return np.tril(np.ones((length, length)))


def max_error(factor: NDArray[np.float64]) -> float:
    """`||B||_(2->inf) ||C||_(1->2)` of a dense factor, by solving for `B`."""
    rows = np.linalg.solve(factor.T, running_matrix(len(factor)).T).T
    return float(np.linalg.norm(rows, axis=1).max() * np.linalg.norm(factor, axis=0).max())


def series_max_error(length: int, decays: Sequence[int], scales: Sequence[int]) -> float:
    """The same for a long BLT: `B` through partial fractions of `1 / ((1 - x) c(x))`, an independent way.

    The zeros of `c` are the eigenvalues of the state matrix of the inverse filter.
    """
    poles = np.array(decays) / UNIT
    weights = np.array(scales) / UNIT
    inverse = np.diag(poles) - np.outer(np.ones(len(poles)), weights)
    zeros, vectors = np.linalg.eig(inverse)
    left = np.linalg.solve(vectors, np.ones(len(poles)))
    residues = (weights @ vectors) * left
    steps = np.arange(length)
    powers = (1 - zeros[:, None] ** steps) / (1 - zeros[:, None])
    row = np.real(1 - residues @ powers)
    column = np.concatenate([[1.0], weights @ poles[:, None] ** np.arange(length - 1)])
    return float(np.linalg.norm(row) * np.linalg.norm(column))


def patterns(length: int, steps: int, separation: int) -> Iterator[tuple[int, ...]]:
    """Every way of taking part in at most `steps` of `length` steps, no two closer than `separation`."""
    for size in range(steps + 1):
        for chosen in combinations(range(length), size):
            if all(b - a >= separation for a, b in pairwise(chosen)):
                yield chosen


def binary_tree_error(length: int) -> float:
    """Standard error of the worst running total of a binary tree with one noisy node per level, at sensitivity one."""
    levels = length.bit_length()
    worst = max((t).bit_count() for t in range(1, length + 1))
    return math.sqrt(levels * worst)
