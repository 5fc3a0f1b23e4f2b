"""The sharded engine over real processes: close and open, crashes of a child and of all, moves between processes."""

import itertools
import os
import signal
from collections.abc import Callable

import pytest

from dayfly.engine.delivery.items import FragmentReady
from dayfly.engine.durable import Engine, TagChanged
from dayfly.engine.errors import EngineClosed, EngineFailed, StoreForeign
from dayfly.engine.sharded.clients import Client
from dayfly.engine.sharded.member import Member, MemberSpec
from dayfly.engine.sharded.opening import PUBLISHING
from dayfly.engine.sharded.process import ProcessClient
from dayfly.privacy.errors import InvalidArgument
from dayfly.privacy.fragments import CrmClient
from tests.engine.runtime.world import ISSUER, LEASE_URL, changed, furniture
from tests.engine.sharded.world import SHARDS, Store, entered, everything, now_ms

STARTS = [Member, pytest.param(ProcessClient, marks=pytest.mark.slow)]
"""Shards of this process, and shards in processes of their own."""

MATERIALS = ("leather", "fabric", "velvet")


@pytest.mark.parametrize("start", STARTS)
def test_a_life_over_two_shards(store: Store, start: Callable[[MemberSpec], Client]) -> None:
    engine = store.open(policy=furniture(), start=start)
    mine = [next(store.users(shard)) for shard in range(SHARDS)]
    for user in mine:
        store.allow(store.person(user))
        receipt = engine.submit([store.view(material, userId=user) for material in MATERIALS], "app")
        assert list(receipt.positions) == [engine._desk.router.routes.home(store.person(user))]
    fragments = [item for item in everything(engine) if isinstance(item, FragmentReady)]
    assert len(fragments) >= SHARDS
    for user in mine:
        assert entered(engine, store.person(user))
    fragment = fragments[0]
    client = CrmClient(
        jwks=engine.jwks(),
        issuer=ISSUER,
        audience=fragment.audience,
        key=store.crm_keys[fragment.audience],
        lease_url=LEASE_URL,
        random_bytes=os.urandom,
    )
    verified = client.verify(fragment.token, now_ms())
    pending = client.lease_request(verified, now_ms(), engine.nonce())
    opened = client.open(verified, pending, engine.lease(pending.request), now_ms())
    assert opened.values
    assert engine.explain_all(fragment.jti)
    before = everything(engine)
    engine.close()
    engine = store.open()
    after = everything(engine)
    assert all(item in after for item in before)
    assert len(after) == len({(item.position, type(item), item.at_ms) for item in after})
    origins = {note.partition("\n")[0] for note in engine.checkpoints()}
    assert len(origins) == SHARDS
    engine.erase(store.person(mine[0]))
    engine.close()
    with pytest.raises(StoreForeign, match="shards=3 must be 2"):
        store.open(shards=3)
    with pytest.raises(StoreForeign, match="shards=1 must be 2"):
        Engine.open(store.folder, store.keys, recipients=store.recipients)


@pytest.mark.parametrize("start", STARTS)
def test_who_is_linked_moves_with_its_past(store: Store, start: Callable[[MemberSpec], Client]) -> None:
    engine = store.open(policy=furniture(), start=start)
    routes = engine._desk.router.routes
    user = next(store.users(0))
    name = next(n for n in (f"a-{i}" for i in itertools.count()) if routes.home(store.anonymous(n)) == 1)
    store.allow(store.person(user))
    store.allow(store.anonymous(name))
    engine.submit([store.view(material, anonymousId=name) for material in MATERIALS[:2]], "app")
    repeated = store.view("oak", anonymousId=name)
    engine.submit([repeated], "app")
    engine.submit([store.call("identify", userId=user, anonymousId=name)], "app")
    assert routes.home(store.anonymous(name)) == 0
    engine.submit([store.view(MATERIALS[2], userId=user)], "app")
    tags = entered(engine, store.person(user))
    assert tags, "three materials in all: two before the move, one after"
    engine.submit([repeated], "app")
    engine.close()
    engine = store.open()
    assert engine._desk.router.routes.home(store.anonymous(name)) == 0
    assert len(engine.erase(store.person(user))) == 3


def test_when_the_process_of_a_shard_ends_the_engine_has_failed_and_nothing_is_lost(store: Store) -> None:
    engine = store.open(policy=furniture(), start=ProcessClient)
    mine = [next(store.users(shard)) for shard in range(SHARDS)]
    for user in mine:
        store.allow(store.person(user))
    engine.submit([store.view("oak", userId=mine[1])], "app")
    os.kill(store.process(1).pid, signal.SIGKILL)
    with pytest.raises(EngineFailed, match="shard=1 must be running"):
        engine.submit([store.view("leather", userId=mine[1])], "app")
    with pytest.raises(EngineFailed, match="must be opened again"):
        engine.submit([store.view("leather", userId=mine[0])], "app")
    with pytest.raises(EngineFailed, match="must be opened again"):
        engine.jwks()
    engine.close()
    engine = store.open()
    for material in ("fabric", "velvet"):
        engine.submit([store.view(material, userId=mine[1])], "app")
    assert entered(engine, store.person(mine[1])), "the view before the crash still counts"


def test_a_publication_that_a_crash_cut_short_is_finished_at_the_next_start(store: Store) -> None:
    engine = store.open(policy=furniture())
    engine.close()
    edited = changed("settings", lambda document: document.update(history="500d"), version=2)
    (store.folder / PUBLISHING).write_bytes(edited.source)
    engine = store.open()
    assert {port.state().policy for port in engine._ports} == {edited.source}
    assert not (store.folder / PUBLISHING).exists()


def test_a_policy_reaches_every_shard(store: Store) -> None:
    engine = store.open(policy=furniture())
    edited = changed("settings", lambda document: document.update(history="500d"), version=2)
    engine.publish(edited)
    engine.close()
    engine = store.open()
    assert {port.state().policy for port in engine._ports} == {edited.source}


def test_merge_and_withdraw_find_the_person(store: Store) -> None:
    engine = store.open(policy=furniture())
    one, other = (store.person(next(store.users(shard))) for shard in range(SHARDS))
    user = next(user for user in store.users(1) if store.person(user) == other)
    store.allow(one)
    store.allow(other)
    engine.submit([store.view(material, userId=user) for material in MATERIALS], "app")
    engine.merge(one, other)
    assert engine.shard_of(other) == 0
    assert entered(engine, one), "the tag that the moved person held is held by the person that it became"
    engine.withdraw(one)
    left = [
        item.change.reason
        for item in everything(engine)
        if isinstance(item, TagChanged) and item.change.subject == one and item.change.change == "leave"
    ]
    assert "consent" in left


def test_a_subscription_needs_a_position_per_shard(store: Store) -> None:
    engine = store.open(policy=furniture())
    with pytest.raises(InvalidArgument, match="must have 2 positions"):
        engine.fragments((0,))


def test_a_closed_engine_says_so(store: Store) -> None:
    engine = store.open(policy=furniture())
    engine.close()
    engine.close()
    with pytest.raises(EngineClosed, match="open the store again"):
        engine.jwks()
    with pytest.raises(EngineClosed, match="open the store again"):
        engine.submit([b"{}"], "app")


def test_an_engine_whose_shards_are_gone_is_closed_and_releases_its_folder(store: Store) -> None:
    engine = store.open(policy=furniture(), start=ProcessClient)
    for shard in range(SHARDS):
        os.kill(store.process(shard).pid, signal.SIGKILL)
    with pytest.raises(EngineFailed):
        store.allow(store.person("u-0"))
    assert engine.health().engine.state == "failed"
    engine.close()
    store.open().close()
