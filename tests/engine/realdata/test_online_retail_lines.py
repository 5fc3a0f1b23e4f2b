"""Online Retail line by line: recency, frequency, quantity and "bought then cancelled", against a recount in polars."""

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import polars as pl
import pytest

from dayfly.engine.runtime.arrivals import in_order, pieces

from .recounting import (
    People,
    came_back,
    crossings,
    different,
    everybody,
    fell_quiet,
    first_of,
    followed_by,
    in_window,
    levels,
    moments,
    moves,
    nothing_of,
    spans,
    transitions,
)
from .replaying import DAY_MS, Replay

FILE = "online_retail/online_retail_2010_2011.parquet"
ZONE = "Europe/London"
PART = 40


def every(nth: int) -> pl.Expr:
    """Lines of every n-th customer, and some lines of nobody."""
    return pl.col("customer_id").fill_null(pl.col("quantity")) % nth == 0


MICRO = 1_000_000


@dataclass(frozen=True, slots=True)
class Shop:
    """The lines of a part of the customers, replayed and as a table."""

    replay: Replay
    lines: pl.DataFrame
    raw: pl.DataFrame
    opened_ms: int
    closed_ms: int

    @property
    def bought(self) -> pl.DataFrame:
        return self.lines.filter(~pl.col("invoice").str.starts_with("C"))

    @property
    def cancelled(self) -> pl.DataFrame:
        return self.lines.filter(pl.col("invoice").str.starts_with("C"))

    @property
    def customers(self) -> list[int]:
        return self.lines["who"].unique().sort().to_list()

    def name_of(self) -> Mapping[bytes, int]:
        return {self.replay.person(customer): customer for customer in self.customers}


def table(raw: pl.DataFrame) -> pl.DataFrame:
    """One row per line that has a customer and says something new, in the file's order."""
    read = ["country", "customer_id", "invoice", "invoice_ts", "quantity", "stock_code", "unit_price"]
    at = pl.col("invoice_ts").dt.replace_time_zone(ZONE).dt.epoch("ms")
    return (
        raw.filter(pl.col("customer_id").is_not_null())
        .unique(read, keep="first", maintain_order=True)
        .with_columns(who="customer_id", at=at, micro=(pl.col("unit_price") * MICRO).round().cast(pl.Int64))
        .with_row_index("place")
    )


def open_shop(data: Path, folder: Path, kept: pl.Expr | None, *, days_after: int = 200) -> Shop:
    """Replay the lines that are kept (all without an expression) and let days pass after the last of them."""
    path, raw = data / FILE, pl.read_parquet(data / FILE)
    if kept is not None:
        path, raw = folder / "part.parquet", raw.filter(kept)
        raw.write_parquet(path)
    lines = table(raw)
    opened, closed = int(lines["at"].min()) - 1, int(lines["at"].max()) + days_after * DAY_MS  # type: ignore[arg-type]
    replay = Replay("online_retail_lines", people=lines["who"].n_unique())
    replay.consent([replay.person(customer) for customer in lines["who"].unique().sort()], opened)
    streams = [
        pieces(replay.intake.parquet(path, replay.mapping(name)), "till") for name in ("bought", "cancelled")
    ]
    replay.take(in_order(streams))
    replay.until(closed)
    return Shop(replay, lines, raw, opened, closed)


@pytest.fixture(
    scope="module",
    params=[PART, pytest.param(None, marks=pytest.mark.slow)],
    ids=["every 40th customer", "everybody"],
)
def shop(request: pytest.FixtureRequest, shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Shop:
    return open_shop(shared_data, tmp_path_factory.mktemp("retail"), request.param and every(request.param))


# --- the recount: who carries a tag at an instant -------------------------------------------------------------------------


def _since(events: pl.DataFrame, now: int, days: int) -> pl.DataFrame:
    return in_window(events, now, days * DAY_MS)


def _grouped(events: pl.DataFrame, holds: pl.Expr) -> People:
    return everybody(events.group_by("who", maintain_order=True).agg(holds=holds).filter("holds"))


def lapsed(shop: Shop, now: int) -> People:
    return set(shop.customers) - everybody(_since(shop.bought, now, 90))


def gone_quiet(shop: Shop, now: int) -> People:
    return everybody(_since(shop.bought, now, 180)) - everybody(_since(shop.bought, now, 60))


def back_again(shop: Shop, now: int) -> People:
    gap = pl.col("at") - pl.col("previous")
    return everybody(in_window(moments(shop.bought), now, 7 * DAY_MS).filter(gap >= 60 * DAY_MS))


def new_buyer(shop: Shop, now: int) -> People:
    older = shop.bought.filter(pl.col("at") <= now - 30 * DAY_MS)
    return everybody(_since(shop.bought, now, 30)) - everybody(older)


def from_abroad(shop: Shop, now: int) -> People:
    last = _since(shop.bought, now, 90).sort("at", "place").group_by("who", maintain_order=True).last()
    return everybody(last.filter(pl.col("country") != "United Kingdom"))


def monthly(shop: Shop, now: int) -> People:
    months = [everybody(in_window(shop.bought, now - 30 * DAY_MS * back, 30 * DAY_MS)) for back in range(6)]
    return {who for who in shop.customers if sum(who in month for month in months) >= 4}


def frequent(shop: Shop, now: int) -> People:
    return _grouped(_since(shop.bought, now, 90), pl.col("invoice").n_unique() >= 4)


def bought_then_cancelled(shop: Shop, now: int) -> People:
    first = _since(shop.bought, now, 14).group_by("who").agg(first=pl.col("at").min())
    last = _since(shop.cancelled, now, 14).group_by("who").agg(last=pl.col("at").max())
    return everybody(first.join(last, on="who").filter(pl.col("first") < pl.col("last")))


def returning(shop: Shop, now: int) -> People:
    return frequent(shop, now) & _grouped(_since(shop.cancelled, now, 90), pl.len() >= 3)


def cheap_on_average(shop: Shop, now: int) -> People:
    return _grouped(_since(shop.bought, now, 60), pl.col("micro").sum() < 2_100_000 * pl.len())


RECOUNTS: Mapping[str, Callable[[Shop, int], People]] = {
    "recent": lambda shop, now: everybody(_since(shop.bought, now, 30)),
    "lapsed": lapsed,
    "gone-quiet": gone_quiet,
    "back-again": back_again,
    "new-buyer": new_buyer,
    "last-from-abroad": from_abroad,
    "frequent": frequent,
    "many-lines": lambda shop, now: _grouped(_since(shop.bought, now, 90), pl.len() > 50),
    "monthly": monthly,
    "bulk-buyer": lambda shop, now: _grouped(_since(shop.bought, now, 180), pl.col("quantity").sum() > 1_000),
    "dear-taste": lambda shop, now: _grouped(
        _since(shop.bought, now, 30), pl.col("micro").max() >= 12_750_000
    ),
    "cheap-on-average": cheap_on_average,
    "bought-then-cancelled": bought_then_cancelled,
    "faithful-but-returning": returning,
}


def month_ends(shop: Shop) -> list[int]:
    months = shop.lines["invoice_ts"].dt.month_end().dt.date().unique().sort()
    midnights = months.dt.offset_by("1d").cast(pl.Datetime("ms")).dt.replace_time_zone(ZONE).dt.epoch("ms")
    return midnights.to_list()


def instants(shop: Shop) -> list[int]:
    """Month ends, random instants, and the edges of windows: a millisecond before an event is old enough, and then."""
    draw = random.Random(1)
    times = shop.lines["at"].unique().sort().to_list()
    edges = [
        draw.choice(times) + days * DAY_MS + offset
        for days in (7, 14, 30, 60, 90, 180)
        for offset in (-1, 0)
        for _ in range(2)
    ]
    at_events = [draw.choice(times) + offset for offset in (-1, 0) for _ in range(5)]
    anywhere = [draw.randrange(shop.opened_ms, shop.closed_ms) for _ in range(30)]
    return sorted({*month_ends(shop), *edges, *at_events, *anywhere, shop.opened_ms, shop.closed_ms})


# --- the recount: when it changes -----------------------------------------------------------------------------------------


def _above(shop: Shop, changed: pl.DataFrame, threshold: int = 0) -> pl.DataFrame:
    return crossings(levels(changed), pl.col("level") > threshold, until_ms=shop.closed_ms)


def _lapsed_changes(shop: Shop) -> pl.DataFrame:
    stepped = nothing_of(shop.bought, shop.lines.select("who").unique(), shop.opened_ms, 90 * DAY_MS)
    return crossings(stepped, pl.col("level") == 0, until_ms=shop.closed_ms)


DEAR = pl.col("micro") >= 12_750_000
CHANGES: Mapping[str, Callable[[Shop], pl.DataFrame]] = {
    "recent": lambda shop: _above(shop, moves(shop.bought, 30 * DAY_MS)),
    "lapsed": _lapsed_changes,
    "gone-quiet": lambda shop: _above(
        shop, fell_quiet(shop.bought, within_ms=180 * DAY_MS, quiet_ms=60 * DAY_MS)
    ),
    "back-again": lambda shop: _above(
        shop, came_back(shop.bought, within_ms=7 * DAY_MS, quiet_ms=60 * DAY_MS)
    ),
    "new-buyer": lambda shop: _above(shop, first_of(shop.bought, within_ms=30 * DAY_MS)),
    "frequent": lambda shop: _above(shop, different(shop.bought, "invoice", 90 * DAY_MS), 3),
    "many-lines": lambda shop: _above(shop, moves(shop.bought, 90 * DAY_MS), 50),
    "bulk-buyer": lambda shop: _above(shop, moves(shop.bought, 180 * DAY_MS, by="quantity"), 1_000),
    "dear-taste": lambda shop: _above(shop, moves(shop.bought.filter(DEAR), 30 * DAY_MS)),
    "bought-then-cancelled": lambda shop: _above(
        shop, spans(followed_by(shop.bought, shop.cancelled, 14 * DAY_MS))
    ),
}


# --- the comparisons ------------------------------------------------------------------------------------------------------


def test_every_line_with_a_customer_is_taken_in_once_and_every_other_is_passed_over(shop: Shop) -> None:
    named = shop.raw.filter(pl.col("customer_id").is_not_null())
    counts = shop.replay.intake_counts
    assert counts["accepted"] == counts["received"] == named.height
    assert counts["skipped"] == 2 * shop.raw.height - named.height  # two mappings read the file
    assert shop.replay.counts["accepted"] == shop.lines.height
    assert shop.replay.counts["duplicate"] == named.height - shop.lines.height > 0


@pytest.mark.parametrize("tag", RECOUNTS)
def test_at_month_ends_random_instants_and_edges_of_windows_exactly_the_recounted_carry_it(
    shop: Shop, tag: str
) -> None:
    names = shop.name_of()
    turns = {change.at_ms for change in shop.replay.changes(tag)}
    drawn = random.Random(tag).sample(sorted(turns), min(12, len(turns)))
    asked = sorted({*instants(shop), *drawn, *(at - 1 for at in drawn)})
    carried = shop.replay.members(tag, asked)
    found = {now: {names[who] for who in carried[now]} for now in asked}
    assert found == {now: RECOUNTS[tag](shop, now) for now in asked}
    assert any(found.values()), "a tag that nobody ever carries compares nothing"


@pytest.mark.parametrize("tag", CHANGES)
def test_it_is_entered_and_left_at_exactly_the_recounted_milliseconds(shop: Shop, tag: str) -> None:
    names = shop.name_of()
    found = {(names[who], at, enters) for who, at, enters in shop.replay.transitions(tag)}
    assert found == transitions(CHANGES[tag](shop))
    assert {enters for _, _, enters in found} == {True, False}


def test_an_enter_says_until_when_it_lasts_if_nothing_more_comes(shop: Shop) -> None:
    ends = {
        (who, at): end
        for who, at, end in moves(shop.bought, 0)
        .filter(pl.col("by") > 0)
        .select("who", "at", end=pl.col("at") + 30 * DAY_MS)
        .iter_rows()
    }
    names = shop.name_of()
    enters = [change for change in shop.replay.changes("recent") if change.change == "enter"]
    assert [change.until_ms for change in enters] == [
        ends[names[change.subject], change.at_ms] for change in enters
    ]


def test_captured_codes_of_cancelled_lines_are_those_of_the_window(shared_data: Path, tmp_path: Path) -> None:
    days = pl.col("invoice_ts") < pl.datetime(2011, 6, 20)
    shop = open_shop(shared_data, tmp_path, every(PART) & days, days_after=0)
    now = shop.closed_ms
    recent = _since(shop.cancelled, now, 14).sort("at", "place").group_by("who", maintain_order=True)
    wanted = {
        who: {"cancelled_codes": sorted(set(codes)), "last_code": codes[-1]}
        for who, codes in recent.agg("stock_code").iter_rows()
    }
    carriers = bought_then_cancelled(shop, now)
    found = {
        customer: dict(tags["bought-then-cancelled"])
        for customer in shop.customers
        if "bought-then-cancelled" in (tags := shop.replay.shard.tags(shop.replay.person(customer)))
    }
    assert found == {who: wanted[who] for who in carriers}
    assert len(found) > 1
