"""Stores that are not as they were written, or not ours: a clear error and nothing overwritten, or the right answer."""

import hashlib
import json
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dayfly.engine.durable import Engine
from dayfly.engine.errors import (
    RunError,
    StoreDamaged,
    StoreForeign,
    StoreLocked,
    StoreUnusable,
    StoreVersion,
)
from dayfly.engine.store import LOCAL_DISK
from dayfly.privacy.errors import DayflyError
from tests.engine.runtime.world import furniture
from tests.engine.store.faulty import READ_ONLY, FaultyDisk

from .shop import SMALL_LOG, Shop, everything
from .test_replay import snapshot_of

ROOT = Path(__file__).parents[3]


def files(folder: Path) -> dict[str, str]:
    """Every file but the lock, by name, with a digest of its content."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != "LOCK" and not path.name.endswith(("-wal", "-shm"))
    }


@pytest.fixture
def crashed(shop: Shop) -> tuple[Shop, Path, bytes]:
    """A store that crashed with a snapshot and frames behind it; and the state that it must come back with."""
    engine = shop.open()
    for user in ("u-1", "u-2"):
        shop.allow(user)
        shop.compare_sofas(user)
    engine.withdraw(shop.person("u-2"))
    engine.submit([b"{"], "app")
    engine.checkpoint()
    engine.snapshot()
    shop.compare_sofas("u-1", ("oak",))
    engine.submit([b"[]"], "app")
    engine.withdraw(shop.person("u-1"))
    engine.checkpoint()
    copy = shop.crashed_copy()
    state = snapshot_of(engine)
    engine.close()
    return shop, copy, state


def refused(
    shop: Shop, store: Path, kind: type[Exception] | tuple[type[Exception], ...], match: str, **options: Any
) -> None:
    """Opening raises, and leaves every file as it was."""
    before = files(store)
    with pytest.raises(kind, match=match):
        shop.open(store, **options)
    assert files(store) == before


def test_a_second_writer_is_refused_with_the_pid_of_the_first(shop: Shop) -> None:
    shop.open()
    code = (
        "import sys, pathlib; from tests.engine.durable.shop import Shop;"
        "shop = Shop(pathlib.Path(sys.argv[1])); shop.keys; shop.open(pathlib.Path(sys.argv[2]))"
    )
    other = shop.folder.with_name("other")
    other.mkdir()
    done = subprocess.run(
        [sys.executable, "-c", code, str(other), str(shop.folder)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "StoreLocked" in done.stderr
    assert f"process {os.getpid()}" in done.stderr
    with pytest.raises(StoreLocked, match="must have one writer"):
        Shop.open(shop)
    assert shop.engine.submit([shop.message("u-1", "Login")], "app").payloads == 1


def test_a_folder_with_other_things_in_it_is_not_made_a_store(shop: Shop) -> None:
    shop.folder.mkdir()
    (shop.folder / "thesis.txt").write_text("ten years of work")
    refused(shop, shop.folder, StoreForeign, "must be empty to become a store but holds 'thesis.txt'")


def test_the_store_of_another_tenant_is_refused(shop: Shop, tmp_path: Path) -> None:
    shop.open().close()
    (tmp_path / "2").mkdir()
    stranger = Shop(tmp_path / "2", seed=2)
    refused(stranger, shop.folder, StoreForeign, "tenant=.* must be")


def test_keys_of_another_tenant_under_the_right_name_are_refused(shop: Shop, tmp_path: Path) -> None:
    shop.open().close()
    (tmp_path / "2").mkdir()
    other = Shop(tmp_path / "2", seed=2).keys

    class Mixed:
        """This tenant's name, another's keys."""

        tenant_id = shop.keys.tenant_id

        def __getattr__(self, name: str) -> Any:
            return getattr(other, name)

    mixed: Any = Mixed()
    shop.keys = mixed
    refused(shop, shop.folder, (StoreForeign, DayflyError), "key")


def test_the_log_of_another_tenant_is_refused(crashed: tuple[Shop, Path, bytes], tmp_path: Path) -> None:
    shop, store, _ = crashed
    (tmp_path / "2").mkdir()
    stranger = Shop(tmp_path / "2", seed=2)
    stranger.open()
    stranger.allow("u-1")
    stranger.compare_sofas("u-1")
    stranger.engine.submit([b"{"], "app")
    stranger.engine.close()
    for part in ("log", "snapshots", "tombstones", "dead"):
        mixed = store.with_name(f"mixed-{part}")
        shutil.copytree(store, mixed)
        shutil.rmtree(mixed / part)
        shutil.copytree(stranger.folder / part, mixed / part)
        refused(shop, mixed, DayflyError, "must")
    mixed = store.with_name("mixed-audit")
    shutil.copytree(store, mixed)
    shutil.copy2(stranger.folder / "audit.jsonl", mixed / "audit.jsonl")
    with pytest.raises(StoreDamaged, match="audit"):
        shop.open(mixed)


def test_a_newer_version_is_refused(crashed: tuple[Shop, Path, bytes]) -> None:
    shop, store, _ = crashed
    marker = store / "dayfly-store.json"
    content = json.loads(marker.read_bytes())
    marker.write_text(json.dumps({**content, "version": 2}))
    refused(shop, store, StoreVersion, "upgrade dayfly")


def test_a_new_store_needs_a_policy(shop: Shop) -> None:
    with pytest.raises(RunError, match="policy=None must be given for a new store"):
        Engine.open(shop.folder, shop.keys, recipients={})
    assert not shop.folder.exists()
    shop.folder.mkdir()
    shop.open().close()
    for name in ("log", "snapshots", "tombstones", "dead"):
        shutil.rmtree(shop.folder / name)
    for path in [*shop.folder.glob("keys.*"), *shop.folder.glob("lineage*"), *shop.folder.glob("*.json*")]:
        if path.name != "dayfly-store.json":
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    with pytest.raises(
        RunError, match="policy=None must be given for a new store"
    ):  # its making was interrupted
        Engine.open(shop.folder, shop.keys, recipients={})
    assert shop.open()._running.host.engine.shard.policy.digest == furniture().digest


def the_right_state(shop: Shop, store: Path, state: bytes) -> None:
    """The store opens, and its state, its feed and its balance are those of before."""
    engine = shop.open(store)
    try:
        assert snapshot_of(engine) == state
        items = everything(engine)
        assert [item.position for item in items] == list(range(1, len(items) + 1))
        assert "minted 2 live 0" in engine.checkpoint()
        engine._running.stones.audit()
    finally:
        engine.close()


def opens_rightly_or_not_at_all(shop: Shop, store: Path, state: bytes) -> str:
    """What is wrong with a store is told, or does not matter; returns the error's name, or an empty text."""
    before = files(store)
    told = ""
    try:
        shop.open(store).close()
    except DayflyError as error:
        told = type(error).__name__
    if told:
        assert not lost(before, files(store)), told
        return told
    copy = store.with_name("opened")
    shutil.rmtree(copy, ignore_errors=True)
    the_right_state(shop, store, state)
    return ""


def lost(before: dict[str, str], after: dict[str, str]) -> set[str]:
    """Files that are gone; what a crash left unfinished may be."""
    return {name for name in set(before) - set(after) if not name.endswith((".new", ".part"))}


def damage(store: Path, name: str, offset: int, bit: int) -> None:
    with (store / name).open("r+b") as file:
        file.seek(offset)
        old = file.read(1)[0]
        file.seek(offset)
        file.write(bytes([old ^ 1 << bit]))


def flips(store: Path, each: int, seed: int) -> Iterator[tuple[str, int, int]]:
    """Bits to flip in every file: near its beginning, and anywhere that holds something."""
    chance = random.Random(seed)
    for name in files(store):
        data = (store / name).read_bytes()
        if data:
            used = [at for at in range(0, len(data), 64) if any(data[at : at + 64])]
            yield name, chance.randrange(min(len(data), 64)), chance.randrange(8)
            for _ in range(each - 1):
                start = chance.choice(used)
                yield name, min(start + chance.randrange(64), len(data) - 1), chance.randrange(8)


def flip_many(crashed: tuple[Shop, Path, bytes], each: int, seed: int) -> dict[str, set[str]]:
    shop, store, state = crashed
    told: dict[str, set[str]] = {}
    for name, offset, bit in list(flips(store, each, seed)):
        damaged = store.with_name("damaged")
        shutil.rmtree(damaged, ignore_errors=True)
        shutil.copytree(store, damaged)
        damage(damaged, name, offset, bit)
        told.setdefault(name, set()).add(opens_rightly_or_not_at_all(shop, damaged, state))
    return told


def test_a_flipped_bit_in_any_file_is_told_or_changes_nothing(crashed: tuple[Shop, Path, bytes]) -> None:
    told = flip_many(crashed, 1, 1)
    assert {"dayfly-store.json", "keys.slots", "audit.jsonl"} <= set(told)


@pytest.mark.slow
def test_many_flipped_bits_in_every_file_are_told_or_change_nothing(
    crashed: tuple[Shop, Path, bytes],
) -> None:
    flip_many(crashed, 8, 2)


def test_a_missing_file_is_told_or_changes_nothing(crashed: tuple[Shop, Path, bytes]) -> None:
    shop, store, state = crashed
    told = {}
    folders = [path.name for path in store.iterdir() if path.is_dir()]
    for name in [*files(store), *folders]:
        damaged = store.with_name("damaged")
        shutil.rmtree(damaged, ignore_errors=True)
        shutil.copytree(store, damaged)
        path = damaged / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()
        told[name] = opens_rightly_or_not_at_all(shop, damaged, state)
    for name in ("keys.slots", "snapshots", "log", "tombstones", "audit.jsonl"):
        assert told[name], f"{name} cannot be missing without a word"


def test_a_disk_that_may_not_be_written_is_told(shop: Shop) -> None:
    shop.open().close()
    before = files(shop.folder)

    def fail(operation: str, _path: Path) -> int:
        return 0 if operation in ("open", "read") else READ_ONLY

    with pytest.raises(StoreUnusable, match=r"must allow .*mounted for writing"):
        open_with(shop, FaultyDisk(fail))
    shop.disk = LOCAL_DISK
    after = files(shop.folder)
    assert {name: after[name] for name in before if not name.startswith("keys")} == {
        name: digest for name, digest in before.items() if not name.startswith("keys")
    }
    shop.open()


def open_with(shop: Shop, disk: FaultyDisk) -> Engine:
    shop.disk = disk
    return shop.open(log=SMALL_LOG)
