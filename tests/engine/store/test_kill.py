"""`kill -9` at any moment: everything the process had told of as durable is there, exactly as it was appended."""

import random
import subprocess
import sys
import threading
from dataclasses import dataclass
from pathlib import Path

import pytest

from dayfly.engine.errors import StoreLocked
from dayfly.engine.store import Log, StoreLock

from .writer_process import SETTINGS, TENANT, open_keys, payload

ROOT = Path(__file__).parents[3]


@dataclass
class Told:
    """What killed processes had told of."""

    durable: int = 0
    snapshot: int = 0


def start_writer(folder: Path, seed: int, after: int) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "tests.engine.store.writer_process", str(folder), str(seed), str(after)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
    )


def write_and_kill(folder: Path, seed: int, told: Told) -> int:
    """Let a process write for a moment, kill it, and note what it told; returns how much it wrote."""
    before = told.durable
    with start_writer(folder, seed, told.snapshot) as process:
        assert process.stdout is not None
        assert process.stdout.readline().split()[0] == b"open"
        killer = threading.Timer(random.Random(seed).uniform(0, 0.12), process.kill)
        killer.start()
        for line in process.stdout.read().splitlines(keepends=True):
            if line.endswith(b"\n"):
                word, position = line.split()
                if word == b"durable":
                    told.durable = max(told.durable, int(position))
                elif word == b"snapshot":
                    told.snapshot = max(told.snapshot, int(position))
        killer.join()
    return told.durable - before


def check(folder: Path, told: Told) -> None:
    with (
        StoreLock.acquire(folder, started_ms=0),
        open_keys(folder) as keys,
        Log.open(folder / "log", keys, tenant=TENANT, after=told.snapshot, settings=SETTINGS) as log,
    ):
        frames = list(log.frames(told.snapshot))
        assert log.durable >= told.durable
        assert [frame.position for frame in frames] == list(range(told.snapshot + 1, log.durable + 1))
        for frame in frames:
            assert (frame.kind, frame.payload) == ((frame.position - 1) % 7, payload(frame.position))
        told.durable = log.durable


def kill_many(folder: Path, times: int, seed: int) -> None:
    told, written = Told(), 0
    for number in range(times):
        written += write_and_kill(folder, seed + number, told)
        check(folder, told)
    assert written > 0


def test_a_killed_process_loses_nothing_that_was_durable(tmp_path: Path) -> None:
    kill_many(tmp_path, 4, 1)


@pytest.mark.slow
def test_a_process_killed_two_hundred_times_loses_nothing_that_was_durable(tmp_path: Path) -> None:
    kill_many(tmp_path, 200, 1_000)


def test_a_second_process_is_refused_by_the_pid_of_the_first_and_let_in_when_that_was_killed(
    tmp_path: Path,
) -> None:
    with start_writer(tmp_path, 1_795_358_400_123, 0) as process:
        assert process.stdout is not None
        process.stdout.readline()
        with pytest.raises(
            StoreLocked, match=f"process {process.pid}, which started at 1795358400123 ms UTC, writes to it"
        ) as caught:
            StoreLock.acquire(tmp_path, started_ms=2)
        assert caught.value.pid == process.pid
        process.kill()
        process.stdout.read()
    StoreLock.acquire(tmp_path, started_ms=2).release()
