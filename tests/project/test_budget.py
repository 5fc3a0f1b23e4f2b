"""Slow tests can be run in a slice of bounded length."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from . import ROOT, script

TESTS = """
import time
import pytest

@pytest.mark.slow
def test_first():
    time.sleep(0.05)

@pytest.mark.slow
def test_second():
    pass

def test_quick():
    pass
"""


@pytest.mark.parametrize(
    ("budget", "outcome"),
    [(None, "3 passed"), ("60", "3 passed"), ("0", "1 passed, 2 skipped")],
)
def test_no_slow_test_starts_after_the_budget(tmp_path: Path, budget: str | None, outcome: str) -> None:
    shutil.copy(ROOT / "tests" / "conftest.py", tmp_path)
    (tmp_path / "test_sample.py").write_text(TESTS)
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers = slow\naddopts = -rs\n")
    env = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("DAYFLY_TEST_", "COVERAGE_"))
    }
    if budget is not None:
        env["DAYFLY_TEST_BUDGET_SECONDS"] = budget
    command = [script("pytest"), "-p", "no:cacheprovider", "-p", "no:randomly", str(tmp_path)]
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
    assert f"{outcome} in" in done.stdout
    assert ("DAYFLY_TEST_BUDGET_SECONDS=0" in done.stdout) == (budget == "0")
