"""A disk that fails or is full: everybody is told, keys are destroyed, nothing acknowledged is lost, and opening again goes on."""

import contextlib
import errno
import subprocess
import sys
import threading
from concurrent.futures import Future
from pathlib import Path

import pytest

from dayfly.engine.durable.loop import Receipt
from dayfly.engine.durable.views import AuditFile
from dayfly.engine.errors import EngineClosed, EngineFailed, StoreFull
from dayfly.engine.store import LOCAL_DISK
from dayfly.privacy.errors import FragmentServiceClosed
from tests.engine.runtime.world import consent_record
from tests.engine.store.faulty import BROKEN, FULL, FaultyDisk, failing_with

from .breaking import wait_until
from .shop import Shop, ready
from .storm_world import COUNTING, World
from .test_prefixes import balanced

ROOT = Path(__file__).parents[3]


def failing_shop(shop: Shop) -> FaultyDisk:
    """A shop on a disk that works until it is told otherwise; somebody's fragment is alive."""
    disk = FaultyDisk()
    shop.disk = disk
    shop.open()
    shop.allow("u-1")
    shop.compare_sofas("u-1")
    assert ready(shop.engine)
    return disk


@pytest.mark.parametrize("number", [FULL, BROKEN])
def test_a_write_that_fails_is_told_to_all_who_wait_and_nothing_acknowledged_is_lost(
    shop: Shop, number: int
) -> None:
    disk = failing_shop(shop)
    service = shop.engine._running.host.engine.fragments
    disk.fail = failing_with(number, "write", ".seg")
    waiting: list[Future[Receipt]] = []
    with contextlib.suppress(EngineFailed):  # it may fail before all have come
        for _ in range(20):
            waiting.append(shop.engine.submit_later([shop.message("u-2", "Login")], "app"))  # noqa: PERF401 - what came is kept
    assert waiting
    for future in waiting:
        with pytest.raises(
            EngineFailed, match=r"engine=<failed> must be opened again: .*; what was acknowledged is safe"
        ):
            future.result(timeout=10)
    with pytest.raises(EngineFailed):
        shop.engine.submit([shop.message("u-2", "Login")], "app")
    with pytest.raises(EngineFailed):
        shop.engine.withdraw(shop.person("u-1"))
    wait_until(lambda: not service._state.slab._head[-1] or service._state.closed)
    with pytest.raises(FragmentServiceClosed):
        service.checkpoint(shop.clock.now_ms)
    assert not any(bytes(pages).strip(b"\0") for pages in service._state.slab._slabs), (
        "no key is left in memory"
    )
    shop.engine.close()
    shop.disk = LOCAL_DISK
    engine = shop.open()
    assert engine._running.host.engine.shard.tags(shop.person("u-1"))
    balanced(engine)


def test_calls_that_come_while_the_engine_fails_are_all_answered(shop: Shop) -> None:
    disk = failing_shop(shop)
    answered: list[BaseException | None] = []
    stop = threading.Event()

    def call() -> None:
        while not stop.is_set():
            try:
                shop.engine.submit([shop.message("u-2", "Login")], "app")
            except (EngineFailed, EngineClosed) as error:
                answered.append(error)
                return

    threads = [threading.Thread(target=call) for _ in range(8)]
    for thread in threads:
        thread.start()
    threading.Event().wait(0.05)
    disk.fail = failing_with(FULL, "write", ".seg")
    for thread in threads:
        thread.join(10)
    stop.set()
    assert len(answered) == 8


def test_a_turn_that_ends_after_the_failure_is_answered_too(shop: Shop) -> None:
    engine = shop.open()
    running = engine._running
    entered, go_on = threading.Event(), threading.Event()

    def hold(_: int) -> str:
        entered.set()
        go_on.wait(10)
        return "done"

    answer: list[object] = []

    def call() -> None:
        try:
            answer.append(running.do(hold))
        except EngineFailed as error:
            answer.append(error)

    caller = threading.Thread(target=call)
    caller.start()
    entered.wait(10)
    running.host._append(9, b"")  # the turn has something to wait for
    running.fail(OSError(errno.EIO, "the disk is gone"))
    running.releases._durable = -1
    go_on.set()
    caller.join(10)
    assert isinstance(answer[0], EngineFailed)
    wait_until(lambda: not running.loop._thread.is_alive())


def test_a_view_that_cannot_be_written_fails_the_engine_and_is_caught_up_later(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = shop.open()
    shop.allow("u-1")

    def full(_self: AuditFile, _lines: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(AuditFile, "add", full)
    shop.compare_sofas("u-1")
    wait_until(lambda: engine._running.failure is not None)
    with pytest.raises(EngineFailed, match="No space left on device"):
        shop.act("u-1", "Login")
    monkeypatch.undo()
    engine.close()
    engine = shop.open()
    assert engine._running.views.audit.head == engine._running.host.standing.audit
    assert engine._running.views.audit.head.lines > 0
    balanced(engine)


def test_a_snapshot_for_which_there_is_no_room_is_told_and_the_engine_goes_on(shop: Shop) -> None:
    disk = failing_shop(shop)
    disk.fail = failing_with(FULL, "write", ".snap")
    with pytest.raises(StoreFull, match="free or add disk space"):
        shop.engine.snapshot()
    assert shop.act("u-1", "Login").payloads == 1
    disk.fail = lambda _operation, _path: 0
    assert shop.engine.snapshot() > 0


def test_an_erasure_for_which_there_is_no_room_is_told_and_completed_when_there_is(shop: Shop) -> None:
    disk = failing_shop(shop)
    disk.fail = failing_with(FULL, "write", ".snap")
    with pytest.raises(StoreFull):
        shop.engine.erase(shop.person("u-1"))
    assert shop.engine._running.erasures.pending() > 0
    with pytest.raises(StoreFull):
        shop.engine.close()  # its last snapshot; the folder is released all the same
    shop.disk = LOCAL_DISK
    engine = shop.open()
    assert engine._running.erasures.pending() == 0
    assert shop.person("u-1") not in engine._running.host.standing.to_bytes(())


FULL_CHILD = """
import resource, sys
from pathlib import Path
from tests.engine.durable.storm_world import COUNTING, World

world = World(Path(sys.argv[1]), float(sys.argv[2]))
engine = world.open()
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[3]), -1))
try:
    for number in range(2_000):
        engine.submit([world.message(COUNTING[0], "Login", f"m-{number}"), b"{"], "app")
        print("acknowledged", number, flush=True)
        if number % 50 == 49:
            engine.snapshot()
except Exception as error:
    print(type(error).__name__, error, flush=True)
try:
    engine.close()
except Exception as error:
    print("closing", type(error).__name__, flush=True)
"""


@pytest.mark.parametrize("size", [512 * 137, 512 * 293])
def test_a_full_disk_in_every_file_at_once_is_told_and_nothing_acknowledged_is_lost(
    tmp_path: Path, size: int
) -> None:
    world = World.made(tmp_path)
    with world.open() as engine:
        person = world.person(COUNTING[0])
        engine.consent(person, consent_record(person, world.now_ms()))
    done = subprocess.run(
        [sys.executable, "-c", FULL_CHILD, str(tmp_path), str(world.began), str(size)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    lines = done.stdout.splitlines()
    acknowledged = sum(line.startswith("acknowledged") for line in lines)
    told = [line for line in lines if not line.startswith("acknowledged")]
    assert acknowledged > 10, done.stderr
    assert told[0].startswith(("EngineFailed", "StoreFull")), done.stdout + done.stderr
    assert "room" in told[0] or "File too large" in told[0]
    with world.open() as engine:
        counted = engine._running.host.engine.shard.tags(person)["counted"]["logins"]
        assert acknowledged <= int(str(counted)) <= acknowledged + 1
        balanced(engine)
        assert engine.submit([world.message(COUNTING[0], "Login", "after")], "app").payloads == 1
