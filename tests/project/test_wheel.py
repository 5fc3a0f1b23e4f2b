"""The wheel holds what users need and nothing else."""

import os
import subprocess
import sys
import zipfile
from email import message_from_bytes
from email.message import Message
from pathlib import Path

import pytest

import dayfly.engine

from . import FOLDERS, PORTIONS, ROOT

DATA = {".yaml", ".yml", ".json", ".typed"}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """The wheel under test: `$DAYFLY_WHEEL`, else one built from this checkout."""
    if "DAYFLY_WHEEL" in os.environ:
        return zipfile.ZipFile(os.environ["DAYFLY_WHEEL"])
    if not (ROOT / "engine").is_dir():
        pytest.skip("no source roots here to build a wheel from, and DAYFLY_WHEEL is not set")
    out = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out), str(ROOT)]
    built = subprocess.run(command, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stdout + built.stderr
    return zipfile.ZipFile(next(out.glob("*.whl")))


@pytest.fixture(scope="module")
def metadata(wheel: zipfile.ZipFile) -> Message:
    (name,) = (name for name in wheel.namelist() if name.endswith(".dist-info/METADATA"))
    return message_from_bytes(wheel.read(name))


def test_nothing_but_the_namespace_is_installed(wheel: zipfile.ZipFile) -> None:
    tops = {name.split("/")[0] for name in wheel.namelist()}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"dayfly"}
    assert {name.split("/")[1] for name in wheel.namelist() if name.startswith("dayfly/")} == set(PORTIONS)


def test_every_module_and_every_data_file_is_in_it(wheel: zipfile.ZipFile) -> None:
    here = {
        f"dayfly/{portion}/{path.relative_to(folder).as_posix()}"
        for portion, folder in FOLDERS.items()
        for path in folder.rglob("*")
        if path.suffix in {".py"} | DATA and "__pycache__" not in path.parts
    }
    assert here - set(wheel.namelist()) == set()
    assert {f"dayfly/{portion}/py.typed" for portion in PORTIONS} <= here


def test_no_tests_and_no_leftovers_are_in_it(wheel: zipfile.ZipFile) -> None:
    unwanted = ("tests/", "conftest", "__pycache__", ".pyc", ".nbi", ".nbc", ".lock", ".ipynb")
    assert [name for name in wheel.namelist() if any(part in name for part in unwanted)] == []


def test_the_licence_is_named_and_enclosed(wheel: zipfile.ZipFile, metadata: Message) -> None:
    assert metadata["License-Expression"] == "Apache-2.0"
    assert any(name.endswith("/licenses/LICENSE") for name in wheel.namelist())


def test_the_command_is_installed(wheel: zipfile.ZipFile) -> None:
    (name,) = (name for name in wheel.namelist() if name.endswith(".dist-info/entry_points.txt"))
    assert "dayfly = dayfly.engine.cli:main" in wheel.read(name).decode()


@pytest.mark.skipif(
    "DAYFLY_WHEEL" not in os.environ, reason="only where the suite runs against the installed wheel"
)
def test_the_suite_runs_against_the_installed_wheel() -> None:
    assert Path(dayfly.engine.__file__).is_relative_to(Path(sys.prefix))
    assert not (ROOT / "engine").exists()
