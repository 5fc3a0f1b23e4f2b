"""Withdrawn, expired, closed, failed: keys are gone at once, and everybody is told."""

import subprocess
import sys
import time
from pathlib import Path

import pytest
from msgspec.structs import replace

from dayfly.engine.delivery.items import FragmentEnded, FragmentRecalled
from dayfly.engine.store import LogSettings
from dayfly.privacy.errors import LeaseRefused
from dayfly.privacy.fragments import ConsentRef, OrderView, Profile, RuleRef, ServiceSettings
from dayfly.privacy.fragments.cdp.registry import Entry
from tests.engine.runtime.world import CHINA
from tests.privacy.fragments.test_memory import occurrences

from .keeper_of_keys import FRAGMENTS, fill
from .shop import Shop, everything, ready
from .test_prefixes import balanced

ROOT = Path(__file__).parents[3]
MILLION = 1_000_000


def test_a_withdrawal_refuses_the_lease_and_recalls_before_it_returns(shop: Shop) -> None:
    engine = shop.open()
    shop.allow("u-1")
    shop.compare_sofas("u-1")
    (fragment,) = ready(engine)
    request = shop.request(fragment)
    engine.withdraw(shop.person("u-1"))
    told = everything(engine, fragment.position)
    assert [(item.order_ids, item.reason) for item in told if isinstance(item, FragmentRecalled)] == [
        ((fragment.order_id,), "withdrawn")
    ]
    assert [(item.jti, item.reason) for item in told if isinstance(item, FragmentEnded)] == [
        (fragment.jti, "withdrawn")
    ]
    with pytest.raises(LeaseRefused):
        engine.lease(request)
    assert len(engine._running.host.engine.fragments._state.slab) == 0
    assert engine.deletion_receipt(fragment.jti).tombstone.reason == "withdrawn"


def test_a_fragment_expires_by_itself_in_the_turn_of_its_second(shop: Shop) -> None:
    engine = shop.open()
    shop.allow("u-1")
    shop.compare_sofas("u-1")
    (fragment,) = ready(engine)
    with engine.fragments() as feed:
        shop.clock.now_ms = fragment.expires_at_ms - shop.settings.tick_ms
        assert feed.get(timeout_seconds=0.1) is None
        shop.clock.now_ms = fragment.expires_at_ms
        ended = feed.get(timeout_seconds=10)
    assert isinstance(ended, FragmentEnded)
    assert (ended.jti, ended.reason, ended.leases) == (fragment.jti, "expired", 0)


@pytest.mark.parametrize("end", ["close", "fail"])
def test_no_key_is_left_in_the_memory_of_an_engine_that_closed_or_failed(tmp_path: Path, end: str) -> None:
    key = bytearray(32)
    fill(memoryview(key))
    with subprocess.Popen(
        [sys.executable, "-m", "tests.engine.durable.keeper_of_keys", str(tmp_path), end],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        assert process.stdout.readline().strip() == f"live {FRAGMENTS}"
        assert occurrences(process.pid, [bytes(key)]) >= FRAGMENTS, "the scan must find keys that are alive"
        process.stdin.write("\n")
        process.stdin.flush()
        assert process.stdout.readline().strip() == end
        assert occurrences(process.pid, [bytes(key)]) == 0
        process.stdin.write("\n")
        process.stdin.flush()
    for path in tmp_path.rglob("*"):
        assert not path.is_file() or bytes(key)[:16] not in path.read_bytes()


def make_live(shop: Shop, count: int, seconds: int) -> int:
    """Put fragments with keys among the live ones, ending evenly over so many seconds; returns the first of them."""
    state = shop.engine._running.host.engine.fragments._state
    first = state.now_ms // 1000 + 60
    template = OrderView(
        at="mint",
        now_ms=state.now_ms,
        uses=0,
        order_id="",
        audience=CHINA,
        purpose="service.recommendation",
        topic="furniture.sofa",
        trigger_id=bytes(16),
        rule=RuleRef("advise-on-sofa-materials", 1),
        field_names=("materials",),
        subject=bytes(16),
        consent=(ConsentRef("c-1", 1, state.now_ms + 86_400_000),),
        profile=Profile.F1,
    )
    with state.lock:
        for number in range(count):
            view = replace(template, order_id=f"o-{number}", subject=number.to_bytes(16, "big"))
            entry = Entry(
                jti=f"j-{number:019d}xx",
                slot=state.slab.take(),
                view=view,
                iat=first - 60,
                exp=first + number % seconds,
                budget=None,
                version=1,
                kc="k" * 43,
                jkt="t" * 43,
            )
            state.live.add(entry)
            state.graves.minted += 1
    return first


def turn(shop: Shop) -> None:
    """A turn at this instant; returns when what it brought is durable."""
    host = shop.engine._running.host
    shop.engine._running.do(lambda now_ms: host.apply([], now_ms))


def expire_all(shop: Shop, count: int, seconds: int) -> list[float]:
    """Let the seconds pass one by one; seconds of the wall that the turn of each took until all of it was durable."""
    engine = shop.engine
    service = engine._running.host.engine.fragments
    first = make_live(shop, count, seconds)
    assert len(service._state.slab) == count
    took = []
    for second in range(first, first + seconds):
        shop.clock.now_ms = second * 1_000 - 1
        turn(shop)
        before = service.live_count()
        shop.clock.now_ms = second * 1_000
        began = time.perf_counter()
        turn(shop)
        took.append(time.perf_counter() - began)
        assert before - service.live_count() == count // seconds, (
            "every one that is over is gone with this turn"
        )
    assert service.live_count() == len(service._state.slab) == 0
    balanced(engine)
    return took


def roomy(shop: Shop) -> Shop:
    shop.fragments = ServiceSettings(allow_unlocked=True, keys_per_slab=1 << 16)
    shop.open(log=LogSettings(segment_bytes=64 << 20))
    return shop


def test_what_is_over_dies_with_the_turn_of_its_second_however_many_are_alive(shop: Shop) -> None:
    expire_all(roomy(shop), 3_000, 3)


@pytest.mark.slow
def test_a_million_live_fragments_expire_within_their_seconds(
    shop: Shop, capsys: pytest.CaptureFixture[str]
) -> None:
    service = roomy(shop).engine._running.host.engine.fragments
    first = make_live(shop, MILLION, 900)
    took = []
    for second in range(first, first + 20):
        shop.clock.now_ms = second * 1_000 - 1
        turn(shop)
        shop.clock.now_ms = second * 1_000
        began = time.perf_counter()
        turn(shop)
        took.append(time.perf_counter() - began)
    assert service.live_count() == MILLION - sum(-(-(MILLION - second) // 900) for second in range(20))
    with capsys.disabled():
        print(f"\nturns with 1/900 of a million: median {sorted(took)[10]:.3f} s, largest {max(took):.3f} s")  # noqa: T201 - a figure to report


@pytest.mark.slow
def test_a_million_fragments_that_end_in_one_second_are_all_destroyed_in_its_turn(
    shop: Shop, capsys: pytest.CaptureFixture[str]
) -> None:
    (took,) = expire_all(roomy(shop), MILLION, 1)
    with capsys.disabled():
        print(f"\na million in one turn: {took:.1f} s")  # noqa: T201 - a figure to report
