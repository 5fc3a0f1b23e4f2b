"""After an erasure nothing of the person is left: not in a snapshot, not in any array, not in any object of the shard."""

import random
from collections.abc import Iterable, Iterator
from dataclasses import fields, is_dataclass, replace
from types import MappingProxyType
from typing import Any

import msgspec
import numpy as np
import pytest

from dayfly.engine.events import Event, EventBatch
from dayfly.engine.inputs import ConsentWithdrawn, Erase, Merge, Publish
from dayfly.engine.shard.shard import Shard
from dayfly.engine.tags.tree import Capture
from tests.engine.shard.house import (
    ANN,
    BEN,
    CANCELLED,
    CAT,
    DAY,
    MINUTE,
    START,
    House,
    event,
    grant,
    measure,
    policy,
    tag,
)
from tests.engine.workload import as_batches, pseudonym, random_inputs, random_policy

SECRET = "ann-only-望远镜-7391"
PRICE = 774_411_993
"""A price that nobody else pays; in millionths, as it is kept."""

RULES = policy(
    tags=(
        tag(
            "looks", 'count("view", within: 1d) > 0', Capture("what", measure("distinct", "view", "material"))
        ),
        tag("spends", 'sum("view", properties.price, within: 1d) > 0'),
        tag("peak", 'max("view", properties.price, within: 1d) > 0'),
        tag("variety", 'distinct("view", properties.material, within: 1d) > 1'),
        tag("fond", 'count("view", where: properties.material.contains("望远"), within: 1d) > 0'),
    ),
    contradictions=(CANCELLED,),
)


def traces(value: Any, seen: set[int]) -> Iterator[bytes]:
    """Every byte that can be reached from a value: arrays, text, keys. Runs of zeros are left out."""
    if id(value) in seen:
        return
    seen.add(id(value))
    if isinstance(value, np.ndarray):
        yield without_zeros(np.ascontiguousarray(value).tobytes())
    elif isinstance(value, str | bytes):
        yield value.encode() if isinstance(value, str) else value
    for part in parts_of(value):
        yield from traces(part, seen)


def parts_of(value: Any) -> Iterable[Any]:
    """What a value holds."""
    if isinstance(value, np.ndarray):
        return () if value.base is None else (value.base,)
    if isinstance(value, dict | MappingProxyType):
        return [part for item in value.items() for part in item]
    if isinstance(value, tuple | list | set | frozenset):
        return value
    if is_dataclass(value):
        return [getattr(value, part.name) for part in fields(value)]
    if isinstance(value, msgspec.Struct):
        return [getattr(value, name) for name in value.__struct_fields__]
    return vars(value).values() if hasattr(value, "__dict__") and not isinstance(value, type) else ()


def without_zeros(memory: bytes) -> bytes:
    """The memory without its empty kibibytes, in which nothing can be found."""
    chunks = (memory[at : at + 1024] for at in range(0, len(memory), 1024))
    return b"".join(chunk for chunk in chunks if chunk.strip(b"\0"))


def everything_in(shard: Shard) -> bytes:
    """All that the shard holds and would save."""
    return b"\0\0".join([shard.snapshot(), *traces(vars(shard), set())])


def left_of(shard: Shard, *clues: bytes) -> list[bytes]:
    """The clues that are still somewhere in the shard or its snapshot."""
    everything = everything_in(shard)
    return [clue for clue in clues if clue in everything]


def clues_of(person: bytes, *events: Event) -> list[bytes]:
    """What would give a person away: its pseudonym as bytes and in records, digests, a text, a price."""
    price = PRICE.to_bytes(8, "little")
    return [person, person.hex().encode(), SECRET.encode(), price, *(item.digest for item in events)]


def life(person: bytes, *, texts: str = SECRET, price: float = PRICE / 10**6) -> list[Event]:
    """Enough of one person to fill windows, move them out of line and have some of them dropped again."""
    views = [
        event("view", at * 1_000, subject=person, material=f"{texts}{at % 9}", price=price)
        for at in range(40)
    ]
    order = event("order", 40_000, subject=person, order_id=texts, status="shipping", total=price)
    return [event("view", 0, subject=person, material=texts, price=price), *views, order]


def test_the_search_finds_a_person_that_is_there() -> None:
    house = House.of(RULES)
    mine = life(ANN)
    order = house.order(grant(), *mine)
    clues = [*clues_of(ANN, *mine), order.order_id.encode()]
    assert left_of(house.shard, *clues) == clues


def test_nothing_of_an_erased_person_is_left() -> None:
    house = House.of(RULES)
    mine, others = life(ANN), life(BEN, texts="ben", price=5)
    order = house.order(grant(), *mine)
    given = house.made[0]
    assert len(given.tags) == 5
    house.tell(grant(BEN, at=40_000), *(replaced(item, 40_001) for item in others))
    house.tell(Erase(START + MINUTE, ANN))
    clues = [*clues_of(ANN, *mine), order.order_id.encode()]
    assert left_of(house.shard, *clues) == []
    assert left_of(house.shard, BEN, b"ben", others[0].digest)
    assert left_of(Shard.restore(house.shard.snapshot(), RULES), *clues) == []


def replaced(item: Event, at: int) -> Event:
    return event(
        item.type,
        at,
        subject=item.subject,
        number=int.from_bytes(item.event_id[:8], "big"),
        **item.properties,
    )


def test_nothing_is_left_of_any_pseudonym_of_a_merged_person() -> None:
    house = House.of(RULES)
    mine, yours = life(ANN), life(BEN)
    house.tell(grant(), *mine, grant(BEN, at=40_000), ConsentWithdrawn(START + 40_000, BEN, "marketing"))
    house.tell(*(replaced(item, 40_001) for item in yours))
    house.tell(Merge(START + 41_000, CAT, BEN), Merge(START + 41_000, CAT, ANN))
    house.tell(event("view", 50_000, subject=BEN, material=SECRET))
    house.tell(Erase(START + MINUTE, ANN))
    clues = [*clues_of(ANN, *mine), *clues_of(BEN), CAT, CAT.hex().encode()]
    assert left_of(house.shard, *clues) == []


def test_what_waits_for_its_time_is_forgotten_too() -> None:
    house = House.of(RULES)
    waiting = event("view", 3 * MINUTE, received=1, material=SECRET)
    house.tell(grant(), waiting)
    assert left_of(house.shard, waiting.digest, SECRET.encode()) == [waiting.digest, SECRET.encode()]
    house.tell(Erase(START + MINUTE, ANN))
    assert left_of(house.shard, *clues_of(ANN, waiting)) == []
    made = house.tell(at=DAY)
    assert made.tags == ()
    assert house.shard.tags(ANN) == {}


def test_a_text_that_somebody_else_uses_stays_until_the_last_of_them_is_erased() -> None:
    house = House.of(RULES)
    house.tell(
        grant(), grant(BEN), event("view", 1, material=SECRET), event("view", 2, subject=BEN, material=SECRET)
    )
    house.tell(Erase(START + 3, ANN))
    assert left_of(house.shard, SECRET.encode()) == [SECRET.encode()]
    assert house.shard.tags(BEN)["looks"] == {"what": [SECRET]}
    house.tell(Erase(START + 4, BEN))
    assert left_of(house.shard, SECRET.encode()) == []


def test_a_rule_edit_after_an_erasure_brings_nothing_back() -> None:
    house = House.of(RULES)
    mine = life(ANN)
    house.tell(grant(), *mine, Erase(START + MINUTE, ANN))
    made = house.tell(Publish(START + MINUTE, policy(version=2, tags=RULES.tags[:2])))
    assert made.tags == ()
    assert left_of(house.shard, *clues_of(ANN, *mine)) == []


def test_an_erased_person_who_comes_back_is_somebody_new() -> None:
    house = House.of(RULES)
    made = house.tell(grant(), *life(ANN))
    held = {change.tag for change in made.tags}
    erased = house.tell(Erase(START + MINUTE, ANN))
    assert {(change.tag, change.change, change.reason) for change in erased.tags} == {
        (name, "leave", "erased") for name in held
    }
    assert house.tell(event("view", 2 * MINUTE, material="oak")).tags == ()
    back = house.tell(grant(at=3 * MINUTE))
    assert {change.tag for change in back.tags} == {"looks"}
    assert house.shard.tags(ANN) == {"looks": {"what": ["oak"]}}


@pytest.mark.parametrize("seed", range(3))
def test_erasing_everybody_of_a_random_life_leaves_no_pseudonym_and_no_digest(seed: int) -> None:
    rng = random.Random(seed)
    people = 8
    rules = random_policy(rng, 30)
    shard = Shard(rules)
    clues: list[bytes] = []
    for part, now_ms in as_batches(random_inputs(rng, rules, events=200, people=people, edits=1), rng):
        told = [with_random_digests(item, rng) if isinstance(item, EventBatch) else item for item in part]
        shard.apply(told, now_ms)
        for item in told:
            if isinstance(item, EventBatch):
                clues += [row.astype("<u8").tobytes() for row in item.digest]
    names = [pseudonym(number) for number in range(people)]
    clues += [*names, *(name.hex().encode() for name in names)]
    assert len(left_of(shard, *clues)) > 150
    shard.apply([Erase(shard.clock_ms, name) for name in names], shard.clock_ms)
    assert left_of(shard, *clues) == []


def with_random_digests(batch: EventBatch, rng: random.Random) -> EventBatch:
    """The batch with digests that cannot be mistaken for anything else."""
    digests = np.frombuffer(rng.randbytes(16 * len(batch)), "<u8").reshape(-1, 2).astype(np.uint64)
    return replace(batch, digest=digests)
