"""Interned strings: each distinct text of a field gets an id, and the answers of the field's text tests with it.

A predicate such as ``query.contains("sofa")`` is then one bit test per event; the search itself runs once per distinct
text. Containment, prefix and suffix by UTF-8 bytes equal the same by code points, because UTF-8 is self-synchronising.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from dayfly.privacy._jit import inlined_kernel, lean_kernel

__all__ = ["Strings", "TextTests", "answer_all", "answer_tests", "index_strings", "intern_rows"]

Words = npt.NDArray[np.int64]
Bytes = npt.NDArray[np.uint8]

_NULL = -9223372036854775808
_LENGTH_BITS = 20
_LENGTH_MASK = (1 << 20) - 1

TEXT_EQUAL, TEXT_CONTAINS, TEXT_PREFIX, TEXT_SUFFIX = 0, 1, 2, 3


class Strings(NamedTuple):
    """The intern table.

    Attributes:
        slots: int32[capacity], string id + 1 by open addressing (0: free).
        hashes: uint64[strings].
        where: int64[strings, 3]: field, start in `text`, length.
        text: uint8[n].
        bits: uint64[strings, words], answers of the field's tests.
        meta: int64[3]: strings in use, bytes in use, seed of the hash.
    """

    slots: npt.NDArray[np.int32]
    hashes: npt.NDArray[np.uint64]
    where: Words
    text: Bytes
    bits: npt.NDArray[np.uint64]
    meta: Words


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
def _hash(text: Bytes, start: int, length: int, seed: int) -> int:
    """Keyed FNV-1a with a final mix; equal hashes are always confirmed by comparing bytes."""
    x = np.uint64(0xCBF29CE484222325) ^ np.uint64(seed)
    for at in range(start, start + length):
        x = (x ^ np.uint64(text[at])) * np.uint64(0x100000001B3)
    x = (x ^ (x >> np.uint64(32))) * np.uint64(0xD6E8FEB86659FD93)
    return x ^ (x >> np.uint64(32))


@inlined_kernel
def _same(left: Bytes, left_start: int, right: Bytes, right_start: int, length: int) -> bool:
    for at in range(length):
        if left[left_start + at] != right[right_start + at]:
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
def _intern(strings: Strings, tests: TextTests, field: int, source: Bytes, packed: int) -> int:
    start, length = packed >> _LENGTH_BITS, packed & _LENGTH_MASK
    hashed = _hash(source, start, length, np.int64(field) * 0x9E3779B1 + strings.meta[2])
    mask = len(strings.slots) - 1
    slot = np.int64(hashed & np.uint64(mask))
    while True:
        string = np.int64(strings.slots[slot]) - 1
        if string < 0:
            break
        if (
            strings.hashes[string] == hashed
            and strings.where[string, 0] == field
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
    strings.slots[slot] = string + 1
    strings.meta[0] = string + 1
    strings.meta[1] = offset + length
    answer_tests(strings, tests, string)
    return string


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
    for event in range(len(types)):
        kind = types[event]
        if kind < 0:
            continue
        first, width = tests.fields[kind, 0], tests.fields[kind, 1]
        for slot in range(width):
            if tests.is_text[first + slot] != 0:
                at = offsets[event] + slot
                if values[at] != _NULL:
                    values[at] = _intern(strings, tests, first + slot, source, values[at])


@lean_kernel
def index_strings(hashes: npt.NDArray[np.uint64], count: int, slots: npt.NDArray[np.int32]) -> None:
    """Fill the empty open-addressing index `slots` with the first `count` strings, in order of their ids."""
    mask = np.uint64(len(slots) - 1)
    for string in range(count):
        slot = np.int64(hashes[string] & mask)
        while slots[slot] != 0:
            slot = (slot + 1) & (len(slots) - 1)
        slots[slot] = string + 1
