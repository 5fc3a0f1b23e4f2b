"""A program that creates, destroys and rewraps keys until it is killed; it says what it was promised, after each promise.

Arguments: folder, seed. Lines: `live ID KEY WRAPPED`, `dying ID...`, `dead ID...`, `kek N` (keys beyond N may be in use).
"""

import os
import random
import sys
from pathlib import Path

from dayfly.privacy.keys import KekRing, SlotKeys

TENANT = bytes(range(16))


def ring(newest: int) -> KekRing:
    return KekRing({one: random.Random(one).randbytes(32) for one in range(1, newest + 1)}, os.urandom)


def say(*words: object) -> None:
    os.write(1, (" ".join(str(word) for word in words) + "\n").encode())


def main(folder: Path, seed: int, kek: int) -> None:
    """Work until killed."""
    chance = random.Random(seed)
    path = folder / "keys.slots"
    slots = SlotKeys.open(path, ring(kek), tenant=TENANT, random_bytes=os.urandom, now_ms=lambda: 1)
    mine = list(slots.live("log"))
    say("open")
    while True:
        what = chance.random()
        if what < 0.5 or len(mine) < 5:
            key_id, key = slots.create("log")
            slot = slots._slots.read(slots._live[key_id].slot)
            assert slot is not None
            say("live", key_id, key.hex(), slot.wrapped.hex())
            mine.append(key_id)
        elif what < 0.97:
            chosen = [mine.pop(chance.randrange(len(mine))) for _ in range(chance.randint(1, 4))]
            say("dying", *chosen)
            slots.destroy(chosen)
            say("dead", *chosen)
        else:
            kek += 1
            say("kek", kek)
            slots.rewrap(ring(kek))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
