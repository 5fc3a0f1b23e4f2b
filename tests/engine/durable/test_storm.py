"""`kill -9` at random instants: nothing acknowledged is lost, nothing counts twice, nothing is told in two ways."""

from pathlib import Path

import pytest

from .storm import storm


def test_five_killed_runs_lose_and_repeat_nothing(tmp_path: Path) -> None:
    done = storm(tmp_path, runs=5, seed=7)
    assert done.told.words["logged in"] > 10


@pytest.mark.slow
def test_two_hundred_killed_runs_lose_and_repeat_nothing(tmp_path: Path) -> None:
    done = storm(tmp_path, runs=200, seed=8)
    assert done.told.words["erased"] > 10
    assert done.told.words["leased"] > 10
