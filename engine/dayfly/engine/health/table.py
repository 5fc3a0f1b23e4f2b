"""A report for a terminal."""

from collections.abc import Iterator, Mapping

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from dayfly.engine.health.model import HealthReport

__all__ = ["board"]

_NONE = "-"


def board(report: HealthReport, *, age_seconds: float) -> RenderableType:
    """Everything of a report that fits a screen: what needs attention first.

    Args:
        report: What to show.
        age_seconds: How old it is.
    """
    engine = report.engine
    head = Text(
        f"{engine.state}, {age_seconds:,.0f} s ago: {engine.durable:,} frames durable, log {engine.log_bytes / 2**20:,.1f} MiB,"
        f" {engine.queue:,} events waiting, policy version {report.policy_version}"
    )
    return Group(
        head, *_attention(report), Text(), _channels(report), Text(), _people(report), Text(), _rest(report)
    )


def _attention(report: HealthReport) -> Iterator[RenderableType]:
    if not report.attention:
        yield Text("nothing needs attention", style="green")
    for item in report.attention:
        yield Text.assemble((f"{item.code}: ", "bold red"), item.what, (f"; {item.way_out}", "dim"))


def _channels(report: HealthReport) -> Table:
    table = _table("channel, 24 h", "seen", "expected", "complete", "dead", "twice", "late p99", "silent")
    for one in report.channels:
        table.add_row(
            Text(one.name),
            f"{one.seen:,}",
            _NONE if one.expected is None else f"{one.expected:,.0f}",
            _ratio(one.completeness),
            f"{sum(one.dead.values()):,}",
            f"{one.duplicates:,}",
            _span(one.lateness_p99_ms),
            _span(one.silent_ms),
        )
    return table


def _people(report: HealthReport) -> Table:
    consent = report.consent
    table = _table("consent for", "people", "share", "uses left")
    for purpose, number in consent.coverage.items():
        uses = consent.uses.get(purpose)
        share = number / consent.looked_at if consent.looked_at else None
        table.add_row(
            Text(purpose), f"{number:,}", _ratio(share), _NONE if uses is None else f"{uses.left:,.0f}"
        )
    table.add_row(
        "all", f"{consent.people:,}", "", f"{consent.end_24h:,} of {consent.given:,} consents end within 24 h"
    )
    return table


def _rest(report: HealthReport) -> Table:
    fragments, lineage, transfers = report.fragments, report.lineage, report.transfers
    table = _table("promises", "", numbers=False)
    table.add_row(
        "fragments",
        f"{fragments.minted:,} minted = {fragments.live:,} alive + {fragments.tombstones:,} destroyed"
        f" ({_list(fragments.ended)})",
    )
    for one in report.audiences:
        table.add_row(
            Text(f"delivery to {one.name}"),
            Text(f"{_ratio(one.success)} of {one.due:,} due, {one.opened:,} opened, {one.queued:,} waiting"),
        )
    table.add_row(
        "lineage", f"{_ratio(lineage.completeness)} of {lineage.checked:,} tried, {lineage.kept:,} kept"
    )
    table.add_row(
        "transfers",
        f"{_ratio(transfers.pass_rate)} allowed ({_list(transfers.allowed)}; refused {_list(transfers.refused)})",
    )
    table.add_row(
        "audit log",
        f"{transfers.audit_checked:,} of {transfers.audit_lines:,} lines checked, "
        + ("broken" if transfers.audit_broken else "sound"),
    )
    for name, budget in report.budgets.items():
        table.add_row(Text(f"budget {name}"), Text(f"{budget.left:g} of {budget.total:g} {budget.unit} left"))
    return table


def _table(first: str, *others: str, numbers: bool = True) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column(first)
    for name in others:
        table.add_column(name, justify="right" if numbers else "left", no_wrap=numbers)
    return table


def _list(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {number:,}" for name, number in counts.items()) or "none"


def _ratio(value: float | None) -> str:
    return _NONE if value is None else f"{value:.1%}"


def _span(value_ms: int | None) -> str:
    return _NONE if value_ms is None else f"{value_ms / 1000:,.1f} s"
