"""`kill -9` at random instants: nothing acknowledged is lost, nothing counts twice, nothing is told in two ways."""

from pathlib import Path

import pytest

from .soak import soak
from .storm import storm


def test_five_killed_runs_lose_and_repeat_nothing(tmp_path: Path) -> None:
    done = storm(tmp_path, runs=5, seed=7)
    assert done.told.words["logged in"] > 10


@pytest.mark.slow
def test_two_hundred_killed_runs_lose_and_repeat_nothing(tmp_path: Path) -> None:
    done = storm(tmp_path, runs=200, seed=8)
    assert done.told.words["erased"] > 10
    assert done.told.words["leased"] > 10


@pytest.mark.slow
def test_after_twenty_seconds_of_churn_the_oracle_names_the_same_tags(tmp_path: Path) -> None:
    found = soak(tmp_path, seconds=20)
    assert found.calls["witnessed tags"] > 10
    assert found.events > 5_000
