"""A backup holds everything up to its position, ends with the next erasure, and becomes one store again, never two."""

import importlib
import os
import shutil
import struct
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dayfly.engine.delivery.items import FragmentReady
from dayfly.engine.durable import backup as backup_module
from dayfly.engine.durable.backup import BackupInfo
from dayfly.engine.durable.backup_file import BackupHead, read_head, read_parts, write_parts
from dayfly.engine.durable.restore import Restored, restore
from dayfly.engine.errors import (
    BackupEnded,
    StoreDamaged,
    StoreError,
    StoreForeign,
    StoreFull,
    StoreLocked,
    StoreVersion,
)
from dayfly.privacy.audit_log import verify_audit
from dayfly.privacy.errors import KeyStoreError, LeaseRefused, TombstoneLogError
from dayfly.privacy.fragments import verify_receipt
from tests.engine.runtime.world import T0

from .breaking import contents
from .shop import Shop, everything, ready

restore_module = importlib.import_module(
    "dayfly.engine.durable.restore"
)  # its name in the package is the function
KEY = bytes(range(32))
HEAD = BackupHead(key_id=7, tenant=b"t" * 16, position=41, at_ms=T0)
HEADER_BYTES = 72


def written(folder: Path, parts: list[tuple[str, list[bytes]]] | None = None, *, name: str = "b") -> Path:
    path = folder / name
    write_parts(
        path, HEAD, KEY, parts or [("one", [b"first", b"second"]), ("empty", []), ("two", [b"x" * 9])]
    )
    return path


def joined(path: Path, key: bytes = KEY) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    for name, piece in read_parts(path, key):
        found[name] = found.get(name, b"") + piece
    return found


def restored(shop: Shop, info: BackupInfo, *, name: str = "restored", **options: Any) -> Restored:
    return restore(
        info.path,
        shop.folder.with_name(name),
        shop.keys,
        slots=options.pop("slots", shop.folder / "keys.slots"),
        random_bytes=os.urandom,
        now_ms=shop.clock,
        **options,
    )


def copied(folder: Path) -> Path:
    return Path(shutil.copytree(folder, folder.with_name(f"{folder.name}-copy")))


def lived_in(shop: Shop) -> FragmentReady:
    """A store with a live fragment, a dead one, a leased one, a dead letter and somebody half way into a tag."""
    shop.open()
    shop.allow("u-1")
    shop.compare_sofas("u-1")
    (fragment,) = ready(shop.engine)
    shop.read(fragment)
    shop.allow("u-2")
    shop.compare_sofas("u-2")
    shop.engine.withdraw(shop.person("u-2"))
    shop.allow("u-3")
    shop.compare_sofas("u-3", ("leather", "fabric"))
    shop.engine.submit([b"{"], "app")
    return fragment


# --- the file ---------------------------------------------------------------------------------------------------------


@given(
    st.lists(
        st.tuples(st.text("ab/.", min_size=1, max_size=8), st.lists(st.binary(max_size=40), max_size=3)),
        unique_by=lambda part: part[0],
    )
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_is_read_is_what_was_written(tmp_path: Path, parts: list[tuple[str, list[bytes]]]) -> None:
    path = tmp_path / os.urandom(8).hex()
    write_parts(path, HEAD, KEY, parts)
    assert joined(path) == {name: b"".join(pieces) for name, pieces in parts}
    assert read_head(path) == HEAD


def test_a_piece_larger_than_a_chunk_is_whole_again(tmp_path: Path) -> None:
    piece = os.urandom((2 << 20) + 5)
    assert joined(written(tmp_path, [("big", [piece])])) == {"big": piece}


def test_the_first_chunk_opens_with_aes_gcm_as_the_format_says(tmp_path: Path) -> None:
    raw = written(tmp_path).read_bytes()
    fields, head = raw[:52], raw[HEADER_BYTES : HEADER_BYTES + 16]
    size, kind, index, _ = struct.unpack("<IIII", head)
    body = raw[HEADER_BYTES + 16 : HEADER_BYTES + 16 + size + 16]
    nonce = bytes(7) + struct.pack(">IB", index, kind)
    assert AESGCM(KEY).decrypt(nonce, body, fields + head[:12]) == b"one"


def test_a_backup_cut_off_anywhere_is_refused(tmp_path: Path) -> None:
    whole = written(tmp_path).read_bytes()
    cut = tmp_path / "cut"
    for length in range(len(whole)):
        cut.write_bytes(whole[:length])
        with pytest.raises(StoreForeign if length < 8 else StoreDamaged, match="must"):
            joined(cut)


def test_a_backup_with_any_bit_changed_is_refused(tmp_path: Path) -> None:
    whole = written(tmp_path).read_bytes()
    changed = tmp_path / "changed"
    for offset in range(len(whole)):
        changed.write_bytes(whole[:offset] + bytes([whole[offset] ^ (1 << offset % 8)]) + whole[offset + 1 :])
        with pytest.raises(StoreError, match="must"):
            joined(changed)


def test_a_backup_with_something_behind_it_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path)
    path.write_bytes(path.read_bytes() + b"\0")
    with pytest.raises(StoreDamaged, match="it must end here"):
        joined(path)


def test_another_key_is_told_from_damage(tmp_path: Path) -> None:
    with pytest.raises(StoreForeign, match="key_id=7 must be the key"):
        joined(written(tmp_path), bytes(32))


def test_another_kind_of_file_is_no_backup(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("nothing of ours, and longer than a header " * 4)
    with pytest.raises(StoreForeign, match="must be a backup of a store"):
        read_head(path)


def test_a_newer_version_is_not_read(tmp_path: Path) -> None:
    path = written(tmp_path)
    raw = bytearray(path.read_bytes())
    raw[8:10] = struct.pack("<H", 2)
    path.write_bytes(raw)
    with pytest.raises(StoreVersion, match=r"version=2 .* must be <= 1; upgrade dayfly"):
        read_head(path)


def test_a_file_that_is_there_is_not_replaced(tmp_path: Path) -> None:
    path = tmp_path / "b"
    path.write_text("mine")
    with pytest.raises(StoreForeign, match="must not exist"):
        write_parts(path, HEAD, KEY, [])
    assert path.read_text() == "mine"


def test_a_full_disk_leaves_nothing_of_a_backup(tmp_path: Path) -> None:
    def parts() -> Any:
        yield "one", [b"x"]
        raise OSError(28, "No space left on device")

    with pytest.raises(StoreFull, match="must have room for writing a backup"):
        write_parts(tmp_path / "b", HEAD, KEY, parts())
    assert list(tmp_path.iterdir()) == []


# --- the store --------------------------------------------------------------------------------------------------------


def test_a_restored_store_is_the_one_of_the_backup(shop: Shop, tmp_path: Path) -> None:
    fragment = lived_in(shop)
    info = shop.engine.backup(tmp_path / "b")
    explained = shop.engine.explain_all(fragment.jti)
    shard = shop.engine._running.keeper.image()[1]()["shard"]
    assert not isinstance(shard, bytes)
    saved = b"".join(shard)
    seen = everything(shop.engine)
    shop.engine.close()
    done = restored(shop, info)
    assert contents(copied(done.folder), shop.keys).parts["shard"] == saved
    shop.open(done.folder)
    assert everything(shop.engine)[: len(seen)] == seen
    assert shop.engine.explain_all(fragment.jti) == explained
    assert sum(shop.engine._running.views.letters.counts.values()) == 1
    shop.compare_sofas("u-3", ("velvet",))
    assert shop.read(ready(shop.engine)[-1])["materials"] == ("fabric", "leather", "velvet")


def test_after_a_restoration_the_proofs_still_hold(shop: Shop, tmp_path: Path) -> None:
    fragment = lived_in(shop)
    before = shop.engine.checkpoint()
    info = shop.engine.backup(tmp_path / "b")
    shop.engine.close()
    done = restored(shop, info, checkpoint=before)
    engine = shop.open(done.folder)
    verifier = shop.keys.notes().verifier
    receipt = engine.deletion_receipt(fragment.jti)
    assert receipt.tombstone.reason == "lost"
    verify_receipt(receipt, verifier, verifier.name)
    shop.act("u-1", "Login")
    shop.engine.close()
    with (done.folder / "audit.jsonl").open("rb") as file:
        assert verify_audit(file).lines >= 2


def test_a_backup_is_taken_while_events_come_in(shop: Shop, tmp_path: Path) -> None:
    lived_in(shop)
    stop = threading.Event()
    failures: list[BaseException] = []

    def traffic() -> None:
        try:
            number = 0
            while not stop.is_set():
                number += 1
                shop.engine.submit([shop.message(f"u-{number % 7}", "Login"), b"{"], "app")
        except BaseException as error:  # noqa: BLE001 - told by the test's own thread
            failures.append(error)

    thread = threading.Thread(target=traffic)
    thread.start()
    try:
        infos = [shop.engine.backup(tmp_path / f"b-{number}") for number in range(3)]
    finally:
        stop.set()
        thread.join()
    assert not failures
    assert infos[0].position < infos[1].position < infos[2].position
    shop.engine.close()
    engine = shop.open(restored(shop, infos[1]).folder)
    # Every call brings a dead letter, and so one line less or more would show that the copies are of different instants.
    assert engine._running.views.letters.applied <= infos[1].position
    assert engine._running.views.audit.head == engine._running.host.standing.audit


def test_an_erasure_ends_every_backup_before_it(shop: Shop, tmp_path: Path) -> None:
    lived_in(shop)
    old = shop.engine.backup(tmp_path / "old")
    certificate = shop.engine.erase(shop.person("u-1"))
    assert old.key_id in certificate.destroyed_keys["backup"]
    new = shop.engine.backup(tmp_path / "new")
    shop.engine.close()
    with pytest.raises(BackupEnded, match="must be younger than the last erasure"):
        restored(shop, old)
    shop.open(restored(shop, new).folder)
    shop.compare_sofas("u-3", ("velvet",))
    assert len(ready(shop.engine)) >= 1


def test_an_erasure_while_a_backup_is_written_ends_it(
    shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lived_in(shop)

    def slow(path: Path, *arguments: Any) -> int:
        size = write_parts(path, *arguments)
        shop.engine.erase(shop.person("u-1"))
        return size

    monkeypatch.setattr(backup_module, "write_parts", slow)
    with pytest.raises(BackupEnded, match="while it was written; write it again"):
        shop.engine.backup(tmp_path / "b")
    assert not (tmp_path / "b").exists()


def test_no_backup_begins_within_an_erasure(shop: Shop, tmp_path: Path) -> None:
    lived_in(shop)
    backups = shop.engine._running.backups
    erasures = shop.engine._running.erasures
    real = erasures._keeper.write

    def within(*arguments: Any, **options: Any) -> None:
        with pytest.raises(BackupEnded, match="must not begin within an erasure"):
            backups.write(tmp_path / "b", shop.engine._running.do)
        real(*arguments, **options)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(erasures._keeper, "write", within)
        shop.engine.erase(shop.person("u-1"))
    assert not (tmp_path / "b").exists()
    shop.engine.backup(tmp_path / "b")


def test_a_backup_that_fails_leaves_no_key(shop: Shop, tmp_path: Path) -> None:
    lived_in(shop)
    (tmp_path / "b").write_text("mine")
    with pytest.raises(StoreForeign, match="must not exist"):
        shop.engine.backup(tmp_path / "b")
    assert shop.engine._running.backups._keys.live("backup") == ()


def test_the_store_that_was_restored_from_cannot_be_opened_beside_the_new_one(
    shop: Shop, tmp_path: Path
) -> None:
    lived_in(shop)
    info = shop.engine.backup(tmp_path / "b")
    shop.engine.close()
    restored(shop, info)
    with pytest.raises((StoreError, KeyStoreError)):
        shop.open()


def test_a_running_store_is_not_restored(shop: Shop, tmp_path: Path) -> None:
    lived_in(shop)
    info = shop.engine.backup(tmp_path / "b")
    with pytest.raises(StoreLocked, match="must have one writer"):
        restored(shop, info)
    shop.act("u-1", "Login")


def test_a_folder_that_is_in_use_is_left_alone(shop: Shop, tmp_path: Path) -> None:
    lived_in(shop)
    info = shop.engine.backup(tmp_path / "b")
    shop.engine.close()
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "mine").write_text("mine")
    with pytest.raises(StoreForeign, match="must be absent or empty"):
        restored(shop, info, name="taken")
    shop.open()


def test_a_damaged_backup_changes_nothing(shop: Shop, tmp_path: Path) -> None:
    lived_in(shop)
    info = shop.engine.backup(tmp_path / "b")
    shop.engine.close()
    raw = bytearray(info.path.read_bytes())
    raw[-20] ^= 1
    info.path.write_bytes(raw)
    with pytest.raises(StoreDamaged, match="use another backup"):
        restored(shop, info)
    assert not shop.folder.with_name("restored").exists()
    shop.open()


def test_another_tenants_backup_is_refused(shop: Shop, tmp_path: Path) -> None:
    lived_in(shop)
    info = shop.engine.backup(tmp_path / "b")
    shop.engine.close()
    (tmp_path / "other").mkdir()
    other = Shop(tmp_path / "other", seed=2)
    other.open()
    other.engine.close()
    with pytest.raises(StoreForeign, match="pass this tenant's own keys"):
        restored(other, info)


def test_keys_of_another_store_of_the_tenant_do_not_open_a_backup(shop: Shop, tmp_path: Path) -> None:
    lived_in(shop)
    info = shop.engine.backup(tmp_path / "b")
    shop.engine.close()
    shop.open(tmp_path / "second")
    shop.engine.close()
    with pytest.raises(StoreForeign, match=r"of its own store|must be the key that"):
        restored(shop, info, slots=tmp_path / "second" / "keys.slots")


def test_a_backup_older_than_a_published_checkpoint_is_refused(shop: Shop, tmp_path: Path) -> None:
    lived_in(shop)
    info = shop.engine.backup(tmp_path / "b")
    shop.engine.withdraw(shop.person("u-1"))
    published = shop.engine.checkpoint()
    shop.engine.close()
    with pytest.raises(TombstoneLogError):
        restored(shop, info, checkpoint=published)
    assert not shop.folder.with_name("restored").exists()
    shop.open()


@pytest.mark.parametrize("step", ["_take_over", "_sync_folder"])
def test_a_restoration_that_a_crash_interrupted_can_be_repeated(
    shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    lived_in(shop)
    info = shop.engine.backup(tmp_path / "b")
    shop.engine.close()

    def crash(*_: object) -> None:
        raise KeyboardInterrupt

    real: Callable[..., Any] = getattr(restore_module, step)
    monkeypatch.setattr(restore_module, step, crash)
    with pytest.raises(KeyboardInterrupt):
        restored(shop, info)
    monkeypatch.setattr(restore_module, step, real)
    shop.open(restored(shop, info).folder)
    shop.compare_sofas("u-3", ("velvet",))
    assert ready(shop.engine)


def test_what_came_after_the_backup_is_not_there_and_counts_when_it_is_sent_again(
    shop: Shop, tmp_path: Path
) -> None:
    lived_in(shop)
    info = shop.engine.backup(tmp_path / "b")
    message = shop.message(
        "u-3", "Product Viewed", product_id="p-9", category="sofa", material="velvet", price=4000
    )
    shop.clock.now_ms += 1
    shop.engine.submit([message], "app")
    fragments = ready(shop.engine)
    shop.engine.close()
    shop.open(restored(shop, info).folder)
    assert len(ready(shop.engine)) == len(fragments) - 1
    shop.engine.submit([message], "app")
    assert len(ready(shop.engine)) == len(fragments)
    with pytest.raises(LeaseRefused):
        shop.engine.lease(shop.request(fragments[-1]))
