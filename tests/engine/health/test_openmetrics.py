"""The text, read by the reference parser of the format."""

import msgspec
import pytest

from dayfly.engine.health import render_openmetrics
from dayfly.engine.health.model import HealthReport

from .sample import HOSTILE, NOW, sample_channel, sample_report

parser = pytest.importorskip(
    "prometheus_client.openmetrics.parser", reason="prometheus-client of the test group is not installed"
)

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def samples(report: HealthReport) -> Samples:
    found: Samples = {}
    for family in parser.text_string_to_metric_families(render_openmetrics(report)):
        assert family.name.startswith("dayfly_")
        assert family.documentation
        for sample in family.samples:
            key = (sample.name, frozenset(sample.labels.items()))
            assert key not in found
            found[key] = sample.value
    return found


def value(found: Samples, name: str, /, **labels: str) -> float | None:
    return found.get((f"dayfly_{name}", frozenset(labels.items())))


def test_the_figures_are_those_of_the_report() -> None:
    report = sample_report()
    found = samples(report)
    app = report.channels[0]
    assert value(found, "engine", dayfly_engine="running") == 1
    assert value(found, "engine", dayfly_engine="failed") == 0
    assert value(found, "report_timestamp_seconds") == NOW / 1000
    assert value(found, "log_frames_total") == 1_204_409
    assert value(found, "log_waiting_frames") == 2
    assert value(found, "log_size_bytes") == 73_400_320
    assert value(found, "snapshot_age_seconds") == 127
    assert value(found, "channel_received_total", channel="app") == app.total_received
    assert value(found, "channel_dead_letters_total", channel="app", reason="not_json") == 5
    assert value(found, "channel_completeness_ratio", channel="app") == app.completeness
    assert value(found, "channel_lateness_seconds", channel="app", quantile="0.99") == 61
    assert value(
        found, "channel_field_missing_ratio", channel="app", event="Product Viewed", field="room"
    ) == pytest.approx(0.6)
    assert value(found, "consent_coverage_ratio", purpose="service.order") == 40_010 / 41_200
    assert value(found, "consents_ending", within="7d") == 1_902
    assert value(found, "consent_uses_left", purpose="service.installation") == 10_211
    assert value(found, "budget_left", budget="sandbox rho", unit="rho") == 0.31
    assert value(found, "fragments_live") == 803
    assert value(found, "fragments_ended_total", reason="expired_unused") == 5_480
    assert value(found, "delivery_success_ratio", audience="crm-eu-1") == 0.77
    assert value(found, "delivery_failed_total", audience="crm-eu-1", reason="http_403") == 1_288
    assert value(found, "lineage_completeness_ratio") == 1
    assert value(found, "transfer_decisions_total", allowed="false", reason="threshold") == 420
    assert value(found, "audit_sound") == 1


def test_what_is_unknown_has_no_sample() -> None:
    channel = sample_channel("app", 10.0, expected=None, completeness=None, silent_ms=None)
    found = samples(sample_report(channels=(channel,)))
    assert value(found, "channel_completeness_ratio", channel="app") is None
    assert value(found, "channel_silent_seconds", channel="app") is None
    assert value(found, "channel_seen_events", channel="app") == channel.seen


def test_names_with_quotes_and_line_ends_are_escaped() -> None:
    channel = sample_channel(HOSTILE, 10.0)
    found = samples(sample_report(channels=(channel,)))
    assert value(found, "channel_seen_events", channel=HOSTILE) == channel.seen


def test_the_text_ends_as_the_format_demands() -> None:
    text = render_openmetrics(sample_report())
    assert text.endswith("\n# EOF\n")
    assert text.count("# EOF") == 1
    with pytest.raises(ValueError, match="EOF"):
        list(parser.text_string_to_metric_families(text.removesuffix("# EOF\n")))


def test_units_are_told_where_a_name_ends_in_one() -> None:
    families = parser.text_string_to_metric_families(render_openmetrics(sample_report()))
    units = {family.name: family.unit for family in families}
    for name, unit in units.items():
        assert unit == next((one for one in ("seconds", "bytes", "ratio") if name.endswith(f"_{one}")), "")


def test_a_report_after_a_failure_can_be_read_as_well() -> None:
    report = sample_report()
    failed = msgspec.structs.replace(report.engine, state="failed", snapshot_age_ms=None)
    found = samples(sample_report(engine=failed))
    assert value(found, "engine", dayfly_engine="failed") == 1
    assert value(found, "snapshot_age_seconds") is None
