"""`kill -9`: no loss that could have been seen is ever given back, and no account exceeds its limit."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


def run(module: str, *arguments: str) -> list[int]:
    """The numbers that a program of this folder prints."""
    done = subprocess.run(
        [sys.executable, "-m", f"tests.privacy.ledger.{module}", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=1_200,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return [int(word) for word in done.stdout.replace(",", " ").split() if word.isdigit()]


def test_a_process_that_dies_at_any_statement_of_a_spend_loses_nothing_and_spends_at_most_once() -> None:
    died, held, spent = run("dying", "--made")
    assert died > 40
    assert 0 < held < spent < died


@pytest.mark.slow
def test_a_process_that_dies_at_any_statement_of_making_a_ledger_leaves_one_that_can_be_made() -> None:
    died, held, spent = run("dying")
    assert died > 100
    assert 0 < held < spent < died


def test_a_short_storm_loses_no_receipt() -> None:
    kills, held, entries = run("storm", "--kills", "60", "--seed", "7")
    assert kills == 60
    assert 0 < held <= entries


@pytest.mark.slow
@pytest.mark.parametrize("workers", [2, 5])
def test_a_storm_loses_no_receipt(workers: int) -> None:
    kills, held, entries = run("storm", "--kills", "1000", "--workers", str(workers), "--seed", str(workers))
    assert kills == 1_000
    assert 200 < held <= entries
