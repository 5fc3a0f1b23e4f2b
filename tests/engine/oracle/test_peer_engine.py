"""The bench's plain-Python peer gives the answers of the brute-force oracle, so that a ratio against it means something."""

import random
from decimal import Decimal

import msgspec
import orjson
import pytest

from dayfly.bench.peer_engine import PeerEngine, Row, UnsupportedTag
from dayfly.bench.peer_plain import PlainEngine
from dayfly.engine.events import Event, EventBatch
from dayfly.engine.tags.tree import (
    Absent,
    And,
    Comparison,
    EventMatch,
    Expression,
    FieldComparison,
    FieldIn,
    FieldText,
    Measure,
    Not,
    Predicate,
    PredicateNot,
    Sequence,
    Tag,
)
from tests.engine.oracle.cases import ANN, CATALOG, START, event, match, oracle, policy, tag
from tests.engine.workload import Mix, random_inputs, random_policy
from tests.engine.workload_rules import EPOCH_MS, SPANS_MS, random_predicate
from tests.oracles.consent_rules import Everyone
from tests.oracles.membership import OracleEngine
from tests.oracles.unpack import events_of


def _match(rng: random.Random) -> EventMatch:
    kind = rng.choice(random_policy(rng, 0).catalog.types)
    where = random_predicate(rng, kind) if kind.fields and rng.random() < 0.4 else None
    return EventMatch(kind.name, where if where is None or "channel" not in repr(where) else None)


def _part(rng: random.Random) -> Expression:
    within_ms = rng.choice(SPANS_MS[2:9])
    choice = rng.randrange(5)
    if choice == 0:
        return Comparison(
            Measure("count", _match(rng), within_ms), rng.choice((">", ">=")), Decimal(rng.randrange(1, 4))
        )
    if choice == 1:
        queries = Measure("distinct", EventMatch("Product Searched"), within_ms, "properties.query")
        return Comparison(queries, ">=", Decimal(rng.randrange(1, 4)))
    if choice == 2:
        totals = Measure("sum", EventMatch("Order Completed"), within_ms, "properties.total")
        return Comparison(
            totals, rng.choice((">", ">=")), Decimal(rng.choice(("0", "-1", "2.5", "7.000001")))
        )
    if choice == 3:
        return Absent(_match(rng), within_ms)
    return Sequence((_match(rng), _match(rng)), within_ms, None, _match(rng) if rng.random() < 0.6 else None)


def _tags(rng: random.Random, count: int) -> tuple[Tag, ...]:
    conditions = [_part(rng) if rng.random() < 0.4 else And((_part(rng), _part(rng))) for _ in range(count)]
    return tuple(Tag(f"tag-{index}", "service", "*", when) for index, when in enumerate(conditions))


def _rows(events: list[Event]) -> list[Row]:
    return [
        (item.event_id, item.subject, item.type, item.time_ms, item.received_ms, item.properties)
        for item in events
    ]


@pytest.mark.parametrize("kind", [PeerEngine, PlainEngine])
@pytest.mark.parametrize("seed", range(6))
def test_the_peers_enter_tags_when_the_oracle_does(seed: int, kind: type[PeerEngine]) -> None:
    rng = random.Random(seed)
    base = random_policy(rng, 0)
    rules = policy(*_tags(rng, 30), settings=base.settings)
    rules = type(rules)(1, base.catalog, (), rules.tags, settings=base.settings)
    mix = Mix(merge=0, link=0, erase=0, consent=0, undeclared=0, late=0.1, duplicate=0.05)
    inputs = [
        item
        for item in random_inputs(rng, rules, events=700, people=10, edits=0, mix=mix, first_consents=False)
        if isinstance(item, EventBatch)
    ]
    judge = OracleEngine(rules, Everyone(), track=True)
    judge.apply(inputs, EPOCH_MS)
    peer = kind(rules)
    fires = []
    for batch in inputs:
        fires += peer.feed_events(_rows(events_of(batch, rules.catalog)))
    entered = [(item.at_ms, item.subject, item.tag) for item in judge.log if item.change == "enter"]
    assert len(entered) > 150
    assert sorted(fires) == sorted(entered)


def test_time_alone_may_enter_a_tag() -> None:
    gone = tag(
        And((Comparison(Measure("count", match("view"), 300), ">=", Decimal(1)), Absent(match("cart"), 100)))
    )
    peer = PeerEngine(policy(gone))
    rows = _rows([event("cart", 0), event("view", 10), event("order", 150)])
    assert peer.feed_events(rows) == [(START + 100, ANN, "t")]


def test_a_waiting_event_is_taken_in_before_time_judges_at_its_instant() -> None:
    gone = tag(
        And((Comparison(Measure("count", match("view"), 300), ">=", Decimal(1)), Absent(match("cart"), 100)))
    )
    peer = PeerEngine(policy(gone))
    events = [event("cart", 0), event("view", 10), event("cart", 100, received=50), event("order", 250)]
    assert peer.feed_events(_rows(events)) == [(START + 200, ANN, "t")]


def test_a_late_event_exactly_as_old_as_the_window_fires_nothing() -> None:
    peer = PeerEngine(policy(tag(Comparison(Measure("count", match("view"), 100), ">=", Decimal(1)))))
    assert peer.feed_events(_rows([event("view", 0, received=100)])) == []
    assert len(peer.feed_events(_rows([event("view", 2, received=101)]))) == 1


def test_numbers_of_one_instant_leave_a_sum_together() -> None:
    dear = Comparison(Measure("sum", match("view"), 100, "properties.price"), ">", Decimal(5))
    peer = PeerEngine(policy(tag(dear)))
    prices = ((0, 3), (0, -2), (10, 6), (105, 0))
    fires = peer.feed_events(_rows([event("view", at, price=price) for at, price in prices]))
    assert fires == [(START + 10, ANN, "t")]


def test_raw_segment_payloads_give_the_fires_of_their_events() -> None:
    dear = Comparison(Measure("sum", match("view"), 10_000, "properties.price"), ">", Decimal("5.5"))
    peer = PeerEngine(policy(tag(dear)))

    def payload(number: int, price: float, **ids: str) -> bytes:
        fields = {"type": "track", "event": "view", "messageId": f"m{number}", "properties": {"price": price}}
        return orjson.dumps(
            {**fields, **ids, "timestamp": f"1970-01-01T00:16:4{number}.250Z", "context": {"app": {}}}
        )

    raw = [payload(0, 2.75, userId="u"), payload(1, 2.75, userId="u"), payload(2, 9.0, anonymousId="u")]
    raw.append(payload(3, 0.000001, userId="u"))
    fires = peer.feed_raw([*raw, raw[0]], 1_005_000)
    assert [(at, name) for at, _, name in fires] == [(1_005_000, "t"), (1_005_000, "t")]
    assert len({subject for _, subject, _ in fires}) == 2
    assert all(len(subject) == 16 and subject != b"u" for _, subject, _ in fires)


def test_a_payload_that_is_no_track_call_is_refused() -> None:
    with pytest.raises(msgspec.ValidationError, match="missing required field `messageId`"):
        PeerEngine(policy()).feed_raw([b"{}"], 0)


@pytest.mark.parametrize(
    "when",
    [
        Not(Absent(match("view"), 100)),
        Comparison(Measure("count", match("view"), 100), "<", Decimal(5)),
        Comparison(Measure("avg", match("view"), 100, "properties.price"), ">", Decimal(5)),
        Sequence((match("view"),), 100, None, match("cart"), 10),
        Sequence((match("view"), match("cart"), match("order")), 100),
    ],
)
def test_a_tag_beyond_the_subset_is_refused(when: Expression) -> None:
    with pytest.raises(UnsupportedTag, match=r"tag='t' must .*; leave it out"):
        PeerEngine(policy(tag(when)))


@pytest.mark.parametrize(
    "where",
    [
        FieldComparison("properties.price", ">=", Decimal("2.5")),
        FieldComparison("properties.sale", "==", value=False),
        FieldComparison("properties.material", "!=", "elm"),
        FieldIn("properties.price", (Decimal(0), Decimal("2.5"))),
        FieldText("properties.material", "endsWith", "k"),
        PredicateNot(FieldText("properties.material", "contains", "a")),
    ],
)
def test_a_predicate_of_the_peer_is_that_of_the_oracle(where: Predicate) -> None:
    seen = tag(Comparison(Measure("count", match("view", where), 100), ">=", Decimal(1)))
    for fields in (
        {},
        {"price": 2.5},
        {"price": 0},
        {"material": "oak", "sale": False},
        {"material": "elm", "sale": True},
    ):
        happened = event("view", 5, **fields)
        judge = oracle(seen)
        judge.apply([EventBatch.from_events([happened], CATALOG)], START + 5)
        assert bool(PeerEngine(policy(seen)).feed_events(_rows([happened]))) is judge.member(ANN, "t")


def test_without_consent_for_its_purpose_no_tag_fires() -> None:
    rules = policy(tag(Comparison(Measure("count", match("view"), 100), ">=", Decimal(1))))
    rows = _rows([event("view", 5)])
    assert PeerEngine(rules, grants={ANN: frozenset({"marketing"})}).feed_events(rows) == []
    assert len(PeerEngine(rules, grants={ANN: frozenset({"service"})}).feed_events(rows)) == 1
