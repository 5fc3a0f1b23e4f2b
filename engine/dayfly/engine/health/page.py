"""A report as one HTML page: charts drawn in place, no script, nothing fetched from anywhere."""

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Final

from dayfly.engine.health.charts import clock_text, hour_bars, number_text, share_bar, time_line
from dayfly.engine.health.model import AudienceHealth, Budget, ChannelHealth, HealthReport, Point
from dayfly.engine.health.page_style import STYLE

__all__ = ["render_html"]

_POLICY: Final = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
_WORST_FIELDS: Final = 12
_NONE: Final = "\u2013"
"""A dash where there is nothing to say."""


def render_html(report: HealthReport, history: Sequence[Point] = ()) -> str:
    """The page.

    Args:
        report: What to show.
        history: Earlier instants, oldest first, for the line of live fragments.

    Returns:
        A whole document in UTF-8 that can be kept, mailed and opened without a network.
    """
    sections = (
        _tiles(report),
        _channels(report.channels),
        _missing(report.channels),
        _consent(report),
        _fragments(report, history),
        _delivery(report.audiences),
        _transfers(report),
        _budgets(report.budgets),
        _engine(report),
    )
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        '<meta name="viewport" content="width=device-width,initial-scale=1"><meta name="robots" content="noindex">'
        f"<title>Dayfly health</title><style>{STYLE}</style></head>\n<body>{_head(report)}<main>"
        f"{_attention(report)}{''.join(sections)}</main></body></html>\n"
    )


def _head(report: HealthReport) -> str:
    well = report.engine.state == "running"
    return (
        f'<header><h1>Dayfly health</h1><span class="state {"good" if well else "bad"}">'
        f'{report.engine.state}</span> <span class="faint">{clock_text(report.at_ms, "%Y-%m-%d %H:%M:%S")} UTC,'
        f" policy version {report.policy_version}</span></header>"
    )


def _attention(report: HealthReport) -> str:
    if not report.attention:
        return '<ul class="attention"><li class="good"><span class="good">✓</span> Nothing needs attention.</li></ul>'
    items = "".join(
        f'<li><b>▲ {escape(item.code)}</b>: {escape(item.what)}.<br><span class="faint">What to do: '
        f"{escape(item.way_out)}.</span></li>"
        for item in report.attention
    )
    return f'<ul class="attention" aria-label="What needs attention">{items}</ul>'


def _tiles(report: HealthReport) -> str:
    seen = sum(channel.seen for channel in report.channels)
    lost = sum(channel.received - channel.seen for channel in report.channels)
    due, delivered = (sum(getattr(one, name) for one in report.audiences) for name in ("due", "delivered"))
    consent, lineage = report.consent, report.lineage
    tiles = (
        ("usable events in 24 hours", number_text(seen), f"{number_text(lost)} lost"),
        (
            "live fragments",
            number_text(report.fragments.live),
            f"{number_text(report.fragments.minted)} minted",
        ),
        ("delivered", _share(delivered, due), f"of {number_text(due)} due"),
        (
            "people whose consent allows a use",
            _share(consent.any_purpose, consent.looked_at),
            f"of {number_text(consent.looked_at)}",
        ),
        (
            "lineage explains",
            _share(lineage.explained, lineage.checked),
            f"of {number_text(lineage.checked)} tried",
        ),
        (
            "transfers allowed",
            _NONE if report.transfers.pass_rate is None else f"{report.transfers.pass_rate:.1%}",
            "audit log broken" if report.transfers.audit_broken else "audit log sound",
        ),
    )
    shown = "".join(
        f'<div class="tile"><dt>{name}</dt><dd>{value}</dd><dd class="faint">{more}</dd></div>'
        for name, value, more in tiles
    )
    return f'<dl class="tiles">{shown}</dl>'


def _channels(channels: Iterable[ChannelHealth]) -> str:
    figures = "".join(_channel(number, channel) for number, channel in enumerate(channels))
    legend = (
        '<span class="key seen"></span>usable<span class="key lost"></span>dead letters and duplicates'
        '<span class="key expected"></span>expected'
    )
    return f'<h2>Channels, the last 24 hours and this one (UTC) <span class="legend">{legend}</span></h2><div class="grid2">{figures}</div>'


def _channel(number: int, channel: ChannelHealth) -> str:
    name = escape(channel.name)
    judged = (
        "nothing to compare with yet"
        if channel.completeness is None
        else f"{channel.completeness:.1%} of {number_text(channel.expected or 0)} expected ({channel.basis})"
    )
    chart = hour_bars(
        channel.hours,
        name=f"channel-{number}",
        title=f"Events per hour of channel {channel.name}",
        text=f"{channel.seen} usable events and {channel.received - channel.seen} others in 24 hours; {judged}.",
    )
    dead = ", ".join(f"{escape(reason)} {count:,}" for reason, count in channel.dead.items())
    late = (
        f"late by {_duration(channel.lateness_p50_ms)} (half), {_duration(channel.lateness_p99_ms)} (99 %),"
        f" {_duration(channel.lateness_max_ms)} (most)"
    )
    counts = f"{channel.received:,} received, {channel.duplicates:,} duplicates, {sum(channel.dead.values()):,} dead letters"
    return (
        f'<figure class="card"><h3>{name}</h3><p>{judged}</p>{chart}<figcaption>{counts}{f" ({dead})" if dead else ""};'
        f" {late}; last event {_duration(channel.silent_ms)} ago</figcaption></figure>"
    )


def _missing(channels: Iterable[ChannelHealth]) -> str:
    found = [
        (entry.missing / entry.events, channel.name, entry)
        for channel in channels
        for entry in channel.fields
        if entry.missing
    ]
    found.sort(key=lambda item: (-item[0], item[1], item[2].event, item[2].field))
    rows = [
        (
            escape(name),
            escape(entry.event),
            escape(entry.field),
            share_bar([("lost", share)], title=f"{share:.1%} without {entry.field}"),
            f"{share:.1%} of {entry.events:,}",
        )
        for share, name, entry in found[:_WORST_FIELDS]
    ]
    more = f", the {_WORST_FIELDS} worst of {len(found)}" if len(found) > _WORST_FIELDS else ""
    heads = ("channel", "event", "field", "", "without it")
    return _card(f"Missing fields, the last days{more}", heads, rows, empty="Every declared field was there.")


def _consent(report: HealthReport) -> str:
    consent = report.consent
    rows = []
    for purpose, number in consent.coverage.items():
        share = number / consent.looked_at if consent.looked_at else 0.0
        bar = share_bar([("seen", share)], title=f"{share:.1%} of people for {purpose}")
        left = consent.uses.get(purpose)
        uses = _NONE if left is None else f"{left.left:,.0f} of {left.total:,.0f}"
        rows.append((escape(purpose), bar, f"{share:.1%}", f"{number:,}", uses))
    heads = ("purpose", "people whose consent allows a use", "", "people", "uses left")
    partly = "" if consent.looked_at == consent.people else f" ({consent.looked_at:,} counted so far)"
    note = (
        f"{consent.people:,} people{partly}; {consent.given:,} consents in force, {consent.end_24h:,} of them end within 24"
        f" hours, {consent.end_7d:,} within 7 days."
    )
    return _card("Consent", heads, rows, note=note, empty="The policy needs no consent.")


def _fragments(report: HealthReport, history: Sequence[Point]) -> str:
    fragments = report.fragments
    points = [*(point for point in history if point.at_ms < report.at_ms), report.point]
    chart = time_line(
        points,
        name="live",
        title="Live fragments",
        text=f"From {points[0].live} at {clock_text(points[0].at_ms)} to {points[-1].live} now.",
    )
    most = max([1, *fragments.ended.values(), *fragments.refused.values()])
    rows = [
        (
            f"{kind}: {escape(reason)}",
            share_bar([(colour, number / most)], title=f"{number} {reason}"),
            f"{number:,}",
        )
        for kind, colour, counts in (
            ("ended", "seen", fragments.ended),
            ("refused at the mint", "lost", fragments.refused),
        )
        for reason, number in counts.items()
    ]
    sign = "=" if fragments.balanced else "≠"
    balance = (
        f"{fragments.minted:,} minted {sign} {fragments.live:,} alive + {fragments.tombstones:,} destroyed;"
        f" {fragments.leased:,} leases"
    )
    return (
        f'<h2>Fragments</h2><div class="grid2"><figure class="card"><h3>Live</h3>{chart}<figcaption>{balance}</figcaption>'
        f'</figure><div class="card"><h3>Ended and refused</h3>{_table(("", "", "number"), rows, "None yet.")}</div></div>'
    )


def _delivery(audiences: Iterable[AudienceHealth]) -> str:
    rows = []
    for one in audiences:
        share = one.success or 0.0
        parts = [("seen", share), ("lost", 1 - share)] if one.due else []
        failed = ", ".join(f"{escape(reason)} {number:,}" for reason, number in one.failed.items()) or _NONE
        rows.append(
            (
                escape(one.name),
                share_bar(parts, title=f"{_share(one.delivered, one.due)} delivered to {one.name}"),
                f"{_share(one.delivered, one.due)} of {one.due:,}",
                f"{one.opened:,}",
                f"{one.expired_unused:,}",
                f"{one.recalled:,}",
                failed,
                f"{one.queued:,}",
            )
        )
    heads = ("CRM", "delivered", "of due", "opened", "expired unused", "recalled", "given up", "waiting")
    return _card("Delivery", heads, rows, empty="No delivery is attached to this board.")


def _transfers(report: HealthReport) -> str:
    transfers = report.transfers
    total = max(1, sum(transfers.allowed.values()) + sum(transfers.refused.values()))
    rows = [
        (
            kind,
            escape(reason),
            share_bar([(colour, number / total)], title=f"{number} {reason}"),
            f"{number:,}",
        )
        for kind, colour, counts in (
            ("allowed", "seen", transfers.allowed),
            ("refused", "lost", transfers.refused),
        )
        for reason, number in counts.items()
    ]
    sound = (
        escape(transfers.audit_broken) if transfers.audit_broken else "every line follows from the one before"
    )
    note = f"Audit log: {transfers.audit_checked:,} of {transfers.audit_lines:,} lines checked, {sound}."
    heads = ("decision", "reason", "", "number")
    return _card(
        "Cross-border transfers, the last seven days",
        heads,
        rows,
        note=note,
        empty="Nothing was to cross a border.",
    )


def _budgets(budgets: Mapping[str, Budget]) -> str:
    rows = []
    for name, budget in budgets.items():
        share = budget.left / budget.total if budget.total else 0.0
        bar = share_bar([("seen", share)], title=f"{share:.1%} of {name} left")
        rows.append((escape(name), bar, f"{budget.left:g} of {budget.total:g} {escape(budget.unit)}"))
    return _card("Budgets left", ("budget", "", "left"), rows, empty="") if rows else ""


def _engine(report: HealthReport) -> str:
    engine = report.engine
    facts = (
        ("durable position", f"{engine.durable:,} of {engine.position:,}"),
        ("log", f"{engine.log_bytes / 2**20:,.1f} MiB in {engine.log_segments} segments"),
        ("snapshot", f"at {engine.snapshot_position:,}, {_duration(engine.snapshot_age_ms)} old"),
        ("snapshot trouble", escape(engine.snapshot_error) or "none"),
        ("log trouble", escape(engine.trouble) or "none"),
        ("waiting events", f"{engine.queue:,}"),
        ("feed items kept", f"{engine.feed:,}"),
        (
            "replayed at opening",
            f"{engine.recovered_frames:,} frames, {engine.recovered_events:,} events",
        ),
        (
            "clock steps",
            f"{engine.clock_steps_back} back, {engine.clock_steps_ahead} ahead, largest {engine.clock_largest_step_ms:,} ms",
        ),
        (
            "signed checkpoint",
            f"{engine.checkpoint_size:,} tombstones, {_duration(engine.checkpoint_age_ms)} old",
        ),
        ("key memory", "locked" if engine.memory_locked else "not locked"),
        ("lineage kept", f"{report.lineage.kept:,} fragments"),
    )
    shown = "".join(f"<div><dt>{name}</dt><dd>{value}</dd></div>" for name, value in facts)
    return f'<h2>Engine</h2><dl class="card facts">{shown}</dl>'


def _card(
    title: str, heads: Sequence[str], rows: Sequence[Sequence[str]], *, empty: str, note: str = ""
) -> str:
    text = f"<p>{note}</p>" if note else ""
    return f'<h2>{title}</h2><div class="card">{text}{_table(heads, rows, empty)}</div>'


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]], empty: str) -> str:
    if not rows:
        return f'<p class="faint">{empty}</p>'
    first = rows[0]
    kinds = [_kind(cell) for cell in first]
    head = "".join(f'<th scope="col"{kind}>{text}</th>' for kind, text in zip(kinds, heads, strict=True))
    body = "".join(
        "<tr>" + "".join(f"<td{kind}>{cell}</td>" for kind, cell in zip(kinds, row, strict=True)) + "</tr>"
        for row in rows
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _kind(cell: str) -> str:
    if cell.startswith("<svg"):
        return ' class="bar"'
    return ' class="number"' if cell[:1].isdigit() or cell == _NONE else ""


def _share(part: float, whole: float) -> str:
    return f"{part / whole:.1%}" if whole else _NONE


def _duration(value_ms: int | None) -> str:
    """A span in the unit that fits it."""
    if value_ms is None:
        return _NONE
    for unit, size in (("d", 86_400_000), ("h", 3_600_000), ("min", 60_000), ("s", 1_000)):
        if value_ms >= size:
            return f"{value_ms / size:.3g} {unit}"
    return f"{value_ms} ms"
