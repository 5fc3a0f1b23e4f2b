"""CloudEvents 1.0 in its three content modes, and its rules for attributes."""

import base64
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dayfly.engine.catalog import Catalog, EventType, FieldSpec, FieldType
from dayfly.engine.intake import DeadLetterReason, Intake
from tests.oracles.intake import digest, event_id, pseudonym
from tests.oracles.unpack import rows_of

from .support import DIGEST_KEY, NOW, TENANT, USER_KEY, make_intake, make_keys, make_policy, values

Reason = DeadLetterReason
SEEN = "com.example.presence.seen"
CATALOG = Catalog(
    (EventType(SEEN, (FieldSpec("dwell_s", FieldType.NUMBER), FieldSpec("zone", FieldType.STRING))),),
    ("app", "wifi"),
)
STRUCTURED = {"Content-Type": "application/cloudevents+json; charset=utf-8"}
BATCHED = {"content-type": "application/cloudevents-batch+json"}


def make() -> Any:
    return Intake(make_policy(catalog=CATALOG), make_keys())


def event(**members: Any) -> Any:
    """The sample of the reference (cdp.md section 5); `...` removes a member."""
    sample = {
        "specversion": "1.0",
        "id": "w-9",
        "source": "/stores/sh-12/wifi",
        "type": SEEN,
        "time": "2026-03-10T11:58:03Z",
        "subject": "user:u-1",
        "datacontenttype": "application/json",
        "data": {"dwell_s": 410},
        **members,
    }
    return json.dumps({name: value for name, value in sample.items() if value is not ...}).encode()


def binary(body: Any = b'{"dwell_s": 410}', **headers: Any) -> Any:
    sample = {
        "ce-specversion": "1.0",
        "ce-id": "w-9",
        "CE-Source": "/stores/sh-12/wifi",
        "ce-type": SEEN,
        "ce-time": "2026-03-10T11:58:03Z",
        "ce-subject": "user:u-1",
        "Content-Type": "application/json",
        **{"ce-" + name: value for name, value in headers.items()},
    }
    return {name: value for name, value in sample.items() if value is not ...}, body


def only(result: Any) -> Any:
    assert result.dead_letters == ()
    (row,) = rows_of(result.batch, CATALOG)
    return row


def reason_of(result: Any) -> Any:
    (letter,) = result.dead_letters
    return letter.reason


def test_the_three_modes_mean_the_same_event() -> None:
    intake = make()
    rows = [
        only(intake.cloudevents(STRUCTURED, event(), "app", NOW)),
        only(intake.cloudevents(BATCHED, b"[" + event() + b"]", "app", NOW)),
        only(intake.cloudevents(*binary(), "app", NOW)),
    ]
    for row in rows:
        assert row.subject == pseudonym(TENANT, USER_KEY, "user", "u-1")
        assert row.event_id == event_id(DIGEST_KEY, "app.example", b"/stores/sh-12/wifi\0w-9")
        assert (row.time_ms, row.values, row.consent) == (NOW - 117_000, (410, None), None)
    assert rows[0].digest == rows[1].digest == digest(DIGEST_KEY, event())


def test_an_anonymous_subject_is_of_the_kind_of_an_anonymous_id() -> None:
    row = only(make().cloudevents(STRUCTURED, event(subject="anon:a-77"), "app", NOW))
    assert row.subject == pseudonym(TENANT, USER_KEY, "anonymous", "a-77")


def test_a_probe_has_another_pseudonym_each_day_and_a_random_address_is_counted() -> None:
    intake = make()
    fixed = event(subject="probe:68:ec:c5:24:03:44", time=...)
    first, second = (
        only(intake.cloudevents(STRUCTURED, fixed, "wifi", NOW + hour * 3_600_000)) for hour in (0, 1)
    )
    later = only(intake.cloudevents(STRUCTURED, fixed, "wifi", NOW + 86_400_000))
    assert first.subject == second.subject
    assert b"68:ec" not in first.subject
    result = intake.cloudevents(
        STRUCTURED, event(subject="probe:d6:f6:fb:a2:c5:ab", time=...), "wifi", NOW + 86_400_001
    )
    assert result.counts["randomised"] == 1
    assert later.subject not in {first.subject, only(result).subject}


def test_a_probe_of_a_day_whose_key_is_gone_is_refused() -> None:
    intake = make()
    intake.cloudevents(STRUCTURED, event(subject="probe:68:ec:c5:24:03:44"), "wifi", NOW + 86_400_000)
    result = intake.cloudevents(STRUCTURED, event(subject="probe:68:ec:c5:24:03:44"), "wifi", NOW)
    assert reason_of(result) == Reason.BAD_IDENTIFIER


def test_without_a_time_it_happened_on_arrival() -> None:
    assert only(make().cloudevents(STRUCTURED, event(time=...), "app", NOW)).time_ms == NOW


def test_data_may_be_base64_and_may_be_absent() -> None:
    encoded = base64.b64encode(b'{"zone": "kids"}').decode()
    intake = make()
    assert only(intake.cloudevents(STRUCTURED, event(data=..., data_base64=encoded), "app", NOW)).values == (
        None,
        "kids",
    )
    assert only(intake.cloudevents(STRUCTURED, event(data=...), "app", NOW)).values == (None, None)
    assert only(intake.cloudevents(*binary(b""), "app", NOW)).values == (None, None)


def test_header_values_are_percent_decoded() -> None:
    row = only(make().cloudevents(*binary(subject="user:%E5%BC%A0%20x"), "app", NOW))
    assert row.subject == pseudonym(TENANT, USER_KEY, "user", "张 x")


@pytest.mark.parametrize(
    ("members", "reason"),
    [
        ({"specversion": "0.3"}, Reason.BAD_ATTRIBUTE),
        ({"specversion": ...}, Reason.BAD_ATTRIBUTE),
        ({"specversion": 1}, Reason.BAD_ATTRIBUTE),
        ({"id": ...}, Reason.MISSING_ID),
        ({"id": ""}, Reason.BAD_ATTRIBUTE),
        ({"id": 7}, Reason.BAD_ATTRIBUTE),
        ({"source": ...}, Reason.BAD_ATTRIBUTE),
        ({"type": ...}, Reason.MISSING_NAME),
        ({"type": None}, Reason.MISSING_NAME),
        ({"Upper": "x"}, Reason.BAD_ATTRIBUTE),
        ({"with_underscore": "x"}, Reason.BAD_ATTRIBUTE),
        ({"extension": {"a": 1}}, Reason.BAD_ATTRIBUTE),
        ({"extension": 1.5}, Reason.BAD_ATTRIBUTE),
        ({"extension": 2**31}, Reason.BAD_ATTRIBUTE),
        ({"extension": "a\u0007b"}, Reason.BAD_ATTRIBUTE),
        ({"time": "2026-03-10 noon"}, Reason.BAD_TIME),
        ({"time": 5}, Reason.BAD_ATTRIBUTE),
        ({"time": "2026-03-01T00:00:00Z"}, Reason.TOO_LATE),
        ({"subject": ...}, Reason.MISSING_IDENTITY),
        ({"subject": "u-1"}, Reason.MISSING_IDENTITY),
        ({"subject": "user:"}, Reason.MISSING_IDENTITY),
        ({"subject": "probe:68:ec:c5:24:03:44"}, Reason.BAD_IDENTIFIER),
        ({"datacontenttype": "text/xml", "data": "<a/>"}, Reason.UNSUPPORTED_CONTENT),
        ({"data": [1]}, Reason.NOT_AN_OBJECT),
        ({"data": {"dwell_s": "long"}}, Reason.TYPE_MISMATCH),
        ({"data_base64": "e30="}, Reason.BAD_ATTRIBUTE),
        ({"data": ..., "data_base64": "%"}, Reason.BAD_ATTRIBUTE),
        ({"data": ..., "data_base64": "e30"}, Reason.BAD_ATTRIBUTE),
        ({"data": ..., "data_base64": "fQ=="}, Reason.NOT_JSON),
        ({"data": {"a": "x" * 40_000}}, Reason.TOO_LARGE),
    ],
)
def test_a_broken_event_is_a_dead_letter_and_the_rest_of_the_batch_proceeds(
    members: Any, reason: DeadLetterReason
) -> None:
    result = make().cloudevents(BATCHED, b"[" + event() + b"," + event(**members) + b"]", "app", NOW)
    assert (reason_of(result), result.dead_letters[0].place) == (reason, "batch 1")
    assert result.counts["accepted"] == 1


@pytest.mark.parametrize(
    "members", [{"ext": 2**31 - 1}, {"ext": -(2**31)}, {"ext": True}, {"ext": "x"}, {"ext": None}]
)
def test_extensions_of_the_allowed_types_pass(members: Any) -> None:
    assert only(make().cloudevents(STRUCTURED, event(**members), "app", NOW)).type == 0


@pytest.mark.parametrize(
    ("headers", "body", "reason"),
    [
        ({"Content-Type": "application/cloudevents+avro"}, b"", Reason.UNSUPPORTED_CONTENT),
        ({"Content-Type": "application/json"}, b"{}", Reason.MISSING_ID),
        ({}, b"{}", Reason.MISSING_ID),
        (BATCHED, event(), Reason.NOT_AN_OBJECT),
        (BATCHED, b"[", Reason.NOT_JSON),
        (BATCHED, b"[" * 5_000, Reason.TOO_DEEP),
        (STRUCTURED, b"\xff", Reason.INVALID_UTF8),
        (binary(subject="user:%FF")[0], b"{}", Reason.BAD_ATTRIBUTE),
        (binary(datacontenttype="text/plain")[0], b"{}", Reason.BAD_ATTRIBUTE),
        ({**binary()[0], "CE-ID": "other"}, b"{}", Reason.BAD_ATTRIBUTE),
        ({**binary()[0], "Content-Type": "text/plain"}, b"{}", Reason.UNSUPPORTED_CONTENT),
        (binary()[0], b'{"a":' * 13 + b"1" + b"}" * 13, Reason.TOO_DEEP),
        (binary()[0], b" " * 32_769, Reason.TOO_LARGE),
    ],
)
def test_a_broken_message_is_one_dead_letter(
    headers: dict[str, str], body: bytes, reason: DeadLetterReason
) -> None:
    result = make().cloudevents(headers, body, "app", NOW)
    assert (reason_of(result), len(result.batch)) == (reason, 0)


def test_a_batch_with_too_many_events_is_one_dead_letter() -> None:
    intake = Intake(make_policy(catalog=CATALOG), make_keys(), max_batch_events=2)
    assert (
        intake.cloudevents(BATCHED, b"[" + b",".join([event()] * 2) + b"]", "app", NOW).counts["accepted"]
        == 2
    )
    assert (
        reason_of(intake.cloudevents(BATCHED, b"[" + b",".join([event()] * 3) + b"]", "app", NOW))
        == Reason.TOO_LARGE
    )


@given(
    st.sampled_from([STRUCTURED, BATCHED, {}, binary()[0]]),
    st.one_of(st.binary(max_size=40), values.map(lambda v: json.dumps(v).encode())),
)
def test_no_body_ever_raises(headers: dict[str, str], body: bytes) -> None:
    result = make_intake(fast=False).cloudevents(headers, body, "app", NOW)
    assert result.counts.get("received", 0) == len(result.batch) + len(result.dead_letters)


@given(st.dictionaries(st.text(max_size=12), values, max_size=6))
def test_no_attributes_ever_raise(members: Any) -> None:
    data = json.dumps({**json.loads(event()), **members}).encode()
    result = make_intake(fast=False).cloudevents(STRUCTURED, data, "app", NOW)
    assert result.counts["received"] == 1
