"""Every public name is in the pages, and the lazy packages say the same thing three times."""

import ast
import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

from dayfly.privacy import _lazy

from . import PAGES, ROOT

LAZY = ("dayfly.engine", "dayfly.federation", "dayfly.privacy")
PORTIONS = (*LAZY, "dayfly.bench")


@pytest.mark.parametrize("portion", PORTIONS)
def test_every_public_name_of_a_portion_is_in_some_page(portion: str) -> None:
    words = set(re.findall(r"`(\w+)`", "\n".join(page.read_text() for page in PAGES)))
    assert set(getattr(importlib.import_module(portion), "__all__", [])) - words == set()


def test_the_page_of_the_interface_is_what_the_docstrings_say() -> None:
    command = [sys.executable, str(ROOT / "tools" / "api_page.py"), "--print"]
    written = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert (ROOT / "docs" / "api.md").read_text() == written, "run `python tools/api_page.py`"


def seen_by_type_checkers(package: str) -> dict[str, str]:
    """Name -> module of the imports that stand below `if typing.TYPE_CHECKING`."""
    module = importlib.import_module(package)
    tree = ast.parse(Path(str(module.__file__)).read_text())
    (branch,) = [node for node in tree.body if isinstance(node, ast.If)]
    return {
        alias.name: f"{package}.{node.module}"
        for node in branch.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }


@pytest.mark.parametrize("package", LAZY)
def test_type_checkers_and_the_interpreter_find_the_same_names_in_the_same_places(package: str) -> None:
    module = importlib.import_module(package)
    homes = {name: home for home, names in module._HOMES.items() for name in names}
    assert homes == seen_by_type_checkers(package)
    assert sorted(homes) == sorted(module.__all__)


@pytest.mark.parametrize("package", LAZY)
def test_a_name_is_the_one_of_its_home(package: str) -> None:
    module = importlib.import_module(package)
    for home, names in module._HOMES.items():
        for name in names:
            assert getattr(module, name) is getattr(importlib.import_module(home), name)
            assert name in dir(module)


def test_an_unknown_name_is_refused_as_python_refuses_it() -> None:
    load = _lazy.loader("dayfly.sample", {"json": ("loads",)})
    assert load("loads")("[1]") == [1]
    with pytest.raises(AttributeError, match=r"^module 'dayfly\.sample' has no attribute 'dumps'$"):
        load("dumps")


@pytest.mark.parametrize("package", LAZY)
def test_importing_a_portion_loads_neither_cryptography_nor_a_compiler(package: str) -> None:
    code = f"import sys, {package}; print([n for n in ('numba', 'numpy', 'cryptography', 'msgspec') if n in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
