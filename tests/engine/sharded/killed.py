"""A process that lives people's lives in a sharded store until it is killed; it prints the number of each finished one."""

import os
import sys
import time
from functools import partial
from pathlib import Path

import orjson

from dayfly.engine.durable import EngineSettings, Outside
from dayfly.engine.generator.times import iso_ms
from dayfly.engine.sharded.engine import ShardedEngine
from dayfly.engine.store import LogSettings
from dayfly.privacy.keys import BareSeal, FileKeyProvider
from tests.engine.runtime.world import ISSUER, LEASE_URL, consent_record, furniture

LIVES = 40


def opened(folder: Path) -> ShardedEngine:
    path = folder / "keys" / "shop.keys"
    return ShardedEngine.open(
        folder / "store",
        partial(FileKeyProvider.open, path, seal=BareSeal(), random_bytes=os.urandom),
        shards=2,
        policy=furniture(),
        recipients={},
        settings=EngineSettings(tick_ms=20),
        outside=Outside(issuer=ISSUER, lease_url=LEASE_URL, log=LogSettings(segment_bytes=1 << 20)),
    )


def live(engine: ShardedEngine, keys: FileKeyProvider, life: int, *, consents: bool = True) -> None:
    """Two views of a device, the login that tells who it is, and a third view."""
    now_ms = time.time_ns() // 1_000_000
    user, device = f"k-{life}", f"d-{life}"
    if consents:
        for kind, name in (("user", user), ("anonymous", device)):
            subject = keys.pseudonyms().current(kind, name).value
            engine.consent(subject, consent_record(subject, now_ms))
    calls = [
        _view(life, 0, "leather", now_ms, anonymousId=device),
        _view(life, 1, "fabric", now_ms, anonymousId=device),
        _call(life, 2, "identify", now_ms, userId=user, anonymousId=device),
        _view(life, 3, "velvet", now_ms, userId=user),
    ]
    for call in calls:
        engine.submit([call], "app")


def _view(life: int, step: int, material: str, now_ms: int, **who: str) -> bytes:
    properties = {"product_id": "p", "category": "sofa", "material": material, "price": 4_000}
    return _call(life, step, "track", now_ms, event="Product Viewed", properties=properties, **who)


def _call(life: int, step: int, kind: str, now_ms: int, **members: object) -> bytes:
    return orjson.dumps({"type": kind, "messageId": f"{life}-{step}", "timestamp": iso_ms(now_ms), **members})


def main() -> None:
    folder, first = Path(sys.argv[1]), int(sys.argv[2])
    keys = FileKeyProvider.open(folder / "keys" / "shop.keys", seal=BareSeal(), random_bytes=os.urandom)
    engine = opened(folder)
    for life in range(first, first + LIVES):
        live(engine, keys, life)
        sys.stdout.write(f"{life}\n")
        sys.stdout.flush()
    engine.close()


if __name__ == "__main__":
    main()
