"""Online Retail through the sandbox, without noise and with bounds that cut nothing, equals what Polars says of the same file."""

from datetime import date
from pathlib import Path

import polars as pl
import pytest

from dayfly.privacy.sandbox import Source, calendar_keys, col

from .support import sandbox_over

FILE = "online_retail/online_retail_2010_2011.parquet"
COUNTRIES = ["United Kingdom", "France", "Germany", "Norway"]


def test_weekly_revenue_and_orders_by_country(shared_data: Path, tmp_path: Path) -> None:
    weeks = calendar_keys("week", date(2010, 12, 1), date(2011, 12, 9))
    sandbox = sandbox_over(tmp_path, shared_data / FILE, customer="customer_id")
    query = (
        sandbox.query("orders")
        .derive(net=col("quantity") * col("unit_price"), week=col("invoice_ts").truncate("week"))
        .group_by("country", keys=COUNTRIES)
        .group_by("week", keys=weeks)
        .bound(groups_per_customer=200, rows_per_group=10_000)
        .count()
        .customers()
        .sum("net", lower=-(10**6), upper=10**6, step="0.01")
    )
    table = query.release(epsilon=1).table
    rows = pl.read_parquet(shared_data / FILE).filter(pl.col("customer_id").is_not_null())
    wanted = (
        rows.with_columns(
            net=(pl.col("quantity") * pl.col("unit_price") * 100).round() / 100,
            week=pl.col("invoice_ts").dt.truncate("1w").dt.cast_time_unit("ms"),
        )
        .filter(pl.col("country").is_in(COUNTRIES))
        .group_by("country", "week")
        .agg(pl.len(), pl.col("net").sum(), pl.col("customer_id").n_unique().alias("customers"))
    )
    exact = {(row["country"], row["week"]): row for row in wanted.to_dicts()}
    assert table.num_rows == len(COUNTRIES) * len(weeks)
    assert sum(table["count"].to_pylist()) == wanted["len"].sum()
    for row in table.to_pylist():
        truth = exact.get((row["country"], row["week"]), {"len": 0, "net": 0.0, "customers": 0})
        assert (row["count"], row["customers"]) == (truth["len"], truth["customers"])
        assert row["net_sum"] == pytest.approx(truth["net"], abs=0.02 * max(1, truth["len"] / 100))


def test_orders_per_customer_and_distinct_products(shared_data: Path, tmp_path: Path) -> None:
    sandbox = sandbox_over(tmp_path, shared_data / FILE, customer="customer_id")
    lasting = sandbox.query("orders").where(~col("invoice").starts_with("C"))
    release = (
        lasting.per_customer(orders=("distinct", "invoice"))
        .mean("orders", lower=0, upper=300)
        .release(epsilon=1)
    )
    rows = pl.read_parquet(shared_data / FILE).filter(
        pl.col("customer_id").is_not_null() & ~pl.col("invoice").str.starts_with("C")
    )
    orders = rows.group_by("customer_id").agg(pl.col("invoice").n_unique())["invoice"]
    assert release.value() == pytest.approx(orders.mean(), abs=1e-5)
    products = lasting.distinct("stock_code", values_per_customer=4096).release(epsilon=1)
    assert products.value() == rows["stock_code"].n_unique()


def test_the_schema_tells_no_customer(shared_data: Path) -> None:
    source = Source(shared_data / FILE, customer="customer_id")
    assert "customer_id" not in source.schema
    assert repr(source) == (
        "Source(invoice: text, stock_code: text, description: text, quantity: integer, invoice_ts: time, unit_price: number, "
        "country: text)"
    )
