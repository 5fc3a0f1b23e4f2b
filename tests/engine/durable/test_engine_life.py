"""From a submitted event to an opened fragment, over restarts and crashes."""

import pytest

from dayfly.engine.delivery.items import FragmentEnded, FragmentReady
from dayfly.engine.errors import EngineClosed
from dayfly.privacy.errors import LeaseRefused

from .shop import Shop, everything, ready


def test_a_submitted_moment_becomes_a_fragment_that_its_crm_opens(shop: Shop) -> None:
    shop.open()
    shop.allow("u-1")
    shop.compare_sofas("u-1")
    (fragment,) = ready(shop.engine)
    assert shop.read(fragment) == {"materials": ("fabric", "leather", "velvet"), "budget": "2000..5000"}


def test_after_a_clean_restart_tags_are_held_and_the_old_fragment_is_dead(shop: Shop) -> None:
    shop.open()
    shop.allow("u-1")
    shop.compare_sofas("u-1", ("leather", "fabric"))
    shop.engine.close()
    shop.open()
    assert ready(shop.engine) == []
    shop.compare_sofas("u-1", ("velvet",))
    (fragment,) = ready(shop.engine)
    assert shop.read(fragment)["materials"] == ("fabric", "leather", "velvet")
    shop.engine.close()
    shop.open()
    with pytest.raises(LeaseRefused):
        shop.engine.lease(shop.request(fragment))


def test_after_a_crash_nothing_is_lost_nothing_counts_twice_and_live_fragments_are_buried(shop: Shop) -> None:
    shop.open()
    shop.allow("u-1")
    shop.allow("u-2")
    shop.compare_sofas("u-1")
    shop.compare_sofas("u-2", ("leather", "fabric"))
    (fragment,) = ready(shop.engine)
    crashed = shop.crashed_copy()
    seen = everything(shop.engine)
    shop.engine.close()
    shop.open(crashed)
    items = everything(shop.engine)
    assert items[: len(seen)] == seen
    assert [(item.jti, item.reason) for item in items if isinstance(item, FragmentEnded)] == [
        (fragment.jti, "lost")
    ]
    assert shop.engine.deletion_receipt(fragment.jti).tombstone.reason == "lost"
    shop.compare_sofas("u-2", ("velvet",))
    assert len([item for item in everything(shop.engine) if isinstance(item, FragmentReady)]) == 2
    assert "minted 2 live 1" in shop.engine.checkpoint()


def test_a_closed_engine_takes_nothing(shop: Shop) -> None:
    shop.open()
    shop.engine.close()
    with pytest.raises(EngineClosed, match="must be open"):
        shop.act("u-1", "Product Viewed")
