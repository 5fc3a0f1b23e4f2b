"""The `kill -9` storm: runs of a busy store, each killed at a random instant, and what must hold however it was killed.

`python -m tests.engine.durable.storm --runs 1000`
"""

import argparse
import base64
import itertools
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

from dayfly.engine.durable import Engine, TagChanged
from dayfly.engine.durable.engine_keys import series_of
from dayfly.engine.errors import FeedGap
from dayfly.privacy.audit_log import verify_audit
from dayfly.privacy.fragments.tombstones.note import open_note
from dayfly.privacy.keys import KeyName
from tests.engine.runtime.world import consent_record
from tests.oracles.merkle import SlowTree

from .breaking import contents
from .storm_child import Consumer, digest_of
from .storm_world import COUNTING, KEY_MARK, MARK, World
from .test_erasure import found_in

ROOT = Path(__file__).parents[3]
MODES = ("opening", "any", "any", "snapshot", "erasing", "merging", "leased")
"""When a run is killed: while it opens the store, at any time, or just after it said so."""


@dataclass
class Told:
    """What killed processes said, and what must hold therefore."""

    logins: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    acknowledged: set[str] = field(default_factory=set)
    merges: list[list[str]] = field(default_factory=list)
    once: set[str] = field(default_factory=set)
    triggered: set[str] = field(default_factory=set)
    erased: set[str] = field(default_factory=set)
    leases: Counter[str] = field(default_factory=Counter)
    notes: list[str] = field(default_factory=list)
    words: Counter[str] = field(default_factory=Counter)

    def hear(self, line: dict[str, Any]) -> None:
        """Take in what a run said."""
        word = line["is"]
        self.words[word] += 1
        if word == "trouble":
            raise AssertionError(line["error"])
        heard: dict[str, Callable[[], object]] = {
            "logging in": lambda: self.sent(line["logins"]),
            "logged in": lambda: self.acknowledged.update(number for _, number in line["logins"]),
            "merging": lambda: self.merges.append(line["names"]),
            "consenting once": lambda: self.once.add(line["user"]),
            "triggered once": lambda: self.triggered.add(line["user"]),
            "erased": lambda: self.erased.add(line["user"]),
            "leased": lambda: self.leases.update([line["jti"]]),
            "note": lambda: self.notes.append(line["note"]),
        }
        heard.get(word, lambda: None)()

    def sent(self, logins: list[list[str]]) -> None:
        for user, number in logins:
            self.logins[user].add(number)


class Storm:
    """A store in a folder, and the process that forks its runs."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.world = World.made(folder)
        self.told = Told()
        self.chance = random.Random(seed)
        self.seed = seed
        self.seconds: list[float] = []
        self.pid = 0
        self.first_consents()
        self.zygote = subprocess.Popen(
            [sys.executable, "-m", "tests.engine.durable.storm_child", str(folder), str(self.world.began)],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )

    def first_consents(self) -> None:
        with self.world.open() as engine:
            for user in COUNTING:
                person = self.world.person(user)
                engine.consent(person, consent_record(person, self.world.now_ms()))
            # So that what the runs need is compiled: a run that compiles is killed before it has done anything.
            engine.submit([self.world.message(COUNTING[0], "Logout", "warm-up"), b"{"], "app")

    def line(self) -> dict[str, Any]:
        assert self.zygote.stdout is not None
        raw = self.zygote.stdout.readline()
        assert raw.endswith(b"\n"), "the process that forks must live"
        found: dict[str, Any] = orjson.loads(raw)
        return found

    def run(self, number: int) -> None:
        """Fork a run, kill it, hear it out."""
        began = time.monotonic()
        mode = self.chance.choice(MODES)
        delay = self.chance.uniform(0, 0.12 if mode == "opening" else 0.5)
        assert self.zygote.stdin is not None
        self.zygote.stdin.write(b"%d\n" % (self.seed * 1_000_000 + number))
        self.zygote.stdin.flush()
        self.pid = 0
        while not self.pid:  # the run itself may be heard first
            line = self.line()
            if line["is"] == "forked":
                self.pid = int(line["pid"])
            else:
                self.told.hear(line)
        if mode == "opening":
            time.sleep(delay)
        else:
            self.wait_for("open" if mode == "any" else mode)
            time.sleep(delay if mode == "any" else self.chance.uniform(0, 0.01))
        os.kill(self.pid, signal.SIGKILL)
        while (line := self.line())["is"] != "ended":
            self.told.hear(line)
        self.pid = 0
        self.seconds.append(time.monotonic() - began)

    def wait_for(self, word: str) -> None:
        end = time.monotonic() + 3
        while (line := self.line())["is"] != word and time.monotonic() < end:
            self.told.hear(line)
        self.told.hear(line)

    def close(self) -> None:
        assert self.zygote.stdin is not None
        assert self.zygote.stdout is not None
        if self.pid:
            os.kill(self.pid, signal.SIGKILL)
        self.zygote.stdin.close()
        self.zygote.wait(30)
        self.zygote.stdout.close()

    # --- what must hold -----------------------------------------------------------------------------------------------

    def check(self) -> None:
        """Open the store and compare it with everything that was said."""
        self.check_files()
        with self.world.open() as engine:
            self.check_feed(engine)
            self.check_once()
            self.check_notes(engine)
            self.check_counts(engine)
            self.check_erased(engine)
        self.check_files()

    def check_counts(self, engine: Engine) -> None:
        """Say again whatever was not acknowledged, and a part of what was: then every login counts exactly once."""
        told, world = self.told, self.world
        again = [(user, number) for user, numbers in told.logins.items() for number in numbers]
        again = [item for item in again if item[1] not in told.acknowledged or self.chance.random() < 0.1]
        for user in told.logins:
            if user not in COUNTING:
                person = world.person(user)
                engine.consent(person, consent_record(person, world.now_ms()))
        before = self.logins_by_person(engine)
        for user, number in again:
            engine.submit([world.message(user, "Login", number)], "app")
        for kept, gone in told.merges:
            engine.merge(world.person(kept), world.person(gone))
        told.acknowledged.update(number for _, number in again)
        after = self.logins_by_person(engine)
        family = {name: kept for kept, gone in told.merges for name in (kept, gone)}
        expected: dict[str, set[str]] = defaultdict(set)
        for user, numbers in told.logins.items():
            expected[family.get(user, user)] |= numbers
        assert {user: after[user] for user in expected} == {
            user: len(found) for user, found in expected.items()
        }
        for user, count in before.items():
            assert count <= len(told.logins[user] | expected[family.get(user, user)])

    def logins_by_person(self, engine: Engine) -> dict[str, int]:
        shard = engine._running.host.engine.shard
        users = {*self.told.logins, *(name for names in self.told.merges for name in names)}

        def look(now_ms: int) -> dict[str, int]:
            engine._running.host.apply([], now_ms)
            return {
                user: int(str(shard.tags(self.world.person(user)).get("counted", {}).get("logins", 0)))
                for user in users
            }

        return engine._running.do(look)

    def check_feed(self, engine: Engine) -> None:
        """The consumer saw each position once; what the feed still keeps is what it saw."""
        path = self.world.folder / "consumer.log"
        consumer = Consumer(path)
        with engine.fragments(consumer.position) as feed:
            while (item := feed.get(timeout_seconds=0.2)) is not None:
                consumer.handle(item)
        seen = [orjson.loads(line) for line in path.read_bytes().splitlines()]
        assert [line["position"] for line in seen] == list(range(1, len(seen) + 1))
        orders = Counter(line["order"] for line in seen if line["is"] == "FragmentReady")
        assert set(orders.values()) <= {1}, "one order is at most one fragment"
        for item in kept(engine):
            if item.position > len(seen):  # time went on meanwhile
                break
            line = seen[item.position - 1]
            blank = isinstance(item, TagChanged) and not item.change.subject
            assert blank or line["digest"] == digest_of(item)
        ready = [line["jti"] for line in seen if line["is"] == "FragmentReady"]
        live = {fragment.jti for fragment in engine._running.host.engine.fragments.live()}
        for jti in self.chance.sample(ready, min(20, len(ready))):
            if jti not in live:
                assert engine.deletion_receipt(jti).tombstone.jti == jti

    def check_once(self) -> None:
        """No one-time consent gave two fragments; each that was asked for gave one; no fragment was read twice."""
        lines = [
            orjson.loads(line) for line in (self.world.folder / "consumer.log").read_bytes().splitlines()
        ]
        minted = Counter(line["series"] for line in lines if line["is"] == "FragmentReady")
        series = series_of(self.world.keys.key(KeyName.LINEAGE))
        for user in self.told.once:
            count = minted[series(self.world.person(user), "install-service-tapped").hex()]
            assert count <= 1
            assert count == 1 or user not in self.told.triggered
        once = {series(self.world.person(user), "install-service-tapped").hex() for user in self.told.once}
        short = {line["jti"] for line in lines if line["is"] == "FragmentReady" and line["series"] in once}
        assert all(count == 1 for jti, count in self.told.leases.items() if jti in short)

    def check_notes(self, engine: Engine) -> None:
        """Every signed checkpoint balances, and each later one extends each earlier one."""
        self.told.notes.append(engine.checkpoint())
        stones = engine._running.stones
        tree = SlowTree(list(stones.entries(0)))
        verifier = self.world.keys.notes().verifier
        sizes = []
        for note in self.told.notes:
            lines = open_note(note, verifier).split("\n")
            size, balance = int(lines[1]), re.search(r"minted (\d+) live (\d+)", note)
            assert balance is not None
            assert int(balance[1]) == int(balance[2]) + size
            sizes.append((size, lines[2]))
        for size, root in set(sizes):
            assert base64.b64encode(tree.mth(0, size)).decode() == root
        for (old, _), (new, _) in itertools.pairwise(sizes):
            assert old <= new
            proof = engine._running.host.engine.fragments.consistency_proof(old, new)
            assert list(proof) == tree.proof(old, new)
        stones.audit()
        self.told.notes[:-1] = []

    def check_erased(self, engine: Engine) -> None:
        """Nothing of the erased is in the state of the store, to somebody who has its keys."""
        engine.snapshot()
        copy = self.world.folder / "copy"
        subprocess.run(["cp", "-r", str(self.world.store), str(copy)], check=True)
        found = contents(copy, self.world.keys)
        for user in self.told.erased:
            person = self.world.person(user)
            assert not any(person in part for part in found.parts.values())
        subprocess.run(["rm", "-r", str(copy)], check=True)

    def check_files(self) -> None:
        """No key, no raw identifier and no value in any file; the audit log is one chain."""
        assert found_in(self.world.store, [KEY_MARK, MARK.encode()]) == []
        with (self.world.store / "audit.jsonl").open("rb") as lines:
            verify_audit(line for line in lines if line.endswith(b"\n"))


def kept(engine: Engine) -> list[Any]:
    """What the feed keeps, from as far back as it goes."""
    after, found = 0, []
    try:
        feed = engine.fragments(0)
    except FeedGap as gap:
        after = int(str(gap).rsplit("after=", 1)[1])
        feed = engine.fragments(after)
    with feed:
        while (item := feed.get(timeout_seconds=0.1)) is not None:
            found.append(item)
    return found


def storm(folder: Path, *, runs: int, seed: int, check_every: int = 25) -> Storm:
    """So many runs, checked every few of them and at the end."""
    made = Storm(folder, seed)
    try:
        for number in range(1, runs + 1):
            made.run(number)
            if number % check_every == 0 or number == runs:
                made.check()
    finally:
        made.close()
    return made


def main() -> None:
    """From the command line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--runs", type=int, default=1_000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        began = time.monotonic()
        done = storm(Path(folder), runs=options.runs, seed=options.seed)
        report = {
            "runs": options.runs,
            "seconds": round(time.monotonic() - began, 1),
            "seconds per run": round(sum(done.seconds) / len(done.seconds), 3),
            "logins": sum(map(len, done.told.logins.values())),
            **done.told.words,
        }
        sys.stdout.write(orjson.dumps(report, option=orjson.OPT_INDENT_2).decode() + "\n")


if __name__ == "__main__":
    main()
