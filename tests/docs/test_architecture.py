"""The architecture names modules and folders that exist."""

import importlib.util
import re

from . import ROOT, prose

PAGE = ROOT / "docs" / "architecture.md"


def test_every_module_named_exists() -> None:
    named = set(re.findall(r"`(dayfly\.[a-z_.]+)`", PAGE.read_text()))
    assert len(named) >= 15
    assert [name for name in sorted(named) if importlib.util.find_spec(name) is None] == []


def test_every_folder_named_exists_and_every_package_of_the_engine_is_named() -> None:
    named = set(re.findall(r"`([a-z_]+/(?:[a-z_]+/)*)`", PAGE.read_text()))
    assert [
        name for name in sorted(named) if not (ROOT / name).is_dir() and name not in {"cdp/", "tombstones/"}
    ] == []
    for portion in ("engine", "privacy"):
        packages = {
            f"{path.parent.relative_to(ROOT)}/"
            for path in (ROOT / portion / "dayfly" / portion).glob("*/__init__.py")
        }
        assert packages - named == set()


def test_the_picture_is_text_that_fits_a_page() -> None:
    picture = re.search(r"^```text\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    assert picture is not None
    assert max(map(len, picture[1].splitlines())) <= 120
    assert "│" not in prose(PAGE)
