"""Columns of a snapshot: integers in as few bytes as their range needs."""

from typing import Annotated, Final, Literal

import msgspec
import numpy as np
import numpy.typing as npt

__all__ = ["Column", "narrowed", "widened"]

Words = npt.NDArray[np.int64]

_WIDTHS: Final[tuple[Literal[1, 2, 4], ...]] = (1, 2, 4)
_WHOLE: Final[Literal[8]] = 8


class Column(msgspec.Struct, frozen=True, forbid_unknown_fields=True, array_like=True):
    """How a column is written.

    Attributes:
        rows: Its length.
        width: Bytes of each number; 0 when all are equal.
        base: What is added to each number as written.
        hole: A value outside the range of the others, written as 0; None when there is none.
    """

    rows: Annotated[int, msgspec.Meta(ge=0)]
    width: Literal[0, 1, 2, 4, 8]
    base: int
    hole: int | None = None

    @property
    def size(self) -> int:
        """Bytes of the column."""
        return self.rows * self.width


def narrowed(values: Words, *, hole: int | None = None) -> tuple[Column, npt.NDArray[np.generic]]:
    """A column and its bytes; equal values give equal ones.

    Args:
        values: int64[rows].
        hole: A value that means nothing and may be far from all others.
    """
    rows = len(values)
    if not rows:
        return Column(0, 0, 0), np.zeros(0, np.uint8)
    low, high = int(values.min()), int(values.max())
    if low == high:
        return Column(rows, 0, low), np.zeros(0, np.uint8)
    if hole is not None and hole in (low, high):
        empty = values == hole
        others = values[~empty]
        low, high = int(others.min()) - 1, int(others.max())
    else:
        empty, hole = None, None
    for width in _WIDTHS:
        if high - low < 1 << (8 * width) and low >= -(2**63):
            short = (values - low).astype(f"<u{width}")
            if empty is not None:
                short[empty] = 0
            return Column(rows, width, low, hole), short
    return Column(rows, _WHOLE, 0), values.astype("<i8", copy=False)


def widened(column: Column, data: memoryview) -> Words:
    """int64[rows], the values of a column."""
    if column.width == 0:
        return np.full(column.rows, column.base, np.int64)
    if column.width == _WHOLE:
        return np.frombuffer(data, "<i8").astype(np.int64)
    short = np.frombuffer(data, f"<u{column.width}")
    values = short.astype(np.int64)
    values += column.base
    if column.hole is not None:
        values[short == 0] = column.hole
    return values
