"""Every kernel that ordinary code calls has an independent oracle, and the form that the house asks for.

The convention: the docstring of the kernel, or of its module where all its kernels share one oracle, holds a line
`Oracle: tests.oracles.<module>.<name>`. Where Python or a library already has the same thing, that is the oracle:
`Oracle: dict`, `Oracle: hashlib.blake2b`.
"""

import ast
import importlib.util
import re
from collections.abc import Iterable
from pathlib import Path

import pytest

from . import ROOT, modules

ORACLE = re.compile(r"Oracle: +`*([\w.]*\w)")
MOST_ARGUMENTS = 6


def is_kernel(node: ast.stmt) -> bool:
    if not isinstance(node, ast.FunctionDef):
        return False
    names = {ast.unparse(decorator).partition("(")[0].rpartition(".")[2] for decorator in node.decorator_list}
    return "kernel" in names


def names_used_outside(trees: Iterable[tuple[Path, ast.Module]]) -> set[str]:
    """Names that ordinary modules take from kernel modules, imported one by one or through the module."""
    used: set[str] = set()
    for path, tree in trees:
        if is_kernel_module(path.stem):
            continue
        borrowed: set[str] = set()
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom):
                if is_kernel_module((node.module or "").rpartition(".")[2]):
                    used |= {alias.name for alias in node.names}
                borrowed |= {
                    alias.asname or alias.name for alias in node.names if is_kernel_module(alias.name)
                }
        used |= {
            node.attr
            for node in ast.walk(tree)
            if isinstance(node, ast.Attribute)
            and isinstance(node.value, ast.Name)
            and node.value.id in borrowed
        }
    return used


def is_kernel_module(name: str) -> bool:
    return name.startswith(("kernels", "_kernels"))


def entry_kernels(tree: ast.Module, used: set[str]) -> list[ast.FunctionDef]:
    """Kernels that ordinary code calls; the helpers that only kernels call are tested through them."""
    return [
        node
        for node in tree.body
        if isinstance(node, ast.FunctionDef) and is_kernel(node) and node.name in used
    ]


def oracle_problem(kernel: ast.FunctionDef, tree: ast.Module) -> str | None:
    """Why the kernel has no oracle, or None."""
    match = ORACLE.search(ast.get_docstring(kernel) or "") or ORACLE.search(ast.get_docstring(tree) or "")
    if match is None:
        return "no line `Oracle: ...` in its docstring; tests/README.md says how"
    *module, name = match[1].split(".")
    if module[:2] != ["tests", "oracles"]:
        return None if exists(module, name) else f"{match[1]} is neither in tests.oracles nor in a library"
    file = ROOT.joinpath(*module).with_suffix(".py")
    if not file.is_file():
        return f"{file.name} is not in tests/oracles"
    defined = {getattr(node, "name", None) for node in ast.parse(file.read_text()).body}
    return None if name in defined else f"tests/oracles/{file.name} does not define {name}"


def exists(module: list[str], name: str) -> bool:
    """Whether Python or an installed library, but not Dayfly, has the name."""
    path = ".".join(module) or "builtins"
    if module[:1] in (["tests"], ["dayfly"]) or importlib.util.find_spec(path) is None:
        return False
    return hasattr(importlib.import_module(path), name)


def test_every_entry_kernel_has_an_oracle() -> None:
    used = names_used_outside(modules())
    problems = [
        f"{path.parent.name}/{path.name}:{kernel.lineno} {kernel.name}: {problem}"
        for path, tree in modules()
        for kernel in entry_kernels(tree, used)
        if (problem := oracle_problem(kernel, tree)) is not None
    ]
    assert problems == []


def test_entry_kernels_take_at_most_six_arguments() -> None:
    used = names_used_outside(modules())
    wide = [
        f"{path.name}:{kernel.lineno} {kernel.name}"
        for path, tree in modules()
        for kernel in entry_kernels(tree, used)
        if len(kernel.args.args) + len(kernel.args.kwonlyargs) > MOST_ARGUMENTS
    ]
    assert wide == []


def test_kernels_live_in_kernel_modules_only() -> None:
    """The cache key covers `kernels*.py` alone, so a kernel elsewhere could meet stale machine code."""
    strays = [
        f"{path.name}:{node.lineno}"
        for path, tree in modules()
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef)
        and is_kernel(node)
        and not (path.name.startswith("kernels") or path.parent.name == "_kernels")
    ]
    assert strays == []


SAMPLE = '''
@kernel
def count(times, start):
    """Count.

    {line}
    """

@kernel
def _inner(a):
    return a
'''


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("Oracle: tests.oracles.sample.count_slowly", None),
        ("Oracle: `tests.oracles.sample.count_slowly`", None),
        ("Oracle: dict", None),
        ("Oracle: hashlib.blake2b, keyed.", None),
        ("nothing", "no line"),
        ("Oracle: tests.oracles.absent.count_slowly", "absent.py is not in"),
        ("Oracle: dayfly.engine.warmup.warm_up", "neither in"),
        ("Oracle: hashlib.nothing", "neither in"),
        ("Oracle: no_such_library.count", "neither in"),
        ("Oracle: tests.oracles.sample.other", "does not define other"),
    ],
)
def test_a_missing_oracle_is_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: str, problem: str | None
) -> None:
    (tmp_path / "tests" / "oracles").mkdir(parents=True)
    (tmp_path / "tests" / "oracles" / "sample.py").write_text("def count_slowly(): ...\n")
    monkeypatch.setattr("tests.project.test_kernels.ROOT", tmp_path)
    tree = ast.parse(SAMPLE.format(line=line))
    (kernel,) = entry_kernels(tree, {"count"})
    found = oracle_problem(kernel, tree)
    assert (found is None) if problem is None else (problem in (found or ""))


@pytest.mark.parametrize(
    "code",
    [
        "from dayfly.engine.shard.kernels_rings import push",
        "from .kernels import push as p",
        "from dayfly.engine.shard import kernels_rings as rings\nrings.push(1)",
        "from . import kernels\nkernels.push(1)",
    ],
)
def test_a_kernel_that_ordinary_code_calls_is_an_entry(code: str) -> None:
    assert names_used_outside([(Path("shard.py"), ast.parse(code))]) == {"push"}
    assert names_used_outside([(Path("kernels_rings.py"), ast.parse(code))]) == set()
