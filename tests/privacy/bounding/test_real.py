"""Online Retail 2010-11: with bounds that bind nobody the answer is Polars' own, with bounds that bind it is a dictionary's."""

import os
from fractions import Fraction
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from dayfly.privacy.bounding import Bounded, Contribution, Lattice, Partial, encode

SALT = b"online retail..."
CENTS = Lattice(Fraction(1, 100))
EVERYTHING = Contribution(1_000, 10**6, -(2**32), 2**32)


@pytest.fixture(scope="module")
def orders(shared_data: Path) -> pl.DataFrame:
    path = shared_data / "online_retail" / "online_retail_2010_2011.parquet"
    if not path.is_file():
        pytest.skip("Online Retail is not among the public data sets here")
    rows = 20_000 if os.environ.get("NUMBA_DISABLE_JIT") == "1" else None
    return pl.read_parquet(path, n_rows=rows).with_columns(
        net=pl.col("quantity") * pl.col("unit_price"), week=pl.col("invoice_ts").dt.truncate("1w").dt.date()
    )


def totals(bounded: Bounded) -> dict[tuple[Any, ...], tuple[int, int, int]]:
    assert bounded.keys is not None
    keys = zip(*(column.to_pylist() for column in bounded.keys.columns), strict=True)
    numbers = (bounded.counts.tolist(), bounded.sums.tolist(), bounded.customers.tolist())
    return dict(zip(keys, zip(*numbers, strict=True), strict=True))


@pytest.mark.parametrize("groups", [["country"], ["country", "week"]])
def test_bounds_that_bind_nobody_give_the_plain_answer(orders: pl.DataFrame, groups: list[str]) -> None:
    cents = (pl.col("net") * 100).round().cast(pl.Int64)
    plain = (
        orders.filter(pl.col("customer_id").is_not_null())
        .group_by(groups)
        .agg(pl.len(), cents.sum().alias("cents"), pl.col("customer_id").n_unique())
    )
    expected = {row[: len(groups)]: row[len(groups) :] for row in plain.iter_rows()}

    columns = encode(orders, customer="customer_id", groups=groups, value="net", lattice=CENTS)

    assert totals(columns.group_by(EVERYTHING, salt=SALT)) == expected
    assert totals(columns.group_by(EVERYTHING, method="first_come", salt=SALT)) == expected


def test_first_come_is_what_a_dictionary_keeps(orders: pl.DataFrame) -> None:
    bounds = Contribution(3, 2, -500, 2_000)
    kept: dict[int, dict[Any, list[int]]] = {}
    some = orders.filter(pl.col("customer_id").is_not_null()).head(60_000)
    cents = (some["net"] * 100).round().cast(pl.Int64).to_list()
    for who, week, paid in zip(some["customer_id"].to_list(), some["week"].to_list(), cents, strict=True):
        mine = kept.setdefault(who, {})
        if week in mine or len(mine) < 3:
            mine.setdefault(week, []).append(paid)
    expected: dict[tuple[Any, ...], tuple[int, int, int]] = {}
    for mine in kept.values():
        for week, paid in mine.items():
            count, total, people = expected.get((week,), (0, 0, 0))
            expected[week,] = (
                count + min(len(paid), 2),
                total + min(max(sum(paid), -500), 2_000),
                people + 1,
            )

    columns = encode(some, customer="customer_id", groups=["week"], value="net", lattice=CENTS)

    assert totals(columns.group_by(bounds, method="first_come", salt=SALT)) == expected


def test_months_merged_backwards_are_the_year(orders: pl.DataFrame) -> None:
    bounds = Contribution(2, 3, 0, 10_000)
    whole = encode(orders, customer="customer_id", groups=["country", "week"], value="net", lattice=CENTS)
    months = orders.with_columns(month=pl.col("invoice_ts").dt.month()).partition_by("month")
    merged = Partial(bounds, salt=SALT, lattice=CENTS)
    for month in reversed(months):
        piece = Partial(bounds, salt=SALT, lattice=CENTS)
        piece.add(
            encode(month, customer="customer_id", groups=["country", "week"], value="net", lattice=CENTS)
        )
        merged.merge(piece)

    assert totals(merged.finish()) == totals(whole.group_by(bounds, salt=SALT))
