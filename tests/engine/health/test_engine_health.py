"""The board of a live engine: over restarts and crashes, with delivery and budgets, when the engine fails, and in its file."""

import json
import time
from pathlib import Path

import msgspec
import pytest

from dayfly.engine.delivery import AudienceCounts, Delivery, Outcome, Result, load_settings
from dayfly.engine.errors import EngineClosed, EngineFailed, HealthError
from dayfly.engine.health import (
    HEALTH_FILE,
    Budget,
    HealthFile,
    HealthReport,
    Watched,
    read_health,
    up_to_date,
    write_health,
)
from dayfly.engine.health.audit_check import AuditCheck
from dayfly.engine.health.collect import audiences
from dayfly.engine.health.files import POINT_MS, POINTS_KEPT, with_point
from dayfly.privacy.audit_log import AuditLog
from dayfly.privacy.errors import InvalidArgument
from tests.engine.durable.shop import Shop, everything, ready
from tests.engine.runtime.world import CHINA, EUROPE

from .sample import NOW, sample_history, sample_report

SETTINGS = f"""
source: https://cdp.example
dataref: "https://cdp.example/f/{{jti}}"
pull: [{CHINA}]
endpoints:
- {{name: eu, audience: {EUROPE}, url: "https://eu.example/h", secrets: [whsec_{"A" * 43}=]}}
"""


def meter_bytes(shop: Shop) -> bytes:
    return shop.engine._running.host.meter.to_bytes()


def written(folder: Path, *, after_ms: int = 0, patience: float = 20.0) -> HealthFile:
    """The next report in the folder that is newer than an instant."""
    end = time.monotonic() + patience
    while time.monotonic() < end:
        if (folder / HEALTH_FILE).exists() and (found := read_health(folder)).report.at_ms > after_ms:
            return found
        time.sleep(0.02)
    raise AssertionError("no new report came")


def test_a_report_says_what_happened(shop: Shop) -> None:
    shop.open()
    for user in ("u-1", "u-2"):
        shop.allow(user)
        shop.compare_sofas(user)
    again = shop.message("u-1", "Product Viewed", number=0, product_id="p-0", category="sofa")
    shop.engine.submit([again, b"{broken"], "app")
    shop.read(ready(shop.engine)[0])
    shop.clock.now_ms += 3_000
    report = shop.engine.health()
    app = report.channels[0]
    assert (app.name, app.received, app.seen, app.duplicates, app.dead) == ("app", 8, 6, 1, {"not_json": 1})
    assert app.silent_ms == 3_000
    assert (report.consent.people, report.consent.given, report.consent.any_purpose) == (2, 2, 2)
    assert (report.fragments.live, report.fragments.minted, report.fragments.leased) == (2, 2, 1)
    assert report.fragments.balanced
    assert (report.lineage.kept, report.lineage.checked, report.lineage.completeness) == (2, 2, 1.0)
    assert report.transfers.allowed == {"domestic": 3}
    assert report.transfers.pass_rate == 1.0
    assert report.engine.state == "running"
    assert report.engine.durable == report.engine.position > 0
    assert report.attention == ()


def test_a_crash_takes_nothing_from_the_counts(shop: Shop) -> None:
    shop.open()
    shop.allow("u-1")
    shop.compare_sofas("u-1")
    shop.engine.submit([b"{broken"], "web")
    shop.engine.snapshot()
    shop.clock.now_ms += 3_600_000
    shop.allow("u-2")
    shop.compare_sofas("u-2")
    shop.engine.health()
    crashed, before = shop.crashed_copy(), meter_bytes(shop)
    shop.engine.close()
    shop.open(crashed)
    assert meter_bytes(shop) == before
    assert shop.engine.health().channels[0].received == 6
    assert shop.engine.health().channels[1].total_dead == {"not_json": 1}
    assert shop.engine.health().fragments.ended == {"expired_unused": 1, "lost": 1}


def test_a_clean_restart_goes_on_counting(shop: Shop) -> None:
    shop.open()
    shop.compare_sofas("u-1")
    shop.engine.close()
    shop.open()
    shop.compare_sofas("u-1")
    report = shop.engine.health()
    assert report.channels[0].received == 6
    assert report.engine.recovered_frames == 0


def test_delivery_and_budgets_are_shown_beside_the_engine(shop: Shop, tmp_path: Path) -> None:
    settings = load_settings(SETTINGS)
    shop.open()
    with Delivery(tmp_path / "delivery.db", settings, tenant="t", random=lambda: 0.5) as delivery:
        budget = Budget(left=0.05, total=1.0, unit="rho")
        shop.engine.watch(Watched(delivery=delivery, budgets=lambda: {"sandbox": budget}))
        shop.allow("u-1")
        shop.compare_sofas("u-1")
        feed = [item for item in everything(shop.engine) if hasattr(item, "audience")]
        delivery.take(feed, now_ms=shop.clock.now_ms)  # type: ignore[arg-type]
        delivery.pull("crm", CHINA, now_ms=shop.clock.now_ms)
        for send in delivery.step([], now_ms=shop.clock.now_ms).sends:
            delivery.finish([(send.job_id, Result(Outcome.REFUSED, "http_403"))], now_ms=shop.clock.now_ms)
        report = shop.engine.health()
    by_name = {one.name: one for one in report.audiences}
    assert (by_name[CHINA].due, by_name[CHINA].delivered, by_name[CHINA].success) == (1, 1, 1.0)
    assert by_name[EUROPE].success is None
    assert [one.name for one in report.endpoints] == ["eu"]
    assert report.budgets == {"sandbox": budget}
    assert [item.code for item in report.attention] == ["budget_low"]


def test_what_was_no_longer_wanted_was_not_due() -> None:
    counts = AudienceCounts(
        audience="crm",
        delivered=5,
        handed=2,
        failed={
            "superseded": 4,
            "recalled": 3,
            "ended": 2,
            "expired": 1,
            "http_403": 2,
            "disabled": 1,
            "removed": 1,
        },
    )
    (found,) = audiences([counts])
    assert (found.delivered, found.due, found.success) == (7, 12, 7 / 12)


def test_a_fragment_is_explained_for_a_report_when_it_is_two_seconds_old(shop: Shop) -> None:
    shop.open()
    shop.allow("u-1")
    shop.compare_sofas("u-1")
    issued_ms = shop.clock.now_ms // 1_000 * 1_000
    shop.clock.now_ms = issued_ms + 1_999
    assert shop.engine.health().lineage.checked == 0
    shop.clock.now_ms = issued_ms + 2_000
    assert shop.engine.health().lineage.checked == 1


def unreadable() -> dict[str, Budget]:
    raise LookupError("no ledger")


def test_others_that_cannot_be_asked_do_not_keep_the_engine_from_telling(shop: Shop, tmp_path: Path) -> None:
    shop.open()
    shop.compare_sofas("u-1")
    delivery = Delivery(tmp_path / "delivery.db", load_settings(SETTINGS), tenant="t", random=lambda: 0.5)
    delivery.close()
    shop.engine.watch(Watched(delivery=delivery, budgets=unreadable))
    report = shop.engine.health()
    assert [item.code for item in report.attention] == ["delivery_unknown", "budgets_unknown"]
    assert report.channels[0].received == 3


def test_expectations_can_be_given_for_one_report_or_for_all(shop: Shop) -> None:
    shop.open()
    shop.compare_sofas("u-1")
    shop.clock.now_ms += 2 * 3_600_000
    assert shop.engine.health().channels[0].basis == "unknown"
    assert shop.engine.health(expected={"app": 9.0}).channels[0].expected == 9.0
    shop.engine.watch(Watched(expected={"app": 8.0}))
    assert shop.engine.health().channels[0].expected == 8.0


def test_expectations_that_cannot_be_meant_are_refused(shop: Shop) -> None:
    shop.open()
    with pytest.raises(InvalidArgument, match="expected='fax' must name a declared channel"):
        shop.engine.watch(Watched(expected={"fax": 1.0}))
    with pytest.raises(InvalidArgument, match="must be above 0 events per hour"):
        shop.engine.health(expected={"app": 0.0})
    with pytest.raises(InvalidArgument, match="watched=dict must be a Watched; pass one"):
        shop.engine.watch({"app": 1.0})  # type: ignore[arg-type]
    assert shop.engine.health().engine.state == "running"


def test_a_failed_engine_still_says_how_it_was_and_what_happened(shop: Shop) -> None:
    shop.open()
    shop.compare_sofas("u-1")
    before = shop.engine.health()
    shop.engine._running.fail(OSError("the disk is gone"))
    report = shop.engine.health()
    assert report.engine.state == "failed"
    assert "the disk is gone" in report.engine.trouble
    assert report.attention[0].code == "engine_failed"
    assert report.channels == before.channels
    with pytest.raises(EngineFailed, match="must be opened again"):
        shop.act("u-1", "Product Viewed")


def test_a_closed_engine_has_its_last_report_in_the_folder(shop: Shop) -> None:
    shop.open()
    shop.compare_sofas("u-1")
    shop.engine.close()
    with pytest.raises(EngineClosed, match="must be open"):
        shop.engine.health()
    report = read_health(shop.folder).report
    assert (report.engine.state, report.fragments.live, report.channels[0].received) == ("closed", 0, 3)


def test_the_file_is_written_again_and_again_and_keeps_the_way_there(tmp_path: Path) -> None:
    shop = Shop(tmp_path, health_seconds=0.05)
    shop.open()
    try:
        first = written(shop.folder)
        shop.clock.now_ms += POINT_MS
        shop.compare_sofas("u-1")
        second = written(shop.folder, after_ms=first.report.at_ms + POINT_MS)
        assert second.report.channels[0].received == 3
        assert [point.at_ms for point in second.points][:1] == [first.points[0].at_ms]
        assert len(second.points) == 2
    finally:
        shop.engine.close()
    shop.open()
    shop.engine.close()
    assert [point.at_ms for point in read_health(shop.folder).points][:1] == [first.points[0].at_ms]


def test_without_a_period_no_file_is_written(tmp_path: Path) -> None:
    shop = Shop(tmp_path, health_seconds=0)
    shop.open()
    shop.compare_sofas("u-1")
    shop.engine.close()
    assert not (shop.folder / HEALTH_FILE).exists()


def test_no_personal_data_is_in_the_file(tmp_path: Path) -> None:
    shop = Shop(tmp_path, health_seconds=0.05)
    shop.open()
    shop.allow("u-secret-1")
    shop.compare_sofas("u-secret-1")
    shop.engine.submit([b'{"userId": "u-secret-1", "type": "nonsense"}'], "app")
    (fragment,) = ready(shop.engine)
    subject = shop.person("u-secret-1")
    shop.engine.close()
    content = (shop.folder / HEALTH_FILE).read_text()
    for secret in ("u-secret", "leather", subject.hex(), fragment.jti, fragment.order_id, "c-1"):
        assert secret not in content


def test_a_report_survives_its_file(tmp_path: Path) -> None:
    health = HealthFile(report=sample_report(), every_seconds=10.0, points=sample_history())
    write_health(tmp_path, health)
    assert read_health(tmp_path) == health
    assert [path.name for path in tmp_path.iterdir()] == [HEALTH_FILE]


def test_points_are_five_minutes_apart_and_of_one_day() -> None:
    def at(now_ms: int) -> HealthReport:
        return sample_report(at_ms=now_ms)

    points = with_point((), at(NOW))
    assert with_point(points, at(NOW + POINT_MS - 1)) == points
    assert len(with_point(points, at(NOW + POINT_MS))) == 2
    for number in range(1, POINTS_KEPT + 5):
        points = with_point(points, at(NOW + number * POINT_MS))
    assert len(points) == POINTS_KEPT
    assert points[-1].at_ms == NOW + (POINTS_KEPT + 4) * POINT_MS


@pytest.mark.parametrize(("age_ms", "codes"), [(30_000, []), (30_001, ["report_old"])])
def test_a_report_is_old_when_three_more_were_due(age_ms: int, codes: list[str]) -> None:
    health = HealthFile(report=sample_report(attention=()), every_seconds=10.0)
    found = up_to_date(health, NOW + age_ms)
    assert [item.code for item in found.attention] == codes


def test_a_closed_engine_is_a_finding_however_fresh_the_report_is() -> None:
    engine = msgspec.structs.replace(sample_report().engine, state="closed")
    health = HealthFile(report=sample_report(attention=(), engine=engine), every_seconds=10.0)
    assert [item.code for item in up_to_date(health, NOW).attention] == ["engine_closed"]


def test_a_folder_without_a_report_is_refused(tmp_path: Path) -> None:
    with pytest.raises(HealthError, match=r"must hold health\.json; give the folder of a store"):
        read_health(tmp_path / "nowhere")


@pytest.mark.parametrize("content", [b"", b"{}", b"[1]", b'{"report": 5}'])
def test_a_file_with_something_else_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / HEALTH_FILE).write_bytes(content)
    with pytest.raises(HealthError, match="must hold a health report of this release"):
        read_health(tmp_path)


def test_a_file_of_a_newer_release_is_refused(tmp_path: Path) -> None:
    health = HealthFile(report=sample_report(), every_seconds=10.0)
    document = json.loads(msgspec.json.encode(health)) | {"format": 2}
    (tmp_path / HEALTH_FILE).write_text(json.dumps(document))
    with pytest.raises(HealthError, match="must hold a health report of this release"):
        read_health(tmp_path)


# --- the audit log --------------------------------------------------------------------------------------------------------


def some_lines(number: int) -> list[bytes]:
    lines: list[bytes] = []
    log = AuditLog(lines.append, key=bytes(range(32)))
    for step in range(number):
        log.append("mint", b"p", step, {"order_id": f"o-{step}"})
    return lines


def checked(check: AuditCheck, piece_bytes: int = 1 << 16) -> AuditCheck:
    while check.step(piece_bytes=piece_bytes):
        pass
    return check


@pytest.mark.parametrize("piece_bytes", [1, 10, 300, 301, 1 << 16])
def test_an_audit_log_is_followed_in_pieces_of_any_size_while_it_grows(
    tmp_path: Path, piece_bytes: int
) -> None:
    lines, path = some_lines(20), tmp_path / "audit.jsonl"
    check = AuditCheck(path)
    assert checked(check, piece_bytes).checked == 0
    path.write_bytes(b"".join(lines[:7]) + lines[7][:20])
    assert checked(check, piece_bytes).checked == 7
    path.write_bytes(b"".join(lines))
    assert (checked(check, piece_bytes).checked, check.broken) == (20, "")


@pytest.mark.parametrize("line", [0, 7, 18])
def test_a_line_that_was_altered_is_found_and_nothing_after_it_counts(tmp_path: Path, line: int) -> None:
    lines = some_lines(20)
    lines[line] = lines[line].replace(b"o-", b"x-")
    path = tmp_path / "audit.jsonl"
    path.write_bytes(b"".join(lines))
    check = checked(AuditCheck(path), 300)
    assert check.checked <= line + 1
    assert f"line={line + 1} must follow from" in check.broken
    assert not check.step()


def test_an_altered_audit_log_is_a_finding_of_the_engine_that_opens_it(tmp_path: Path) -> None:
    shop = Shop(tmp_path, health_seconds=0.05)
    shop.open()
    for user in ("u-1", "u-2"):
        shop.allow(user)
        shop.compare_sofas(user)
    shop.engine.close()
    path = shop.folder / "audit.jsonl"
    content = path.read_bytes()
    path.write_bytes(content.replace(b'"at_ms":1', b'"at_ms":2', 1))
    shop.clock.now_ms += 1
    shop.open()
    try:
        found = written(shop.folder, after_ms=shop.clock.now_ms - 1)
        assert [item.code for item in found.report.attention] == ["audit_broken"]
    finally:
        shop.engine.close()
