"""Gathering a report from the parts of an open engine, on the engine's thread."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, Protocol

import msgspec

from dayfly.engine.delivery import AudienceCounts, EndpointHealth
from dayfly.engine.errors import DeliveryError, EngineFailed, LineageError
from dayfly.engine.health.attention import Limits, with_attention
from dayfly.engine.health.audit_check import AuditCheck
from dayfly.engine.health.channels import channel_health, check_expected, transfer_health, unplaced
from dayfly.engine.health.consents import ConsentWalk
from dayfly.engine.health.model import (
    AudienceHealth,
    Budget,
    EndpointState,
    EngineHealth,
    FragmentHealth,
    HealthReport,
    LineageHealth,
)

if TYPE_CHECKING:  # the engine holds the board, so the import runs the other way
    from dayfly.engine.durable.running import Running

__all__ = ["Board", "DeliveryCounts", "Watched", "audiences", "completed"]

CHECKED_AT_ONCE: Final = 4
"""Live fragments that are explained for one report."""
STEP_MS: Final = 100
"""How often the count of consents goes a stride on."""
SETTLED_SECONDS: Final = 2
"""Lineage is written when the log is durable; a fragment must be that old to be explained for a report."""
_NOT_DUE: Final = frozenset({"superseded", "recalled", "ended"})
"""Reasons for which a message given up was no longer wanted."""


class DeliveryCounts(Protocol):
    """What a report asks of a delivery; `dayfly.engine.delivery.Delivery` is one."""

    def counts(self, *, now_ms: int) -> Sequence[AudienceCounts]:
        """What became of everything, per audience."""
        ...

    def endpoints(self, *, now_ms: int) -> Sequence[EndpointHealth]:
        """How each endpoint is doing."""
        ...


@dataclass(frozen=True, slots=True)
class Watched:
    """What a board shows beside the engine.

    Attributes:
        expected: Usable events per hour that a channel should bring; the other channels are judged by their own past.
        delivery: Delivery to CRMs.
        budgets: Called for each report: budgets left, by name.
        limits: From where on something needs attention.
    """

    expected: Mapping[str, float] = field(default_factory=lambda: MappingProxyType({}))
    delivery: DeliveryCounts | None = None
    budgets: Callable[[], Mapping[str, Budget]] | None = None
    limits: Limits = field(default_factory=Limits)


class Board:
    """Makes reports of one engine.

    Args:
        running: The engine's parts.
        watched: What is shown beside them.

    Attributes:
        file_error: Why the last report could not be written into the folder; empty when it could.
    """

    def __init__(self, running: "Running", *, watched: Watched | None = None) -> None:
        self._running: Final = running
        self.watched = watched or Watched()
        self.consents: Final = ConsentWalk(running.host.engine.shard)
        self.audit: Final = AuditCheck(running.views.audit.path)
        self.file_error = ""
        self._checked = self._explained = 0
        self._written = 0
        self._written_ms: int | None = None
        self._next_step_ms = 0
        self._last: HealthReport | None = None

    def watch(self, watched: Watched) -> None:
        """Show other things from the next report on.

        Raises:
            InvalidArgument: an expectation names no declared channel, or is no number above zero.
        """
        # A policy may be published that no longer declares one of the channels: that is not refused then, only here.
        check_expected(watched.expected, self._running.host.engine.shard.policy.catalog)
        self.watched = watched

    def after_turn(self, now_ms: int) -> None:
        """Go on with what is counted in strides; on the engine's thread."""
        keeper = self._running.keeper
        if keeper.written != self._written:
            self._written, self._written_ms = keeper.written, now_ms
        if now_ms >= self._next_step_ms:
            self._next_step_ms = now_ms + STEP_MS
            self.consents.step(now_ms)

    def report(self, expected: Mapping[str, float] | None = None) -> HealthReport:
        """A report; from any thread. Of an engine that has failed, the last one with the failure.

        Args:
            expected: Instead of what is watched: usable events per hour, by channel.

        Raises:
            InvalidArgument: an expectation names no declared channel, or is no number above zero.
            EngineClosed: it is closed.
            EngineBusy: too much waits.
        """

        def run(now_ms: int) -> HealthReport:
            if expected is not None:
                check_expected(expected, self._running.host.engine.shard.policy.catalog)
            return self.gather(now_ms, expected)

        try:
            gathered = self._running.do(run)
        except EngineFailed:
            if self._last is None:
                raise
            # The state may differ from the log now, so what was gathered before is shown.
            failed = msgspec.structs.replace(
                self._last.engine, state="failed", trouble=str(self._running.failure or "")
            )
            gathered = msgspec.structs.replace(self._last, engine=failed)
        return completed(gathered, self.watched, self.file_error)

    def last_report(self, now_ms: int) -> HealthReport:
        """The report of an engine whose thread has ended, in order or not."""
        if self._running.failure is not None:
            return self.report()
        return completed(self.gather(now_ms), self.watched, self.file_error)

    def gather(self, now_ms: int, expected: Mapping[str, float] | None = None) -> HealthReport:
        """What the engine itself knows; on its thread, or when that has ended."""
        host = self._running.host
        policy = host.engine.shard.policy
        due = self.watched.expected if expected is None else expected
        self._last = HealthReport(
            at_ms=now_ms,
            policy_version=policy.version,
            engine=self._engine(now_ms),
            channels=channel_health(host.meter, policy.catalog, now_ms, due),
            unplaced=unplaced(host.meter, policy.catalog.channels),
            consent=self.consents.health(now_ms),
            fragments=self._fragments(),
            audiences=(),
            endpoints=(),
            lineage=self._lineage(now_ms),
            transfers=transfer_health(
                host.meter,
                now_ms,
                audit_lines=host.standing.audit.lines,
                audit_checked=self.audit.checked,
                audit_broken=self.audit.broken,
            ),
            budgets={},
        )
        return self._last

    def _engine(self, now_ms: int) -> EngineHealth:
        running = self._running
        log, clock, newest = running.log.status(), running.clock, running.stones.newest
        failure = running.failure
        trouble = failure or log.trouble
        return EngineHealth(
            state="failed" if failure is not None else "closed" if running.closed else "running",
            position=log.newest,
            durable=log.durable,
            log_bytes=log.size_bytes,
            log_segments=log.segments,
            snapshot_position=running.keeper.newest,
            snapshot_age_ms=None if self._written_ms is None else max(0, now_ms - self._written_ms),
            snapshot_error="" if running.keeper.last_error is None else str(running.keeper.last_error),
            recovered_frames=running.recovered.frames,
            recovered_events=running.recovered.events,
            queue=len(running.queue),
            feed=len(running.feed),
            clock_steps_back=clock.steps_back,
            clock_steps_ahead=clock.steps_ahead,
            clock_largest_step_ms=clock.largest_step_ms,
            clock_behind_ms=clock.behind_ms,
            checkpoint_size=0 if newest is None else newest.size,
            checkpoint_age_ms=None if newest is None else max(0, now_ms - newest.at_ms),
            memory_locked=running.host.engine.fragments.memory_locked,
            trouble="" if trouble is None else str(trouble),
        )

    def _fragments(self) -> FragmentHealth:
        fragments, counts = self._running.host.engine.fragments, self._running.host.standing.counts
        return FragmentHealth(
            live=fragments.live_count(),
            minted=fragments.minted,
            leased=counts["leased"],
            tombstones=fragments.tombstones,
            ended=_under(counts, "ended."),
            refused=_under(counts, "unminted."),
        )

    def _lineage(self, now_ms: int) -> LineageHealth:
        """Explain a few live fragments, the oldest, as an auditor would ask for."""
        host = self._running.host
        settled = now_ms // 1000 - SETTLED_SECONDS
        for alive in islice(host.standing.alive.values(), CHECKED_AT_ONCE):
            if alive.minted.iat <= settled:
                self._checked += 1
                self._explained += self._explains(alive.minted.jti)
        return LineageHealth(
            kept=len(self._running.views.lineage.vault), checked=self._checked, explained=self._explained
        )

    def _explains(self, jti: str) -> bool:
        try:
            return bool(self._running.host.engine.explain_all(jti))
        except LineageError:
            return False


def completed(report: HealthReport, watched: Watched, file_error: str) -> HealthReport:
    """A report with what others know, which may take its time: delivery and budgets; and what needs attention.

    Args:
        report: What the engine itself knows.
        watched: What is shown beside it.
        file_error: Why the last report could not be written; empty when it could.
    """
    delivery, budgets = watched.delivery, watched.budgets
    now_ms = report.at_ms
    errors: dict[str, str] = {}
    if file_error:
        errors["health_file"] = f"the last report could not be written: {file_error}"
    try:
        if delivery is not None:
            report = msgspec.structs.replace(
                report,
                audiences=audiences(delivery.counts(now_ms=now_ms)),
                endpoints=_endpoints(delivery.endpoints(now_ms=now_ms)),
            )
    except DeliveryError as error:
        errors["delivery_unknown"] = f"delivery cannot be asked: {error}"
    try:
        if budgets is not None:
            report = msgspec.structs.replace(report, budgets=dict(budgets()))
    except Exception as error:  # noqa: BLE001 - whatever others' code raises, the engine's own figures are shown
        errors["budgets_unknown"] = f"budgets cannot be asked: {type(error).__name__}: {error}"
    return with_attention(report, watched.limits, errors=errors)


def audiences(counts: Iterable[AudienceCounts]) -> tuple[AudienceHealth, ...]:
    """Delivery's counts, with what of them was due."""
    return tuple(_audience(item) for item in counts)


def _audience(item: AudienceCounts) -> AudienceHealth:
    delivered = item.delivered + item.handed
    failed = dict(sorted(item.failed.items()))
    due = delivered + sum(number for reason, number in failed.items() if reason not in _NOT_DUE)
    return AudienceHealth(
        name=item.audience,
        due=due,
        delivered=delivered,
        success=delivered / due if due else None,
        opened=item.opened,
        expired_unused=item.expired_unused,
        recalled=item.recalled,
        failed=failed,
        queued=item.queued,
        oldest_age_ms=item.oldest_age_ms,
    )


def _endpoints(found: Iterable[EndpointHealth]) -> tuple[EndpointState, ...]:
    return tuple(
        EndpointState(name=item.name, audience=item.audience, state=str(item.state), queued=item.queued)
        for item in found
    )


def _under(counts: Mapping[str, int], prefix: str) -> dict[str, int]:
    """Counts whose name begins so, under the rest of it."""
    return {
        name.removeprefix(prefix): number
        for name, number in sorted(counts.items())
        if name.startswith(prefix) and number
    }
