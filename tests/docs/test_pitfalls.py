"""Each pitfall names a test that shows how it is prevented, and the test exists."""

import ast
import re
from pathlib import Path

import pytest

from . import ROOT

PAGE = ROOT / "docs" / "pitfalls.md"
PAGES = (PAGE, ROOT / "docs" / "privacy.md")
SHOWN_BY = re.compile(r"\[([^]]+)\]\(\.\./(tests/[\w/]+\.py)\)")


def rows() -> list[str]:
    """Rows of the tables of pitfalls, of all pages."""
    found, inside = list[str](), False
    for line in "\n\n".join(page.read_text(encoding="utf-8") for page in PAGES).splitlines():
        inside = line.startswith("| How it happens") or (inside and line.startswith("| "))
        if inside and not line.startswith(("| How it happens", "| ---")):
            found.append(line)
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_kind_of_harm_has_its_pitfalls(page: Path) -> None:
    level = "## " if page is PAGE else "### "
    sections = re.split(rf"^{level}", page.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]
    assert [section.split(":")[0] for section in sections] == ["Critical", "Serious", "Operational"]
    assert all(section.count("\n| ") >= 5 for section in sections)


@pytest.mark.parametrize("row", rows(), ids=lambda row: row[2:60])
def test_the_test_that_a_pitfall_names_exists(row: str) -> None:
    cells = re.split(r"(?<!\\)\|", row)[1:-1]
    assert len(cells) == 4
    assert all(cell.strip() for cell in cells)
    ((words, path),) = SHOWN_BY.findall(cells[2])
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    assert "test_" + words.replace(" ", "_") in {
        node.name for node in tree.body if isinstance(node, ast.FunctionDef)
    }
