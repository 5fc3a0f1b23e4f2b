"""The workload holds what it promises: everything that can go wrong in a life, at the edges, and the same for a seed."""

import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from typing import Any, TypeAlias

import numpy as np
import pytest

from dayfly.engine.events import EventBatch
from dayfly.engine.inputs import ConsentGiven, ConsentWithdrawn, Erase, Input, Merge, Publish, Tick
from dayfly.engine.policy.model import Policy
from dayfly.engine.tags import tree
from dayfly.privacy.consent import PersonConsents
from tests.engine.workload import Mix, as_batches, edge_instants, pseudonym, random_inputs, random_policy
from tests.engine.workload_rules import EPOCH_MS, SPANS_MS, random_tags
from tests.oracles.consent_real import RealConsent
from tests.oracles.membership import OracleEngine
from tests.oracles.unpack import events_of, rows_of

Life: TypeAlias = tuple[Policy, list[Input]]


def life(*, seed: int = 4, events: int = 6_000, people: int = 60, tags: int = 20) -> Life:
    rng = random.Random(seed)
    policy = random_policy(rng, tags)
    return policy, list(random_inputs(rng, policy, events=events, people=people))


@pytest.fixture(scope="module")
def some_life() -> Life:
    return life()


def nodes(value: Any) -> Iterator[Any]:
    """Every dataclass inside a tag."""
    if is_dataclass(value):
        yield value
        for field in fields(value):
            yield from nodes(getattr(value, field.name))
    elif isinstance(value, tuple):
        for item in value:
            yield from nodes(item)


def batches_of(inputs: list[Input]) -> list[EventBatch]:
    return [item for item in inputs if isinstance(item, EventBatch)]


def test_a_seed_gives_one_life_and_another_seed_another(some_life: Life) -> None:
    def prints(inputs: list[Input]) -> list[object]:
        return [item.values.tobytes() if isinstance(item, EventBatch) else repr(item) for item in inputs]

    assert prints(life()[1]) == prints(some_life[1])
    assert prints(life(seed=5)[1]) != prints(some_life[1])


def test_two_hundred_tags_hold_every_function_operator_and_field_type() -> None:
    policy = random_policy(random.Random(1), 200)
    found = [node for tag in policy.tags for node in nodes(tag)]
    kinds = {type(node).__name__ for node in found}
    wanted = set(tree.__all__) - {"Expression", "MeasureName", "Operator", "Predicate", "Scalar", "TextTest"}
    assert kinds == wanted
    measures = Counter(node.function for node in found if isinstance(node, tree.Measure))
    assert set(measures) == {"count", "distinct", "sum", "avg", "min", "max", "first", "last"}
    assert {node.operator for node in found if isinstance(node, tree.Comparison)} == {
        "==",
        "!=",
        "<",
        "<=",
        ">",
        ">=",
    }
    assert {node.test for node in found if isinstance(node, tree.FieldText)} == {
        "contains",
        "startsWith",
        "endsWith",
    }
    specs = {
        f"properties.{spec.name}": spec.type.value for kind in policy.catalog.types for spec in kind.fields
    }
    tested = {specs.get(node.field) for node in found if isinstance(node, tree.FieldComparison)}
    assert tested == {"string", "number", "boolean", "time", None}


def test_in_tag_chains_are_long_and_never_in_a_circle() -> None:
    tags = random_tags(random.Random(1), 200)
    depth: dict[str, int] = {}
    for tag in tags:
        asked = [node.tag for node in nodes(tag.when) if isinstance(node, tree.InTag)]
        depth[tag.name] = 1 + max((depth[name] for name in asked), default=-1)
    assert max(depth.values()) >= 3


def test_every_kind_of_input_is_there(some_life: Life) -> None:
    kinds = Counter(type(item) for item in some_life[1])
    assert set(kinds) == {EventBatch, ConsentGiven, ConsentWithdrawn, Publish, Merge, Erase, Tick}


def test_received_times_never_fall(some_life: Life) -> None:
    instants: list[int] = []
    for item in some_life[1]:
        instants += item.received_ms.tolist() if isinstance(item, EventBatch) else [item.at_ms]
    assert instants == sorted(instants)
    assert instants[0] == EPOCH_MS


@pytest.mark.parametrize(
    ("outcome", "low", "high"),
    [
        ("duplicate", 0.012, 0.03),
        ("too_late", 0.005, 0.02),
        ("waiting", 0.005, 0.02),
        ("too_far_ahead", 0.0005, 0.006),
    ],
)
def test_the_shares_are_as_promised(some_life: Life, outcome: str, low: float, high: float) -> None:
    policy, inputs = some_life
    engine = OracleEngine(policy, RealConsent())
    engine.apply(inputs, EPOCH_MS)
    arrived = sum(len(batch) for batch in batches_of(inputs))
    assert arrived == pytest.approx(6_000, abs=60)
    assert low < engine.counts[outcome] / arrived < high


def test_events_come_out_of_order_within_the_lateness(some_life: Life) -> None:
    late: Counter[str] = Counter()
    for batch in batches_of(some_life[1]):
        age = batch.received_ms - batch.time_ms
        late["late"] += int(((age > 0) & (age < 2 * 86_400_000)).sum())
        late["all"] += len(batch)
    assert 0.03 < late["late"] / late["all"] < 0.08


@pytest.mark.parametrize("off", [-1, 0, 1])
def test_window_edges_are_really_hit(some_life: Life, off: int) -> None:
    times: dict[bytes, set[int]] = {}
    for batch in batches_of(some_life[1]):
        for subject, time_ms in zip(batch.subject, batch.time_ms.tolist(), strict=True):
            times.setdefault(subject.tobytes(), set()).add(time_ms)
    for span in SPANS_MS[:8]:
        hits = sum(time_ms + span + off in mine for mine in times.values() for time_ms in mine)
        assert hits >= 20


def test_ties_happen(some_life: Life) -> None:
    seen: Counter[tuple[bytes, int]] = Counter()
    for batch in batches_of(some_life[1]):
        ids = {bytes(row) for row in batch.event_id}
        seen.update(
            zip([row.tobytes() for row in batch.subject], batch.time_ms.tolist(), strict=True) if ids else ()
        )
    assert sum(count > 1 for count in seen.values()) > 50


def test_a_batch_is_what_packing_its_events_gives() -> None:
    policy, inputs = life(events=400)
    catalog = policy.catalog
    before_edits = inputs[: [type(item) for item in inputs].index(Publish)]
    first = max(batches_of(before_edits), key=len)
    again = EventBatch.from_events(events_of(first, catalog), catalog)
    assert list(rows_of(again, catalog)) == list(rows_of(first, catalog))
    assert len(first) > 10


def test_cutting_changes_nothing_but_the_cuts() -> None:
    policy, inputs = life(events=600, people=8, tags=14)
    whole = OracleEngine(policy, RealConsent(), track=True)
    whole.apply(inputs, EPOCH_MS)
    for seed in (1, 2):
        parts = OracleEngine(policy, RealConsent(), track=True)
        sizes = 0
        for part, now_ms in as_batches(inputs, random.Random(seed)):
            parts.apply(part, now_ms)
            sizes += 1
        assert sizes > 5
        assert parts.log == whole.log
        assert parts.counts == whole.counts


def test_what_is_tracked_is_what_is_recounted() -> None:
    policy, inputs = life(events=500, people=8, tags=20)
    engine = OracleEngine(policy, RealConsent(), track=True)
    for part, now_ms in as_batches(inputs, random.Random(1)):
        engine.apply(part, now_ms)
        for person in engine.people.all():
            assert person.held == engine.tags(person.subject)
    assert len(engine.log) > 100


def test_edge_instants_rise(some_life: Life) -> None:
    instants = edge_instants(some_life[1], random.Random(1), 200)
    assert instants == sorted(instants)
    assert len(instants) == 200


def test_pseudonyms_differ() -> None:
    assert len({pseudonym(index) for index in range(1_000)}) == 1_000
    assert all(np.frombuffer(pseudonym(index), "<u8").all() for index in range(100))


def test_consent_objects_inside_events_change_who_carries_what() -> None:
    rng = random.Random(6)
    policy = random_policy(rng, 20)
    mix = Mix(observed=0.5)
    inputs = list(random_inputs(rng, policy, events=800, people=10, mix=mix, first_consents=False))
    forms = Counter(seen.form for item in batches_of(inputs) for seen in item.consents)
    assert set(forms) == {"segment", "rudderstack", "tcf"}
    read, unread = (OracleEngine(policy, rules, track=True) for rules in (RealConsent(), DeafConsent()))
    read.apply(inputs, EPOCH_MS)
    unread.apply(inputs, EPOCH_MS)
    assert len(read.log) > len(unread.log) + 20
    for person in read.people.all():
        assert person.held == read.tags(person.subject)


class DeafConsent(RealConsent):
    """Consent that does not read what banners say."""

    def observed(self, state: PersonConsents, *_ignored: object) -> PersonConsents:
        """Nothing changes."""
        return state
