"""Contribution bounding: exact per-group totals in which one customer counts for a bounded amount.

What comes out is exact and therefore private; `dayfly.privacy.sandbox` adds the noise.
"""

from .contribution import Bounded, Contribution
from .group_by import bounded_group_by, bounded_rows
from .kernels import NO_VALUE
from .lattice import ROW_LIMIT, Lattice
from .slots import Method

__all__ = [
    "NO_VALUE",
    "ROW_LIMIT",
    "Bounded",
    "Contribution",
    "Lattice",
    "Method",
    "bounded_group_by",
    "bounded_rows",
]
