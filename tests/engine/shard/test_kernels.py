"""The shard's tables against naive ones: windows and lists, ids and a dictionary, texts and Python's own, timers and heapq."""

import heapq
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from dayfly.engine.shard import kernels_lines as lines
from dayfly.engine.shard.kernels_core import pop, push
from dayfly.engine.shard.kernels_layout import HEAP
from dayfly.engine.shard.kernels_people import VALUE, Ids, find_id, put_id, put_ids, rehash_ids, remove_id
from dayfly.engine.shard.kernels_strings import Strings, TextTests, index_strings, intern_rows
from tests.oracles.lines import DISTINCT, MAXIMA, MINIMA, NOTHING, PAIRS, STAMPS, UNCHANGED, NaiveLine
from tests.oracles.strings import NaiveStrings

ALL = (STAMPS, PAIRS, DISTINCT, MINIMA, MAXIMA)


# --- windows -------------------------------------------------------------------------------------------------------------


def empty_lines(rows: int = 64, words: int = 1 << 16) -> lines.Lines:
    table = np.zeros((rows, 8), np.int64)
    free = np.full(64, -1, np.int64)
    return lines.Lines(table, table.reshape(-1), np.zeros(words, np.int64), free, np.zeros(4, np.int64))


def row_of(kept: lines.Lines, key: int) -> int:
    return int(lines.find_line(kept.table, kept.meta, key, True))  # noqa: FBT003 - a kernel's scalar


def entries_of(kept: lines.Lines, row: int, kind: int) -> list[tuple[int, int]]:
    array, offset, stride, count = lines.view(kept, row, kind)
    starts = range(offset, offset + count * stride, stride)
    return [(int(array[at]), int(array[at + 1]) if kind != STAMPS else 0) for at in starts]


def count_after(kept: lines.Lines, row: int, kind: int, lower: int) -> int:
    """Number of entries with time > `lower`."""
    array, offset, stride, count = lines.view(kept, row, kind)
    return count - int(lines.first_after(array, offset, stride, count, lower))


def sum_after(kept: lines.Lines, row: int, lower: int) -> int:
    """Sum of a window by one subtraction where there are running sums, as the kernels of measures do it."""
    array, offset, stride, count = lines.view(kept, row, PAIRS)
    first = int(lines.first_after(array, offset, stride, count, lower))
    if stride == 2 or first == count:
        return sum(int(array[offset + index * stride + 1]) for index in range(first, count))
    before = int(array[offset + first * 3 + 2] - array[offset + first * 3 + 1])
    return int(array[offset + (count - 1) * 3 + 2]) - before


def outcome(returned: int) -> int | str | None:
    return {lines.NOTHING: NOTHING, lines.UNCHANGED: UNCHANGED}.get(int(returned), int(returned))


@st.composite
def arrivals(draw: st.DrawFn, most: int = 60) -> list[tuple[int, int]]:
    """(time, value) in order of arrival: mostly rising, with ties, and some of them late."""
    steps = draw(
        st.lists(st.tuples(st.integers(0, 3), st.integers(-4, 4), st.integers(0, 12)), max_size=most)
    )
    found, now = [], 100
    for step, value, late in steps:
        now += step
        found.append((now - late if late > 8 else now, value))
    return found


@given(
    kind=st.sampled_from(ALL),
    cap=st.sampled_from((0, 0, 1, 2, 3, 6, 7, 20)),
    span=st.sampled_from((5, 30, 1_000)),
    events=arrivals(),
    other=arrivals(),
)
@example(kind=MINIMA, cap=0, span=30, events=[(100, 1), (110, 0), (105, 0)], other=[])
@example(kind=MAXIMA, cap=0, span=30, events=[(100, 1), (110, 2), (105, 2), (105, 3)], other=[])
@example(kind=MINIMA, cap=0, span=30, events=[(100, 1), (100, 1), (105, 1)], other=[])
def test_a_line_is_a_sorted_list(
    kind: int, cap: int, span: int, events: list[tuple[int, int]], other: list[tuple[int, int]]
) -> None:
    """Two lines side by side, so that one that takes another's memory is found out."""
    cap = cap if kind in (STAMPS, DISTINCT) else 0
    kept = empty_lines()
    pair = [(row_of(kept, 5), NaiveLine(kind, cap)), (row_of(kept, 21), NaiveLine(kind, cap))]
    newest = 0
    turns = [
        (place, which, event)
        for which, life in enumerate((events, other))
        for place, event in enumerate(life)
    ]
    for _, which, (time, drawn) in sorted(turns):
        row, naive = pair[which]
        newest = max(newest, time)
        value = 0 if kind == STAMPS else drawn
        if time <= newest - span:
            continue
        made = lines.insert(kept, row, kind, cap, newest - span, (time, value))
        assert outcome(made) == naive.insert(time, value, newest - span)
        assert entries_of(kept, row, kind) == naive.entries
    for row, naive in pair:
        assert entries_of(kept, row, kind) == naive.entries
        for lower in range(newest - 40, newest + 2):
            assert count_after(kept, row, kind, lower) == len(naive.after(lower))
            if kind == PAIRS:
                assert sum_after(kept, row, lower) == sum(value for _, value in naive.after(lower))


@pytest.mark.parametrize("kind", ALL)
@pytest.mark.parametrize("span", [50, 700, 10**6])
def test_a_long_line_grows_trims_and_moves_and_stays_a_sorted_list(kind: int, span: int) -> None:
    rng = np.random.default_rng(kind * 7 + span)
    kept = empty_lines()
    row, naive = row_of(kept, 1), NaiveLine(kind)
    now = 1_000
    for step in range(1_200):
        now += int(rng.integers(0, 3))
        late = int(rng.integers(0, span)) // 2 if rng.random() < 0.1 else 0
        value = (
            0 if kind == STAMPS else int(rng.integers(-(10**6), 10**6)) + (step if kind == MINIMA else -step)
        )
        made = lines.insert(kept, row, kind, 0, now - span, (now - late, value))
        assert outcome(made) == naive.insert(now - late, value, now - span)
        if step % 50 == 0 or step > 1_190:
            assert entries_of(kept, row, kind) == naive.entries
            lower = now - int(rng.integers(0, span))
            assert count_after(kept, row, kind, lower) == len(naive.after(lower))
            if kind == PAIRS:
                assert sum_after(kept, row, lower) == sum(entry[1] for entry in naive.after(lower))
    if span == 50:  # a window that slides is moved to the front of its memory, not into more of it
        assert int(kept.meta[1]) <= 1_024


@given(events=arrivals(), kind=st.sampled_from(ALL))
def test_a_cleared_line_leaves_nothing_and_its_memory_is_used_again(
    events: list[tuple[int, int]], kind: int
) -> None:
    kept = empty_lines()
    row, other = row_of(kept, 3), row_of(kept, 4)
    for line in (row, other):
        for number, (time, value) in enumerate(events):
            lines.insert(kept, line, kind, 0, 0, (time, 0 if kind == STAMPS else value * 64 + number))
    before = entries_of(kept, other, kind)
    used = int(kept.meta[1])
    lines.clear_line(kept, row)
    assert entries_of(kept, row, kind) == []
    assert kept.table[row, 1:].tolist() == [0] * 7
    assert entries_of(kept, other, kind) == before
    for time, value in events:
        lines.insert(kept, row, kind, 0, 0, (time, 0 if kind == STAMPS else value))
    assert int(kept.meta[1]) <= used
    for line in (row, other):
        lines.clear_line(kept, line)
    links = set(range(-1, int(kept.meta[1])))
    assert all(word in links for word in kept.arena[kept.arena != 0].tolist())
    assert np.count_nonzero(kept.arena) <= 2 * 12


@given(
    keys=st.lists(st.integers(0, 2**40), unique=True, max_size=63), capacity=st.sampled_from((64, 100, 200))
)
@example(keys=list(range(191)), capacity=200)  # all rows of its three pages but one
@example(keys=[9 << 16 | tag for tag in range(63)], capacity=64)
def test_lines_are_found_by_their_key_also_in_a_larger_table(keys: list[int], capacity: int) -> None:
    kept = empty_lines(rows=capacity)
    rows = {key: row_of(kept, key) for key in keys}
    assert len(set(rows.values())) == len(keys) == int(kept.meta[0])
    for key, row in rows.items():
        assert row_of(kept, key) == row
        kept.table[row, 2] = key % 1_000
    assert int(lines.find_line(kept.table, kept.meta, 2**41, False)) == -1  # noqa: FBT003 - a kernel's scalar
    larger = np.zeros((capacity + 100, 8), np.int64)
    lines.rehash(kept.table, larger)
    for key in keys:
        row = int(lines.find_line(larger, kept.meta, key, False))  # noqa: FBT003 - a kernel's scalar
        assert larger[row, [0, 2]].tolist() == [key + 1, key % 1_000]


@given(customer=st.integers(0, 2**40), feature=st.integers(0, 2**16 - 1))
def test_a_key_holds_customer_and_feature(customer: int, feature: int) -> None:
    assert int(lines.line_key(customer, feature)) == customer * 65_536 + feature


# --- ids -----------------------------------------------------------------------------------------------------------------


def empty_ids(capacity: int) -> Ids:
    rows = np.zeros((capacity, 4), np.int64)
    return Ids(rows.view(np.uint64), rows, np.zeros(1, np.int64))


def word(number: int) -> Any:  # a kernel's scalar
    return np.uint64(number)


ID = st.tuples(st.integers(0, 3) | st.integers(0, 2**64 - 1), st.integers(1, 3) | st.integers(1, 2**64 - 1))


def value_of(ids: Ids, key: tuple[int, int]) -> int | None:
    row = int(find_id(ids, word(key[0]), word(key[1])))
    return int(ids.values[row, VALUE]) if row >= 0 else None


@given(
    pool=st.lists(ID, min_size=12, max_size=16, unique=True),
    steps=st.lists(
        st.tuples(st.sampled_from(("put", "put", "remove")), st.integers(0, 15), st.integers(-5, 2**62)),
        min_size=20,
        max_size=80,
    ),
)
def test_a_table_of_ids_is_a_dictionary(
    pool: list[tuple[int, int]], steps: list[tuple[str, int, int]]
) -> None:
    """Sixteen rows for up to thirteen ids: long chains that run over the end."""
    ids, naive = empty_ids(16), dict[tuple[int, int], int]()
    for what, place, value in steps:
        key = pool[place % len(pool)]
        if what == "put" and (len(naive) < 13 or key in naive):
            put_id(ids, word(key[0]), word(key[1]), value)
            naive[key] = value
        elif what == "remove":
            remove_id(ids, word(key[0]), word(key[1]))
            assert naive.pop(key, None) is None or value_of(ids, key) is None
        assert int(ids.meta[0]) == len(naive)
        assert {key: value_of(ids, key) for key in naive} == naive
        used = ids.keys[(ids.keys[:, 0] != 0) | (ids.keys[:, 1] != 0), :2]
        assert {(int(low), int(high)) for low, high in used} == set(naive)
        assert value_of(ids, (99, 99)) is None


@given(st.dictionaries(ID, st.integers(-5, 5), max_size=13), st.integers(-6, 6))
def test_a_larger_table_takes_the_ids_that_still_count(naive: dict[tuple[int, int], int], least: int) -> None:
    ids, target = empty_ids(16), empty_ids(64)
    rows = [(*key, value % 2**64) for key, value in naive.items()]
    put_ids(ids, np.array(rows, np.uint64).reshape(-1, 3))
    assert {key: value_of(ids, key) for key in naive} == naive
    rehash_ids(ids, target, least)
    kept = {key: value for key, value in naive.items() if value >= least}
    assert {key: value_of(target, key) for key in naive} == {key: kept.get(key) for key in naive}
    assert int(target.meta[0]) == len(kept)


# --- texts ---------------------------------------------------------------------------------------------------------------

TESTS = (
    (("contains", "沙发"), ("equal", ""), ("prefix", "a"), ("suffix", "é"), ("contains", "")),
    (),
    tuple(("equal", chr(97 + number % 3) * (number // 3)) for number in range(70)),
)
"""Tests of three text fields; the last has more than one word of them."""

KINDS = {"equal": 0, "contains": 1, "prefix": 2, "suffix": 3}
TEXT = (
    st.text("ab沙发é\u0301e𠮷", max_size=6)
    | st.text("ab", min_size=7, max_size=20)
    | st.sampled_from(("", "aaa", "沙发", "é", "e\u0301"))
)


def text_tests() -> TextTests:
    """Type 0 has fields text, number, text; type 1 has one text field."""
    ranges, rows, needles = list[tuple[int, int]](), list[tuple[int, int, int]](), bytearray()
    for tests in (TESTS[0], (), TESTS[1], TESTS[2]):
        start = len(rows)
        for test, text in tests:
            rows.append((KINDS[test], len(needles), len(text.encode())))
            needles += text.encode()
        ranges.append((start, len(rows)))
    return TextTests(
        fields=np.array([(0, 3), (3, 1)], np.int64),
        is_text=np.array([1, 0, 1, 1], np.int64),
        ranges=np.array(ranges, np.int64),
        tests=np.array(rows, np.int64),
        needles=np.frombuffer(bytes(needles), np.uint8).copy(),
    )


def empty_strings(seed: int, capacity: int = 512) -> Strings:
    return Strings(
        np.zeros(capacity, np.uint64),
        np.zeros(256, np.uint64),
        np.zeros((256, 3), np.int64),
        np.zeros(16_384, np.uint8),
        np.zeros((256, 2), np.uint64),
        np.array([0, 0, seed], np.int64),
        np.zeros((16, 3), np.uint64),
    )


def packed_rows(rows: list[tuple[int, str | None, str | None]]) -> tuple[Any, ...]:
    types, offsets, values, buffer = list[int](), list[int](), list[int](), bytearray()

    def pack(text: str | None) -> int:
        if text is None:
            return -(2**63)
        buffer.extend(text.encode())
        return (len(buffer) - len(text.encode())) << 20 | len(text.encode())

    for kind, first, second in rows:
        types.append(kind)
        offsets.append(len(values))
        values += [pack(first), 7_000_000, pack(second)] if kind == 0 else [pack(first)] if kind == 1 else []
    source = np.frombuffer(bytes(buffer), np.uint8)
    return np.array(types, np.int32), np.array(offsets, np.int64), np.array(values, np.int64), source


ROWS = st.lists(st.tuples(st.integers(-1, 1), st.none() | TEXT, st.none() | TEXT), max_size=40)


@given(rows=ROWS, again=ROWS, seed=st.integers(0, 2**46))
@example(rows=[(0, "沙发", "沙发"), (1, "沙发", None), (0, "", None)], again=[(0, None, "")], seed=0)
def test_texts_are_numbered_per_field_and_tested_as_python_does(
    rows: list[tuple[int, str | None, str | None]], again: list[tuple[int, str | None, str | None]], seed: int
) -> None:
    strings, tests, naive = (
        empty_strings(seed),
        text_tests(),
        NaiveStrings((TESTS[0], (), TESTS[1], TESTS[2])),
    )
    for part in (rows, again):
        types, offsets, values, source = packed_rows(part)
        intern_rows(strings, tests, types, offsets, values, source)
        expected = []
        for kind, first, second in part:
            if kind == 0:
                expected += [numbered(naive, 0, first), 7_000_000, numbered(naive, 2, second)]
            elif kind == 1:
                expected.append(numbered(naive, 3, first))
        assert values.tolist() == expected
        slots = np.zeros(1_024, np.uint64)
        index_strings(strings.hashes, int(strings.meta[0]), slots)
        strings = strings._replace(slots=slots)
    assert int(strings.meta[0]) == len(naive.numbers)
    for (position, text), number in naive.numbers.items():
        field, start, length = strings.where[number].tolist()
        assert (field, strings.text[start : start + length].tobytes().decode()) == (position, text)
        bits = [bool(int(strings.bits[number, at >> 6]) >> (at & 63) & 1) for at in range(128)]
        answers = naive.answers(position, text)
        assert bits == [*answers, *[False] * (128 - len(answers))]


def numbered(naive: NaiveStrings, position: int, text: str | None) -> int:
    return -(2**63) if text is None else naive.intern(position, text)


# --- timers --------------------------------------------------------------------------------------------------------------


@given(st.lists(st.none() | st.tuples(st.integers(-3, 9), st.integers(0, 3)), max_size=80))
def test_timers_come_out_by_instant_and_then_by_key(steps: list[tuple[int, int] | None]) -> None:
    heap, control, naive = np.zeros((100, 2), np.int64), np.zeros(32, np.int64), list[tuple[int, int]]()
    for step in steps:
        if step is not None:
            push(heap, control, *step)
            heapq.heappush(naive, step)
        elif naive:
            assert tuple(heap[0].tolist()) == heapq.heappop(naive)
            pop(heap, control)
        assert int(control[HEAP]) == len(naive)
    while naive:
        assert tuple(heap[0].tolist()) == heapq.heappop(naive)
        pop(heap, control)
