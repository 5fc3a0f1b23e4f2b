"""Each limit, at it and past it."""

from typing import Any

import msgspec
import pytest

from dayfly.engine.health.attention import ERRORS, Limits, with_attention
from dayfly.engine.health.model import Budget, EndpointState, FieldHealth, HealthReport
from dayfly.privacy.errors import InvalidArgument

from .sample import HOUR, sample_channel, sample_report

QUIET = Limits(completeness=0, dead=1, success=0, transfers=0, budget=0, oldest_ms=10**9)


def codes(report: HealthReport, limits: Limits = QUIET, **options: Any) -> list[str]:
    return [item.code for item in with_attention(report, limits, **options).attention]


def with_part(part: str, **changes: Any) -> HealthReport:
    report = sample_report()
    return sample_report(**{part: msgspec.structs.replace(getattr(report, part), **changes)})


def with_audience(**changes: Any) -> HealthReport:
    return sample_report(audiences=(msgspec.structs.replace(sample_report().audiences[0], **changes),))


def with_channel(**changes: Any) -> HealthReport:
    return sample_report(channels=(sample_channel("app", 10.0, **changes),))


def field_report(missing: int) -> HealthReport:
    entry = FieldHealth(event="Viewed", field="id", required=False, events=100, missing=missing)
    return with_channel(fields=(entry,))


def test_a_healthy_report_needs_no_attention() -> None:
    assert codes(sample_report()) == []


CASES = [
    (with_part("engine"), with_part("engine", state="failed", trouble="x"), QUIET, "engine_failed"),
    (with_part("engine"), with_part("engine", trouble="disk full"), QUIET, "log_trouble"),
    (with_part("engine"), with_part("engine", snapshot_error="disk full"), QUIET, "snapshot_failed"),
    (
        with_part("engine", snapshot_age_ms=24 * HOUR),
        with_part("engine", snapshot_age_ms=24 * HOUR + 1),
        QUIET,
        "snapshot_old",
    ),
    (with_part("engine", queue=32_768), with_part("engine", queue=32_769), QUIET, "queue_long"),
    (with_part("engine"), with_part("engine", clock_behind_ms=1), QUIET, "clock_behind"),
    (with_part("engine"), with_part("engine", memory_locked=False), QUIET, "memory_unlocked"),
    (with_part("fragments"), with_part("fragments", minted=19_706), QUIET, "unbalanced"),
    (with_part("transfers"), with_part("transfers", audit_broken="line=7"), QUIET, "audit_broken"),
    (with_part("lineage"), with_part("lineage", explained=399), QUIET, "unexplained"),
    (
        with_audience(success=0.95, due=20),
        with_audience(success=0.949, due=20),
        Limits(completeness=0, dead=1),
        "delivery_failing",
    ),
    (
        with_audience(success=0.5, due=19),
        with_audience(success=0.5, due=20),
        Limits(),
        "delivery_failing",
    ),
    (
        with_audience(oldest_age_ms=300_000),
        with_audience(oldest_age_ms=300_001),
        Limits(completeness=0, dead=1),
        "delivery_waiting",
    ),
    (
        sample_report(),
        sample_report(endpoints=(EndpointState(name="hook", audience="crm", state="disabled", queued=0),)),
        QUIET,
        "endpoint_disabled",
    ),
    (
        with_channel(completeness=0.8),
        with_channel(completeness=0.799),
        Limits(dead=1),
        "channel_incomplete",
    ),
    (
        with_channel(completeness=0.1, expected=19.9),
        with_channel(completeness=0.1, expected=20.0),
        Limits(dead=1),
        "channel_incomplete",
    ),
    (
        with_channel(received=100, dead={"not_json": 5}),
        with_channel(received=100, dead={"not_json": 6}),
        Limits(completeness=0),
        "dead_letters",
    ),
    (
        with_channel(received=19, dead={"not_json": 19}),
        with_channel(received=20, dead={"not_json": 20}),
        Limits(completeness=0),
        "dead_letters",
    ),
    (field_report(30), field_report(31), Limits(completeness=0, dead=1, missing=0.3), "field_missing"),
    (
        with_part("transfers", allowed={"domestic": 10}, refused={"expired": 10}),
        with_part("transfers", allowed={"domestic": 10}, refused={"expired": 11}),
        Limits(completeness=0, dead=1, success=0),
        "transfers_refused",
    ),
    (
        sample_report(budgets={"rho": Budget(left=1, total=10, unit="rho")}),
        sample_report(budgets={"rho": Budget(left=0.99, total=10, unit="rho")}),
        Limits(completeness=0, dead=1, success=0),
        "budget_low",
    ),
]


@pytest.mark.parametrize(
    ("well", "ill", "limits", "code"), CASES, ids=[f"{number}-{case[3]}" for number, case in enumerate(CASES)]
)
def test_a_limit_is_passed_only_beyond_it(
    well: HealthReport, ill: HealthReport, limits: Limits, code: str
) -> None:
    assert code not in codes(well, limits)
    assert code in codes(ill, limits)


def test_every_field_may_be_missing_unless_a_limit_says_otherwise() -> None:
    assert "field_missing" not in codes(field_report(100), Limits())


@pytest.mark.parametrize("code", ERRORS)
def test_what_goes_wrong_with_the_board_itself_is_a_finding(code: str) -> None:
    assert codes(sample_report(), errors={code: "it went wrong"}) == [code]


def test_every_finding_says_what_to_do() -> None:
    for item in with_attention(sample_report(), Limits(budget=1, missing=0)).attention:
        assert item.what
        assert item.way_out


@pytest.mark.parametrize("name", ["completeness", "dead", "missing", "success", "transfers", "budget"])
@pytest.mark.parametrize("value", [-0.01, 1.01, float("nan")])
def test_a_share_lies_between_nothing_and_all(name: str, value: float) -> None:
    with pytest.raises(InvalidArgument, match=f"{name}=.* must be 0 to 1; give a share"):
        Limits(**{name: value})  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["oldest_ms", "queue", "snapshot_age_ms", "few"])
def test_a_number_is_not_below_nothing(name: str) -> None:
    with pytest.raises(InvalidArgument, match=f"{name}=-1 must be at least 0; see Limits"):
        Limits(**{name: -1})
