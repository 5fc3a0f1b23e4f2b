"""Building blocks: each event once, newest first, every field with its most telling event when there are too many."""

from dataclasses import replace
from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dayfly.engine.errors import LineageError
from dayfly.engine.lineage import FieldEvidence, LineageBlock, decode, encode, make_block
from dayfly.engine.lineage.build import block_bytes

from .support import CONSENT, NOW_MS, SHAPE, event


def made(fields: dict[str, FieldEvidence], *, max_events: int = 7) -> LineageBlock:
    return make_block(SHAPE, as_of_ms=NOW_MS, consents=(CONSENT,), fields=fields, max_events=max_events)


def listed(block: LineageBlock, name: str) -> set[bytes]:
    (entry,) = [entry for entry in block.fields if SHAPE.fields[entry.field].name == name]
    return {event.digest for place, event in enumerate(block.events) if entry.events >> place & 1}


def test_an_event_behind_two_fields_is_named_once() -> None:
    block = made({"comparing": FieldEvidence([event(1), event(2)]), "materials": FieldEvidence([event(2)])})
    assert [entry.digest for entry in block.events] == [event(1).digest, event(2).digest]
    assert listed(block, "comparing") == {event(1).digest, event(2).digest}
    assert listed(block, "materials") == {event(2).digest}


def test_fields_that_the_fragment_leaves_out_are_left_out() -> None:
    block = made({"budget": FieldEvidence([event(1)])})
    assert [entry.field for entry in block.fields] == [2]


def test_the_order_of_fields_does_not_matter() -> None:
    fields = {
        "comparing": FieldEvidence([event(2), event(1)]),
        "materials": FieldEvidence([event(3)]),
        "budget": FieldEvidence(),
    }
    encoded = {encode(made(dict(order), max_events=2)) for order in permutations(fields.items())}
    assert len(encoded) == 1


def test_when_there_are_too_many_every_field_keeps_its_first() -> None:
    many = FieldEvidence([event(number) for number in range(1, 20)], total=900)
    old = FieldEvidence([event(50), event(51)])
    block = made({"comparing": many, "budget": old}, max_events=4)
    assert listed(block, "comparing") == {event(1).digest, event(2).digest}
    assert listed(block, "budget") == {event(50).digest, event(51).digest}
    assert [entry.total for entry in block.fields] == [900, 2]


def test_a_field_without_events_has_total_zero() -> None:
    block = made({"comparing": FieldEvidence()})
    assert block.events == ()
    assert block.fields[0].total == 0


def test_the_same_event_given_twice_counts_once() -> None:
    block = made({"comparing": FieldEvidence([event(1), event(1)])})
    assert block.fields[0].total == 1


@pytest.mark.parametrize(("max_events", "named"), [(0, 0), (1, 1), (64, 64)])
def test_the_bound_on_events_is_kept(max_events: int, named: int) -> None:
    block = made(
        {"comparing": FieldEvidence([event(number) for number in range(100)])}, max_events=max_events
    )
    assert len(block.events) == named
    assert block.fields[0].total == 100
    assert decode(encode(block)) == block


@pytest.mark.parametrize("max_events", [-1, 65])
def test_a_bound_beyond_the_format_is_refused(max_events: int) -> None:
    with pytest.raises(LineageError, match=rf"max_events={max_events} must lie in \[0, 64\]"):
        made({}, max_events=max_events)


def test_an_unknown_field_is_refused() -> None:
    with pytest.raises(LineageError, match="field='colour' must be a field of trigger 'sofa-advice'"):
        made({"colour": FieldEvidence()})


def test_a_total_below_the_events_given_is_refused() -> None:
    with pytest.raises(LineageError, match=r"total=1 must be at least the 2 events given"):
        made({"comparing": FieldEvidence([event(1), event(2)], total=1)})


@given(
    st.dictionaries(
        st.sampled_from(["comparing", "materials", "budget"]),
        st.lists(st.integers(0, 30), max_size=20).map(
            lambda numbers: FieldEvidence([event(n) for n in numbers])
        ),
    ),
    st.integers(0, 12),
)
def test_what_is_built_can_always_be_encoded(fields: dict[str, FieldEvidence], max_events: int) -> None:
    block = made(fields, max_events=max_events)
    assert decode(encode(block)) == block
    assert len(block.events) <= max_events
    for name, evidence in fields.items():
        given_digests = {entry.digest for entry in evidence.events}
        assert listed(block, name) <= given_digests
        if len({e.digest for f in fields.values() for e in f.events}) <= max_events:
            assert listed(block, name) == given_digests


def test_consents_stand_as_given() -> None:
    other = replace(CONSENT, record_id="c:other")
    block = make_block(SHAPE, as_of_ms=NOW_MS, consents=[other, CONSENT], fields={})
    assert block.consents == (other, CONSENT)


@given(
    st.dictionaries(
        st.sampled_from(["comparing", "materials", "budget"]),
        st.lists(st.integers(0, 30), unique=True, max_size=8),
    ),
    st.integers(0, 100),
    st.integers(0, 12),
)
def test_block_bytes_are_those_of_the_block(
    fields: dict[str, list[int]], unlisted: int, max_events: int
) -> None:
    seen = {number: event(number, age_ms=number // 3, received=False) for number in range(31)}
    evidence = {
        name: FieldEvidence([seen[number] for number in numbers], total=len(numbers) + unlisted)
        for name, numbers in fields.items()
    }
    written = block_bytes(
        SHAPE,
        as_of_ms=NOW_MS,
        consent=CONSENT,
        fields=sorted(
            (
                SHAPE.index(name),
                [(-one.time_ms, one.digest, one.channel) for one in entry.events],
                entry.total or 0,
            )
            for name, entry in evidence.items()
        ),
        max_events=max_events,
    )
    assert written == encode(made(evidence, max_events=max_events))


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ((1 - NOW_MS, b"d" * 16, -1), "channel=-1 must lie in"),
        ((1 - NOW_MS, b"d" * 16, 65_536), "channel=65536 must lie in"),
        ((-1 - NOW_MS, b"d" * 16, 0), "age of the event=-1 must lie in"),
    ],
)
def test_block_bytes_refuse_numbers_out_of_range(source: tuple[int, bytes, int], message: str) -> None:
    with pytest.raises(LineageError, match=message):
        block_bytes(SHAPE, as_of_ms=NOW_MS, consent=CONSENT, fields=[(0, [source], 1)])
