"""Cross-border transfers: the table fails closed, head-counts stop before a threshold, years turn where they should."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dayfly.privacy.consent import INT64_MAX, TransferBasis
from dayfly.privacy.errors import InvalidArgument, TransferRefused
from dayfly.privacy.transfers import (
    CHINA_2024,
    FieldClass,
    Threshold,
    TransferCounts,
    TransferReason,
    TransferRequest,
    TransferTable,
    decide_transfer,
    parse_transfer_table,
)

ROW: dict[str, Any] = {
    "recipient_country": "DE",
    "recipient": "crm-eu-1",
    "field_class": "ordinary",
    "legal_basis": "contract",
    "valid_from_ms": 100,
    "valid_until_ms": 2_000_000_000_000,
    "list_version": "scc-2026-1",
}
NOW = int(datetime(2026, 6, 1, tzinfo=UTC).timestamp() * 1000)
SHANGHAI = ZoneInfo("Asia/Shanghai")


def small(
    below: int, *, across: bool = False, basis: str = "contract", kind: str = "ordinary"
) -> dict[str, Any]:
    """A threshold small enough to walk up to."""
    return {
        "name": "small", "legal_bases": [basis], "field_class": kind, "below": below, "across_recipients": across,
        "source": "test",
    }  # fmt: skip


def table(*rows: dict[str, Any], thresholds: list[dict[str, Any]] | None = None) -> TransferTable:
    """A Chinese exporter's table."""
    return parse_transfer_table(
        {"home_country": "CN", "rows": list(rows) or [ROW], "thresholds": thresholds or []}
    )


def ask(
    subject: bytes = b"p1",
    recipient: str = "crm-eu-1",
    country: str = "DE",
    kind: FieldClass = FieldClass.ORDINARY,
) -> TransferRequest:
    """One person's fields abroad."""
    return TransferRequest(country, recipient, kind, subject)


def reason(request: TransferRequest, rows: TransferTable, now_ms: int = NOW) -> TransferReason:
    """Reason with nobody counted."""
    return decide_transfer(request, rows, TransferCounts(), now_ms).reason


def test_only_what_a_row_names_may_go() -> None:
    rows = table()
    allowed = decide_transfer(ask(), rows, TransferCounts(), NOW)
    assert (allowed.allowed, allowed.reason, allowed.row) == (True, TransferReason.ALLOWED, rows.rows[0])
    assert (allowed.until_ms, allowed.legal_basis) == (ROW["valid_until_ms"], TransferBasis.CONTRACT)
    assert allowed.require() is allowed
    for request in (ask(country="FR"), ask(recipient="crm-eu-2"), ask(kind=FieldClass.SENSITIVE)):
        assert reason(request, rows) is TransferReason.NOT_LISTED
    assert reason(ask(), parse_transfer_table({"home_country": "CN"})) is TransferReason.NOT_LISTED


def test_home_needs_no_row() -> None:
    home = decide_transfer(ask(country="CN", recipient="anybody"), table(), TransferCounts(), NOW)
    assert (home.allowed, home.reason, home.until_ms) == (True, TransferReason.DOMESTIC, INT64_MAX)
    assert home.legal_basis is TransferBasis.NONE


@pytest.mark.parametrize(
    ("now", "expected"),
    [(99, "not_yet_valid"), (100, "allowed"), (199, "allowed"), (200, "expired"), (201, "expired")],
)
def test_rows_hold_in_a_half_open_interval(now: int, expected: str) -> None:
    rows = table({**ROW, "valid_from_ms": 100, "valid_until_ms": 200})
    assert reason(ask(), rows, now).value == expected


def test_a_live_row_is_taken_beside_an_expired_one() -> None:
    rows = table(
        {**ROW, "valid_until_ms": 200}, {**ROW, "legal_basis": "assessment", "list_version": "cac-7"}
    )
    found = decide_transfer(ask(), rows, TransferCounts(), NOW)
    assert found.row is not None
    assert found.row.list_version == "cac-7"


@pytest.mark.parametrize(
    "request_",
    [
        TransferRequest(None, "crm-eu-1", FieldClass.ORDINARY, b"p"),  # type: ignore[arg-type]  # malformed on purpose
        TransferRequest("DE", "", FieldClass.ORDINARY, b"p"),
        TransferRequest("DE", "crm-eu-1", "ordinary", b"p"),  # type: ignore[arg-type]  # text is not the class
        TransferRequest("DE", "crm-eu-1", FieldClass.ORDINARY, b""),
        TransferRequest("CN", "crm-eu-1", FieldClass.ORDINARY, "p"),  # type: ignore[arg-type]  # text is no pseudonym
    ],
)
def test_malformed_request_is_no(request_: TransferRequest) -> None:
    assert reason(request_, table()) is TransferReason.MALFORMED_REQUEST


def test_refusal_names_the_path_the_reason_and_the_way_out() -> None:
    with pytest.raises(
        TransferRefused,
        match=r"recipient='crm-eu-1' recipient_country='FR' must be .*\(reason=not_listed\); add",
    ):
        decide_transfer(ask(country="FR"), table(), TransferCounts(), NOW).require()
    counts = TransferCounts()
    counts.count(b"p0", "crm-eu-1", FieldClass.ORDINARY, NOW)
    stopped = decide_transfer(ask(), table(thresholds=[small(2)]), counts, NOW)
    with pytest.raises(
        TransferRefused, match=r"reason=threshold, small: 1 people\); use a legal basis that carries more"
    ):
        stopped.require()


# --- head-counts -----------------------------------------------------------------------------------------------------


@given(st.lists(st.integers(0, 8), max_size=40), st.integers(0, 6), st.sampled_from(["each", "all"]))
def test_the_count_never_reaches_the_threshold_and_the_counted_pass(
    people: list[int], below: int, counted: str
) -> None:
    rows, counts = table(thresholds=[small(below, across=counted == "all")]), TransferCounts()
    sent: set[int] = set()
    for person in people:
        request = ask(bytes([person + 1]))
        allowed = decide_transfer(request, rows, counts, NOW).allowed
        assert allowed == (person in sent or len(sent) + 1 < below)
        if allowed:
            sent.add(person)
            counts.count(request.subject, request.recipient, request.field_class, NOW)
    assert counts.counted(b"\xff", FieldClass.ORDINARY, NOW, recipient="crm-eu-1") == (False, len(sent))
    assert len(sent) < max(below, 1)


def filled(basis: str, kind: FieldClass, people: int) -> tuple[TransferTable, TransferCounts]:
    rows = table(
        {**ROW, "legal_basis": basis, "field_class": kind.value}, thresholds=msgspec.to_builtins(CHINA_2024)
    )
    counts = TransferCounts()
    for person in range(people):
        counts.count(person.to_bytes(4, "big"), "crm-eu-1", kind, NOW)
    return rows, counts


def doc_rows() -> list[list[str]]:
    text = (Path(__file__).parents[3] / "docs" / "consent.md").read_text(encoding="utf-8")
    lines = text.partition("| legal basis | class |")[2].partition("\n\n")[0].splitlines()[2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


@pytest.mark.parametrize(("basis", "kind", "people", "new", "known"), doc_rows())
def test_threshold_table_of_the_docs_holds(basis: str, kind: str, people: str, new: str, known: str) -> None:
    count = int(people.replace(",", ""))
    rows, counts = filled(basis, FieldClass(kind), count)
    assert decide_transfer(ask(b"new!", kind=FieldClass(kind)), rows, counts, NOW).reason == new
    first = decide_transfer(ask((0).to_bytes(4, "big"), kind=FieldClass(kind)), rows, counts, NOW)
    assert first.reason == known
    assert first.head_count == count or not count


def test_the_docs_have_the_threshold_table() -> None:
    assert len(doc_rows()) == 5


def test_published_figures_of_march_2024() -> None:
    assert {(one.name, one.below) for one in CHINA_2024} == {
        ("CN exempt, ordinary", 100_000),
        ("CN exempt, sensitive", 0),
        ("CN contract or certification, ordinary", 1_000_000),
        ("CN contract or certification, sensitive", 10_000),
    }
    assert all(one.across_recipients and "22 March 2024" in one.source for one in CHINA_2024)


def test_thresholds_count_per_recipient_or_over_all() -> None:
    other = {**ROW, "recipient": "crm-eu-2"}
    counts = TransferCounts()
    counts.count(b"a", "crm-eu-1", FieldClass.ORDINARY, NOW)
    counts.count(b"b", "crm-eu-2", FieldClass.ORDINARY, NOW)
    for other_class in (b"b", b"x", b"y"):
        counts.count(other_class, "crm-eu-1", FieldClass.SENSITIVE, NOW)
    for across, expected in ((False, "allowed"), (True, "threshold")):
        rows = table(ROW, other, thresholds=[small(3, across=across)])
        assert decide_transfer(ask(b"c"), rows, counts, NOW).reason == expected
        assert decide_transfer(ask(b"b"), rows, counts, NOW).reason == "allowed"
    assert counts.counted(b"a", FieldClass.ORDINARY, NOW) == (True, 2)


def test_a_fuller_path_gives_way_to_one_that_carries_more() -> None:
    rows = table(
        {**ROW, "legal_basis": "exempt"},
        {**ROW, "legal_basis": "assessment"},
        thresholds=[small(1, basis="exempt")],
    )
    found = decide_transfer(ask(), rows, TransferCounts(), NOW)
    assert found.legal_basis is TransferBasis.ASSESSMENT


@pytest.mark.parametrize(("zone", "turn"), [(None, SHANGHAI), (UTC, UTC)])
def test_the_count_begins_again_at_the_years_first_instant(zone: Any, turn: Any) -> None:
    new_year = int(datetime(2027, 1, 1, tzinfo=turn).timestamp() * 1000)
    counts, rows = TransferCounts(zone=zone), table(thresholds=[small(2)])
    counts.count(b"a", "crm-eu-1", FieldClass.ORDINARY, new_year - 1)
    assert decide_transfer(ask(b"b"), rows, counts, new_year - 1).reason is TransferReason.THRESHOLD
    assert decide_transfer(ask(b"b"), rows, counts, new_year).reason is TransferReason.ALLOWED
    assert counts.year(new_year) == counts.year(new_year - 1) + 1 == 2027
    counts.count(b"a", "crm-eu-1", FieldClass.ORDINARY, new_year)
    counts.drop_years_before(new_year)
    assert decide_transfer(ask(b"b"), rows, counts, new_year).reason is TransferReason.THRESHOLD
    assert decide_transfer(ask(b"b"), rows, counts, new_year - 1).reason is TransferReason.ALLOWED


def test_snapshot_comes_back_equal_and_is_canonical() -> None:
    one, two = TransferCounts(), TransferCounts()
    people = [(b"a", "x"), (b"b", "x"), (b"a", "y")]
    for person, recipient in people:
        one.count(person, recipient, FieldClass.ORDINARY, NOW)
    for person, recipient in reversed(people):
        two.count(person, recipient, FieldClass.ORDINARY, NOW)
    assert one.to_bytes() == two.to_bytes() == TransferCounts.from_bytes(one.to_bytes()).to_bytes()
    assert TransferCounts.from_bytes(one.to_bytes()).counted(
        b"a", FieldClass.ORDINARY, NOW, recipient="x"
    ) == (True, 2)


@pytest.mark.parametrize("data", [b"", b"\x80", msgspec.msgpack.encode({"format": "x", "counted": []})])
def test_altered_snapshot_is_refused(data: bytes) -> None:
    with pytest.raises(InvalidArgument, match="must be"):
        TransferCounts.from_bytes(data)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"legal_basis": "none"}, r"rows\[0\]\.legal_basis='none' must name a legal path"),
        ({"valid_until_ms": 100}, r"rows\[0\]\.valid_until_ms=100 must be > valid_from_ms=100"),
        ({"recipient_country": "*"}, "must follow the schema"),
        ({"recipient": "*"}, "must follow the schema"),
        ({"recipient_country": "de"}, "must follow the schema"),
        ({"field_class": "any"}, "Invalid enum value 'any'"),
        ({"list_version": ""}, "length >= 1"),
        ({"extra": 1}, "unknown field `extra`"),
        ({"valid_from_ms": "0"}, "Expected `int`"),
    ],
)
def test_bad_rows_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        table({**ROW, **change})


def test_thresholds_default_to_the_published_ones() -> None:
    assert parse_transfer_table({"home_country": "CN"}).thresholds == CHINA_2024
    assert isinstance(CHINA_2024[0], Threshold)
