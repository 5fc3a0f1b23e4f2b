"""The sharded engine over real processes: close and open, crashes of a child and of all, moves between processes."""

import itertools
import os
import signal
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import orjson
import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from dayfly.engine.delivery.items import FragmentReady
from dayfly.engine.durable import Engine, EngineSettings, FeedItem, Outside, TagChanged
from dayfly.engine.errors import EngineClosed, EngineFailed, StoreForeign
from dayfly.engine.generator.times import iso_ms
from dayfly.engine.sharded.clients import Client
from dayfly.engine.sharded.engine import ShardedEngine
from dayfly.engine.sharded.member import Member, MemberSpec
from dayfly.engine.sharded.opening import PUBLISHING
from dayfly.engine.sharded.process import ProcessClient
from dayfly.engine.store import LogSettings
from dayfly.privacy.errors import InvalidArgument
from dayfly.privacy.fragments import CrmClient
from dayfly.privacy.fragments.wire import thumbprint
from dayfly.privacy.keys import BareSeal, FileKeyProvider
from tests.engine.runtime.world import CHINA, EUROPE, ISSUER, LEASE_URL, changed, consent_record, furniture

SHARDS = 2


def now_ms() -> int:
    return time.time_ns() // 1_000_000


class Store:
    """One sharded store, its keys and its CRMs, on the machine's clock."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "store"
        keys = folder / "keys"
        keys.mkdir(mode=0o700)
        path = keys / "shop.keys"
        self.keys = FileKeyProvider.create(
            path, "shop", seal=BareSeal(), random_bytes=os.urandom, now_ms=now_ms()
        )
        self.opener = partial(FileKeyProvider.open, path, seal=BareSeal(), random_bytes=os.urandom)
        self.crm_keys = {name: ec.generate_private_key(ec.SECP256R1()) for name in (CHINA, EUROPE)}
        self.recipients = {name: thumbprint(key.public_key()) for name, key in self.crm_keys.items()}
        self.numbers = itertools.count()
        self.outside = Outside(issuer=ISSUER, lease_url=LEASE_URL, log=LogSettings(segment_bytes=1 << 20))
        self.engine: ShardedEngine

    def open(
        self, shards: int = SHARDS, *, start: Callable[[MemberSpec], Client] = Member, **options: Any
    ) -> ShardedEngine:
        self.engine = ShardedEngine.open(
            self.folder,
            self.opener,
            shards=shards,
            recipients=self.recipients,
            settings=EngineSettings(tick_ms=20),
            outside=self.outside,
            start=start,
            **options,
        )
        return self.engine

    def person(self, user: str) -> bytes:
        return self.keys.pseudonyms().current("user", user).value

    def anonymous(self, name: str) -> bytes:
        return self.keys.pseudonyms().current("anonymous", name).value

    def call(self, kind: str, **members: Any) -> bytes:
        return orjson.dumps(
            {"type": kind, "messageId": f"m-{next(self.numbers)}", "timestamp": iso_ms(now_ms()), **members}
        )

    def view(self, material: str, **who: str) -> bytes:
        properties = {"product_id": "p", "category": "sofa", "material": material, "price": 4_000}
        return self.call("track", event="Product Viewed", properties=properties, **who)

    def allow(self, subject: bytes) -> None:
        self.engine.consent(subject, consent_record(subject, now_ms()))

    def users(self, shard: int) -> Iterator[str]:
        """Users who live in a shard."""
        routes = self.engine._desk.router.routes
        return (user for n in itertools.count() if routes.home(self.person(user := f"u-{n}")) == shard)

    def process(self, shard: int) -> ProcessClient:
        client = self.engine._ports[shard].client
        assert isinstance(client, ProcessClient)
        return client


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    made = Store(tmp_path)
    yield made
    if hasattr(made, "engine"):
        made.engine.close()


def everything(engine: ShardedEngine, after: tuple[int, ...] = (0,) * SHARDS) -> list[FeedItem]:
    found = []
    with engine.fragments(after) as feed:
        while (item := feed.get(timeout_seconds=0.3)) is not None:
            found.append(item)
    return found


def entered(engine: ShardedEngine, subject: bytes) -> list[str]:
    return [
        item.change.tag
        for item in everything(engine)
        if isinstance(item, TagChanged) and item.change.subject == subject and item.change.change == "enter"
    ]


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
