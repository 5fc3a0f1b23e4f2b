"""The dispatcher gives delivery every item of the feed once, over restarts and crashes of either side."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from dayfly.engine.decisions import TagChange
from dayfly.engine.delivery import Delivery, DeliverySettings
from dayfly.engine.delivery.items import FragmentEnded, FragmentReady
from dayfly.engine.durable.dispatch import Dispatcher
from dayfly.engine.durable.feed import Feed, FeedItem, TagChanged
from dayfly.engine.errors import DeliveryError
from tests.engine.delivery.support import CRM, NOW, TTL, ended, recalled
from tests.engine.delivery.support import ready as made
from tests.engine.runtime.world import CHINA, EUROPE

from .shop import Shop, ready

SETTINGS = DeliverySettings(
    source="https://cdp.example",
    dataref="https://cdp.example/fragments/{jti}",
    pull=frozenset({CHINA, EUROPE, CRM}),
)
PATIENCE_SECONDS = 20.0


def open_delivery(path: Path) -> Delivery:
    return Delivery(path, SETTINGS, tenant="shop", random=lambda: 0.5)


class Feeding:
    """An engine that has a feed and nothing else."""

    def __init__(self, feed: Feed) -> None:
        self.feed = feed

    def fragments(self, after: int | None = None) -> Any:
        return self.feed.subscribe(after)


def never(error: BaseException) -> None:
    raise AssertionError from error


def until(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE_SECONDS
    while not holds():
        assert time.monotonic() < end, "it did not come to hold"
        time.sleep(0.005)


def tag(position: int, at_ms: int = NOW) -> TagChanged:
    return TagChanged(
        position=position, at_ms=at_ms, change=TagChange(position, at_ms, b"p" * 16, "t", "enter")
    )


def pulled(delivery: Delivery, audience: str, now_ms: int) -> list[str]:
    return [item.jti for item in delivery.pull("till", audience, now_ms=now_ms, limit=10_000) if item.token]


@contextmanager
def dispatching(engine: Any, delivery: Delivery, now_ms: Callable[[], int]) -> Iterator[Dispatcher]:
    errors: list[BaseException] = []
    with Dispatcher(engine, delivery, now_ms=now_ms, on_error=errors.append) as dispatcher:
        yield dispatcher
    assert errors == []


def test_every_fragment_of_a_running_engine_can_be_pulled_once(shop: Shop, tmp_path: Path) -> None:
    engine = shop.open()
    delivery = open_delivery(tmp_path / "delivery.db")
    with dispatching(engine, delivery, shop.clock):
        for user in ("u-1", "u-2", "u-3"):
            shop.allow(user)
            shop.compare_sofas(user)
        minted = ready(engine)
        until(lambda: delivery.position >= minted[-1].position)
    assert sorted(pulled(delivery, CHINA, shop.clock.now_ms)) == sorted(item.jti for item in minted)
    delivery.close()


def test_after_a_restart_delivery_goes_on_where_it_stood(shop: Shop, tmp_path: Path) -> None:
    path = tmp_path / "delivery.db"
    engine = shop.open()
    with open_delivery(path) as delivery, dispatching(engine, delivery, shop.clock) as dispatcher:
        shop.allow("u-1")
        shop.compare_sofas("u-1")
        first = ready(engine)
        until(lambda: delivery.position >= first[-1].position)
        taken = dispatcher.taken
    shop.allow("u-2")
    shop.compare_sofas("u-2")  # nobody is there to take it
    engine.close()
    engine = shop.open()
    shop.allow("u-3")
    shop.compare_sofas("u-3")
    items = [item for item in iterated(engine.fragments(0)) if not isinstance(item, TagChanged)]
    with open_delivery(path) as delivery, dispatching(engine, delivery, shop.clock) as dispatcher:
        until(lambda: delivery.position >= items[-1].position)
        assert dispatcher.taken + taken == len(items)
        alive = {item.jti for item in items if isinstance(item, FragmentReady)} - {
            item.jti for item in items if isinstance(item, FragmentEnded)
        }
        assert set(pulled(delivery, CHINA, shop.clock.now_ms)) == alive


def iterated(subscription: Any) -> list[FeedItem]:
    found = []
    while (item := subscription.get(0.05)) is not None:
        found.append(item)
    return found


@pytest.mark.parametrize("crash_at", range(1, 6))
@pytest.mark.parametrize("committed", [False, True])
def test_a_crash_before_or_after_any_commit_repeats_and_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, crash_at: int, *, committed: bool
) -> None:
    monkeypatch.setattr("dayfly.engine.durable.dispatch.AT_ONCE", 2)
    feed = Feed()
    items: list[Any] = [
        made(1),
        tag(2),
        made(3),
        recalled(4, "order-1"),
        ended(5, "jti-1"),
        tag(6),
        made(7),
        made(8),
    ]
    feed.publish(items)
    feed.close()
    path = tmp_path / "delivery.db"
    delivery = open_delivery(path)
    real, calls = delivery.take, iter(range(1, 100))

    def take(batch: Any, *, now_ms: int) -> int:
        crash = next(calls) == crash_at
        if crash and not committed:
            raise ConnectionAbortedError
        position = real(batch, now_ms=now_ms)
        if crash:
            raise ConnectionAbortedError
        return position

    monkeypatch.setattr(delivery, "take", take)
    errors: list[BaseException] = []
    with Dispatcher(Feeding(feed), delivery, now_ms=lambda: NOW, on_error=errors.append) as dispatcher:
        until(lambda: not dispatcher._thread or not dispatcher._thread.is_alive())
    assert [type(error) for error in errors] == [ConnectionAbortedError] * (crash_at <= 3)
    delivery.close()
    with open_delivery(path) as again:
        Dispatcher(Feeding(feed), again, now_ms=lambda: NOW, on_error=never).run()
        assert again.position == 8
        assert pulled(again, CRM, NOW) == ["jti-3", "jti-7", "jti-8"]
        (counts,) = [one for one in again.counts(now_ms=NOW) if one.audience == CRM]
        assert counts.handed == 3


def test_a_feed_that_no_longer_reaches_back_is_followed_from_its_oldest_item(tmp_path: Path) -> None:
    feed = Feed(max_items=2)
    feed.publish([made(1)])
    with open_delivery(tmp_path / "delivery.db") as delivery:
        delivery.take([made(1)], now_ms=NOW)
        feed.publish([tag(number) for number in range(2, 9)])
        feed.publish([made(9, subject_digest=b"", version=1)])
        feed.close()
        dispatcher = Dispatcher(Feeding(feed), delivery, now_ms=lambda: NOW, on_error=never)
        dispatcher.run()
        assert (dispatcher.gaps, dispatcher.taken, delivery.position) == (1, 1, 9)


def test_a_feed_that_runs_away_while_items_are_taken_is_followed_behind_the_gap(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    feed = Feed(max_items=2)
    feed.publish([made(1)])
    with open_delivery(tmp_path / "delivery.db") as delivery:
        real = delivery.take

        def slow(items: Any, *, now_ms: int) -> int:
            if feed.newest == 1:
                feed.publish([*(tag(number) for number in range(2, 10)), made(10)])
                feed.close()
            return real(items, now_ms=now_ms)

        monkeypatch.setattr(delivery, "take", slow)
        dispatcher = Dispatcher(Feeding(feed), delivery, now_ms=lambda: NOW, on_error=never)
        dispatcher.run()
        assert (dispatcher.gaps, dispatcher.taken, delivery.position) == (1, 2, 10)


def test_a_feed_that_reaches_back_by_one_has_no_gap(tmp_path: Path) -> None:
    feed = Feed(max_items=1)
    feed.publish([made(1), made(2)])
    feed.close()
    with open_delivery(tmp_path / "delivery.db") as delivery:
        delivery.take([made(1)], now_ms=NOW)
        dispatcher = Dispatcher(Feeding(feed), delivery, now_ms=lambda: NOW, on_error=never)
        dispatcher.run()
        assert (dispatcher.gaps, dispatcher.taken) == (0, 1)


def test_delivery_ahead_of_the_feed_is_refused(tmp_path: Path) -> None:
    feed = Feed()
    feed.publish([made(1)])
    with open_delivery(tmp_path / "delivery.db") as delivery:
        delivery.take([made(5)], now_ms=NOW)
        dispatcher = Dispatcher(Feeding(feed), delivery, now_ms=lambda: NOW, on_error=never)
        with pytest.raises(
            DeliveryError,
            match=r"position=5 of delivery must not be ahead of the feed's 1; .*remove delivery.db",
        ):
            dispatcher.run()


def test_what_ends_the_thread_is_told(tmp_path: Path) -> None:
    feed = Feed()
    feed.publish([made(1)])
    delivery = open_delivery(tmp_path / "delivery.db")
    delivery.close()
    told: list[BaseException] = []
    with Dispatcher(Feeding(feed), delivery, now_ms=lambda: NOW, on_error=told.append):
        until(lambda: bool(told))
    assert "delivery is closed" in str(told[0])


def test_stopping_leaves_the_rest_to_the_next_one(tmp_path: Path) -> None:
    feed = Feed()
    with open_delivery(tmp_path / "delivery.db") as delivery:
        with dispatching(Feeding(feed), delivery, lambda: NOW):
            feed.publish([made(1)])
            until(lambda: delivery.position == 1)
        feed.publish([made(2, expires_at_ms=NOW + TTL)])
        assert delivery.position == 1
        with dispatching(Feeding(feed), delivery, lambda: NOW):
            until(lambda: delivery.position == 2)
