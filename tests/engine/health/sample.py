"""A report with something of everything, made by hand."""

import math
from typing import Any

import msgspec

from dayfly.engine.health.model import (
    Attention,
    AudienceHealth,
    Budget,
    ChannelHealth,
    ConsentHealth,
    EndpointState,
    EngineHealth,
    FieldHealth,
    FragmentHealth,
    HealthReport,
    Hour,
    LineageHealth,
    Point,
    TransferHealth,
)

NOW = 1_795_358_400_000 + 1_234_000
HOUR = 3_600_000
HOSTILE = 'we"b\\<b>\n'
"""A name that every form of the report has to escape."""


def sample_hours(scale: float, *, fails_from: int = 99) -> tuple[Hour, ...]:
    """A day with a quiet night and a busy evening, and the hour that runs."""
    first = NOW // HOUR * HOUR - 24 * HOUR
    hours = []
    for index in range(25):
        usual = scale * (1.1 - math.cos((index - 3) / 24 * 2 * math.pi))
        seen = 0 if index >= fails_from else round(usual * (0.9 + 0.2 * ((index * 7) % 5) / 5))
        running = index == 24
        hours.append(
            Hour(
                start_ms=first + index * HOUR,
                seen=seen // 3 if running else seen,
                lost=round(usual * 0.06),
                expected=None if running else round(usual),
            )
        )
    return tuple(hours)


def sample_channel(name: str, scale: float, **changes: Any) -> ChannelHealth:
    hours = changes.pop("hours", None) or sample_hours(scale)
    seen, lost = sum(hour.seen for hour in hours), sum(hour.lost for hour in hours)
    expected = sum(hour.expected or 0.0 for hour in hours)
    values: dict[str, Any] = {
        "name": name,
        "received": seen + lost,
        "seen": seen,
        "duplicates": lost // 2,
        "undeclared": 7,
        "not_collected": 3,
        "dead": {"bad_time": lost - lost // 2 - 1, "not_json": 1},
        "expected": expected,
        "basis": "history",
        "completeness": sum(hour.seen for hour in hours[:-1]) / expected if expected else None,
        "lateness_p50_ms": 215,
        "lateness_p99_ms": 61_000,
        "lateness_max_ms": 86_400_000,
        "silent_ms": 1_250,
        "total_received": 12 * (seen + lost),
        "total_dead": {"bad_time": 6 * lost - 5, "not_json": 5},
        "total_duplicates": 6 * lost,
        "hours": hours,
        "fields": (
            FieldHealth(event="Product Viewed", field="category", required=True, events=900, missing=0),
            FieldHealth(event="Product Viewed", field="room", required=False, events=900, missing=540),
        ),
    }
    return ChannelHealth(**{**values, **changes})


def sample_report(**changes: Any) -> HealthReport:
    """A shop whose marketplace has gone silent and whose European CRM refuses much."""
    values: dict[str, Any] = {
        "at_ms": NOW,
        "policy_version": 7,
        "engine": EngineHealth(
            state="running",
            position=1_204_411,
            durable=1_204_409,
            log_bytes=73_400_320,
            log_segments=5,
            snapshot_position=1_180_000,
            snapshot_age_ms=127_000,
            snapshot_error="",
            recovered_frames=4_211,
            recovered_events=96_040,
            queue=12,
            feed=8_041,
            clock_steps_back=1,
            clock_steps_ahead=0,
            clock_largest_step_ms=-420,
            clock_behind_ms=0,
            checkpoint_size=18_902,
            checkpoint_age_ms=640,
            memory_locked=True,
            trouble="",
        ),
        "channels": (
            sample_channel("app", 820.0),
            sample_channel("web", 410.0, basis="declared"),
            sample_channel("wifi", 95.0),
            sample_channel(
                "marketplace", 60.0, hours=sample_hours(60.0, fails_from=15), silent_ms=36_000_000
            ),
        ),
        "unplaced": {"foreign_consent": 2},
        "consent": ConsentHealth(
            at_ms=NOW - 9_000,
            people=41_207,
            looked_at=41_200,
            coverage={
                "marketing.winback": 9_100,
                "service.installation": 22_640,
                "service.order": 40_010,
                "service.recommendation": 30_488,
            },
            any_purpose=40_388,
            given=71_204,
            end_24h=214,
            end_7d=1_902,
            uses={"service.installation": Budget(left=10_211, total=14_000, unit="uses")},
        ),
        "fragments": FragmentHealth(
            live=803,
            minted=19_705,
            leased=15_110,
            tombstones=18_902,
            ended={
                "expired": 11_020,
                "expired_unused": 5_480,
                "superseded": 2_002,
                "used": 300,
                "withdrawn": 100,
            },
            refused={"expired": 12, "withdrawn": 61},
        ),
        "audiences": (
            AudienceHealth(
                name="crm-cn-1",
                due=14_000,
                delivered=13_972,
                success=13_972 / 14_000,
                opened=11_240,
                expired_unused=2_004,
                recalled=811,
                failed={"expired": 28, "superseded": 61},
                queued=9,
                oldest_age_ms=1_900,
            ),
            AudienceHealth(
                name="crm-eu-1",
                due=5_600,
                delivered=4_312,
                success=0.77,
                opened=2_040,
                expired_unused=1_406,
                recalled=96,
                failed={"http_403": 1_288},
                queued=41,
                oldest_age_ms=88_000,
            ),
        ),
        "endpoints": (EndpointState(name="eu-hook", audience="crm-eu-1", state="open", queued=41),),
        "lineage": LineageHealth(kept=19_600, checked=400, explained=400),
        "transfers": TransferHealth(
            allowed={"allowed": 4_120, "domestic": 15_020},
            refused={"threshold": 380},
            total_allowed={"allowed": 9_120, "domestic": 45_020},
            total_refused={"threshold": 420},
            audit_lines=61_220,
            audit_checked=61_220,
            audit_broken="",
        ),
        "budgets": {"sandbox rho": Budget(left=0.31, total=1.0, unit="rho")},
        "attention": (
            Attention(
                code="channel_incomplete",
                what="channel marketplace brought 55.1% of the 1,584 events expected in 24 hours",
                way_out="check that its source still sends; correct the expectation if less is usual now",
            ),
            Attention(
                code="delivery_failing",
                what="crm-eu-1 got 77.0% of 5,600 due messages",
                way_out="look at the reasons, and ask the CRM's operator",
            ),
        ),
    }
    return HealthReport(**{**values, **changes})


def sample_history() -> tuple[Point, ...]:
    """A day of points, five minutes apart."""
    return tuple(
        Point(
            at_ms=NOW - (288 - index) * 300_000,
            live=round(480 + 320 * math.sin(index / 46 - 4.7) + 20 * math.sin(index / 3)),
            received=index * 1_000,
            minted=index * 60,
            queue=index % 9,
        )
        for index in range(288)
    )


def well(report: HealthReport) -> HealthReport:
    """The report without anything to look at."""
    return msgspec.structs.replace(report, attention=())
