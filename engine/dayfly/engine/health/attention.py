"""What of a report needs somebody's attention, and what to do about it."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

import msgspec

from dayfly.engine.health.meter import DAY_MS
from dayfly.engine.health.model import Attention, ChannelHealth, HealthReport
from dayfly.privacy.errors import InvalidArgument

__all__ = ["ERRORS", "Limits", "with_attention"]

ERRORS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "health_file": "free disk space, and check that the folder may be written",
        "delivery_unknown": "open delivery anew, or take it off the board",
        "budgets_unknown": "correct the function that gives the budgets",
    }
)
"""Errors of the board itself, and the way out of each."""


@dataclass(frozen=True, slots=True)
class Limits:
    """From where on something needs attention; shares are 0 to 1.

    Attributes:
        completeness: Least share of the expected events of a channel over 24 hours.
        dead: Largest share of dead letters in what a channel sent.
        missing: Largest share of events without a declared field; 1, as many fields are optional: never.
        success: Least share of due messages delivered.
        oldest_ms: Longest that a message may wait for delivery.
        transfers: Least share of transfer decisions that were allowed.
        budget: Least share of a budget left.
        queue: Most events waiting to be taken in.
        snapshot_age_ms: Oldest snapshot, where this process has written one.
        few: Below so many events or messages no share is judged.

    Raises:
        InvalidArgument: a limit is out of its range.
    """

    completeness: float = 0.8
    dead: float = 0.05
    missing: float = 1.0
    success: float = 0.95
    oldest_ms: int = 300_000
    transfers: float = 0.5
    budget: float = 0.1
    queue: int = 32_768
    snapshot_age_ms: int = DAY_MS
    few: int = 20

    def __post_init__(self) -> None:
        """Check all ranges."""
        for name in ("completeness", "dead", "missing", "success", "transfers", "budget"):
            if not 0 <= getattr(self, name) <= 1:
                raise InvalidArgument(f"{name}={getattr(self, name)!r} must be 0 to 1; give a share")
        for name in ("oldest_ms", "queue", "snapshot_age_ms", "few"):
            if getattr(self, name) < 0:
                raise InvalidArgument(f"{name}={getattr(self, name)!r} must be at least 0; see Limits")


def with_attention(
    report: HealthReport, limits: Limits, *, errors: Mapping[str, str] = MappingProxyType({})
) -> HealthReport:
    """The report with everything in it that passes a limit.

    Args:
        report: What was gathered.
        limits: From where on something needs attention.
        errors: What went wrong while it was gathered and written, by code: a key of `ERRORS`.
    """
    found = (
        *_engine(report, limits),
        *(_item(code, what, ERRORS[code]) for code, what in errors.items()),
        *_promises(report),
        *_audiences(report, limits),
        *(item for channel in report.channels for item in _channel(channel, limits)),
        *_budgets(report, limits),
    )
    return msgspec.structs.replace(report, attention=found)


def _engine(report: HealthReport, limits: Limits) -> Iterator[Attention]:
    engine = report.engine
    if engine.state == "failed":
        yield _item("engine_failed", f"the engine has failed: {engine.trouble}", "open the store again")
    elif engine.trouble:
        yield _item(
            "log_trouble", f"the log reports: {engine.trouble}", "free disk space or repair the disk now"
        )
    if engine.snapshot_error:
        yield _item(
            "snapshot_failed",
            f"the last snapshot could not be written: {engine.snapshot_error}",
            "free disk space; until then the log grows and recovery takes longer",
        )
    if (engine.snapshot_age_ms or 0) > limits.snapshot_age_ms:
        hours = (engine.snapshot_age_ms or 0) // 3_600_000
        yield _item(
            "snapshot_old",
            f"the newest snapshot is {hours} hours old",
            "look at snapshot_seconds and the disk",
        )
    if engine.queue > limits.queue:
        yield _item(
            "queue_long",
            f"{engine.queue:,} events wait to be taken in",
            "submit more slowly or add a machine",
        )
    if engine.clock_behind_ms > 0:
        yield _item(
            "clock_behind",
            f"the wall clock is {engine.clock_behind_ms:,} ms behind the engine's time, which stands still",
            "set the clock of the machine and keep it synchronised",
        )
    if not engine.memory_locked:
        yield _item(
            "memory_unlocked",
            "fragment keys are in memory that may be swapped out",
            "raise the limit of locked memory (ulimit -l)",
        )


def _promises(report: HealthReport) -> Iterator[Attention]:
    """What must hold without a limit."""
    fragments, transfers, lineage = report.fragments, report.transfers, report.lineage
    if not fragments.balanced:
        yield _item(
            "unbalanced",
            f"{fragments.minted} minted is not {fragments.live} alive + {fragments.tombstones} destroyed",
            "stop the engine and report a defect: a fragment was lost from the books",
        )
    if transfers.audit_broken:
        yield _item(
            "audit_broken",
            f"the audit log does not hold: {transfers.audit_broken}",
            "find out who changed the file, and restore it from a backup",
        )
    if lineage.explained < lineage.checked:
        yield _item(
            "unexplained",
            f"{lineage.checked - lineage.explained} of {lineage.checked} fragments cannot be explained",
            "check the disk of lineage.db, and restore it from a backup",
        )


def _audiences(report: HealthReport, limits: Limits) -> Iterator[Attention]:
    for audience in report.audiences:
        if audience.success is not None and audience.due >= limits.few and audience.success < limits.success:
            yield _item(
                "delivery_failing",
                f"{audience.name} got {audience.success:.1%} of {audience.due:,} due messages",
                "look at the reasons, and ask the CRM's operator",
            )
        if audience.oldest_age_ms > limits.oldest_ms:
            yield _item(
                "delivery_waiting",
                f"a message for {audience.name} waits since {audience.oldest_age_ms // 1000:,} s",
                "check that its endpoint answers; fragments expire meanwhile",
            )
    for endpoint in report.endpoints:
        if endpoint.state == "disabled":
            yield _item(
                "endpoint_disabled",
                f"endpoint {endpoint.name} answered 410 and gets nothing any more",
                "enable it when the CRM wants fragments again, or take it out of the settings",
            )


def _channel(channel: ChannelHealth, limits: Limits) -> Iterator[Attention]:
    enough = channel.expected is not None and channel.expected >= limits.few
    if enough and channel.completeness is not None and channel.completeness < limits.completeness:
        yield _item(
            "channel_incomplete",
            f"channel {channel.name} brought {channel.completeness:.1%} of the {channel.expected:,.0f} events expected"
            " in 24 hours",
            "check that its source still sends; correct the expectation if less is usual now",
        )
    dead = sum(channel.dead.values())
    if channel.received >= limits.few and dead > limits.dead * channel.received:
        worst = max(channel.dead, key=lambda reason: channel.dead[reason])
        yield _item(
            "dead_letters",
            f"{dead:,} of {channel.received:,} events of channel {channel.name} are dead letters, most of them {worst}",
            "correct the source, or the policy's declaration, and send them again",
        )
    for entry in channel.fields:
        if entry.events >= limits.few and entry.missing > limits.missing * entry.events:
            yield _item(
                "field_missing",
                f"{entry.missing:,} of {entry.events:,} {entry.event!r} of channel {channel.name} lack {entry.field}",
                "correct the source, or take the field out of the rules that read it",
            )


def _budgets(report: HealthReport, limits: Limits) -> Iterator[Attention]:
    transfers = report.transfers
    judged = sum(transfers.allowed.values()) + sum(transfers.refused.values())
    if transfers.pass_rate is not None and judged >= limits.few and transfers.pass_rate < limits.transfers:
        worst = max(transfers.refused, key=lambda reason: transfers.refused[reason])
        yield _item(
            "transfers_refused",
            f"{transfers.pass_rate:.1%} of {judged:,} cross-border decisions were allowed, most refusals: {worst}",
            "check the transfer table's rows, their validity and the head-counts",
        )
    for name, budget in report.budgets.items():
        if budget.left < limits.budget * budget.total:
            yield _item(
                "budget_low",
                f"budget {name} has {budget.left:g} of {budget.total:g} {budget.unit} left",
                "plan with what is left; it is not refilled",
            )


def _item(code: str, what: str, way_out: str) -> Attention:
    return Attention(code=code, what=what, way_out=way_out)
