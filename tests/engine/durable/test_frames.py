"""Frames of the log: what was told comes back exactly, and bytes that are no frame are said to be none."""

import random
from dataclasses import fields
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dayfly.engine.decisions import Recall, TagChange
from dayfly.engine.durable.cutting import effects_frames, inputs_frames
from dayfly.engine.durable.effects import (
    Counted,
    Effects,
    Ended,
    Leased,
    Unminted,
    decode_effects,
    encode_effects,
)
from dayfly.engine.durable.feed import items_of
from dayfly.engine.durable.input_frames import decode_inputs, encode_inputs
from dayfly.engine.errors import FrameError
from dayfly.engine.events import EventBatch
from dayfly.engine.inputs import FragmentEnded, Input, OrderRefused, Publish
from dayfly.engine.intake.reasons import DeadLetterReason
from dayfly.engine.intake.results import RejectedEvent
from dayfly.engine.policy.model import Policy
from dayfly.engine.shard import Shard
from tests.engine.runtime.world import furniture
from tests.engine.workload import EPOCH_MS, Mix, as_batches, random_inputs, random_policy

NOW_MS = EPOCH_MS + 90 * 86_400_000
MIX = Mix(observed=0.2, merge=0.05, erase=0.03, consent=0.1, tick=0.1, link=0.05)


def told(seed: int, events: int = 60) -> tuple[Policy, list[Input]]:
    """A policy and inputs of every kind."""
    rng = random.Random(seed)
    policy = random_policy(rng, 8)
    inputs = list(random_inputs(rng, policy, events=events, people=8, edits=0, mix=MIX))
    inputs.insert(len(inputs) // 2, OrderRefused(EPOCH_MS, "o-1", "consent"))
    inputs.append(FragmentEnded(NOW_MS, "o-2", unopened=True))
    return policy, inputs


def same(one: Input, other: Input) -> bool:
    """Equal in every field; policies by their documents, columns by their numbers and types."""
    if type(one) is not type(other):
        return False
    if isinstance(one, Publish) and isinstance(other, Publish):
        return (one.at_ms, one.policy.digest) == (other.at_ms, other.policy.digest)
    if isinstance(one, EventBatch):
        return all(alike(getattr(one, item.name), getattr(other, item.name)) for item in fields(one))
    return one == other


def alike(one: Any, other: Any) -> bool:
    if isinstance(one, np.ndarray):
        return one.dtype == other.dtype and one.shape == other.shape and bool((one == other).all())
    return bool(one == other)


@given(seed=st.integers(0, 2**32))
def test_inputs_of_every_kind_come_back_as_they_were(seed: int) -> None:
    _, inputs = told(seed)
    inputs.append(Publish(NOW_MS, furniture()))
    found, now_ms = decode_inputs(encode_inputs(inputs, NOW_MS))
    assert now_ms == NOW_MS
    assert len(found) == len(inputs)
    assert all(same(one, other) for one, other in zip(found, inputs, strict=True))
    assert encode_inputs(found, now_ms) == encode_inputs(inputs, NOW_MS)


@pytest.mark.parametrize("seed", range(3))
def test_a_shard_told_by_frames_is_the_shard_told_directly(seed: int) -> None:
    policy, inputs = told(seed, events=300)
    direct, framed, cut = Shard(policy), Shard(policy), Shard(policy)
    decided: list[list[object]] = [[], [], []]
    for call, now_ms in as_batches(inputs, random.Random(seed)):
        for shard, frames, heard in (
            (direct, None, decided[0]),
            (framed, [encode_inputs(call, now_ms)], decided[1]),
            (cut, list(inputs_frames(call, now_ms, 2_000)), decided[2]),
        ):
            for part, at_ms in (
                [(call, now_ms)] if frames is None else [decode_inputs(frame) for frame in frames]
            ):
                decisions = shard.apply(part, at_ms)
                heard += [*decisions.tags, *decisions.orders, *decisions.recalls]
    assert framed.snapshot() == direct.snapshot() == cut.snapshot()
    assert decided[0] == decided[1]
    assert sorted(map(repr, decided[0])) == sorted(map(repr, decided[2]))


@given(seed=st.integers(0, 2**32), data=st.data())
def test_bytes_that_are_no_frame_of_inputs_are_said_to_be_none(seed: int, data: st.DataObject) -> None:
    _, inputs = told(seed, events=20)
    payload = encode_inputs(inputs, NOW_MS)
    cut = data.draw(st.integers(0, len(payload) - 1))
    with pytest.raises(FrameError, match=r"must hold inputs|must be readable"):
        decode_inputs(payload[:cut])
    flipped = bytearray(payload)
    flipped[data.draw(st.integers(0, len(payload) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    try:
        decode_inputs(bytes(flipped))  # numbers and texts may differ: the log's seal stands before that
    except FrameError as error:
        assert "must" in str(error)  # noqa: PT017 - a flip may also be readable


def test_a_text_that_is_no_utf8_any_more_is_damage_too() -> None:
    """msgspec lets `UnicodeDecodeError` through, which is no error of its own family."""
    _, inputs = told(0, events=3)
    payload = encode_inputs(inputs, NOW_MS)
    refused = 0
    for place in range(len(payload)):
        flipped = bytearray(payload)
        flipped[place] ^= 0x80
        try:
            decode_inputs(bytes(flipped))
        except FrameError:
            refused += 1
    assert refused > len(payload) // 10


def test_frames_of_a_newer_format_and_unknown_inputs_are_told() -> None:
    with pytest.raises(FrameError, match="frame format=2 must be 1; read it with the release that wrote it"):
        decode_inputs(msgspec.msgpack.encode((2, 0, [])))
    with pytest.raises(FrameError, match="input tag='z' must be readable"):
        decode_inputs(msgspec.msgpack.encode((1, 0, [("z", ())])))
    with pytest.raises(FrameError, match="columns=1 must be 13"):
        decode_inputs(msgspec.msgpack.encode((1, 0, [("e", ([b""], []))])))
    with pytest.raises(FrameError, match="frame format=2 must be 1"):
        decode_effects(encode_effects(Effects(format=2, at_ms=0, covers=0, first_item=1)))
    with pytest.raises(FrameError, match="must hold effects"):
        decode_effects(b"\xc1")


def letter(number: int) -> RejectedEvent:
    return RejectedEvent(number, "app", next(iter(DeadLetterReason)), f"payload {number}", bytes(16), "why")


FULL = Effects(
    at_ms=7,
    covers=9,
    first_item=100,
    recalled=tuple(Recall(number, 7, (f"o-{number}",), "crm", "withdrawn") for number in range(5)),
    ended=tuple(
        Ended(f"j-{number}", f"o-{number}", "crm", bytes(16), "expired", 7, 0) for number in range(5)
    ),
    unminted=(Unminted("o-9", "consent"),),
    leased=(Leased("j-9", 7),),
    counted=(Counted(bytes(16), "crm", "ordinary", 7),),
    tags=tuple(TagChange(number, 7, bytes(16), "t", "enter", 8) for number in range(9)),
    audit=(b"{}\n", b"[]\n"),
    letters=tuple(letter(number) for number in range(3)),
    erased=4,
    first_stone=50,
    stones=(b"one", b"two", b"three"),
)


def test_effects_come_back_as_they_were() -> None:
    assert decode_effects(encode_effects(FULL)) == FULL


@given(limit=st.integers(40, 3_000))
def test_effects_cut_into_frames_tell_the_same_in_the_same_order(limit: int) -> None:
    parts = [part for part, payload in effects_frames(FULL, 3, limit) if decode_effects(payload) == part]
    assert [item for part in parts for item in items_of(part, series)] == items_of(FULL, series)
    for name in ("unminted", "leased", "counted", "audit", "letters", "stones"):
        assert tuple(entry for part in parts for entry in getattr(part, name)) == getattr(FULL, name)
    stones = [part.first_stone + number for part in parts for number in range(len(part.stones))]
    assert stones == [50, 51, 52]
    assert [part.covers for part in parts] == [3] * (len(parts) - 1) + [9]
    assert [part.erased for part in parts] == [0] * (len(parts) - 1) + [4]


def series(_subject: bytes, _trigger: str) -> bytes:
    return b"s"
