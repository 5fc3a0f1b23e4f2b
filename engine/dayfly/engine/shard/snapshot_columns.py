"""Columns of a snapshot: integers in as few bytes as their range needs."""

from typing import Annotated, Any, Final, Literal, TypeAlias

import msgspec
import numpy as np
import numpy.typing as npt

from dayfly.engine.shard.kernels_snapshot import find_range, shorten

__all__ = ["Column", "narrowed", "widened"]

Words = npt.NDArray[np.int64]
Int64: TypeAlias = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]

_WIDTHS: Final[tuple[Literal[1, 2, 4], ...]] = (1, 2, 4)
_WHOLE: Final = 8


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
    base: Int64
    hole: Int64 | None = None

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
    rows, found = len(values), np.zeros(3, np.int64)
    nothing = np.zeros(0, np.uint8)
    find_range(values, hole or 0, hole is not None, found)
    low, high, holes = found.tolist()
    if not rows or holes == rows:
        return Column(rows, 0, hole if rows and hole is not None else 0), nothing
    if not holes and low == high:
        return Column(rows, 0, low), nothing
    base = low - (1 if holes else 0)  # 0 is for the holes
    for width in _WIDTHS:
        if high - base < 1 << (8 * width) and base >= -(2**63):
            short = np.empty(rows, f"u{width}")
            shorten(values, base, hole or 0, holes > 0, short)
            return Column(rows, width, base, hole if holes else None), short.astype(f"<u{width}", copy=False)
    return Column(rows, _WHOLE, 0), values.astype("<i8", copy=False)


def widened(column: Column, data: memoryview, out: npt.NDArray[np.signedinteger[Any]]) -> None:
    """Write the values of a column into `out`, an array of its length."""
    if column.width == 0:
        out[:] = column.base
    elif column.width == _WHOLE:
        out[:] = np.frombuffer(data, "<i8")
    else:
        short = np.frombuffer(data, f"<u{column.width}")
        np.add(short, column.base, out=out, dtype=np.int64, casting="unsafe")
        if column.hole is not None:
            out[short == 0] = column.hole
