"""What the operating system may refuse: each time a clear error, told as early as it is known, and nothing acknowledged lost."""

import os
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dayfly.engine.errors import LogFailed, StoreError, StoreForeign, StoreFull, StoreUnusable
from dayfly.engine.store import LocalDisk, Log, LogSettings, StoreMarker
from dayfly.privacy.errors import KeyStoreFailed
from dayfly.privacy.keys import KekRing, MemoryKeys, SlotKeys

from .faulty import (
    BROKEN,
    DENIED,
    FULL,
    READ_ONLY,
    TENANT,
    FaultyDisk,
    failing_with,
    fill,
    memory_keys,
    open_log,
)

MOMENT = 20.0


class Listener:
    """Gathers what `on_trouble` tells."""

    def __init__(self, log: Log) -> None:
        self.told: list[StoreError | None] = []
        self._more = threading.Condition()
        log.on_trouble(self)

    def __call__(self, trouble: StoreError | None) -> None:
        with self._more:
            self.told.append(trouble)
            self._more.notify_all()

    def wait_for(self, holds: Callable[[list[StoreError | None]], bool]) -> None:
        with self._more:
            assert self._more.wait_for(lambda: holds(self.told), MOMENT), self.told


def fill_until_it_fails(log: Log) -> LogFailed:
    with pytest.raises(LogFailed) as caught:
        fill(log, 1_000)
    return caught.value


def readable(folder: Path, keys: MemoryKeys) -> int:
    with open_log(folder, keys) as log:
        frames = list(log.frames(0))
        assert [frame.position for frame in frames] == list(range(1, len(frames) + 1))
        return len(frames)


# --- a full disk -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("number", "error"), [(FULL, StoreFull), (BROKEN, StoreUnusable), (DENIED, StoreUnusable)]
)
@pytest.mark.parametrize("operation", ["write", "sync", "open for writing"])
def test_trouble_with_the_next_segment_is_told_early_and_ends_the_log_only_when_this_one_is_full(
    tmp_path: Path, operation: str, number: int, error: type[StoreError]
) -> None:
    disk, keys = FaultyDisk(failing_with(number, operation, "00000002.new")), memory_keys()
    log = open_log(tmp_path, keys, disk=disk)
    listener = Listener(log)
    listener.wait_for(bool)
    assert isinstance(listener.told[0], error)
    assert isinstance(log.status().trouble, error)
    assert len(fill(log, 20)) == 20
    failed = fill_until_it_fails(log)
    assert isinstance(failed.__cause__, error)
    listener.wait_for(lambda told: isinstance(told[-1], LogFailed))
    assert [type(item) for item in listener.told] == [error, LogFailed]
    assert isinstance(log.status().trouble, LogFailed)
    acknowledged = log.durable
    log.close()
    assert keys.live("log") == (1,)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["00000001.seg"]
    assert readable(tmp_path, keys) == acknowledged >= 20


def test_a_disk_that_has_room_again_before_the_segment_is_full_is_told_and_the_log_goes_on(
    tmp_path: Path,
) -> None:
    disk = FaultyDisk(failing_with(FULL, "write", "00000002.new"))
    keys = memory_keys()
    with open_log(tmp_path, keys, disk=disk) as log:
        listener = Listener(log)
        listener.wait_for(bool)
        disk.fail = lambda _operation, _path: 0
        listener.wait_for(lambda told: told[-1] is None)
        assert log.status().trouble is None
        assert len(fill(log, 100)) == 100
    assert readable(tmp_path, keys) == 100


def test_the_last_chance_is_taken_when_the_segment_is_full(tmp_path: Path) -> None:
    settings = LogSettings(segment_bytes=32_768, align_bytes=512, retry_seconds=3_600)
    disk = FaultyDisk(failing_with(FULL, "write", "00000002.new"))
    with open_log(tmp_path, memory_keys(), settings=settings, disk=disk) as log:
        listener = Listener(log)
        listener.wait_for(bool)
        disk.fail = lambda _operation, _path: 0
        assert len(fill(log, 100)) == 100
        listener.wait_for(lambda told: told[-1] is None)


def test_no_room_for_the_first_segment_is_told_at_once_and_leaves_nothing(tmp_path: Path) -> None:
    disk, keys = FaultyDisk(failing_with(FULL, "write", ".new")), memory_keys()
    with pytest.raises(
        StoreFull, match=r"must have room for preparing the next log segment: No space left.*free or add"
    ):
        open_log(tmp_path / "log", keys, disk=disk)
    assert list((tmp_path / "log").iterdir()) == []
    assert keys.live("log") == ()


def test_keys_that_cannot_be_made_are_trouble_and_end_the_log_when_the_segment_is_full(
    tmp_path: Path,
) -> None:
    class RefusingKeys(MemoryKeys):
        def create(self, purpose: str) -> tuple[int, bytes]:
            if self.live("log"):
                raise KeyStoreFailed("slots=full must have room; add some")
            return super().create(purpose)

    keys = RefusingKeys(random_bytes=os.urandom, now_ms=lambda: 0)
    log = open_log(tmp_path, keys)
    Listener(log).wait_for(lambda _: log.status().trouble is not None)
    assert "keys=KeyStoreFailed must give a key for the next segment: slots=full" in str(log.status().trouble)
    failed = fill_until_it_fails(log)
    assert isinstance(failed.__cause__, StoreError)
    assert isinstance(failed.__cause__.__cause__, KeyStoreFailed)
    log.close()


# --- a broken disk ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [BROKEN, FULL])
def test_a_commit_that_fails_ends_the_log_and_is_never_tried_again(tmp_path: Path, number: int) -> None:
    disk, keys = FaultyDisk(), memory_keys()
    log = open_log(tmp_path, keys, disk=disk)
    listener = Listener(log)
    fill(log, 5)
    writes = [0]

    def fail(operation: str, path: Path) -> int:
        if operation == "write" and path.name == "00000001.seg":
            writes[0] += 1
            return number
        return 0

    disk.fail = fail
    first = log.append(1, b"lost")
    with pytest.raises(
        LogFailed, match=r"log=failed must be whole .* up to position 5: close the store"
    ) as caught:
        log.wait(first, MOMENT)
    assert isinstance(caught.value.__cause__, StoreFull if number == FULL else StoreUnusable)
    disk.fail = lambda _operation, _path: 0
    for attempt in (lambda: log.append(1, b""), log.turn, lambda: log.wait(first)):
        with pytest.raises(LogFailed, match="log=failed"):
            attempt()
    log.wait(5)
    assert [frame.position for frame in log.frames(0)] == [1, 2, 3, 4, 5]
    log.close()
    assert writes == [1]
    assert [type(item) for item in listener.told] == [LogFailed]
    assert readable(tmp_path, keys) == 5


def test_everybody_who_waits_learns_that_the_log_failed(tmp_path: Path) -> None:
    disk = FaultyDisk()
    log = open_log(tmp_path, memory_keys(), disk=disk)
    disk.fail = failing_with(BROKEN, "write", "00000001.seg")
    refusals: list[str] = []

    def work() -> None:
        try:
            log.wait(log.append(1, b"x"), MOMENT)
        except LogFailed as error:
            refusals.append(str(error))

    threads = [threading.Thread(target=work) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(MOMENT)
    assert len(refusals) == 5
    log.close()


def test_a_seal_that_cannot_be_written_ends_the_log_and_loses_nothing(tmp_path: Path) -> None:
    disk, keys = FaultyDisk(), memory_keys()
    log = open_log(tmp_path, keys, disk=disk)
    fill(log, 3)
    disk.fail = failing_with(BROKEN, "write", "00000001.seg")
    with pytest.raises(LogFailed, match="log=failed"):
        log.turn()
    log.close()
    assert readable(tmp_path, keys) == 3


def test_a_beginning_that_cannot_be_written_ends_the_log_and_loses_nothing(tmp_path: Path) -> None:
    disk, keys = FaultyDisk(), memory_keys()
    log = open_log(tmp_path, keys, disk=disk)
    fill(log, 3)
    disk.fail = failing_with(BROKEN, "write", "00000002.seg")
    with pytest.raises(LogFailed, match="log=failed"):
        log.turn()
    log.close()
    assert readable(tmp_path, keys) == 3
    with open_log(tmp_path, keys) as again:
        assert again.append(1, b"x") == 4


def test_a_disk_that_writes_a_little_at_a_time_gets_everything(tmp_path: Path) -> None:
    class ShortDisk(LocalDisk):
        def write(self, descriptor: int, data: bytes | bytearray | memoryview, offset: int) -> int:
            return super().write(descriptor, memoryview(data)[:300], offset)

    keys = memory_keys()
    with open_log(tmp_path, keys, disk=ShortDisk()) as log:
        payloads = fill(log, 40)
    with open_log(tmp_path, keys) as log:
        assert [frame.payload for frame in log.frames(0)] == payloads


def test_a_segment_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    disk, keys = FaultyDisk(), memory_keys()
    with open_log(tmp_path, keys, disk=disk) as log:
        fill(log, 3)
        disk.fail = failing_with(BROKEN, "read", ".seg")
        with pytest.raises(StoreUnusable, match="must allow reading the log: Input/output error"):
            list(log.frames(0))


def test_forgetting_that_the_system_refuses_goes_on_when_asked_again(tmp_path: Path) -> None:
    settings = LogSettings(segment_bytes=32_768, align_bytes=512, spare_segments=0)
    disk, keys = FaultyDisk(), memory_keys()
    with open_log(tmp_path, keys, settings=settings, disk=disk) as log:
        fill(log, 100)
        last = log.turn()
        disk.fail = failing_with(DENIED, "unlink", "00000002.seg")
        with pytest.raises(StoreUnusable, match="must allow removing log segments: Permission denied"):
            log.truncate_before(last + 1)
        disk.fail = lambda _operation, _path: 0
        log.truncate_before(last + 1)
        assert log.status().oldest == last + 1
        fill(log, 3)
    with open_log(tmp_path, keys, after=last) as log:
        assert len(list(log.frames(last))) == 3


# --- no permission, read-only ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("number", "reason"), [(READ_ONLY, "Read-only file system"), (DENIED, "Permission denied")]
)
def test_a_log_that_may_not_be_written_is_refused_when_it_is_opened(
    tmp_path: Path, number: int, reason: str
) -> None:
    keys = memory_keys()
    with open_log(tmp_path, keys) as log:
        fill(log, 3)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    disk = FaultyDisk(failing_with(number, "open for writing", ""))
    with pytest.raises(StoreUnusable, match=f"must allow opening the log: {reason}; check that") as caught:
        open_log(tmp_path, keys, disk=disk)
    assert caught.value.errno == number
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    assert readable(tmp_path, keys) == 3


def test_another_key_encryption_key_is_foreign_and_names_the_cause(tmp_path: Path) -> None:
    class OtherKek(MemoryKeys):
        def get(self, key_id: int) -> bytes:
            with SlotKeys.open(
                tmp_path / "keys.slots",
                KekRing({1: bytes(range(32))}, random_bytes=os.urandom),
                tenant=TENANT,
                random_bytes=os.urandom,
                now_ms=lambda: 0,
            ) as keys:
                return keys.get(key_id)

    kek = KekRing({1: os.urandom(32)}, random_bytes=os.urandom)
    SlotKeys.new(
        tmp_path / "keys.slots", kek, tenant=TENANT, random_bytes=os.urandom, now_ms=lambda: 0
    ).close()
    keys = OtherKek(random_bytes=os.urandom, now_ms=lambda: 0)
    open_log(tmp_path / "log", keys).close()
    with pytest.raises(StoreForeign, match=r"key_id=1 of .* must open under the key-encryption key given"):
        open_log(tmp_path / "log", keys)


# --- real file systems -----------------------------------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 256 KiB, where this user may mount one."""
    folder = tmp_path / "small"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(folder)]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("mounting a small file system needs more rights than this user has; run as root")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_really_full_disk_ends_the_log_with_everything_acknowledged_on_it(small_disk: Path) -> None:
    keys = memory_keys()
    log = open_log(small_disk / "log", keys)
    failed = fill_until_it_fails(log)
    assert isinstance(failed.__cause__, StoreFull)
    acknowledged = log.durable
    log.close()
    assert acknowledged > 150
    with open_log(small_disk / "log", keys) as again:
        assert len(list(again.frames(0))) == acknowledged
        again.truncate_before(acknowledged)
        assert len(fill(again, 60)) == 60


def test_a_really_read_only_disk_is_refused_and_unchanged(small_disk: Path) -> None:
    keys = memory_keys()
    with open_log(small_disk / "log", keys) as log:
        fill(log, 3)
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    with pytest.raises(
        StoreUnusable, match="Read-only file system; check that the disk is mounted for writing"
    ):
        open_log(small_disk / "log", keys)
    with pytest.raises(StoreUnusable, match="Read-only file system"):
        open_log(small_disk / "other", memory_keys())
    with pytest.raises(StoreUnusable, match="Read-only file system"):
        StoreMarker.create(small_disk / "store", tenant=TENANT, created_ms=0)
