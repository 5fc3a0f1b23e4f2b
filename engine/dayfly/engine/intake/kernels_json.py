"""One pass over a JSON object: strict validation and a tape of its members.

The scanner accepts a subset of what orjson accepts: an escaped key, a number with an exponent or of more than 24
characters, an escaped surrogate, and whatever is not JSON at all make it give up, and the general path then decides.

Oracle: json (scan)
"""

from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from dayfly.engine.intake.kernels_memory import first_bit, load8, load64, stops_of, u64
from dayfly.privacy._jit import inlined_kernel, lean_kernel

__all__ = [
    "ARRAY",
    "ESCAPED",
    "FALSE",
    "KEY",
    "KEY_LENGTH",
    "KIND",
    "NULL_KIND",
    "NUMBER",
    "OBJECT",
    "PARENT",
    "ROOT",
    "STRING",
    "TAPE_WORDS",
    "TRUE",
    "VALUE",
    "VALUE_END",
    "scan",
]

Bytes: TypeAlias = npt.NDArray[np.uint8]
Ints: TypeAlias = npt.NDArray[np.int64]
Words: TypeAlias = npt.NDArray[np.uint64]

# Columns of the tape: one row per member of an object that is not inside an array.
KEY, KEY_LENGTH, PARENT, VALUE, VALUE_END, KIND = 0, 1, 2, 3, 4, 5
TAPE_WORDS = 6

# Kinds of values; ESCAPED is a string with a backslash in it.
STRING, ESCAPED, NUMBER, TRUE, FALSE, NULL_KIND, OBJECT, ARRAY = 1, 2, 3, 4, 5, 6, 7, 8

ROOT = -1  # parent of the outermost members
UNRECORDED = -2  # container whose members are checked and counted, but not put on the tape

MAX_NUMBER_CHARACTERS = 24

QUOTE, COMMA, COLON, BACKSLASH = 34, 44, 58, 92
OPEN_BRACE, CLOSE_BRACE, OPEN_BRACKET, CLOSE_BRACKET = 123, 125, 91, 93


@lean_kernel
def _is_hex(byte: int) -> bool:
    return 48 <= byte <= 57 or 65 <= byte <= 70 or 97 <= byte <= 102


@lean_kernel
def _escape_end(data: Bytes, at: int) -> int:
    """End of the escape whose backslash is at `at`, -1 when it is malformed or half of a pair of surrogates."""
    byte = load8(data, at + 1)
    if byte in (34, 92, 47, 98, 102, 110, 114, 116):
        return at + 2
    if byte != 117:
        return -1
    for i in range(2, 6):
        if not _is_hex(load8(data, at + i)):
            return -1
    # U+D800 to U+DFFF start with d8 to df
    if load8(data, at + 2) | 32 == 100 and not 48 <= load8(data, at + 3) <= 55:
        return -1
    return at + 6


@lean_kernel
def _utf8_end(data: Bytes, at: int) -> int:
    """End of the run of multi-byte characters at `at`, -1 when one of them is malformed (Unicode 15, table 3-7)."""
    lead = load8(data, at)
    while lead >= 128:
        second = load8(data, at + 1)
        low, high = 128, 191
        if lead < 194 or lead > 244:
            return -1
        if lead == 224:
            low = 160
        elif lead == 237:
            high = 159
        elif lead == 240:
            low = 144
        elif lead == 244:
            high = 143
        if second < low or second > high:
            return -1
        if lead >= 224 and load8(data, at + 2) & 192 != 128:
            return -1
        if lead >= 240 and load8(data, at + 3) & 192 != 128:
            return -1
        at += 2 + (lead >= 224) + (lead >= 240)
        lead = load8(data, at)
    return at


@inlined_kernel
def _string_end(data: Bytes, at: int, end: int, stops: Words, origin: int) -> tuple[int, int]:
    """Closing quote of the string whose first character is at `at`, and whether it has escapes; (-1, 0) when it has no end.

    What may end a run has been marked for the whole object beforehand, so a string of any length up to the next mark
    costs a shift and a count of zeros, with no loop whose number of turns the processor would have to guess.
    """
    escaped = 0
    while at < end:
        place = at - origin
        marks = u64(stops[place >> 6]) >> u64(place & 63)
        if marks == 0:
            at += 64 - (place & 63)
            continue
        at += first_bit(marks)
        byte = load8(data, at)
        if byte == QUOTE:
            return at, escaped
        if byte == BACKSLASH:
            escaped = 1
            at = _escape_end(data, at)
        else:
            at = _utf8_end(data, at) if byte >= 128 else -1
        if at < 0:
            break
    return -1, 0


@inlined_kernel
def _number_end(data: Bytes, start: int) -> int:
    """End of the plain decimal number at `start`, -1 for every other form."""
    at = start
    if load8(data, at) == 45:
        at += 1
    first = load8(data, at)
    if first < 48 or first > 57:
        return -1
    at += 1
    while first != 48 and 48 <= load8(data, at) <= 57:
        at += 1
    if load8(data, at) == 46:
        at += 1
        fraction = at
        while 48 <= load8(data, at) <= 57:
            at += 1
        if at == fraction:
            return -1
    byte = load8(data, at)
    if byte in (101, 69) or 48 <= byte <= 57 or at - start > MAX_NUMBER_CHARACTERS:
        return -1
    return at


@inlined_kernel
def _scalar(data: Bytes, at: int, end: int, stops: Words, origin: int) -> tuple[int, int]:
    """End and kind of the scalar at `at`; (-1, 0) when it is none that is read here."""
    byte = load8(data, at)
    if byte == QUOTE:
        close, escaped = _string_end(data, at + 1, end, stops, origin)
        return (close + 1, STRING + escaped) if close >= 0 else (-1, 0)
    if byte == 45 or 48 <= byte <= 57:
        return _number_end(data, at), NUMBER
    word = load64(data, at)
    if word & u64(0xFFFFFFFF) == u64(0x65757274):  # true
        return at + 4, TRUE
    if word & u64(0xFFFFFFFFFF) == u64(0x65736C6166):  # false
        return at + 5, FALSE
    if word & u64(0xFFFFFFFF) == u64(0x6C6C756E):  # null
        return at + 4, NULL_KIND
    return -1, 0


@inlined_kernel
def _skip(data: Bytes, at: int) -> int:
    """First byte at or after `at` that is not JSON white space; the padding after the data is none."""
    byte = load8(data, at)
    while byte <= 32 and byte in (32, 10, 13, 9):
        at += 1
        byte = load8(data, at)
    return at


@lean_kernel
def scan(data: Bytes, at: int, end: int, tape: Ints, stack: Ints, stops: Words) -> int:
    """Validate the object in `data[at:end]` and write its members to `tape`.

    A turn of the loop reads one member or element, the commas and closing brackets after it included.

    Args:
        data: Bytes, with at least 72 zero bytes after the last object.
        at: First byte.
        end: One past the last byte.
        tape: int64[max_members, 6], columns as named above; a container comes before its members. Its length limits the
            members over all levels, those inside arrays included.
        stack: int64[max_depth], scratch; its length limits the nesting of containers.
        stops: uint64[(end - at + 63) // 64], scratch.

    Returns:
        Members on the tape, or -1 when this path does not read the object.
    """
    origin = at
    for i in range((end - at + 63) >> 6):
        stops[i] = stops_of(data, at + 64 * i)
    count = 0
    members = 0
    depth = 1
    own = ROOT
    in_array = 0
    at = _skip(data, at)
    if load8(data, at) != OPEN_BRACE or len(stack) < 1:
        return -1
    at = _skip(data, at + 1)
    empty = load8(data, at) == CLOSE_BRACE
    while True:
        if not empty:
            if at >= end:  # not the rest of the batch for every object that is never closed
                return -1
            current = UNRECORDED
            if not in_array:
                members += 1
                if load8(data, at) != QUOTE or members > len(tape):
                    return -1
                close, escaped = _string_end(data, at + 1, end, stops, origin)
                if close < 0 or escaped:
                    return -1
                if own != UNRECORDED:
                    current = count
                    tape[count, KEY] = at + 1
                    tape[count, KEY_LENGTH] = close - at - 1
                    tape[count, PARENT] = own
                    count += 1
                at = _skip(data, close + 1)
                if load8(data, at) != COLON:
                    return -1
                at = _skip(data, at + 1)
            byte = load8(data, at)
            if current >= 0:
                tape[current, VALUE] = at
            if byte in (OPEN_BRACE, OPEN_BRACKET):
                if depth >= len(stack):
                    return -1
                stack[depth] = own << 1 | in_array
                depth += 1
                in_array = 1 if byte == OPEN_BRACKET else 0
                own = current
                if current >= 0:
                    tape[current, KIND] = ARRAY if in_array else OBJECT
                at = _skip(data, at + 1)
                empty = load8(data, at) == (CLOSE_BRACKET if in_array else CLOSE_BRACE)
                continue
            stop, kind = _scalar(data, at, end, stops, origin)
            if stop < 0:
                return -1
            if current >= 0:
                tape[current, VALUE_END] = stop
                tape[current, KIND] = kind
            at = _skip(data, stop)
        empty = False
        while load8(data, at) != COMMA:
            if load8(data, at) != (CLOSE_BRACKET if in_array else CLOSE_BRACE):
                return -1
            at += 1
            if own >= 0:
                tape[own, VALUE_END] = at
            depth -= 1
            if depth == 0:
                # What follows in the buffer is another object's, so that everything read must lie before `end`.
                return count if at <= end and _skip(data, at) >= end else -1
            own = stack[depth] >> 1
            in_array = stack[depth] & 1
            at = _skip(data, at)
        at = _skip(data, at + 1)
