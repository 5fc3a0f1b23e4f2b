"""`make` finds an interpreter that can run Dayfly, or says what to do."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from . import ROOT

SHELL = shutil.which("sh") or "sh"


def find_python(path: Path, python: str | None = None) -> subprocess.CompletedProcess[str]:
    env = {"PATH": str(path)} | ({} if python is None else {"PYTHON": python})
    command = [SHELL, str(ROOT / "tools" / "find_python.sh")]
    return subprocess.run(command, env=env, capture_output=True, text=True, check=False)


@pytest.fixture
def commands(tmp_path: Path) -> Path:
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "cat").symlink_to(shutil.which("cat") or "cat")
    return folder


def install(folder: Path, name: str, *, fits: bool) -> str:
    """A command that behaves like an interpreter that does or does not fit."""
    target = folder / name
    target.write_text(f'#!{SHELL}\nexec "{sys.executable}" "$@"\n' if fits else f"#!{SHELL}\nexit 1\n")
    target.chmod(0o755)
    return str(target)


def test_an_older_python3_is_passed_over_for_one_that_fits(commands: Path) -> None:
    install(commands, "python3", fits=False)
    wanted = install(commands, "python3.12", fits=True)
    result = find_python(commands)
    assert (result.returncode, result.stdout.strip()) == (0, wanted)


def test_the_interpreter_that_the_user_names_is_taken(commands: Path) -> None:
    install(commands, "python3", fits=True)
    wanted = install(commands, "mine", fits=True)
    assert find_python(commands, "mine").stdout.strip() == wanted


def test_a_named_interpreter_that_does_not_fit_is_refused_rather_than_replaced(commands: Path) -> None:
    install(commands, "python3", fits=True)
    install(commands, "mine", fits=False)
    result = find_python(commands, "mine")
    assert result.returncode == 1
    assert result.stdout == ""
    assert "PYTHON=mine must name" in result.stderr


def test_without_any_python_the_message_names_the_way_out(commands: Path) -> None:
    result = find_python(commands)
    assert result.returncode == 1
    assert "must hold, a Python of at least 3.11" in result.stderr
    assert "make PYTHON=" in result.stderr


@pytest.mark.skipif(not os.access("/usr/bin/env", os.X_OK), reason="needs an ordinary POSIX system")
def test_the_bound_is_what_the_package_declares() -> None:
    text = (ROOT / "tools" / "find_python.sh").read_text()
    assert "(3, 11) <= sys.version_info[:2]" in text
    assert 'requires-python = ">=3.11"' in (ROOT / "pyproject.toml").read_text()
