"""Answers without noise are what plain Python says, and bounds cut off what they say they do."""

import math
import statistics
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dayfly.privacy.sandbox import Sandbox, calendar_keys, col

from ...oracles import dp_answers as oracle
from .support import orders, sandbox_over

TABLE = orders()
ROWS = oracle.rows_of(TABLE)
COUNTRIES = ["Germany", "France", "Italy"]


@pytest.fixture
def sandbox(tmp_path: Path) -> Sandbox:
    return sandbox_over(tmp_path, TABLE)


def by(table: pa.Table, *keys: str) -> dict[Any, dict[str, Any]]:
    return {
        tuple(row[key] for key in keys) if len(keys) > 1 else row[keys[0]]: row for row in table.to_pylist()
    }


def test_counts_and_sums_of_known_groups(sandbox: Sandbox) -> None:
    query = (
        sandbox.query("orders")
        .where((col("quantity") > 0) & ~col("invoice").starts_with("C"))
        .derive(net=col("quantity") * col("price"))
        .group_by("country", keys=COUNTRIES)
        .bound(groups_per_customer=3, rows_per_group=100)
        .count()
        .customers()
        .sum("net", lower=-5, upper=60)
        .sum("quantity", lower=0, upper=10_000)
    )
    rows = oracle.derived(
        oracle.kept(ROWS, "quantity > 0 and not invoice.starts_with('C')"), net="quantity * price"
    )
    wanted = oracle.groups(rows, lambda row: row["country"])
    table = query.release(epsilon=1).table
    assert table["country"].to_pylist() == COUNTRIES
    for country, row in by(table, "country").items():
        mine = wanted.get(country, [])
        assert row["count"] == len(mine)
        assert row["customers"] == len({one["customer"] for one in mine})
        assert row["quantity_sum"] == sum(oracle.values(mine, "quantity"))
        assert row["net_sum"] == pytest.approx(oracle.clamped_total(mine, "net", -5, 60), abs=1e-4)


def test_rows_without_a_value_count_as_rows_and_add_nothing(sandbox: Sandbox) -> None:
    """The one pass over prices would leave rows without a price out of the count."""
    release = (
        sandbox.query("orders")
        .bound(rows_per_group=400)
        .sum("price", lower=0, upper=10**4)
        .count()
        .release(epsilon=1)
    )
    assert release.value("count") == len(ROWS)
    assert release.value("price_sum") == pytest.approx(math.fsum(oracle.values(ROWS, "price")), abs=1e-2)
    assert len(oracle.values(ROWS, "price")) < len(ROWS)


def test_means_and_variances_are_over_rows_that_have_a_value(sandbox: Sandbox) -> None:
    query = sandbox.query("orders").bound(rows_per_group=400)
    release = query.mean("price", lower=1, upper=9).variance("price", lower=1, upper=9).release(epsilon=1)
    values = [min(max(one, 1.0), 9.0) for one in oracle.values(ROWS, "price")]
    assert release.value("price_mean") == pytest.approx(statistics.fmean(values), abs=1e-5)
    assert release.value("price_variance") == pytest.approx(statistics.pvariance(values), abs=1e-4)


@pytest.mark.parametrize(("bins", "size"), [(16, 30 / 16), (256, 30 / 256), (4096, 30 / 4096)])
def test_quantiles_are_right_to_one_bin(sandbox: Sandbox, bins: int, size: float) -> None:
    asked = [0.05, 0.25, 0.5, 0.9]
    release = (
        sandbox.query("orders")
        .bound(rows_per_group=400)
        .quantiles("price", asked, lower=0, upper=30, bins=bins)
        .release(epsilon=1)
    )
    values = sorted(oracle.values(ROWS, "price"))
    for quantile in asked:
        rank = math.ceil(quantile * len(values)) - 1
        assert release.value(f"price_quantile_{quantile:g}") == pytest.approx(values[rank], abs=size)


def test_a_histogram_over_bins_closes_the_last_one(tmp_path: Path) -> None:
    data = {"customer": np.arange(7), "v": np.array([0.0, 0.5, 1.0, 2.0, 2.5, -0.1, np.nan])}
    query = sandbox_over(tmp_path, data).query("orders").bound(groups_per_customer=2, rows_per_group=1)
    table = query.histogram("v", edges=[0, 1, 2, "2.5"]).release(epsilon=1).table
    assert dict(zip(table["v"].to_pylist(), table["count"].to_pylist(), strict=True)) == {
        "[0, 1)": 2,
        "[1, 2)": 1,
        "[2, 2.5]": 2,
    }


def test_groups_of_several_columns_and_of_time(sandbox: Sandbox) -> None:
    query = (
        sandbox.query("orders")
        .derive(month=col("at").truncate("month"))
        .group_by("month", keys=["2010-12-01", "2011-01-01"])
        .group_by("new", keys=[True, False])
        .bound(groups_per_customer=4, rows_per_group=100)
        .count()
    )
    found = by(query.release(epsilon=1).table, "month", "new")
    wanted = oracle.groups(
        ROWS, lambda row: (row["at"].replace(day=1, hour=0, minute=0, second=0, microsecond=0), row["new"])
    )
    assert len(found) == 4
    for key, row in found.items():
        assert row["count"] == len(wanted.get(key, []))


def test_unknown_keys_are_shown_from_the_threshold_on_and_in_their_own_order(tmp_path: Path) -> None:
    customers = np.arange(300)
    country = np.array(["Z"] * 150 + ["A"] * 140 + ["rare"] * 10)
    sandbox = sandbox_over(tmp_path, {"customer": customers, "country": country})
    query = (
        sandbox.query("orders")
        .group_by("country")
        .bound(groups_per_customer=1, rows_per_group=1)
        .customers()
        .count()
    )
    threshold = query.preview(epsilon=1, delta="1e-6").key_threshold
    assert 10 < threshold < 140
    table = query.release(epsilon=1, delta="1e-6").table
    assert table.select(["country", "customers", "count"]).to_pylist() == [
        {"country": "A", "customers": 140, "count": 140},
        {"country": "Z", "customers": 150, "count": 150},
    ]


def test_unknown_keys_of_several_columns_keep_their_values(sandbox: Sandbox) -> None:
    query = (
        sandbox.query("orders")
        .group_by("country")
        .group_by("new")
        .bound(groups_per_customer=6, rows_per_group=100)
        .count()
    )
    found = by(query.release(epsilon=1000, delta="0.1").table, "country", "new")
    wanted = oracle.groups(ROWS, lambda row: (row["country"], row["new"]))
    assert {key: row["count"] for key, row in found.items()} == {
        key: len(rows) for key, rows in wanted.items()
    }


def test_distinct_values_and_top_groups(sandbox: Sandbox) -> None:
    query = (
        sandbox.query("orders")
        .group_by("country", keys=["France", "Germany", "Spain"])
        .bound(groups_per_customer=3)
    )
    table = query.distinct("invoice", values_per_customer=100).top_k(2).release(epsilon=1).table
    wanted = {
        country: len({row["invoice"] for row in rows})
        for country, rows in oracle.groups(ROWS, lambda row: row["country"]).items()
    }
    best = sorted(wanted.values(), reverse=True)[:2]
    assert table["invoice_distinct"].to_pylist() == best
    assert [wanted[country] for country in table["country"].to_pylist()] == best


def test_per_customer_tables(sandbox: Sandbox) -> None:
    query = (
        sandbox.query("orders")
        .where("quantity > 0")
        .per_customer(
            orders=("distinct", "invoice"),
            lines="rows",
            spent=("sum", "price"),
            mean=("mean", "price"),
            least=("min", "quantity"),
            most=("max", "price"),
        )
        .where("lines > 3")
    )
    rows = oracle.per_customer(
        oracle.kept(ROWS, "quantity > 0"),
        (),
        {
            "orders": lambda mine: len({row["invoice"] for row in mine}),
            "lines": len,
            "spent": lambda mine: sum(oracle.values(mine, "price")),
            "mean": lambda mine: (
                statistics.fmean(oracle.values(mine, "price")) if oracle.values(mine, "price") else None
            ),
            "least": lambda mine: min(oracle.values(mine, "quantity")),
            "most": lambda mine: max(oracle.values(mine, "price"), default=None),
        },
    )
    rows = [row for row in rows if row["lines"] > 3]
    bounded = query.count()
    for name in ("orders", "lines", "spent", "mean", "least", "most"):
        bounded = bounded.sum(name, lower=0, upper=1000)
    release = bounded.release(epsilon=1)
    assert release.value("count") == len(rows)
    for name in ("orders", "lines", "spent", "mean", "least", "most"):
        assert release.value(f"{name}_sum") == pytest.approx(math.fsum(oracle.values(rows, name)), abs=1e-3)


def test_per_customer_tables_may_be_kept_apart_by_a_key(sandbox: Sandbox) -> None:
    query = (
        sandbox.query("orders")
        .per_customer(by=["country"], lines="rows")
        .where("lines >= 4")
        .group_by("country", keys=["Spain"])
    )
    release = query.bound(groups_per_customer=1, rows_per_group=1).count().release(epsilon=1)
    rows = oracle.per_customer(ROWS, ("country",), {"lines": len})
    assert release.value("count") == sum(row["country"] == "Spain" and row["lines"] >= 4 for row in rows)


@pytest.mark.parametrize("method", ["uniform", "first_come"])
def test_bounds_cut_off_what_they_say(sandbox: Sandbox, method: Any) -> None:
    query = sandbox.query("orders").group_by("country", keys=["France", "Germany", "Spain"])
    release = (
        query.bound(groups_per_customer=1, rows_per_group=2, method=method)
        .count()
        .customers()
        .release(epsilon=1)
    )
    assert sum(release.table["customers"].to_pylist()) == len({row["customer"] for row in ROWS})
    per_pair = oracle.per_customer(ROWS, ("country",), {"lines": len})
    least = sum(
        min(2, *(row["lines"] for row in per_pair if row["customer"] == who))
        for who in {row["customer"] for row in ROWS}
    )
    most = sum(
        max(min(row["lines"], 2) for row in per_pair if row["customer"] == who)
        for who in {row["customer"] for row in ROWS}
    )
    assert least <= sum(release.table["count"].to_pylist()) <= most


def test_rows_per_group_cuts_each_customer(sandbox: Sandbox) -> None:
    release = sandbox.query("orders").bound(rows_per_group=3).count().release(epsilon=1)
    assert release.value() == oracle.counted(ROWS, 3)


def test_each_release_samples_anew(sandbox: Sandbox) -> None:
    query = (
        sandbox.query("orders")
        .group_by("country", keys=["France", "Germany", "Spain"])
        .bound(groups_per_customer=1)
        .customers()
    )
    answers = {tuple(query.release(epsilon=1).table["customers"].to_pylist()) for _ in range(6)}
    assert len(answers) > 1


def test_rows_without_a_customer_are_left_out(tmp_path: Path) -> None:
    table = pa.table({"customer": pa.array(["a", None, "b", "a"]), "v": [1, 10, 100, 1000]})
    release = (
        sandbox_over(tmp_path, table)
        .query("orders")
        .customers()
        .sum("v", lower=0, upper=10**5)
        .release(epsilon=1)
    )
    assert (release.value("customers"), release.value("v_sum")) == (2, 1101)


def test_an_empty_table_answers_zero(tmp_path: Path) -> None:
    table = orders(5).slice(0, 0)
    query = (
        sandbox_over(tmp_path, table)
        .query("orders")
        .group_by("country", keys=["France"])
        .bound(groups_per_customer=1, rows_per_group=1)
    )
    release = (
        query.count()
        .sum("price", lower=0, upper=1)
        .quantiles("price", [0.5], lower=0, upper=8)
        .distinct("invoice", values_per_customer=2)
    )
    row = next(release.release(epsilon=1).rows())
    assert (row["count"], row["price_sum"], row["price_quantile_0.5"], row["invoice_distinct"]) == (
        0,
        0,
        4.0,
        0,
    )
    unknown = (
        sandbox_over_again(tmp_path, table)
        .query("orders")
        .group_by("country")
        .bound(groups_per_customer=1)
        .customers()
    )
    assert unknown.release(epsilon=1, delta="1e-6").table.num_rows == 0


def sandbox_over_again(folder: Path, table: pa.Table) -> Sandbox:
    (folder / "again").mkdir()
    return sandbox_over(folder / "again", table)


def test_arrow_parquet_and_numpy_are_one_source(tmp_path: Path) -> None:
    table = orders(60).drop_columns(["quantity", "at"])
    pq.write_table(table.slice(0, 25), tmp_path / "one.parquet")
    pq.write_table(table.slice(25), tmp_path / "two.parquet", row_group_size=7)
    sources = {
        "arrow": table,
        "parquet": [tmp_path / "one.parquet", str(tmp_path / "two.parquet")],
        "numpy": {name: table[name].to_numpy() for name in table.column_names},
    }
    answers = []
    for name, data in sources.items():
        (tmp_path / name).mkdir()
        sandbox = sandbox_over(tmp_path / name, data)
        query = (
            sandbox.query("orders")
            .group_by("country", keys=COUNTRIES)
            .bound(groups_per_customer=2, rows_per_group=3)
        )
        answers.append(
            query.count()
            .sum("price", lower=0, upper=30)
            .distinct("invoice", values_per_customer=4)
            .release(epsilon=1)
            .table
        )
    assert answers[0].equals(answers[1])
    assert answers[0].equals(answers[2])


def test_calendar_keys_name_the_weeks_of_a_truncated_time(sandbox: Sandbox) -> None:
    first, last = min(row["at"] for row in ROWS), max(row["at"] for row in ROWS)
    weeks = calendar_keys("week", first, last)
    query = sandbox.query("orders").derive(week=col("at").truncate("week")).group_by("week", keys=weeks)
    table = query.bound(groups_per_customer=len(weeks), rows_per_group=100).count().release(epsilon=1).table
    assert sum(table["count"].to_pylist()) == len(ROWS)


def test_one_pass_over_the_rows_serves_count_and_sum(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from dayfly.privacy import bounding
    from dayfly.privacy.sandbox import answering

    passes: list[int] = []
    real = bounding.bounded_group_by

    def counted(*arguments: Any, **options: Any) -> Any:
        passes.append(1)
        return real(*arguments, **options)

    monkeypatch.setattr(answering, "bounded_group_by", counted)
    table = orders(50).drop_columns(["price"])
    table = table.append_column("price", pa.array(np.arange(50.0)))
    query = sandbox_over(tmp_path, table).query("orders").bound(rows_per_group=5)
    query.count().customers().sum("price", lower=0, upper=9).release(epsilon=1)
    assert len(passes) == 1


def test_dense_integers_are_sampled_as_any_other_key(tmp_path: Path) -> None:
    """They are their own codes; one row without a customer makes them be encoded. The sample is the same."""
    answers = []
    for name, extra in (("dense", 0), ("encoded", None)):
        (tmp_path / name).mkdir()
        customers = pa.array([*TABLE["customer"].to_pylist(), extra], pa.int64())
        data = pa.table({"customer": customers, "country": [*TABLE["country"].to_pylist(), None]})
        query = sandbox_over(tmp_path / name, data).query("orders").group_by("country", keys=COUNTRIES)
        answers.append(
            query.bound(groups_per_customer=1, rows_per_group=2).customers().count().release(epsilon=1).table
        )
    assert answers[0].equals(answers[1])


def test_customers_beside_counts_take_nothing_from_them(sandbox: Sandbox) -> None:
    """Customers need no rows per group; their pass over the rows must not be taken for one that counts rows."""
    release = sandbox.query("orders").bound(rows_per_group=400).customers().count().release(epsilon=1)
    assert (release.value("customers"), release.value("count")) == (
        len({row["customer"] for row in ROWS}),
        len(ROWS),
    )
