"""A crash after any write of the log: what was decided is carried out once, told once, and never told otherwise."""

import re
from collections import Counter
from pathlib import Path

import pytest

from dayfly.engine.decisions import OrderMade, Recall, TagChange
from dayfly.engine.delivery.items import FragmentEnded, FragmentReady, FragmentRecalled
from dayfly.engine.durable import Engine, FeedItem, TagChanged
from dayfly.engine.durable.host import INPUTS
from dayfly.engine.durable.input_frames import decode_inputs
from dayfly.engine.durable.recovery import POLICY, SHARD
from dayfly.engine.policy.load import policy_from_source
from dayfly.engine.shard import Shard
from dayfly.privacy.consent import UseBudget

from .breaking import ONE_BY_ONE, contents, cut, records, segments, with_views_of
from .shop import Shop, everything

MINUTE_MS = 60_000


def busy_day(shop: Shop) -> None:
    """Tags in and out, recalls, a lease, an expiry, dead letters, a merge, a one-time consent used up."""
    shop.allow("u-1")
    shop.compare_sofas("u-1")
    (fragment,) = [item for item in everything(shop.engine) if isinstance(item, FragmentReady)]
    shop.read(fragment)
    shop.allow("u-2")
    shop.act("u-2", "Install Service Tapped", sku="sku-1")
    shop.engine.submit([b"{", shop.message("u-2", "Login")], "app")
    shop.allow("u-3")
    shop.compare_sofas("u-3", ("leather", "fabric"))
    shop.engine.merge(shop.person("u-3"), shop.person("u-2"))
    shop.compare_sofas("u-3", ("velvet",))
    shop.engine.withdraw(shop.person("u-1"))
    shop.allow("u-4", record_id="once", use=UseBudget(max_uses=1))
    shop.act("u-4", "Install Service Tapped", sku="sku-2")
    shop.act("u-4", "Install Service Tapped", sku="sku-3")
    shop.clock.now_ms += 31 * MINUTE_MS
    shop.act("u-1", "Login")


class Decided:
    """What the durable inputs of a store decide, told to a fresh shard: the way in which it all should have come."""

    def __init__(self, store: Path, shop: Shop) -> None:
        found = contents(store, shop.keys)
        shard = Shard.restore(found.parts[SHARD], policy_from_source(found.parts[POLICY]))
        self.tags: list[TagChange] = []
        self.orders: list[OrderMade] = []
        self.recalls: list[Recall] = []
        for frame in found.frames:
            if frame.kind == INPUTS:
                decisions = shard.apply(*decode_inputs(frame.payload))
                self.tags += decisions.tags
                self.orders += decisions.orders
                self.recalls += decisions.recalls
        self.clock_ms = shard.clock_ms


def balanced(engine: Engine) -> None:
    """minted = live + tombstones, in the newest signed checkpoint."""
    note = engine.checkpoint()
    size = int(note.split("\n")[1])
    found = re.search(r"minted (\d+) live (\d+)", note)
    assert found is not None
    assert int(found[1]) == int(found[2]) + size


def check_recovered(items: list[FeedItem], decided: Decided, engine: Engine) -> None:
    assert [item.position for item in items] == list(range(1, len(items) + 1))
    tags = [item.change for item in items if isinstance(item, TagChanged)]
    assert tags[: len(decided.tags)] == decided.tags
    recalls = Counter((item.order_ids, item.reason) for item in items if isinstance(item, FragmentRecalled))
    assert recalls >= Counter((item.order_ids, item.reason) for item in decided.recalls)
    assert set(recalls.values()) <= {1}
    minted = Counter(item.order_id for item in items if isinstance(item, FragmentReady))
    assert set(minted.values()) <= {1}
    void = {order_id for recall in decided.recalls for order_id in recall.order_ids}
    refused = engine._running.host.standing.counts
    missing = {made.order.order_id for made in decided.orders} - void - set(minted)
    assert len(missing) <= sum(count for name, count in refused.items() if name.startswith("unminted"))
    balanced(engine)
    live = {item.jti for item in items if isinstance(item, FragmentReady)} - {
        item.jti for item in items if isinstance(item, FragmentEnded)
    }
    assert live == {fragment.jti for fragment in engine._running.host.engine.fragments.live()}


def check_crash_after(shop: Shop, log_of: Path, views_of: Path, offset: int, told: list[FeedItem]) -> None:
    """Open a store whose log ends at an offset, look, crash, open again, look again."""
    store = with_views_of(log_of, views_of, shop.folder.with_name("cut"))
    (segment,) = segments(store)
    cut(segment, offset)
    decided = Decided(with_views_of(store, store, shop.folder.with_name("read")), shop)
    shop.clock.now_ms = decided.clock_ms  # at once: time has decided nothing since
    engine = shop.open(store, log=ONE_BY_ONE)
    first = everything(engine)
    check_recovered(first, decided, engine)
    durable = [item for item in first if isinstance(item, FragmentReady) and item in told]
    for item in durable:
        assert told[item.position - 1] == item
    again = with_views_of(store, store, shop.folder.with_name("again"))
    engine.close()
    engine = shop.open(again, log=ONE_BY_ONE)
    second = everything(engine)
    assert second[: len(first)] == first
    check_recovered(second, decided, engine)
    engine.close()


@pytest.fixture
def day(shop: Shop) -> tuple[Shop, Path, Path, list[FeedItem]]:
    """A shop after a busy day: its log, its views as they stood in the morning, and what the feed had told."""
    shop.open(log=ONE_BY_ONE)
    morning = shop.crashed_copy("morning")
    busy_day(shop)
    evening = shop.crashed_copy("evening")
    told = everything(shop.engine)
    shop.engine.close()
    return shop, evening, morning, told


def offsets(store: Path) -> list[int]:
    """Where a crash can leave the log: behind each record."""
    (segment,) = segments(store)
    return [record.end for record in records(segment)]


def test_the_day_holds_everything_that_a_crash_can_part(day: tuple[Shop, Path, Path, list[FeedItem]]) -> None:
    kinds = Counter(type(item).__name__ for item in day[3])
    assert kinds["FragmentReady"] >= 4
    assert kinds["FragmentRecalled"] >= 1
    assert kinds["FragmentEnded"] >= 3
    assert kinds["TagChanged"] >= 5
    assert len(offsets(day[1])) >= 25


def test_a_crash_after_every_fourth_write(day: tuple[Shop, Path, Path, list[FeedItem]]) -> None:
    shop, evening, morning, told = day
    for offset in offsets(evening)[1::4]:
        check_crash_after(shop, evening, morning, offset, told)


@pytest.mark.slow
def test_a_crash_after_every_write(day: tuple[Shop, Path, Path, list[FeedItem]]) -> None:
    shop, evening, morning, told = day
    for offset in offsets(evening):
        check_crash_after(shop, evening, morning, offset, told)
