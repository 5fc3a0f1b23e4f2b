"""Windows as feature columns: what the log holds, counted by hand, of those who consent, at one instant."""

from collections.abc import Iterator
from typing import Any

import pytest

from dayfly.engine.inputs import Merge
from dayfly.engine.window_features import WindowColumns, WindowFeature, window_features
from dayfly.privacy.consent import ConsentRequest
from dayfly.privacy.errors import InvalidArgument
from tests.engine.runtime.world import DAY_MS, T0, World, wrapping_kernels

NEED = ConsentRequest("marketing.analytics")
MONTH = 30 * DAY_MS


@pytest.fixture(autouse=True)
def _kernels_wrap() -> Iterator[None]:
    with wrapping_kernels():
        yield


def view(world: World, user: str, at_ms: int, price: float) -> None:
    world.act(user, "Product Viewed", at_ms, product_id="p", category="sofa", material="oak", price=price)


def columns(
    world: World, users: list[str], now_ms: int, *wanted: WindowFeature, **need: Any
) -> WindowColumns:
    request = ConsentRequest(need.get("purpose", "marketing.analytics"))
    return window_features(
        world.engine.shard, [world.person(user) for user in users], wanted, request, now_ms
    )


def test_every_aggregate_is_that_of_the_events_in_its_window() -> None:
    world = World()
    for day, price in ((0, 10.0), (3, 40.5), (5, 20.25)):
        view(world, "ann", T0 + day * DAY_MS, price)
    for user in ("ann", "quiet"):
        world.allow(user, T0 + 5 * DAY_MS)
    found = columns(
        world,
        ["quiet", "ann"],
        T0 + 6 * DAY_MS,
        WindowFeature("count", MONTH, "Product Viewed"),
        WindowFeature("any", 4 * DAY_MS),
        WindowFeature("sum", MONTH, "Product Viewed", "sum", "price"),
        WindowFeature("mean", 4 * DAY_MS, "Product Viewed", "mean", "price"),
        WindowFeature("largest", MONTH, "Product Viewed", "largest", "price"),
        WindowFeature("days", 10 * DAY_MS, None, "days_since"),
    )
    assert found.usable.tolist() == [True, True]
    assert found.values[0].tolist() == [0, 0, 0, 0, 0, 10]
    assert found.values[1].tolist() == pytest.approx([3, 2, 70.75, 30.375, 40.5, 1])


def test_a_window_ends_now_and_begins_after_its_length() -> None:
    world = World()
    view(world, "ann", T0, 1.0)
    world.allow("ann", T0)
    one = WindowFeature("count", DAY_MS)
    assert columns(world, ["ann"], T0 + DAY_MS - 1, one).values.item() == 1
    assert columns(world, ["ann"], T0 + DAY_MS, one).values.item() == 0
    assert columns(world, ["ann"], T0 - 1, one).values.item() == 0


def test_who_does_not_consent_or_is_unknown_is_not_usable_and_gives_zeros() -> None:
    world = World()
    for user in ("ann", "bob", "cat"):
        view(world, user, T0, 1.0)
    world.allow("ann", T0 + 1)
    world.allow("bob", T0 + 1, purposes=("service",))
    world.allow("cat", T0 + 1, state="refused")
    found = columns(world, ["stranger", "cat", "bob", "ann"], T0 + 5, WindowFeature("count", DAY_MS))
    assert found.usable.tolist() == [False, False, False, True]
    assert found.values.ravel().tolist() == [0, 0, 0, 1]
    world.engine.withdraw(world.person("ann"), T0 + 6)
    assert not columns(world, ["ann"], T0 + 7, WindowFeature("count", DAY_MS)).usable.any()


def test_events_of_channels_that_consent_does_not_cover_do_not_count() -> None:
    world = World()
    view(world, "ann", T0, 1.0)
    world.allow("ann", T0 + 1, channels=("hotline",))
    found = columns(world, ["ann"], T0 + 5, WindowFeature("count", DAY_MS))
    assert found.usable.tolist() == [True]
    assert found.values.item() == 0


def test_merged_identities_are_one_row_under_either_name() -> None:
    world = World()
    for user in ("ann", "anna"):
        view(world, user, T0, 1.0)
        world.allow(user, T0 + 1)
    world.engine.shard.apply([Merge(T0 + 20, world.person("ann"), world.person("anna"))], T0 + 20)
    found = columns(world, ["ann", "anna"], T0 + 30, WindowFeature("count", DAY_MS))
    assert found.values.ravel().tolist() == [2, 2]


@pytest.mark.parametrize(
    ("feature", "cause"),
    [
        (WindowFeature("a", DAY_MS, "Shouted"), "event='Shouted' of 'a' must be one of the policy's types"),
        (WindowFeature("a", DAY_MS, "Product Viewed", "sum"), "field=None of 'a' must be given with"),
        (WindowFeature("a", DAY_MS, "Product Viewed", "count", "price"), "field='price' of 'a' must be"),
        (WindowFeature("a", DAY_MS, None, "sum", "price"), "event=None of 'a' must name the type"),
        (WindowFeature("a", DAY_MS, "Product Viewed", "sum", "material"), "must be a number or boolean"),
        (WindowFeature("a", 0), "window_ms=0 of 'a' must be above 0"),
        (WindowFeature("a", 10**15), "at most the history"),
    ],
)
def test_columns_that_the_policy_does_not_have_are_refused(feature: WindowFeature, cause: str) -> None:
    with pytest.raises(InvalidArgument, match=cause):
        columns(World(), ["ann"], T0, feature)
