"""Where the stream is cut, who runs it and how often it restarts changes nothing: decisions and snapshots are equal byte for byte."""

import hashlib
import os
import random
import subprocess
import sys
import zlib
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dayfly.engine.decisions import Decisions
from dayfly.engine.errors import SnapshotError
from dayfly.engine.events import EventBatch
from dayfly.engine.inputs import Input
from dayfly.engine.policy.model import Policy
from dayfly.engine.shard.shard import Shard
from dayfly.engine.tags.tree import EventMatch, FieldPresent, Measure
from dayfly.engine.triggers import Contradiction, OnEvent, OnTag, TagHeld, Trigger, TriggerField
from tests.engine.workload import EPOCH_MS, Mix, as_batches, part_of, random_inputs, random_policy

MIX = Mix(observed=0.1, merge=0.01, erase=0.006, link=0.005, consent=0.05)


def with_triggers(rules: Policy) -> Policy:
    """Two triggers on events, two on tags, a contradiction: everything that can be decided is."""
    searched, bought = EventMatch("Product Searched"), EventMatch("Order Completed")
    shown = TriggerField("query", Measure("last", searched, 86_400_000, "properties.query"), "behaviour")
    money = TriggerField("total", Measure("sum", bought, 604_800_000, "properties.total"), "behaviour")
    order = TriggerField("order", Measure("last", bought, 86_400_000, "properties.order_id"), "behaviour")
    tags = [tag.name for tag in rules.tags[:2]]
    held = tuple(TriggerField(f"held-{name}", TagHeld(name), "behaviour") for name in tags)
    common: dict[str, Any] = {"purpose": "service.recommendation", "topic": "furniture.sofa"}
    triggers = (
        Trigger("on-search", OnEvent(searched), "crm", fields=(shown, *held), cooldown_seconds=600, **common),
        Trigger("on-order", OnEvent(bought), "crm-2", fields=(money, order), ttl_seconds=60, **common),
        *(Trigger(f"on-{name}", OnTag(name), "crm", fields=(shown, *held), **common) for name in tags),
    )
    cancel = EventMatch("Order Cancelled", FieldPresent("properties.order_id"))
    texts = ("sofa", "fabric", "小户型")
    return replace(
        rules, triggers=triggers, contradictions=(Contradiction("cancelled", cancel, "order", texts),)
    )


@cache
def life(seed: int, *, edits: int = 0) -> tuple[Policy, tuple[Input, ...]]:
    """A random life; with edits there are no triggers, for an edit may take their tags away."""
    rng = random.Random(seed)
    rules = random_policy(rng, 30)
    rules = rules if edits else with_triggers(rules)
    inputs = random_inputs(rng, rules, events=250, people=8, edits=edits, span_ms=20 * 86_400_000, mix=MIX)
    return rules, tuple(inputs)


def outcome(made: Sequence[Decisions]) -> tuple[Any, ...]:
    """Everything decided, without the place of a dead letter in its batch, which is the cut's."""
    letters = [(letter.at_ms, letter.channel, letter.reason) for part in made for letter in part.dead_letters]
    decided = ("tags", "orders", "recalls", "refusals")
    return (*([item for part in made for item in getattr(part, kind)] for kind in decided), letters)


def run(parts: Sequence[tuple[list[Input], int]], shard: Shard) -> tuple[tuple[Any, ...], bytes]:
    made = [shard.apply(part, now_ms) for part, now_ms in parts]
    return outcome(made), shard.snapshot()


@cache
def uncut(seed: int, *, edits: int = 0) -> tuple[tuple[Any, ...], bytes]:
    """The whole life in one call."""
    rules, inputs = life(seed, edits=edits)
    return run([(list(inputs), last_instant(inputs))], Shard(rules))


def last_instant(inputs: Sequence[Input]) -> int:
    return max(int(item.received_ms[-1]) if hasattr(item, "received_ms") else item.at_ms for item in inputs)


def test_the_lives_decide_everything_that_can_be_decided() -> None:
    for seed in (1, 2, 3):
        (tags, orders, _, refusals, letters), _ = uncut(seed)
        assert len(tags) > 100
        assert {order.order.audience for order in orders} == {"crm", "crm-2"}
        assert {order.order.rule.id for order in orders} > {"on-search", "on-order"}
        assert refusals
        assert letters
        numbers = [item.sequence for item in (*tags, *orders, *refusals)]
        assert len(set(numbers)) == len(numbers)
    assert any(item.order.supersedes for item in uncut(2)[0][1])
    assert {recall.reason for recall in uncut(1)[0][2]} == {"withdrawn"}


@settings(max_examples=15)
@given(seed=st.integers(1, 3), edits=st.sampled_from((0, 2)), cut=st.integers(0, 2**32))
def test_any_cut_gives_the_same_decisions_and_the_same_snapshot(seed: int, edits: int, cut: int) -> None:
    rules, inputs = life(seed, edits=edits)
    parts = list(as_batches(inputs, random.Random(cut)))
    assert run(parts, Shard(rules)) == uncut(seed, edits=edits)


@pytest.mark.parametrize("edits", [0, 2])
def test_one_event_a_call_gives_the_same(edits: int) -> None:
    rules, inputs = life(1, edits=edits)
    single: list[tuple[list[Input], int]] = []
    for item in inputs:
        pieces: list[Input] = (
            [part_of(item, at, at + 1) for at in range(len(item))] if isinstance(item, EventBatch) else [item]
        )
        single += [([piece], last_instant([piece])) for piece in pieces]
    assert run(single, Shard(rules)) == uncut(1, edits=edits)


@settings(max_examples=15)
@given(
    seed=st.integers(1, 3),
    edits=st.sampled_from((0, 2)),
    cut=st.integers(0, 2**32),
    people=st.sampled_from((0, 1_000, 5_000)),
    hash_seed=st.integers(0, 2**63),
)
def test_stopping_and_starting_anywhere_changes_nothing(
    seed: int, edits: int, cut: int, people: int, hash_seed: int
) -> None:
    """Also when the tables are of another size and their hashes are seeded otherwise after each start."""
    rules, inputs = life(seed, edits=edits)
    rng = random.Random(cut)
    shard, made = Shard(rules), []
    for part, now_ms in as_batches(inputs, rng):
        made.append(shard.apply(part, now_ms))
        if rng.random() < 0.1:
            saved = shard.snapshot()
            shard = Shard.restore(saved, shard.policy, expected_people=people, hash_seed=hash_seed)
            assert shard.snapshot() == saved
    assert (outcome(made), shard.snapshot()) == uncut(seed, edits=edits)


def test_a_snapshot_of_more_people_than_a_fresh_shard_has_room_for_is_restored() -> None:
    rules = random_policy(random.Random(1), 5)
    crowd = list(random_inputs(random.Random(2), rules, events=200, people=1_500, edits=0))
    shard = Shard(rules)
    shard.apply(crowd, last_instant(crowd))
    saved = shard.snapshot()
    again = Shard.restore(saved, rules, expected_people=0)
    assert again.snapshot() == saved
    later = EPOCH_MS + 500 * 86_400_000
    assert outcome([again.apply([], later)]) == outcome([shard.apply([], later)])


def digest_of_life(seed: int) -> str:
    """One line that depends on every decision and every byte of the snapshot."""
    decided, saved = uncut(seed)
    return hashlib.sha256(repr(decided).encode() + saved).hexdigest()


@pytest.mark.parametrize("hash_seed", ["1", "4242"])
def test_another_process_with_another_hash_seed_decides_the_same(hash_seed: str) -> None:
    code = "from tests.engine.shard.test_cuts import digest_of_life; print(digest_of_life(1))"
    env = {**os.environ, "PYTHONHASHSEED": hash_seed}
    root = Path(__file__).parents[3]
    done = subprocess.run(
        [sys.executable, "-c", code], env=env, cwd=root, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == digest_of_life(1)


# --- what is no snapshot ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("foreign", [b"", b"dayfly", b"PAR1" + bytes(100), b"dayfly-shard-1\n\0" + bytes(64)])
def test_foreign_bytes_are_refused(foreign: bytes) -> None:
    with pytest.raises(
        SnapshotError, match=r"must begin with b'dayfly-shard-2\\n\\x00'; it is no snapshot of this format"
    ):
        Shard.restore(foreign, life(1)[0])


@given(st.data())
def test_a_truncated_or_damaged_snapshot_is_refused(data: st.DataObject) -> None:
    rules, saved = life(1)[0], uncut(1)[1]
    at = data.draw(st.integers(16, len(saved) - 1))
    damaged = data.draw(
        st.sampled_from(
            (
                saved[:at],
                saved[:at] + bytes([saved[at] ^ 1]) + saved[at + 1 :],
                saved + b"x",
                saved[:at] + saved[at + 1 :],
            )
        )
    )
    with pytest.raises(SnapshotError, match=r"snapshot of \d+ bytes must match its checksum; it is damaged"):
        Shard.restore(damaged, rules)


@pytest.mark.parametrize("content", [b"", b"\x80", b"\x93\x01\x02\x03", b"\x81\xa1x\x01"])
def test_a_checksum_over_something_else_is_not_enough(content: bytes) -> None:
    body = b"dayfly-shard-2\n\0" + len(content).to_bytes(8, "little") + content
    checksum = hashlib.blake2b(zlib.crc32(body).to_bytes(4, "little"), digest_size=32).digest()
    forged = body + checksum
    with pytest.raises(SnapshotError, match=r"snapshot must follow the format: .*; use an older one"):
        Shard.restore(forged, life(1)[0])


@pytest.mark.parametrize("change", ["version", "digest", "tags"])
def test_a_snapshot_of_another_policy_is_refused(change: str) -> None:
    rules = life(1)[0]
    others = {
        "version": replace(rules, version=2),
        "digest": replace(rules, digest=b"other"),
        "tags": replace(rules, tags=rules.tags[:2] + rules.tags[3:]),
    }
    with pytest.raises(
        SnapshotError, match=r"must be the snapshot's version 1 with the same content; restore with"
    ):
        Shard.restore(uncut(1)[1], others[change])
