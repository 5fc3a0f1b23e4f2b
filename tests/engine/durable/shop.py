"""A furniture retailer with a durable engine and two CRMs; the clock only moves when told."""

import itertools
import os
import random
import shutil
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import orjson
from cryptography.hazmat.primitives.asymmetric import ec

from dayfly.engine.delivery.items import FragmentReady
from dayfly.engine.durable import Engine, EngineSettings, FeedItem, Outside, Receipt
from dayfly.engine.errors import EngineClosed, EngineFailed
from dayfly.engine.generator.times import iso_ms
from dayfly.engine.policy.model import Policy
from dayfly.engine.store import LOCAL_DISK, Disk, LogSettings
from dayfly.privacy.fragments import CrmClient, LeaseRequest, PendingLease, ServiceSettings, Verified
from dayfly.privacy.fragments.wire import thumbprint
from dayfly.privacy.keys import BareSeal, FileKeyProvider
from tests.engine.runtime.world import CHINA, EUROPE, ISSUER, LEASE_URL, T0, consent_record, furniture

SMALL_LOG = LogSettings(segment_bytes=1 << 20)


class HandClock:
    """A wall clock that stands until it is set."""

    def __init__(self, now_ms: int = T0) -> None:
        self.now_ms = now_ms

    def __call__(self) -> int:
        return self.now_ms


class Shop:
    """One store in a folder, its keys, its clock and its CRMs."""

    def __init__(self, folder: Path, *, seed: int = 1, **settings: Any) -> None:
        self.random = random.Random(seed)
        self.folder = self.opened = folder / "store"
        self.clock = HandClock()
        self.settings = EngineSettings(**{"tick_ms": 5, "checkpoint_ms": 100, **settings})
        keys = folder / "keys"
        keys.mkdir(mode=0o700)
        self.keys = FileKeyProvider.create(
            keys / "shop.keys", "shop", seal=BareSeal(), random_bytes=self.random.randbytes, now_ms=T0
        )
        self.crm_keys = {name: ec.generate_private_key(ec.SECP256R1()) for name in (CHINA, EUROPE)}
        self.numbers = itertools.count()
        self.disk: Disk = LOCAL_DISK
        self.fragments = ServiceSettings()
        self.engine: Engine

    def open(
        self, folder: Path | None = None, *, policy: Policy | None = None, log: LogSettings = SMALL_LOG
    ) -> Engine:
        self.opened = folder or self.folder
        self.engine = Engine.open(
            self.opened,
            self.keys,
            policy=policy or furniture(),
            recipients={name: thumbprint(key.public_key()) for name, key in self.crm_keys.items()},
            settings=self.settings,
            outside=Outside(
                now_ms=self.clock,
                random_bytes=os.urandom,
                issuer=ISSUER,
                lease_url=LEASE_URL,
                log=log,
                disk=self.disk,
                fragments=self.fragments,
            ),
        )
        return self.engine

    def crashed_copy(self, name: str = "crashed") -> Path:
        """The store as a crash at this moment would leave it: what is on disk, without a close."""
        copy = self.folder.with_name(name)

        def take(_: int = 0) -> None:
            shutil.copytree(self.opened, copy, copy_function=_copy_if_there)

        try:
            self.engine._running.do(
                take
            )  # nothing is written meanwhile, so that all files are of one instant
        except (EngineClosed, EngineFailed):
            take()
        return copy

    # --- what customers do --------------------------------------------------------------------------------------------

    def person(self, user: str) -> bytes:
        return self.keys.pseudonyms().current("user", user).value

    def message(self, user: str, event: str, /, number: int | None = None, **properties: Any) -> bytes:
        return orjson.dumps(
            {
                "type": "track",
                "messageId": f"m-{next(self.numbers) if number is None else number}",
                "userId": user,
                "event": event,
                "properties": properties,
                "timestamp": iso_ms(self.clock.now_ms),
            }
        )

    def act(self, user: str, event: str, /, **properties: Any) -> Receipt:
        self.clock.now_ms += 1
        return self.engine.submit([self.message(user, event, **properties)], "app")

    def compare_sofas(self, user: str, materials: Sequence[str] = ("leather", "fabric", "velvet")) -> None:
        for number, material in enumerate(materials):
            self.act(
                user,
                "Product Viewed",
                product_id=f"p-{number}",
                category="sofa",
                material=material,
                price=4_000 + number,
            )

    def allow(self, user: str, **changes: Any) -> None:
        self.clock.now_ms += 1
        self.engine.consent(
            self.person(user), consent_record(self.person(user), self.clock.now_ms, **changes)
        )

    # --- what CRMs do -------------------------------------------------------------------------------------------------

    def client(self, audience: str) -> CrmClient:
        return CrmClient(
            jwks=self.engine.jwks(),
            issuer=ISSUER,
            audience=audience,
            key=self.crm_keys[audience],
            lease_url=LEASE_URL,
            random_bytes=os.urandom,
        )

    def ask(self, fragment: FragmentReady) -> tuple[Verified, PendingLease]:
        client = self.client(fragment.audience)
        verified = client.verify(fragment.token, self.clock.now_ms)
        return verified, client.lease_request(verified, self.clock.now_ms, self.engine.nonce())

    def request(self, fragment: FragmentReady) -> LeaseRequest:
        return self.ask(fragment)[1].request

    def read(self, fragment: FragmentReady) -> Mapping[str, Any]:
        """What the CRM sees when it leases and opens."""
        verified, pending = self.ask(fragment)
        lease = self.engine.lease(pending.request)
        return dict(self.client(fragment.audience).open(verified, pending, lease, self.clock.now_ms).values)


def _copy_if_there(source: str, target: str) -> None:
    """Copy a file, unless it was renamed by a thread that prepares segments."""
    with suppress(FileNotFoundError):
        shutil.copy2(source, target)


def everything(engine: Engine, after: int = 0) -> list[FeedItem]:
    """All feed items that are there."""
    found = []
    with engine.fragments(after) as feed:
        while (item := feed.get(timeout_seconds=0.05)) is not None:
            found.append(item)
    return found


def ready(engine: Engine, after: int = 0) -> list[FragmentReady]:
    """All fragments that were handed out."""
    return [item for item in everything(engine, after) if isinstance(item, FragmentReady)]
