"""Probe requests at two places: who was there, under names that change every night, against a recount in polars."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from pathlib import Path
from zoneinfo import ZoneInfo

import msgspec
import orjson
import polars as pl
import pytest

from dayfly.engine.intake import FileMapping
from dayfly.engine.runtime.arrivals import pieces

from .recounting import (
    Moves,
    came_back,
    crossings,
    different,
    followed_by,
    levels,
    moves,
    spans,
    transitions,
)
from .replaying import DAY_MS, Replay, subjects, yes_to_everything

FILE = "wifi_probes/wifi_probes_2024_02_08_to_03_14.parquet"
ZONE = ZoneInfo("Europe/Prague")
MINUTE_MS, HOUR_MS = 60_000, 3_600_000
INSIDE, OUTSIDE = 1, 2
LAB_COMPUTERS = frozenset(
    [f"dc:fb:48:{rest}" for rest in (
        "68:be:e4", "8c:71:fc", "2a:52:e0", "f5:c6:c2", "e3:ab:78", "00:51:90", "75:d8:42", "de:86:8d", "dd:c6:0b",
        "55:d5:78", "c2:1d:64",
    )]
    + [f"40:ec:99:{rest}" for rest in ("f9:34:a6", "8e:3f:63", "1f:3e:75")]
)  # fmt: skip
"""What the publisher asks to leave out, as the data's README lists it."""

PARTS = [
    ("2024-02-08T16:00", "2024-02-08T16:30"),
    ("2024-02-08T23:30", "2024-02-09T01:00"),  # over midnight
    ("2024-02-09T08:00", "2024-02-09T08:10"),
    ("2024-03-14T14:00", "2024-03-14T14:20"),
]


@dataclass(frozen=True, slots=True)
class Lab:
    """Probes replayed; `seen` has one row for each that was taken in, `who` being the address and the local day."""

    replay: Replay
    raw: pl.DataFrame
    seen: pl.DataFrame
    closed_ms: int

    def at_place(self, place: int) -> pl.DataFrame:
        return self.seen.filter(pl.col("position") == place)


def watch(path: Path, *, zone: tzinfo = ZONE) -> Lab:
    """Replay a file of probes; the name that intake gave stands beside each row."""
    replay = Replay("wifi_probes", zone=zone)
    results = list(replay.intake.parquet(path, replay.mapping("probes")))
    names = [name for result in results for name in subjects(result.batch.subject)]
    raw = pl.read_parquet(path)
    kept = raw.filter(~pl.col("src_mac_anon").is_in(LAB_COMPUTERS))
    local = pl.col("ts").dt.replace_time_zone(ZONE.key)
    seen = kept.with_columns(
        who=pl.concat_str("src_mac_anon", pl.lit(" "), pl.col("ts").dt.date().cast(pl.String)),
        at=local.dt.epoch("us") // 1_000,
        day=pl.col("ts").dt.date(),
        name=pl.Series(names, dtype=pl.Binary),
    )
    replay.take(pieces(results, "wifi"), on_meeting=yes_to_everything)
    closed = int(seen["at"].max()) + DAY_MS  # type: ignore[arg-type]
    replay.until(closed)
    return Lab(replay, raw, seen, closed)


@pytest.fixture(
    scope="module", params=["parts", pytest.param("all", marks=pytest.mark.slow)], ids=["parts", "all"]
)
def probes(
    request: pytest.FixtureRequest, shared_data: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    if request.param == "all":
        return shared_data / FILE
    raw = pl.read_parquet(shared_data / FILE)
    path = tmp_path_factory.mktemp("wifi") / "parts.parquet"
    spells = [(datetime.fromisoformat(start), datetime.fromisoformat(end)) for start, end in PARTS]
    inside = [pl.col("ts").is_between(start, end, closed="left") for start, end in spells]
    raw.filter(pl.any_horizontal(inside)).write_parquet(path)
    return path


@pytest.fixture(scope="module")
def lab(probes: Path) -> Lab:
    return watch(probes)


def test_the_labs_own_computers_are_left_out_and_everything_else_is_taken_in(lab: Lab) -> None:
    own = lab.raw.filter(pl.col("src_mac_anon").is_in(LAB_COMPUTERS)).height
    assert lab.replay.intake_counts["skipped"] == own > 0
    assert lab.replay.intake_counts["accepted"] == lab.raw.height - own == lab.seen.height
    assert lab.replay.counts["accepted"] == lab.seen.height
    mapping = lab.replay.mapping("probes")
    assert set(mapping.where[0].not_in or ()) == LAB_COMPUTERS


def test_randomised_addresses_are_recognised_as_the_publisher_recognised_them(lab: Lab) -> None:
    assert lab.replay.intake_counts["randomised"] == lab.seen["mac_randomized"].sum() > 0


def test_an_address_has_one_name_a_day_at_both_places_and_no_two_share_one(lab: Lab) -> None:
    pairs = lab.seen.select("who", "name").unique()
    assert pairs["who"].n_unique() == pairs["name"].n_unique() == pairs.height
    both = lab.seen.group_by("who").agg(pl.col("position").n_unique(), pl.col("name").n_unique())
    assert both.filter(pl.col("position") == 2).height > 0


def test_no_name_outlives_its_day(lab: Lab) -> None:
    assert lab.seen.group_by("name").agg(pl.col("day").n_unique())["day"].max() == 1
    returning = lab.seen.group_by("src_mac_anon").agg(pl.col("day").n_unique(), pl.col("name").n_unique())
    returning = returning.filter(pl.col("day") > 1)
    assert returning.height > 0
    assert returning["name"].equals(returning["day"])


def test_heads_of_each_day_and_place_are_those_of_the_addresses(lab: Lab) -> None:
    heads = lab.seen.group_by("day", "position").agg(pl.col("src_mac_anon", "name").n_unique())
    assert heads["name"].equals(heads["src_mac_anon"])


def test_names_change_at_the_labs_midnight_and_not_at_that_of_greenwich(probes: Path, lab: Lab) -> None:
    """The same file under another zone: an hour after midnight the names of the day before are still there."""
    elsewhere = watch(probes, zone=UTC).seen
    days = elsewhere.group_by("name").agg(pl.col("day").n_unique())
    assert days["day"].max() == 2
    assert lab.seen.group_by("name").agg(pl.col("day").n_unique())["day"].max() == 1


def visits(lab: Lab) -> Moves:
    return moves(lab.at_place(INSIDE), 30 * MINUTE_MS)


def loud(lab: Lab) -> Moves:
    """By how much the sum of signal strengths exceeds -50 dBm for each probe."""
    above = lab.seen.with_columns(above=pl.col("rssi_dbm").cast(pl.Int64) + 50)
    return moves(above, 10 * MINUTE_MS, by="above")


RECOUNTS: Mapping[str, Callable[[Lab], tuple[Moves, int]]] = {
    "here-now": lambda lab: (moves(lab.at_place(INSIDE), 5 * MINUTE_MS), 1),
    "visits": lambda lab: (visits(lab), 10),
    "both-places": lambda lab: (different(lab.seen, "position", HOUR_MS), 2),
    "came-in": lambda lab: (
        spans(followed_by(lab.at_place(OUTSIDE), lab.at_place(INSIDE), 10 * MINUTE_MS)),
        1,
    ),
    "came-back": lambda lab: (came_back(lab.seen, within_ms=10 * MINUTE_MS, quiet_ms=2 * HOUR_MS), 1),
    "close-by": lambda lab: (loud(lab), 1),
}


@pytest.mark.parametrize("tag", RECOUNTS)
def test_visits_begin_and_end_at_exactly_the_recounted_milliseconds(lab: Lab, tag: str) -> None:
    changed, at_least = RECOUNTS[tag](lab)
    wanted = crossings(levels(changed), pl.col("level") >= at_least, until_ms=lab.closed_ms)
    who = dict(lab.seen.select("name", "who").unique().iter_rows())
    assert {(who[name], at, enters) for name, at, enters in lab.replay.transitions(tag)} == transitions(
        wanted
    )
    assert wanted.height > 1


def test_visits_a_day_are_those_of_the_recount(lab: Lab) -> None:
    turns = crossings(levels(visits(lab)), pl.col("level") >= 10, until_ms=lab.closed_ms)
    day_of = dict(lab.seen.select("name", pl.col("day").cast(pl.String)).unique().iter_rows())
    enters = [change for change in lab.replay.changes("visits") if change.change == "enter"]
    found = pl.Series("day", [day_of[change.subject] for change in enters]).value_counts().rows()
    wanted = turns.filter("enters").select(day=pl.col("who").str.split(" ").list.last())
    assert sorted(found) == sorted(wanted["day"].value_counts().rows())


@pytest.mark.parametrize("hours", [2, pytest.param(0, marks=pytest.mark.slow)], ids=["two hours", "all"])
def test_names_seen_inside_in_an_hour_are_as_many_as_the_published_exact_answer(
    shared_data: Path, tmp_path: Path, hours: int
) -> None:
    answers = orjson.loads((shared_data / "exact_answers.json").read_bytes())["wifi"]["position_1_by_hour"]
    path = shared_data / FILE
    if hours:
        answers = answers[:hours]
        path = tmp_path / "hours.parquet"
        hour = pl.read_parquet(shared_data / FILE).with_columns(h=pl.col("ts").dt.truncate("1h"))
        first = hour.filter(pl.col("h").is_in([datetime.fromisoformat(answer["h"]) for answer in answers]))
        first.drop("h").write_parquet(path)
    inside = names_of(path).filter(pl.col("position") == INSIDE)
    found = inside.group_by(pl.col("ts").dt.truncate("1h")).agg(pl.len(), pl.col("name").n_unique())
    wanted = {(datetime.fromisoformat(item["h"]), item["probes"], item["macs"]) for item in answers}
    assert set(found.iter_rows()) == wanted


def names_of(path: Path) -> pl.DataFrame:
    """Every probe, the lab's own included as in the published answers, with the name intake gives it."""
    replay = Replay("wifi_probes", zone=ZONE)
    everybody: FileMapping = msgspec.structs.replace(replay.mapping("probes"), where=())
    results = replay.intake.parquet(path, everybody)
    names = [name for result in results for name in subjects(result.batch.subject)]
    return pl.read_parquet(path).with_columns(name=pl.Series(names, dtype=pl.Binary))
