"""The commands that people and machines type do what they say."""

import re
import shutil
import subprocess

import pytest

from . import ROOT

MAKEFILE = (ROOT / "Makefile").read_text()


def make(*arguments: str) -> str:
    if shutil.which("make") is None:
        pytest.skip("make is not installed")
    done = subprocess.run(["make", *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_make_alone_lists_every_target() -> None:
    phony = re.search(r"^\.PHONY: (.*)$", MAKEFILE, re.MULTILINE)
    assert phony is not None
    listed = re.findall(r"^  make ([a-z-]+) +\S", make("--no-print-directory"), re.MULTILINE)
    assert sorted(listed) == sorted(phony[1].split())


def test_check_is_lint_types_layers_and_test() -> None:
    assert re.search(r"^check: lint types layers test ##", MAKEFILE, re.MULTILINE)


def test_ci_runs_check_and_the_suite_against_the_wheel_and_stops_at_a_failure() -> None:
    text = (ROOT / ".ci" / "run").read_text()
    assert text.startswith("#!/usr/bin/env bash\n")
    assert "set -euo pipefail" in text
    assert re.search(r"make check$", text, re.MULTILINE)
    assert re.search(r"make wheel-test$", text, re.MULTILINE)


def test_what_ci_may_take_at_most_fits_into_ninety_minutes() -> None:
    limits = [
        int(minutes) for minutes in re.findall(r"--kill-after=30 (\d+)m", (ROOT / ".ci" / "run").read_text())
    ]
    check_and_pages = 15 + 3
    assert len(limits) == 7
    assert sum(limits) + check_and_pages <= 90
