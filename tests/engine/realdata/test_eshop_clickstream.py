"""Clicks of a clothing shop: who compares three models of a category or more, against a recount in polars."""

import random
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import polars as pl
import pytest

from dayfly.engine.runtime.arrivals import pieces

from .recounting import crossings, everybody, followed_by, in_window, levels, moves, spans, transitions
from .replaying import DAY_MS, Replay

FILE = "eshop_clickstream/eshop_2008_apr_jun.parquet"
ZONE = "Europe/Warsaw"
CATEGORIES = {1: "trousers", 2: "skirts", 3: "blouses", 4: "sale"}
SKIRTS, SALE = 2, 4
SECOND_MS = 1_000


@dataclass(frozen=True, slots=True)
class Shop:
    """Clicks replayed, and as a table with `who` (the session) and `at`."""

    replay: Replay
    clicks: pl.DataFrame
    closed_ms: int

    def carried(self, tag: str, instants: list[int]) -> dict[int, set[int]]:
        names = {self.replay.person(session): session for session in self.clicks["who"].unique()}
        found = self.replay.members(tag, instants)
        return {now: {names[who] for who in people} for now, people in found.items()}

    def changed(self, tag: str) -> set[tuple[int, int, bool]]:
        names = {self.replay.person(session): session for session in self.clicks["who"].unique()}
        return {(names[who], at, enters) for who, at, enters in self.replay.transitions(tag)}


def open_shop(path: Path, mapping: str, time: str, *, days_after: int = 3) -> Shop:
    raw = pl.read_parquet(path)
    at = pl.col(time).cast(pl.Datetime("ms")).dt.replace_time_zone(ZONE).dt.epoch("ms")
    clicks = raw.with_columns(who="session_id", at=at)
    replay = Replay("eshop_clickstream", people=clicks["who"].n_unique())
    first, last = int(clicks["at"].min()), int(clicks["at"].max())  # type: ignore[arg-type]
    replay.consent([replay.person(session) for session in clicks["who"].unique().sort()], first - 1)
    replay.take(pieces(replay.intake.parquet(path, replay.mapping(mapping)), "web"))
    closed = last + days_after * DAY_MS
    replay.until(closed)
    return Shop(replay, clicks, closed)


def with_seconds(raw: pl.DataFrame) -> pl.DataFrame:
    """Each click as many seconds after midnight as clicks came before it in its session, all in that order."""
    midnight = pl.col("date").cast(pl.Datetime("ms"))
    return raw.with_columns(clicked_at=midnight + pl.duration(seconds="click_order")).sort(
        "clicked_at", "session_id"
    )


@pytest.fixture(
    scope="module",
    params=[date(2008, 4, 8), pytest.param(date(2008, 7, 1), marks=pytest.mark.slow)],
    ids=["one week", "three months"],
)
def part(request: pytest.FixtureRequest, shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The clicks of a while as they are in the file, and beside them the same with seconds."""
    folder = tmp_path_factory.mktemp("eshop")
    raw = pl.read_parquet(shared_data / FILE).filter(pl.col("date") < request.param)
    raw.write_parquet(folder / "clicks.parquet")
    with_seconds(raw).write_parquet(folder / "seconds.parquet")
    return folder


@pytest.fixture(scope="module")
def by_day(part: Path) -> Shop:
    return open_shop(part / "clicks.parquet", "by-day", "date")


@pytest.fixture(scope="module")
def by_click(part: Path) -> Shop:
    return open_shop(part / "seconds.parquet", "by-click", "clicked_at")


def models_seen(shop: Shop, category: int) -> pl.DataFrame:
    """Per session when each model of a category was first and last looked at."""
    seen = shop.clicks.filter(pl.col("main_category") == category)
    return seen.group_by("who", "clothing_model").agg(first=pl.col("at").min(), last=pl.col("at").max())


def comparing_changes(shop: Shop, category: int) -> set[tuple[object, int, bool]]:
    """In with the third model, out when the third last of the last looks is a day old; a session is far shorter than that."""
    compared = (
        models_seen(shop, category)
        .group_by("who")
        .agg(
            entered=pl.col("first").sort().get(2, null_on_oob=True),
            last=pl.col("last").sort(descending=True).get(2, null_on_oob=True),
        )
        .drop_nulls()
        .select("who", entered="entered", left=pl.col("last") + DAY_MS)
    )
    enters = compared.select("who", at="entered", enters=pl.lit(value=True))
    leaves = compared.select("who", at="left", enters=pl.lit(value=False))
    return transitions(pl.concat([enters, leaves]))


def test_every_click_is_taken_in(by_day: Shop) -> None:
    assert by_day.replay.intake_counts == {"received": by_day.clicks.height, "accepted": by_day.clicks.height}
    assert by_day.replay.counts["accepted"] == by_day.clicks.height


@pytest.mark.parametrize("category", CATEGORIES)
def test_who_saw_three_models_in_a_category_compares_for_exactly_a_day(by_day: Shop, category: int) -> None:
    found = by_day.changed(f"compares-{CATEGORIES[category]}")
    assert found == comparing_changes(by_day, category)
    sessions = by_day.clicks.filter(pl.col("main_category") == category).group_by("who")
    three = everybody(sessions.agg(pl.col("clothing_model").n_unique()).filter(pl.col("clothing_model") >= 3))
    assert {who for who, _, _ in found} == three
    assert three


@pytest.mark.parametrize("category", CATEGORIES)
def test_the_third_model_is_the_click_that_brings_it_in(by_click: Shop, category: int) -> None:
    assert by_click.changed(f"compares-{CATEGORIES[category]}") == comparing_changes(by_click, category)


@pytest.mark.parametrize("category", CATEGORIES)
def test_at_random_instants_and_midnights_exactly_the_recounted_compare(
    by_click: Shop, category: int
) -> None:
    draw = random.Random(category)
    midnights = by_click.clicks["date"].unique().cast(pl.Datetime("ms")).dt.replace_time_zone(ZONE)
    starts = midnights.dt.epoch("ms").to_list()
    seconds = [
        start + draw.randrange(60) * SECOND_MS + draw.choice((-1, 0)) for start in starts for _ in range(3)
    ]
    asked = sorted({*starts, *(start - 1 for start in starts), *seconds})
    of_category = by_click.clicks.filter(pl.col("main_category") == category)

    def recount(now: int) -> object:
        seen = in_window(of_category, now, DAY_MS).group_by("who").agg(pl.col("clothing_model").n_unique())
        return everybody(seen.filter(pl.col("clothing_model") >= 3))

    found = by_click.carried(f"compares-{CATEGORIES[category]}", asked)
    assert found == {now: recount(now) for now in asked}
    assert sum(map(len, found.values())) > 100


def test_ten_clicks_within_ten_seconds_hold_for_exactly_the_recounted_time(by_click: Shop) -> None:
    stepped = levels(moves(by_click.clicks, 10 * SECOND_MS))
    wanted = transitions(crossings(stepped, pl.col("level") >= 10, until_ms=by_click.closed_ms))
    assert by_click.changed("fast-clicks") == wanted
    assert wanted


def test_from_the_sale_to_skirts_within_two_clicks_holds_for_exactly_the_recounted_time(
    by_click: Shop,
) -> None:
    minute = 60 * SECOND_MS
    sale, skirts = (by_click.clicks.filter(pl.col("main_category") == one) for one in (SALE, SKIRTS))
    pairs = followed_by(sale, skirts, minute)
    soon = pairs.filter(pl.col("start") - (pl.col("end") - minute) <= 2 * SECOND_MS)
    wanted = transitions(crossings(levels(spans(soon)), pl.col("level") > 0, until_ms=by_click.closed_ms))
    assert by_click.changed("sale-to-skirts") == wanted
    assert 0 < soon.height < pairs.height, "the gap must decide"


def test_a_tag_tells_which_models_are_compared(shared_data: Path, tmp_path: Path) -> None:
    raw = pl.read_parquet(shared_data / FILE).filter(pl.col("date") == date(2008, 4, 1))
    raw.write_parquet(tmp_path / "day.parquet")
    shop = open_shop(tmp_path / "day.parquet", "by-day", "date", days_after=0)
    trousers = shop.clicks.filter(pl.col("main_category") == 1).group_by("who", maintain_order=True)
    seen = trousers.agg("clothing_model", dearest=pl.col("price_usd").max())
    wanted = {
        who: {"models": sorted(set(models)), "last": models[-1], "dearest": dearest}
        for who, models, dearest in seen.iter_rows()
        if len(set(models)) >= 3
    }
    found = {
        session: dict(tags["compares-trousers"])
        for session in shop.clicks["who"].unique().to_list()
        if "compares-trousers" in (tags := shop.replay.shard.tags(shop.replay.person(session)))
    }
    assert found == wanted
    assert len(wanted) > 10
