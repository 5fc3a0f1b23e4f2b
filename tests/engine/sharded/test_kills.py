"""`kill -9` of the router or of a shard at random places: what was acknowledged counts once, everybody lives in one shard, and
no process is left over."""

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import pytest

from dayfly.engine.durable import TagChanged
from dayfly.engine.sharded.engine import ShardedEngine
from dayfly.privacy.keys import BareSeal, FileKeyProvider
from tests.engine.sharded import killed

ROOT = Path(__file__).parents[3]
Victim = Literal["parent", "shard"]


def entered(engine: ShardedEngine) -> Counter[tuple[bytes, str]]:
    found: Counter[tuple[bytes, str]] = Counter()
    with engine.fragments((0, 0)) as feed:
        while (item := feed.get(timeout_seconds=0.5)) is not None:
            if isinstance(item, TagChanged) and item.change.change == "enter":
                found[item.change.subject, item.change.tag] += 1
    return found


def children(pid: int) -> list[int]:
    """Process ids of the shards of a process."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((path / "stat").read_text().rpartition(")")[2].split()[1])
            command = (path / "cmdline").read_bytes()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if parent == pid and b"spawn_main" in command:
            found.append(int(path.name))
    return found


def run_and_kill(folder: Path, first: int, lives: int, delay_s: float, victim: Victim) -> int:
    """Live lives in another process and kill it, or one of its shards; returns the last life that it finished."""
    command = [sys.executable, "-m", "tests.engine.sharded.killed", str(folder), str(first)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT
    ) as process:
        assert process.stdout is not None
        last = -1
        for line in process.stdout:
            last = int(line)
            if last - first >= lives:
                break
        shards = children(process.pid)
        assert len(shards) == 2
        time.sleep(delay_s)
        os.kill(process.pid if victim == "parent" else shards[first // 100 % 2], signal.SIGKILL)
        rest = [int(line) for line in process.stdout]
        process.wait(30)
        assert process.returncode != 0
        wait_for(lambda: not any(Path(f"/proc/{pid}").exists() for pid in shards))
    return max([last, *rest])


def wait_for(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < end, "a shard outlives its engine"
        time.sleep(0.01)


@pytest.mark.slow
@pytest.mark.parametrize("victim", ["parent", "shard"])
def test_acknowledged_events_count_once_and_moves_are_whole(tmp_path: Path, victim: Victim) -> None:
    (tmp_path / "keys").mkdir(mode=0o700)
    now_ms = time.time_ns() // 1_000_000
    path = tmp_path / "keys" / "shop.keys"
    keys = FileKeyProvider.create(path, "shop", seal=BareSeal(), random_bytes=os.urandom, now_ms=now_ms)
    rng = random.Random(7)
    done: list[int] = []
    for first in (0, 100, 200):
        last = run_and_kill(tmp_path, first, rng.randrange(2, 9), rng.random() * 0.05, victim)
        done += range(first, last + 1)
    with killed.opened(tmp_path) as engine:
        before = entered(engine)
        people = {life: keys.pseudonyms().current("user", f"k-{life}").value for life in done}
        tags = {life: {tag for who, tag in before if who == people[life]} for life in done}
        assert all(tags.values())
        for life in done:
            killed.live(engine, keys, life, consents=False)
        assert entered(engine) == before
        fragments = engine.health().fragments
        assert fragments.minted == fragments.live + fragments.tombstones
        assert set(before.values()) == {1}
        for life in done:
            device = keys.pseudonyms().current("anonymous", f"d-{life}").value
            assert engine.shard_of(device) == engine.shard_of(people[life])
