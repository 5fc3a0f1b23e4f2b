"""Online Retail by invoice: money in the window, and fragments that say "ordered" recalled when a cancellation follows."""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

import polars as pl
import pytest

from dayfly.engine.runtime import Outcome
from dayfly.engine.runtime.arrivals import pieces
from dayfly.privacy.fragments import DestroyReason

from ..runtime.world import World, consent_record
from .recounting import (
    Moves,
    crossings,
    everybody,
    followed_by,
    in_window,
    levels,
    moves,
    spans,
    transitions,
)
from .replaying import DAY_MS, FOREVER_MS, Replay, mapping_of, policy_of

FILE = "online_retail/online_retail_2010_2011.parquet"
ZONE = "Europe/London"
LIFE_MS = 30 * 60_000
PART, ALL = 9, 1
MUCH_MICRO = 1_000_020_000
"""The least above a thousand that any of the part ever spent in 180 days: it is not enough, a millionth more would be."""


def export(data: Path, part: int, path: Path) -> pl.DataFrame:
    """Write one row per invoice of every so manieth customer, by time, and give it back with `who`, `at`, `micro`."""
    lines = pl.read_parquet(data / FILE).filter(pl.col("customer_id") % part == 0)
    micro = pl.col("quantity").cast(pl.Int64) * (pl.col("unit_price") * 1_000_000).round().cast(pl.Int64)
    orders = (
        lines.with_columns(micro=micro)
        .group_by("invoice", "customer_id", maintain_order=True)
        .agg(pl.col("invoice_ts").min(), pl.col("micro").sum())
        .sort("invoice_ts", maintain_order=True)
    )
    totals = [f"{Decimal(value).scaleb(-6):f}" for value in orders["micro"]]
    cancels = pl.col("invoice").str.starts_with("C")
    table = orders.select(
        order_id="invoice",
        customer="customer_id",
        ordered_at=pl.col("invoice_ts").dt.to_string("%Y-%m-%d %H:%M"),
        kind=pl.when(cancels).then(pl.lit("cancellation")).otherwise(pl.lit("order")),
        total=pl.Series(totals),
    )
    table.write_csv(path)
    at = pl.col("invoice_ts").dt.replace_time_zone(ZONE).dt.epoch("ms")
    return table.with_columns(orders.select("micro", at=at, who="customer_id")).with_row_index("place")


@dataclass(frozen=True, slots=True)
class Shop:
    """Invoices replayed, and as a table."""

    replay: Replay
    orders: pl.DataFrame
    path: Path

    @property
    def bought(self) -> pl.DataFrame:
        return self.orders.filter(pl.col("kind") == "order")

    @property
    def cancelled(self) -> pl.DataFrame:
        return self.orders.filter(pl.col("kind") == "cancellation")

    @property
    def closed_ms(self) -> int:
        return int(self.orders["at"].max()) + 200 * DAY_MS  # type: ignore[arg-type]

    @property
    def names(self) -> Mapping[bytes, int]:
        return {self.replay.person(customer): customer for customer in self.orders["who"].unique()}


@pytest.fixture(
    scope="module",
    params=[PART, pytest.param(ALL, marks=pytest.mark.slow)],
    ids=["every 9th customer", "everybody"],
)
def shop(request: pytest.FixtureRequest, shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Shop:
    path = tmp_path_factory.mktemp("orders") / "orders.csv"
    orders = export(shared_data, request.param, path)
    replay = Replay("online_retail_orders", people=orders["who"].n_unique())
    shop = Shop(replay, orders, path)
    replay.consent(sorted(shop.names), int(orders["at"].min()) - 1)  # type: ignore[arg-type]
    replay.take(pieces(replay.intake.csv(path, replay.mapping("export")), "orders"))
    replay.until(shop.closed_ms)
    return shop


def average_above(shop: Shop) -> Moves:
    over = shop.bought.with_columns(over=pl.col("micro") - 400_000_000)
    return moves(over, 180 * DAY_MS, by="over")


CHANGES: Mapping[str, Callable[[Shop], tuple[Moves, int]]] = {
    "big-spender": lambda shop: (moves(shop.bought, 180 * DAY_MS, by="micro"), MUCH_MICRO),
    "regular": lambda shop: (moves(shop.bought, 90 * DAY_MS), 3),
    "large-baskets": lambda shop: (average_above(shop), 0),
    "bought-then-cancelled": lambda shop: (spans(followed_by(shop.bought, shop.cancelled, 14 * DAY_MS)), 0),
}


@pytest.mark.parametrize("tag", CHANGES)
def test_it_is_entered_and_left_at_exactly_the_recounted_milliseconds(shop: Shop, tag: str) -> None:
    changed, above = CHANGES[tag](shop)
    wanted = crossings(levels(changed), pl.col("level") > above, until_ms=shop.closed_ms)
    found = {(shop.names[who], at, enters) for who, at, enters in shop.replay.transitions(tag)}
    assert found == transitions(wanted)
    assert len(found) > 10


def test_a_tag_of_tags_is_carried_at_month_ends_by_exactly_those_who_carry_the_right_ones(shop: Shop) -> None:
    months = shop.orders["ordered_at"].str.to_datetime("%Y-%m-%d %H:%M").dt.month_start().dt.date().unique()
    starts = months.cast(pl.Datetime("ms")).dt.replace_time_zone(ZONE).dt.epoch("ms").sort().to_list()
    carried = shop.replay.members("valued", starts)
    for now in starts:
        spent = in_window(shop.bought, now, 180 * DAY_MS).group_by("who").agg(pl.col("micro").sum())
        often = in_window(shop.bought, now, 90 * DAY_MS).group_by("who").len()
        first = in_window(shop.bought, now, 14 * DAY_MS).group_by("who").agg(first=pl.col("at").min())
        last = in_window(shop.cancelled, now, 14 * DAY_MS).group_by("who").agg(last=pl.col("at").max())
        wanted = (
            everybody(spent.filter(pl.col("micro") > MUCH_MICRO)) & everybody(often.filter(pl.col("len") > 3))
        ) - everybody(first.join(last, on="who").filter(pl.col("first") < pl.col("last")))
        assert {shop.names[who] for who in carried[now]} == wanted
    assert any(carried.values())


# --- recall on cancel -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Told:
    """What became of each order's fragment by the recount: invoice numbers by how the fragment ended."""

    recalled: set[str]
    replaced: set[str]
    expired: set[str]


def told(shop: Shop) -> Told:
    """Row by row: a later order of the customer replaces a live word, a cancellation recalls it, half an hour ends it."""
    recalled, replaced, expired = set[str](), set[str](), set[str]()
    live: dict[int, tuple[str, int]] = {}
    for who, at, kind, order_id in shop.orders.select("who", "at", "kind", "order_id").iter_rows():
        before = live.pop(who, None)
        if before is not None:
            alive = at < before[1] + LIFE_MS
            ended = expired if not alive else recalled if kind == "cancellation" else replaced
            ended.add(before[0])
        if kind == "order":
            live[who] = (order_id, at)
    return Told(recalled, replaced, expired | {order_id for order_id, _ in live.values()})


def test_a_cancellation_within_half_an_hour_recalls_exactly_the_words_that_were_still_alive(
    shop: Shop,
) -> None:
    placed = [made.order.order_id for decisions in shop.replay.decided for made in decisions.orders]
    numbers = dict(zip(placed, shop.bought["order_id"], strict=True))
    recalls = [recall for decisions in shop.replay.decided for recall in decisions.recalls]
    found = [numbers[order_id] for recall in recalls for order_id in recall.order_ids]
    assert {recall.reason for recall in recalls} == {"contradicted"}
    assert len(found) == len(set(found))
    assert set(found) == told(shop).recalled
    assert len(found) > 2


def test_recalls_by_a_join_are_the_same_number(shop: Shop) -> None:
    """A second recount without a loop: the customer's next row, if it is a cancellation within half an hour."""
    following = shop.orders.with_columns(
        next_kind=pl.col("kind").shift(-1).over("who"), next_at=pl.col("at").shift(-1).over("who")
    )
    found = following.filter(
        (pl.col("kind") == "order")
        & (pl.col("next_kind") == "cancellation")
        & (pl.col("next_at") - pl.col("at") < LIFE_MS)
    )
    recalls = [recall for decisions in shop.replay.decided for recall in decisions.recalls]
    assert found.height == sum(len(recall.order_ids) for recall in recalls)


def test_minted_fragments_die_as_the_recount_says_and_none_outlives_its_half_hour(shop: Shop) -> None:
    world = World(policy_of("online_retail_orders"))
    start = int(shop.orders["at"].min()) - 1  # type: ignore[arg-type]
    for customer in shop.orders["who"].unique().sort():
        who = world.person(str(customer))
        record = consent_record(who, start, purposes=("service",), valid_until_ms=FOREVER_MS)
        world.engine.consent(who, record, start)
    mapping = mapping_of(world.engine.shard.policy, "export")
    outcomes: list[Outcome] = []
    for piece in pieces(world.engine.intake.csv(shop.path, mapping), "orders"):
        outcomes.append(world.engine.tick(piece.received_ms - 1))
        outcomes.append(world.engine.take(piece.result, piece.received_ms))
    outcomes.append(world.engine.tick(shop.closed_ms))
    minted = [fragment.order_id for outcome in outcomes for fragment in outcome.fragments]
    numbers = dict(zip(minted, shop.bought["order_id"], strict=True))
    ended = {reason: set[str]() for reason in DestroyReason}
    for gone in [gone for outcome in outcomes for gone in outcome.destroyed]:
        ended[gone.reason].add(numbers[gone.order_id])
    expected = told(shop)
    assert ended[DestroyReason.SUPERSEDED] == expected.recalled | expected.replaced
    assert ended[DestroyReason.EXPIRED] == expected.expired
    assert sum(map(len, ended.values())) == len(minted) == shop.bought.height
    reasons = Counter(refusal.reason for outcome in outcomes for refusal in outcome.mint_refusals)
    assert reasons == {}
