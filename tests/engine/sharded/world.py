"""A sharded store on the machine's clock, and what its feed brings."""

import itertools
import os
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import orjson
from cryptography.hazmat.primitives.asymmetric import ec

from dayfly.engine.durable import EngineSettings, FeedItem, Outside, TagChanged
from dayfly.engine.generator.times import iso_ms
from dayfly.engine.sharded.clients import Client
from dayfly.engine.sharded.engine import ShardedEngine
from dayfly.engine.sharded.member import Member, MemberSpec
from dayfly.engine.sharded.process import ProcessClient
from dayfly.engine.store import LogSettings
from dayfly.privacy.fragments.wire import thumbprint
from dayfly.privacy.keys import BareSeal, FileKeyProvider
from tests.engine.runtime.world import CHINA, EUROPE, ISSUER, LEASE_URL, consent_record

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
        self.settings = EngineSettings(tick_ms=20)
        self.engine: ShardedEngine

    def open(
        self, shards: int = SHARDS, *, start: Callable[[MemberSpec], Client] = Member, **options: Any
    ) -> ShardedEngine:
        self.engine = ShardedEngine.open(
            self.folder,
            self.opener,
            shards=shards,
            recipients=self.recipients,
            settings=self.settings,
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
