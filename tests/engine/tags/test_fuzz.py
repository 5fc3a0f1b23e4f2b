"""The fuzz target holds on its corpus, and under atheris in the slow suite."""

import random
import subprocess
import sys

import pytest

from tests.fuzz.tags_fuzz import CORPUS, fuzz_one


def test_target_holds_on_its_corpus() -> None:
    for data in CORPUS:
        fuzz_one(data)


def test_target_holds_on_cut_and_spliced_corpus() -> None:
    rng = random.Random(20_261_122)
    for _ in range(300):
        left, right = rng.choice(CORPUS), rng.choice(CORPUS)
        data = bytearray(left[: rng.randrange(len(left) + 1)] + right[rng.randrange(len(right) + 1) :])
        for _ in range(rng.randrange(3)):
            if data:
                data[rng.randrange(len(data))] = rng.randrange(256)
        fuzz_one(bytes(data))


@pytest.mark.slow
def test_target_holds_under_atheris() -> None:
    pytest.importorskip("atheris", reason="atheris is not installed; the corpus test covers the target")
    run = subprocess.run(
        [sys.executable, "-m", "tests.fuzz.tags_fuzz", "-max_total_time=60"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr[-2_000:]
