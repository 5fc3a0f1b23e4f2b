"""Rows, suites, exit codes, the JSON file and the README's table."""

import json
from io import StringIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from dayfly.bench import cli, report, suites
from dayfly.bench.environment import machine, versions
from dayfly.bench.errors import BadRow, MarkersMissing, UnknownSuite
from dayfly.bench.rows import Header, Report, Row, at_least, at_most, missing_peer, row_of

HEADER = Header(
    date="2026-11-22T10:00:00+00:00", machine="a machine", load=1.5, versions={"python": "3.11.7"}, quick=True
)
GOOD = Row(suite="realtime", case="fast", measured=12_345.6, unit="events/s", bar=">= 10 events/s")
BAD = Row(
    suite="realtime",
    case="slow|case",
    measured=3.25,
    unit="us",
    peer="dict",
    ratio=3.25,
    bar=3.0,
    holds=False,
)


def _with_cases(monkeypatch: pytest.MonkeyPatch, *rows: object) -> None:
    monkeypatch.setattr(suites, "SUITES", {"realtime": ("some_case",)})
    module = SimpleNamespace(run=lambda *, quick: list(rows) if quick else [])
    monkeypatch.setattr(suites, "import_module", lambda name: {"dayfly.bench.some_case": module}[name])


@pytest.mark.parametrize(
    ("value", "least", "most"), [(2.0, False, True), (3.0, True, True), (4.0, True, False)]
)
def test_a_bar_holds_at_the_bar_itself(value: float, *, least: bool, most: bool) -> None:
    assert at_least(value, 3.0, "x") == {"bar": ">= 3 x", "holds": least}
    assert at_most(value, 3.0, "x") == {"bar": "<= 3 x", "holds": most}


def test_rows_of_cases_written_as_mappings_are_taken() -> None:
    values: dict[str, Any] = {
        "suite": "s",
        "case": "c",
        "measured": 1,
        "unit": "us",
        "bar": 3.0,
        "holds": True,
    }
    assert row_of(values) == Row(suite="s", case="c", measured=1.0, unit="us", bar=3.0)


@pytest.mark.parametrize("change", [{"measured": "fast"}, {"speed": 1}, {"holds": "yes"}])
def test_something_that_is_no_row_is_refused(change: dict[str, Any]) -> None:
    values: dict[str, Any] = {"suite": "s", "case": "c", "measured": 1, "unit": "us"}
    with pytest.raises(BadRow, match=r"row='c' must have the fields of Row \(.*\); correct the case"):
        row_of(values | change)


def test_a_missing_peer_is_named_and_holds_no_bar() -> None:
    row = missing_peer("realtime", "c", "redis", "start a server")
    assert (row.measured, row.bar, row.holds) == (None, None, True)
    assert row.note == "redis is not installed; start a server"
    assert cli.figure(row) == "not measured"


def test_all_means_every_suite() -> None:
    assert suites.suites_of("all") == tuple(suites.SUITES)
    assert suites.suites_of("realtime") == ("realtime",)


def test_an_unknown_suite_is_refused_with_the_known_ones() -> None:
    with pytest.raises(
        UnknownSuite,
        match="suite='fast' must be one of realtime, durable, sandbox, federation, all; pass one of these",
    ):
        suites.suites_of("fast")


def test_every_case_of_a_suite_is_a_module_that_can_run() -> None:
    folder = Path(suites.__file__).parent
    for cases in suites.SUITES.values():
        for case in cases:
            assert "\ndef run(*, quick: bool" in (folder / f"{case}.py").read_text(encoding="utf-8")


def test_the_command_ends_with_one_when_a_bar_does_not_hold(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _with_cases(monkeypatch, GOOD, BAD)
    assert cli.main(["realtime", "--quick"]) == 1
    assert "slow|case" in capsys.readouterr().out


def test_the_command_ends_with_zero_when_all_bars_hold(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    _with_cases(monkeypatch, GOOD, {"suite": "realtime", "case": "c", "measured": 1, "unit": "us"})
    target = tmp_path / "new" / "rows.json"
    assert cli.main(["all", "--quick", "--json", str(target)]) == 0
    written = json.loads(target.read_text(encoding="utf-8"))
    assert [row["case"] for row in written["rows"]] == ["fast", "c"]
    assert set(written["rows"][0]) == set(Row.__struct_fields__)
    assert written["header"]["quick"] is True
    assert set(written["header"]["versions"]) >= {"python", "numpy", "numba", "dayfly"}


def test_an_unknown_suite_on_the_command_line_ends_with_two(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["fast"]) == 2
    assert "must be one of" in capsys.readouterr().err


def test_without_quick_the_long_form_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    _with_cases(monkeypatch, BAD)
    assert cli.main(["realtime"]) == 0


def test_a_package_that_is_not_installed_is_named_as_missing() -> None:
    assert versions(("no-such-package",))["no-such-package"] == "missing"


def test_the_machine_is_described_without_its_name() -> None:
    assert "cores" in machine()
    assert "GiB" in machine()


def test_the_table_shows_figures_bars_and_verdicts() -> None:
    console = Console(width=200, record=True, file=StringIO())
    cli.show(Report(header=HEADER, rows=(GOOD, BAD)), console)
    shown = console.export_text()
    for text in ("12,346 events/s", ">= 10 events/s", "yes", "3.25 us", "<= 3 x", "no", "a machine"):
        assert text in shown


def test_the_readme_table_is_written_between_the_markers(tmp_path: Path) -> None:
    results, page = tmp_path / "r.json", tmp_path / "README.md"
    cli.write_json(Report(header=HEADER, rows=(GOOD, BAD)), results)
    page.write_text(f"# Dayfly\n\n{report.BEGIN}\n9 us\n{report.END}\n\nend\n", encoding="utf-8")
    assert report.main([str(page), str(results)]) == 0
    written = page.read_text(encoding="utf-8")
    assert "| fast | 12,346 events/s |  |  | >= 10 events/s | yes |" in written
    assert "| slow\\|case | 3.25 us | dict | 3.25 | <= 3 x | no |" in written
    assert "Measured 2026-11-22 on a machine (load average 1.5, quick form): python 3.11.7." in written
    assert "9 us" not in written
    assert written.startswith("# Dayfly\n")
    assert written.endswith("end\n")
    assert report.main([str(page), str(results)]) == 0
    assert page.read_text(encoding="utf-8") == written


@pytest.mark.parametrize(
    "page", ["", report.BEGIN, f"{report.END} {report.BEGIN}", f"{report.BEGIN * 2}{report.END}"]
)
def test_a_page_without_both_markers_is_refused(page: str) -> None:
    with pytest.raises(MarkersMissing, match=r"must hold .* once; add the lines"):
        report.replaced(page, "table")


def test_the_table_writer_wants_a_page_and_results(capsys: pytest.CaptureFixture[str]) -> None:
    assert report.main(["README.md"]) == 2
    assert "usage" in capsys.readouterr().err
