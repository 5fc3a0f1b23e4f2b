"""Processes killed at every write to a journal: the run ends as if nothing had happened, and pays once."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from dayfly.federation.errors import Declined, JournalDiverged
from dayfly.federation.runs import Plan

from .worlds import (
    ALIGN,
    Deadly,
    Killed,
    ServiceGrid,
    coordinated,
    digest,
    lives,
    spent,
    vertical_plan,
    write_tables,
)

RUN = digest("training")[:16]
BOTH = (False, True)


@dataclass
class Whole:
    """A run that nobody killed, and the world as it was before."""

    root: Path
    plan: Plan
    weights: np.ndarray[Any, Any]
    spent: Mapping[str, Any]
    writes: Mapping[str, int]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Whole:
    root = tmp_path_factory.mktemp("world") / "before"
    write_tables(root)
    grid = ServiceGrid(root, {})
    aligned = lives(root, ALIGN, grid, run=digest("alignment")[:16])
    for service, _ in grid.services.values():
        service.end(digest("alignment")[:16])
    grid.close()
    plan = vertical_plan(aligned.document)
    after = root.with_name("after")
    shutil.copytree(root, after)
    deadly = {name: Deadly() for name in ("shop", "wifi", "server")}
    grid = ServiceGrid(after, deadly)
    outcome = lives(after, plan, grid, run=RUN, deadly=deadly["server"])
    grid.close()
    writes = {name: one.count for name, one in deadly.items()}
    return Whole(root, plan, outcome.arrays["weights"], spent(after), writes)


def killed_once(whole: Whole, root: Path, who: str, at: int, *, written: bool) -> None:
    shutil.copytree(whole.root, root)
    deadly = Deadly(at, written=written)
    grid = ServiceGrid(root, {who: deadly})
    outcome = lives(root, whole.plan, grid, run=RUN, deadly=deadly if who == "server" else None)
    grid.close()
    assert deadly.killed
    assert outcome.arrays["weights"].tobytes() == whole.weights.tobytes()
    assert spent(root) == whole.spent


def test_there_is_something_to_kill(whole: Whole) -> None:
    assert min(whole.writes.values()) >= 9
    assert all(len(releases) == 3 for releases in whole.spent.values())


@pytest.mark.parametrize(
    ("who", "at", "written"), [("shop", 5, False), ("wifi", 6, True), ("server", 8, True)]
)
def test_a_killed_run_ends_with_the_same_coefficients_and_the_same_spent_budget(
    whole: Whole, tmp_path: Path, who: str, at: int, *, written: bool
) -> None:
    killed_once(whole, tmp_path / "world", who, at, written=written)


@pytest.mark.slow
@pytest.mark.parametrize("who", ["shop", "wifi", "server"])
def test_a_run_can_be_killed_at_every_write_to_a_journal(whole: Whole, tmp_path: Path, who: str) -> None:
    for at in range(1, whole.writes[who] + 1):
        for written in BOTH:
            killed_once(whole, tmp_path / f"{at}-{written}", who, at, written=written)


@pytest.mark.slow
def test_everybody_can_be_killed_again_and_again(whole: Whole, tmp_path: Path) -> None:
    root = tmp_path / "world"
    shutil.copytree(whole.root, root)
    deadly = {name: _Often(3) for name in ("app", "shop", "wifi")}
    grid = ServiceGrid(root, deadly)
    outcome = lives(root, whole.plan, grid, run=RUN, deadly=_Often(4), most=100)
    grid.close()
    assert all(one.kills > 1 for one in deadly.values())
    assert outcome.arrays["weights"].tobytes() == whole.weights.tobytes()
    assert spent(root) == whole.spent


class _Often(Deadly):
    """Kills at every so many writes."""

    def __init__(self, every: int) -> None:
        super().__init__()
        self.every = every
        self.kills = 0

    def guard(self, journal: Any) -> None:
        append = journal.append

        def deadly(kind: int, content: bytes) -> None:
            append(kind, content)
            self.count += 1
            if self.count % self.every == 0:
                self.kills += 1
                raise Killed

        journal.append = deadly


def test_a_coordinator_with_another_plan_does_not_go_on(whole: Whole, tmp_path: Path) -> None:
    root = tmp_path / "world"
    shutil.copytree(whole.root, root)
    grid = ServiceGrid(root, {})
    with pytest.raises(Killed):
        coordinated(root, whole.plan, grid, run=RUN, deadly=Deadly(6))
    other = msgspec.structs.replace(whole.plan, settings={**whole.plan.settings, "epsilon": 4.0})
    with pytest.raises(
        JournalDiverged, match="must be the journal of this run, but differs in \\['terms'\\]"
    ):
        coordinated(root, other, grid, run=RUN)
    grid.close()


def test_a_channel_whose_data_changed_does_not_go_on(whole: Whole, tmp_path: Path) -> None:
    root = tmp_path / "world"
    shutil.copytree(whole.root, root)
    deadly = Deadly(6, written=True)
    grid = ServiceGrid(root, {"shop": deadly})
    shutil.copy(root / "shop" / "table.parquet", root / "kept.parquet")
    close_one = grid.close_one

    def changed(name: str) -> None:
        import pyarrow.parquet as pq

        close_one(name)
        table = pq.read_table(root / "shop" / "table.parquet")
        column = table.column_names.index("shop_a")
        halved = table["shop_a"].to_numpy() / 2
        pq.write_table(table.set_column(column, "shop_a", [halved]), root / "shop" / "table.parquet")

    grid.close_one = changed  # type: ignore[method-assign]
    with pytest.raises(Declined, match=r"party='shop' declined .*restart with the same version and data"):
        lives(root, whole.plan, grid, run=RUN)
    grid.close_one = close_one  # type: ignore[method-assign]
    grid.close()


# --- processes -----------------------------------------------------------------------------------------------------------


def in_processes(whole: Whole, root: Path, who: str, at: int) -> int:
    """The run in four processes, one of which kills itself at a write; how many died of it."""
    from .crashing import Deployment

    shutil.copytree(whole.root, root)
    (root / "plan.json").write_bytes(msgspec.json.encode(whole.plan))
    with Deployment(root, RUN, {who: at}) as deployment:
        deployment.finish()
    with np.load(root / "weights.npz") as saved:
        assert saved["weights"].tobytes() == whole.weights.tobytes()
    assert spent(root) == whole.spent
    return deployment.killed


@pytest.mark.slow
@pytest.mark.parametrize(("who", "at"), [("shop", 3), ("shop", 7), ("wifi", 5), ("server", 4), ("server", 9)])
def test_kill_9_of_a_process_changes_nothing(whole: Whole, tmp_path: Path, who: str, at: int) -> None:
    assert in_processes(whole, tmp_path / "world", who, at) == 1


def test_kill_9_leaves_a_journal_that_opens(tmp_path: Path) -> None:
    script = (
        "import os, sys\nfrom pathlib import Path\nfrom dayfly.federation.journal import Journal, JournalHead\n"
        "journal = Journal.open(Path(sys.argv[1]), JournalHead(b'r' * 16, 'shop', 'glm', b''), secret=bytes(range(32)),"
        " random_bytes=os.urandom, now_ms=lambda: 1)\n"
        "for number in range(50):\n    journal.append(2, b'%d' % number)\n    print(number, flush=True)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script, tmp_path / "journal"], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    said = [int(process.stdout.readline()) for _ in range(20)]
    process.send_signal(signal.SIGKILL)
    said += [int(line) for line in process.stdout.read().split()]
    process.wait()
    process.stdout.close()
    from dayfly.federation.journal import Journal, JournalHead

    with Journal.open(
        tmp_path / "journal",
        JournalHead(b"r" * 16, "shop", "glm", b""),
        secret=bytes(range(32)),
        random_bytes=os.urandom,
        now_ms=lambda: 1,
    ) as journal:
        found = [int(content) for _, content in journal.entries()]
    assert found == list(range(len(found)))
    assert len(found) >= len(said)
