"""What an order reads of the history, against every event asked one by one."""

from decimal import Decimal
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dayfly.engine.events import Event
from dayfly.engine.shard import identity
from dayfly.engine.shard.kernels_layout import H_DIGEST
from dayfly.engine.tags.tree import Measure
from dayfly.engine.triggers import OnEvent
from tests.engine.shard.house import (
    ANN,
    BEN,
    HOUR,
    MINUTE,
    SECOND,
    START,
    House,
    event,
    match,
    measure,
    policy,
    shows,
    with_trigger,
)
from tests.oracles.reading import matching

MEASURES = (
    measure("count", "view", within_ms=10 * MINUTE),
    measure("count", "view", within_ms=HOUR, material="oak"),
    measure("sum", "view", "price", HOUR),
    measure("last", "view", "material", 30 * MINUTE),
    measure("first", "view", "price", 30 * MINUTE, material="oak"),
    measure("distinct", "view", "material", HOUR),
    measure("max", "order", "total", HOUR),
)
FIELDS = tuple(shows(f"field-{number}", one) for number, one in enumerate(MEASURES))
READING = with_trigger(when=OnEvent(match("cancel")), fields=FIELDS)


@st.composite
def lives(draw: st.DrawFn) -> list[Event]:
    """Events of two persons within fifty minutes, in order of arrival, many of them late or of one instant."""
    numbers = st.sampled_from((Decimal(0), Decimal(7), Decimal("19.99")))
    kinds: dict[str, Any] = {
        "view": st.fixed_dictionaries(
            {}, optional={"material": st.sampled_from(("oak", "pine", "steel")), "price": numbers}
        ),
        "order": st.fixed_dictionaries({}, optional={"total": numbers}),
        "ping": st.just({}),
    }
    found = []
    for _ in range(draw(st.integers(0, 40))):
        kind = draw(st.sampled_from(tuple(kinds)))
        at = draw(st.integers(0, 50)) * MINUTE
        found.append(
            event(kind, at, draw(st.sampled_from((ANN, BEN))), received=50 * MINUTE, **draw(kinds[kind]))
        )
    return found


def wanted(events: list[Event], one: Measure, now_ms: int) -> list[Event]:
    field = None if one.field is None else one.field.removeprefix("properties.")
    return [events[place] for place in matching(events, one.match, now_ms - one.within_ms, field=field)]


def digests(house: House, numbers: list[int]) -> list[bytes]:
    history = house.shard.arrays.core.history
    return [history[number, H_DIGEST : H_DIGEST + 2].tobytes() for number in numbers]


@given(lives(), st.integers(50, 60))
def test_one_walk_finds_what_asking_every_event_finds(events: list[Event], minute: int) -> None:
    house = House.of(READING)
    house.tell(*events, event("ping", 0, received=50 * MINUTE), event("ping", 0, BEN, received=50 * MINUTE))
    reader, now = house.shard.reader, START + minute * MINUTE
    plans = [reader.plan(one) for one in MEASURES]
    wants = np.array([plan.want for plan in plans], np.int64)
    for subject in (ANN, BEN):
        person = identity.find(house.shard.arrays, subject)
        mine = [one for one in events if one.subject == subject]
        for one, cells in zip(MEASURES, reader.gather(person, wants, now), strict=True):
            assert digests(house, [cell[0] for cell in cells]) == [
                found.digest for found in wanted(mine, one, now)
            ]


@pytest.mark.parametrize("count", [255, 256, 257, 1_000])
def test_a_long_history_is_found_whole(count: int) -> None:
    house = House.of(READING)
    first = event("view", MINUTE, BEN, received=HOUR)
    house.tell(first, *[event("view", (count - number) * SECOND, received=HOUR) for number in range(count)])
    value, behind = house.shard.reader.measure(
        identity.find(house.shard.arrays, ANN), measure("count", "view", within_ms=HOUR), START + HOUR
    )
    assert value == count
    assert behind == list(range(1, count + 1))  # the first to arrive happened last


def test_the_edge_of_the_window_is_out_and_nothing_is_none() -> None:
    house = House.of(policy(triggers=READING.triggers))
    house.tell(event("view", 0), event("ping", 10 * MINUTE))
    reader, person = house.shard.reader, identity.find(house.shard.arrays, ANN)
    assert reader.measure(person, MEASURES[0], START + 10 * MINUTE - 1)[0] == 1
    assert reader.measure(person, MEASURES[0], START + 10 * MINUTE) == (None, [])
    assert reader.gather(person, np.zeros((0, 4), np.int64), START) == []
