"""Contribution bounding: exact per-group totals in which one customer counts for a bounded amount.

What comes out is exact and therefore private; `dayfly.privacy.sandbox` adds the noise.
"""

from .columns import Columns, encode
from .contribution import Bounded, Contribution
from .group_by import bounded_group_by, bounded_rows
from .kernels import NO_VALUE
from .lattice import ROW_LIMIT, Lattice
from .partial import Partial
from .slots import Method

__all__ = [
    "NO_VALUE",
    "ROW_LIMIT",
    "Bounded",
    "Columns",
    "Contribution",
    "Lattice",
    "Method",
    "Partial",
    "bounded_group_by",
    "bounded_rows",
    "encode",
]
