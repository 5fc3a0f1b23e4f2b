"""Every dead-letter reason, limits at their boundaries, the clock, identities and masking of Segment payloads."""

import json
from typing import Any

import pytest

from dayfly.engine.catalog import Catalog, EventType, FieldSpec, FieldType
from dayfly.engine.errors import CatalogError, IntakeError
from dayfly.engine.intake import DeadLetterReason, IntakeKeys
from dayfly.engine.policy.model import Channel, Policy, Settings
from dayfly.privacy.deident import PseudonymKeys
from tests.oracles.intake import pseudonym
from tests.oracles.unpack import rows_of

from .support import (
    CATALOG,
    DAY,
    DEFAULTS,
    DIGEST_KEY,
    NOW,
    OLD_KEY,
    TENANT,
    USER_KEY,
    iso,
    make_intake,
    payload,
    raw,
)

Reason = DeadLetterReason
DEEP = b'{"a":' * 2000 + b"1" + b"}" * 2000


def reasons(data: Any, *, settings: Settings = DEFAULTS, channel: Any = "app", received_ms: Any = NOW) -> Any:
    """The reasons on both paths, which must be one."""
    found = [
        [
            letter.reason
            for letter in make_intake(settings, fast=fast).segment([data], channel, received_ms).dead_letters
        ]
        for fast in (True, False)
    ]
    assert found[0] == found[1]
    return found[0]


def in_properties(**members: Any) -> Any:
    return raw(properties={"product_id": "P", **members})


CASES = [
    (Reason.TOO_LARGE, raw(padding="x" * 32_768)),
    (Reason.INVALID_UTF8, raw().replace(b"SOFA", b"\xff")),
    (Reason.INVALID_UTF8, raw().replace(b"SOFA", b"\xed\xa0\x80")),
    (Reason.NOT_JSON, raw()[:-1]),
    (Reason.NOT_JSON, b""),
    (Reason.NOT_JSON, b"\xef\xbb\xbf" + raw()),
    (Reason.NON_FINITE_NUMBER, raw().replace(b"19.99", b"NaN")),
    (Reason.NON_FINITE_NUMBER, raw().replace(b"19.99", b"-Infinity")),
    (Reason.NUMBER_OUT_OF_RANGE, raw().replace(b"19.99", b"1e999")),
    (Reason.NUMBER_OUT_OF_RANGE, raw().replace(b"19.99", b"1" * 400)),
    (Reason.NUMBER_OUT_OF_RANGE, raw().replace(b"19.99", b"1000000000.000001")),
    (Reason.LONE_SURROGATE, raw().replace(b"SOFA", b"\\ud800")),
    (Reason.TOO_DEEP, DEEP),
    (Reason.TOO_DEEP, raw(extra=json.loads("[" * 12 + "]" * 12))),
    (Reason.TOO_MANY_PROPERTIES, raw(extra={str(n): n for n in range(250)})),
    (Reason.NOT_AN_OBJECT, b"[]"),
    (Reason.NOT_AN_OBJECT, b'"text"'),
    (Reason.NOT_AN_OBJECT, raw(properties=[1])),
    (Reason.UNKNOWN_KIND, raw(type="Track")),
    (Reason.UNKNOWN_KIND, raw(type=...)),
    (Reason.UNKNOWN_KIND, raw(type=7)),
    (Reason.MISSING_NAME, raw(event=...)),
    (Reason.MISSING_NAME, raw(event="")),
    (Reason.MISSING_NAME, raw(event=7)),
    (Reason.RESERVED_NAME, raw(event="$identify")),
    (Reason.MISSING_IDENTITY, raw(anonymousId=...)),
    (Reason.MISSING_IDENTITY, raw(anonymousId="", userId=None)),
    (Reason.MISSING_IDENTITY, raw(type="alias", previousId="p")),
    (Reason.MISSING_GROUP_ID, raw(type="group")),
    (Reason.MISSING_PREVIOUS_ID, raw(type="alias", userId="u")),
    (Reason.BAD_IDENTIFIER, raw(userId=1.5)),
    (Reason.BAD_IDENTIFIER, raw(userId=True)),
    (Reason.BAD_IDENTIFIER, raw(messageId={})),
    (Reason.BAD_IDENTIFIER, raw(anonymousId="x" * 4_097)),
    (Reason.BAD_TIME, raw(timestamp="2026-03-10")),
    (Reason.BAD_TIME, raw(timestamp=1_773_144_000_000)),
    (Reason.BAD_TIME, raw(sentAt="yesterday")),
    (Reason.BAD_TIME, in_properties(seen_at="2026-02-30T00:00:00Z")),
    (Reason.TYPE_MISMATCH, in_properties(price="19.99")),
    (Reason.TYPE_MISMATCH, in_properties(price=True)),
    (Reason.TYPE_MISMATCH, in_properties(in_stock=1)),
    (Reason.TYPE_MISMATCH, in_properties(seen_at=1.5)),
    (Reason.TYPE_MISMATCH, in_properties(product_id=["P"])),
    (Reason.TYPE_MISMATCH, in_properties(address={"city": {"name": "x"}})),
    (Reason.MISSING_FIELD, raw(properties={"price": 1})),
    (Reason.MISSING_FIELD, raw(properties={"product_id": None})),
    (Reason.STRING_TOO_LONG, in_properties(product_id="x" * 4_097)),
    (
        Reason.CONFLICTING_CONSENT,
        raw(context={"consent": {"categoryPreferences": {}}, "consentManagement": {}}),
    ),
]


@pytest.mark.parametrize(
    ("reason", "data"), CASES, ids=[f"{reason}-{n}" for n, (reason, _) in enumerate(CASES)]
)
def test_a_bad_payload_is_a_dead_letter_with_its_reason(reason: DeadLetterReason, data: bytes) -> None:
    assert reasons(data) == [reason]


@pytest.mark.parametrize("data", [data for _, data in CASES if b"batch" not in data])
def test_the_rest_of_a_batch_proceeds(data: bytes) -> None:
    result = make_intake().segment([raw(messageId="1"), data, raw(messageId="2")], "app", NOW)
    assert (result.counts["accepted"], result.counts["dead"], result.counts["received"]) == (2, 1, 3)
    assert [letter.place for letter in result.dead_letters] == ["payload 1"]


def test_a_dead_letter_holds_no_content() -> None:
    secret = raw(userId="secret-1", properties={"product_id": "secret-2", "price": "secret-3"})
    (letter,) = make_intake().segment([secret], "app", NOW).dead_letters
    assert "secret" not in repr(letter)
    assert "price" in letter.detail


# --- limits ------------------------------------------------------------------------------------------------------------


def test_an_event_of_exactly_the_largest_size_enters() -> None:
    size = len(raw())
    assert reasons(raw(), settings=Settings(max_event_bytes=size)) == []
    assert reasons(raw(), settings=Settings(max_event_bytes=size - 1)) == [Reason.TOO_LARGE]


def test_a_string_of_exactly_the_largest_size_enters() -> None:
    data = in_properties(product_id="é" * 40)
    assert reasons(data, settings=Settings(max_string_bytes=80)) == []
    assert reasons(data, settings=Settings(max_string_bytes=79)) == [Reason.STRING_TOO_LONG]


def test_nesting_of_exactly_the_largest_depth_enters() -> None:
    data = raw(extra={"a": [{"b": 1}]})
    assert reasons(data, settings=Settings(max_depth=4)) == []
    assert reasons(data, settings=Settings(max_depth=3)) == [Reason.TOO_DEEP]


def test_exactly_the_largest_number_of_members_enters() -> None:
    members = 8 + 2 + 1 + 1 + 1  # the outermost object, properties, context, consent, preferences
    assert reasons(raw(), settings=Settings(max_properties=members)) == []
    assert reasons(raw(), settings=Settings(max_properties=members - 1)) == [Reason.TOO_MANY_PROPERTIES]


def test_the_limits_of_an_envelope_are_exact() -> None:
    calls = b'{"batch":[' + b",".join([raw()] * 3) + b"]}"
    assert make_limited(max_batch_events=3).segment(calls, "app", NOW).counts["accepted"] == 3
    (letter,) = make_limited(max_batch_events=2).segment(calls, "app", NOW).dead_letters
    assert (letter.reason, letter.place) == (Reason.TOO_LARGE, "payload 0")
    assert make_limited(max_batch_bytes=len(calls)).segment(calls, "app", NOW).counts["accepted"] == 3
    result = make_limited(max_batch_bytes=len(calls) - 1, settings=Settings(max_event_bytes=50)).segment(
        calls, "app", NOW
    )
    assert [letter.reason for letter in result.dead_letters] == [Reason.TOO_LARGE]


def make_limited(*, settings: Settings = DEFAULTS, **limits: Any) -> Any:
    from dayfly.engine.intake import Intake

    from .support import make_keys, make_policy

    return Intake(make_policy(settings), make_keys(), **limits)


# --- the clock ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("ahead_ms", "expected"), [(300_000, []), (300_001, [Reason.IN_FUTURE])])
def test_an_event_exactly_at_the_future_skew_enters(ahead_ms: Any, expected: Any) -> None:
    assert reasons(raw(timestamp=iso(NOW + ahead_ms), sentAt=...)) == expected


@pytest.mark.parametrize(("age_ms", "expected"), [(7 * DAY, []), (7 * DAY + 1, [Reason.TOO_LATE])])
def test_an_event_exactly_at_the_allowed_lateness_enters(age_ms: Any, expected: Any) -> None:
    assert reasons(raw(timestamp=iso(NOW - age_ms), sentAt=...)) == expected


def time_of(data: Any, *, skew: Any = True) -> Any:
    times = {
        int(make_intake(fast=fast, skew=skew).segment([data], "app", NOW).batch.time_ms[0])
        for fast in (True, False)
    }
    (only,) = times
    return only


@pytest.mark.parametrize("name", ["timestamp", "originalTimestamp"])
def test_a_device_clock_that_is_wrong_is_corrected_by_the_send_time(name: str) -> None:
    # The device is a day ahead and took two seconds from the event to the sending.
    members = {"timestamp": ..., name: iso(NOW + DAY - 2_000), "sentAt": iso(NOW + DAY)}
    assert time_of(raw(**members)) == NOW - 2_000


def test_a_channel_may_keep_the_device_time() -> None:
    assert time_of(raw(timestamp=iso(NOW - 9_000), sentAt=iso(NOW - 4_000)), skew=False) == NOW - 9_000


def test_a_time_that_a_collector_has_corrected_stays() -> None:
    members = {
        "timestamp": iso(NOW - 3_000),
        "originalTimestamp": iso(NOW - 90_000),
        "sentAt": iso(NOW - 80_000),
    }
    assert time_of(raw(**members)) == NOW - 3_000


def test_an_event_without_a_time_happened_on_arrival() -> None:
    assert time_of(raw(timestamp=..., sentAt=iso(NOW - 50_000))) == NOW


def test_the_send_time_of_an_envelope_is_for_calls_without_their_own() -> None:
    envelope = {
        "sentAt": iso(NOW - 60_000),
        "batch": [payload(sentAt=..., timestamp=iso(NOW - 61_000)), payload()],
    }
    for fast in (True, False):
        batch = make_intake(fast=fast).segment(json.dumps(envelope).encode(), "app", NOW).batch
        assert batch.time_ms.tolist() == [NOW - 1_000, NOW - 120]


# --- identities --------------------------------------------------------------------------------------------------------


def known(kind: Any, text: Any, key: Any = USER_KEY) -> Any:
    return pseudonym(TENANT, key, kind, text)


def row_of(data: Any, **options: Any) -> Any:
    result = make_intake(**options).segment([data], "app", NOW)
    (row,) = rows_of(result.batch, CATALOG)
    return row, result.merges


@pytest.mark.parametrize("fast", [True, False])
def test_identify_links_the_anonymous_id_to_the_user(*, fast: bool) -> None:
    row, merges = row_of(raw(type="identify", userId="u-1"), fast=fast)
    assert (row.subject, row.link, merges) == (known("user", "u-1"), known("anonymous", "a-77"), ())


def test_alias_links_the_previous_id_of_either_kind() -> None:
    row, (merge,) = row_of(raw(type="alias", userId="u-1", previousId="a-77"))
    assert (row.subject, row.link) == (known("user", "u-1"), known("anonymous", "a-77"))
    assert (merge.subject, merge.other, merge.at_ms) == (known("user", "u-1"), known("user", "a-77"), NOW)


def test_a_numeric_id_is_its_decimal_text() -> None:
    assert row_of(raw(userId=17850))[0].subject == known("user", "17850")


@pytest.mark.parametrize("fast", [True, False])
def test_an_older_key_version_is_linked_while_it_lives(*, fast: bool) -> None:
    row, merges = row_of(raw(), versions={1: OLD_KEY, 2: USER_KEY}, fast=fast)
    assert (row.subject, row.link, merges) == (
        known("anonymous", "a-77"),
        known("anonymous", "a-77", OLD_KEY),
        (),
    )


@pytest.mark.parametrize("fast", [True, False])
def test_an_older_version_beside_a_link_becomes_a_merge(*, fast: bool) -> None:
    row, merges = row_of(raw(type="identify", userId="u-1"), versions={1: OLD_KEY, 2: USER_KEY}, fast=fast)
    assert row.link == known("anonymous", "a-77")
    assert [merge.other for merge in merges] == [
        known("user", "u-1", OLD_KEY),
        known("anonymous", "a-77", OLD_KEY),
    ]


def test_equal_message_ids_of_two_sources_are_two_events() -> None:
    channels = (Channel("a", "one"), Channel("b", "two"), Channel("c", "one"))
    policy = Policy(1, Catalog((), ("a", "b", "c")), channels)
    from dayfly.engine.intake import Intake

    from .support import make_keys

    intake = Intake(policy, make_keys())
    first, second, third = (intake.segment([raw()], name, NOW).batch.event_id.tobytes() for name in "abc")
    assert first == third
    assert first != second


def test_without_a_message_id_the_same_bytes_are_one_event() -> None:
    ids = (
        make_intake()
        .segment([raw(messageId=...), raw(messageId=...), raw(messageId=..., x=1)], "app", NOW)
        .batch.event_id
    )
    assert ids[0].tobytes() == ids[1].tobytes() != ids[2].tobytes()


# --- consent objects ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("context", "form"),
    [
        ({"consent": {"categoryPreferences": {"a": True}}}, "segment"),
        ({"consent": {}}, "segment"),
        ({"consent": None}, "segment"),
        ({"consent": {"tcString": "CPx"}}, "tcf"),
        ({"consent": {"tcString": "CPx", "categoryPreferences": {}}}, "segment"),
        ({"consentManagement": {"deniedConsentIds": ["x"]}}, "rudderstack"),
        ({"consentManagement": {}, "consent": {"tcString": "CPx"}}, "rudderstack"),
        ({"gpp": "DBA"}, "tcf"),
    ],
)
def test_a_consent_object_is_observed_in_its_form(context: Any, form: str) -> None:
    for fast in (True, False):
        row, _ = row_of(raw(context=context), fast=fast)
        assert row.consent is not None
        assert row.consent.form == form
        assert row.consent.content in context.values()


def test_equal_consent_objects_are_held_once() -> None:
    result = make_intake().segment([raw(messageId=str(n)) for n in range(5)], "app", NOW)
    assert len(result.batch.consents) == 1
    assert set(result.batch.consent.tolist()) == {0}


# --- masking -----------------------------------------------------------------------------------------------------------


def masked(masking: Any, kind: Any, value: Any, *, required: Any = False) -> Any:
    spec = FieldSpec("f", kind, masking, required)
    catalog = Catalog((EventType("E", (spec,)),), ("app", "wifi"))
    intake = make_intake(catalog=catalog)
    result = intake.segment([raw(event="E", properties={"f": value})], "app", NOW)
    if result.dead_letters:
        return result.dead_letters[0].reason
    (row,) = rows_of(result.batch, catalog)
    return row.values[0]


@pytest.mark.parametrize(
    ("masking", "kind", "value", "kept"),
    [
        ("drop", FieldType.STRING, "Zhang San", None),
        ("drop", FieldType.NUMBER, "no number", None),
        ({"mask": "band", "edges": [100, 500]}, FieldType.STRING, 120, "100..500"),
        ({"mask": "band", "edges": [100, 500]}, FieldType.STRING, "120", Reason.TYPE_MISMATCH),
        ({"mask": "truncate", "characters": 2}, FieldType.STRING, "上海市静安区", "上海"),
        ({"mask": "truncate", "decimals": 0}, FieldType.NUMBER, 19.99, 19),
        (
            {"mask": "truncate", "granularity": "day"},
            FieldType.TIME,
            "2026-03-10T12:34:56Z",
            1_773_100_800_000,
        ),
        ({"mask": "pseudonymise", "kind": "order"}, FieldType.STRING, "O-1", known("order", "O-1").hex()),
        ("keep", FieldType.STRING, "as it is", "as it is"),
    ],
)
def test_a_field_is_masked_before_it_is_kept(masking: Any, kind: Any, value: Any, kept: Any) -> None:
    assert masked(masking, kind, value) == kept


def test_a_dropped_field_may_still_be_required() -> None:
    assert masked("drop", FieldType.STRING, None, required=True) is Reason.MISSING_FIELD
    assert masked("drop", FieldType.STRING, "x", required=True) is None


def test_masking_that_leaves_another_type_is_refused_at_once() -> None:
    with pytest.raises(CatalogError, match=r"type='number' of field 'f' must be 'string'"):
        masked({"mask": "band", "edges": [1]}, FieldType.NUMBER, 1)


def test_masking_that_is_no_rule_is_refused_at_once() -> None:
    with pytest.raises(CatalogError, match="field='f' must have a masking rule"):
        masked({"mask": "blur"}, FieldType.STRING, "x")


# --- wrong use ---------------------------------------------------------------------------------------------------------


def test_an_undeclared_channel_is_refused() -> None:
    with pytest.raises(CatalogError, match="channel='tv' must be declared"):
        make_intake().segment([], "tv", NOW)


def test_a_short_digest_key_is_refused() -> None:
    with pytest.raises(IntakeError, match="digest_key of 31 bytes must have 32"):
        IntakeKeys(PseudonymKeys(TENANT, {1: USER_KEY}), DIGEST_KEY[:-1])


def test_a_probe_channel_without_probe_keys_is_refused() -> None:
    from dayfly.engine.intake import Intake

    from .support import make_policy

    with pytest.raises(IntakeError, match=r"probes=None must be ProbeKeys for probe channels \['wifi'\]"):
        Intake(make_policy(), IntakeKeys(PseudonymKeys(TENANT, {1: USER_KEY}), DIGEST_KEY))


def test_keys_are_not_shown() -> None:
    keys = IntakeKeys(PseudonymKeys(TENANT, {1: USER_KEY}), DIGEST_KEY)
    assert "digest_key" not in repr(keys)


def test_no_payload_is_an_empty_batch() -> None:
    result = make_intake().segment([], "app", NOW)
    assert (len(result.batch), dict(result.counts)) == (0, {})
