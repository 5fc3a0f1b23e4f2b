"""A process that writes a log and tells what is durable, until somebody kills it: `python -m ... FOLDER SEED`."""

import os
import random
import secrets
import sys
from pathlib import Path

from dayfly.engine.store import Log, LogSettings, StoreLock
from dayfly.privacy.keys import KekRing, SlotKeys

TENANT = bytes(range(16))
SETTINGS = LogSettings(segment_bytes=262_144, align_bytes=512, retry_seconds=0.01)
SLOTS = "keys.slots"


def payload(position: int) -> bytes:
    chance = random.Random(position)
    return chance.randbytes(chance.choice((0, 10, 150, 700, 5_000)))


def open_keys(folder: Path) -> SlotKeys:
    keks = KekRing({1: bytes(range(32))}, random_bytes=secrets.token_bytes)
    opening = SlotKeys.open if (folder / SLOTS).exists() else SlotKeys.new
    return opening(folder / SLOTS, keks, tenant=TENANT, random_bytes=secrets.token_bytes, now_ms=lambda: 0)


def tell(word: str, position: int) -> None:
    os.write(1, f"{word} {position}\n".encode())


def main(folder: Path, seed: int, after: int) -> None:
    chance = random.Random(seed)
    with (
        StoreLock.acquire(folder, started_ms=seed),
        open_keys(folder) as keys,
        Log.open(folder / "log", keys, tenant=TENANT, after=after, settings=SETTINGS) as log,
    ):
        log.on_durable(lambda position: tell("durable", position))
        tell("open", log.durable)
        while True:
            for _ in range(chance.choice((1, 3, 20))):
                position = log.append(log.newest % 7, payload(log.newest + 1))
            if chance.random() < 0.4:
                log.wait(position)
            if chance.random() < 0.01:
                snapshot = log.turn()
                tell("snapshot", snapshot)
                log.truncate_before(snapshot + 1)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
