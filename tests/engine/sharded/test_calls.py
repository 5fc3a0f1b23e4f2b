"""What a sharded engine offers beside decisions: one board, one nonce, one feed, erasure, backups, and clear refusals."""

import importlib
import itertools
import json
import os
import pickle
import shutil
import threading
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest

from dayfly.engine.delivery import Delivery, DeliverySettings
from dayfly.engine.delivery.items import FragmentEnded, FragmentReady
from dayfly.engine.durable import Engine, EngineSettings, restore, verify_certificate
from dayfly.engine.durable.checking import check_store
from dayfly.engine.errors import (
    BackupEnded,
    EngineBusy,
    EngineError,
    FeedGap,
    RunError,
    StoreDamaged,
    StoreForeign,
    StoreLocked,
    ValueOutOfRange,
)
from dayfly.engine.health import Watched, read_health
from dayfly.engine.sharded.backups import restore_sharded
from dayfly.engine.sharded.desk import ShardedReceipt
from dayfly.engine.sharded.dispatch import ShardedDispatcher
from dayfly.engine.sharded.engine import ShardedEngine
from dayfly.engine.sharded.member import Member, MemberSpec
from dayfly.engine.sharded.opening import shard_folder
from dayfly.engine.sharded.process import _portable, _raisable
from dayfly.privacy.errors import InvalidArgument, LeaseRefused, NonceRequired
from dayfly.privacy.fragments import CrmClient, verify_receipt
from tests.engine.runtime.world import CHINA, EUROPE, ISSUER, LEASE_URL, furniture
from tests.engine.sharded.world import SHARDS, Store, everything, now_ms

MATERIALS = ("leather", "fabric", "velvet")


def lived(store: Store, shard: int, *, nth: int = 0) -> str:
    """A user of a shard who looks at three materials, which brings a fragment."""
    user = next(itertools.islice(store.users(shard), nth, None))
    store.allow(store.person(user))
    store.engine.submit([store.view(material, userId=user) for material in MATERIALS], "app")
    return user


def crm(store: Store, fragment: FragmentReady) -> CrmClient:
    return CrmClient(
        jwks=store.engine.jwks(),
        issuer=ISSUER,
        audience=fragment.audience,
        key=store.crm_keys[fragment.audience],
        lease_url=LEASE_URL,
        random_bytes=os.urandom,
    )


def fragments(engine: ShardedEngine) -> list[FragmentReady]:
    return [item for item in everything(engine) if isinstance(item, FragmentReady)]


# --- health ---------------------------------------------------------------------------------------------------------------


def test_the_board_adds_up_what_the_shards_know(store: Store) -> None:
    engine = store.open(policy=furniture())
    for shard in range(SHARDS):
        lived(store, shard)
    minted = len(fragments(engine))
    report = engine.health(expected={"app": 100.0})
    parts = engine.health_by_shard()
    assert len(parts) == SHARDS
    assert all(part.fragments.minted for part in parts)
    assert report.fragments.minted == minted == sum(part.fragments.minted for part in parts)
    assert report.fragments.minted == report.fragments.live + report.fragments.tombstones
    (app,) = (channel for channel in report.channels if channel.name == "app")
    assert app.received == SHARDS * len(MATERIALS)
    assert app.lateness_max_ms == max(
        channel.lateness_max_ms or 0 for part in parts for channel in part.channels if channel.name == "app"
    )
    assert report.consent.people == SHARDS
    assert report.engine.state == "running"
    with pytest.raises(InvalidArgument, match="must name a declared channel"):
        engine.health(expected={"nowhere": 1.0})
    with pytest.raises(InvalidArgument, match="must name a declared channel"):
        engine.watch(Watched(expected={"nowhere": 1.0}))
    engine.close()
    assert read_health(store.folder).report.engine.state == "closed"


def test_live_fragments_have_their_tombstones_after_the_engine_was_killed(store: Store) -> None:
    engine = store.open(policy=furniture())
    for shard in range(SHARDS):
        lived(store, shard)
    assert engine.health().fragments.live > 0
    engine.close()
    engine = store.open()
    found = engine.health().fragments
    assert found.live == 0
    assert found.minted == found.tombstones > 0
    assert len(engine.checkpoints()) == SHARDS


# --- fragments ------------------------------------------------------------------------------------------------------------


def test_one_nonce_serves_fragments_of_all_shards_and_receipts_verify(store: Store) -> None:
    engine = store.open(policy=furniture())
    for shard in range(SHARDS):
        lived(store, shard)
    found = fragments(engine)
    nonce = engine.nonce()
    holders = set()
    for fragment in found:
        client = crm(store, fragment)
        verified = client.verify(fragment.token, now_ms())
        pending = client.lease_request(verified, now_ms(), nonce)
        assert client.open(verified, pending, engine.lease(pending.request), now_ms()).values
        holders.add(engine._clients().index(engine._holder(fragment.jti)))
    assert holders == set(range(SHARDS))
    with pytest.raises(InvalidArgument):
        engine.deletion_receipt(found[0].jti)
    for shard in range(SHARDS):
        engine.withdraw(store.person(next(store.users(shard))))
    ended = [item for item in everything(engine) if isinstance(item, FragmentEnded)]
    assert {item.jti for item in ended} == {item.jti for item in found}
    checked = 0
    for item in found:
        receipt = engine.deletion_receipt(item.jti)
        for verifier in engine.verifiers:
            if receipt.checkpoint.startswith(f"{verifier.name}\n"):
                verify_receipt(receipt, verifier, verifier.name)
                checked += 1
    assert checked == len(found)


def test_a_lease_of_an_unknown_fragment_is_refused_as_any_other(store: Store) -> None:
    engine = store.open(policy=furniture())
    lived(store, 0)
    fragment = fragments(engine)[0]
    client = crm(store, fragment)
    verified = client.verify(fragment.token, now_ms())
    pending = client.lease_request(verified, now_ms(), engine.nonce())
    engine.withdraw(store.person(next(store.users(0))))
    with pytest.raises(LeaseRefused):
        engine.lease(pending.request)


def test_one_checkpoint_for_all_is_not_offered(store: Store) -> None:
    engine = store.open(policy=furniture())
    with pytest.raises(RunError, match=r"call checkpoints\(\)"):
        engine.checkpoint()


def test_a_gap_in_one_feed_says_where_all_go_on(store: Store) -> None:
    engine = store.open(policy=furniture())
    lived(store, 0)
    with pytest.raises(FeedGap) as caught:
        engine.fragments((10**6, 0))
    assert caught.value.resume_positions[1] == 0
    assert 0 < caught.value.resume_positions[0] < 10**6
    with engine.fragments(caught.value.resume_positions) as feed:
        assert feed.get(timeout_seconds=0.2) is None


def test_delivery_takes_every_fragment_once_over_restarts(store: Store, tmp_path: Path) -> None:
    settings = DeliverySettings(
        source="https://cdp.example",
        dataref="https://cdp.example/fragments/{jti}",
        pull=frozenset({CHINA, EUROPE}),
    )

    def taken(delivery: Delivery) -> int:
        done = threading.Event()
        errors: list[BaseException] = []
        dispatcher = ShardedDispatcher(store.engine, delivery, now_ms=now_ms, on_error=errors.append)
        with dispatcher:
            done.wait(1.0)
        assert not errors
        return dispatcher.taken

    store.open(policy=furniture())
    for shard in range(SHARDS):
        lived(store, shard)
    expected = len(fragments(store.engine))
    with Delivery(tmp_path / "delivery.db", settings, tenant="shop", random=lambda: 0.5) as delivery:
        assert taken(delivery) == expected
        assert taken(delivery) == 0
        assert set(delivery.marks) == {"shard-00", "shard-01"}
    lived(store, 1, nth=1)
    with Delivery(tmp_path / "delivery.db", settings, tenant="shop", random=lambda: 0.5) as delivery:
        assert taken(delivery) == len(fragments(store.engine)) - expected > 0


# --- what does not fit ----------------------------------------------------------------------------------------------------


def test_a_shard_is_not_opened_by_itself_nor_in_anothers_place(store: Store) -> None:
    store.open(policy=furniture()).close()
    one, two = (shard_folder(store.folder, number) for number in range(SHARDS))
    with pytest.raises(StoreForeign, match="is shard 0 of 2; open the folder"):
        Engine.open(one, store.keys, recipients=store.recipients)
    with pytest.raises(StoreForeign, match="shards=1 must be 2"):
        Engine.open(store.folder, store.keys, recipients=store.recipients)
    swapped = one.with_name("swapped")
    one.rename(swapped)
    two.rename(one)
    swapped.rename(two)
    with pytest.raises(StoreForeign, match="must be shard 0 of 2 of this store"):
        store.open()


def test_the_tools_of_one_store_refuse_a_sharded_one(store: Store, tmp_path: Path) -> None:
    engine = store.open(policy=furniture())
    engine.backup(tmp_path / "backups")
    engine.close()
    one = shard_folder(store.folder, 0)
    for folder in (store.folder, one):
        with pytest.raises(StoreForeign, match="must be a store of one shard and is of 2"):
            check_store(folder, store.keys, now_ms=now_ms)
    with pytest.raises(StoreForeign, match="use restore_sharded"):
        restore(
            tmp_path / "backups" / "shard-00.backup",
            tmp_path / "alone",
            store.keys,
            slots=one / "keys.slots",
            random_bytes=os.urandom,
            now_ms=now_ms,
        )


def test_a_second_engine_is_kept_out(store: Store) -> None:
    store.open(policy=furniture())
    other = Store.__new__(Store)
    other.__dict__.update(store.__dict__)
    with pytest.raises(StoreLocked):
        other.open()


@pytest.mark.parametrize("shards", [1, 0, -1, 65, True])
def test_a_number_of_shards_out_of_range_is_refused(store: Store, shards: int) -> None:
    with pytest.raises(InvalidArgument, match="must be 2 to 64"):
        store.open(shards, policy=furniture())
    assert not store.folder.exists()


def test_a_policy_too_large_for_the_log_changes_nothing(store: Store) -> None:
    engine = store.open(policy=furniture())
    engine._publishing._frame_bytes = 1_000  # type: ignore[misc]
    with pytest.raises(ValueOutOfRange, match="Publish must fit a frame"):
        engine.publish(furniture())
    assert engine.submit([], "app").payloads == 0


def test_too_much_at_once_is_refused_as_a_whole(store: Store) -> None:
    class Slow:
        """A shard that answers nothing until it may."""

        def __init__(self, spec: MemberSpec) -> None:
            self.member = Member(spec)
            self.may = threading.Event()
            self.may.set()

        def call(self, name: str, *args: Any) -> Any:
            if name == "take":
                self.may.wait()
            return self.member.call(name, *args)

        def on_end(self, told: object) -> None:
            pass

        def close(self) -> None:
            self.member.close()

    store.settings = EngineSettings(tick_ms=20, max_waiting_events=4, patience_seconds=0.05)
    engine = store.open(policy=furniture(), start=Slow)
    slow = [port.client for port in engine._ports]
    user = next(store.users(0))
    for one in slow:
        one.may.clear()  # type: ignore[attr-defined]
    waiting: list[Future[ShardedReceipt]] = []

    def insist() -> None:
        while True:
            waiting.append(engine.submit_later([store.view("oak", userId=user)], "app"))

    with pytest.raises(EngineBusy, match="submit more slowly"):
        insist()
    for one in slow:
        one.may.set()  # type: ignore[attr-defined]
    assert waiting
    assert all(future.result(10).payloads == 1 for future in waiting)


def test_dead_letters_come_with_their_place_in_their_own_submission(store: Store) -> None:
    engine = store.open(policy=furniture())
    good = store.view("oak", userId=next(store.users(1)))
    futures = [engine.submit_later([good, b"nothing"], "app") for _ in range(3)]
    for future in futures:
        (letter,) = future.result().dead_letters
        assert letter.place == "payload 1"
    assert engine.health().channels[0].total_dead


def test_a_cancelled_submission_disturbs_nobody(store: Store) -> None:
    engine = store.open(policy=furniture())
    user = next(store.users(0))
    futures = [engine.submit_later([store.view("oak", userId=user)], "app") for _ in range(5)]
    futures[2].cancel()
    assert futures[4].result(10).payloads == 1
    assert engine.submit([], "app").payloads == 0


@pytest.mark.parametrize(
    "error",
    [
        NonceRequired("n-1"),
        FeedGap("gap", resume_after=7),
        StoreDamaged("damaged", path="/somewhere"),
        EngineError("plain"),
    ],
)
def test_an_error_comes_through_the_pipe_as_it_was(error: Exception) -> None:
    back = _raisable(pickle.loads(pickle.dumps(_portable(error))))
    assert type(back) is type(error)
    assert str(back) == str(error)
    assert vars(back) == vars(error)


def test_an_error_that_cannot_travel_is_told_in_words() -> None:
    error = RuntimeError("no", threading.Lock())
    back = _raisable(_portable(error))
    assert type(back) is EngineError
    assert "RuntimeError" in str(back)


# --- erasure --------------------------------------------------------------------------------------------------------------


def test_who_has_moved_is_erased_in_every_shard(store: Store) -> None:
    engine = store.open(policy=furniture())
    user = lived(store, 0)
    other = lived(store, 1)
    moved, stays = store.person(other), store.person(user)
    engine.merge(stays, moved)
    engine.submit([store.view("oak", userId=other)], "app")
    certificates = engine.erase(moved)
    assert len(certificates) == 3, "two names in the shard that was left, and the home"
    for certificate in certificates:
        (verifier,) = (one for one in engine.verifiers if certificate.note.startswith(f"{one.name}\n"))
        verify_certificate(certificate, verifier)
    assert all(certificate.destroyed_keys["log"] for certificate in certificates[-1:])
    assert engine.shard_of(moved) == 1, "where it hashes to"
    for port in engine._ports:
        assert not set(port.state().guests) & {moved, stays}
        assert not port.state().outbox
    engine.close()
    engine = store.open()
    assert engine.health().consent.people == 0
    assert not [
        item
        for item in everything(engine)
        if getattr(getattr(item, "change", None), "subject", None) in {moved, stays}
    ]


def test_an_erasure_that_a_move_crosses_begins_again(store: Store) -> None:
    engine = store.open(policy=furniture())
    user, other = lived(store, 0), lived(store, 1)
    third = lived(store, 1, nth=1)
    engine.merge(store.person(user), store.person(other))
    erasing, elsewhere = engine._erasing, engine._erasing._elsewhere
    calls = []

    def crossed(place: Any) -> Any:
        calls.append(place)
        done = elsewhere(place)
        if len(calls) == 1:
            engine.merge(store.person(third), store.person(user))
        return done

    erasing._elsewhere = crossed  # type: ignore[method-assign]
    engine.erase(store.person(other))
    assert len(calls) == 2
    assert calls[0].home != calls[1].home
    assert len(calls[1].names) == 3
    assert engine.health().consent.people == 0


# --- backups --------------------------------------------------------------------------------------------------------------


def restored(store: Store, backups: Path, **options: Any) -> Path:
    folder = store.folder.with_name("restored")
    restore_sharded(
        backups, folder, store.opener, old=store.folder, random_bytes=os.urandom, now_ms=now_ms, **options
    )
    return folder


def test_a_backup_becomes_one_store_again(store: Store, tmp_path: Path) -> None:
    engine = store.open(policy=furniture())
    user, other = lived(store, 0), lived(store, 1)
    engine.merge(store.person(user), store.person(other))
    infos = engine.backup(tmp_path / "backups")
    assert len(infos) == SHARDS
    with pytest.raises(StoreForeign, match="must not exist"):
        engine.backup(tmp_path / "backups")
    later = lived(store, 1, nth=2)
    with pytest.raises(StoreLocked):
        restored(store, tmp_path / "backups")
    checkpoints = engine.checkpoints()
    assert checkpoints
    engine.close()
    store.folder = restored(store, tmp_path / "backups")
    engine = store.open()
    assert engine.shard_of(store.person(other)) == engine.shard_of(store.person(user))
    assert engine.health().consent.people == 1
    assert store.person(later)
    engine.submit([store.view("oak", userId=other)], "app")


def test_a_restoration_that_a_crash_cut_short_goes_on(store: Store, tmp_path: Path, monkeypatch: Any) -> None:
    engine = store.open(policy=furniture())
    for shard in range(SHARDS):
        lived(store, shard)
    engine.backup(tmp_path / "backups")
    engine.close()
    module = importlib.import_module("dayfly.engine.sharded.backups")

    real = module.restore

    def broken(path: Path, *args: Any, **options: Any) -> Any:
        if "shard-01" in path.name:
            raise OSError("power")
        return real(path, *args, **options)

    monkeypatch.setattr(module, "restore", broken)
    with pytest.raises(OSError, match="power"):
        restored(store, tmp_path / "backups")
    old, store.folder = store.folder, store.folder.with_name("restored")
    with pytest.raises(StoreDamaged, match="must hold the data keys"):
        store.open()
    store.folder = old
    monkeypatch.setattr(module, "restore", real)
    store.folder = restored(store, tmp_path / "backups")
    assert store.open().health().consent.people == SHARDS


def test_files_of_two_backups_do_not_mix(store: Store, tmp_path: Path) -> None:
    engine = store.open(policy=furniture())
    engine.backup(tmp_path / "first")
    lived(store, 0)
    engine.backup(tmp_path / "second")
    engine.close()
    shutil.copy(tmp_path / "first" / "shard-00.backup", tmp_path / "second" / "shard-00.backup")
    with pytest.raises(StoreDamaged, match="must be of the same backup"):
        restored(store, tmp_path / "second")
    (tmp_path / "first" / "backups.json").write_text(json.dumps({"made_ms": 1}))
    with pytest.raises(StoreDamaged, match="must list the files"):
        restored(store, tmp_path / "first")


def test_an_erasure_ends_the_backup_of_the_set(store: Store, tmp_path: Path) -> None:
    engine = store.open(policy=furniture())
    user = lived(store, 1)
    engine.backup(tmp_path / "backups")
    engine.erase(store.person(user))
    engine.close()
    with pytest.raises(BackupEnded, match="younger than the last erasure"):
        restored(store, tmp_path / "backups")


def test_backups_of_another_store_are_refused(store: Store, tmp_path: Path) -> None:
    engine = store.open(policy=furniture())
    engine.backup(tmp_path / "backups")
    engine.close()
    listed = tmp_path / "backups" / "backups.json"
    document = json.loads(listed.read_text())
    listed.write_text(json.dumps(document | {"made_ms": document["made_ms"] + 1}))
    with pytest.raises(StoreForeign, match="must be the store that"):
        restored(store, tmp_path / "backups")
