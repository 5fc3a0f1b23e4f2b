"""`dayfly store`, `backup`, `restore`: a stopped store is made, looked at, checked, copied and brought back."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import orjson
import pytest

from dayfly.engine.delivery.store import DeliveryStore
from dayfly.engine.durable import Engine
from dayfly.engine.policy.load import example_policy_folder
from dayfly.privacy.keys import BareSeal, FileKeyProvider

from .support import dayfly


class Site:
    """A key file and a store with two events and a dead letter in it."""

    def __init__(self, folder: Path) -> None:
        self.keys = folder / "secrets" / "shop.keys"
        self.store = folder / "store"
        assert dayfly("keys", "init", self.keys, "--tenant", "shop", "--bare").exit_code == 0
        made = dayfly("store", "init", self.store, "--keys", self.keys, "--policy", example_policy_folder())
        assert made.exit_code == 0, made.output
        with self.open() as engine:
            engine.submit([message("m-1"), message("m-2"), b"{"], "app")

    def provider(self) -> FileKeyProvider:
        return FileKeyProvider.open(self.keys, seal=BareSeal(), random_bytes=os.urandom)

    def open(self) -> Engine:
        return Engine.open(self.store, self.provider(), recipients={})


def message(number: str) -> bytes:
    return orjson.dumps(
        {"type": "track", "messageId": number, "userId": "u-1", "event": "Login", "properties": {}}
    )


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Site:
    return Site(tmp_path_factory.mktemp("site"))


@pytest.fixture
def site(made: Site, tmp_path: Path) -> Site:
    """A copy that may be broken. Copying keys.slots is for tests alone."""
    copy = object.__new__(Site)
    copy.keys, copy.store = made.keys, tmp_path / "store"
    shutil.copytree(made.store, copy.store)
    return copy


def parts(site: Site) -> dict[str, bool]:
    result = dayfly("store", "check", site.store, "--keys", site.keys, "--json")
    told = orjson.loads(result.stdout)
    assert result.exit_code == (0 if told["holds"] else 1)
    return {one["part"]: one["holds"] for one in told["parts"]}


def test_a_folder_with_something_in_it_does_not_become_a_store(site: Site, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "file").write_text("mine")
    result = dayfly(
        "store", "init", tmp_path / "mine", "--keys", site.keys, "--policy", example_policy_folder()
    )
    assert result.exit_code == 2
    assert "must be absent or empty" in result.output
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["file"]


def test_a_whole_store_holds_and_checking_changes_no_byte_of_it(site: Site) -> None:
    before = {
        path: path.read_bytes() for path in site.store.rglob("*") if path.is_file() and path.name != "LOCK"
    }
    assert parts(site) == dict.fromkeys(
        ("marker", "keys", "snapshots", "log", "tombstones", "audit", "lineage", "dead"), True
    )
    after = {
        path: path.read_bytes() for path in site.store.rglob("*") if path.is_file() and path.name != "LOCK"
    }
    assert after == before
    shown = dayfly("store", "check", site.store, "--keys", site.keys)
    assert shown.exit_code == 0
    assert "snapshots  holds" in shown.stdout


def flip(path: Path, offset: int) -> None:
    raw = bytearray(path.read_bytes())
    raw[offset] ^= 0x40
    path.write_bytes(raw)


def write(path: Path, text: str) -> None:
    path.write_text(text)


def first(folder: Path, form: str) -> Path:
    return min(folder.glob(form))


DAMAGE: dict[str, Callable[[Path], None]] = {
    "snapshots": lambda store: flip(first(store / "snapshots", "*.snap"), 4_200),
    "log": lambda store: flip(first(store / "log", "*.seg"), 10),
    "tombstones": lambda store: write(store / "tombstones" / "checkpoint", "no note"),
    "audit": lambda store: write(store / "audit.jsonl", '{"seq":5}\n'),
    "lineage": lambda store: flip(store / "lineage.db", 4_096 + 3),
    "dead": lambda store: flip(first(store / "dead", "*.dead"), 20),
}


@pytest.mark.parametrize("part", DAMAGE)
def test_damage_is_found_where_it_is(site: Site, part: str) -> None:
    DAMAGE[part](site.store)
    found = parts(site)
    assert not found[part]
    assert [name for name, holds in found.items() if not holds] == [part]


def told(site: Site, part: str) -> str:
    result = dayfly("store", "check", site.store, "--keys", site.keys, "--json")
    (found,) = [one["told"] for one in orjson.loads(result.stdout)["parts"] if one["part"] == part]
    return str(found)


def test_dead_letters_are_counted_and_a_torn_last_block_is_no_damage(site: Site) -> None:
    with site.open() as engine:
        engine.submit([b"[", b"{"], "app")
    path = max((site.store / "dead").glob("*.dead"))
    whole = path.read_bytes()
    assert told(site, "dead").startswith("3 letters in ")
    path.write_bytes(whole[:-3])
    assert told(site, "dead").startswith("1 letters in ")
    assert path.read_bytes() == whole[:-3]
    path.write_bytes(whole)
    flip(path, 68 + 30)  # in the first block, behind which another one stands
    assert "block=0" in told(site, "dead")


def test_a_delivery_database_beside_the_store_is_checked_too(site: Site) -> None:
    path = site.store / "delivery.db"
    DeliveryStore(path, tenant="shop").close()
    before = path.read_bytes()
    assert told(site, "delivery") == "0 fragments, 0 deliveries under way"
    assert path.read_bytes() == before
    flip(path, 4_096 + 3)
    assert not parts(site)["delivery"]
    path.unlink()
    DeliveryStore(path, tenant="somebody else").close()
    assert "must belong to tenant" in told(site, "delivery")


def test_an_older_snapshot_that_is_damaged_is_found_beside_a_whole_one(site: Site) -> None:
    with site.open() as engine:
        engine.submit([message("m-3")], "app")
    kept = sorted((site.store / "snapshots").glob("*.snap"))
    assert len(kept) == 2
    flip(kept[0], 4_200)
    assert not parts(site)["snapshots"]


def test_what_a_crash_leaves_to_be_mended_is_no_damage(site: Site) -> None:
    with (site.store / "audit.jsonl").open("ab") as file:
        file.write(b'{"seq":0,"prev"')
    with (site.store / "tombstones" / "tombstones.jsonl").open("ab") as file:
        file.write(b'{"v":1')
    assert all(parts(site).values())
    assert (site.store / "audit.jsonl").read_bytes().endswith(b'"prev"')


def test_slots_that_do_not_open_end_the_check_there(site: Site) -> None:
    flip(site.store / "keys.slots", 8_192 + 20)
    assert parts(site) == {"marker": True, "keys": False}


def test_a_store_in_use_is_neither_checked_nor_copied_and_its_status_names_the_writer(
    site: Site, tmp_path: Path
) -> None:
    with site.open():
        told = orjson.loads(dayfly("store", "status", site.store, "--json").stdout)
        assert told["writer"] == os.getpid()
        for command in (["store", "check"], ["backup"]):
            more = ["--to", tmp_path / "b"] if command == ["backup"] else []
            result = dayfly(*command, site.store, "--keys", site.keys, *more)
            assert result.exit_code == 2
            assert f"process {os.getpid()}" in result.output
    assert orjson.loads(dayfly("store", "status", site.store, "--json").stdout)["writer"] is None


def test_the_status_tells_what_is_there(site: Site) -> None:
    told = orjson.loads(dayfly("store", "status", site.store, "--json").stdout)
    assert told["tenant_id"] == site.provider().tenant_id.hex()
    assert told["snapshots"]
    assert told["bytes"]["dead"] > 0
    assert "tenant_id" in dayfly("store", "status", site.store).stdout


@pytest.mark.parametrize("command", ["status", "check"])
def test_a_folder_that_is_no_store_is_status_2(site: Site, tmp_path: Path, command: str) -> None:
    more = ["--keys", site.keys] if command == "check" else []
    result = dayfly("store", command, tmp_path, *more)
    assert result.exit_code == 2
    assert "to be a store" in result.output


def test_a_backup_brings_a_store_back(site: Site, tmp_path: Path) -> None:
    backup, new = tmp_path / "b", tmp_path / "new"
    written = dayfly("backup", site.store, "--to", backup, "--keys", site.keys, "--json")
    assert written.exit_code == 0, written.output
    slots = site.store / "keys.slots"
    result = dayfly("restore", backup, "--to", new, "--slots", slots, "--keys", site.keys, "--json")
    assert result.exit_code == 0, result.output
    assert orjson.loads(result.stdout)["position"] == orjson.loads(written.stdout)["position"]
    assert not slots.exists()
    site.store = new
    assert all(parts(site).values())
    with site.open() as engine:
        assert engine.submit([message("m-4")], "app").payloads == 1


def test_a_backup_that_is_none_is_status_2_and_nothing_moves(site: Site, tmp_path: Path) -> None:
    (tmp_path / "b").write_text("nothing of ours, but long enough to be looked at " * 3)
    slots = site.store / "keys.slots"
    result = dayfly(
        "restore", tmp_path / "b", "--to", tmp_path / "new", "--slots", slots, "--keys", site.keys
    )
    assert result.exit_code == 2
    assert "must be a backup of a store" in result.output
    assert slots.exists()


def test_a_checkpoint_of_somebody_else_is_refused(site: Site, tmp_path: Path) -> None:
    dayfly("backup", site.store, "--to", tmp_path / "b", "--keys", site.keys)
    (tmp_path / "note").write_text("dayfly.example/other\n1\nAAAA\n\n— dayfly.example/other AAAA\n")
    result = dayfly(
        "restore", tmp_path / "b", "--to", tmp_path / "new", "--slots", site.store / "keys.slots",
        "--keys", site.keys, "--checkpoint", tmp_path / "note",
    )  # fmt: skip
    assert result.exit_code == 2
    assert not (tmp_path / "new").exists()


def test_recipients_are_a_json_object(site: Site, tmp_path: Path) -> None:
    (tmp_path / "r").write_text("[1]")
    result = dayfly(
        "backup", site.store, "--to", tmp_path / "b", "--keys", site.keys, "--recipients", tmp_path / "r"
    )
    assert result.exit_code == 2
    assert "must be a JSON object, audience to thumbprint" in result.output
