"""The project keeps its own promises: locks, layers, public names, wheel, pages, start-up."""

import ast
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import dayfly.bench
import dayfly.engine
import dayfly.federation
import dayfly.privacy

ROOT = Path(__file__).parents[2]
PORTIONS = ("bench", "engine", "federation", "privacy")
FOLDERS = {
    portion.__name__.rpartition(".")[2]: Path(next(iter(portion.__path__)))
    for portion in (dayfly.bench, dayfly.engine, dayfly.federation, dayfly.privacy)
}


def tracked_files() -> list[Path]:
    """Files under version control; empty without git or a checkout, for instance in the run against the wheel."""
    if shutil.which("git") is None:
        return []
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=False)
    if listed.returncode != 0:
        return []
    paths = (ROOT / name for name in listed.stdout.decode().split("\0") if name)
    return [path for path in paths if path.is_file()]


def script(name: str) -> str:
    """A command that is installed beside the interpreter running the tests."""
    return str(Path(sys.executable).with_name(name))


def modules() -> Iterator[tuple[Path, ast.Module]]:
    """Every Python file of the installed portions with its syntax tree."""
    for folder in FOLDERS.values():
        for path in sorted(folder.rglob("*.py")):
            yield path, ast.parse(path.read_text(), filename=str(path))
