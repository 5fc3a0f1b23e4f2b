"""The store's folder: marker and lock."""

import json
import os
import signal
from pathlib import Path

import pytest

from dayfly.engine.errors import (
    StoreDamaged,
    StoreForeign,
    StoreFull,
    StoreLocked,
    StoreUnusable,
    StoreVersion,
)
from dayfly.engine.store import StoreLock, StoreMarker
from dayfly.privacy.errors import InvalidArgument

from .faulty import BROKEN, FULL, TENANT, FaultyDisk, failing_with

MARKER = "dayfly-store.json"


def create(folder: Path) -> StoreMarker:
    return StoreMarker.create(folder, tenant=TENANT, created_ms=1_795_358_400_123, shards=2)


# --- marker ----------------------------------------------------------------------------------------------------------


def test_a_marker_says_in_plain_json_whose_store_it_is(tmp_path: Path) -> None:
    marker = create(tmp_path / "new" / "store")
    assert json.loads((tmp_path / "new" / "store" / MARKER).read_text()) == {
        "format": "dayfly-store",
        "version": 1,
        "tenant": TENANT.hex(),
        "created_ms": 1_795_358_400_123,
        "shards": 2,
    }
    assert StoreMarker.read(tmp_path / "new" / "store", tenant=TENANT) == marker
    assert marker.tenant_bytes == TENANT
    assert (tmp_path / "new" / "store" / MARKER).stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "new" / "store").stat().st_mode & 0o777 == 0o700


def test_a_locked_empty_folder_becomes_a_store(tmp_path: Path) -> None:
    with StoreLock.acquire(tmp_path, started_ms=1):
        create(tmp_path)
    assert StoreMarker.find(tmp_path) is not None


def test_a_folder_that_holds_something_does_not_become_a_store(tmp_path: Path) -> None:
    create(tmp_path)
    with pytest.raises(StoreForeign, match=r"must be empty to become a store but holds 'dayfly-store.json'"):
        create(tmp_path)
    (tmp_path / MARKER).rename(tmp_path / "holiday.jpg")
    with pytest.raises(StoreForeign, match=r"must be empty to become a store but holds 'holiday.jpg'"):
        create(tmp_path)


def test_a_marker_that_was_half_written_is_written_again(tmp_path: Path) -> None:
    (tmp_path / f".{MARKER}.part").write_text("{")
    assert create(tmp_path) == StoreMarker.read(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [MARKER]


def test_a_folder_without_a_marker_is_no_store(tmp_path: Path) -> None:
    assert StoreMarker.find(tmp_path) is None
    assert StoreMarker.find(tmp_path / "absent") is None
    with pytest.raises(StoreForeign, match=r"must hold dayfly-store.json to be a store"):
        StoreMarker.read(tmp_path)


def test_another_tenants_store_is_foreign(tmp_path: Path) -> None:
    create(tmp_path)
    with pytest.raises(StoreForeign, match=f"tenant={TENANT.hex()} of .* must be {bytes(16).hex()}"):
        StoreMarker.read(tmp_path, tenant=bytes(16))


@pytest.mark.parametrize(
    ("text", "error", "match"),
    [
        ("", StoreDamaged, "must be a store's marker"),
        ("{", StoreDamaged, "must be a store's marker"),
        ("\xff\xfe", StoreDamaged, "must be a store's marker"),
        ("[]", StoreDamaged, "must be a store's marker"),
        ('{"format":"other","version":1}', StoreForeign, "format='other' of .* must be 'dayfly-store'"),
        (
            '{"format":"dayfly-store","version":2,"new":true}',
            StoreVersion,
            "version=2 .* must be <= 1; upgrade",
        ),
        ('{"format":"dayfly-store","version":1}', StoreDamaged, "missing required field `tenant`"),
    ],
)
def test_a_marker_that_is_none_is_told_apart(
    tmp_path: Path, text: str, error: type[Exception], match: str
) -> None:
    (tmp_path / MARKER).write_text(text, encoding="latin-1")
    with pytest.raises(error, match=match):
        StoreMarker.read(tmp_path)


@pytest.mark.parametrize(
    "change",
    [{"tenant": "00"}, {"tenant": "zz" * 16}, {"shards": 0}, {"version": 0}, {"more": 1}, {"shards": "2"}],
)
def test_a_marker_with_wrong_fields_is_damaged(tmp_path: Path, change: dict[str, object]) -> None:
    create(tmp_path)
    fields = json.loads((tmp_path / MARKER).read_text())
    (tmp_path / MARKER).write_text(json.dumps(fields | change))
    with pytest.raises(StoreDamaged, match=r"must be a store's marker: .*restore it from a backup"):
        StoreMarker.read(tmp_path)


@pytest.mark.parametrize(("number", "error"), [(FULL, StoreFull), (BROKEN, StoreUnusable)])
@pytest.mark.parametrize("operation", ["write", "sync", "rename"])
def test_a_marker_that_cannot_be_written_leaves_no_store(
    tmp_path: Path, operation: str, number: int, error: type[Exception]
) -> None:
    disk = FaultyDisk(failing_with(number, operation, MARKER))
    with pytest.raises(error, match="making a store"):
        StoreMarker.create(tmp_path, tenant=TENANT, created_ms=0, disk=disk)
    assert list(tmp_path.iterdir()) == []


def test_arguments_of_a_marker_are_checked(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgument, match="shards=0 must be >= 1"):
        StoreMarker.create(tmp_path, tenant=TENANT, created_ms=0, shards=0)
    with pytest.raises(InvalidArgument, match="tenant of 3 bytes must have 16"):
        StoreMarker.create(tmp_path, tenant=b"abc", created_ms=0)


# --- lock ------------------------------------------------------------------------------------------------------------


def test_a_second_lock_in_the_same_process_is_refused_until_the_first_is_released(tmp_path: Path) -> None:
    first = StoreLock.acquire(tmp_path, started_ms=5)
    with pytest.raises(StoreLocked, match=f"process {os.getpid()}, which started at 5 ms UTC") as caught:
        StoreLock.acquire(tmp_path, started_ms=6)
    assert caught.value.pid == os.getpid()
    first.release()
    first.release()
    StoreLock.acquire(tmp_path, started_ms=7).release()


def test_a_writer_that_cannot_be_named_is_another_process(tmp_path: Path) -> None:
    with StoreLock.acquire(tmp_path, started_ms=5):
        (tmp_path / "LOCK").write_text("not a pid")
        with pytest.raises(StoreLocked, match="must have one writer, and another process, writes") as caught:
            StoreLock.acquire(tmp_path, started_ms=6)
        assert caught.value.pid is None


def test_a_forked_child_does_not_keep_the_lock(tmp_path: Path) -> None:
    lock = StoreLock.acquire(tmp_path, started_ms=5)
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writing, b"!")
        signal.pause()
    os.read(reading, 1)
    try:
        lock.release()
        StoreLock.acquire(tmp_path, started_ms=6).release()
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        os.close(reading)
        os.close(writing)


def test_a_child_that_releases_what_it_inherited_does_not_release_its_parents_lock(tmp_path: Path) -> None:
    with StoreLock.acquire(tmp_path, started_ms=5) as lock:
        child = os.fork()
        if child == 0:
            lock.release()
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        with pytest.raises(StoreLocked, match="which started at 5 ms UTC"):
            StoreLock.acquire(tmp_path, started_ms=6)


def test_a_child_that_is_killed_gives_its_lock_back(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        held = StoreLock.acquire(tmp_path, started_ms=5)
        os.write(writing, b"!")
        signal.pause()
        held.release()
    os.read(reading, 1)
    with pytest.raises(StoreLocked, match=f"process {child}, which"):
        StoreLock.acquire(tmp_path, started_ms=6)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    StoreLock.acquire(tmp_path, started_ms=6).release()
    os.close(reading)
    os.close(writing)


def test_a_folder_that_is_absent_cannot_be_locked(tmp_path: Path) -> None:
    with pytest.raises(StoreUnusable, match="must allow locking the store: No such file or directory"):
        StoreLock.acquire(tmp_path / "absent", started_ms=0)
