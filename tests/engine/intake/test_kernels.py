"""The intake kernels against `hashlib`, `json` and `orjson`, `Decimal` and `datetime`."""

import hashlib
import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dayfly.engine.catalog import MAX_MICRO, to_micro
from dayfly.engine.errors import ValueOutOfRange
from dayfly.engine.intake.kernels_blake2b import LANE_WORDS, blake2b_many, keyed_state
from dayfly.engine.intake.kernels_json import (
    KEY,
    KEY_LENGTH,
    PARENT,
    ROOT,
    scan,
)
from dayfly.engine.intake.kernels_values import NOT_HERE, micro_of, milliseconds_of

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def padded(data: Any) -> Any:
    return np.frombuffer(data + bytes(128), np.uint8)


# --- BLAKE2b -----------------------------------------------------------------------------------------------------------


def hashes(messages: Any, keys: Any) -> Any:
    """Every message under every key in turn, by the kernel."""
    states = np.array(
        [keyed_state(key, digest_bytes=16, salt=b"salt", person=b"person") for key in keys], np.uint64
    )
    starts = np.cumsum([0, *map(len, messages)])
    jobs = np.array(
        [(starts[i], len(message), i % len(keys), i) for i, message in enumerate(messages)], np.int64
    ).reshape(-1, 4)
    out = np.zeros((len(messages), 2), np.uint64)
    lanes = np.zeros(LANE_WORDS, np.int64)
    blake2b_many(padded(b"".join(messages)), jobs, states, out, lanes)
    assert not lanes.any()
    return [row.astype("<u8").tobytes() for row in out]


def reference(message: Any, key: Any) -> Any:
    return hashlib.blake2b(message, key=key, digest_size=16, salt=b"salt", person=b"person").digest()


@pytest.mark.parametrize("length", [1, 7, 8, 9, 63, 64, 127, 128, 129, 255, 256, 257, 384, 385, 1000])
def test_a_hash_is_that_of_hashlib_at_every_block_boundary(length: int) -> None:
    message = bytes(i % 251 for i in range(length))
    assert hashes([message], [b"k" * 31 + b"1"]) == [reference(message, b"k" * 31 + b"1")]


@given(
    st.lists(st.binary(min_size=1, max_size=300), max_size=11),
    st.lists(st.binary(min_size=1, max_size=64), min_size=1, max_size=3),
)
def test_messages_of_any_lengths_share_the_lanes(messages: list[bytes], keys: list[bytes]) -> None:
    assert hashes(messages, keys) == [
        reference(message, keys[i % len(keys)]) for i, message in enumerate(messages)
    ]


# --- JSON --------------------------------------------------------------------------------------------------------------


def scanned(data: Any, *, depth: Any = 12, members: Any = 64) -> Any:
    """(parent, key) of every member on the tape, or None."""
    tape = np.zeros((members, 6), np.int64)
    stops = np.zeros(len(data) // 64 + 1, np.uint64)
    count = scan(padded(data), 0, len(data), tape, np.zeros(depth, np.int64), stops)
    if count < 0:
        return None
    return [(int(row[PARENT]), data[row[KEY] : row[KEY] + row[KEY_LENGTH]].decode()) for row in tape[:count]]


def members_of(value: Any, parent: Any = ROOT, rows: Any = None) -> Any:
    """The same from a parsed object."""
    rows = [] if rows is None else rows
    for key, item in value.items():
        rows.append((parent, key))
        if isinstance(item, dict):
            members_of(item, len(rows) - 1, rows)
    return rows


json_values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-(10**12), 10**12), st.text(max_size=9)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=9), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(value=st.dictionaries(st.text(max_size=9), json_values, max_size=4), spaced=st.booleans())
def test_the_tape_holds_every_member_outside_arrays(value: Any, *, spaced: bool) -> None:
    data = json.dumps(value, ensure_ascii=False, separators=(" , ", " : ") if spaced else (",", ":"))
    found = scanned(data.encode())
    if found is not None:
        assert found == members_of(value)
    elif "\\" not in data:
        raise AssertionError(data)


@given(
    st.one_of(
        st.binary(max_size=24), st.text(alphabet='{}[]":,\\ue19.-tfn \u00e9', max_size=24).map(str.encode)
    )
)
def test_what_the_scanner_accepts_orjson_accepts(data: bytes) -> None:
    data = b'{"a":' + data + b"}"
    if scanned(data) is not None:
        assert isinstance(orjson.loads(data), dict)


@pytest.mark.parametrize(
    "value",
    [
        b'"\\ud83d\\ude00"',
        b'"\\ud800"',
        b'"\xed\xa0\x80"',
        b'"\xc0\xaf"',
        b'"\xe0\x80\x80"',
        b'"\xf4\x90\x80\x80"',
        b'"\xf0\x8f\xbf\xbf"',
        b'"\xc3"',
        b'"\xff"',
        b'"\n"',
        b'"\\x"',
        b'"\\u12g4"',
        b"01",
        b"1.",
        b".5",
        b"-",
        b"+1",
        b"1e5",
        b"NaN",
        b"Infinity",
        b"tru",
        b"nulll",
        b"1234567890123456789012345",
        b"[1,]",
        b"[,1]",
        b'{"b"}',
        b'{"b":1,}',
        b"{,}",
        b'{"b":1 "c":2}',
        b"",
        b'{"\\u0062":1}',
    ],
)
def test_the_scanner_gives_up(value: Any) -> None:
    assert scanned(b'{"a":' + value + b"}") is None


def test_depth_and_members_are_limited_exactly() -> None:
    assert scanned(b'{"a":[[1]]}', depth=3) is not None
    assert scanned(b'{"a":[[[1]]]}', depth=3) is None
    assert scanned(b'{"a":1,"b":[{"c":2}]}', members=3) is not None
    assert scanned(b'{"a":1,"b":[{"c":2}]}', members=2) is None
    assert scanned(b'{"b":[{"c":2,"d":3}]}', members=2) is None


# --- numbers and times -------------------------------------------------------------------------------------------------


@given(
    st.one_of(
        st.from_regex(r"\A-?(0|[1-9][0-9]{0,9})(\.[0-9]{1,9})?\Z"),
        st.decimals(-(10**9), 10**9, places=7).map(lambda number: format(number, "f")),
    )
)
def test_a_number_is_that_of_the_catalogue_or_left_alone(text: str) -> None:
    found = micro_of(padded(text.encode()), 0, len(text))
    try:
        expected = to_micro(json.loads(text))
    except ValueOutOfRange:
        assert found == NOT_HERE
        return
    digits = sum(character.isdigit() for character in text)
    assert found == (expected if digits <= 15 else NOT_HERE)


@pytest.mark.parametrize(
    ("text", "micro"),
    [
        ("0.0000005", 0),
        ("0.0000015", 2),
        ("0.0000025", 2),
        ("-0.0000015", -2),
        ("0.00000151", 2),
        ("1000000000", MAX_MICRO),
        ("1000000000.0", MAX_MICRO),
        ("-1000000000", -MAX_MICRO),
        ("1000000001", NOT_HERE),
        ("999999999.999999", MAX_MICRO - 1),
        ("-0", 0),
    ],
)
def test_halves_round_to_even_and_the_limit_is_exact(text: str, micro: int) -> None:
    assert micro_of(padded(text.encode()), 0, len(text)) == micro
    if micro != NOT_HERE:
        assert int((Decimal(text) * 10**6).quantize(Decimal(1))) == micro


@given(
    st.datetimes(),
    st.integers(0, 9),
    st.integers(0, 10**9 - 1),
)
def test_a_time_is_that_of_datetime(moment: datetime, decimals: int, nanoseconds: int) -> None:
    whole = moment.replace(microsecond=0, tzinfo=UTC)
    fraction = f"{nanoseconds:09d}"[:decimals]
    text = whole.strftime("%Y-%m-%dT%H:%M:%S").rjust(19, "0") + ("." + fraction if decimals else "") + "Z"
    expected = (whole - EPOCH) // timedelta(milliseconds=1) + int((fraction + "000")[:3])
    assert milliseconds_of(padded(text.encode()), 0, len(text)) == expected


@pytest.mark.parametrize(
    "text",
    [
        "2026-02-29T00:00:00Z",
        "1900-02-29T00:00:00Z",
        "2026-04-31T00:00:00Z",
        "2026-13-01T00:00:00Z",
        "2026-00-01T00:00:00Z",
        "2026-01-00T00:00:00Z",
        "0000-01-01T00:00:00Z",
        "2026-01-01T24:00:00Z",
        "2026-01-01T00:60:00Z",
        "2026-01-01T00:00:60Z",
        "2026-01-01T00:00:00",
        "2026-01-01T00:00:00.Z",
        "2026-01-01T00:00:00.1234567890Z",
        "2026-01-01T00:00:00+00:00",
        "2026-01-01t00:00:00Z",
        "2026-1-01T00:00:00.0Z",
        "20x6-01-01T00:00:00Z",
        "2026-01-01T-1:00:00Z",
    ],
)
def test_other_forms_of_time_are_left_alone(text: str) -> None:
    assert milliseconds_of(padded(text.encode()), 0, len(text)) == NOT_HERE


def test_leap_days_are_known() -> None:
    for text in ("2024-02-29T00:00:00Z", "2000-02-29T23:59:59Z"):
        expected = int(datetime.fromisoformat(text).timestamp() * 1000)
        assert milliseconds_of(padded(text.encode()), 0, len(text)) == expected
