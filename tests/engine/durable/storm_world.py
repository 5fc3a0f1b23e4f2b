"""What the storm's parent and its children share: keys, policy, clock, people and their messages."""

import os
import random
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, Final, Self

import orjson
from cryptography.hazmat.primitives.asymmetric import ec

from dayfly.engine.durable import Engine, EngineSettings, Outside
from dayfly.engine.generator.times import iso_ms
from dayfly.engine.policy.load import policy_from_documents
from dayfly.engine.policy.model import Policy
from dayfly.engine.store import LogSettings
from dayfly.privacy.fragments import CrmClient
from dayfly.privacy.fragments.wire import thumbprint
from dayfly.privacy.keys import BareSeal, FileKeyProvider
from tests.engine.runtime.world import CHINA, EUROPE, ISSUER, LEASE_URL, T0, documents

MARK: Final = "storm-Zq"
"""In every user id and every value that may never be in a file."""
KEY_MARK: Final = b"\xd7DAYFLY-KEY-\xc3\x9d\xb1"
"""First bytes of every fragment key in a child."""
SPEED: Final = 60
"""The children's clock runs so much faster than the wall: fragments live and expire within seconds."""
LOG: Final = LogSettings(segment_bytes=1 << 20, align_bytes=512, retry_seconds=0.01)
SETTINGS: Final = EngineSettings(
    tick_ms=5,
    checkpoint_ms=30_000,
    feed_retention_ms=7 * 86_400_000,
    feed_items=20_000,
    snapshot_bytes=1 << 18,
)
COUNTING: Final = tuple(f"{MARK}-c-{number}" for number in range(8))
WAVERING: Final = tuple(f"{MARK}-w-{number}" for number in range(8))

COUNTED: Final = {
    "tag": "counted",
    "purpose": "service.store",
    "topic": "stores",
    "when": 'count("Login", within: 300d) >= 1',
    "captures": {"logins": 'count("Login", within: 300d)'},
}


@cache
def storm_policy(version: int) -> Policy:
    """The retailer's policy with a tag that counts logins; odd and even versions differ in a tag that all of them use."""
    read = documents()
    for document in read:
        if document["kind"] == "tags":
            document["tags"].append(COUNTED)
            for tag in document["tags"]:
                if tag["tag"] == "comparing-sofa-materials" and version % 2:
                    tag["when"] = tag["when"].replace(">= 3", ">= 2")
    return policy_from_documents(read, version=version)


class World:
    """One tenant; its keys are in a folder, its clock runs from when the storm began."""

    def __init__(self, folder: Path, began: float) -> None:
        self.folder = folder
        self.store = folder / "store"
        self.began = began
        path = folder / "keys" / "storm.keys"
        self.keys = FileKeyProvider.open(path, seal=BareSeal(), random_bytes=os.urandom)
        self.crm_keys = {
            name: ec.derive_private_key(number, ec.SECP256R1())
            for number, name in enumerate((CHINA, EUROPE), 5)
        }

    @classmethod
    def made(cls, folder: Path) -> Self:
        """A new one."""
        (folder / "keys").mkdir(mode=0o700, parents=True)
        FileKeyProvider.create(
            folder / "keys" / "storm.keys", "storm", seal=BareSeal(), random_bytes=os.urandom, now_ms=T0
        )
        return cls(folder, time.time())

    def now_ms(self) -> int:
        """The storm's clock."""
        return T0 + int((time.time() - self.began) * 1000 * SPEED)

    def open(
        self, *, policy: Policy | None = None, settings: EngineSettings = SETTINGS, **changes: Any
    ) -> Engine:
        """Open the store, whatever is there."""
        return Engine.open(
            self.store,
            self.keys,
            policy=policy or (None if (self.store / "snapshots").exists() else storm_policy(1)),
            recipients={name: thumbprint(key.public_key()) for name, key in self.crm_keys.items()},
            settings=settings,
            outside=Outside(now_ms=self.now_ms, issuer=ISSUER, lease_url=LEASE_URL, log=LOG, **changes),
        )

    def person(self, user: str) -> bytes:
        return self.keys.pseudonyms().current("user", user).value

    def client(self, engine: Engine, audience: str) -> CrmClient:
        return CrmClient(
            jwks=engine.jwks(),
            issuer=ISSUER,
            audience=audience,
            key=self.crm_keys[audience],
            lease_url=LEASE_URL,
            random_bytes=os.urandom,
        )

    def message(self, user: str, event: str, number: str, /, **properties: Any) -> bytes:
        return orjson.dumps(
            {
                "type": "track",
                "messageId": number,
                "userId": user,
                "event": event,
                "properties": properties,
                "timestamp": iso_ms(self.now_ms()),
            }
        )


def marked_random(seed: int) -> Callable[[], Callable[[memoryview], None]]:
    """A source of keys of which each begins with `KEY_MARK`, in place of the kernel's."""
    draw = random.Random(seed).randbytes

    def fill(buffer: memoryview) -> None:
        for start in range(0, len(buffer), 32):
            key = KEY_MARK + draw(32 - len(KEY_MARK))
            buffer[start : start + 32] = key[: len(buffer) - start]

    return lambda: fill
