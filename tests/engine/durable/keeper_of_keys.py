"""A process with live fragments, whose memory the tests scan: `python -m ... FOLDER close|fail`.

Every key is written byte by byte in a pattern that stands nowhere else in the process.
"""

import sys
from pathlib import Path

from dayfly.engine.delivery.items import FragmentReady
from dayfly.privacy.fragments import service

from .shop import Shop, everything

FACTOR, STEP = 37, 11
FRAGMENTS = 20


def fill(buffer: memoryview) -> None:
    """32 bytes that repeat."""
    for place in range(len(buffer)):
        buffer[place] = (FACTOR + place % 32 * STEP) % 251


def step(word: str) -> None:
    """Tell the parent where this is, and wait until it has looked."""
    sys.stdout.write(word + "\n")
    sys.stdout.flush()
    sys.stdin.readline()


def main(folder: Path, end: str) -> None:
    vars(service)["kernel_random"] = lambda: fill
    shop = Shop(folder)
    engine = shop.open()
    for number in range(FRAGMENTS):
        shop.allow(f"u-{number}")
        shop.compare_sofas(f"u-{number}")
    fragments = [item for item in everything(engine) if isinstance(item, FragmentReady)]
    for fragment in fragments:
        engine.lease(shop.request(fragment))  # not opened: what a CRM holds is not for the engine to wipe
    step(f"live {len(fragments)}")
    if end == "fail":
        engine._running.fail(OSError(5, "the disk is gone"))
    engine.close()
    step(end)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
