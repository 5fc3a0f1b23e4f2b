"""Kernels are compiled once: a warm start compiles nothing, and an edited kernel is compiled again."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from dayfly.engine.warmup import WarmReport, warm_up

STEP = """
from dayfly.privacy._jit import kernel

@kernel
def step(value):
    return value
"""
KERNELS = """
from dayfly.privacy._jit import kernel
from dayfly.sample.kernels_step import step

@kernel
def total(values):
    result = 0
    for value in values:
        result += step(value)
    return result

@kernel
def untouched(value):
    return value
"""
WARM = """
import numpy as np
from dayfly.sample.kernels import total

def warm():
    assert total(np.arange(4)) == 6
"""
WARM_THE_SAMPLE = """
import dataclasses, json
from dayfly.engine.warmup import warm_up
print(json.dumps(dataclasses.asdict(warm_up(["dayfly.sample.warming:warm"]))))
"""


def fresh_python(code: str, **extra: str) -> str:
    """Output of a new interpreter with the JIT on."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("NUMBA_")} | extra
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def sample(tmp_path: Path) -> Path:
    """A portion of the namespace with two kernels, of which one has a warm-up."""
    folder = tmp_path / "portion" / "dayfly" / "sample"
    folder.mkdir(parents=True)
    (folder / "__init__.py").touch()
    (folder / "kernels_step.py").write_text(STEP)
    (folder / "kernels.py").write_text(KERNELS)
    (folder / "warming.py").write_text(WARM)
    return folder


def warm_sample(folder: Path) -> dict[str, Any]:
    root = folder.parents[1]
    report = fresh_python(WARM_THE_SAMPLE, PYTHONPATH=str(root), DAYFLY_CACHE_DIR=str(root.parent / "cache"))
    loaded: dict[str, Any] = json.loads(report)
    return loaded


def test_a_cold_cache_compiles_and_a_warm_one_does_not(sample: Path) -> None:
    cold = warm_sample(sample)
    assert (cold["compiled"], cold["loaded"]) == (2, 0)
    assert "dayfly.sample.kernels.untouched" in cold["idle"]
    assert "dayfly.sample.kernels.total" not in cold["idle"]
    assert Path(cold["cache_folder"]).parent == sample.parents[2] / "cache"

    warm = warm_sample(sample)
    assert (warm["compiled"], warm["loaded"]) == (0, 1)


def test_a_kernel_is_compiled_again_when_one_that_it_calls_was_edited(sample: Path) -> None:
    """numba alone would run the old machine code: it looks only at the caller's file."""
    warm_sample(sample)
    (sample / "kernels_step.py").write_text(STEP.replace("return value", "return 2 * value"))
    (sample / "warming.py").write_text(WARM.replace("== 6", "== 12"))
    assert warm_sample(sample)["compiled"] == 2


def test_after_one_warm_up_of_the_real_kernels_a_new_process_compiles_nothing() -> None:
    command = "from dayfly.engine.warmup import main; main(['--json'])"
    first = json.loads(fresh_python(command))
    second = json.loads(fresh_python(command))
    assert first["jit_enabled"]
    assert second["compiled"] == 0
    assert (second["loaded"] > 0) == (first["compiled"] + first["loaded"] > 0)


@pytest.mark.slow
def test_from_a_cold_cache_the_warm_ups_reach_every_entry_kernel(tmp_path: Path) -> None:
    report = json.loads(
        fresh_python(
            "from dayfly.engine.warmup import main; main(['--json'])", DAYFLY_CACHE_DIR=str(tmp_path / "cold")
        )
    )
    assert report["compiled"] > 0
    # The bench's kernels only measure: no start of Dayfly waits for them.
    entries = [name for name in report["idle"] if not name.startswith("dayfly.bench.")]
    assert [name for name in entries if not name.rpartition(".")[2].startswith("_")] == []


def test_the_packages_are_imported_without_numba() -> None:
    assert (
        fresh_python("import sys, dayfly.engine, dayfly.privacy; print('numba' in sys.modules)").strip()
        == "False"
    )


def test_dayfly_version_answers_without_numba() -> None:
    cli = pytest.importorskip("dayfly.engine.cli")
    if not hasattr(cli, "main"):
        pytest.skip("the command line is not built yet")
    code = (
        "import sys\n"
        "from dayfly.engine.cli import main\n"
        "sys.argv = ['dayfly', '--version']\n"
        "try:\n    main()\n"
        "except SystemExit as stop:\n    print(stop.code or 0)\n"
        "print('numba' in sys.modules)\n"
    )
    assert fresh_python(code).split()[-1] == "False"


def test_with_the_jit_off_there_is_nothing_to_warm(sample: Path) -> None:
    root = sample.parents[1]
    report = json.loads(fresh_python(WARM_THE_SAMPLE, PYTHONPATH=str(root), NUMBA_DISABLE_JIT="1"))
    assert not report["jit_enabled"]
    assert (report["compiled"], report["loaded"]) == (0, 0)


@pytest.mark.parametrize("name", ["json", "json:", ":loads", "json:nothing", "json:__doc__"])
def test_a_warm_up_that_names_nothing_callable_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=f"warmups='{name}' must be 'module:function'"):
        warm_up([name])


def test_the_report_takes_its_time_from_the_clock_it_is_given() -> None:
    ticks = iter([10.0, 12.5])
    assert warm_up([], clock=lambda: next(ticks)).seconds == 2.5


@pytest.mark.parametrize(
    ("enabled", "line"),
    [
        (True, "kernels: 3 found, 2 specialisations compiled, 1 read from here, 1.5 s"),
        (False, "kernels: the JIT is off (NUMBA_DISABLE_JIT), nothing to warm"),
    ],
)
def test_the_report_reads_as_one_line(*, enabled: bool, line: str) -> None:
    report = WarmReport(
        kernels=3, compiled=2, loaded=1, idle=(), seconds=1.5, jit_enabled=enabled, cache_folder="here"
    )
    assert str(report) == line
