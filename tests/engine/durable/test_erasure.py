"""Erasure of one person: nothing in any file, nothing that a key could open, and nobody else touched."""

import base64
import itertools
import os
import shutil
import struct
import threading
from contextlib import suppress
from pathlib import Path
from threading import Event, Thread
from typing import Any

import msgspec
import orjson
import pytest

from dayfly.engine.delivery.items import FragmentEnded, FragmentReady, FragmentRecalled
from dayfly.engine.durable import ErasureCertificate, TagChanged, verify_certificate
from dayfly.engine.durable.erasure import Erasures
from dayfly.engine.durable.keeping import Keeper
from dayfly.engine.durable.recovery import SHARD, STANDING
from dayfly.engine.errors import LineageError, StoreDamaged, StoreForeign
from dayfly.engine.store import Log, Snapshots
from dayfly.engine.store.frames import decode_header
from dayfly.privacy.errors import InvalidReceipt, KeyDestroyed, LeaseRefused
from dayfly.privacy.keys import SlotKeys
from dayfly.privacy.transfers import FieldClass
from tests.engine.runtime.world import CHINA, EUROPE, consent_record

from .breaking import ONE_BY_ONE, contents, cut, one_turn, quiet, records, segments, wait_until, with_views_of
from .shop import Shop, everything, ready

SECRET = "sku-Qz7-planted-value"


class Crash(BaseException):
    """The process ends here."""


def spellings(word: bytes) -> list[bytes]:
    """A word as it may stand in a file."""
    encoded = [base64.b64encode(bytes(shift) + word)[4 if shift else 0 : -4] for shift in range(3)]
    return [
        word,
        word.hex().encode(),
        word.hex().upper().encode(),
        *(part for part in encoded if len(part) > 8),
    ]


def found_in(folder: Path, words: list[bytes]) -> list[tuple[str, bytes]]:
    """Files that hold one of the words in any spelling."""
    wanted = [(word, spelling) for word in words for spelling in spellings(word)]
    found = []
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            content = path.read_bytes()
            found += [(path.name, word) for word, spelling in wanted if spelling in content]
    return found


def live_through(shop: Shop, user: str) -> FragmentReady:
    """A person with history, tags, a fragment that stays alive, and a fragment abroad."""
    shop.allow(user)
    shop.compare_sofas(user)
    shop.act(user, "Order Shipped", order_id=f"{SECRET}-{user}", status="shipping")
    shop.act(user, "Product Viewed", product_id=f"{SECRET}-{user}", category="sofa", material="oak", price=1)
    return next(item for item in ready(shop.engine) if item.audience == CHINA)


def state_of(store: Path, shop: Shop, name: str) -> tuple[bytes, bytes]:
    """The decrypted shard and host state in a store's newest snapshot."""
    found = contents(shop.crashed_copy(name) if store == shop.folder else store, shop.keys)
    return found.parts[SHARD], found.parts[STANDING]


def test_nothing_of_an_erased_person_is_in_any_state_or_file(shop: Shop) -> None:
    engine = shop.open()
    live_through(shop, "u-1")
    live_through(shop, "u-2")
    person, other = shop.person("u-1"), shop.person("u-2")
    engine.snapshot()
    assert all(person in part for part in state_of(shop.folder, shop, "before")), "the scan must find it"
    engine.erase(person)
    assert found_in(shop.folder, [person, f"{SECRET}-u-1".encode()]) == []
    gone(shop, shop.crashed_copy("after"), "u-1")
    assert other in state_of(shop.folder, shop, "of others")[0]


def gone(shop: Shop, store: Path, user: str) -> None:
    """A store's files hold nothing of a person, not even to somebody who has its keys."""
    person, value = shop.person(user), f"{SECRET}-{user}".encode()
    found = contents(store, shop.keys)
    for part in (*found.parts.values(), *(frame.payload for frame in found.frames)):
        assert person not in part
        assert value not in part


def test_a_backup_made_before_cannot_be_read_with_the_keys_that_there_are_now(shop: Shop) -> None:
    engine = shop.open()
    live_through(shop, "u-1")
    engine.snapshot()
    shop.act("u-1", "Login")
    backup = shop.crashed_copy("backup")
    assert contents(backup, shop.keys).position > 0
    backup = shop.crashed_copy("backup 2")
    engine.erase(shop.person("u-1"))
    engine.close()
    for path in shop.folder.glob("keys.*"):
        shutil.copy2(path, backup / path.name)
    with open_slots(backup, shop) as slots:
        assert {path.suffix for path in files_under_keys(backup)} == {".seg", ".snap"}
        for path in files_under_keys(backup):
            with pytest.raises(KeyDestroyed):
                slots.get(key_id_of(path))
    with pytest.raises((StoreForeign, StoreDamaged), match=r"keys|snapshot"):
        shop.open(backup)


def open_slots(store: Path, shop: Shop) -> SlotKeys:
    return SlotKeys.open(
        store / "keys.slots",
        shop.keys.keks(),
        tenant=shop.keys.tenant_id,
        random_bytes=os.urandom,
        now_ms=shop.clock,
    )


def files_under_keys(store: Path) -> list[Path]:
    return [*segments(store), *sorted((store / "snapshots").glob("*.snap"))]


def key_id_of(path: Path) -> int:
    """The id of the data key, as the first block of a segment or a snapshot says it."""
    block = path.read_bytes()[:4096]
    if path.suffix == ".seg":
        return decode_header(block).key_id
    return int(struct.unpack_from("<8sHHIQ", block)[4])


def test_what_was_alive_dies_is_recalled_and_has_a_receipt(shop: Shop) -> None:
    engine = shop.open()
    live_through(shop, "u-1")
    mine = {item.jti: item for item in ready(engine)}
    live_through(shop, "u-2")
    others = {item.jti for item in ready(engine)} - set(mine)
    before = everything(engine)[-1].position
    certificate = engine.erase(shop.person("u-1"))
    assert set(certificate.fragments) == set(mine)
    told = everything(engine, before)
    ended = [item for item in told if isinstance(item, FragmentEnded)]
    assert {(item.jti, item.reason) for item in ended} == {(jti, "erased") for jti in mine}
    recalled = [item for item in told if isinstance(item, FragmentRecalled)]
    assert {order for item in recalled for order in item.order_ids} == {
        item.order_id for item in mine.values()
    }
    for jti, fragment in mine.items():
        assert engine.deletion_receipt(jti).tombstone.reason == "erased"
        with pytest.raises(LeaseRefused):
            engine.lease(shop.request(fragment))
        with pytest.raises(LineageError):
            engine.explain_all(jti)
    for jti in others:
        assert engine.explain_all(jti)


def test_a_certificate_names_no_fragment_that_ended_otherwise(tmp_path: Path) -> None:
    shop = Shop(tmp_path, tick_ms=1_000)
    engine = shop.open()
    live_through(shop, "u-2")
    ends_ms = min(item.expires_at_ms for item in ready(engine))
    shop.clock.now_ms = ends_ms - 2
    shop.act("u-1", "Login")  # the tick of this second is done
    shop.clock.now_ms = ends_ms
    assert engine.erase(shop.person("u-1")).fragments == ()
    engine.close()


def test_a_certificate_verifies_offline_and_no_part_of_it_can_be_altered(shop: Shop) -> None:
    engine = shop.open()
    live_through(shop, "u-1")
    certificate = engine.erase(shop.person("u-1"))
    verifier = shop.keys.notes().verifier
    verify_certificate(certificate, verifier)
    assert shop.person("u-1").hex() not in repr(certificate)
    assert certificate.destroyed_keys["log"]
    assert certificate.destroyed_keys["snapshot"]
    altered: dict[str, Any] = {
        "who": "0" * 64,
        "erased_ms": certificate.erased_ms - 1,
        "completed_ms": certificate.completed_ms + 1,
        "position": certificate.position + 1,
        "destroyed_keys": {**certificate.destroyed_keys, "log": ()},
        "fragments": (),
    }
    for name, value in altered.items():
        with pytest.raises(InvalidReceipt, match="must say what its note says"):
            verify_certificate(msgspec.structs.replace(certificate, **{name: value}), verifier)
    shop.folder.with_name("other").mkdir()
    other = Shop(shop.folder.with_name("other"), seed=2).keys.notes().verifier
    with pytest.raises(InvalidReceipt):
        verify_certificate(certificate, other)
    checkpoint = msgspec.structs.replace(certificate, note=engine.checkpoint())
    with pytest.raises(InvalidReceipt):
        verify_certificate(checkpoint, verifier)


def lives(shop: Shop, *, erase: bool) -> list[tuple[bytes, str, str]]:
    """Tag changes of everybody but u-1, in a shop where u-1 is there and is erased, or never was."""
    shop.open()
    shop.allow("u-2")
    if erase:
        live_through(shop, "u-1")
    else:
        shop.clock.now_ms += 6
        next(shop.numbers)
    shop.compare_sofas("u-2", ("leather", "fabric"))
    if erase:
        shop.engine.erase(shop.person("u-1"))
    shop.compare_sofas("u-2", ("velvet",))
    shop.engine.close()
    shop.open()
    shop.allow("u-3")
    shop.compare_sofas("u-3")
    items = everything(shop.engine)
    with shop.engine.fragments() as feed:
        shop.clock.now_ms += 8 * 86_400_000
        shop.act("u-3", "Login")
        while item := feed.get(timeout_seconds=0.1):
            items.append(item)
    person = shop.person("u-1")
    changes = [item.change for item in items if isinstance(item, TagChanged)]
    shop.engine.close()
    return [
        (change.subject, change.tag, change.change)
        for change in changes
        if change.subject not in (person, b"")
    ]


def test_the_windows_of_everybody_else_stay_as_if_the_person_had_never_been_there(tmp_path: Path) -> None:
    (tmp_path / "with").mkdir()
    (tmp_path / "without").mkdir()
    assert lives(Shop(tmp_path / "with"), erase=True) == lives(Shop(tmp_path / "without"), erase=False)


def test_head_counts_do_not_fall_and_do_not_know_the_person_any_more(shop: Shop) -> None:
    engine = shop.open()
    live_through(shop, "u-1")
    counts = engine._running.host.standing.transfers
    assert shop.person("u-1") in counts.to_bytes()
    counted = counts.counted(b"", FieldClass.ORDINARY, shop.clock.now_ms, recipient=EUROPE)[1]
    engine.erase(shop.person("u-1"))
    crashed = shop.crashed_copy()
    engine.close()
    after = shop.open(crashed)._running.host.standing.transfers
    assert after.counted(b"", FieldClass.ORDINARY, shop.clock.now_ms, recipient=EUROPE)[1] == counted == 1
    assert shop.person("u-1") not in after.to_bytes()


def test_the_feed_keeps_its_positions_and_not_the_person(shop: Shop) -> None:
    engine = shop.open()
    live_through(shop, "u-1")
    before = [item.position for item in everything(engine)]
    engine.erase(shop.person("u-1"))
    items = everything(engine)
    assert [item.position for item in items][: len(before)] == before
    assert [item.position for item in items] == list(range(1, len(items) + 1))
    blank = [item.change for item in items if isinstance(item, TagChanged)]
    assert blank
    assert {change.subject for change in blank} == {b""}


@pytest.mark.parametrize("how", ["merge", "alias"])
def test_every_pseudonym_of_a_person_is_erased_with_any_of_them(shop: Shop, how: str) -> None:
    engine = shop.open()
    visitor = shop.keys.pseudonyms().current("anonymous", "a-1").value
    engine.consent(visitor, consent_record(visitor, shop.clock.now_ms))
    for material in ("leather", "fabric", "velvet"):
        seen = shop.message(
            "", "Product Viewed", product_id="p-1", category="sofa", material=material, price=4_000
        )
        message = orjson.loads(seen)
        del message["userId"]
        assert not engine.submit([orjson.dumps({**message, "anonymousId": "a-1"})], "app").dead_letters
    live_through(shop, "u-1")
    if how == "merge":
        engine.merge(shop.person("u-1"), visitor)
    else:
        known = {"type": "identify", "messageId": "i-1", "userId": "u-1", "anonymousId": "a-1"}
        assert not engine.submit([orjson.dumps(known)], "app").dead_letters
    assert set(engine._running.host.engine.shard.names_of(visitor)) == {visitor, shop.person("u-1")}
    fragments = ready(engine)
    assert len({item.subject_digest for item in fragments}) >= 3
    certificate = engine.erase(visitor)
    assert set(certificate.fragments) == {item.jti for item in fragments} - {
        item.jti for item in everything(engine) if isinstance(item, FragmentEnded) and item.reason != "erased"
    }
    for fragment in fragments:
        with pytest.raises(LineageError):
            engine.explain_all(fragment.jti)
    found = contents(shop.crashed_copy("after 2"), shop.keys)
    assert not any(visitor in part for part in found.parts.values())
    gone(shop, shop.crashed_copy("after"), "u-1")


def test_lineage_of_others_minted_in_the_turn_of_an_erasure_is_kept(shop: Shop) -> None:
    quiet(shop)
    engine = shop.open()
    live_through(shop, "u-1")
    shop.allow("u-2")
    shop.compare_sofas("u-2", ("leather", "fabric"))
    known = {item.jti for item in ready(engine)}
    with one_turn(engine):
        erasing = Thread(target=engine.erase, args=(shop.person("u-1"),))
        erasing.start()
        wait_until(lambda: len(engine._running.queue) >= 1)
        message = shop.message(
            "u-2", "Product Viewed", product_id="p-9", category="sofa", material="velvet", price=4_000
        )
        submitted = engine.submit_later([message], "app")
    submitted.result()
    erasing.join()
    (fragment,) = [item for item in ready(engine) if item.jti not in known]
    assert engine.explain_all(fragment.jti)
    crashed = shop.crashed_copy()
    engine.close()
    assert shop.open(crashed).explain_all(fragment.jti)


def test_a_fragment_minted_in_the_turn_of_its_persons_erasure_leaves_no_lineage(shop: Shop) -> None:
    quiet(shop)
    engine = shop.open()
    shop.allow("u-1")
    shop.compare_sofas("u-1", ("leather", "fabric"))
    message = shop.message(
        "u-1", "Product Viewed", product_id="p-9", category="sofa", material="velvet", price=4_000
    )
    with one_turn(engine):
        submitted = engine.submit_later([message], "app")
        erasing = Thread(target=engine.erase, args=(shop.person("u-1"),))
        erasing.start()
        wait_until(lambda: len(engine._running.queue) >= 2)
    submitted.result()
    erasing.join()
    (fragment,) = ready(engine)
    with pytest.raises(LineageError):
        engine.explain_all(fragment.jti)
    assert engine.deletion_receipt(fragment.jti).tombstone.reason == "erased"
    gone(shop, shop.crashed_copy("after"), "u-1")


def test_erasures_of_many_at_once_are_all_complete_and_share_their_work(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    quiet(shop)
    engine = shop.open()
    users = [f"u-{number}" for number in range(8)]
    for user in users:
        shop.compare_sofas(user)
    complete, entered = Erasures.complete, itertools.count(1)
    applied = Event()

    def together(self: Erasures, *arguments: Any) -> Any:
        if next(entered) == len(users):
            applied.set()
        assert applied.wait(30)
        return complete(self, *arguments)

    monkeypatch.setattr(Erasures, "complete", together)
    done: list[ErasureCertificate] = []
    threads = [
        Thread(target=lambda user=user: done.append(engine.erase(shop.person(user)))) for user in users
    ]
    with one_turn(engine):
        for thread in threads:
            thread.start()
        wait_until(lambda: len(engine._running.queue) == len(users))
    for thread in threads:
        thread.join()
    assert len(done) == len(users)
    assert engine._running.keeper.written == 1
    for number, user in enumerate(users):
        gone(shop, shop.crashed_copy(f"after {number}"), user)


def test_a_snapshot_that_an_erasure_overtook_is_never_written(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = shop.open()
    live_through(shop, "u-1")
    erased = Event()
    write = Keeper._try_write

    def late(self: Keeper, *arguments: Any) -> None:
        erased.wait(10)
        write(self, *arguments)

    monkeypatch.setattr(Keeper, "_try_write", late)
    keeper = engine._running.keeper
    engine._running.do(lambda _: keeper.begin())
    engine.erase(shop.person("u-1"))
    positions = sorted(path.name for path in (shop.folder / "snapshots").glob("*.snap"))
    erased.set()
    keeper.stop()
    assert keeper.last_error is None
    assert sorted(path.name for path in (shop.folder / "snapshots").glob("*.snap")) == positions


def test_a_stranger_can_be_erased_and_anybody_twice(shop: Shop) -> None:
    engine = shop.open()
    assert engine.erase(shop.person("nobody")).fragments == ()
    live_through(shop, "u-1")
    assert engine.erase(shop.person("u-1")).fragments
    assert engine.erase(shop.person("u-1")).fragments == ()
    live_through(shop, "u-1")
    assert ready(engine)[-1].jti in engine.erase(shop.person("u-1")).fragments


# --- crashes on the way ------------------------------------------------------------------------------------------------------

STEPS = [
    (Keeper, "write", 1),
    (Snapshots, "write", 1),
    (Snapshots, "drop_before", 1),
    (Log, "truncate_before", 1),
    (SlotKeys, "destroy", 1),
    (SlotKeys, "destroy", 2),
    (SlotKeys, "destroy", 3),
    (SlotKeys, "destroy", 4),
]


@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize(
    ("owner", "name", "which"), STEPS, ids=lambda value: getattr(value, "__name__", str(value))
)
def test_an_erasure_that_a_crash_interrupts_is_completed_when_the_store_is_opened(
    shop: Shop, monkeypatch: pytest.MonkeyPatch, owner: type, name: str, which: int, moment: str
) -> None:
    engine = shop.open()
    live_through(shop, "u-1")
    engine.snapshot()
    shop.act("u-1", "Login")
    crash_at(monkeypatch, owner, name, which, moment)
    with suppress(Crash):
        engine.erase(shop.person("u-1"))
    monkeypatch.undo()
    crashed = shop.crashed_copy()
    engine.close()
    check_completed(shop, crashed)


def crash_at(monkeypatch: pytest.MonkeyPatch, owner: type, name: str, which: int, moment: str) -> None:
    """End the thread that makes the n-th call of a method, before or after the call."""
    method, calls = getattr(owner, name), itertools.count(1)

    def crashing(*arguments: Any, **named: Any) -> Any:
        here = next(calls) == which and threading.current_thread() is threading.main_thread()
        if here and moment == "before":
            raise Crash
        result = method(*arguments, **named)
        if here:
            raise Crash
        return result

    monkeypatch.setattr(owner, name, crashing)


def check_completed(shop: Shop, crashed: Path) -> None:
    engine = shop.open(crashed)
    assert engine._running.erasures.pending() == 0
    assert found_in(crashed, [shop.person("u-1")]) == []
    gone(shop, shop.crashed_copy("looked at"), "u-1")
    assert len(list((crashed / "snapshots").glob("*.snap"))) == 1
    items = everything(engine)
    assert not any(item.change.subject for item in items if isinstance(item, TagChanged))
    fragments = [item for item in items if isinstance(item, FragmentReady)]
    for fragment in fragments:
        assert engine.deletion_receipt(fragment.jti)
        with pytest.raises(LineageError):
            engine.explain_all(fragment.jti)
    engine.close()
    shop.open(crashed)
    assert shop.engine._running.erasures.pending() == 0


def test_a_snapshot_between_an_erasure_and_a_crash_does_not_hide_the_erasure(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = shop.open()
    live_through(shop, "u-1")
    engine.snapshot()
    crash_at(monkeypatch, Keeper, "write", 1, "before")
    with pytest.raises(Crash):
        engine.erase(shop.person("u-1"))
    monkeypatch.undo()
    shop.act("u-2", "Login")
    engine.snapshot()
    crashed = shop.crashed_copy()
    engine.close()
    check_completed(shop, crashed)


def test_an_erasure_whose_effects_a_crash_lost_is_completed_from_its_input_alone(shop: Shop) -> None:
    engine = shop.open(log=ONE_BY_ONE)
    morning = shop.crashed_copy("morning")
    live_through(shop, "u-1")
    seen = contents(shop.crashed_copy("read"), shop.keys).frames[-1].position
    kill_views = pytest.MonkeyPatch()
    crash_at(kill_views, Erasures, "complete", 1, "before")
    with pytest.raises(Crash):
        engine.erase(shop.person("u-1"))
    kill_views.undo()
    evening = shop.crashed_copy("evening")
    engine.close()
    store = with_views_of(evening, morning, shop.folder.with_name("cut"))
    (segment,) = segments(store)
    (erase,) = [record for record in records(segment) if record.count and record.first == seen + 1]
    cut(segment, erase.end)
    check_completed(shop, store)
