"""Payloads are what the channels themselves would send, read here by other people's readers."""

import csv
import io
import json
import re
from collections import Counter, defaultdict
from datetime import datetime
from pathlib import Path
from typing import Any, TypeAlias

import polars as pl
import pytest
import yaml

from dayfly.engine import examples
from dayfly.engine.generator import (
    CONSENT_CATEGORIES,
    FILE_NAMES,
    MARKETPLACE_COLUMNS,
    ONE_TIME_CATEGORY,
    Generator,
    RawEvent,
    Shares,
    write,
)

Messages: TypeAlias = dict[str, list[dict[str, Any]]]

START_MS = 1_795_305_600_000
DAY_MS = 86_400_000
UNDECLARED = {"email", "phone"}  # sent on purpose: intake must not read them
CONSENT_EVENT = "Segment Consent Preference Updated"


@pytest.fixture(scope="module")
def events() -> list[RawEvent]:
    return list(Generator(11, 1_200, START_MS, 2 * DAY_MS, shares=Shares(malformed=0.01)))


@pytest.fixture(scope="module")
def messages(events: list[RawEvent]) -> Messages:
    """Parsed valid messages by channel, each first sending once."""
    found: Messages = defaultdict(list)
    for event in events:
        if event.fault in {"malformed", "duplicate"}:
            continue
        if event.form == "csv":
            (row,) = csv.reader(io.StringIO(event.payload.decode()))
            found[event.channel].append(dict(zip(MARKETPLACE_COLUMNS, row, strict=True)))
        else:
            found[event.channel].append(json.loads(event.payload.decode("utf-8", "strict")))
    return found


@pytest.fixture(scope="module")
def catalog() -> dict[str, set[str]]:
    (folder,) = examples.__path__
    document = yaml.safe_load((Path(folder) / "furniture" / "catalog.yaml").read_text(encoding="utf-8"))
    return {name: set((body or {}).get("fields", {})) for name, body in document["events"].items()}


def at(text: str) -> float:
    assert text.endswith("Z")
    return datetime.fromisoformat(text).timestamp() * 1_000


def test_segment_messages_have_what_the_specification_requires(messages: Messages) -> None:
    kinds = Counter(message["type"] for message in messages["app"])
    assert set(kinds) == {"track", "identify", "screen"}
    for message in messages["app"]:
        assert message.get("userId") or message.get("anonymousId")
        assert len(message["messageId"]) <= 100
        assert message["type"] != "track" or message["event"]
        assert at(message["sentAt"]) >= at(message["timestamp"])


def test_rudder_messages_have_what_the_specification_requires(messages: Messages) -> None:
    kinds = Counter(message["type"] for message in messages["web"])
    assert set(kinds) == {"track", "identify", "page", "alias"}
    for message in messages["web"]:
        assert message.get("userId") or message.get("anonymousId")
        assert message["type"] != "alias" or (message["previousId"] and message["userId"])
        assert at(message["sentAt"]) >= at(message["originalTimestamp"])


def test_message_ids_are_unique(messages: Messages) -> None:
    ids = [message["messageId"] for channel in ("app", "web") for message in messages[channel]]
    assert len(set(ids)) == len(ids)


def test_cloudevents_follow_the_attribute_rules(messages: Messages) -> None:
    for message in messages["wifi"]:
        assert message["specversion"] == "1.0"
        assert all(message[name] for name in ("id", "source", "type"))
        assert all(re.fullmatch(r"[a-z0-9]+", name) for name in message)
        assert message["datacontenttype"] == "application/json"
        assert at(message["recordedtime"]) >= at(message["time"])
    pairs = [(message["source"], message["id"]) for message in messages["wifi"]]
    assert len(set(pairs)) == len(pairs)


def test_most_phones_show_randomised_addresses_and_change_them(messages: Messages) -> None:
    addresses = [message["subject"].removeprefix("probe:") for message in messages["wifi"]]
    assert all(re.fullmatch(r"([0-9a-f]{2}:){5}[0-9a-f]{2}", address) for address in addresses)
    first = [int(address[:2], 16) for address in addresses]
    assert all(byte & 1 == 0 for byte in first)  # a device's address is never a group address
    local = sum(1 for byte in first if byte & 2)
    assert 0.5 < local / len(first) < 0.9


def test_marketplace_rows_hold_their_columns(messages: Messages) -> None:
    rows = messages["marketplace"]
    assert {row["event"] for row in rows} == {"placed", "shipped", "cancelled"}
    for row in rows:
        assert float(row["total"]) > 0
        assert at(row["exported_at"]) >= at(row["occurred_at"])
    assert {row["buyer"][:2] for row in rows} == {"u-", "mp"}


def test_hotline_lines_hold_a_call(messages: Messages) -> None:
    for line in messages["hotline"]:
        assert line["event"] == "Hotline Called"
        assert line["duration_s"] >= 20
        assert at(line["logged_at"]) - at(line["started_at"]) >= line["duration_s"] * 1_000


def test_names_and_fields_are_those_of_the_example_policy(
    messages: Messages, catalog: dict[str, set[str]]
) -> None:
    for message in messages["app"] + messages["web"]:
        if message["type"] == "track" and message["event"] != CONSENT_EVENT:
            assert set(message["properties"]) <= catalog[message["event"]], message["event"]
        elif message["type"] == "identify":
            assert set(message["traits"]) - UNDECLARED <= catalog["$identify"]
    for message in messages["wifi"]:
        assert set(message["data"]) == catalog[message["type"]]
    for line in messages["hotline"]:
        assert {"subject", "duration_s", "resolved"} <= set(line)
        assert (
            set(line) - {"call_id", "customer", "event", "started_at", "logged_at"} <= catalog[line["event"]]
        )


def test_every_declared_behaviour_occurs(messages: Messages, catalog: dict[str, set[str]]) -> None:
    seen = {
        message["event"]
        for channel in ("app", "web")
        for message in messages[channel]
        if message["type"] == "track"
    }
    reserved = {"com.example.presence.seen", "Hotline Called"}
    assert {name for name in catalog if not name.startswith("$")} - reserved <= seen


def test_required_fields_are_always_there(messages: Messages) -> None:
    needed = {"Product Searched": "query", "Product Viewed": "product_id", "Order Completed": "order_id"}
    for message in messages["app"] + messages["web"]:
        field = needed.get(message.get("event", ""))
        assert field is None or message["properties"][field]


def test_queries_are_chinese_and_english(messages: Messages) -> None:
    queries = {
        message["properties"]["query"]
        for message in messages["app"]
        if message.get("event") == "Product Searched"
    }
    assert any("小户型收纳" in query for query in queries)
    assert any(query.isascii() for query in queries)


def test_consent_is_given_once_given_and_withdrawn(messages: Messages) -> None:
    seen: Counter[str] = Counter()
    last: dict[str, set[str]] = {}
    for message in messages["app"]:
        if message.get("event") == CONSENT_EVENT:
            choices = message["context"]["consent"]["categoryPreferences"]
            assert set(choices) <= {*CONSENT_CATEGORIES, ONE_TIME_CATEGORY}
            person = message["anonymousId"]
            granted = {name for name, allowed in choices.items() if allowed}
            seen["given" if granted else "withdrawn" if last.get(person) else "refused"] += 1
            seen["once"] += granted == {ONE_TIME_CATEGORY}
            last[person] = granted
    assert all(seen[name] > 0 for name in ("given", "refused", "withdrawn", "once"))
    managed = [
        message["context"]["consentManagement"]
        for message in messages["web"]
        if "consentManagement" in message["context"]
    ]
    assert managed
    for consent in managed:
        both = consent["allowedConsentIds"] + consent["deniedConsentIds"]
        assert len(set(both)) == len(both)
        assert set(both) <= {*CONSENT_CATEGORIES, ONE_TIME_CATEGORY}


def test_people_become_known_by_logging_in(messages: Messages) -> None:
    known_before_login = 0
    logged_in: set[str] = set()
    for message in sorted(messages["app"], key=lambda message: message["timestamp"]):
        if message["type"] == "identify":
            logged_in.add(message["anonymousId"])
        elif (
            "userId" in message
            and message.get("event") != "Login"
            and message["anonymousId"] not in logged_in
        ):
            known_before_login += 1
    assert logged_in
    assert (
        known_before_login / len(messages["app"]) < 0.01
    )  # only where a skewed clock or a broken identify reorders


def test_two_devices_of_one_person_meet_in_one_account(messages: Messages) -> None:
    devices: dict[str, set[str]] = defaultdict(set)
    for channel in ("app", "web"):
        for message in messages[channel]:
            if message["type"] == "identify":
                devices[message["userId"]].add(channel)
    assert sum(1 for channels in devices.values() if channels == {"app", "web"}) > 10


def test_orders_are_shipped_and_some_are_cancelled_after_shipping(messages: Messages) -> None:
    when: dict[str, dict[str, str]] = defaultdict(dict)
    for message in messages["app"] + messages["web"]:
        if message.get("event", "").startswith("Order "):
            when[message["properties"]["order_id"]][message["event"]] = message["sentAt"]
    assert any("Order Shipped" in states for states in when.values())
    after = [
        at(states["Order Cancelled"]) - at(states["Order Shipped"])
        for states in when.values()
        if {"Order Cancelled", "Order Shipped"} <= set(states)
    ]
    assert sum(1 for passed_ms in after if passed_ms > 0) >= 10
    # Within the life of a fragment that says "shipping": what a recall is for.
    assert sum(1 for passed_ms in after if 0 < passed_ms < 1_800_000) >= 5


def test_a_malformed_payload_is_not_valid_in_its_form(events: list[RawEvent]) -> None:
    broken = [event for event in events if event.fault == "malformed"]
    assert len(broken) > 100
    for event in broken:
        with pytest.raises((ValueError, TypeError)):
            _strictly(event)


def _strictly(event: RawEvent) -> None:
    text = event.payload.decode("utf-8", "strict")
    if event.form == "csv":
        (row,) = csv.reader(io.StringIO(text))
        values = dict(zip(MARKETPLACE_COLUMNS, row, strict=True))
        datetime.fromisoformat(values["exported_at"])
        float(values["total"])
        return
    message = json.loads(text, parse_constant=_no_constant)
    if not isinstance(message, dict):
        raise TypeError(text)


def _no_constant(name: str) -> None:
    raise ValueError(name)  # NaN and Infinity are Python's, not JSON's


def test_files_hold_the_stream_and_are_read_by_other_readers(tmp_path: Path, events: list[RawEvent]) -> None:
    counts = write(events, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(FILE_NAMES.values())
    assert sum(counts.values()) == len(events)
    lines = (tmp_path / "app.segment.jsonl").read_bytes().splitlines()
    app = [event for event in events if event.channel == "app"]
    assert len(lines) == len(app)
    for line, event in zip(lines, app, strict=True):
        if event.fault != "malformed":
            message = json.loads(line)
            assert at(message.pop("receivedAt")) == event.received_ms
            assert message == json.loads(event.payload)
    clean = [event for event in events if event.fault != "malformed"]
    write(clean, tmp_path / "clean")
    table = pl.read_csv(tmp_path / "clean" / "marketplace.csv")
    assert tuple(table.columns) == MARKETPLACE_COLUMNS
    assert table.height == sum(1 for event in clean if event.channel == "marketplace")
    assert table["total"].dtype == pl.Float64
    for name in ("wifi.cloudevents.jsonl", "hotline.jsonl"):
        assert pl.read_ndjson(tmp_path / "clean" / name).height > 0


def test_files_are_never_overwritten(tmp_path: Path) -> None:
    write([], tmp_path)
    with pytest.raises(FileExistsError, match=r"app\.segment\.jsonl"):
        write([], tmp_path)
