"""Replay: after a crash the state is, byte for byte, what an uninterrupted run has; views miss nothing that a snapshot passed."""

import itertools
import random
import threading
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dayfly.engine.delivery.items import FragmentEnded, FragmentReady
from dayfly.engine.durable import Engine
from dayfly.engine.durable.host import INPUTS
from dayfly.engine.durable.input_frames import decode_inputs
from dayfly.engine.durable.recovery import POLICY, SHARD, recover
from dayfly.engine.durable.work import Work
from dayfly.engine.policy.load import policy_from_source
from dayfly.engine.shard import Shard
from dayfly.engine.store import Snapshots
from tests.engine.runtime.world import DAY_MS, changed

from .breaking import ONE_BY_ONE, contents, cut, records, segments, wait_until, with_views_of
from .shop import Shop, everything
from .test_prefixes import balanced


def snapshot_of(engine: Engine) -> bytes:
    """The shard as it stands, in the bytes of a snapshot."""
    host = engine._running.host

    def look(now_ms: int) -> bytes:
        host.apply([], now_ms)
        return host.engine.shard.snapshot()

    return engine._running.do(look)


def series(_subject: bytes, _trigger: str) -> bytes:
    return b"s"


def replayed(store: Path, shop: Shop, now_ms: int) -> tuple[bytes, bytes]:
    """Two ways to the state at an instant: recovery, and a fresh shard that is told every durable input."""
    found = contents(store, shop.keys)
    recovered = recover(found.position, found.parts, found.frames, series=series).shard
    recovered.apply([], now_ms)
    told = Shard.restore(found.parts[SHARD], policy_from_source(found.parts[POLICY]))
    for frame in found.frames:
        if frame.kind == INPUTS:
            told.apply(*decode_inputs(frame.payload))
    told.apply([], now_ms)
    return recovered.snapshot(), told.snapshot()


class Life:
    """A random day of a few people; every act is a function of the seed."""

    USERS = ("u-1", "u-2", "u-3", "u-4", "u-5")
    MATERIALS = ("leather", "fabric", "velvet", "oak")

    def __init__(self, shop: Shop, seed: int) -> None:
        self.shop = shop
        self.chance = random.Random(seed)
        self.policies = itertools.cycle(
            [changed("settings", partial(dict.update, future_skew=f"{minutes}m")) for minutes in (4, 5)]
        )

    def step(self) -> None:
        chance = self.chance
        user = chance.choice(self.USERS)
        act = chance.choices(
            (
                "view",
                "tap",
                "ship",
                "allow",
                "withdraw",
                "merge",
                "publish",
                "erase",
                "batch",
                "wait",
                "snapshot",
            ),
            (30, 8, 6, 10, 3, 2, 1, 1, 8, 6, 2),
        )[0]
        getattr(self, act)(user)

    def view(self, user: str) -> None:
        material = self.chance.choice(self.MATERIALS)
        self.shop.act(user, "Product Viewed", product_id="p", category="sofa", material=material, price=4_000)

    def tap(self, user: str) -> None:
        self.shop.act(user, "Install Service Tapped", sku="sku-1")

    def ship(self, user: str) -> None:
        self.shop.act(user, "Order Shipped", order_id="o-1", status="shipping")

    def allow(self, user: str) -> None:
        self.shop.allow(user)

    def withdraw(self, user: str) -> None:
        self.shop.clock.now_ms += 1
        self.shop.engine.withdraw(
            self.shop.person(user), purpose=self.chance.choice(("*", "service", "marketing"))
        )

    def merge(self, user: str) -> None:
        self.shop.clock.now_ms += 1
        self.shop.engine.merge(self.shop.person(user), self.shop.person(self.chance.choice(self.USERS)))

    def publish(self, _user: str) -> None:
        self.shop.clock.now_ms += 1
        self.shop.engine.publish(next(self.policies))

    def erase(self, user: str) -> None:
        self.shop.clock.now_ms += 1
        self.shop.engine.erase(self.shop.person(user))

    def batch(self, user: str) -> None:
        """Several events, some of them known already, late, early, or none at all."""
        shop, chance = self.shop, self.chance
        known = shop.message(user, "Login")
        late = orjson.loads(
            shop.message(user, "Product Viewed", product_id="p", category="sofa", material="oak")
        )
        late["timestamp"] = "2026-11-20T12:00:00.000Z"
        shop.engine.submit([known, known, b"{", orjson.dumps(late)][: chance.randrange(1, 5)], "app")

    def wait(self, _user: str) -> None:
        self.shop.clock.now_ms += self.chance.choice((1_000, 60_000, 31 * 60_000, DAY_MS))

    def snapshot(self, _user: str) -> None:
        self.shop.engine.snapshot()


@settings(max_examples=6)
@given(seed=st.integers(0, 2**32), steps=st.integers(1, 60))
def test_state_after_crash_and_replay_is_that_of_an_uninterrupted_run(
    tmp_path_factory: pytest.TempPathFactory, seed: int, steps: int
) -> None:
    shop = Shop(tmp_path_factory.mktemp("replay"), seed=seed)
    engine = shop.open(log=ONE_BY_ONE)
    life = Life(shop, seed)
    for _ in range(steps):
        life.step()
    shop.clock.now_ms += 1
    uninterrupted = snapshot_of(engine)
    recovered, told = replayed(shop.crashed_copy(), shop, shop.clock.now_ms)
    assert recovered == uninterrupted
    assert told == uninterrupted
    engine.close()


@settings(max_examples=5)
@given(seed=st.integers(0, 2**32), data=st.data())
def test_a_write_torn_at_any_byte_leaves_the_state_before_it(
    tmp_path_factory: pytest.TempPathFactory, seed: int, data: st.DataObject
) -> None:
    shop = Shop(tmp_path_factory.mktemp("torn"), seed=seed)
    engine = shop.open(log=ONE_BY_ONE)
    views = shop.crashed_copy("views")
    life = Life(shop, seed)
    for _ in range(20):
        life.view(life.chance.choice(life.USERS))
        life.allow(life.chance.choice(life.USERS))
    full = shop.crashed_copy("full")
    engine.close()
    written = [record for record in records(segments(full)[-1]) if record.count]
    torn = data.draw(st.sampled_from(written))
    at = data.draw(st.integers(torn.start, torn.end - 1))
    store = with_views_of(full, views, full.with_name("store"))
    # The write was of whole sectors, in any order: those behind `at` did not reach the disk, nor did any later write.
    cut(segments(store)[-1], (at - torn.start) // 512 * 512 + torn.start)
    before = with_views_of(full, views, full.with_name("before"))
    cut(segments(before)[-1], torn.start)
    assert replayed(store, shop, shop.clock.now_ms) == replayed(before, shop, shop.clock.now_ms)
    again = shop.open(with_views_of(store, store, full.with_name("opened")), log=ONE_BY_ONE)
    balanced(again)
    again.close()


def test_a_crash_right_after_a_snapshot_loses_nothing_of_any_view(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop.settings = type(shop.settings)(tick_ms=5, checkpoint_ms=3_600_000)
    engine = shop.open()
    shop.act("u-1", "Login")  # signs the first checkpoint; the next is an hour away
    for user in ("u-1", "u-2"):
        shop.allow(user)
        shop.compare_sofas(user)
    shop.read(next(item for item in everything(engine) if isinstance(item, FragmentReady)))
    engine.withdraw(shop.person("u-1"))
    letters = engine.submit([b"{", b"[1]"], "app").dead_letters
    assert len(letters) == 2
    write, copies = Snapshots.write, []

    def crashing(self: Snapshots, *arguments: Any, **named: Any) -> None:
        write(self, *arguments, **named)
        copies.append(shop.crashed_copy())

    monkeypatch.setattr(Snapshots, "write", crashing)
    engine.snapshot()
    monkeypatch.undo()
    told = everything(engine)
    engine.close()
    engine = shop.open(copies[0])
    assert everything(engine)[: len(told)] == told
    for item in told:
        if isinstance(item, FragmentEnded):
            assert engine.deletion_receipt(item.jti).tombstone.reason == item.reason
        elif isinstance(item, FragmentReady):
            assert engine.explain_all(item.jti)
    views = engine._running.views
    assert views.audit.head == engine._running.host.standing.audit
    assert sum(views.letters.counts.values()) == 2
    balanced(engine)


def test_a_snapshot_holds_the_feed_items_that_still_wait_for_the_log(shop: Shop) -> None:
    engine = shop.open()
    shop.allow("u-1")
    shop.compare_sofas("u-1", ("leather", "fabric"))
    releases = engine._running.releases
    hold, durable = threading.Event(), releases.durable

    def held(position: int) -> None:
        if threading.current_thread().name == "dayfly-log-committer":
            hold.wait(10)
        durable(position)

    engine._running.log._durable_callbacks[:] = [held]
    message = shop.message(
        "u-1", "Product Viewed", product_id="p", category="sofa", material="velvet", price=4_000
    )
    submitted = engine.submit_later([message], "app")
    answer: Future[Any] = Future()
    parts: list[Any] = []
    engine._running.queue.put(Work(lambda _: parts.append(engine._running.keeper.image()), answer))
    wait_until(lambda: bool(parts))
    hold.set()
    submitted.result()
    told = everything(engine)
    position, make = parts[0]
    made = {name: part if isinstance(part, bytes) else b"".join(part) for name, part in make().items()}
    recovered = recover(position, made, (), series=series)
    assert recovered.items == told[: len(recovered.items)]
    assert len(recovered.items) == recovered.standing.next_item - 1
    assert any(isinstance(item, FragmentReady) for item in recovered.items)
