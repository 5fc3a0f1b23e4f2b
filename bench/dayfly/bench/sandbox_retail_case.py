"""Real purchases: weekly net revenue and orders by country at epsilon 1, against the exact answers."""

import os
import tempfile
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from dayfly.privacy.sandbox import Release, Sandbox, Source, calendar_keys, col

from .rows import Row, missing_peer
from .sandbox_budget_case import bench_ledger

__all__ = ["COUNTRIES", "retail_release", "run"]

FIRST, LAST = date(2010, 12, 1), date(2011, 12, 9)
COUNTRIES: Final = (
    "United Kingdom",
    "Germany",
    "France",
    "EIRE",
    "Spain",
    "Netherlands",
    "Belgium",
    "Switzerland",
    "Portugal",
    "Australia",
)
"""Public knowledge of the shop: where it delivers most."""

SIZES: Final = ((1_000, "1,000 orders and more"), (100, "100 to 999"), (10, "10 to 99"), (1, "1 to 9"))
EPSILON: Final = 1
DELTA: Final = "1e-6"
ORDERS_PER_WEEK: Final = 2
WEEKS_PER_CUSTOMER: Final = 16
LARGEST_NET: Final = 1_000


def run(*, quick: bool) -> list[Row]:
    """One row per size of group and measure; none is gated: how large the error is depends on the data."""
    del quick
    path = _data()
    if path is None:
        return [
            missing_peer(
                "sandbox",
                "Online Retail at epsilon 1",
                "Online Retail 2010-11",
                "set DAYFLY_SHARED_DATA to a copy",
            )
        ]
    table = pq.read_table(path)
    with tempfile.TemporaryDirectory() as folder:
        sandbox = Sandbox(
            ledger=bench_ledger(Path(folder)),
            sources={"lines": Source(table, customer="customer_id", data_set="orders")},
            analyst="ann",
            purpose="marketing",
        )
        answer = retail_release(sandbox)
    return list(_rows(answer, _exact(table)))


def _data() -> Path | None:
    named = os.environ.get("DAYFLY_SHARED_DATA")
    for root in (Path(named) if named else None, Path("../shared/data")):
        path = root / "online_retail/online_retail_2010_2011.parquet" if root else None
        if path is not None and path.is_file():
            return path
    return None


def retail_release(sandbox: Sandbox) -> Release:
    """Orders and net revenue by country and week: each customer's invoices first, then over customers."""
    return (
        sandbox.query("lines")
        .derive(net=col("quantity") * col("unit_price"), week=col("invoice_ts").truncate("week"))
        .per_customer(by=["country", "week"], orders=("distinct", "invoice"), net=("sum", "net"))
        .group_by("country", keys=COUNTRIES)
        .group_by("week", keys=calendar_keys("week", FIRST, LAST))
        .bound(groups_per_customer=WEEKS_PER_CUSTOMER, rows_per_group=1)
        .sum("orders", lower=0, upper=ORDERS_PER_WEEK, name="orders")
        .sum("net", lower=0, upper=LARGEST_NET, name="net")
        .release(epsilon=EPSILON, delta=DELTA)
    )


def _exact(table: pa.Table) -> pa.Table:
    """The truth, nobody bounded."""
    named = table.filter(pc.is_valid(table["customer_id"]))
    net = pc.multiply(pc.cast(named["quantity"], pa.float64()), named["unit_price"])
    week = pc.floor_temporal(named["invoice_ts"], unit="week")
    columns = named.append_column("net", net).append_column("week", week)
    found = columns.group_by(["country", "week"]).aggregate([("invoice", "count_distinct"), ("net", "sum")])
    return found.rename_columns({"invoice_count_distinct": "orders", "net_sum": "net"})


def _rows(answer: Release, exact: pa.Table) -> Iterator[Row]:
    truth = {(row["country"], str(row["week"])[:10]): row for row in exact.to_pylist()}
    totals: dict[str, int] = {}
    for (country, _), row in truth.items():
        totals[country] = totals.get(country, 0) + int(row["orders"])
    found: dict[tuple[int, str], list[float]] = {}
    for row in answer.rows():
        true = truth.get((row["country"], str(row["week"])[:10]))
        if true is None:
            continue
        size = next(number for number, (least, _) in enumerate(SIZES) if totals[row["country"]] >= least)
        for measure in ("orders", "net"):
            if true[measure] > 0:
                found.setdefault((size, measure), []).append(
                    abs(row[measure] - true[measure]) / true[measure]
                )
    for (size, measure), errors in sorted(found.items()):
        yield Row(
            suite="sandbox",
            case=f"Online Retail, {measure} by country and week, countries of {SIZES[size][1]}",
            measured=round(100 * float(np.median(errors)), 1),
            unit="% median relative error",
            note=f"epsilon {EPSILON}, delta {DELTA} for both columns and all groups; {len(errors)} groups; noise and bounding together",
        )
