"""`kill -9` in the middle of creating, destroying and rewrapping."""

import random
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from dayfly.privacy.errors import KeyDestroyed

from .support import files_holding, new_slots, open_slots, ring

PROGRAM = Path(__file__).with_name("stormer.py")


@dataclass
class Told:
    """What the killed program had said."""

    kek: int = 1
    live: dict[int, bytes] = field(default_factory=dict)
    wrapped: dict[int, bytes] = field(default_factory=dict)
    dying: dict[int, bytes] = field(default_factory=dict)
    dead: dict[int, list[bytes]] = field(default_factory=dict)

    def hear(self, line: str) -> None:
        word, *rest = line.split()
        if word == "live":
            assert int(rest[0]) not in self.live
            assert int(rest[0]) not in self.dead
            self.live[int(rest[0])] = bytes.fromhex(rest[1])
            self.wrapped[int(rest[0])] = bytes.fromhex(rest[2])
        elif word == "dying":
            self.dying = {int(one): self.live.pop(int(one)) for one in rest if int(one) in self.live}
        elif word == "dead":
            for key_id, key in self.dying.items():
                self.dead[key_id] = [key, self.wrapped[key_id]]
            self.dying = {}
        elif word == "kek":
            self.kek = int(rest[0])


def kill_once(folder: Path, told: Told, seed: int) -> None:
    """Let the program say some lines after it has opened the store, then kill it within its next steps."""
    chance = random.Random(seed)
    command = [sys.executable, str(PROGRAM), str(folder), str(seed), str(told.kek)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "open\n"
        for _ in range(chance.randint(0, 80)):
            told.hear(child.stdout.readline())
        time.sleep(chance.uniform(0.0, 0.002))
        child.send_signal(signal.SIGKILL)
        for line in child.stdout.read().splitlines(keepends=True):
            if line.endswith("\n"):
                told.hear(line)
        assert child.wait() == -signal.SIGKILL


def check(folder: Path, told: Told) -> None:
    with open_slots(folder, ring(*range(1, told.kek + 1))) as slots:
        for key_id, key in told.live.items():
            assert slots.get(key_id) == key
        for key_id, key in told.dying.items():
            try:
                assert slots.get(key_id) == key
                told.live[key_id] = key
            except KeyDestroyed:
                told.dead[key_id] = [key, told.wrapped[key_id]]
        told.dying = {}
        for key_id in told.dead:
            with pytest.raises(KeyDestroyed, match="purpose='log'"):
                slots.get(key_id)
        for orphan in set(slots.live("log")) - set(told.live):  # durable, but its id was never said
            told.live[orphan] = slots.get(orphan)
            told.wrapped[orphan] = slots.get(orphan)
    assert files_holding(folder, [form for forms in told.dead.values() for form in forms]) == []
    assert files_holding(folder, list(told.live.values())) == []


def kills(folder: Path, seeds: range) -> Told:
    new_slots(folder).close()
    told = Told()
    for seed in seeds:
        kill_once(folder, told, seed)
        check(folder, told)
    return told


def test_kill_9_in_a_storm_breaks_no_promise_and_leaves_no_key_bytes(tmp_path: Path) -> None:
    told = kills(tmp_path, range(4))
    assert told.dead
    assert told.live


@pytest.mark.slow
def test_a_hundred_kills_break_no_promise_and_leave_no_key_bytes(tmp_path: Path) -> None:
    told = kills(tmp_path, range(1_000, 1_100))
    assert len(told.dead) > 500  # follows from the seeds, whatever the machine's speed
    assert told.kek > 10
