"""Lineage blocks: one block, one byte string, and nothing else is read."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dayfly.engine.errors import LineageError
from dayfly.engine.lineage import (
    ConsentUse,
    FieldEvidence,
    FieldLineage,
    LineageBlock,
    LineageShape,
    RuleText,
    ShapeField,
    SourceEvent,
    decode,
    encode,
    make_block,
)
from dayfly.engine.lineage.block import covered
from tests.oracles.lineage import read_block

from .support import CONSENT, DAY_MS, NOW_MS, blocks, digest, event, sofa_block

PLAIN = LineageBlock(
    digest(0), NOW_MS, (CONSENT,), (event(1), event(2)), (FieldLineage(0, 0b01, 1), FieldLineage(2, 0b11, 9))
)


@given(blocks())
def test_decoding_gives_back_what_was_encoded(block: LineageBlock) -> None:
    assert decode(encode(block)) == block


@given(blocks())
def test_a_reader_written_from_the_description_sees_the_same(block: LineageBlock) -> None:
    read = read_block(encode(block))
    assert read["shape"] == block.shape
    assert read["as_of"] == block.as_of_ms
    assert [tuple(use.values()) for use in read["consents"]] == [
        (use.record_id, use.version, use.valid_from_ms, use.valid_until_ms) for use in block.consents
    ]
    assert [tuple(seen.values()) for seen in read["events"]] == [
        (seen.digest, seen.channel, seen.time_ms, seen.received_ms) for seen in block.events
    ]
    expected = {
        entry.field: {"events": [i for i in range(64) if entry.events >> i & 1], "total": entry.total}
        for entry in block.fields
    }
    assert read["fields"] == expected


def test_bytes_of_a_known_block_never_change() -> None:
    block = LineageBlock(
        bytes(range(16)),
        1_000,
        (ConsentUse("cx", 2, 900, 2_000), ConsentUse("beef", 1, 1_000, 1_001)),
        (SourceEvent(b"\xaa" * 16, 1, 999, 1_001), SourceEvent(b"\xbb" * 16, 0, 700, None)),
        (FieldLineage(1, 0b10, 3),),
    )
    expected = (
        "01" + "000102030405060708090a0b0c0d0e0f" + "e807" + "02"
        + "08" + "6378" + "02" + "64" + "e807"
        + "09" + "beef" + "01" + "00" + "01"
        + "02" + "aa" * 16 + "01" + "01" + "05"
        + "bb" * 16 + "00" + "ab02" + "00"
        + "02" + "02" + "02"
    )  # fmt: skip
    assert encode(block).hex() == expected


def eight_fields(*, record_id: str, age_ms: int, delay_ms: int) -> LineageBlock:
    rules = (RuleText("trigger", "t", 1, ""), RuleText("tag", "a", 1, ""), RuleText("tag", "b", 1, ""))
    shape = LineageShape(
        rules, tuple(ShapeField(f"field-{i}", (1 + i % 2,)) for i in range(8)), ("app", "web")
    )
    events = [
        SourceEvent(digest(i), i % 2, NOW_MS - (i + 1) * age_ms, NOW_MS - (i + 1) * age_ms + delay_ms)
        for i in range(7)
    ]
    consent = ConsentUse(record_id, 3, NOW_MS - 400 * DAY_MS, NOW_MS + 365 * DAY_MS)
    fields = {f"field-{i}": FieldEvidence(events[: i % 8], total=57) for i in range(8)}
    return make_block(shape, as_of_ms=NOW_MS, consents=[consent], fields=fields)


@pytest.mark.parametrize(
    ("record_id", "age_ms", "delay_ms"),
    [
        ("c:7Q2mZk1b", 61_003, 412),
        ("0190b5a4-7e1c-7d3a-9b1e-2f4f6a8c0d11", DAY_MS, 412),
        ("9f86d081884c7d659a2feaa0c55ad015", DAY_MS, 412),
        ("c:7Q2mZk1b", DAY_MS, 6 * 3_600_000),
        ("o:9f86d081884c7d659a2feaa0c55ad015", DAY_MS, 412),
    ],
    ids=[
        "one session",
        "uuid consent, a week",
        "digest consent, a week",
        "a week, all six hours late",
        "consent seen in an event, a week",
    ],
)
def test_eight_fields_three_rules_and_seven_events_take_at_most_250_bytes(
    record_id: str, age_ms: int, delay_ms: int
) -> None:
    block = eight_fields(record_id=record_id, age_ms=age_ms, delay_ms=delay_ms)
    assert len(block.events) == 7
    assert len(encode(block)) <= 250


def test_an_id_that_is_a_digest_or_uuid_takes_half_its_length() -> None:
    text = encode(eight_fields(record_id="9F86D081884C7D659A2FEAA0C55AD015", age_ms=DAY_MS, delay_ms=0))
    packed = encode(eight_fields(record_id="9f86d081884c7d659a2feaa0c55ad015", age_ms=DAY_MS, delay_ms=0))
    assert len(text) - len(packed) == 16 + 1  # the length itself needs a second byte


@pytest.mark.parametrize(
    "record_id",
    ["", "a", "ab", "AB", "abc", "é", "0190b5a4-7e1c-7d3a-9b1e-2f4f6a8c0d11", "0190B5A4-7e1c-7d3a-9b1e-2f4f6a8c0d11",
     "{190b5a4-7e1c-7d3a-9b1e-2f4f6a8c0d1}", "0190b5a47-e1c-7d3a-9b1e-2f4f6a8c0d11", "x" * 255,
     "o:64e8df11", "o:64E8", "O:64e8", "o:", "o:6", "é:64", "1:64", "oo:64", ":64"],
)  # fmt: skip
def test_every_form_of_record_id_comes_back(record_id: str) -> None:
    block = replace(PLAIN, consents=(replace(CONSENT, record_id=record_id),))
    assert decode(encode(block)).consents[0].record_id == record_id


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"shape": bytes(15)}, r"shape=0{30} must have 16 bytes"),
        ({"as_of_ms": -1}, r"as_of_ms=-1 must lie in"),
        ({"as_of_ms": 2**64}, r"as_of_ms=18446744073709551616 must lie in"),
        ({"consents": (CONSENT,) * 17}, r"consents=17 must lie in \[0, 17\)"),
        (
            {"consents": (replace(CONSENT, record_id="x" * 256),)},
            r"record_id length=256 must lie in \[0, 256\)",
        ),
        ({"consents": (replace(CONSENT, record_id="\ud800"),)}, r"record_id='\\ud800' must be valid Unicode"),
        ({"consents": (replace(CONSENT, version=-1),)}, r"version=-1 must lie in"),
        (
            {"consents": (replace(CONSENT, valid_until_ms=NOW_MS),)},
            r"valid_until_ms=\d+ must be after as_of_ms",
        ),
        (
            {"consents": (replace(CONSENT, valid_from_ms=NOW_MS + 1),)},
            r"as_of_ms - valid_from_ms=-1 must lie in",
        ),
        ({"events": tuple(event(i) for i in range(65))}, r"events=65 must lie in \[0, 65\)"),
        ({"events": (event(2), event(1))}, r"time_ms=\d+ must follow newest first"),
        ({"events": (event(1), event(1))}, r"time_ms=\d+ must follow newest first"),
        ({"events": (event(1, age_ms=-1),)}, r"age of the event=-1 must lie in"),
        ({"events": (replace(event(1), digest=bytes(17)),)}, r"event digest=0+ must have 16 bytes"),
        ({"events": (event(1, channel=65_536),)}, r"channel=65536 must lie in \[0, 65536\)"),
        ({"events": (event(1, channel=-1),)}, r"channel=-1 must lie in"),
        ({"fields": (FieldLineage(1, 0, 0), FieldLineage(1, 0, 0))}, r"field=1 must rise"),
        ({"fields": (FieldLineage(63, 0, 0),)}, r"field=63 must rise .* and be below 63"),
        ({"fields": (FieldLineage(-1, 0, 0),)}, r"field=-1 must rise"),
        ({"fields": (FieldLineage(0, 0b100, 1),)}, r"events=0x4 must be a mask over 2 events"),
        ({"fields": (FieldLineage(0, -1, 1),)}, r"events=-0x1 must be a mask"),
        ({"fields": (FieldLineage(0, 0b11, 1),)}, r"total - listed=-1 must lie in"),
    ],
)
def test_a_block_out_of_range_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(LineageError, match=message):
        encode(replace(PLAIN, **change))


@pytest.mark.parametrize(
    "change",
    [
        {"consents": (CONSENT,) * 16},
        {"consents": (replace(CONSENT, valid_until_ms=NOW_MS + 1),)},
        {"consents": (replace(CONSENT, valid_from_ms=NOW_MS),)},
        {"events": tuple(event(i) for i in range(64)), "fields": (FieldLineage(62, 2**64 - 1, 64),)},
        {"events": (event(0, channel=65_535),), "fields": ()},
    ],
)
def test_a_block_at_its_bounds_is_accepted(change: dict[str, Any]) -> None:
    block = replace(PLAIN, **change)
    assert decode(encode(block)) == block


def test_events_of_one_instant_stand_by_digest() -> None:
    low, high = sorted([event(1, age_ms=5), event(2, age_ms=5)], key=lambda entry: entry.digest)
    assert decode(encode(replace(PLAIN, events=(low, high)))).events == (low, high)
    with pytest.raises(LineageError, match="equal times by digest"):
        encode(replace(PLAIN, events=(high, low)))


def test_an_id_of_a_consent_seen_in_an_event_takes_17_bytes() -> None:
    plain = eight_fields(record_id="9f86d081884c7d659a2feaa0c55ad015", age_ms=DAY_MS, delay_ms=0)
    seen = eight_fields(record_id="o:9f86d081884c7d659a2feaa0c55ad015", age_ms=DAY_MS, delay_ms=0)
    assert len(encode(seen)) == len(encode(plain)) + 1


def test_every_truncation_and_every_extension_is_refused() -> None:
    encoded = encode(sofa_block())
    for length in range(len(encoded)):
        with pytest.raises(LineageError):
            decode(encoded[:length])
    with pytest.raises(LineageError, match=r"must end at byte \d+; remove what follows"):
        decode(encoded + b"\0")


@pytest.mark.parametrize("version", [0, 2, 255])
def test_another_version_is_refused(version: int) -> None:
    with pytest.raises(LineageError, match=f"block version={version} must be 1"):
        decode(bytes([version]) + encode(PLAIN)[1:])


def test_no_bytes_are_refused() -> None:
    with pytest.raises(LineageError, match="block version=nothing must be 1"):
        decode(b"")


def test_a_number_written_longer_than_needed_is_refused() -> None:
    empty = encode(LineageBlock(digest(0), 5, (), (), ()))
    assert empty[17:] == b"\x05\0\0\0"
    with pytest.raises(LineageError, match="canonical form"):
        decode(empty[:17] + b"\x85\0" + empty[18:])


def test_a_number_of_more_than_64_bits_is_refused() -> None:
    head = encode(LineageBlock(digest(0), 5, (), (), ()))[:17]
    with pytest.raises(LineageError, match=r"integer=\d+ must lie in \[0, 18446744073709551616\)"):
        decode(head + b"\xff" * 9 + b"\x7f" + b"\0\0\0")
    with pytest.raises(LineageError, match=r"must be below 2\*\*64"):
        decode(head + b"\xff" * 10 + b"\x01" + b"\0\0\0")


@pytest.mark.parametrize(
    ("tail", "message"),
    [
        (b"\x05\x11", "consents=17 must be at most 16"),
        (b"\x05\x00\x41", "events=65 must be at most 64"),
        (b"\x05\x01" + b"\x80\x08", "record_id length=256 must be at most 255"),
        (b"\x05\x01\x07a\0\0\x01", "record id of 1 bytes must be of form=3"),
        (b"\x05\x01\x06a\0\0\x01", "record id of 1 bytes must be of form=2"),
        (b"\x05\x01\x08be\x01\x00\x01\x00\x00", "canonical form"),
        (b"\x05\x01\x04\xff\x01\x00\x01\x00\x00", "truncated or damaged"),
        (b"\x05\x01\x04a\x01\x00\x00\x00\x00", "canonical form"),
        (b"\x05\x00\x02" + 2 * (digest(1) + b"\0\0\0") + b"\x00", "canonical form"),
        (b"\x05\x00\x01" + digest(1) + b"\0\0\0" + b"\x01\x02\x00", "canonical form"),
        (b"\x05\x00\x00" + b"\x80" * 9 + b"\x01\x00", "canonical form"),
    ],
    ids=[
        "consents",
        "events",
        "long id",
        "short prefixed id",
        "short uuid",
        "hexadecimal as text",
        "not UTF-8",
        "consent without a future",
        "event twice",
        "mask beyond the events",
        "field beyond the format",
    ],
)
def test_a_damaged_block_is_refused(tail: bytes, message: str) -> None:
    with pytest.raises(LineageError, match=message):
        decode(b"\x01" + digest(0) + tail)


@given(st.binary(max_size=80))
def test_any_bytes_are_a_block_or_refused(tail: bytes) -> None:
    data = b"\x01" + bytes(16) + tail
    try:
        block = decode(data)
    except LineageError:
        with pytest.raises(LineageError):
            covered(data)
        return
    assert encode(block) == data


@given(blocks(), st.data())
def test_no_changed_block_is_read_but_what_encode_would_write(block: LineageBlock, data: Any) -> None:
    changed = bytearray(encode(block))
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, len(changed) - 1))
        match data.draw(st.sampled_from(("set", "insert", "delete"))):
            case "set":
                changed[place] = data.draw(st.integers(0, 255))
            case "insert":
                changed.insert(place, data.draw(st.sampled_from((0, 0x80, 0xFF, 1))))
            case _:
                del changed[place]
    try:
        read = decode(bytes(changed))
    except LineageError:
        return
    assert encode(read) == changed


@given(blocks())
def test_covered_is_what_decode_finds(block: LineageBlock) -> None:
    found = covered(encode(block))
    assert found.shape == block.shape
    assert found.consents == [(use.record_id, use.version) for use in block.consents]
    assert found.fields == [entry.field for entry in block.fields]
    assert found.channels == max((entry.channel for entry in block.events), default=-1) + 1


@given(st.data())
def test_a_changed_byte_never_reads_as_the_same_block(data: Any) -> None:
    encoded = bytearray(encode(sofa_block()))
    place = data.draw(st.integers(0, len(encoded) - 1))
    encoded[place] ^= data.draw(st.integers(1, 255))
    try:
        block = decode(bytes(encoded))
    except LineageError:
        return
    assert block != sofa_block()
