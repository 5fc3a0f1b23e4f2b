"""`dayfly health`: what it prints, and its exit status."""

import json
import time
from pathlib import Path

import msgspec
import pytest

from dayfly.engine.cli import ExitCode
from dayfly.engine.health import HealthFile, HealthReport, write_health
from tests.engine.cli.support import dayfly

from .sample import HOSTILE, sample_channel, sample_history, sample_report, well


def now() -> int:
    return time.time_ns() // 1_000_000


def left(folder: Path, report: HealthReport) -> Path:
    write_health(folder, HealthFile(report=report, every_seconds=3_600.0, points=sample_history()))
    return folder


def test_a_healthy_engine_is_status_0(tmp_path: Path) -> None:
    result = dayfly("health", left(tmp_path, well(sample_report(at_ms=now()))))
    assert result.exit_code == ExitCode.OK
    assert "running, 0 s ago: 1,204,409 frames durable, log 70.0 MiB" in result.stdout
    assert "nothing needs attention" in result.stdout


def test_a_finding_is_status_1_with_the_way_out(tmp_path: Path) -> None:
    result = dayfly("health", left(tmp_path, sample_report(at_ms=now())))
    assert result.exit_code == ExitCode.NO
    assert "delivery_failing: crm-eu-1 got 77.0% of 5,600 due messages; look at the reasons" in result.stdout
    for shown in (
        "marketplace",
        "service.order",
        "19,705 minted = 803 alive",
        "61,220 of 61,220 lines checked",
    ):
        assert shown in result.stdout


def test_an_old_report_is_status_1(tmp_path: Path) -> None:
    report = well(sample_report(at_ms=now() - 4 * 3_600_000))
    result = dayfly("health", left(tmp_path, report))
    assert result.exit_code == ExitCode.NO
    assert "report_old: the last report is 14,400 s old, one is due every 3600 s" in result.stdout


def test_json_is_the_report_and_its_age(tmp_path: Path) -> None:
    report = sample_report(at_ms=now())
    result = dayfly("health", left(tmp_path, report), "--json")
    assert result.exit_code == ExitCode.NO
    printed = json.loads(result.stdout)
    assert msgspec.convert(printed["report"], HealthReport) == report
    assert 0 <= printed["age_seconds"] < 60
    assert printed["every_seconds"] == 3_600


def test_metrics_are_openmetrics_text(tmp_path: Path) -> None:
    result = dayfly("health", left(tmp_path, well(sample_report(at_ms=now()))), "--metrics")
    assert result.exit_code == ExitCode.OK
    assert result.stdout.startswith("# TYPE dayfly_engine stateset\n")
    assert result.stdout.endswith("# EOF\n")


def test_the_page_is_written_beside_what_is_printed(tmp_path: Path) -> None:
    page = tmp_path / "health.html"
    result = dayfly("health", left(tmp_path, well(sample_report(at_ms=now()))), "--html", page, "--metrics")
    assert result.exit_code == ExitCode.OK
    assert page.read_text().startswith("<!doctype html>")
    assert result.stdout.endswith("# EOF\n")


def test_names_are_printed_as_they_are(tmp_path: Path) -> None:
    report = sample_report(at_ms=now(), channels=(sample_channel(f"[red]{HOSTILE}", 10.0),))
    assert '[red]we"b\\<b>' in dayfly("health", left(tmp_path, report)).stdout


def test_a_folder_without_a_report_is_status_2(tmp_path: Path) -> None:
    result = dayfly("health", tmp_path)
    assert result.exit_code == ExitCode.BAD_INPUT
    assert "must hold health.json; give the folder of a store" in result.stderr


def test_two_forms_at_once_are_refused(tmp_path: Path) -> None:
    result = dayfly("health", tmp_path, "--json", "--metrics")
    assert result.exit_code == ExitCode.BAD_INPUT
    assert "json and metrics must not be given together; run the command twice" in result.stderr


@pytest.mark.parametrize("options", [(), ("--json",), ("--metrics",)])
def test_a_report_without_anything_unknown_or_empty_is_shown(
    tmp_path: Path, options: tuple[str, ...]
) -> None:
    channel = sample_channel(
        "app", 0.0001, expected=None, completeness=None, lateness_p99_ms=None, silent_ms=None, fields=()
    )
    empty = well(sample_report(at_ms=now(), channels=(channel,), audiences=(), endpoints=(), budgets={}))
    assert dayfly("health", left(tmp_path, empty), *options).exit_code == ExitCode.OK
