"""Arrow's compute functions, which are made at run time and so unseen by type checkers."""

from typing import Any, Final

from pyarrow import compute

__all__ = ["pc"]

pc: Final[Any] = compute
