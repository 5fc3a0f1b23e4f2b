"""A report as OpenMetrics text (version 1.0.0 of the specification), for Prometheus and what reads its format.

Names begin with `dayfly_`; units are base units (seconds, bytes, ratios). Label values come from the policy, the settings and
closed lists of reasons. Counters count since the store was made, so they do not fall with a restart.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Final, Literal

from dayfly.engine.health.model import ChannelHealth, HealthReport

__all__ = ["CONTENT_TYPE", "render_openmetrics"]

CONTENT_TYPE: Final = "application/openmetrics-text; version=1.0.0; charset=utf-8"

Labels = Mapping[str, str]
Sample = tuple[Labels, float | None]
_NO_LABELS: Final[Labels] = {}
_STATES: Final = ("running", "failed", "closed")


def render_openmetrics(report: HealthReport) -> str:
    """The text, ended by `# EOF`. What is unknown (None) has no sample."""
    families = (
        *_engine(report),
        *_channels(report.channels),
        *_consent(report),
        *_fragments(report),
        *_delivery(report),
        *_audit(report),
    )
    return "".join(families) + "# EOF\n"


def _engine(report: HealthReport) -> Iterator[str]:
    engine = report.engine
    states = [({"dayfly_engine": state}, float(engine.state == state)) for state in _STATES]
    yield _family("engine", "stateset", "State of the engine.", states)
    yield _gauge("report_timestamp_seconds", "Instant of this report.", report.at_ms / 1000)
    yield _gauge("attention", "Findings that need attention.", len(report.attention))
    yield _gauge("policy_version", "Version of the policy in force.", report.policy_version)
    yield _counter("log_frames", "Frames that are durable in the log.", engine.durable)
    yield _gauge("log_waiting_frames", "Frames that are not durable yet.", engine.position - engine.durable)
    yield _gauge("log_size_bytes", "Log on disk.", engine.log_bytes)
    yield _gauge("log_segments", "Log segments in use.", engine.log_segments)
    yield _gauge(
        "snapshot_age_seconds",
        "Age of the newest snapshot of this process.",
        _seconds(engine.snapshot_age_ms),
    )
    yield _gauge("queue_events", "Events that wait to be taken in.", engine.queue)
    yield _gauge("recovered_frames", "Frames replayed when the engine was opened.", engine.recovered_frames)
    steps = [
        ({"direction": "back"}, float(engine.clock_steps_back)),
        ({"direction": "ahead"}, float(engine.clock_steps_ahead)),
    ]
    yield _family("clock_steps", "gauge", "Steps of the wall clock since the engine was opened.", steps)
    yield _gauge(
        "checkpoint_age_seconds",
        "Age of the newest signed checkpoint of the tombstone log.",
        _seconds(engine.checkpoint_age_ms),
    )
    yield _gauge("memory_locked", "1 where fragment keys are in locked memory.", float(engine.memory_locked))


def _channels(channels: Iterable[ChannelHealth]) -> Iterator[str]:
    found = tuple(channels)

    def each(name: str, kind: Literal["counter", "gauge"], text: str, value: str, scale: float = 1.0) -> str:
        samples = [
            ({"channel": one.name}, None if (raw := getattr(one, value)) is None else raw * scale)
            for one in found
        ]
        return _family(name, kind, text, samples)

    yield each("channel_received", "counter", "Events and inputs received.", "total_received")
    yield each("channel_duplicates", "counter", "Events received again.", "total_duplicates")
    dead = [
        ({"channel": one.name, "reason": reason}, float(number))
        for one in found
        for reason, number in one.total_dead.items()
    ]
    yield _family("channel_dead_letters", "counter", "Inputs that became no event, by reason.", dead)
    yield each(
        "channel_expected_events", "gauge", "Usable events expected in the last 24 full hours.", "expected"
    )
    yield each(
        "channel_seen_events", "gauge", "Usable events in the last 24 full hours and this one.", "seen"
    )
    yield each("channel_completeness_ratio", "gauge", "Usable events for each expected one.", "completeness")
    yield each("channel_silent_seconds", "gauge", "Time since the last event.", "silent_ms", 0.001)
    late = [
        ({"channel": one.name, "quantile": quantile}, _seconds(value))
        for one in found
        for quantile, value in (
            ("0.5", one.lateness_p50_ms),
            ("0.99", one.lateness_p99_ms),
            ("1", one.lateness_max_ms),
        )
    ]
    yield _family(
        "channel_lateness_seconds", "gauge", "Arrival after the event's own time, last 24 hours.", late
    )
    missing = [
        ({"channel": one.name, "event": entry.event, "field": entry.field}, entry.missing / entry.events)
        for one in found
        for entry in one.fields
    ]
    yield _family(
        "channel_field_missing_ratio", "gauge", "Events of the last days without a declared field.", missing
    )


def _consent(report: HealthReport) -> Iterator[str]:
    consent = report.consent
    yield _gauge("people", "Persons known.", consent.people)
    share = [
        ({"purpose": purpose}, number / consent.looked_at if consent.looked_at else None)
        for purpose, number in consent.coverage.items()
    ]
    yield _family(
        "consent_coverage_ratio", "gauge", "Persons whose consent allows a use under a purpose.", share
    )
    yield _gauge("consents", "Consents in force among the persons counted.", consent.given)
    ends = [
        ({"within": "24h"}, float(consent.end_24h)),
        ({"within": "7d"}, float(consent.end_7d)),
    ]
    yield _family("consents_ending", "gauge", "Consents that end by themselves within that time.", ends)
    uses = [({"purpose": purpose}, budget.left) for purpose, budget in consent.uses.items()]
    yield _family("consent_uses_left", "gauge", "Uses left of consents with a use budget.", uses)
    left = [({"budget": name, "unit": budget.unit}, budget.left) for name, budget in report.budgets.items()]
    total = [({"budget": name, "unit": budget.unit}, budget.total) for name, budget in report.budgets.items()]
    yield _family("budget_left", "gauge", "What is left of a budget, in its unit.", left)
    yield _family("budget_size", "gauge", "The whole budget, in its unit.", total)


def _fragments(report: HealthReport) -> Iterator[str]:
    fragments = report.fragments
    yield _gauge("fragments_live", "Fragments alive.", fragments.live)
    yield _counter("fragments_minted", "Fragments minted.", fragments.minted)
    yield _counter("leases", "Keys given to CRMs.", fragments.leased)
    yield _counter("tombstones", "Fragments destroyed, by the tombstone log.", fragments.tombstones)
    yield _family("fragments_ended", "counter", "Fragments ended, by reason.", _by_reason(fragments.ended))
    yield _family(
        "fragments_refused",
        "counter",
        "Orders that the mint refused, by reason.",
        _by_reason(fragments.refused),
    )
    yield _gauge("lineage_fragments", "Fragments whose lineage is kept.", report.lineage.kept)
    yield _gauge(
        "lineage_completeness_ratio",
        "Live fragments that could be explained among those tried.",
        report.lineage.completeness,
    )


def _delivery(report: HealthReport) -> Iterator[str]:
    found = report.audiences

    def each(name: str, kind: Literal["counter", "gauge"], text: str, value: str, scale: float = 1.0) -> str:
        samples = [
            ({"audience": one.name}, None if (raw := getattr(one, value)) is None else raw * scale)
            for one in found
        ]
        return _family(name, kind, text, samples)

    yield each("delivery_due", "counter", "Messages that had to arrive.", "due")
    yield each("delivery_delivered", "counter", "Messages that arrived.", "delivered")
    yield each("delivery_opened", "counter", "Fragments leased at least once.", "opened")
    yield each(
        "delivery_expired_unused", "counter", "Fragments that expired without a lease.", "expired_unused"
    )
    yield each("delivery_recalled", "counter", "Fragments recalled.", "recalled")
    yield each("delivery_success_ratio", "gauge", "Delivered for each due message.", "success")
    yield each("delivery_queue_messages", "gauge", "Messages that wait.", "queued")
    yield each(
        "delivery_oldest_seconds", "gauge", "Age of the oldest message that waits.", "oldest_age_ms", 0.001
    )
    failed = [
        ({"audience": one.name, "reason": reason}, float(number))
        for one in found
        for reason, number in one.failed.items()
    ]
    yield _family("delivery_failed", "counter", "Messages given up, by reason.", failed)
    states = [
        ({"endpoint": one.name, "audience": one.audience}, float(one.state != "disabled"))
        for one in report.endpoints
    ]
    yield _family("delivery_endpoint_enabled", "gauge", "0 where an endpoint is switched off.", states)


def _audit(report: HealthReport) -> Iterator[str]:
    transfers = report.transfers
    decided = [
        *(({"allowed": "true", **labels}, number) for labels, number in _by_reason(transfers.total_allowed)),
        *(({"allowed": "false", **labels}, number) for labels, number in _by_reason(transfers.total_refused)),
    ]
    yield _family("transfer_decisions", "counter", "Cross-border decisions, by reason.", decided)
    yield _gauge(
        "transfer_pass_ratio", "Allowed cross-border decisions of the last seven days.", transfers.pass_rate
    )
    yield _counter("audit_lines", "Lines of the audit log.", transfers.audit_lines)
    yield _gauge(
        "audit_checked_lines", "Lines found sound since the engine was opened.", transfers.audit_checked
    )
    yield _gauge(
        "audit_sound", "0 where a line of the audit log does not hold.", float(not transfers.audit_broken)
    )


def _by_reason(counts: Mapping[str, int]) -> list[tuple[Labels, float]]:
    return [({"reason": reason}, float(number)) for reason, number in counts.items()]


def _seconds(value_ms: int | None) -> float | None:
    return None if value_ms is None else value_ms / 1000


def _gauge(name: str, text: str, value: float | None) -> str:
    return _family(name, "gauge", text, [(_NO_LABELS, value)])


def _counter(name: str, text: str, value: float) -> str:
    return _family(name, "counter", text, [(_NO_LABELS, value)])


def _family(
    name: str, kind: Literal["counter", "gauge", "stateset"], text: str, samples: Iterable[Sample]
) -> str:
    """One metric family: its type, its unit where the name ends in one, its help and its samples."""
    full = f"dayfly_{name}"
    unit = name.rpartition("_")[2]
    lines = [f"# TYPE {full} {kind}"]
    if unit in {"seconds", "bytes", "ratio"}:
        lines.append(f"# UNIT {full} {unit}")
    lines.append(f"# HELP {full} {_escaped(text)}")
    suffix = "_total" if kind == "counter" else ""
    for labels, value in samples:
        if value is not None:
            lines.append(f"{full}{suffix}{_labels(labels)} {_number(value)}")
    return "\n".join(lines) + "\n"


def _labels(labels: Labels) -> str:
    if not labels:
        return ""
    return "{" + ",".join(f'{name}="{_escaped(value)}"' for name, value in labels.items()) + "}"


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) else repr(float(value))
