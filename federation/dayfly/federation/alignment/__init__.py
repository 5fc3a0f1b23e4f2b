"""Alignment: channels place their customers in a common row space without showing each other who they are.

Names are imported when they are first used, so that worker processes start with little.
"""

import typing

from dayfly.privacy import _lazy

__all__ = [
    "RULES",
    "AlignmentParty",
    "AlignmentReport",
    "AlignmentSettings",
    "Customers",
    "Manifest",
    "Padding",
    "Rows",
    "align",
    "normalise",
    "normalise_all",
    "worker_pool",
]

if typing.TYPE_CHECKING:
    from .coordinator import AlignmentReport, align
    from .customers import Customers
    from .identifiers import RULES, normalise, normalise_all
    from .manifest import Manifest
    from .messages import AlignmentSettings
    from .multiplication import worker_pool
    from .padding import Padding
    from .party import AlignmentParty
    from .rows import Rows
else:
    __getattr__ = _lazy.loader(
        __name__,
        {
            f"{__name__}.coordinator": ("AlignmentReport", "align"),
            f"{__name__}.customers": ("Customers",),
            f"{__name__}.identifiers": ("RULES", "normalise", "normalise_all"),
            f"{__name__}.manifest": ("Manifest",),
            f"{__name__}.messages": ("AlignmentSettings",),
            f"{__name__}.multiplication": ("worker_pool",),
            f"{__name__}.padding": ("Padding",),
            f"{__name__}.party": ("AlignmentParty",),
            f"{__name__}.rows": ("Rows",),
        },
    )
