"""Sessions with clicks, carts and orders: funnels, quiet and rhythm, to the millisecond, against a recount in polars."""

import gzip
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import orjson
import polars as pl
import pytest

from dayfly.engine.runtime.arrivals import in_order, pieces

from .recounting import (
    Moves,
    came_back,
    crossings,
    different,
    fell_quiet,
    first_of,
    levels,
    moves,
    nothing_of,
    spans,
    transitions,
)
from .replaying import DAY_MS, Replay, policy_of

FILE = "otto_sample/otto_20_sessions.jsonl.gz"
MINUTE_MS, HOUR_MS = 60_000, 3_600_000
QUICK_MS = 228_379
"""The slowest step of one funnel in the data: a gap one millisecond shorter would not find it."""

QUIET_MS = 2_641_772
"""So long after a cart one order in the data came: waiting one millisecond less would not see it."""


@dataclass(frozen=True, slots=True)
class Shop:
    """All sessions, replayed by time, and as a table with `who` (the session), `at`, `aid` and `type`."""

    replay: Replay
    events: pl.DataFrame
    lines: list[bytes]

    def of(self, kind: str) -> pl.DataFrame:
        return self.events.filter(pl.col("type") == kind)

    @property
    def opened_ms(self) -> int:
        return int(self.events["at"].min()) - 1  # type: ignore[arg-type]

    @property
    def last_ms(self) -> int:
        return int(self.events["at"].max())  # type: ignore[arg-type]

    @property
    def closed_ms(self) -> int:
        return self.last_ms + 20 * DAY_MS

    def changed(self, tag: str, replay: Replay | None = None) -> set[tuple[int, int, bool]]:
        sessions = self.events["who"].unique().to_list()
        names = {self.replay.person(session): session for session in sessions}
        found = (replay or self.replay).transitions(tag)
        return {(names[who], at, enters) for who, at, enters in found}


@pytest.fixture(scope="module")
def shop(shared_data: Path) -> Shop:
    lines = gzip.decompress((shared_data / FILE).read_bytes()).splitlines(keepends=True)
    rows = [
        (session["session"], event["ts"], event["aid"], event["type"])
        for session in map(orjson.loads, lines)
        for event in session["events"]
    ]
    replay = Replay("otto_sample")
    shop = Shop(replay, pl.DataFrame(rows, schema=["who", "at", "aid", "type"], orient="row"), lines)
    replay.consent([replay.person(session) for session in shop.events["who"].unique().sort()], shop.opened_ms)
    mapping = replay.mapping("sessions")
    replay.take(in_order(pieces(replay.intake.jsonl(line, mapping), "web", piece_ms=1) for line in lines))
    replay.until(shop.closed_ms)
    return shop


def chains(shop: Shop, within_ms: int, gap_ms: int) -> Moves:
    """Every click, cart and order that follow one another strictly, none more than `gap_ms` after the one before."""
    steps = [
        shop.of(kind).select("who", **{kind: pl.col("at")}).unique() for kind in ("clicks", "carts", "orders")
    ]
    first = pl.col("carts") - pl.col("clicks")
    second = pl.col("orders") - pl.col("carts")
    found = steps[0].join(steps[1], on="who").filter(first.is_between(1, gap_ms))
    found = found.join(steps[2], on="who").filter(second.is_between(1, gap_ms))
    return spans(found.select("who", start="orders", end=pl.col("clicks") + within_ms))


def without_click(shop: Shop) -> Moves:
    """Pairs of carts, the second strictly later, with no click strictly between."""
    carts = shop.of("carts").select("who", "at").unique()
    pairs = carts.join(carts.rename({"at": "later"}), on="who").filter(pl.col("later") > pl.col("at"))
    clicks = shop.of("clicks").select("who", click="at")
    between = pairs.join(clicks, on="who").filter(
        pl.col("click").is_between(pl.col("at"), pl.col("later"), closed="none")
    )
    kept = pairs.join(between, on=["who", "at", "later"], how="anti")
    return spans(kept.select("who", start="later", end=pl.col("at") + DAY_MS))


def left_carts(shop: Shop) -> Moves:
    """Carts with no order in the time after them, its last instant included."""
    carts = shop.of("carts").select("who", "at").unique()
    after = pl.col("order") - pl.col("at")
    ordered = carts.join(shop.of("orders").select("who", order="at"), on="who").filter(
        after.is_between(1, QUIET_MS)
    )
    kept = carts.join(ordered, on=["who", "at"], how="anti")
    return spans(kept.select("who", start=pl.col("at") + QUIET_MS, end=pl.col("at") + 7 * DAY_MS))


def good_days(shop: Shop) -> Moves:
    """One for each of the last seven days, counted back from the instant, that has two clicks or more."""
    found = []
    for back in range(7):
        clicks = shop.of("clicks").with_columns(pl.col("at") + back * DAY_MS)
        turns = crossings(levels(moves(clicks, DAY_MS)), pl.col("level") >= 2, until_ms=2**62)
        found.append(turns.select("who", "at", by=pl.when("enters").then(1).otherwise(-1).cast(pl.Int64)))
    return pl.concat(found)


RECOUNTS: Mapping[str, Callable[[Shop], tuple[Moves, int]]] = {
    "funnel-hour": lambda shop: (chains(shop, HOUR_MS, DAY_MS), 1),
    "funnel-day": lambda shop: (chains(shop, DAY_MS, DAY_MS), 1),
    "quick-funnel": lambda shop: (chains(shop, DAY_MS, QUICK_MS), 1),
    "straight-to-cart": lambda shop: (without_click(shop), 1),
    "cart-left": lambda shop: (left_carts(shop), 1),
    "browsing": lambda shop: (moves(shop.of("clicks"), 10 * MINUTE_MS), 5),
    "many-articles": lambda shop: (different(shop.of("clicks"), "aid", HOUR_MS), 8),
    "back-after-days": lambda shop: (
        came_back(shop.of("clicks"), within_ms=HOUR_MS, quiet_ms=3 * DAY_MS),
        1,
    ),
    "cooled-down": lambda shop: (fell_quiet(shop.of("clicks"), within_ms=7 * DAY_MS, quiet_ms=DAY_MS), 1),
    "daily": lambda shop: (good_days(shop), 3),
    "buyer": lambda shop: (first_of(shop.of("orders"), within_ms=7 * DAY_MS), 1),
}


def test_every_click_cart_and_order_is_taken_in(shop: Shop) -> None:
    kinds = dict(shop.events.group_by("type").len().iter_rows())
    assert kinds == {"clicks": 800, "carts": 52, "orders": 10}  # as the publisher counts them
    assert shop.replay.intake_counts == {"received": 862, "accepted": 862}
    assert shop.replay.counts["accepted"] == 862


@pytest.mark.parametrize("tag", RECOUNTS)
def test_it_is_entered_and_left_at_exactly_the_recounted_milliseconds(shop: Shop, tag: str) -> None:
    changed, at_least = RECOUNTS[tag](shop)
    wanted = crossings(levels(changed), pl.col("level") >= at_least, until_ms=shop.closed_ms)
    assert shop.changed(tag) == transitions(wanted)
    assert wanted.height > 1


def test_who_does_not_click_for_a_day_is_found_without_any_event(shop: Shop) -> None:
    people = shop.events.select("who").unique()
    stepped = nothing_of(shop.of("clicks"), people, shop.opened_ms, DAY_MS)
    wanted = crossings(stepped, pl.col("level") == 0, until_ms=shop.closed_ms)
    assert shop.changed("not-clicking") == transitions(wanted)


def test_sessions_read_one_after_the_other_are_late_and_bring_the_same_tags_in_the_end(
    shop: Shop, shared_data: Path
) -> None:
    policy = policy_of("otto_sample")
    patient = replace(policy, settings=replace(policy.settings, allowed_lateness_ms=60 * DAY_MS))
    late = Replay("otto_sample", policy=patient)
    late.consent([late.person(session) for session in shop.events["who"].unique().sort()], shop.opened_ms)
    late.take(pieces(late.intake.jsonl(shared_data / FILE, late.mapping("sessions")), "web"))
    late.until(shop.closed_ms)
    assert late.counts["accepted"] == 862
    after = range(shop.last_ms, shop.closed_ms, HOUR_MS)
    for tag in [*RECOUNTS, "not-clicking"]:
        assert late.members(tag, after) == shop.replay.members(tag, after), tag
        ends = {change for change in shop.changed(tag) if change[1] > shop.last_ms}
        assert {change for change in shop.changed(tag, late) if change[1] > shop.last_ms} == ends, tag


def test_a_session_sent_twice_counts_once(shop: Shop) -> None:
    again = Replay("otto_sample")
    again.consent([again.person(session) for session in shop.events["who"].unique().sort()], shop.opened_ms)
    mapping = again.mapping("sessions")
    twice = [pieces(again.intake.jsonl(line, mapping), "web", piece_ms=1) for line in shop.lines * 2]
    again.take(in_order(twice))
    again.until(shop.closed_ms)
    assert again.counts["duplicate"] == 862
    for tag in RECOUNTS:
        assert shop.changed(tag, again) == shop.changed(tag), tag
