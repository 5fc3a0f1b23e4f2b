"""What may happen once happens once: under a thousand threads, after restarts, after crashes."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest

from dayfly.engine.delivery.items import FragmentEnded, FragmentReady
from dayfly.engine.durable.engine_keys import series_of
from dayfly.engine.shard import kernels_layout
from dayfly.privacy.consent import UseBudget
from dayfly.privacy.errors import LeaseRefused
from dayfly.privacy.fragments import LeaseRequest
from dayfly.privacy.keys import KeyName

from .shop import Shop, everything, ready
from .test_prefixes import balanced

MANY = 1_000
TAPPED = "install-service-tapped"


def at_once(count: int, call: Callable[[int], object], *, threads: int = 50) -> list[object]:
    """Call so many times from many threads, all starting together; results and errors."""
    start = threading.Barrier(threads)

    def one(number: int) -> object:
        if number < threads:
            start.wait(30)
        try:
            return call(number)
        except LeaseRefused as refusal:
            return refusal

    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(one, range(count)))


def tap(shop: Shop, user: str, number: int) -> bytes:
    return shop.message(user, "Install Service Tapped", number, sku="sku-1")


def submit_tap(shop: Shop, first: int, number: int) -> object:
    return shop.engine.submit([tap(shop, "u-1", first + number)], "app")


def fragments_of(shop: Shop, user: str) -> list[FragmentReady]:
    series = series_of(shop.keys.key(KeyName.LINEAGE))(shop.person(user), TAPPED)
    return [item for item in ready(shop.engine) if item.subject_digest == series]


def test_of_a_thousand_leases_of_a_fragment_for_one_use_exactly_one_succeeds(shop: Shop) -> None:
    engine = shop.open()
    shop.allow("u-1")
    shop.act("u-1", "Install Service Tapped", sku="sku-1")
    (fragment,) = ready(engine)
    client = shop.client(fragment.audience)
    verified = client.verify(fragment.token, shop.clock.now_ms)
    nonce = engine.nonce()
    requests: list[LeaseRequest] = [
        client.lease_request(verified, shop.clock.now_ms, nonce).request for _ in range(MANY)
    ]
    results = at_once(MANY, lambda number: engine.lease(requests[number]))
    given = [result for result in results if not isinstance(result, LeaseRefused)]
    assert len(given) == 1
    crashed = shop.crashed_copy()
    engine.close()
    shop.open(crashed)
    with pytest.raises(LeaseRefused):
        shop.engine.lease(shop.request(fragment))
    (ended,) = [item for item in everything(shop.engine) if isinstance(item, FragmentEnded)]
    assert ended.leases == 1


def counted(shop: Shop) -> int:
    """Events that the shard has accepted since it was opened."""
    control = shop.engine._running.host.engine.shard.arrays.core.control
    return int(control[kernels_layout.ACCEPTED])


def test_of_a_thousand_submissions_of_one_event_exactly_one_counts_also_after_restart_and_crash(
    shop: Shop,
) -> None:
    engine = shop.open()
    payload = shop.message("u-1", "Login")
    before = counted(shop)
    at_once(MANY, lambda _: engine.submit([payload], "app"))
    assert counted(shop) == before + 1
    crashed = shop.crashed_copy()
    engine.close()
    for store in (shop.folder, crashed):
        engine = shop.open(store)
        before = counted(shop)
        at_once(20, lambda _: shop.engine.submit([payload], "app"), threads=4)
        assert counted(shop) == before
        shard = engine._running.host.engine.shard
        batch = engine._running.host.engine.intake.segment([payload], "app", shop.clock.now_ms).batch
        assert shard.apply([batch], shop.clock.now_ms).counts == {"duplicate": 1}
        engine.close()


def test_a_one_time_consent_under_a_thousand_triggers_gives_one_fragment_also_across_crashes(
    shop: Shop,
) -> None:
    engine = shop.open()
    shop.allow("u-1", record_id="once", use=UseBudget(max_uses=1))
    at_once(MANY, lambda number: engine.submit([tap(shop, "u-1", number)], "app"))
    assert len(fragments_of(shop, "u-1")) == 1
    crashed = shop.crashed_copy()
    engine.close()
    for again in range(1, 3):
        reopened, first = shop.open(crashed), MANY * again
        at_once(50, partial(submit_tap, shop, first))
        assert len(fragments_of(shop, "u-1")) == 1
        crashed = shop.crashed_copy(f"crashed {again}")
        reopened.close()


def test_a_use_comes_back_once_when_its_fragment_died_unread_and_the_consent_says_so(shop: Shop) -> None:
    engine = shop.open()
    shop.allow("u-1", record_id="again", use=UseBudget(max_uses=1, restore_if_unopened=True))
    engine.submit([tap(shop, "u-1", 1)], "app")
    assert len(fragments_of(shop, "u-1")) == 1
    crashed = shop.crashed_copy()
    engine.close()
    engine = shop.open(crashed)  # the fragment died unread with the process: its use is there again
    at_once(100, lambda number: engine.submit([tap(shop, "u-1", 100 + number)], "app"), threads=10)
    second = fragments_of(shop, "u-1")
    assert len(second) == 2
    shop.read(second[1])
    again = shop.crashed_copy("again")
    engine.close()
    engine = shop.open(again)  # this one was read: its use is spent, whatever became of it
    at_once(50, lambda number: engine.submit([tap(shop, "u-1", 300 + number)], "app"), threads=10)
    assert len(fragments_of(shop, "u-1")) == 2
    balanced(engine)


def test_a_consumer_that_resumes_sees_each_item_once(shop: Shop) -> None:
    engine = shop.open()
    seen: list[int] = []
    for number in range(4):
        shop.allow(f"u-{number}")
        shop.compare_sofas(f"u-{number}")
        with engine.fragments(seen[-1] if seen else 0) as feed:
            read = (feed.get(timeout_seconds=0.2) for _ in range(number + 1))  # not to the end
            seen += [item.position for item in read if item is not None]
        crashed = shop.crashed_copy(f"crashed {number}")
        engine.close()
        engine = shop.open(crashed)
    seen += [item.position for item in everything(engine, seen[-1])]
    assert seen == list(range(1, len(seen) + 1))
