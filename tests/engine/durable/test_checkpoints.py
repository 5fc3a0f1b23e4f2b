"""Checkpoints are signed beside the engine's thread: never ahead of the log, and an error of the disk is not lost."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from dayfly.engine.durable.checkpoints import Checkpoints
from dayfly.privacy.fragments import DestroyReason
from dayfly.privacy.fragments.tombstones.durable import DurableGraveyard
from dayfly.privacy.fragments.tombstones.log import TombstoneLog
from dayfly.privacy.fragments.tombstones.note import Checkpoint, open_note
from dayfly.privacy.fragments.tombstones.receipt import Tombstone
from tests.privacy.fragments.test_tombstone_log import SIGNER, VERIFIER, opened, stone
from tests.privacy.fragments.world import NOW_MS

from .breaking import wait_until
from .shop import Shop


class Service:
    """Ten fragments are alive."""

    def __init__(self, graves: DurableGraveyard) -> None:
        self._graves = graves

    def live_count(self) -> int:
        return 10

    def checkpoint(self, now_ms: int) -> str:
        return self._graves.checkpoint(10, now_ms)


class Yard:
    """A tombstone log whose host says when it is durable."""

    def __init__(self, folder: Path) -> None:
        self.log: TombstoneLog = opened(folder)
        self.graves = DurableGraveyard(self.log, SIGNER, ready=lambda _: None)
        self.graves.settle(10)
        self.service = Service(self.graves)
        self.checkpoints = Checkpoints(self.graves)

    def bury(self, number: int) -> None:
        made: Tombstone = stone(number, reason=DestroyReason.OPERATOR)
        self.graves.bury_lost([made])
        self.graves.minted += 1

    def newest(self) -> Checkpoint | None:
        return None if not self.log.note else Checkpoint.from_text(open_note(self.log.note, VERIFIER))


@pytest.fixture
def yard(tmp_path: Path) -> Iterator[Yard]:
    made = Yard(tmp_path / "graves")
    yield made
    made.checkpoints.stop()
    made.graves.close()


def test_a_checkpoint_waits_for_the_log_and_says_what_held_when_it_was_begun(yard: Yard) -> None:
    yard.bury(0)
    yard.checkpoints.begin(yard.service, 7, NOW_MS)
    yard.checkpoints.go_on(6)
    yard.checkpoints.stop()
    assert yard.newest() is None
    yard.checkpoints.begin(yard.service, 7, NOW_MS)
    yard.bury(1)  # later than what was begun
    yard.checkpoints.go_on(7)
    yard.checkpoints.stop()
    newest = yard.newest()
    assert newest is not None
    assert (newest.size, newest.minted, newest.live, newest.at_ms) == (1, 11, 10, NOW_MS)
    assert yard.checkpoints.signed == 1


def test_nothing_is_signed_where_nothing_was_buried(yard: Yard) -> None:
    yard.checkpoints.begin(yard.service, 0, NOW_MS)
    yard.checkpoints.go_on(5)
    yard.checkpoints.sign_now(yard.service, NOW_MS)
    assert yard.newest() is None


def test_one_that_is_asked_for_at_once_follows_the_one_under_way(
    yard: Yard, monkeypatch: pytest.MonkeyPatch
) -> None:
    entered, go_on = threading.Event(), threading.Event()
    keep = yard.log.keep

    def slow(note: str, checkpoint: Checkpoint) -> None:
        entered.set()
        assert go_on.wait(30)
        keep(note, checkpoint)

    monkeypatch.setattr(yard.log, "keep", slow)
    yard.bury(0)
    yard.checkpoints.begin(yard.service, 1, NOW_MS)
    yard.checkpoints.go_on(1)
    assert entered.wait(30)
    yard.bury(1)
    yard.checkpoints.begin(yard.service, 2, NOW_MS + 1)  # one is under way: the next turn asks again
    yard.checkpoints.go_on(2)
    threading.Timer(0.05, go_on.set).start()
    yard.checkpoints.sign_now(yard.service, NOW_MS + 2)
    newest = yard.newest()
    assert newest is not None
    assert (newest.size, newest.at_ms) == (2, NOW_MS + 2)


def test_an_older_checkpoint_does_not_replace_a_newer_one(yard: Yard) -> None:
    yard.bury(0)
    early = yard.graves.begin(10, NOW_MS)
    yard.graves.checkpoint(10, NOW_MS + 5)
    yard.graves.finish(early)
    newest = yard.newest()
    assert newest is not None
    assert newest.at_ms == NOW_MS + 5


def test_an_error_of_the_disk_is_raised_on_the_engines_thread(
    yard: Yard, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(yard.log, "keep", full)
    yard.bury(0)
    yard.checkpoints.begin(yard.service, 1, NOW_MS)
    yard.checkpoints.go_on(1)
    yard.checkpoints.stop()
    with pytest.raises(OSError, match="No space left"):
        yard.checkpoints.go_on(1)


def test_a_running_engine_signs_what_was_destroyed_without_being_asked(tmp_path: Path) -> None:
    shop = Shop(tmp_path)
    with shop.open() as engine:
        shop.allow("u-1")
        shop.act("u-1", "Install Service Tapped", sku="sku-1")
        engine.withdraw(shop.person("u-1"))
        running = engine._running
        buried = len(running.graves)
        assert buried

        def signed() -> bool:
            shop.clock.now_ms += 50
            engine.nonce()
            return running.stones.newest is not None

        wait_until(signed)
        newest = running.stones.newest
        assert newest is not None
        assert newest.size == buried
        assert newest.minted == newest.live + newest.size
