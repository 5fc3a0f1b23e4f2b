"""Segment payloads: both paths against each other and against the plain-Python oracle."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.oracles.intake import Refused
from tests.oracles.unpack import rows_of

from .support import (
    CATALOG,
    NOW,
    OLD_KEY,
    SMALL,
    USER_KEY,
    ask_oracle,
    make_intake,
    payload,
    payload_bytes,
    plain_payloads,
    raw,
    seen,
)

FAST, GENERAL = make_intake(), make_intake(fast=False)
SMALL_FAST, SMALL_GENERAL = make_intake(SMALL), make_intake(SMALL, fast=False)
OVERLAP = {1: OLD_KEY, 2: USER_KEY}
OVERLAP_FAST, OVERLAP_GENERAL = make_intake(versions=OVERLAP), make_intake(versions=OVERLAP, fast=False)


@given(st.lists(st.one_of(payload_bytes(), plain_payloads, st.binary(max_size=30)), max_size=6))
def test_both_paths_give_the_same_result(payloads: list[bytes]) -> None:
    assert seen(FAST.segment(payloads, "app", NOW)) == seen(GENERAL.segment(payloads, "app", NOW))


@given(st.lists(st.one_of(payload_bytes(), plain_payloads), max_size=4))
def test_both_paths_hold_the_same_limits(payloads: list[bytes]) -> None:
    assert seen(SMALL_FAST.segment(payloads, "app", NOW)) == seen(SMALL_GENERAL.segment(payloads, "app", NOW))


@given(st.lists(st.one_of(payload_bytes(), plain_payloads), max_size=4))
def test_both_paths_link_an_older_key_version(payloads: list[bytes]) -> None:
    assert seen(OVERLAP_FAST.segment(payloads, "app", NOW)) == seen(
        OVERLAP_GENERAL.segment(payloads, "app", NOW)
    )


@given(st.one_of(payload_bytes(), plain_payloads), st.data())
def test_both_paths_agree_on_damaged_bytes(data: bytes, draw: Any) -> None:
    at = draw.draw(st.integers(0, len(data)))
    data = data[:at] + draw.draw(st.binary(max_size=2)) + data[at + draw.draw(st.integers(0, 2)) :]
    payloads = [data, raw(), data]
    assert seen(FAST.segment(payloads, "app", NOW)) == seen(GENERAL.segment(payloads, "app", NOW))


@given(st.one_of(payload_bytes(), plain_payloads))
def test_the_general_path_agrees_with_the_oracle(data: bytes) -> None:
    try:
        data.decode()
    except UnicodeDecodeError:
        return
    result = GENERAL.segment([data], "app", NOW)
    refused = {"lone_surrogate", "too_deep", "too_many_properties"}
    if result.dead_letters and result.dead_letters[0].reason in refused:
        return
    try:
        expected: Any = ask_oracle(data)
    except Refused as refused:
        expected = refused
    if isinstance(expected, Refused):
        assert [letter.reason for letter in result.dead_letters] == [expected.reason]
        return
    assert result.dead_letters == ()
    (row,) = rows_of(result.batch, CATALOG)
    assert (row.type < 0) == (expected["type"] is None)
    assert row.type < 0 or CATALOG.types[row.type].name == expected["type"]
    assert (row.subject, row.event_id, row.digest) == (
        expected["subject"],
        expected["event_id"],
        expected["digest"],
    )
    assert row.link == (expected["links"][0] if expected["links"] else None)
    assert [merge.other for merge in result.merges] == expected["links"][1:]
    assert row.time_ms == expected["time_ms"]
    assert list(row.values) == (expected["cells"] or [])
    assert (None if row.consent is None else (row.consent.form, row.consent.content)) == expected["consent"]


@given(
    st.lists(st.one_of(payload_bytes(), plain_payloads, st.just(b"3")), max_size=5),
    st.sampled_from([..., "2026-03-10T11:59:00Z", "soon", 5]),
)
def test_an_envelope_means_its_calls(payloads: list[bytes], sent_at: Any) -> None:
    envelope = (
        b'{"sentAt":'
        + (b"null" if sent_at is ... else json.dumps(sent_at).encode())
        + b',"batch":['
        + b",".join(payloads)
        + b"]}"
    )
    mixed = [raw(), envelope, raw(messageId="m-2")]
    assert seen(FAST.segment(mixed, "app", NOW)) == seen(GENERAL.segment(mixed, "app", NOW))


@pytest.mark.parametrize(
    ("sent_at", "reason"),
    [(b'"\xff"', "invalid_utf8"), (b'"\\ud800"', "lone_surrogate"), (b"1e999", "number_out_of_range")],
)
def test_an_envelope_whose_time_is_no_json_is_one_dead_letter(sent_at: bytes, reason: str) -> None:
    envelope = b'{"batch":[' + raw() + b'],"sentAt":' + sent_at + b"}"
    for intake in (FAST, GENERAL):
        result = intake.segment([envelope, raw(messageId="m-2")], "app", NOW)
        assert [letter.reason for letter in result.dead_letters] == [reason]
        assert len(result.batch) == 1


def test_the_compiled_path_takes_ordinary_payloads() -> None:
    ordinary = [
        raw(),
        raw(type="page", name="Home", properties={"name": "Home", "title": "t"}),
        raw(type="identify", userId="u-1", traits={"city": "Shanghai"}),
        raw(type="group", groupId="g", traits={"plan": "p"}),
        json.dumps(payload(event="查看商品", properties={"材质": "皮革"}), ensure_ascii=False).encode(),
        raw(event="Unknown"),
        raw(event="查看商品", properties={}),
        raw(properties={"product_id": '真皮 "A" \\ \t\x00'}),
        raw(context={"consentManagement": {"allowedConsentIds": ["a"]}}),
        raw(properties={"product_id": None, "price": 1}, event="Unknown"),
    ]
    result = FAST.segment(ordinary, "app", NOW)
    assert (result.counts["fast"], result.counts["accepted"]) == (len(ordinary), len(ordinary))
    assert seen(result) == seen(GENERAL.segment(ordinary, "app", NOW))


@pytest.mark.parametrize(
    "members",
    [
        {"properties": {"product_id": "\N{GRINNING FACE}"}},
        {"properties": {"product_id": "x", "price": 1e-3 / 7}},
        {"properties": {"product_id": "x", "price": 1e30}},
        {"timestamp": "2026-03-10T20:00:00+08:00"},
        {"messageId": 7},
        {"messageId": ...},
        {"context": {"consent": {}}},
        {"type": "alias", "userId": "u", "previousId": "p"},
    ],
)
def test_the_compiled_path_leaves_odd_payloads_alone(members: Any) -> None:
    assert "fast" not in FAST.segment([raw(**members)], "app", NOW).counts


@pytest.mark.parametrize(
    ("members", "cells"),
    [
        (b'"price": 1, "price": 2', (2, None)),
        (b'"price": 1, "price": null', (None, None)),
        (b'"address": {"city": "x"}, "address": {}', (None, None)),
        (b'"address": {"city": "x"}, "address": {"city": "y"}', (None, "y")),
    ],
)
def test_a_repeated_name_means_its_last_value_on_both_paths(members: bytes, cells: Any) -> None:
    twice = raw().replace(b'"price": 19.99', members)
    for intake in (FAST, GENERAL):
        (row,) = rows_of(intake.segment([twice], "app", NOW).batch, CATALOG)
        assert row.values[1:3] == cells


def test_the_order_of_arrival_is_kept_between_paths() -> None:
    payloads = [raw(messageId=str(n) if n % 3 else n) for n in range(1, 20)]
    ids = [row.event_id for row in rows_of(FAST.segment(payloads, "app", NOW).batch, CATALOG)]
    assert ids == [row.event_id for row in rows_of(GENERAL.segment(payloads, "app", NOW).batch, CATALOG)]
    assert FAST.segment(payloads, "app", NOW).counts["fast"] == 13


def test_no_raw_identifier_or_undeclared_value_reaches_the_batch() -> None:
    secret = raw(
        userId="secret-user",
        messageId="secret-message",
        properties={"product_id": "P", "note": "secret-note"},
    )
    for intake in (FAST, GENERAL):
        batch = intake.segment([secret], "app", NOW).batch
        assert batch.strings.tobytes() == b"P"
        assert b"secret" not in repr(batch).encode()
