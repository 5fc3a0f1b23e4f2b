"""When a level that events raise and their age lowers stands high enough: interval arithmetic in polars.

Written from the meaning of the tags, without the engine: an event is in a window of W from its own instant until it is W old.
"""

from collections.abc import Set as AbstractSet
from typing import TypeAlias

import polars as pl

Moves: TypeAlias = pl.DataFrame
"""Columns `who`, `at` (milliseconds UTC) and `by`: how much the level of `who` changes at an instant."""


People: TypeAlias = AbstractSet[object]


def moves(events: pl.DataFrame, within_ms: int, *, by: str | None = None) -> Moves:
    """Each event of `who` at `at` raises the level by its column `by` (by one without it) until it is `within_ms` old."""
    amount = pl.lit(1, pl.Int64) if by is None else pl.col(by).cast(pl.Int64)
    up = events.select("who", "at", by=amount)
    down = up.with_columns(pl.col("at") + within_ms, by=-pl.col("by"))
    return pl.concat([up, down])


def spans(frame: pl.DataFrame) -> Moves:
    """Half-open spans `[start, end)` of `who` as moves; empty ones are none."""
    real = frame.filter(pl.col("end") > pl.col("start"))
    one = pl.lit(1, pl.Int64)
    return pl.concat([real.select("who", at="start", by=one), real.select("who", at="end", by=-one)])


def levels(changed: Moves) -> pl.DataFrame:
    """The level from each instant of change on."""
    return (
        changed.group_by("who", "at")
        .agg(pl.col("by").sum())
        .sort("who", "at")
        .with_columns(level=pl.col("by").cum_sum().over("who"))
    )


def crossings(stepped: pl.DataFrame, holds: pl.Expr, *, until_ms: int) -> pl.DataFrame:
    """The instants at which `holds` (false before the first step) changes, up to `until_ms`: `who`, `at`, `enters`."""
    held = stepped.sort("who", "at").with_columns(enters=holds)
    before = pl.col("enters").shift(1, fill_value=False).over("who")
    return held.filter((pl.col("enters") != before) & (pl.col("at") <= until_ms)).select(
        "who", "at", "enters"
    )


def moments(events: pl.DataFrame) -> pl.DataFrame:
    """Distinct instants of each `who` in order, each with the instant before (`previous`) and after it (`following`)."""
    return (
        events.select("who", "at")
        .unique()
        .sort("who", "at")
        .with_columns(
            previous=pl.col("at").shift(1).over("who"),
            following=pl.col("at").shift(-1).over("who"),
        )
    )


def in_window(events: pl.DataFrame, now_ms: int, within_ms: int) -> pl.DataFrame:
    """Events of the window `(now - within, now]`."""
    return events.filter(pl.col("at").is_between(now_ms - within_ms, now_ms, closed="right"))


def everybody(frame: pl.DataFrame) -> People:
    return set(frame["who"].unique().to_list())


def transitions(frame: pl.DataFrame) -> set[tuple[object, int, bool]]:
    return set(frame.select("who", "at", "enters").iter_rows())


def followed_by(firsts: pl.DataFrame, seconds: pl.DataFrame, within_ms: int) -> pl.DataFrame:
    """Spans in which a second event has come strictly after a first one that is not `within_ms` old."""
    paired = (
        seconds.select("who", "at")
        .sort("at")
        .join_asof(
            firsts.select("who", "at", first="at").sort("at"),
            on="at",
            by="who",
            strategy="backward",
            allow_exact_matches=False,
            check_sortedness=False,
        )
        .drop_nulls("first")
    )
    return paired.select("who", start="at", end=pl.col("first") + within_ms)


# --- functions of the tag language as moves -------------------------------------------------------------------------------


def came_back(events: pl.DataFrame, *, within_ms: int, quiet_ms: int) -> Moves:
    """`restarted`: an event after a silence of `quiet_ms` or more is not yet `within_ms` old."""
    at = pl.col("at")
    returns = moments(events).filter(at - pl.col("previous") >= quiet_ms)
    return spans(returns.select("who", start=at, end=at + within_ms))


def fell_quiet(events: pl.DataFrame, *, within_ms: int, quiet_ms: int) -> Moves:
    """`stopped`: the last event is `quiet_ms` old and not yet `within_ms`."""
    at = pl.col("at")
    end = pl.min_horizontal(at + within_ms, pl.col("following"))
    return spans(moments(events).select("who", start=at + quiet_ms, end=end))


def first_of(events: pl.DataFrame, *, within_ms: int) -> Moves:
    """`first_time`: the first event of all is not yet `within_ms` old."""
    first = events.group_by("who").agg(pl.col("at").min())
    return spans(first.select("who", start="at", end=pl.col("at") + within_ms))


def different(events: pl.DataFrame, column: str, within_ms: int) -> Moves:
    """`distinct`: a value counts while any of its events is in the window."""
    paired = events.with_columns(who=pl.struct("who", column))
    turns = crossings(levels(moves(paired, within_ms)), pl.col("level") > 0, until_ms=2**62)
    by = pl.when("enters").then(1).otherwise(-1).cast(pl.Int64)
    return turns.select(who=pl.col("who").struct.field("who"), at="at", by=by)


def nothing_of(events: pl.DataFrame, who: pl.DataFrame, since_ms: int, within_ms: int) -> pl.DataFrame:
    """Levels for `absent`, to be asked for zero: people are known since an instant, whether or not they do anything."""
    known = who.select("who", at=pl.lit(since_ms, pl.Int64), by=pl.lit(0, pl.Int64))
    return levels(pl.concat([known, moves(events, within_ms)]))
