"""The notebooks use the public interface alone, hold no outputs, and their code runs."""

import ast
import contextlib
import importlib
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from . import ROOT

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
SAID = {
    "federation.ipynb": "an exact sum is no differential privacy",
    "one_customer.ipynb": "refused: gone",
    "sandbox.ipynb": "must be <= 3/20, which is left of the account analyst='ann'",
}
"""What a reader must meet in each: the refusal that it is about."""

each_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)


def cells(path: Path) -> list[dict[str, Any]]:
    return [
        cell for cell in json.loads(path.read_text(encoding="utf-8"))["cells"] if cell["cell_type"] == "code"
    ]


def source(path: Path) -> str:
    return "\n".join("".join(cell["source"]) for cell in cells(path))


def private_names(code: str) -> Iterator[str]:
    """Names of Dayfly that the code uses and no package offers."""
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.startswith("dayfly"))
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("dayfly"):
            module = importlib.import_module(str(node.module))
            offered = module.__all__ if hasattr(module, "__path__") else []
            yield from (f"{node.module}.{alias.name}" for alias in node.names if alias.name not in offered)
        elif isinstance(node, ast.Attribute) and node.attr.startswith("_"):
            yield node.attr


def test_there_are_the_notebooks_of_one_customer_an_analyst_and_channels() -> None:
    assert set(SAID) == {path.name for path in NOTEBOOKS}


@each_notebook
def test_no_output_is_stored(path: Path) -> None:
    assert [
        cell["id"] for cell in cells(path) if cell["outputs"] or cell["execution_count"] is not None
    ] == []


@each_notebook
def test_only_what_packages_offer_is_used(path: Path) -> None:
    assert list(private_names(source(path))) == []


@pytest.mark.parametrize(
    ("code", "found"),
    [
        ("from dayfly.engine import MemoryEngine", []),
        ("from dayfly.engine import Nothing", ["dayfly.engine.Nothing"]),
        ("from dayfly.engine.shard.shard import Shard", ["dayfly.engine.shard.shard.Shard"]),
        ("import dayfly.engine.runtime.memory", ["dayfly.engine.runtime.memory"]),
        ("engine._lock", ["_lock"]),
    ],
)
def test_the_check_sees_what_is_private(*, code: str, found: list[str]) -> None:
    assert list(private_names(code)) == found


@each_notebook
def test_the_code_runs_and_its_assertions_hold(path: Path) -> None:
    """In this process; the slow suite runs the notebook itself in a kernel (tests/project/test_notebooks.py)."""
    names: dict[str, Any] = {}
    with contextlib.redirect_stdout(io.StringIO()) as told:
        exec(compile(source(path), path.name, "exec"), names)
    assert SAID[path.name] in told.getvalue()
    if "engine" in names:
        assert names["engine"].fragments.minted == names["engine"].fragments.tombstones > 1
