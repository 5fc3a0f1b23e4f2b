"""Sums of products modulo 2^64 with Python's integers."""

from collections.abc import Sequence

__all__ = ["gram", "product"]

RING = 2**64
Matrix = Sequence[Sequence[int]]


def gram(left: Matrix, right: Matrix, found: Matrix) -> list[list[int]]:
    """`found + left' right`."""
    return [
        [
            (found[p][q] + sum(first[p] * second[q] for first, second in zip(left, right, strict=True)))
            % RING
            for q in range(len(found[p]))
        ]
        for p in range(len(found))
    ]


def product(matrix: Matrix, vector: Sequence[int], found: Sequence[int]) -> list[int]:
    """`found + matrix' vector`."""
    return [
        (found[p] + sum(row[p] * factor for row, factor in zip(matrix, vector, strict=True))) % RING
        for p in range(len(found))
    ]
