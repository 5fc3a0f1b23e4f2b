"""OpenDP's own Context on Polars, as a peer: run by the interpreter of an environment that has `opendp[polars]`.

`opendp[polars]` pins one release of Polars, so it lives in an environment of its own (`make peers`), and this file imports
nothing of Dayfly. It prints one JSON object.
"""
# mypy: disable-error-code="attr-defined,arg-type"
# pyright: reportAttributeAccessIssue=false, reportArgumentType=false
# The names that OpenDP adds for Polars are there only in that environment.

import json
import resource
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from typing import Any, Final

import opendp.prelude as dp
import polars as pl

ROWS_PER_GROUP: Final = 10
GROUPS_PER_CUSTOMER: Final = 4
GROUP: Final = ["channel", "category"]
CHANNELS: Final = 12
CATEGORIES: Final = 100
LARGEST: Final = 10.0
"""As in `sandbox_workload`, which cannot be imported here."""


def _context(data: pl.LazyFrame, rows: int) -> Any:
    return dp.Context.compositor(
        data=data,
        privacy_unit=dp.unit_of(contributions=1, identifier=pl.col("customer")),
        privacy_loss=dp.loss_of(epsilon=1.0),
        split_evenly_over=1,
        margins=[dp.polars.Margin(by=GROUP, max_length=rows), dp.polars.Margin(by=[], max_length=rows)],
    )


def _group_by(path: str, rows: int) -> int:
    """A bounded count and sum per known group, noise included; the groups released."""
    keys = pl.LazyFrame({"channel": pl.int_range(CHANNELS, dtype=pl.Int32, eager=True)}).join(
        pl.LazyFrame({"category": pl.int_range(CATEGORIES, dtype=pl.Int32, eager=True)}), how="cross"
    )
    query = (
        _context(pl.scan_parquet(path), rows)
        .query()
        .truncate_per_group(ROWS_PER_GROUP, by=GROUP, keep="first")
        .truncate_num_groups(GROUPS_PER_CUSTOMER, by=GROUP, keep="first")
        .group_by(GROUP)
        .agg(dp.len(signed=True), pl.col("value").fill_null(0.0).fill_nan(0.0).dp.sum((0.0, LARGEST)))
        .with_keys(keys)
    )
    return len(query.release().collect())


def _scalar() -> int:
    """A count of the customers' rows of a table with three."""
    data = pl.LazyFrame({"customer": [1, 2, 3], "channel": [0, 0, 1], "category": [0, 1, 1]})
    query = _context(data, 3).query().truncate_per_group(1, keep="first").select(dp.len(signed=True))
    return int(query.release().collect().item())


def _cpu_seconds(run: Callable[[], object]) -> float:
    begin = time.process_time()
    run()
    return time.process_time() - begin


def main(arguments: list[str]) -> None:
    """`group_by FILE ROWS` or `scalar TIMES`."""
    dp.enable_features("contrib")
    kind, *rest = arguments
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    if kind == "group_by":
        path, rows = rest[0], int(rest[1])
        seconds = [_cpu_seconds(lambda: _group_by(path, rows))]
    else:
        seconds = [_cpu_seconds(_scalar) for _ in range(int(rest[0]))]
    megabytes = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    versions = {"opendp": version("opendp"), "polars": pl.__version__}
    json.dump({"cpu_seconds": seconds, "extra_megabytes": megabytes, "versions": versions}, sys.stdout)


if __name__ == "__main__":
    main(sys.argv[1:])
