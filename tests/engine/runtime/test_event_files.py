"""Event files: which channel, in which order, received when; what does not fit is refused before anything runs."""

import gzip
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest

from dayfly.engine.errors import RunError
from dayfly.engine.generator.times import iso_ms
from dayfly.engine.runtime import RawMessage, Rows, in_order, open_event_files

from .world import T0, World, changed, furniture


def lines(path: Path, *messages: dict[str, Any] | bytes) -> Path:
    raw = [item if isinstance(item, bytes) else orjson.dumps(item) for item in messages]
    text = b"".join(item + b"\n" for item in raw)
    path.write_bytes(gzip.compress(text) if path.name.endswith(".gz") else text)
    return path


def track(received_ms: int | None = None, **more: Any) -> dict[str, Any]:
    receipt = {} if received_ms is None else {"receivedAt": iso_ms(received_ms)}
    return {"type": "track", "event": "App Opened", "userId": "u-1", **receipt, **more}


def received(*paths: Path) -> list[int]:
    intake = World().engine.intake
    files = open_event_files(paths, furniture())
    return [item.received_ms for item in in_order([file.arrivals(intake) for file in files])]


def test_messages_arrive_when_they_say_that_they_were_received(tmp_path: Path) -> None:
    assert received(lines(tmp_path / "app.jsonl", track(T0), track(T0 + 7))) == [T0, T0 + 7]


def test_a_line_that_does_not_say_arrives_with_the_one_before(tmp_path: Path) -> None:
    path = lines(tmp_path / "app.jsonl", track(T0), b'{"cut', track(), b"[1]", track(T0 + 9))
    assert received(path) == [T0, T0, T0, T0, T0 + 9]


def test_first_lines_that_do_not_say_arrive_with_the_first_that_does(tmp_path: Path) -> None:
    assert received(lines(tmp_path / "app.jsonl", b'{"cut', track(T0))) == [T0, T0]


def test_times_of_receipt_never_fall(tmp_path: Path) -> None:
    assert received(lines(tmp_path / "app.jsonl", track(T0 + 9), track(T0))) == [T0 + 9, T0 + 9]


def test_without_a_time_of_receipt_the_time_of_sending_stands_for_it(tmp_path: Path) -> None:
    path = lines(tmp_path / "app.jsonl", track(sentAt=iso_ms(T0 + 5), timestamp=iso_ms(T0)))
    assert received(path) == [T0 + 5]


def test_channels_come_in_by_time_of_receipt(tmp_path: Path) -> None:
    app = lines(tmp_path / "app.jsonl", track(T0), track(T0 + 20))
    web = lines(tmp_path / "web.jsonl.gz", track(T0 + 10), track(T0 + 30))
    assert received(app, web) == [T0, T0 + 10, T0 + 20, T0 + 30]


def orders(path: Path, *times_ms: int) -> Path:
    table = pa.table(
        {
            "row_id": [str(number) for number in range(len(times_ms))],
            "buyer": ["u-1"] * len(times_ms),
            "event": ["placed"] * len(times_ms),
            "order_id": ["o-1"] * len(times_ms),
            "total": ["10.5"] * len(times_ms),
            "currency": ["CNY"] * len(times_ms),
            "category": ["sofa"] * len(times_ms),
            "occurred_at": [iso_ms(time) for time in times_ms],
        }
    )
    (pa.csv.write_csv if path.suffix == ".csv" else pa.parquet.write_table)(table, path)
    return path


@pytest.mark.parametrize("name", ["marketplace.csv", "marketplace.parquet"])
def test_rows_of_a_mapped_file_arrive_at_their_own_time_so_that_others_come_between(
    tmp_path: Path, name: str
) -> None:
    rows = orders(tmp_path / name, T0, T0 + 400, T0 + 5_000)
    app = lines(tmp_path / "app.jsonl", track(T0 + 1_000))
    intake = World().engine.intake
    files = open_event_files([rows, app], furniture())
    found = list(in_order([file.arrivals(intake) for file in files]))
    sizes = [len(item.result.batch) if isinstance(item, Rows) else 0 for item in found]
    assert [item.received_ms for item in found] == [T0 + 400, T0 + 1_000, T0 + 5_000]
    assert sizes == [2, 0, 1]
    assert [type(item) for item in found] == [Rows, RawMessage, Rows]


def test_counts_of_a_mapped_file_are_counted_once_however_it_is_cut(tmp_path: Path) -> None:
    path = orders(tmp_path / "marketplace.csv", T0, T0 + 5_000, T0 + 10_000)
    (file,) = open_event_files([path], furniture())
    found = [item for item in file.arrivals(World().engine.intake) if isinstance(item, Rows)]
    assert sum(item.result.counts.get("received", 0) for item in found) == 3
    assert sum(len(item.result.batch) for item in found) == 3


def test_the_number_of_rows_is_known_for_progress_except_of_packed_files(tmp_path: Path) -> None:
    paths = [
        lines(tmp_path / "app.jsonl", track(T0), track(T0)),
        lines(tmp_path / "web.jsonl.gz", track(T0)),
        orders(tmp_path / "marketplace.parquet", T0, T0, T0),
    ]
    assert [file.rows_about() for file in open_event_files(paths, furniture())] == [2, None, 3]


def second_mapping(document: dict[str, Any]) -> None:
    if document["name"] == "hotline-calls":
        document |= {"channel": "marketplace"}


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("absent.jsonl", "file=.*absent.jsonl' must be an existing file"),
        ("app.txt", r"must end in one of \.jsonl \.csv \.parquet"),
        ("till.jsonl", "must begin with the name of a channel .* the policy declares: app, web"),
        ("app.csv", "must be .jsonl, as channel 'app' sends segment"),
    ],
)
def test_a_file_that_the_policy_cannot_read_is_refused(tmp_path: Path, name: str, message: str) -> None:
    path = tmp_path / name
    if not name.startswith("absent"):
        path.write_bytes(b"")
    with pytest.raises(RunError, match=message):
        open_event_files([path], furniture())


def test_a_file_named_twice_is_refused(tmp_path: Path) -> None:
    path = lines(tmp_path / "app.jsonl", track(T0))
    with pytest.raises(RunError, match="must be different"):
        open_event_files([path, path], furniture())


def test_a_file_of_messages_without_any_time_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="must say in its lines when they arrived"):
        received(lines(tmp_path / "app.jsonl", track(), track()))


def test_a_channel_with_several_mappings_needs_the_mapping_in_the_files_name(tmp_path: Path) -> None:
    policy = changed("mapping", second_mapping)
    path = orders(tmp_path / "marketplace.csv", T0)
    with pytest.raises(RunError, match="has: marketplace-orders, hotline-calls"):
        open_event_files([path], policy)
    named = path.rename(tmp_path / "marketplace.marketplace-orders.csv")
    assert len(open_event_files([named], policy)) == 1
