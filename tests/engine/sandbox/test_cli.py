"""`dayfly sandbox`: from an empty ledger to an answer, a picture and an exhausted budget, all from the shell."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.engine.cli.support import dayfly

QUERY = """
query:
  source: orders
  steps: [{step: where, condition: quantity > 0}]
  group_by: [{column: country, keys: [France, Spain]}]
  bound: {groups_per_customer: 2, rows_per_group: 4}
  measures: [{measure: count}, {measure: sum, column: quantity, lower: 0, upper: 20}]
budget: {epsilon: 0.5}
"""


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "query.yaml").write_text(QUERY)
    rows = {
        "customer_id": [f"u{number % 60}" for number in range(300)],
        "country": ["France", "Spain", "France"] * 100,
        "quantity": [number % 5 for number in range(300)],
    }
    pq.write_table(pa.table(rows), tmp_path / "orders.parquet")
    for scope, name in (("data_set", "orders"), ("analyst", "ann"), ("purpose", "marketing")):
        made = dayfly(
            "sandbox", "account", tmp_path / "budget.db", "--scope", scope, "--name", name, "--epsilon", 1
        )
        assert made.exit_code == 0, made.output
    return tmp_path


def asked(command: str, place: Path, *more: object, ledger: str = "budget.db") -> Any:
    return dayfly(
        "sandbox",
        command,
        place / "query.yaml",
        "--ledger",
        place / ledger,
        "--analyst",
        "ann",
        "--purpose",
        "marketing.analytics",
        "--table",
        f"orders={place / 'orders.parquet'}",
        *more,
    )


def test_a_query_is_answered_until_the_budget_is_spent(place: Path) -> None:
    first = asked("query", place, "--json", "--plot", place / "answer.png")
    assert first.exit_code == 0, first.output
    told = json.loads(first.stdout)
    assert [row["country"] for row in told["rows"]] == ["France", "Spain"]
    assert told["loss"]["epsilon"] == "0.5"
    assert {one["left"] for one in told["remaining"]} == {"0.5"}
    assert (place / "answer.png").read_bytes().startswith(b"\x89PNG")
    second = asked("query", place)
    assert second.exit_code == 0, second.output
    assert "France" in second.stdout
    assert "count" in second.stdout
    third = asked("query", place)
    assert third.exit_code == 1
    assert "must be <= 0, which is left of the account" in third.stderr


def test_preview_and_explain_spend_nothing(place: Path) -> None:
    (place / "workload.json").write_text(
        '{"customers": 60, "groups_per_customer": {"1": 1, "2": 3}, "rows_per_group": {"4": 1}}'
    )
    seen = json.loads(asked("preview", place, "--json", "--workload", place / "workload.json").stdout)
    assert [one["name"] for one in seen["columns"]] == ["count", "quantity_sum"]
    assert seen["columns"][0]["bias"] == pytest.approx(0)
    assert "relative" in asked("preview", place).stdout
    told = json.loads(asked("explain", place, "--json", "--epsilon", 2).stdout)
    assert told["epsilon"] == "2"
    assert next((one["l1_units"], one["mechanism"]) for one in told["parts"]) == (8, "laplace")
    assert "one customer changes L0 2" in asked("explain", place).stdout
    accounts = json.loads(dayfly("sandbox", "budget", place / "budget.db", "--json").stdout)["accounts"]
    assert [(one["scope"], one["name"], one["spent"], one["left"]) for one in accounts] == [
        ("analyst", "ann", "0", "1"),
        ("data_set", "orders", "0", "1"),
        ("purpose", "marketing", "0", "1"),
    ]


def test_budgets_are_shown_as_a_table_and_amended(place: Path) -> None:
    asked("query", place)
    table = dayfly("sandbox", "budget", place / "budget.db").stdout
    assert "analyst ann" in table
    assert "##########.........." in table
    more = dayfly(
        "sandbox",
        "account",
        place / "budget.db",
        "--scope",
        "analyst",
        "--name",
        "ann",
        "--epsilon",
        3,
        "--amend",
        "--json",
    )
    assert json.loads(more.stdout)["accounts"][0]["limit"] == "3"
    other = dayfly(
        "sandbox", "account", place / "budget.db", "--scope", "analyst", "--name", "ann", "--epsilon", 4
    )
    assert other.exit_code == 2
    assert "call amend" in other.stderr


@pytest.mark.parametrize(
    ("more", "told"),
    [
        (["--table", "orders"], "table='orders' must be NAME=FILE"),
        (["--table", "orders=nowhere.parquet"], "nowhere.parquet"),
        (["--customer", "who"], "customer='who' must be a column"),
        (["--epsilon", "0"], "epsilon=0.0 must be > 0"),
        (["--store", "store"], "one of them; choose one"),
    ],
)
def test_bad_input_is_told_and_spends_nothing(place: Path, more: list[str], told: str) -> None:
    found = asked("query", place, *more)
    assert found.exit_code == 2
    assert told in found.stderr
    accounts = json.loads(dayfly("sandbox", "budget", place / "budget.db", "--json").stdout)["accounts"]
    assert {one["spent"] for one in accounts} == {"0"}


def test_a_ledger_that_is_not_there_is_not_made_by_asking(place: Path) -> None:
    found = asked("query", place, ledger="other.db")
    assert found.exit_code == 2
    assert "other.db" in found.stderr
    assert not (place / "other.db").exists()


def test_a_store_needs_its_keys(place: Path) -> None:
    arguments = [
        "--ledger",
        place / "budget.db",
        "--analyst",
        "ann",
        "--purpose",
        "marketing",
        "--store",
        place / "store",
    ]
    found = dayfly("sandbox", "query", place / "query.yaml", *arguments)
    assert found.exit_code == 2
    assert "keys=<none> must be given with --store" in found.stderr
