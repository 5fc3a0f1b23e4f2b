"""Pictures of answers: a bar per group with its interval, a line over time; and what happens without the extra."""

import sys
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dayfly.privacy.errors import InvalidQuery, SandboxError
from dayfly.privacy.sandbox import calendar_keys, col

from .support import orders, sandbox_over


def test_a_bar_per_group_with_its_interval(tmp_path: Path) -> None:
    query = (
        sandbox_over(tmp_path, orders())
        .query("orders")
        .group_by("country", keys=["France", "Spain", "Italy"])
    )
    release = query.bound(groups_per_customer=1, rows_per_group=5).count().customers().release(epsilon=1)
    (axes,) = release.plot("customers").axes
    bars: Any = axes.patches
    assert [bar.get_height() for bar in bars] == release.table["customers"].to_pylist()
    assert [label.get_text() for label in axes.get_xticklabels()] == ["France", "Spain", "Italy"]
    segments = axes.collections[0].get_segments()  # type: ignore[attr-defined]
    assert np.allclose([segment[1][1] for segment in segments], release.table["customers_high"].to_pylist())


def test_a_line_over_time_with_a_band(tmp_path: Path) -> None:
    weeks = calendar_keys("week", date(2010, 12, 1), date(2011, 2, 1))
    query = (
        sandbox_over(tmp_path, orders())
        .query("orders")
        .derive(week=col("at").truncate("week"))
        .group_by("week", keys=weeks)
    )
    release = query.bound(groups_per_customer=4, rows_per_group=5).count().release(epsilon=1)
    figure = release.plot()
    (axes,) = figure.axes
    assert np.size(axes.lines[0].get_ydata()) == len(weeks)
    assert len(axes.collections) == 1
    figure.savefig(tmp_path / "weeks.png")
    assert (tmp_path / "weeks.png").stat().st_size > 1000


def test_an_answer_without_groups_is_one_bar(tmp_path: Path) -> None:
    release = sandbox_over(tmp_path, orders()).query("orders").customers().release(epsilon=1)
    (axes,) = release.plot().axes
    assert len(axes.patches) == 1
    assert release.interval() == (
        release.table["customers_low"][0].as_py(),
        release.table["customers_high"][0].as_py(),
    )
    with pytest.raises(InvalidQuery, match="column='count' must be one of customers; choose one"):
        release.plot("count")
    with pytest.raises(InvalidQuery, match="column='count' must be one of customers in an answer of one row"):
        release.value("count")


def test_without_the_extra_the_way_out_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    release = sandbox_over(tmp_path, orders()).query("orders").customers().release(epsilon=1)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(SandboxError, match=r"run pip install 'dayfly\[plots\]'"):
        release.plot()
