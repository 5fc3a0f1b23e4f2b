"""From the meter's counts to the health of each channel."""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Final, Literal, NamedTuple

import numpy as np

from dayfly.engine.catalog import Catalog
from dayfly.engine.health.meter import DAYS_KEPT, HOUR_MS, Book, ChannelMeter, Lateness, bucket_end_ms, joined
from dayfly.engine.health.model import ChannelHealth, FieldHealth, Hour, TransferHealth
from dayfly.privacy.errors import InvalidArgument

__all__ = ["channel_health", "check_expected", "reasons", "transfer_health", "unplaced", "usual_per_hour"]

_HOURS: Final = 24
_CHANNELS_OWN: Final = ("dead", "duplicate", "not_collected")


def check_expected(expected: Mapping[str, float], catalog: Catalog) -> None:
    """Refuse expectations that cannot be meant.

    Args:
        expected: Usable events per hour, by channel.
        catalog: Of the policy in force.

    Raises:
        InvalidArgument: a channel that is not declared, or a number that is not finite and above zero.
    """
    for name, per_hour in expected.items():
        if name not in catalog.channels:
            raise InvalidArgument(
                f"expected={name!r} must name a declared channel; use one of: {', '.join(catalog.channels)}"
            )
        if isinstance(per_hour, bool) or not 0 < per_hour < float("inf"):
            raise InvalidArgument(
                f"expected[{name!r}]={per_hour!r} must be above 0 events per hour; leave quiet channels out"
            )


def usual_per_hour(meter: ChannelMeter, channel: str, hour: int) -> float | None:
    """Usable events in the same hour of the days before, on average over the days that were counted from beginning to end.

    Returns:
        The average, None when there was no such day.
    """
    earlier = (hour - 24 * day for day in range(1, DAYS_KEPT + 1))
    before = [one for one in earlier if meter.since_ms and one >= _first_whole_hour(meter)]
    return sum(meter.hour(one)["seen", channel, ""] for one in before) / len(before) if before else None


def channel_health(
    meter: ChannelMeter, catalog: Catalog, now_ms: int, expected: Mapping[str, float]
) -> tuple[ChannelHealth, ...]:
    """The health of every declared channel over the last 24 full hours and the one that runs.

    Args:
        meter: What came in.
        catalog: Of the policy in force.
        now_ms: The report's instant.
        expected: Usable events per hour that were declared, by channel; the others are judged by their own past.
    """
    this_hour = now_ms // HOUR_MS
    hours = range(this_hour - _HOURS, this_hour + 1)
    today = this_hour // 24
    window = _Window(
        meter,
        catalog,
        now_ms,
        hours,
        joined(meter.hour(hour) for hour in hours),
        meter.lateness(hours),
        meter.fields(range(today - DAYS_KEPT, today + 1)),
    )
    return tuple(_channel(window, name, expected.get(name)) for name in catalog.channels)


class _Window(NamedTuple):
    """What all channels are read from."""

    meter: ChannelMeter
    catalog: Catalog
    now_ms: int
    hours: range
    book: Book
    lateness: Mapping[str, Lateness]
    fields: Book


def _channel(window: _Window, name: str, declared: float | None) -> ChannelHealth:
    meter, book = window.meter, window.book
    shown = tuple(_hour(window, name, hour, declared) for hour in window.hours)
    due = [hour for hour in shown if hour.expected is not None]
    expected = sum(hour.expected or 0.0 for hour in due) if due else None
    late = window.lateness.get(name)
    basis: Literal["declared", "history", "unknown"] = "unknown"
    if expected is not None:
        basis = "history" if declared is None else "declared"
    return ChannelHealth(
        name=name,
        received=book["received", name, ""],
        seen=book["seen", name, ""],
        duplicates=book["duplicate", name, ""],
        undeclared=book["undeclared", name, ""],
        not_collected=book["not_collected", name, ""],
        dead=reasons(book, "dead", name),
        expected=expected,
        basis=basis,
        completeness=sum(hour.seen for hour in due) / expected if expected else None,
        lateness_p50_ms=_quantile(late, 0.5),
        lateness_p99_ms=_quantile(late, 0.99),
        lateness_max_ms=None if late is None else late[1],
        silent_ms=max(0, window.now_ms - meter.last[name]) if name in meter.last else None,
        total_received=meter.totals["received", name, ""],
        total_dead=reasons(meter.totals, "dead", name),
        total_duplicates=meter.totals["duplicate", name, ""],
        hours=shown,
        fields=_fields(window, name),
    )


def _hour(window: _Window, name: str, hour: int, declared: float | None) -> Hour:
    """One hour. Nothing is expected of hours before the meter began, nor of the one that runs."""
    meter = window.meter
    book = meter.hour(hour)
    seen = book["seen", name, ""]
    judged = bool(meter.since_ms) and _first_whole_hour(meter) <= hour < window.hours[-1]
    usual = usual_per_hour(meter, name, hour) if declared is None else declared
    return Hour(
        start_ms=hour * HOUR_MS,
        seen=seen,
        lost=book["received", name, ""] - seen,
        expected=usual if judged else None,
    )


def _first_whole_hour(meter: ChannelMeter) -> int:
    return -(-meter.since_ms // HOUR_MS)


def _quantile(late: Lateness | None, share: float) -> int | None:
    """Upper end of the class in which the quantile lies, and not more than the largest."""
    if late is None:
        return None
    classes, worst = late
    passed = np.cumsum(classes)
    return min(bucket_end_ms(int(np.searchsorted(passed, share * passed[-1]))), worst)


def _fields(window: _Window, name: str) -> tuple[FieldHealth, ...]:
    found = window.fields
    return tuple(
        FieldHealth(
            event=kind.name,
            field=spec.name,
            required=spec.required,
            events=found[name, kind.name, ""],
            missing=found[name, kind.name, spec.name],
        )
        for kind in window.catalog.types
        if found[name, kind.name, ""]
        for spec in kind.fields
    )


def reasons(book: Book, kind: str, channel: str = "") -> dict[str, int]:
    """Counts of a kind by its detail, in the order of their names."""
    found = {
        detail: count
        for (one, name, detail), count in book.items()
        if one == kind and name == channel and count
    }
    return dict(sorted(found.items()))


def unplaced(meter: ChannelMeter, channels: Iterable[str]) -> dict[str, int]:
    """What was counted of no declared channel since the meter was made, by reason."""
    known = set(channels)
    found: Counter[str] = Counter()
    for (kind, channel, detail), count in meter.totals.items():
        if kind in _CHANNELS_OWN and channel not in known:
            found[detail or kind] += count
    return dict(sorted(found.items()))


def transfer_health(
    meter: ChannelMeter, now_ms: int, *, audit_lines: int, audit_checked: int, audit_broken: str
) -> TransferHealth:
    """Cross-border decisions of the days kept and since the meter was made."""
    this_hour = now_ms // HOUR_MS
    book = joined(meter.hour(hour) for hour in range(this_hour - 24 * DAYS_KEPT + 1, this_hour + 1))
    return TransferHealth(
        allowed=reasons(book, "transfer.allowed"),
        refused=reasons(book, "transfer.refused"),
        total_allowed=reasons(meter.totals, "transfer.allowed"),
        total_refused=reasons(meter.totals, "transfer.refused"),
        audit_lines=audit_lines,
        audit_checked=audit_checked,
        audit_broken=audit_broken,
    )
