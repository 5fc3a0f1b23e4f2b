"""Call every kernel of the shard once, so that its machine code is in the cache."""

from dataclasses import replace

import numpy as np

from dayfly.engine.catalog import Catalog, EventType, FieldSpec, FieldType
from dayfly.engine.events import Event, EventBatch
from dayfly.engine.inputs import ConsentGiven, Erase, Input, Merge, Publish
from dayfly.engine.policy.model import Channel, Policy
from dayfly.engine.shard.kernels_lines import rehash
from dayfly.engine.shard.kernels_people import rehash_ids
from dayfly.engine.shard.kernels_strings import index_strings
from dayfly.engine.shard.shard import Shard
from dayfly.engine.shard.state import empty_ids
from dayfly.engine.tags.text import parse_expression
from dayfly.engine.tags.tree import Tag
from dayfly.privacy.consent import ConsentRecord, ConsentState, Scope, Terms, UseBudget

__all__ = ["warm"]

_START_MS = 1_700_000_000_000
_DAY_MS = 86_400_000


def warm() -> None:
    """Run a tiny shard through everything that it can be told."""
    catalog = Catalog((EventType("E", (FieldSpec("text", FieldType.STRING),)),), ("warm",))
    when = parse_expression('count("E", where: properties.text == "a", within: 1d) > 1')
    policy = Policy(1, catalog, (Channel("warm"),), (Tag("warm", "warm.up", "warm", when),))
    shard = Shard(policy)
    one, two = b"1" * 16, b"2" * 16
    inputs: list[Input] = [_consent(one), _events(one, catalog, 0), _events(two, catalog, 3)]
    shard.apply(inputs, _START_MS + 10)
    shard.apply(
        [Merge(_START_MS + 20, one, two), Publish(_START_MS + 30, replace(policy, version=2))], _START_MS + 40
    )
    grown = Catalog((EventType("F"), *catalog.types), catalog.channels)
    regrown = replace(policy, version=3, catalog=grown)
    shard.apply([Publish(_START_MS + 50, regrown)], _START_MS + 2 * _DAY_MS)
    restored = Shard.restore(shard.snapshot(), regrown)
    restored.explain(one, "warm")
    restored.reader.tag_events(0, regrown.tags[0], restored.clock_ms)
    restored.apply([Erase(_START_MS + 2 * _DAY_MS, one)], _START_MS + 2 * _DAY_MS + 1)
    _growth(restored)


def _growth(shard: Shard) -> None:
    """What only large shards call."""
    core, strings = shard.arrays.core, shard.arrays.strings
    rehash(core.world.lines.table, np.zeros_like(core.world.lines.table))
    rehash(core.world.members, np.zeros_like(core.world.members))
    rehash_ids(core.ids, empty_ids(len(core.ids.keys)), 0)
    index_strings(strings.hashes, int(strings.meta[0]), np.zeros_like(strings.slots))


def _events(subject: bytes, catalog: Catalog, first: int) -> EventBatch:
    """Three events, the last of them dated ahead so that it waits."""
    events = [
        Event(
            event_id=(first + index + 1).to_bytes(16, "little"),
            channel="warm",
            subject=subject,
            type="E",
            time_ms=_START_MS + (5_000 if index == 2 else index),
            received_ms=_START_MS + 5,
            properties={"text": "a"},
        )
        for index in range(3)
    ]
    return EventBatch.from_events(events, catalog)


def _consent(subject: bytes) -> ConsentGiven:
    everything = ("*",)
    scope = Scope(
        purposes=("warm",),
        topics=everything,
        data_categories=everything,
        recipients=everything,
        channels=everything,
        recipient_countries=everything,
    )
    record = ConsentRecord(
        record_id="warm",
        principal=subject.hex(),
        state=ConsentState.GIVEN,
        time_ms=_START_MS,
        valid_from_ms=_START_MS,
        valid_until_ms=_START_MS + 10 * _DAY_MS,
        scope=scope,
        use=UseBudget(max_uses=None),
        terms=Terms(jurisdiction="CN"),
    )
    return ConsentGiven(_START_MS, subject, record)
