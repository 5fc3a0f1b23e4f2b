"""What no tracked file may hold, and what every portion must."""

import re
from pathlib import Path

import pytest

from . import FOLDERS, PORTIONS, ROOT, tracked_files

# Written so that this file does not match itself.
MACHINE_PATH = re.compile(r"(?<![\w.])/(?:work|root|farm|home/\w+|Users/\w+)/|/tmp/(?:bash|plan)")
REGISTRY_HOST = re.compile(
    r"pyp[i]\.(?:org|python)|files\.pythonhoste[d]|registr[y]\.(?:npmjs|yarnpkg)|conda\.anacond[a]|crate[s]\.io|prox[y]\.golang"
)
INDEX_OPTION = re.compile(r"--(?:extra-)?index-ur[l]|--find-link[s]")


def offences(paths: list[Path], *patterns: re.Pattern[str]) -> list[str]:
    found = []
    for path in paths:
        try:
            lines = path.read_text().splitlines()
        except UnicodeDecodeError:
            continue
        for number, line in enumerate(lines, 1):
            if any(pattern.search(line) for pattern in patterns):
                found.append(f"{path}:{number}: {line.strip()[:100]}")
    return found


@pytest.fixture(scope="module")
def tracked() -> list[Path]:
    paths = tracked_files()
    if not paths:
        pytest.skip("not a git checkout, so there are no tracked files to read")
    return paths


def test_no_tracked_file_names_a_path_of_a_developers_machine(tracked: list[Path]) -> None:
    here = [re.compile(re.escape(str(ROOT)))] if len(ROOT.parts) > 2 else []
    assert offences(tracked, MACHINE_PATH, *here) == []


def test_no_tracked_file_names_a_package_registry_or_an_index_option(tracked: list[Path]) -> None:
    assert offences(tracked, REGISTRY_HOST, INDEX_OPTION) == []


@pytest.mark.parametrize(
    "line",
    [
        "see /" + "work/x",
        "in /" + "root/.cache",
        "(/" + "home/ada/x",
        "/tmp/" + "bash_jobs",
        "https://py" + "pi.org/simple",
        "registry" + ".npmjs.org",
        "--index" + "-url x",
    ],
)
def test_the_scan_finds_what_it_is_for(tmp_path: Path, line: str) -> None:
    file = tmp_path / "note.md"
    file.write_text(f"first\n{line}\n")
    assert offences([file], MACHINE_PATH, REGISTRY_HOST, INDEX_OPTION) == [f"{file}:2: {line}"]


@pytest.mark.parametrize(
    "line", ["https://example.com/work/1", "a registry of tags", "docs/root/x", "/homepage/x"]
)
def test_the_scan_leaves_ordinary_text_alone(tmp_path: Path, line: str) -> None:
    file = tmp_path / "note.md"
    file.write_text(line)
    assert offences([file], MACHINE_PATH, REGISTRY_HOST, INDEX_OPTION) == []


@pytest.mark.parametrize("portion", PORTIONS)
def test_every_portion_says_that_it_is_typed(portion: str) -> None:
    assert (FOLDERS[portion] / "py.typed").is_file()


@pytest.mark.parametrize("portion", PORTIONS)
def test_no_file_closes_the_namespace_to_the_other_portions(portion: str) -> None:
    assert not (FOLDERS[portion].parent / "__init__.py").exists()
