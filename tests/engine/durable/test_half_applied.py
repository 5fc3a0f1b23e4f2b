"""An error from the middle of the shard ends the engine: its state would have something that the log has not."""

import pytest

from dayfly.engine.errors import EngineFailed
from dayfly.privacy.errors import InvalidConsent

from .shop import Shop, ready


def test_an_error_in_the_middle_of_an_input_fails_the_engine_and_reopening_is_whole(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop.open()
    shop.allow("u-1")
    shop.compare_sofas("u-1", ("leather", "fabric"))

    def breaks(*_: object, **__: object) -> None:
        raise InvalidConsent("principal='x' must be known; this is a test")

    monkeypatch.setattr(shop.engine._running.host.engine.shard, "_settle", breaks)
    with pytest.raises(EngineFailed, match="must be opened again"):
        shop.allow("u-2")
    with pytest.raises(EngineFailed, match="must be opened again"):
        shop.compare_sofas("u-1", ("velvet",))
    shop.engine.close()
    shop.open()
    shop.compare_sofas("u-1", ("velvet",))
    assert len(ready(shop.engine)) == 1
