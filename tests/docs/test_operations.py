"""What docs/operations.md promises is shown by tests that exist, and what it names is there."""

import ast
import re
from dataclasses import fields
from pathlib import Path

import pytest

from dayfly.engine.durable import EngineSettings
from dayfly.engine.errors import __all__ as engine_errors
from dayfly.engine.store import LogSettings
from dayfly.privacy.errors import __all__ as privacy_errors

from . import ROOT

PAGE = ROOT / "docs" / "operations.md"
SHOWN_BY = re.compile(r"\[([^]]+)\]\(\.\./(tests/[\w/]+\.py)\)")


def section(name: str) -> str:
    (found,) = re.findall(rf"^## {name}\n(.*?)(?=^## |\Z)", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    return str(found)


def rows(text: str) -> list[list[str]]:
    """Cells of a table's rows, without its head."""
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines[2:]]


GUARANTEES = rows(section("Guarantees"))


def test_there_are_guarantees() -> None:
    assert len(GUARANTEES) >= 20


@pytest.mark.parametrize("row", GUARANTEES, ids=lambda row: row[0][:60])
def test_the_test_that_shows_a_guarantee_exists(row: list[str]) -> None:
    promise, shown = row
    ((words, path),) = SHOWN_BY.findall(shown)
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    tests = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
    assert "test_" + words.replace(" ", "_") in tests
    assert promise[0].isupper()


def test_every_error_named_exists() -> None:
    named = set(re.findall(r"`((?:Store|Engine|Key|Backup|Feed)\w+)`", section("Trouble")))
    assert len(named) >= 9
    assert named - {"Engine", "EngineSettings"} - {*engine_errors, *privacy_errors} == set()


def test_every_setting_of_the_engine_and_log_named_exists_with_its_default() -> None:
    told = section("Tuning")
    names = {field.name: field.default for kind in (EngineSettings, LogSettings) for field in fields(kind)}
    first_cells = " ".join(row[0] for row in rows(told))
    named = re.findall(r"`(?:\w+\.)?(\w+)`(?: \(([^)]*)\))?", first_cells)
    assert len(named) >= 14
    assert [name for name, _ in named if name not in names] == []
    units = {"an hour": 3_600_000, "256 MiB": 256 << 20, "64 MiB": 64 << 20, "on": True}
    for name, shown in named:
        assert float(units.get(shown, shown.replace(",", "") if shown not in units else 0)) == names[name], (
            name
        )


def test_every_file_of_a_store_is_in_the_table(tmp_path: Path) -> None:
    """By names that the code uses, so that a new file cannot be forgotten here."""
    written = {
        match
        for path in (ROOT / "engine" / "dayfly" / "engine" / "durable").glob("*.py")
        for match in re.findall(r'folder / "([\w.]+)"', path.read_text())
    }
    table = section("Files on disk")
    missing = [name for name in written if f"`{name}" not in table and f"{name}/" not in table]
    assert missing == []
