"""Runs the coverage-guided fuzz target of intake for a bounded time."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

SECONDS = 60


@pytest.mark.slow
def test_coverage_guided_fuzzing_finds_nothing(tmp_path: Path) -> None:
    if importlib.util.find_spec("atheris") is None:
        pytest.skip("atheris is not installed; it has no wheel for every platform")
    command = [sys.executable, "-m", "tests.fuzz.intake_fuzz", f"-max_total_time={SECONDS}", str(tmp_path)]
    run = subprocess.run(command, capture_output=True, text=True, check=False, cwd=Path(__file__).parents[3])
    assert run.returncode == 0, run.stderr[-2_000:]
