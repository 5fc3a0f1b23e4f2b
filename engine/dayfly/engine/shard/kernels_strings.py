"""Interned strings: each distinct text of a field gets an id, and the answers of the field's text tests with it.

A predicate such as ``query.contains("sofa")`` is then one bit test per event; the search itself runs once per distinct
text. Containment, prefix and suffix by UTF-8 bytes equal the same by code points, because UTF-8 is self-synchronising.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from dayfly.engine.shard.kernels_prefetch import load_word, prefetch_row
from dayfly.privacy._jit import inlined_kernel, lean_kernel

__all__ = [
    "Strings",
    "TextTests",
    "answer_all",
    "answer_tests",
    "index_strings",
    "intern_rows",
    "intern_texts",
]

Words = npt.NDArray[np.int64]
Bytes = npt.NDArray[np.uint8]

_NULL = -9223372036854775808
_LENGTH_BITS = 20
_LENGTH_MASK = (1 << 20) - 1

_FAR, _NEAR, _CLOSE = (
    9,
    6,
    3,
)  # events between asking the cache for the slots, rows and bytes of texts and needing them
_RING = 15  # rows of `Strings.ahead` less one: more than `_FAR`

TEXT_EQUAL, TEXT_CONTAINS, TEXT_PREFIX, TEXT_SUFFIX = 0, 1, 2, 3


class Strings(NamedTuple):
    """The intern table.

    Attributes:
        slots: uint64[capacity], by open addressing: upper half of the hash, string id + 1 (0: free).
        hashes: uint64[strings].
        where: int64[strings, 3]: field, start in `text`, length.
        text: uint8[n].
        bits: uint64[strings, words], answers of the field's tests.
        meta: int64[3]: strings in use, bytes in use, seed of the hash.
        ahead: uint64[16, fields of the widest type], hashes of the texts of the events close ahead.
    """

    slots: npt.NDArray[np.uint64]
    hashes: npt.NDArray[np.uint64]
    where: Words
    text: Bytes
    bits: npt.NDArray[np.uint64]
    meta: Words
    ahead: npt.NDArray[np.uint64]


class TextTests(NamedTuple):
    """Text tests of all fields.

    Attributes:
        fields: int64[types, 2], first field number and number of fields of each event type.
        is_text: int64[fields].
        ranges: int64[fields, 2], range of each field in `tests`; bit numbers count from the range's start.
        tests: int64[n, 3]: test, start in `needles`, length.
        needles: uint8[n].
    """

    fields: Words
    is_text: Words
    ranges: Words
    tests: Words
    needles: Bytes


@inlined_kernel
def _eight(text: Bytes, at: int, length: int) -> int:
    """The first eight bytes of a text as one little-endian number, zeros behind its end."""
    if length >= 8:
        return load_word(text, at)
    if at + 8 <= len(text):
        return load_word(text, at) & ((np.uint64(1) << np.uint64(8 * length)) - np.uint64(1))
    word = np.uint64(0)
    for place in range(length):
        word |= np.uint64(text[at + place]) << np.uint64(8 * place)
    return word


@inlined_kernel
def _hash(text: Bytes, start: int, length: int, seed: int) -> int:
    """Keyed hash, eight bytes at a time; equal hashes are always confirmed by comparing bytes."""
    x = np.uint64(0xCBF29CE484222325) ^ np.uint64(seed) ^ (np.uint64(length) << np.uint64(48))
    for at in range(0, length, 8):
        x = (x ^ _eight(text, start + at, length - at)) * np.uint64(0x9E3779B97F4A7C15)
        x ^= x >> np.uint64(29)
    x *= np.uint64(0xD6E8FEB86659FD93)
    return x ^ (x >> np.uint64(32))


@inlined_kernel
def _same(left: Bytes, left_start: int, right: Bytes, right_start: int, length: int) -> bool:
    for at in range(0, length, 8):
        if _eight(left, left_start + at, length - at) != _eight(right, right_start + at, length - at):
            return False
    return True


@inlined_kernel
def _passes(text: Bytes, span: tuple[int, int], tests: TextTests, test: int) -> bool:
    start, length = span
    kind, needle, size = tests.tests[test, 0], tests.tests[test, 1], tests.tests[test, 2]
    if size > length or (kind == TEXT_EQUAL and size != length):
        return False
    if kind == TEXT_SUFFIX:
        return _same(text, start + length - size, tests.needles, needle, size)
    if kind != TEXT_CONTAINS:
        return _same(text, start, tests.needles, needle, size)
    for shift in range(length - size + 1):
        if _same(text, start + shift, tests.needles, needle, size):
            return True
    return False


@lean_kernel
def answer_tests(strings: Strings, tests: TextTests, string: int) -> None:
    """Fill `strings.bits[string]` with the answers of its field's tests."""
    field, start, length = strings.where[string, 0], strings.where[string, 1], strings.where[string, 2]
    for word in range(strings.bits.shape[1]):
        strings.bits[string, word] = 0
    first = tests.ranges[field, 0]
    for test in range(first, tests.ranges[field, 1]):
        if _passes(strings.text, (start, length), tests, test):
            bit = test - first
            strings.bits[string, bit >> 6] |= np.uint64(1) << np.uint64(bit & 63)


@lean_kernel
def answer_all(strings: Strings, tests: TextTests) -> None:
    """Answer the tests of all strings anew; a string that was forgotten belongs to no field."""
    for string in range(strings.meta[0]):
        if strings.where[string, 0] >= 0:
            answer_tests(strings, tests, string)


@inlined_kernel
def _foresee(
    strings: Strings, tests: TextTests, event: int, row: tuple[Words, int, int], source: Bytes
) -> None:
    """Hash the texts of an event that comes soon, and bring the slots where they should be into the cache."""
    values, offset, kind = row
    if kind < 0:
        return
    first, mask = tests.fields[kind, 0], np.uint64(len(strings.slots) - 1)
    for slot in range(tests.fields[kind, 1]):
        packed = values[offset + slot]
        if tests.is_text[first + slot] != 0 and packed != _NULL:
            seed = (first + slot) * 0x9E3779B1 + strings.meta[2]
            hashed = _hash(source, packed >> _LENGTH_BITS, packed & _LENGTH_MASK, seed)
            strings.ahead[event & _RING, slot] = hashed
            prefetch_row(strings.slots, np.int64(hashed & mask))


@inlined_kernel
def _await_text(strings: Strings, tests: TextTests, event: int, kind: int, close: bool) -> None:  # noqa: FBT001 - kernels take positional scalars
    """Bring the rows (or, when `close`, the bytes and answers) that the slots of an event's texts point at into the cache."""
    if kind < 0:
        return
    first, mask = tests.fields[kind, 0], np.uint64(len(strings.slots) - 1)
    for slot in range(tests.fields[kind, 1]):
        if tests.is_text[first + slot] != 0:  # a guess: an absent value has the hash of an earlier event
            entry = strings.slots[np.int64(strings.ahead[event & _RING, slot] & mask)]
            string = np.int64(entry & np.uint64(0xFFFFFFFF)) - 1
            if string >= 0 and close:
                prefetch_row(strings.text, strings.where[string, 1])
                prefetch_row(strings.bits, string)
            elif string >= 0:
                prefetch_row(strings.where, string)


@inlined_kernel
def _intern(strings: Strings, tests: TextTests, field: int, text: tuple[Bytes, int], hashed: int) -> int:
    """Number of a text, given as (source, packed slice), new if need be."""
    source, packed = text
    start, length = packed >> _LENGTH_BITS, packed & _LENGTH_MASK
    mask = len(strings.slots) - 1
    slot = np.int64(hashed & np.uint64(mask))
    while strings.slots[slot] != 0:
        entry = strings.slots[slot]
        if entry >> np.uint64(32) == hashed >> np.uint64(32):  # else no other table needs to be read
            string = np.int64(entry & np.uint64(0xFFFFFFFF)) - 1
            if (
                strings.where[string, 0] == field
                and strings.where[string, 2] == length
                and _same(strings.text, strings.where[string, 1], source, start, length)
            ):
                return string
        slot = (slot + 1) & mask
    string = strings.meta[0]
    offset = strings.meta[1]
    for at in range(length):
        strings.text[offset + at] = source[start + at]
    strings.hashes[string] = hashed
    strings.where[string, 0], strings.where[string, 1], strings.where[string, 2] = field, offset, length
    strings.slots[slot] = _entry(hashed, string)
    strings.meta[0] = string + 1
    strings.meta[1] = offset + length
    answer_tests(strings, tests, string)
    return string


@inlined_kernel
def _entry(hashed: int, string: int) -> int:
    """Content of a slot: upper half of the hash, number of the string + 1."""
    return (np.uint64(hashed) & np.uint64(0xFFFFFFFF00000000)) | np.uint64(string + 1)


@lean_kernel
def intern_rows(
    strings: Strings,
    tests: TextTests,
    types: npt.NDArray[np.int32],
    offsets: Words,
    values: Words,
    source: Bytes,
) -> None:
    """Replace the packed strings in the rows of a batch by string ids, in place. The caller has made room.

    Oracle: tests.oracles.strings.NaiveStrings
    """
    count = len(types)
    for event in range(-_FAR, count):
        far, near, close = event + _FAR, event + _NEAR, event + _CLOSE
        if far < count:
            _foresee(strings, tests, far, (values, offsets[far], types[far]), source)
        if near >= 0 and near < count:
            _await_text(strings, tests, near, types[near], False)
        if close >= 0 and close < count:
            _await_text(strings, tests, close, types[close], True)
        kind = types[event] if event >= 0 else np.int32(-1)
        if kind < 0:
            continue
        first, width = tests.fields[kind, 0], tests.fields[kind, 1]
        for slot in range(width):
            at = offsets[event] + slot
            if tests.is_text[first + slot] != 0 and values[at] != _NULL:
                hashed = strings.ahead[event & _RING, slot]
                values[at] = _intern(strings, tests, first + slot, (source, values[at]), hashed)


@lean_kernel
def intern_texts(strings: Strings, tests: TextTests, fields: Words, packed: Words, source: Bytes) -> None:
    """Intern texts, given as field and packed slice of `source`, in their order. The caller has made room.

    Oracle: tests.oracles.strings.NaiveStrings
    """
    for text in range(len(fields)):
        seed = fields[text] * 0x9E3779B1 + strings.meta[2]
        hashed = _hash(source, packed[text] >> _LENGTH_BITS, packed[text] & _LENGTH_MASK, seed)
        _intern(strings, tests, fields[text], (source, packed[text]), hashed)


@lean_kernel
def index_strings(hashes: npt.NDArray[np.uint64], count: int, slots: npt.NDArray[np.uint64]) -> None:
    """Fill the empty open-addressing index `slots` with the first `count` strings, in order of their ids.

    Oracle: tests.oracles.strings.NaiveStrings
    """
    mask = np.uint64(len(slots) - 1)
    for string in range(count):
        slot = np.int64(hashes[string] & mask)
        while slots[slot] != 0:
            slot = (slot + 1) & (len(slots) - 1)
        slots[slot] = _entry(hashes[string], string)
