"""A wall clock that steps back or ahead under a running engine, or between two runs: reported, and harmless."""

import pytest

from dayfly.engine.delivery.items import FragmentEnded
from dayfly.privacy.errors import LeaseRefused

from .shop import Shop, everything, ready

HOUR_MS = 3_600_000


def test_a_step_back_is_waited_out_and_nothing_lives_longer_or_shorter(shop: Shop) -> None:
    engine = shop.open()
    shop.allow("u-1")
    shop.compare_sofas("u-1")
    (fragment,) = ready(engine)
    before = engine.submit([shop.message("u-1", "Login")], "app").received_ms
    shop.clock.now_ms -= HOUR_MS
    assert engine.submit([shop.message("u-2", "Login")], "app").received_ms == before
    assert engine._running.clock.steps_back == 1
    assert engine._running.clock.behind_ms >= HOUR_MS - 10
    shop.clock.now_ms = fragment.expires_at_ms - 1
    assert not [item for item in everything(engine) if isinstance(item, FragmentEnded)]
    assert shop.read(fragment)
    shop.clock.now_ms = fragment.expires_at_ms + shop.settings.tick_ms
    shop.act("u-2", "Login")
    (ended,) = [item for item in everything(engine) if isinstance(item, FragmentEnded)]
    assert (ended.jti, ended.reason) == (fragment.jti, "expired")


def test_a_step_ahead_ends_what_it_jumps_over_and_is_reported(shop: Shop) -> None:
    engine = shop.open()
    shop.allow("u-1")
    shop.compare_sofas("u-1")
    (fragment,) = ready(engine)
    request = shop.request(fragment)
    shop.clock.now_ms += 2 * HOUR_MS
    with pytest.raises(LeaseRefused):
        engine.lease(request)
    assert engine._running.clock.steps_ahead == 1
    assert "live 0" in engine.checkpoint()
    shop.clock.now_ms -= 2 * HOUR_MS
    with pytest.raises(LeaseRefused):
        engine.lease(request)


def test_a_store_opened_with_a_clock_that_is_behind_goes_on_from_its_own_time(shop: Shop) -> None:
    engine = shop.open()
    received = shop.act("u-1", "Login").received_ms
    crashed = shop.crashed_copy()
    engine.close()
    shop.clock.now_ms -= 30 * HOUR_MS
    engine = shop.open(crashed)
    assert engine._running.clock.steps_back == 1
    again = engine.submit([shop.message("u-2", "Login")], "app")
    assert again.received_ms == received
    shop.clock.now_ms += 31 * HOUR_MS
    assert engine.submit([shop.message("u-2", "Login")], "app").received_ms == received + HOUR_MS
