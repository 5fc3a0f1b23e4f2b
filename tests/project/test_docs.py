"""The pages keep up with the code."""

import ast
import importlib
import re
import subprocess
import tomllib
from typing import Any

import pytest

from . import ROOT, script


def page(name: str) -> str:
    return (ROOT / "docs" / name).read_text()


def names(requirements: list[str]) -> list[str]:
    return sorted(re.split(r"[^A-Za-z0-9._-]", line)[0] for line in requirements)


def project() -> dict[str, Any]:
    declared: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return declared


def test_every_dependency_of_users_has_its_reason() -> None:
    extras = [line for lines in project()["optional-dependencies"].values() for line in lines]
    reasons = re.findall(r"^### ([\w.-]+)$", page("dependencies.md"), re.MULTILINE)
    assert reasons == [*names(project()["dependencies"]), *names(extras)]


def test_every_run_time_dependency_has_its_cost() -> None:
    table = re.search(r"<!-- costs:begin -->(.*)<!-- costs:end -->", page("dependencies.md"), re.DOTALL)
    assert table is not None
    assert re.findall(r"^\| ([\w.-]+) \| \d", table[1], re.MULTILINE) == names(project()["dependencies"])


def test_every_page_is_in_the_index() -> None:
    listed = set(re.findall(r"^([a-z_-]+)$", page("index.md"), re.MULTILINE))
    pages = {path.stem for path in (ROOT / "docs").glob("*.md")} - {"index"}
    assert pages - listed == set()


def test_every_link_to_a_file_of_the_project_leads_somewhere() -> None:
    broken = []
    for path in [
        *(ROOT / "docs").glob("*.md"),
        ROOT / "README.md",
        ROOT / "CHANGELOG.md",
        ROOT / "tests" / "README.md",
    ]:
        targets = re.findall(r"\]\((?!https?:|#|mailto:)([^)#\s]+)", path.read_text())
        broken += [f"{path.name}: {target}" for target in targets if not (path.parent / target).exists()]
    assert broken == []


def test_the_changelog_has_a_section_for_the_version_in_the_package() -> None:
    assert re.search(
        rf"^## {re.escape(project()['version'])} ", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE
    )


def test_the_page_of_commands_is_what_the_help_says() -> None:
    if not hasattr(importlib.import_module("dayfly.engine.cli"), "app"):
        pytest.skip("the command line is not built yet")
    command = [
        script("typer"),
        "dayfly.engine.cli",
        "utils",
        "docs",
        "--name",
        "dayfly",
        "--title",
        "The command line",
    ]
    written = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert page("commands.md").strip() == written.strip(), "run `make commands`"


def test_the_pages_are_built_with_the_extensions_that_the_locks_hold() -> None:
    tree = ast.parse((ROOT / "docs" / "conf.py").read_text())
    values = {
        node.targets[0].id: ast.literal_eval(node.value)
        for node in tree.body
        if isinstance(node, ast.Assign)
        and isinstance(node.targets[0], ast.Name)
        and node.targets[0].id == "extensions"
    }
    assert values == {"extensions": ["myst_parser"]}
