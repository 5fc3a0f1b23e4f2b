"""What bounding each customer costs, beside a group-by that bounds nobody: the same columns, the same answer's shape."""

import argparse
import os
import time
from collections.abc import Callable
from fractions import Fraction
from typing import Final

import pyarrow as pa

from dayfly.privacy.bounding import Contribution, Lattice, encode

from .measuring import interleaved
from .sandbox_workload import LARGEST, purchases

__all__ = ["bounding_cases", "main"]

GROUPS_PER_CUSTOMER: Final = 4
ROWS_PER_GROUP: Final = 10
STEP: Final = Fraction(1, 1_000)


def bounding_cases(rows: int, customers: int) -> dict[str, Callable[[], object]]:
    """Count and sum per (channel, category), to be timed by `interleaved(..., clock=time.process_time_ns)`.

    Polars uses several threads, so only the CPU time of the process compares.

    Args:
        rows: Rows of the table.
        customers: Customers in it.

    Returns:
        "codes" (keys to codes), "uniform" and "first come" (bounding, of columns coded already), "polars" (no bounding, no noise).
    """
    import polars as pl  # noqa: PLC0415 - a peer of the bench, not a dependency

    bought = purchases(rows, customers)
    table = pa.table(
        {
            "customer": bought.customer,
            "channel": bought.channel,
            "category": bought.category,
            "value": bought.value,
        }
    )
    frame = pl.from_arrow(table)
    if not isinstance(frame, pl.DataFrame):
        raise TypeError(f"frame={type(frame).__name__} must be a data frame; pass a table")
    bounds = Contribution(GROUPS_PER_CUSTOMER, ROWS_PER_GROUP, 0, Lattice(STEP).upper(int(LARGEST)))
    groups = ("channel", "category")

    def coded() -> object:
        return encode(table, customer="customer", groups=groups, value="value", lattice=Lattice(STEP))

    columns = encode(table, customer="customer", groups=groups, value="value", lattice=Lattice(STEP))
    return {
        "codes": coded,
        "uniform": lambda: columns.group_by(bounds, salt=os.urandom(16)),
        "first come": lambda: columns.group_by(bounds, method="first_come", salt=os.urandom(16)),
        "polars": lambda: frame.group_by(groups).agg(pl.len(), pl.col("value").sum()),
    }


def main() -> None:
    """`python -m dayfly.bench.sandbox_bounding [--rows N]`: CPU seconds of each case."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--rows", type=int, default=10_000_000)
    rows = int(parser.parse_args().rows)
    cases = bounding_cases(rows, rows // 50)
    for name, seconds in interleaved(cases, rounds=5, clock=time.process_time_ns).items():
        print(f"{name:12} {seconds:8.3f} CPU s")


if __name__ == "__main__":
    main()
