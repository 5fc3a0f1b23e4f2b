"""A snapshot is what the shard was at one instant, whoever writes it down and when, and all of it comes back."""

import random
import threading
from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from dayfly.engine.errors import SnapshotError
from dayfly.engine.inputs import Erase, Input, Merge, Tick
from dayfly.engine.shard import kernels_layout
from dayfly.engine.shard.consent_states import ConsentStates
from dayfly.engine.shard.kernels_people import VALUE
from dayfly.engine.shard.kernels_snapshot import group_rows, live_ids, sort_groups
from dayfly.engine.shard.shard import Shard
from dayfly.engine.shard.snapshot_columns import Column, narrowed, widened
from dayfly.engine.shard.snapshot_format import Head, Sheet, framed, unframed
from dayfly.engine.shard.state import empty_ids
from dayfly.privacy.consent import PersonConsents
from dayfly.privacy.errors import InvalidConsent
from tests.engine.workload import as_batches
from tests.oracles.images import columns_of, kept_events, members_of, told_events

from .house import ANN, BEN, CAT, DAY, MINUTE, START, House, event, grant, policy
from .test_cuts import life

NULL = -(2**63)


def parts_of_life(seed: int, edits: int, cut: int) -> list[tuple[list[Input], int]]:
    return list(as_batches(life(seed, edits=edits)[1], random.Random(cut)))


def before_and_after(seed: int, edits: int, cut: int) -> tuple[Shard, list[tuple[list[Input], int]]]:
    """A shard somewhere in a life, and the rest of the life."""
    parts = parts_of_life(seed, edits, cut)
    shard = Shard(life(seed, edits=edits)[0], expected_people=0)
    middle = random.Random(cut).randrange(len(parts))
    for part, now_ms in parts[:middle]:
        shard.apply(part, now_ms)
    return shard, parts[middle:]


# --- an image -------------------------------------------------------------------------------------------------------------


@settings(max_examples=15)
@given(seed=st.integers(1, 3), edits=st.sampled_from((0, 2)), cut=st.integers(0, 2**32))
def test_an_image_is_the_snapshot_of_its_instant_whatever_the_shard_does_before_it_is_written(
    seed: int, edits: int, cut: int
) -> None:
    shard, rest = before_and_after(seed, edits, cut)
    then = shard.snapshot()
    write = shard.image()
    for part, now_ms in rest:
        shard.apply(part, now_ms)
    assert b"".join(write()) == then


def test_an_image_can_be_written_while_the_shard_goes_on() -> None:
    shard, rest = before_and_after(2, 2, 7)
    then, written = shard.snapshot(), list[bytes]()
    for part, now_ms in rest:
        write = shard.image()
        then = shard.snapshot()
        thread = threading.Thread(target=lambda write=write: written.append(b"".join(write())))
        thread.start()
        shard.apply(part, now_ms)
        thread.join()
        assert written.pop() == then


@pytest.mark.parametrize(
    "change",
    [Erase(START + MINUTE, ANN), Merge(START + MINUTE, BEN, ANN), Merge(START + MINUTE, ANN, CAT)],
)
def test_erasing_and_merging_leave_an_image_as_it_was(change: Input) -> None:
    house = House.of(policy())
    house.tell(
        grant(),
        event("order", 1, status="paid", order_id="o-1"),
        event("view", 2, subject=BEN, material="oak"),
    )
    then, write = house.shard.snapshot(), house.shard.image()
    house.tell(change)
    assert b"".join(write()) == then
    assert house.shard.snapshot() != then


def test_rows_are_copied_only_while_somebody_reads_them_where_they_are() -> None:
    arrays = House.of(policy()).shard.arrays
    names = ("history", "names")

    def kept(before: Any) -> list[bool]:
        return [getattr(before, name) is getattr(arrays.core, name) for name in names]

    before = arrays.core
    arrays.own()
    assert kept(before) == [True, True]
    loan = arrays.lend()
    assert arrays.lend() is loan
    arrays.own()
    assert kept(before) == [False, False]
    before = arrays.core
    arrays.own()
    assert kept(before) == [True, True]
    loan = arrays.lend()
    del loan
    arrays.own()
    assert kept(before) == [True, True]


def test_an_erased_person_is_overwritten_in_place_when_nobody_reads() -> None:
    house = House.of(policy())
    house.tell(event("view", 1, material="oak"))
    history = house.shard.arrays.core.history
    house.tell(Erase(START + MINUTE, ANN))
    assert house.shard.arrays.core.history is history


# --- what is written ------------------------------------------------------------------------------------------------------


@settings(max_examples=15)
@given(seed=st.integers(1, 3), edits=st.sampled_from((0, 2)), cut=st.integers(0, 2**32))
def test_a_snapshot_tells_the_events_and_memberships_of_the_shard(seed: int, edits: int, cut: int) -> None:
    shard, _ = before_and_after(seed, edits, cut)
    saved = shard.snapshot()
    assert told_events(saved, shard) == kept_events(shard)
    found = columns_of(saved)
    names = ("person", "tag", "held", "since", "timer", "until", "sequence")
    assert list(zip(*(found[f"member.{name}"] for name in names), strict=True)) == members_of(shard)


def test_an_event_is_written_until_it_is_as_old_as_the_history_goes() -> None:
    house = House.of(policy())
    house.tell(event("view", 1, material="oak"))
    for at, count in ((2 * DAY, 1), (2 * DAY + 1, 0)):
        house.tell(Tick(START + at))
        assert len(told_events(house.shard.snapshot(), house.shard)) == count


@settings(max_examples=15)
@given(seed=st.integers(1, 3), edits=st.sampled_from((0, 2)), cut=st.integers(0, 2**32))
def test_a_restored_shard_has_the_rows_of_the_first(seed: int, edits: int, cut: int) -> None:
    shard, _ = before_and_after(seed, edits, cut)
    again = Shard.restore(shard.snapshot(), shard.policy, expected_people=0)
    assert kept_events(again) == kept_events(shard)
    assert members_of(again) == members_of(shard)
    assert again.arrays.live_timers().tolist() == shard.arrays.live_timers().tolist()
    people = int(shard.arrays.core.control[kernels_layout.PEOPLE])
    masks = again.arrays.core.masks[:people].copy()
    assert masks.tolist() == shard.arrays.core.masks[:people].tolist()
    for person in again.consents.states:
        again.consents.refresh(person)
    assert again.arrays.core.masks[:people].tolist() == masks.tolist()


# --- columns --------------------------------------------------------------------------------------------------------------


def widths(values: Sequence[int], hole: int | None) -> tuple[int, list[int]]:
    column, data = narrowed(np.array(values, np.int64), hole=hole)
    assert column.size == data.nbytes
    back = np.empty(len(values), np.int64)
    read = msgspec.msgpack.decode(msgspec.msgpack.encode(column), type=Column)
    widened(read, memoryview(data.tobytes()), back)
    return column.width, back.tolist()


INT64 = st.integers(-(2**63), 2**63 - 1)


@given(
    st.lists(INT64 | st.integers(-3, 3) | st.just(NULL)),
    st.sampled_from((None, NULL, 2**63 - 1, 0, -(2**63) + 1)),
)
@example([NULL, NULL + 1, NULL + 2], NULL)
@example([NULL, NULL + 1], 0)
@example([NULL, 0, NULL + 2], 0)
def test_a_column_comes_back_as_it_was(values: list[int], hole: int | None) -> None:
    assert widths(values, hole)[1] == values


@pytest.mark.parametrize("base", [0, -(2**63), 2**63 - 2**33, 1_767_225_600_000])
@pytest.mark.parametrize(("span", "width"), [(0, 0), (1, 1), (255, 1), (256, 2), (65_535, 2), (65_536, 4), (2**32 - 1, 4), (2**32, 8)])  # fmt: skip
def test_a_column_takes_the_bytes_that_its_range_needs(base: int, span: int, width: int) -> None:
    assert widths([base, base + span], None) == (width, [base, base + span])


@pytest.mark.parametrize(("span", "width"), [(0, 1), (254, 1), (255, 2), (65_534, 2), (65_535, 4), (2**32 - 2, 4), (2**32 - 1, 8)])  # fmt: skip
def test_a_hole_takes_one_number_of_the_range(span: int, width: int) -> None:
    assert widths([5, NULL, 5 + span], NULL) == (width, [5, NULL, 5 + span])


# --- the form -------------------------------------------------------------------------------------------------------------


def empty_head(**changes: Any) -> Head:
    head = Head(1, b"", (), 0, 0, {}, {}, {})
    return msgspec.structs.replace(head, **changes)


@given(st.lists(st.binary(max_size=40), max_size=5), st.integers(0, 3))
def test_parts_come_back_from_any_pieces(parts: list[bytes], cut: int) -> None:
    sheet = Sheet()
    for number, part in enumerate(parts):
        sheet.pieces(f"part-{number}", [part[:cut], memoryview(part)[cut:]])
    page = unframed(b"".join(framed(empty_head(parts=sheet.parts), sheet)))
    assert [bytes(page.part(f"part-{number}")) for number in range(len(parts))] == parts


@pytest.mark.parametrize("size", [2**20 - 60, 2**20 - 40, 2**20, 2**20 + 1, 3 * 2**20])
def test_the_checksum_is_over_every_mebibyte(size: int) -> None:
    sheet = Sheet()
    sheet.pieces("part", [bytes(size)])
    data = b"".join(framed(empty_head(parts=sheet.parts), sheet))
    assert columns_of(data)["part"] == bytes(size)
    for at in (2**20 - 1, 2**20, len(data) - 33):
        if at < len(data):
            with pytest.raises(SnapshotError, match=r"must match its checksum; it is damaged"):
                unframed(data[:at] + bytes([data[at] ^ 128]) + data[at + 1 :])


def test_what_is_missing_or_too_much_in_a_sound_snapshot_is_named() -> None:
    sheet = Sheet()
    sheet.pieces("part", [b"12345678"])
    page = unframed(b"".join(framed(empty_head(parts=sheet.parts), sheet)))
    with pytest.raises(
        SnapshotError, match=r"must follow the format: column 'part' is missing; use an older one"
    ):
        page.column("part")
    with pytest.raises(
        SnapshotError, match=r"must follow the format: part 'other' is missing; use an older one"
    ):
        page.part("other")
    for parts in ({}, {"part": 9}):
        with pytest.raises(
            SnapshotError, match=r"must follow the format: buffers of \d+ bytes end elsewhere"
        ):
            unframed(b"".join(framed(empty_head(parts=parts), sheet)))


@pytest.mark.parametrize("column", [Column(-1, 1, 0), Column(1, 3, 0), Column(1, 1, 2**63)])  # type: ignore[arg-type]
def test_a_column_of_no_known_form_is_refused(column: Column) -> None:
    data = b"".join(framed(empty_head(columns={"column": column}), Sheet()))
    with pytest.raises(SnapshotError, match=r"must follow the format: .*; use an older one"):
        unframed(data)


# --- kernels --------------------------------------------------------------------------------------------------------------


@given(st.lists(st.tuples(st.integers(-1, 4), st.integers(-1, 1) | INT64, st.integers(-2, 2)), max_size=40))
def test_rows_are_grouped_in_order_and_sorted_within_a_group(rows: list[tuple[int, int, int]]) -> None:
    table = np.array(rows, np.int64).reshape(-1, 3)
    groups = np.ascontiguousarray(table[:, 0])
    starts, order = np.zeros(6, np.int64), np.empty(len(rows), np.int64)
    group_rows(groups, starts, order)
    ordered = np.argsort(groups, kind="stable")[np.count_nonzero(groups < 0) :]
    assert order[: starts[-1]].tolist() == ordered.tolist()
    assert starts.tolist() == [int(np.count_nonzero((groups >= 0) & (groups < group))) for group in range(6)]
    keys = np.ascontiguousarray(table[:, 1:])
    sort_groups(keys, starts, order)
    found = [(int(groups[row]), *keys[row].tolist()) for row in order[: starts[-1]]]
    assert found == sorted(row for row in rows if row[0] >= 0)


@given(
    st.dictionaries(st.tuples(st.integers(0, 2**64 - 1), st.integers(0, 3)), st.integers(-5, 5), max_size=20),
    st.integers(-6, 6),
)
def test_live_ids_are_those_above_the_least(naive: dict[tuple[int, int], int], least: int) -> None:
    naive.pop((0, 0), None)
    ids = empty_ids(64)
    for row, ((low, high), value) in enumerate(naive.items()):
        ids.keys[3 * row, :2], ids.values[3 * row, VALUE] = (low, high), value
    rows = np.empty((len(naive), 3), np.int64)
    found = rows[: live_ids(ids.keys, least, rows)]
    told = {(low % 2**64, high): value for low, high, value in found.tolist()}
    assert told == {key: value for key, value in naive.items() if value > least}


# --- consents -------------------------------------------------------------------------------------------------------------


def test_consents_are_decoded_when_asked_for_and_keep_their_bytes() -> None:
    record = grant().record
    state = PersonConsents(record.principal).with_record(record)
    states = ConsentStates()
    states[7], states[3] = state, PersonConsents(BEN.hex())
    assert list(states) == [3, 7]
    assert states.encoded() == {3: PersonConsents(BEN.hex()).to_bytes(), 7: state.to_bytes()}
    again = ConsentStates()
    again.restore(states.encoded())
    assert (len(again), again.get(7), again.get(8)) == (2, state, None)
    assert again[7] is again[7]
    assert again.pop(7) == state
    assert list(again) == list(again.encoded()) == [3]
    assert again.pop(7, None) is None
    assert len(states) == 2


def test_consents_that_are_nothing_of_the_kind_are_no_yes() -> None:
    states = ConsentStates()
    states.restore({1: b"{}"})
    with pytest.raises(InvalidConsent, match="must be a stored person"):
        states[1]


def test_reading_a_snapshot_decodes_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    house = House.of(policy())
    house.tell(grant(), grant(BEN))
    saved = house.shard.snapshot()

    def refuse(_: bytes) -> PersonConsents:
        raise AssertionError

    monkeypatch.setattr(PersonConsents, "from_bytes", refuse)
    again = Shard.restore(saved, house.shard.policy)
    assert again.snapshot() == saved
    with pytest.raises(AssertionError):
        again.consents_of(ANN)


def test_a_shard_restored_without_events_has_as_much_room_for_windows_as_a_new_one() -> None:
    fresh = Shard(policy(), expected_people=5_000)
    again = Shard.restore(fresh.snapshot(), fresh.policy, expected_people=5_000)
    assert len(again.arrays.core.world.lines.table) >= len(fresh.arrays.core.world.lines.table)
