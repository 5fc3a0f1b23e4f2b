"""The reports of several shards as one report of the engine that they make."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import msgspec

from dayfly.engine.health.channels import channel_health, transfer_health, unplaced
from dayfly.engine.health.meter import ChannelMeter
from dayfly.engine.health.model import (
    Budget,
    ConsentHealth,
    EngineHealth,
    FragmentHealth,
    HealthReport,
    LineageHealth,
)
from dayfly.engine.policy.model import Policy

__all__ = ["joined_report"]


def joined_report(
    reports: Sequence[tuple[HealthReport, bytes]],
    policy: Policy,
    now_ms: int,
    expected: Mapping[str, float],
    *,
    queue: int,
) -> HealthReport:
    """One report: what is counted is added, what is timed is the worst.

    Args:
        reports: Of each shard, with its meter as bytes: shares and quantiles are made anew from all counts.
        policy: In force.
        now_ms: The instant of the report.
        expected: Usable events per hour that were declared, by channel.
        queue: Events that wait for the router.
    """
    parts = [report for report, _ in reports]
    meter = ChannelMeter.joining((data for _, data in reports), policy.catalog)
    broken = [
        f"shard {number}: {part.transfers.audit_broken}"
        for number, part in enumerate(parts)
        if part.transfers.audit_broken
    ]
    return HealthReport(
        at_ms=now_ms,
        policy_version=policy.version,
        engine=_engine([part.engine for part in parts], queue),
        channels=channel_health(meter, policy.catalog, now_ms, expected),
        unplaced=unplaced(meter, policy.catalog.channels),
        consent=_consent([part.consent for part in parts]),
        fragments=_fragments([part.fragments for part in parts]),
        audiences=(),
        endpoints=(),
        lineage=LineageHealth(
            kept=sum(part.lineage.kept for part in parts),
            checked=sum(part.lineage.checked for part in parts),
            explained=sum(part.lineage.explained for part in parts),
        ),
        transfers=transfer_health(
            meter,
            now_ms,
            audit_lines=sum(part.transfers.audit_lines for part in parts),
            audit_checked=sum(part.transfers.audit_checked for part in parts),
            audit_broken="; ".join(broken),
        ),
        budgets={},
    )


def _engine(parts: Sequence[EngineHealth], queue: int) -> EngineHealth:
    def worst(ages: Iterable[int | None]) -> int | None:
        return max((age for age in ages if age is not None), default=None)

    def told(texts: Iterable[str]) -> str:
        return "; ".join(f"shard {number}: {text}" for number, text in enumerate(texts) if text)

    return EngineHealth(
        state="failed" if any(part.state == "failed" for part in parts) else parts[0].state,
        position=sum(part.position for part in parts),
        durable=sum(part.durable for part in parts),
        log_bytes=sum(part.log_bytes for part in parts),
        log_segments=sum(part.log_segments for part in parts),
        snapshot_position=sum(part.snapshot_position for part in parts),
        snapshot_age_ms=worst(part.snapshot_age_ms for part in parts),
        snapshot_error=told(part.snapshot_error for part in parts),
        recovered_frames=sum(part.recovered_frames for part in parts),
        recovered_events=sum(part.recovered_events for part in parts),
        queue=queue + sum(part.queue for part in parts),
        feed=sum(part.feed for part in parts),
        clock_steps_back=max(part.clock_steps_back for part in parts),
        clock_steps_ahead=max(part.clock_steps_ahead for part in parts),
        clock_largest_step_ms=max(part.clock_largest_step_ms for part in parts),
        clock_behind_ms=max(part.clock_behind_ms for part in parts),
        checkpoint_size=sum(part.checkpoint_size for part in parts),
        checkpoint_age_ms=worst(part.checkpoint_age_ms for part in parts),
        memory_locked=all(part.memory_locked for part in parts),
        trouble=told(part.trouble for part in parts),
    )


def _consent(parts: Sequence[ConsentHealth]) -> ConsentHealth:
    uses: dict[str, Budget] = {}
    for part in parts:
        for purpose, budget in part.uses.items():
            known = uses.get(purpose, msgspec.structs.replace(budget, left=0, total=0))
            uses[purpose] = msgspec.structs.replace(
                known, left=known.left + budget.left, total=known.total + budget.total
            )
    return ConsentHealth(
        at_ms=min(part.at_ms for part in parts),
        people=sum(part.people for part in parts),
        looked_at=sum(part.looked_at for part in parts),
        coverage=_added(part.coverage for part in parts),
        any_purpose=sum(part.any_purpose for part in parts),
        given=sum(part.given for part in parts),
        end_24h=sum(part.end_24h for part in parts),
        end_7d=sum(part.end_7d for part in parts),
        uses=dict(sorted(uses.items())),
    )


def _fragments(parts: Sequence[FragmentHealth]) -> FragmentHealth:
    return FragmentHealth(
        live=sum(part.live for part in parts),
        minted=sum(part.minted for part in parts),
        leased=sum(part.leased for part in parts),
        tombstones=sum(part.tombstones for part in parts),
        ended=_added(part.ended for part in parts),
        refused=_added(part.refused for part in parts),
    )


def _added(counts: Iterable[Mapping[str, int]]) -> dict[str, int]:
    total: Counter[str] = Counter()
    for one in counts:
        total.update(one)
    return dict(sorted(total.items()))
