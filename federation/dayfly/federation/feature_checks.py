"""What makes a matrix fit to be trained on; each refusal names the party, the columns and the cause, and no value."""

from collections import Counter
from typing import TYPE_CHECKING

import numpy as np

from dayfly.federation.errors import InvalidData

if TYPE_CHECKING:
    from dayfly.federation.features import Features

__all__ = ["insist_on_names", "insist_on_shapes", "insist_on_values"]


def insist_on_names(found: "Features") -> None:
    """Every column has a name of its own, and the label a name and values.

    Raises:
        InvalidData: not so.
    """
    columns = (*found.names, *([] if found.label is None else [found.label]))
    twice = sorted(name for name, times in Counter(columns).items() if times > 1)
    if twice:
        raise InvalidData(found.party, f"names columns {twice} twice; rename or leave out one of each")
    if not found.names:
        raise InvalidData(found.party, "has no features; pass at least one column of numbers")
    if (found.label is None) != (found.labels is None):
        raise InvalidData(
            found.party,
            f"has label={found.label!r} and {'no' if found.labels is None else 'unnamed'} values for it; pass both or none",
        )


def insist_on_shapes(found: "Features") -> None:
    """One row per customer, one customer per row.

    Raises:
        InvalidData: not so.
    """
    rows = len(found.customers)
    if not rows:
        raise InvalidData(found.party, "has no rows; leave it out of the run")
    if found.values.shape != (rows, len(found.names)):
        raise InvalidData(
            found.party,
            f"has values of shape {found.values.shape}; {rows} customers and {len(found.names)} names need ({rows}, {len(found.names)})",
        )
    if found.labels is not None and found.labels.shape != (rows,):
        raise InvalidData(found.party, f"has labels of shape {found.labels.shape}; they must be ({rows},)")
    repeated = rows - len(set(found.customers))
    if repeated:
        raise InvalidData(
            found.party, f"has {repeated} rows of customers who have another row; merge them into one each"
        )


def insist_on_values(found: "Features") -> None:
    """Every value is a finite number.

    Raises:
        InvalidData: not so.
    """
    bad = ~np.isfinite(found.values)
    if bad.any():
        counts = {name: int(count) for name, count in zip(found.names, bad.sum(axis=0), strict=True) if count}
        raise InvalidData(
            found.party, f"has NaN or infinite values: rows per column {counts}; fill or drop them"
        )
    if found.labels is not None:
        missing = int((~np.isfinite(found.labels)).sum())
        if missing:
            raise InvalidData(
                found.party, f"has {missing} rows without a label {found.label!r}; drop or label them"
            )
