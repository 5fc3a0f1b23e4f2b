"""Every mistake of the zoo is noticed, by the check that it names."""

import os
import subprocess
import sys
from collections import Counter
from importlib.util import find_spec
from pathlib import Path

import pytest

from .patching import Edit, StaleMutant, install
from .zoo import MUTANTS

ROOT = Path(__file__).parents[3]


def zoo(*arguments: str) -> str:
    """What the runner prints; it must load our code anew, so it runs in a process of its own."""
    command = [sys.executable, "-m", "tests.privacy.mutants", *arguments]
    path = os.pathsep.join(one for one in sys.path if one)
    run = subprocess.run(
        command, cwd=ROOT, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stdout + run.stderr
    return run.stdout


def test_there_are_many_mutants_with_names_of_their_own() -> None:
    assert len(MUTANTS) >= 20
    assert max(Counter(mutant.name for mutant in MUTANTS).values()) == 1
    assert all(edit.old != edit.new for mutant in MUTANTS for edit in mutant.edits)


def test_every_edited_text_is_in_our_code_once() -> None:
    for mutant in MUTANTS:
        for edit in mutant.edits:
            found = find_spec(edit.module)
            assert found is not None
            assert found.origin is not None
            text = Path(found.origin).read_text(encoding="utf-8")
            assert text.count(edit.old) == 1, (mutant.name, edit.module)


def test_a_slice_of_the_zoo_is_killed() -> None:
    assert "score: 9 of 9 killed" in zoo("--every", "8")


@pytest.mark.slow
def test_the_whole_zoo_is_killed() -> None:
    assert f"score: {len(MUTANTS)} of {len(MUTANTS)} killed" in zoo()


def test_an_edit_of_a_loaded_module_is_refused() -> None:
    with pytest.raises(StaleMutant, match="module=os must not be imported before it is edited"):
        install([Edit("os", "a", "b")])
