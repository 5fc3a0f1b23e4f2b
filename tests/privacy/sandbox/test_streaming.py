"""Running totals of a query: paid once, right at every step, resumed without paying, bounded for every customer."""

from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from dayfly.privacy.errors import BudgetExceeded, InvalidQuery, StreamEnded
from dayfly.privacy.sandbox import Sandbox

from .support import sandbox_over

ROWS = pa.table({"customer": ["a", "b", "a"], "k": ["x", "x", "y"], "v": [1.5, 2.0, 10.0]})


def sandbox_of(folder: Path, rho: str = "1") -> Sandbox:
    return sandbox_over(folder, ROWS.slice(0, 0), rho=Fraction(rho))


def counts(sandbox: Sandbox) -> Any:
    return (
        sandbox.query("orders")
        .group_by("k", keys=["x", "y", "z"])
        .bound(groups_per_customer=2, rows_per_group=1)
        .count()
    )


def test_totals_run_and_the_stream_is_paid_once(tmp_path: Path) -> None:
    sandbox = sandbox_of(tmp_path)
    with counts(sandbox).continual(tmp_path / "stream", rho="0.5", length=16, steps_per_customer=2) as stream:
        first = stream.advance(0, ROWS)
        second = stream.advance(1, ROWS.slice(0, 2))
        again = stream.advance(1, ROWS)
    assert first["k"].to_pylist() == ["x", "y", "z"]
    assert np.allclose(first["count"], [2, 1, 0], atol=1e-3)
    assert np.allclose(second["count"], [4, 1, 0], atol=1e-3)
    assert again.equals(second)
    (spending,) = sandbox._ledger.history()
    assert spending.what.startswith("stream of 16 steps of query ")
    assert Fraction("0.4999") < spending.cost.rho <= Fraction("0.5")


def test_a_stream_is_resumed_without_paying(tmp_path: Path) -> None:
    sandbox = sandbox_of(tmp_path, "0.5")
    with counts(sandbox).continual(tmp_path / "stream", rho="0.5", length=16, steps_per_customer=3) as stream:
        stream.advance(0, ROWS)
    with counts(sandbox).continual(tmp_path / "stream", rho="0.5", length=16, steps_per_customer=3) as stream:
        assert stream.step == 1
        assert np.allclose(stream.advance(1, ROWS)["count"], [4, 2, 0], atol=1e-3)
    assert len(sandbox._ledger.history()) == 1
    with pytest.raises(BudgetExceeded):
        counts(sandbox).continual(tmp_path / "other", rho="0.5", length=16)
    assert not (tmp_path / "other").exists()


def test_a_customer_counts_in_no_more_steps_than_were_priced(tmp_path: Path) -> None:
    """Texts and integers alike are known again in the next step, whatever else is in it."""
    for name, data in (
        ("texts", ROWS),
        ("integers", ROWS.set_column(0, "customer", pa.array([10**17, 5, 10**17]))),
    ):
        (tmp_path / name).mkdir()
        with counts(sandbox_of(tmp_path / name)).continual(
            tmp_path / name / "stream", rho="1", length=8
        ) as stream:
            stream.advance(0, data.slice(1, 1))
            found = stream.advance(1, data)
        assert np.allclose(found["count"], [2, 1, 0], atol=1e-3)


def test_sums_are_bounded_and_in_the_unit_of_the_column(tmp_path: Path) -> None:
    query = sandbox_of(tmp_path).query("orders").where("v > 1").sum("v", lower=0, upper=5, step="0.5")
    with query.continual(tmp_path / "stream", rho="1", length=4) as stream:
        found = stream.advance(0, ROWS)
    assert found["v_sum"][0].as_py() == pytest.approx(7.0, abs=1e-3)  # 5 of the 11.5 of a, and 2
    assert found["v_sum_low"][0].as_py() < 7.0 < found["v_sum_high"][0].as_py()


def test_streams_of_other_queries_and_terms_are_not_mixed_up(tmp_path: Path) -> None:
    sandbox = sandbox_of(tmp_path)
    counts(sandbox).continual(tmp_path / "stream", rho="0.1", length=4).close()
    for other in (
        {"rho": "0.2", "length": 4},
        {"rho": "0.1", "length": 8},
        {"rho": "0.1", "length": 4, "steps_per_customer": 2},
    ):
        with pytest.raises(InvalidQuery, match="must hold the stream of this query and these terms"):
            counts(sandbox).continual(tmp_path / "stream", **other)
    with pytest.raises(InvalidQuery, match="must hold the stream of this query"):
        counts(sandbox).where("v > 0").continual(tmp_path / "stream", rho="0.1", length=4)


def test_what_cannot_be_a_running_total_is_refused(tmp_path: Path) -> None:
    sandbox = sandbox_of(tmp_path)
    with pytest.raises(InvalidQuery, match="must have known keys, one measure and no top_k"):
        counts(sandbox).customers().continual(tmp_path / "stream", rho=1, length=4)
    with pytest.raises(InvalidQuery, match="must be a count, customers or a sum"):
        sandbox.query("orders").bound(rows_per_group=1).mean("v", lower=0, upper=1).continual(
            tmp_path / "stream", rho=1, length=4
        )
    with pytest.raises(InvalidQuery, match="steps_per_customer=0 must be a whole number"):
        counts(sandbox).continual(tmp_path / "stream", rho=1, length=4, steps_per_customer=0)
    with counts(sandbox).continual(tmp_path / "stream", rho=1, length=1) as stream:
        stream.advance(0, ROWS)
        with pytest.raises(StreamEnded):
            stream.advance(1, ROWS)
    assert "step 1 of 1" in repr(stream)
