"""The parts of the intake kernels that work on raw words: marks of string ends, names, copies; and who owns what they leave."""

import json
from datetime import datetime
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dayfly.engine.catalog import Catalog, EventType
from dayfly.engine.intake.kernels_json import scan
from dayfly.engine.intake.kernels_names import MAX_NAME_BYTES, MEANS, find
from dayfly.engine.intake.kernels_values import NOT_HERE, copy_bytes, milliseconds_of, unescape
from dayfly.engine.intake.tables import _Edges

from .support import DEFAULTS, NOW, iso, make_intake, raw

COLUMNS = (
    "received_ms",
    "time_ms",
    "subject",
    "link",
    "event_id",
    "digest",
    "type",
    "channel",
    "consent",
    "consent_digest",
    "value_offset",
    "values",
    "strings",
)


def padded(data: Any) -> Any:
    return np.frombuffer(data + bytes(128), np.uint8)


def members_in(data: Any, end: Any) -> Any:
    """Members on the tape of the object in `data[:end]`, whatever follows it; -1 for none."""
    stops = np.zeros(end // 64 + 1, np.uint64)
    return scan(padded(data), 0, end, np.zeros((9, 6), np.int64), np.zeros(4, np.int64), stops)


# --- string ends -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("before", [0, 1, 57, 58, 59, 60, 121, 122, 123, 200])
def test_every_byte_ends_a_string_or_not_wherever_it_stands(before: int) -> None:
    """The opening quote is byte 5, so that 58 more bring the byte to either side of a block of 64."""
    for byte in range(256):
        data = b'{"a":"' + b"x" * before + bytes([byte]) + b'x","b":1}'
        try:
            expected = len(json.loads(data.decode()))
        except (UnicodeDecodeError, json.JSONDecodeError):
            expected = -1
        assert members_in(data, len(data)) == expected, byte


def test_a_string_may_end_anywhere() -> None:
    for length in range(200):
        data = b'{"' + b"k" * length + b'":"' + b"x" * length + b'","b":"\xc3\xa9"}'
        assert members_in(data, len(data)) == 2


def test_an_object_cut_short_is_not_completed_by_what_follows() -> None:
    data = b'{"a":[{"b":[1,true]}],"c":{"d":"e"},"f":{}} '
    whole = len(data) - 1
    for end in range(whole):
        assert members_in(data, end) == -1
    assert members_in(data, whole) == members_in(data, whole + 1) == 4


# --- names -------------------------------------------------------------------------------------------------------------

names = st.one_of(
    st.text(min_size=1, max_size=5),
    st.sampled_from(["a", "b", "c"]).map(lambda tail: "sixteen bytes 16" + tail),
    st.integers(1, MAX_NAME_BYTES + 8).map(lambda length: "n" * length),
)


@given(
    st.dictionaries(st.tuples(st.integers(0, 3), names), st.integers(0, 99), max_size=40),
    st.lists(st.tuples(st.integers(0, 3), names), max_size=10),
)
def test_a_name_means_what_a_dict_says(known: Any, others: Any) -> None:
    known = {key: means for key, means in known.items() if len(key[1].encode()) <= MAX_NAME_BYTES}
    edges = _Edges()
    for (node, name), means in known.items():
        edges.add(node, name, means=means)
    rows = edges.array()
    for node, name in [*known, *others]:
        data = b"?" + name.encode()
        # What follows a name must not count, so it is no zero here.
        array = np.frombuffer(data + b"\xff" * 80, np.uint8)
        edge = find(array, 1, len(data) - 1, node, rows)
        assert (None if edge < 0 else rows[edge, MEANS]) == known.get((node, name))


def test_a_policy_without_types_or_fields_has_tables_too() -> None:
    for types in ((), (EventType("Product Viewed", ()),)):
        catalog = Catalog(types, ("app", "wifi"))
        fast, general = (
            make_intake(catalog=catalog, fast=fast).segment([raw()], "app", NOW) for fast in (True, False)
        )
        assert fast.counts["fast"] == 1
        for column in COLUMNS:
            assert getattr(fast.batch, column).tolist() == getattr(general.batch, column).tolist()


# --- texts -------------------------------------------------------------------------------------------------------------


@given(st.binary(max_size=40), st.integers(0, 9))
def test_a_copied_text_is_the_text_and_touches_seven_bytes_more_at_most(text: bytes, at: int) -> None:
    out = np.full(64, 170, np.uint8)
    copy_bytes(padded(b"<" + text), 1, len(text), out, at)
    assert out[at : at + len(text)].tobytes() == text
    assert (out[:at] == 170).all()
    assert (out[at + -(-len(text) // 8) * 8 :] == 170).all()


@given(st.text(st.characters(max_codepoint=0xFFFF, exclude_categories=["Cs"]), max_size=20))
def test_an_escaped_text_is_that_of_json(text: str) -> None:
    escaped = json.dumps(text).encode()[1:-1]
    out = np.zeros(256, np.uint8)
    end = unescape(padded(escaped), 0, len(escaped), out, 0)
    assert out[:end].tobytes().decode() == text


# --- times -------------------------------------------------------------------------------------------------------------


def test_no_byte_but_a_digit_or_its_mark_is_part_of_a_time() -> None:
    good = b"2011-11-11T11:11:11Z"
    for at in range(len(good)):
        for byte in range(256):
            text = good[:at] + bytes([byte]) + good[at + 1 :]
            found = milliseconds_of(padded(text), 0, len(text))
            if text[at : at + 1].isdigit() and good[at : at + 1].isdigit():
                try:
                    expected = round(datetime.fromisoformat(text.decode()).timestamp() * 1_000)
                except ValueError:
                    expected = NOT_HERE
                assert found == expected, text
            else:
                assert (found == NOT_HERE) == (text != good), text


# --- rows --------------------------------------------------------------------------------------------------------------


def test_a_long_batch_has_the_hashes_of_the_general_path() -> None:
    payloads = [raw(messageId=f"m-{n}", userId=f"u-{n % 7}" * (n % 5 + 1)) for n in range(200)]
    fast, general = (make_intake(fast=fast).segment(payloads, "app", NOW) for fast in (True, False))
    assert fast.counts["fast"] == len(payloads)
    for column in COLUMNS:
        assert getattr(fast.batch, column).tolist() == getattr(general.batch, column).tolist()


def test_a_row_left_alone_leaves_no_text_behind() -> None:
    intake = make_intake()
    payloads = [raw(), raw(messageId=7, properties={"product_id": "LEFT"}), raw(messageId="m-2")]
    channel = intake._context.channel("app")
    rows = intake._segment._fast.read(payloads, channel, NOW)
    assert rows.read.tolist() == [True, False, True]
    assert rows.batch.strings.tobytes() == b"SOFA-3" * 2


@pytest.mark.parametrize("time_ms", [NOW + DEFAULTS.future_skew_ms, NOW - DEFAULTS.allowed_lateness_ms])
def test_an_event_exactly_at_a_limit_of_the_clock_takes_the_compiled_path(time_ms: int) -> None:
    intake = make_intake()
    for shift, fast in ((0, 1), (1 if time_ms > NOW else -1, None)):
        result = intake.segment([raw(timestamp=iso(time_ms + shift), sentAt=...)], "app", NOW)
        assert result.counts.get("fast") == fast


# --- ownership ---------------------------------------------------------------------------------------------------------


def test_a_batch_that_is_kept_never_changes() -> None:
    intake = make_intake()
    for _ in range(2):
        assert intake.segment([raw()], "app", NOW).counts["fast"] == 1
    kept = [
        intake.segment([raw(messageId=f"m-{n}")] * size, "app", NOW).batch for n, size in enumerate((1, 3, 2))
    ]
    before = [{name: getattr(batch, name).tobytes() for name in COLUMNS} for batch in kept]
    later = [intake.segment([raw(userId="u", messageId=str(n))] * 3, "app", NOW + n).batch for n in range(20)]
    assert before == [{name: getattr(batch, name).tobytes() for name in COLUMNS} for batch in kept]
    work = intake._segment._fast._work
    for batch in kept:
        for name in COLUMNS:
            column = getattr(batch, name)
            assert column.flags.c_contiguous
            assert not np.shares_memory(column, work)
            assert not np.shares_memory(column, getattr(later[-1], name))


def test_the_working_space_keeps_no_byte_of_an_event() -> None:
    intake = make_intake()
    secret = raw(
        userId="secret-user", messageId="secret-message", properties={"product_id": "secret-product"}
    )
    assert intake.segment([secret] * 9, "app", NOW).counts["fast"] == 9
    left = intake._segment._fast._work.tobytes()
    for at in range(len(secret) - 8):
        assert secret[at : at + 8] not in left
