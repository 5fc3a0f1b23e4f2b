"""Events and profiles of a store: those that consent covers, each counted once, and nothing else."""

from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pytest

from dayfly.engine.inputs import Merge
from dayfly.engine.sandbox_source import CUSTOMER, sandbox_sources
from dayfly.privacy.consent import ConsentRequest
from dayfly.privacy.sandbox import Sandbox
from tests.engine.durable.shop import Shop
from tests.engine.runtime.world import DAY_MS, T0, World, wrapping_kernels
from tests.privacy.sandbox.support import NoNoise, opened

NEED = ConsentRequest("marketing.analytics")


@pytest.fixture(autouse=True)
def _kernels_wrap() -> Any:
    with wrapping_kernels():
        yield


def rows(world: World, source: str, now_ms: int, need: ConsentRequest = NEED) -> list[dict[str, Any]]:
    table: pa.Table = sandbox_sources(world.engine.shard, need, now_ms)[source]._table
    return list(table.to_pylist())


def test_only_events_whose_consent_covers_the_purpose_are_there() -> None:
    world = World()
    for user in ("ann", "bob", "cat", "dan"):
        world.act(
            user, "Product Viewed", T0, product_id="p", category="sofa", material="leather", price=4_000
        )
    world.allow("ann", T0 + 1)
    world.allow("bob", T0 + 1, purposes=("service",))
    world.allow("cat", T0 + 1, state="refused")
    assert len(rows(world, "events", T0 + 10)) == 1
    (viewed,) = rows(world, "Product Viewed", T0 + 10)
    assert (viewed["material"], viewed["price"], viewed["channel"]) == ("leather", 4000.0, "app")
    assert len(rows(world, "profiles", T0 + 10)) == 1
    assert len(rows(world, "events", T0 + 10, ConsentRequest("service"))) == 2


def test_consent_is_asked_for_the_channel_of_each_event() -> None:
    world = World()
    world.act("ann", "Product Viewed", T0, product_id="p", category="sofa", material="leather", price=1)
    world.allow("ann", T0 + 1, channels=("hotline",))
    assert rows(world, "events", T0 + 10) == []
    assert rows(world, "profiles", T0 + 10) == []  # its tags may rest on what is not covered


def test_a_withdrawal_takes_effect_at_once_and_an_end_at_its_instant() -> None:
    world = World()
    world.act("ann", "Product Viewed", T0, product_id="p", category="sofa", material="leather", price=1)
    world.allow("ann", T0, valid_from_ms=T0, valid_until_ms=T0 + DAY_MS)
    assert len(rows(world, "events", T0 + DAY_MS - 1)) == 1
    assert rows(world, "events", T0 + DAY_MS) == []
    world.engine.withdraw(world.person("ann"), T0 + 5)
    assert rows(world, "events", T0 + 6) == []


def test_merged_identities_are_one_customer_and_repeated_events_count_once() -> None:
    world = World()
    for user in ("ann", "anna"):
        world.act(user, "Product Viewed", T0, product_id="p", category="sofa", material="leather", price=1)
        world.allow(user, T0 + 1)
    world.engine.segment([orjson.dumps(world.sent[0])], "app", T0 + 2)
    assert len({row[CUSTOMER] for row in rows(world, "events", T0 + 10)}) == 2
    world.engine.shard.apply([Merge(T0 + 20, world.person("ann"), world.person("anna"))], T0 + 20)
    found = rows(world, "events", T0 + 30)
    assert len(found) == 2
    assert len({row[CUSTOMER] for row in found}) == 1
    assert len(rows(world, "profiles", T0 + 30)) == 1


def test_what_is_older_than_the_history_or_to_come_is_not_there() -> None:
    world = World()
    world.act("ann", "Product Viewed", T0, product_id="p", category="sofa", material="leather", price=1)
    world.allow("ann", T0 + 1)
    history = world.engine.shard.policy.settings.history_ms
    assert len(rows(world, "events", T0 + history - 1, NEED)) == (1 if history - 1 < 365 * DAY_MS else 0)
    assert rows(world, "events", T0 + history) == []


def test_profiles_carry_tags_and_first_and_last_times() -> None:
    world = World()
    world.allow("ann", T0)
    world.compare_sofas("ann", T0 + 1_000)
    (profile,) = rows(world, "profiles", T0 + 5_000)
    held = set(world.engine.shard.tags(world.person("ann")))
    assert held
    assert {
        name.removeprefix("tag ") for name, value in profile.items() if name.startswith("tag ") and value
    } == held
    assert profile["events"] == 3
    assert (profile["last_time"] - profile["first_time"]).total_seconds() == 2


def test_a_sandbox_over_a_durable_store_answers_and_erasure_takes_out(tmp_path: Path) -> None:
    shop = Shop(tmp_path)
    shop.open()
    try:
        for user in ("u1", "u2", "u3"):
            shop.compare_sofas(user)
            shop.allow(user)
        shop.compare_sofas("stranger")
        answers = []
        ledger = opened(tmp_path)
        for _ in range(2):
            sources = shop.engine.sandbox_sources(NEED, data_set="orders")
            sandbox = Sandbox(
                ledger=ledger, sources=sources, analyst="ann", purpose="marketing.analytics", noise=NoNoise()
            )
            query = sandbox.query("Product Viewed").group_by("material", keys=["leather", "fabric", "oak"])
            release = (
                query.bound(groups_per_customer=3, rows_per_group=5)
                .count()
                .sum("price", lower=0, upper=10_000)
                .release(epsilon=1)
            )
            answers.append([(row["count"], round(row["price_sum"])) for row in release.rows()])
            shop.engine.erase(shop.person("u1"))
        assert answers == [[(3, 12_000), (3, 12_003), (0, 0)], [(2, 8_000), (2, 8_002), (0, 0)]]
    finally:
        shop.engine.close()


def test_no_pseudonym_leaves_the_store() -> None:
    world = World()
    world.act("ann", "Product Viewed", T0, product_id="p", category="sofa", material="leather", price=1)
    world.allow("ann", T0 + 1)
    sources = sandbox_sources(world.engine.shard, NEED, T0 + 10)
    text = repr([source._table.to_pylist() for source in sources.values()])
    assert world.person("ann").hex() not in text
    assert all(
        isinstance(row[CUSTOMER], int) for source in sources.values() for row in source._table.to_pylist()
    )
