"""The store: what a fragment's fields rest on, found by id, erased by subject, bounded, and without any value."""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from dayfly.engine.errors import LineageError
from dayfly.engine.lineage import (
    ExplainedEvent,
    FileRecords,
    LineageBlock,
    LineageStore,
    MemoryRecords,
    SourceEvent,
    encode,
)

from .support import CONSENT, KEY, NOW_MS, SHAPE, SUBJECT, event, order, sofa_block

OTHER = bytes(range(16, 32))
Opener = Callable[[], LineageStore]


@pytest.fixture(params=["memory", "file"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[LineageStore]:
    if request.param == "memory":
        made = LineageStore.in_memory(subject_key=KEY)
    else:
        made = LineageStore.open(tmp_path / "lineage", subject_key=KEY)
    made.declare([SHAPE])
    yield made
    made.close()


def test_a_field_is_explained_whole(store: LineageStore) -> None:
    store.put("jti-1", order())
    found = store.explain("jti-1", "comparing")
    assert (found.jti, found.order_id, found.field) == ("jti-1", "order-1", "comparing")
    assert (found.audience, found.purpose, found.topic) == ("crm-cn-1", "service.advice", "furniture.sofas")
    assert found.trigger == SHAPE.rules[0]
    assert found.trigger_event == event(1).digest
    assert found.rules == (SHAPE.rules[1],)
    assert found.total_events == 5
    assert found.events == tuple(
        ExplainedEvent(source.digest, channel, source.time_ms, source.received_ms)
        for source, channel in ((event(1), "app"), (event(2), "web"), (event(3), "app"))
    )
    assert (found.masking, found.data_category) == ("keep", "behaviour.product_view")
    assert found.columns == SHAPE.fields[0].columns
    assert found.consents == (CONSENT,)
    assert (found.as_of_ms, found.issued_at_ms, found.expires_at_ms) == (NOW_MS, NOW_MS, NOW_MS + 1_800_000)


def test_all_fields_are_explained_in_the_triggers_order(store: LineageStore) -> None:
    store.put("jti-1", order())
    assert [found.field for found in store.explain_all("jti-1")] == ["comparing", "materials", "budget"]
    assert store.explain_all("jti-1")[2] == store.explain("jti-1", "budget")


def test_a_field_that_the_fragment_left_out_is_told_apart_from_an_unknown_one(store: LineageStore) -> None:
    store.put("jti-1", order(block=sofa_block(fields=["comparing"])))
    assert [found.field for found in store.explain_all("jti-1")] == ["comparing"]
    with pytest.raises(LineageError, match="field='budget' must be in fragment 'jti-1', which left it out"):
        store.explain("jti-1", "budget")
    with pytest.raises(LineageError, match="field='colour' must be a field of trigger"):
        store.explain("jti-1", "colour")


def test_a_fragment_is_found_by_its_order(store: LineageStore) -> None:
    store.put("jti-1", order())
    assert store.jti_of("order-1") == "jti-1"
    with pytest.raises(LineageError, match="order_id='order-2' must have a fragment"):
        store.jti_of("order-2")


def test_an_unknown_fragment_is_refused(store: LineageStore) -> None:
    with pytest.raises(
        LineageError, match="jti='jti-9' must be among the newest 1000000 fragments and not erased"
    ):
        store.explain_all("jti-9")


def test_putting_the_same_again_changes_nothing(store: LineageStore) -> None:
    store.put("jti-1", order())
    store.put("jti-1", order())
    assert len(store) == 1


@pytest.mark.parametrize(
    ("jti", "number", "audience"),
    [("jti-1", 1, "crm-eu-1"), ("jti-2", 1, "crm-cn-1"), ("jti-1", 2, "crm-cn-1")],
    ids=["other content", "other fragment", "other order"],
)
def test_lineage_is_never_replaced(store: LineageStore, jti: str, number: int, audience: str) -> None:
    store.put("jti-1", order())
    with pytest.raises(LineageError, match=f"jti='{jti}' or its order must not have lineage already"):
        store.put(jti, order(number, audience=audience))
    assert store.explain("jti-1", "comparing").audience == "crm-cn-1"
    assert len(store) == 1


def test_a_block_that_leaves_a_field_unexplained_is_refused(store: LineageStore) -> None:
    partial = encode(sofa_block(fields=["comparing", "materials"]))
    with pytest.raises(LineageError, match="must cover exactly its fields; differs in: budget"):
        store.put("jti-1", order(lineage=partial))
    assert len(store) == 0


def test_a_block_with_other_consents_is_refused(store: LineageStore) -> None:
    other = encode(sofa_block(consents=(replace(CONSENT, version=4),)))
    with pytest.raises(LineageError, match="must name exactly its consents; differs in: c:7Q2mZk1b"):
        store.put("jti-1", order(lineage=other))


def test_a_block_that_points_outside_its_shape_is_refused(store: LineageStore) -> None:
    block = sofa_block()
    far = SourceEvent(event(1).digest, 3, event(1).time_ms)
    for changed in (
        replace(block, events=(far,), fields=()),
        replace(block, fields=(replace(block.fields[0], field=3),)),
    ):
        with pytest.raises(LineageError, match="must index fields and channels of its shape"):
            store.put("jti-1", order(lineage=encode(changed)))


def test_a_block_of_an_undeclared_shape_is_refused() -> None:
    bare = LineageStore.in_memory(subject_key=KEY)
    with pytest.raises(LineageError, match=f"shape={SHAPE.digest.hex()} must be declared"):
        bare.put("jti-1", order())


def test_bytes_that_are_no_block_are_refused(store: LineageStore) -> None:
    with pytest.raises(LineageError, match="block version=0 must be 1"):
        store.put("jti-1", order(lineage=bytes(200)))


def test_the_block_kept_is_the_one_whose_hash_the_fragment_carries(store: LineageStore) -> None:
    made = order()
    store.put("jti-1", made)
    kept = encode(store.fragment("jti-1").block)
    assert hashlib.sha256(kept).digest() == hashlib.sha256(made.lineage).digest()


def test_everything_is_there_after_reopening(tmp_path: Path) -> None:
    store = LineageStore.open(tmp_path / "lineage", subject_key=KEY)
    store.declare([SHAPE])
    store.put("jti-1", order())
    before = store.explain_all("jti-1")
    store.close()
    again = LineageStore.open(tmp_path / "lineage", subject_key=KEY)
    assert again.explain_all("jti-1") == before
    assert again.jti_of("order-1") == "jti-1"
    assert again.erase(SUBJECT) == 1
    again.close()


def test_a_shape_declared_twice_is_kept_once(tmp_path: Path) -> None:
    store = LineageStore.open(tmp_path / "lineage", subject_key=KEY)
    store.declare([SHAPE, SHAPE])
    size = (tmp_path / "lineage").stat().st_size
    store.declare([SHAPE])
    store.close()
    assert (tmp_path / "lineage").stat().st_size == size


def test_neither_values_nor_subjects_are_in_the_file(tmp_path: Path) -> None:
    store = LineageStore.open(tmp_path / "lineage", subject_key=KEY)
    store.declare([SHAPE])
    store.put("jti-1", order())
    store.close()
    content = (tmp_path / "lineage").read_bytes()
    assert b"jti-1" in content  # the scan can find what is there
    assert b"SECRET VALUE" not in content
    assert SUBJECT not in content


def test_erasing_a_subject_leaves_nothing_of_its_fragments(tmp_path: Path) -> None:
    store = LineageStore.open(tmp_path / "lineage", subject_key=KEY)
    store.declare([SHAPE])
    for number in (1, 2):
        store.put(f"mine-{number}", order(number))
    store.put("theirs", order(3, subject=OTHER))
    assert store.erase(SUBJECT) == 2
    assert store.erase(SUBJECT) == 0
    with pytest.raises(LineageError, match="jti='mine-1' must be among"):
        store.explain_all("mine-1")
    with pytest.raises(LineageError, match="order_id='order-1'"):
        store.jti_of("order-1")
    assert store.explain("theirs", "comparing").jti == "theirs"
    content = (tmp_path / "lineage").read_bytes()
    store.close()
    assert b"mine-" not in content
    assert b"theirs" in content


def test_erasing_with_another_key_finds_nobody(tmp_path: Path) -> None:
    store = LineageStore.open(tmp_path / "lineage", subject_key=KEY)
    store.declare([SHAPE])
    store.put("jti-1", order())
    store.close()
    other = LineageStore.open(tmp_path / "lineage", subject_key=b"another-test-key")
    assert other.erase(SUBJECT) == 0
    other.close()


def test_merged_people_are_erased_together_also_after_reopening(tmp_path: Path) -> None:
    store = LineageStore.open(tmp_path / "lineage", subject_key=KEY)
    store.declare([SHAPE])
    store.put("jti-1", order(1, subject=OTHER))
    store.merge(SUBJECT, OTHER)
    store.merge(SUBJECT, OTHER)
    store.put("jti-2", order(2, subject=OTHER))
    store.put("jti-3", order(3))
    store.close()
    again = LineageStore.open(tmp_path / "lineage", subject_key=KEY)
    assert again.erase(OTHER) == 3
    assert len(again) == 0
    # Whoever comes later under one of the pseudonyms is nobody's merge any more.
    again.put("jti-4", order(4, subject=OTHER))
    assert again.erase(SUBJECT) == 0
    again.close()


def test_chains_of_merges_end_at_one_person(store: LineageStore) -> None:
    third = bytes(range(32, 48))
    store.put("jti-1", order(1, subject=third))
    store.merge(OTHER, third)
    store.merge(SUBJECT, OTHER)
    store.merge(third, SUBJECT)  # says nothing new
    assert store.erase(third) == 1


def test_the_oldest_fragments_make_room(tmp_path: Path) -> None:
    store = LineageStore.open(tmp_path / "lineage", subject_key=KEY, max_fragments=2)
    store.declare([SHAPE])
    for number in (1, 2, 3):
        store.put(f"fragment-{number}", order(number))
    assert len(store) == 2
    with pytest.raises(LineageError, match="jti='fragment-1' must be among the newest 2 fragments"):
        store.explain_all("fragment-1")
    assert store.explain("fragment-2", "budget").jti == "fragment-2"
    assert store.erase(SUBJECT) == 2
    store.close()
    assert b"fragment-" not in (tmp_path / "lineage").read_bytes()


def test_reopening_with_a_smaller_bound_keeps_the_newest(tmp_path: Path) -> None:
    store = LineageStore.open(tmp_path / "lineage", subject_key=KEY)
    store.declare([SHAPE])
    for number in (1, 2, 3):
        store.put(f"jti-{number}", order(number))
    store.close()
    again = LineageStore.open(tmp_path / "lineage", subject_key=KEY, max_fragments=1)
    assert again.explain("jti-3", "budget").jti == "jti-3"
    assert len(again) == 1
    again.close()


@pytest.mark.parametrize("length", [0, 15, 65])
def test_a_subject_key_of_the_wrong_length_is_refused(length: int) -> None:
    with pytest.raises(LineageError, match=rf"subject_key of {length} bytes must have 16 to 64"):
        LineageStore.in_memory(subject_key=bytes(length))


@pytest.mark.parametrize("length", [16, 64])
def test_a_subject_key_at_its_bounds_is_accepted(length: int) -> None:
    assert len(LineageStore.in_memory(subject_key=bytes(length))) == 0


def test_a_bound_of_no_fragments_is_refused() -> None:
    with pytest.raises(LineageError, match="max_fragments=0 must be > 0"):
        LineageStore.in_memory(subject_key=KEY, max_fragments=0)


@pytest.mark.parametrize(
    ("kind", "payload", "message"),
    [
        (9, b"", "record kind=9 at 0 must be known"),
        (3, b"short", "record kind=3 at 0 must be known"),
        (2, b"\xc1", "fragment record at 0 must be readable"),
        (1, b"{}", "must be the content of a LineageShape"),
    ],
)
def test_records_that_no_store_wrote_are_refused(kind: int, payload: bytes, message: str) -> None:
    records = MemoryRecords()
    records.append(kind, payload)
    with pytest.raises(LineageError, match=message):
        LineageStore(records, subject_key=KEY)


class StoreAgainstDictionary(RuleBasedStateMachine):
    """Any sequence of puts, merges, erasures and reopenings against a dictionary of fragments and a list of person sets."""

    def __init__(self) -> None:
        super().__init__()
        self.records = MemoryRecords()
        self.store = LineageStore(self.records, subject_key=KEY)
        self.store.declare([SHAPE])
        self.fragments: dict[int, int] = {}
        self.people: list[set[int]] = [{person} for person in range(5)]

    def person(self, number: int) -> set[int]:
        return next(group for group in self.people if number in group)

    @rule(number=st.integers(0, 30), person=st.integers(0, 4))
    def put(self, number: int, person: int) -> None:
        if number not in self.fragments:
            self.store.put(f"j{number}", order(number, subject=bytes([person]) * 16))
            self.fragments[number] = person

    @rule(one=st.integers(0, 4), two=st.integers(0, 4))
    def merge(self, one: int, two: int) -> None:
        self.store.merge(bytes([one]) * 16, bytes([two]) * 16)
        first, second = self.person(one), self.person(two)
        if first is not second:
            self.people.remove(second)
            first |= second

    @rule(person=st.integers(0, 4))
    def erase(self, person: int) -> None:
        group = self.person(person)
        gone = [number for number, owner in self.fragments.items() if owner in group]
        assert self.store.erase(bytes([person]) * 16) == len(gone)
        for number in gone:
            del self.fragments[number]
        self.people.remove(group)
        self.people += [{member} for member in group]

    @rule()
    def reopen(self) -> None:
        self.store = LineageStore(self.records, subject_key=KEY)

    @invariant()
    def the_same_fragments_are_kept(self) -> None:
        assert len(self.store) == len(self.fragments)
        for number in self.fragments:
            assert self.store.jti_of(f"order-{number}") == f"j{number}"


StoreAgainstDictionary.TestCase.settings = settings(max_examples=30, stateful_step_count=25)
TestStoreAgainstDictionary = StoreAgainstDictionary.TestCase


def test_a_store_over_a_file_and_one_in_memory_answer_alike(tmp_path: Path) -> None:
    stores = [
        LineageStore(records, subject_key=KEY)
        for records in (MemoryRecords(), FileRecords(tmp_path / "lineage"))
    ]
    for store in stores:
        store.declare([SHAPE])
        store.put("jti-1", order())
    assert stores[0].explain_all("jti-1") == stores[1].explain_all("jti-1")
    for store in stores:
        store.close()


def test_an_empty_fragment_explains_nothing(store: LineageStore) -> None:
    empty = LineageBlock(SHAPE.digest, NOW_MS, (CONSENT,), (), ())
    store.put("jti-1", order(block=empty))
    assert store.explain_all("jti-1") == ()
