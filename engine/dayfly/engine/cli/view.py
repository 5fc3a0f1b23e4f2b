"""What a run shows: a live board while it goes on, and the summary at its end."""

from collections import Counter
from collections.abc import Mapping

from rich.columns import Columns
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from dayfly.engine.lineage.times import utc_text
from dayfly.engine.runtime import RunTally

__all__ = ["board", "summary_board"]

_SHOWN = 8
"""Rows of a live table; the summary shows all."""


def board(tally: RunTally, seconds: float, *, total: int | None = None) -> RenderableType:
    """The live view of a run.

    Args:
        tally: Counts so far.
        seconds: Real time so far.
        total: About how many events there are.
    """
    rate = tally.received / seconds if seconds > 0 else 0.0
    share = f" ({min(tally.received / total, 1):.0%})" if total else ""
    clock = utc_text(tally.now_ms) if tally.now_ms else "waiting for the first event"
    head = Text(f"{clock}  {tally.received:,} events{share}  {rate:,.0f} events/s  {seconds:.1f} s")
    return Group(head, _columns(tally, most=_SHOWN))


def summary_board(tally: RunTally, seconds: float) -> RenderableType:
    """Everything counted, at the end of a run."""
    rate = tally.received / seconds if seconds > 0 else 0.0
    span = f"{utc_text(tally.first_ms)} to {utc_text(tally.now_ms)}"
    head = Text(f"{tally.received:,} events of {span} in {seconds:.1f} s: {rate:,.0f} events/s")
    return Group(head, _columns(tally, most=None))


def _columns(tally: RunTally, *, most: int | None) -> Columns:
    fragments = {
        "minted": tally.minted.total(),
        "live": tally.live,
        **{f"destroyed: {reason}": count for reason, count in sorted(tally.destroyed.items())},
        "expired unopened": tally.unopened,
    }
    events = {
        "received": tally.received,
        "accepted": tally.events["accepted"],
        "duplicates": tally.events["duplicate"],
        "undeclared": tally.events["undeclared"],
        "dead letters": tally.dead_letters.total(),
    }
    latency = {name: f"{value:.2f} ms" for name, value in tally.latency_ms().items()}
    tables = [
        _table("events", events),
        _tags(tally, most),
        _table("fragments", fragments),
        _table("refusals by reason", _first(tally.refusals, most)),
        _table("dead letters by reason", _first(tally.dead_letters, most)),
        _table("batch latency", latency),
    ]
    return Columns(tables, padding=(0, 3))


def _tags(tally: RunTally, most: int | None) -> Table:
    table = _table("tags", {})
    for header in ("entered", "left"):
        table.add_column(header, justify="right")
    table.columns[1].header = "held"
    for name, entered in _first(tally.entered, most).items():
        left = tally.left[name]
        table.add_row(Text(name), f"{entered - left:,}", f"{entered:,}", f"{left:,}")
    table.add_row("all", f"{tally.held:,}", f"{tally.entered.total():,}", f"{tally.left.total():,}")
    return table


def _table(title: str, cells: Mapping[str, object]) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column(title, no_wrap=True)
    table.add_column(justify="right")
    for name, value in cells.items():
        table.add_row(Text(name), f"{value:,}" if isinstance(value, int) else str(value))
    return table


def _first(counts: Counter[str], most: int | None) -> dict[str, int]:
    """The largest counts, equal ones by name."""
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return dict(ordered[:most])
