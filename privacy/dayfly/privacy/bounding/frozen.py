"""Read-only views: a kernel is compiled per type of its arguments, and read-only arrays (Arrow's) are another type than writable ones."""

from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

__all__ = ["frozen"]

_T = TypeVar("_T", bound=np.generic)


def frozen(array: NDArray[Any], dtype: type[_T]) -> NDArray[_T]:
    """The array as a contiguous, read-only view of this type; copied only when it is of another type or has gaps."""
    view: NDArray[_T] = np.ascontiguousarray(array, dtype).view()
    view.flags.writeable = False
    return view
