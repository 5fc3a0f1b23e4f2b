"""The bench of durable commits: everybody commits the same batches, and a peer that is not installed is named."""

from importlib.util import find_spec
from pathlib import Path

import pytest

from dayfly.bench import commit_case
from dayfly.bench.rows import Row


def test_every_store_is_measured_as_often_and_beside_the_bare_write(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    found = commit_case._measure(3, rounds=5)
    assert {commit_case.BARE, commit_case.LOG, "append and fsync", "SQLite, WAL, FULL"} <= set(found)
    assert {len(seconds) for seconds in found.values()} == {5}
    assert all(seconds == sorted(seconds) for seconds in found.values())
    assert list(tmp_path.iterdir()) == []


def test_steady_rows_state_their_bars(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    assert commit_case._sustained(100, seconds=0.05).bar == ">= 100000 events/s"
    assert commit_case._open_loop(seconds=0.05).bar == "<= 10 ms"


def test_a_peer_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    if find_spec("lmdb") is not None:
        pytest.skip("LMDB is installed here")
    steady = Row(suite="durable", case="steady", measured=1.0, unit="ms")
    monkeypatch.setattr(commit_case, "_measure", lambda _events, rounds: {commit_case.BARE: [1e-4] * rounds})
    monkeypatch.setattr(commit_case, "_sustained", lambda _events, seconds: steady)
    monkeypatch.setattr(commit_case, "_open_loop", lambda seconds: steady)
    rows = commit_case.run(quick=True)
    assert [row.case for row in rows if row.peer == "LMDB"] == ["commit"]
    assert rows[0].case == "bare O_DSYNC write: commit of 1 event"
    assert rows[0].measured == 10_000
