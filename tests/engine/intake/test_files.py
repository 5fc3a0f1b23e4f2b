"""Mapped files: rows against polars, places and reasons of bad rows, bounded chunks, and mappings that cannot work."""

import gzip
import json
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import polars as pl
import pyarrow as pa
import pyarrow.parquet
import pytest

from dayfly.engine.catalog import Catalog, EventType, FieldSpec, FieldType
from dayfly.engine.errors import CatalogError
from dayfly.engine.intake import DeadLetterReason, Intake, parse_mapping
from dayfly.engine.policy.model import Channel, Policy, Settings
from tests.oracles.intake import pseudonym
from tests.oracles.unpack import rows_of

from .support import DAY, NOW, TENANT, USER_KEY, make_keys

Reason = DeadLetterReason
S, N, B, T = FieldType.STRING, FieldType.NUMBER, FieldType.BOOLEAN, FieldType.TIME
CATALOG = Catalog(
    (
        EventType(
            "Order Completed",
            (
                FieldSpec("order_id", S, required=True),
                FieldSpec("total", N),
                FieldSpec("gift", B),
                FieldSpec("address.city", S),
                FieldSpec("due", T),
            ),
        ),
        EventType("Order Cancelled", (FieldSpec("order_id", S, required=True), FieldSpec("total", N))),
        EventType("Product Viewed", (FieldSpec("product_id", S),)),
        EventType("Product Added", (FieldSpec("product_id", S),)),
        EventType("Seen", (FieldSpec("rssi", N), FieldSpec("vendor", S), FieldSpec("random", B))),
    ),
    ("shop", "wifi"),
)
ORDERS = {
    "channel": "shop",
    "event": {"column": "kind", "values": {"order": "Order Completed", "cancel": "Order Cancelled"}},
    "id": {"columns": ["order", "kind"]},
    "subject": {"column": "customer"},
    "time": {"column": "at"},
    "fields": {"order_id": "order", "total": {"column": "amount", "type": "number"}},
}


def make(**settings: Any) -> Any:
    policy = Policy(
        1,
        CATALOG,
        (Channel("shop", "shop.example"), Channel("wifi", probe=True)),
        settings=Settings(**settings),
    )
    return Intake(policy, make_keys())


def mapping(**parts: Any) -> Any:
    return parse_mapping({**ORDERS, **parts})


def line(**columns: Any) -> Any:
    row = {
        "order": "O-1",
        "kind": "order",
        "customer": "c-1",
        "at": "2026-03-10T12:00:00Z",
        "amount": 12.5,
        **columns,
    }
    return json.dumps({name: value for name, value in row.items() if value is not ...}).encode() + b"\n"


def run(results: Any) -> Any:
    """All rows, dead letters and counts of a streamed file."""
    rows: list[Any] = []
    letters: list[Any] = []
    counts: Counter[str] = Counter()
    for result in results:
        rows += rows_of(result.batch, CATALOG)
        letters += result.dead_letters
        counts.update(result.counts)
    return rows, letters, counts


# --- JSON Lines --------------------------------------------------------------------------------------------------------


def test_a_line_becomes_the_event_that_the_mapping_says() -> None:
    data = line() + b"\n" + line(kind="cancel", customer=17, order=5) + line(kind="return")
    rows, letters, counts = run(make().jsonl(data, mapping(), NOW))
    assert letters == []
    assert counts == {"received": 2, "accepted": 2, "skipped": 1}
    assert [(row.type, row.values[:2]) for row in rows] == [(0, ("O-1", 12.5)), (1, ("5", 12.5))]
    assert [row.subject for row in rows] == [
        pseudonym(TENANT, USER_KEY, "user", raw) for raw in ("c-1", "17")
    ]
    assert [row.time_ms for row in rows] == [NOW, NOW]


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (b"{\n", Reason.NOT_JSON),
        (b"[1]\n", Reason.NOT_AN_OBJECT),
        (b'"\xff"\n', Reason.INVALID_UTF8),
        (line(at="noon"), Reason.BAD_TIME),
        (line(at=...), Reason.BAD_TIME),
        (line(at=5), Reason.BAD_TIME),
        (line(customer=None), Reason.MISSING_IDENTITY),
        (line(order=...), Reason.MISSING_FIELD),
        (line(amount="12,5"), Reason.TYPE_MISMATCH),
        (line(amount="1e400"), Reason.NUMBER_OUT_OF_RANGE),
        (line(amount="1e300"), Reason.NUMBER_OUT_OF_RANGE),
        (line(amount=True), Reason.TYPE_MISMATCH),
        (line(customer=1.5), Reason.BAD_IDENTIFIER),
        (line(at="2026-03-10T12:10:00Z"), Reason.IN_FUTURE),
        (line(x="y" * 33_000), Reason.TOO_LARGE),
    ],
)
def test_a_bad_line_is_a_dead_letter_with_its_place(bad: bytes, reason: DeadLetterReason) -> None:
    rows, (letter,), counts = run(make().jsonl(line() + bad + line(order="O-2"), mapping(), NOW))
    assert (letter.reason, letter.place, counts["accepted"], len(rows)) == (reason, "line 2", 2, 2)


def test_a_line_of_exactly_the_largest_size_enters() -> None:
    size = len(line()) - 1
    assert run(make(max_event_bytes=size).jsonl(line() + line(), mapping(), NOW))[2]["accepted"] == 2
    letters = run(make(max_event_bytes=size - 1).jsonl(line() + line(), mapping(), NOW))[1]
    assert [(letter.reason, letter.place) for letter in letters] == [
        (Reason.TOO_LARGE, "line 1"),
        (Reason.TOO_LARGE, "line 2"),
    ]


def test_rows_without_any_id_column_are_refused() -> None:
    letters = run(make().jsonl(line(order=...), mapping(id={"columns": ["order"]}, fields={}), NOW))[1]
    assert [letter.reason for letter in letters] == [Reason.MISSING_ID]


def test_equal_rows_have_one_id_by_row_digest() -> None:
    rows, _, _ = run(make().jsonl(line() * 2 + line(amount=1), mapping(id={"row_digest": True}), NOW))
    assert rows[0].event_id == rows[1].event_id != rows[2].event_id


def test_a_link_column_ties_two_ids() -> None:
    parts = {"link": {"column": "device", "kind": "anonymous"}}
    (row,), _, _ = run(make().jsonl(line(device="a-77"), mapping(**parts), NOW))
    assert row.link == pseudonym(TENANT, USER_KEY, "anonymous", "a-77")


def test_values_are_translated_and_masked_before_they_are_kept() -> None:
    fields = {
        "order_id": {"column": "order", "masking": {"mask": "truncate", "characters": 1}},
        "gift": {"column": "gift", "values": {"Y": "true", "N": "false"}},
        "address.city": "town.name",
        "due": "due",
    }
    data = line(gift="Y", town={"name": "上海"}, due="2026-03-11T00:00:00+08:00")
    (row,), _, _ = run(make().jsonl(data, mapping(fields=fields), NOW))
    assert row.values == ("O", None, True, "上海", NOW + DAY - 20 * 3_600_000)


@pytest.mark.parametrize(
    ("test", "kept"),
    [
        ({"present": True}, ["a", "b"]),
        ({"present": False}, [None]),
        ({"equals": "a"}, ["a"]),
        ({"not_equals": "a"}, ["b", None]),
        ({"in": ["a", "c"]}, ["a"]),
        ({"not_in": ["a", "c"]}, ["b", None]),
        ({"starts_with": "a"}, ["a"]),
        ({"not_starts_with": "a"}, ["b", None]),
    ],
)
def test_where_keeps_the_rows_that_pass(test: Any, kept: Any) -> None:
    data = b"".join(line(flag=flag, order=str(flag)) for flag in ("a", "b", None))
    rows, _, counts = run(make().jsonl(data, mapping(where=[{"column": "flag", **test}]), NOW))
    assert [row.values[0] for row in rows] == [str(flag) for flag in kept]
    assert counts["skipped"] == 3 - len(kept)


@pytest.mark.parametrize(
    ("form", "value"),
    [
        ("epoch_ms", NOW),
        ("epoch_s", NOW // 1000),
        ("epoch_us", NOW * 1000),
        pytest.param("epoch_ms", str(NOW), id="epoch_ms-text"),
        ("%d/%m/%Y %H:%M", "10/03/2026 20:00"),
        ("%Y-%m-%d %H:%M %z", "2026-03-10 13:00 +0100"),
    ],
)
def test_times_are_read_in_their_format_and_zone(form: str, value: Any) -> None:
    (row,), _, _ = run(
        make().jsonl(
            line(at=value), mapping(time={"column": "at", "format": form, "zone": "Asia/Shanghai"}), NOW
        )
    )
    assert row.time_ms == NOW


@pytest.mark.parametrize("value", [10**30, -(10**17), True, 1.5, "x", "9" * 19])
def test_an_epoch_that_is_none_is_a_dead_letter(value: Any) -> None:
    letters = run(make().jsonl(line(at=value), mapping(time={"column": "at", "format": "epoch_ms"}), NOW))[1]
    assert [letter.reason for letter in letters] == [Reason.BAD_TIME]


def test_replayed_history_arrives_at_its_own_time_and_never_backwards() -> None:
    times = [
        "2011-01-02T00:00:00Z",
        "2011-01-01T00:00:00Z",
        "2011-01-09T00:00:01Z",
        "2011-01-02T00:00:00Z",
    ]
    data = b"".join(line(at=at, order=str(n)) for n, at in enumerate(times))
    rows, letters, _ = run(make().jsonl(data, mapping()))
    start = int(datetime(2011, 1, 2, tzinfo=UTC).timestamp()) * 1000
    assert [row.received_ms - start for row in rows] == [0, 0, 7 * DAY + 1000]
    assert [letter.reason for letter in letters] == [Reason.TOO_LATE]


def test_chunks_are_bounded() -> None:
    data = b"".join(line(order=str(n)) for n in range(10))
    assert [len(result.batch) for result in make().jsonl(data, mapping(), NOW, chunk_rows=4)] == [4, 4, 2]


def test_an_exploded_array_gives_a_row_per_element(tmp_path: Path) -> None:
    path = tmp_path / "sessions.jsonl.gz"
    sessions = [{"s": 1, "e": [{"aid": 5, "t": NOW}, {"aid": 6, "t": NOW}, 7]}, {"s": 2, "e": "none"}]
    path.write_bytes(gzip.compress(b"".join(json.dumps(one).encode() + b"\n" for one in sessions)))
    rows, letters, _ = run(make().jsonl(path, OTTO_LIKE, NOW))
    assert [row.values for row in rows] == [("5",), ("6",)]
    assert [(letter.reason, letter.place) for letter in letters] == [
        (Reason.BAD_TIME, "line 1, element 2"),
        (Reason.NOT_AN_OBJECT, "line 2"),
    ]


OTTO_LIKE = parse_mapping(
    {
        "channel": "shop",
        "event": {"constant": "Product Viewed"},
        "id": {"columns": ["s", "e.aid", "e.t"]},
        "subject": {"column": "s", "kind": "anonymous"},
        "time": {"column": "e.t", "format": "epoch_ms"},
        "fields": {"product_id": "e.aid"},
        "explode": "e",
    }
)


# --- CSV and Parquet ---------------------------------------------------------------------------------------------------

CSV = b"""order;kind;customer;at;amount;note
O-1;order;c-1;2026-03-10T12:00:00Z;12.50;"a;b
c"
O-2;order;c-2;2026-03-10T12:00:00Z;;x
short;row
O-3;order;\xff;2026-03-10T12:00:00Z;1;x
O-4;cancel;c-1;2026-03-10T12:00:00Z;1,5;x
O-5;cancel;c-1;2026-03-10T12:00:00Z;-3;x
"""


@pytest.mark.parametrize("name", ["orders.csv", "orders.csv.gz"])
def test_a_csv_file_is_read_by_its_mapping(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(gzip.compress(CSV) if name.endswith("gz") else CSV)
    rows, letters, counts = run(make().csv(path, mapping(delimiter=";"), NOW))
    assert [row.values[:2] for row in rows] == [("O-1", 12.5), ("O-2", None), ("O-5", -3)]
    assert Counter(letter.reason for letter in letters) == {
        Reason.INVALID_UTF8: 1,
        Reason.TYPE_MISMATCH: 1,
        Reason.UNREADABLE_FILE: 1,
    }
    assert counts["received"] == 6


def test_a_csv_file_without_a_mapped_column_is_one_dead_letter(tmp_path: Path) -> None:
    path = tmp_path / "orders.csv"
    path.write_bytes(b"order,kind\nO-1,order\n")
    rows, letters, _ = run(make().csv(path, mapping(), NOW))
    assert (rows, [letter.reason for letter in letters]) == ([], [Reason.UNREADABLE_FILE])


def test_a_damaged_or_absent_file_is_one_dead_letter(tmp_path: Path) -> None:
    (tmp_path / "bad.parquet").write_bytes(b"PAR1 nothing")
    for results in (
        make().parquet(tmp_path / "bad.parquet", mapping(), NOW),
        make().parquet(tmp_path / "absent.parquet", mapping(), NOW),
        make().csv(tmp_path / "absent.csv", mapping(), NOW),
        make().jsonl(tmp_path / "absent.jsonl", mapping(), NOW),
    ):
        rows, letters, _ = run(results)
        assert (rows, [letter.reason for letter in letters]) == ([], [Reason.UNREADABLE_FILE])


def test_a_truncated_gzip_file_gives_its_first_rows_and_a_dead_letter(tmp_path: Path) -> None:
    path = tmp_path / "cut.jsonl.gz"
    lines = b"".join(line(order=f"{n:x}" * 9) for n in range(3_000))
    path.write_bytes(gzip.compress(lines)[:-2_000])
    rows, letters, _ = run(make().jsonl(path, mapping(), NOW))
    assert len(rows) > 100
    assert letters[-1].reason == Reason.UNREADABLE_FILE


def test_parquet_values_keep_their_types(tmp_path: Path) -> None:
    path = tmp_path / "orders.parquet"
    moment = datetime(2026, 3, 10, 20)  # noqa: DTZ001 - the mapping's zone completes it
    table = pa.table(
        {
            "order": pa.array(["1", "2", "3"]),
            "customer": pa.array([17850, None, 3], pa.int32()),
            "at": pa.array([moment] * 3, pa.timestamp("ns")),
            "amount": pa.array([1.25, 2.0, float("nan")]),
            "kind": ["order"] * 3,
        }
    )
    pa.parquet.write_table(table, path)
    rows, letters, _ = run(
        make().parquet(
            path, mapping(time={"column": "at", "format": "timestamp", "zone": "Asia/Shanghai"}), NOW
        )
    )
    assert [(row.values[:2], row.subject, row.time_ms) for row in rows] == [
        (("1", 1.25), pseudonym(TENANT, USER_KEY, "user", "17850"), NOW)
    ]
    assert [letter.reason for letter in letters] == [Reason.MISSING_IDENTITY, Reason.NON_FINITE_NUMBER]


# --- mappings that cannot work -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"channel": "tv"}, "channel='tv' must be declared"),
        ({"event": {}}, "event must have exactly one of constant and column"),
        ({"event": {"constant": "x", "column": "y"}}, "event must have exactly one"),
        ({"event": {"column": "kind"}}, r"event.values=\{\} must list"),
        ({"event": {"constant": "Nothing"}}, "event='Nothing' must be declared"),
        ({"id": {}}, "id must have columns or row_digest"),
        ({"id": {"columns": ["a"], "row_digest": True}}, "id must have columns or row_digest"),
        ({"time": {"column": "at", "zone": "Mars/Base"}}, "time.zone='Mars/Base' must be an IANA zone"),
        ({"delimiter": ";;"}, "delimiter=';;' must be one ASCII character"),
        ({"fields": {"colour": "c"}}, "field='colour' must be declared"),
        (
            {"fields": {"total": {"column": "c", "type": "string"}}},
            "type='string' of field 'total' must be 'number'",
        ),
    ],
)
def test_a_mapping_that_does_not_fit_the_catalogue_is_refused_at_once(
    parts: dict[str, Any], message: str
) -> None:
    with pytest.raises(CatalogError, match=message):
        make().jsonl(b"", mapping(**parts), NOW)


@pytest.mark.parametrize("document", [{}, 3, {**ORDERS, "colour": 1}, {**ORDERS, "time": "at"}])
def test_a_document_that_is_no_mapping_is_refused(document: Any) -> None:
    with pytest.raises(CatalogError, match="mapping must follow its schema"):
        parse_mapping(document)


# --- real files --------------------------------------------------------------------------------------------------------


def test_otto_sessions_give_every_event_that_polars_counts(shared_data: Path) -> None:
    path = shared_data / "otto_sample" / "otto_20_sessions.jsonl.gz"
    spec = parse_mapping(
        {
            "channel": "shop",
            "event": {
                "column": "events.type",
                "values": {"clicks": "Product Viewed", "carts": "Product Added"},
            },
            "id": {"columns": ["session", "events.ts", "events.aid", "events.type"]},
            "subject": {"column": "session", "kind": "anonymous"},
            "time": {"column": "events.ts", "format": "epoch_ms"},
            "fields": {"product_id": "events.aid"},
            "explode": "events",
        }
    )
    rows, letters, counts = run(make(allowed_lateness_ms=400 * DAY).jsonl(path, spec))
    table = pl.read_ndjson(gzip.decompress(path.read_bytes())).explode("events").unnest("events")
    kept = table.filter(pl.col("type") != "orders")
    assert letters == []
    assert (len(rows), counts["skipped"]) == (len(kept), len(table) - len(kept))
    assert [(row.time_ms, row.values[0]) for row in rows] == list(
        zip(kept["ts"].to_list(), kept["aid"].cast(pl.String).to_list(), strict=True)
    )
    assert len({row.subject for row in rows}) == kept["session"].n_unique()
    assert len({row.event_id for row in rows}) == len(kept.unique(["session", "ts", "aid", "type"]))


WIFI = parse_mapping(
    {
        "channel": "wifi",
        "event": {"constant": "Seen"},
        "id": {"columns": ["ts", "src_mac_anon", "seq_num", "position"]},
        "subject": {"column": "src_mac_anon", "kind": "anonymous"},
        "time": {"column": "ts", "format": "timestamp", "zone": "Europe/Prague"},
        "where": [{"column": "position", "equals": "1"}],
        "fields": {"rssi": "rssi_dbm", "vendor": "src_vendor", "random": "mac_randomized"},
    }
)


def check_wifi(path: Any) -> None:
    rows, letters, counts = run(make(allowed_lateness_ms=400 * DAY).parquet(path, WIFI))
    table = pl.read_parquet(path)
    kept = table.filter(pl.col("position") == 1)
    utc = kept["ts"].dt.replace_time_zone("Europe/Prague").dt.convert_time_zone("UTC").dt.epoch("ms")
    assert letters == []
    assert (len(rows), counts["skipped"]) == (len(kept), len(table) - len(kept))
    assert counts["randomised"] == kept["mac_randomized"].sum()
    assert [row.time_ms for row in rows] == utc.to_list()
    assert sum(row.values[0] for row in rows) == kept["rssi_dbm"].sum()
    day = kept.with_columns(utc.alias("utc")).with_columns(pl.col("utc").cum_max().floordiv(DAY).alias("day"))
    assert len({row.subject for row in rows}) == len(day.unique(["day", "src_mac_anon"]))


def test_wifi_probes_have_one_pseudonym_per_address_and_day_as_polars_counts(
    shared_data: Path, tmp_path: Path
) -> None:
    table = pl.read_parquet(shared_data / "wifi_probes" / "wifi_probes_2024_02_08_to_03_14.parquet")
    table.gather_every(20).write_parquet(tmp_path / "part.parquet")
    check_wifi(tmp_path / "part.parquet")


@pytest.mark.slow
def test_all_wifi_probes_have_one_pseudonym_per_address_and_day(shared_data: Path) -> None:
    check_wifi(shared_data / "wifi_probes" / "wifi_probes_2024_02_08_to_03_14.parquet")


RETAIL = parse_mapping(
    {
        "channel": "shop",
        "event": {"constant": "Order Completed"},
        "id": {"row_digest": True},
        "subject": {"column": "customer_id"},
        "time": {"column": "invoice_ts", "format": "timestamp", "zone": "Europe/London"},
        "where": [{"column": "customer_id", "present": True}, {"column": "invoice", "not_starts_with": "C"}],
        "fields": {"order_id": "invoice", "total": "unit_price"},
    }
)


def check_retail(path: Any) -> None:
    rows, letters, counts = run(make().parquet(path, RETAIL))
    table = pl.read_parquet(path)
    kept = table.filter(pl.col("customer_id").is_not_null() & ~pl.col("invoice").str.starts_with("C"))
    assert letters == []
    assert (len(rows), counts["skipped"]) == (len(kept), len(table) - len(kept))
    assert len({row.subject for row in rows}) == kept["customer_id"].n_unique()
    assert len({row.values[0] for row in rows}) == kept["invoice"].n_unique()
    assert abs(float(sum(row.values[1] for row in rows)) - float(kept["unit_price"].sum())) < 1e-3
    columns = ["customer_id", "invoice", "invoice_ts", "unit_price"]
    assert len({row.digest for row in rows}) == len(kept.unique(columns))
    zone = ZoneInfo("Europe/London")
    expected = [
        int(moment.replace(tzinfo=zone).timestamp() * 1000)
        for moment in kept["invoice_ts"].head(500).to_list()
    ]
    assert [row.time_ms for row in rows[:500]] == expected


def test_online_retail_orders_equal_a_recount(shared_data: Path, tmp_path: Path) -> None:
    pl.read_parquet(shared_data / "online_retail" / "online_retail_2010_2011.parquet").head(
        20_000
    ).write_parquet(tmp_path / "part.parquet")
    check_retail(tmp_path / "part.parquet")


@pytest.mark.slow
def test_all_online_retail_orders_equal_a_recount(shared_data: Path) -> None:
    check_retail(shared_data / "online_retail" / "online_retail_2010_2011.parquet")
