"""A process that mints, leases and shreds 10,000 fragments, to be scanned from outside. Run by `test_memory`.

Keys come from a source that marks them: two 64-bit constants in each. The constants are assembled as integers and
written straight into the slab, so their byte form exists nowhere but in keys.
"""

import struct
import sys
from collections.abc import Callable
from pathlib import Path

import msgspec

from dayfly.privacy.fragments import AppendOnlyFile, DestroyReason, Fragment, ServiceSettings, SuiteName

from .world import NOW_MS, World, order

FRAGMENTS = 10_000
FIRST, SECOND = 0x9D3F_71C2_E85A_4B16, 0xC7A1_58F3_2E96_0DB4


def marked_keys() -> Callable[[memoryview], None]:
    """A key source whose keys carry `FIRST` and `SECOND`."""
    state = [1]

    def fill(buffer: memoryview) -> None:
        for place in range(0, len(buffer), 32):
            state[0] = state[0] * 6364136223846793005 + 1442695040888963407 & (1 << 64) - 1
            struct.pack_into(">QQQQ", buffer, place, FIRST, state[0], SECOND, state[0] ^ SECOND)

    return fill


def say(word: str) -> None:
    """Tell the parent and wait for its answer."""
    sys.stdout.write(word + "\n")
    sys.stdout.flush()
    sys.stdin.readline()


def main(folder: Path) -> None:
    """Mint, lease, shred by every reason, report; then plant a copy of one key and report again."""
    with AppendOnlyFile(folder / "log") as sink, (folder / "events.jsonl").open("wb") as events:
        world = World(fill_random=marked_keys(), sink=sink, settings=ServiceSettings(keys_per_slab=2048))
        world.cdp._state._log = lambda event: events.writelines([msgspec.json.encode(event), b"\n"])
        minted = []
        for start in range(0, FRAGMENTS, 250):
            outcomes = world.cdp.mint_many(
                [order(f"o-{n}", use=2 if n % 2 else None) for n in range(start, start + 250)], NOW_MS
            )
            minted += [outcome for outcome in outcomes if isinstance(outcome, Fragment)]
        (folder / "tokens.txt").write_text("\n".join(fragment.token for fragment in minted))
        for number, fragment in enumerate(minted[:300]):
            verified = world.crm.verify(fragment.token, NOW_MS)
            world.lease(world.ask(verified, suite=list(SuiteName)[number % 3]).request)
        say("live")
        for fragment in minted[:3000]:
            world.cdp.shred(fragment.jti, DestroyReason.OPERATOR, NOW_MS)
        world.cdp.supersede([fragment.order_id for fragment in minted[3000:6000]], NOW_MS)
        world.cdp.expire(NOW_MS + 1_800_000)
        world.cdp.checkpoint(NOW_MS + 1_800_000)
        events.flush()
        say(f"shredded {world.cdp.tombstones}")
        planted = b"".join([FIRST.to_bytes(8, "big"), bytes(8), SECOND.to_bytes(8, "big")])
        say(f"planted {len(planted)}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
