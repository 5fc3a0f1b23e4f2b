"""Slow oracle of the sandbox's answers without noise: dicts of lists, one customer after the other.

It is exact where no bound cuts anything off; where bounds cut, it says what every valid sample has in common.
"""

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from .dp_sandbox import value_of

Row = dict[str, Any]


def rows_of(table: Any, customer: str = "customer") -> list[Row]:
    """Rows of an Arrow table, those without a customer left out."""
    return [row for row in table.to_pylist() if row[customer] is not None]


def kept(rows: Iterable[Row], condition: str) -> list[Row]:
    """Rows for which a condition is true."""
    return [row for row in rows if value_of(condition, row) is True]


def derived(rows: Iterable[Row], **columns: str) -> list[Row]:
    """Rows with more columns."""
    return [{**row, **{name: value_of(text, row) for name, text in columns.items()}} for row in rows]


def per_customer(
    rows: Iterable[Row], by: tuple[str, ...], columns: Mapping[str, Callable[[list[Row]], Any]]
) -> list[Row]:
    """One row per customer and values of `by`."""
    grouped: dict[tuple[Any, ...], list[Row]] = defaultdict(list)
    for row in rows:
        grouped[(row["customer"], *(row[name] for name in by))].append(row)
    return [
        {
            "customer": key[0],
            **dict(zip(by, key[1:], strict=True)),
            **{name: of(mine) for name, of in columns.items()},
        }
        for key, mine in grouped.items()
    ]


def groups(rows: Iterable[Row], key: Callable[[Row], Any]) -> dict[Any, list[Row]]:
    """Rows by key; rows whose key is None are in no group."""
    found: dict[Any, list[Row]] = defaultdict(list)
    for row in rows:
        if key(row) is not None:
            found[key(row)].append(row)
    return found


def values(rows: Iterable[Row], column: str) -> list[float]:
    """Numbers of a column, those that are none left out."""
    return [float(row[column]) for row in rows if row[column] is not None and not math.isnan(row[column])]


def clamped_total(rows: Iterable[Row], column: str, lower: float, upper: float) -> float:
    """Sum over customers of their totals, each clamped."""
    totals: dict[Any, float] = defaultdict(float)
    for row in rows:
        if row[column] is not None and not math.isnan(row[column]):
            totals[row["customer"]] += row[column]
    return math.fsum(min(max(total, lower), upper) for total in totals.values())


def counted(rows: Iterable[Row], most: int) -> int:
    """Rows, of each customer at most so many."""
    found: dict[Any, int] = defaultdict(int)
    for row in rows:
        found[row["customer"]] += 1
    return sum(min(count, most) for count in found.values())
