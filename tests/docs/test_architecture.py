"""The architecture names modules and folders that exist."""

import importlib.util
import re
from pathlib import Path

import pytest

from ..project import FOLDERS
from . import ROOT, prose

PAGE = ROOT / "docs" / "architecture.md"


def test_every_module_named_exists() -> None:
    named = set(re.findall(r"`(dayfly\.[a-z_.]+)`", PAGE.read_text()))
    assert len(named) >= 15
    assert [name for name in sorted(named) if importlib.util.find_spec(name) is None] == []


def folder(name: str) -> Path:
    """Where a folder of the repository is; the source roots may be an installed wheel's."""
    root, _, inside = name.partition("/")
    return FOLDERS[root].parents[1] / inside if root in FOLDERS else ROOT / name


def test_every_folder_named_exists() -> None:
    named = set(re.findall(r"`([a-z_]+/(?:[a-z_]+/)*)`", PAGE.read_text())) - {"cdp/", "tombstones/"}
    assert len(named) >= 15
    assert [name for name in sorted(named) if not folder(name).is_dir()] == []


@pytest.mark.parametrize("portion", ["engine", "federation", "privacy"])
def test_every_package_of_a_portion_is_named(portion: str) -> None:
    packages = {path.parent.name for path in FOLDERS[portion].glob("*/__init__.py")}
    assert [
        name for name in packages if f"`{portion}/dayfly/{portion}/{name}/`" not in PAGE.read_text()
    ] == []


def test_the_picture_is_text_that_fits_a_page() -> None:
    pictures = re.findall(r"^```text\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    assert len(pictures) == 3
    assert max(len(line) for picture in pictures for line in picture.splitlines()) <= 120
    assert "│" not in prose(PAGE)
