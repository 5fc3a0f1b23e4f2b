"""One pass over a JSON object: strict validation and a tape of its members.

The scanner accepts a subset of what orjson accepts: an escaped key, a number with an exponent or of more than 24
characters, an escaped surrogate, and whatever is not JSON at all make it give up, and the general path then decides.

Oracle: json (scan), decimal through catalog.to_micro (micro_of), datetime (milliseconds_of)
"""

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from dayfly.engine.intake.kernels_memory import first_byte, load8, load64, u64
from dayfly.privacy._jit import kernel

__all__ = [
    "ARRAY",
    "ESCAPED",
    "FALSE",
    "KEY",
    "KEY_LENGTH",
    "KIND",
    "NOT_HERE",
    "NULL_KIND",
    "NUMBER",
    "OBJECT",
    "PARENT",
    "ROOT",
    "STRING",
    "TRUE",
    "VALUE",
    "VALUE_END",
    "micro_of",
    "milliseconds_of",
    "scan",
    "unescape",
]

Bytes: TypeAlias = npt.NDArray[np.uint8]
Ints: TypeAlias = npt.NDArray[np.int64]
Word: TypeAlias = Any

# Columns of the tape: one row per member of an object that is not inside an array.
KEY, KEY_LENGTH, PARENT, VALUE, VALUE_END, KIND = 0, 1, 2, 3, 4, 5

# Kinds of values; ESCAPED is a string with a backslash in it.
STRING, ESCAPED, NUMBER, TRUE, FALSE, NULL_KIND, OBJECT, ARRAY = 1, 2, 3, 4, 5, 6, 7, 8

ROOT = -1  # parent of the outermost members
UNRECORDED = -2  # container whose members are checked and counted, but not put on the tape

NOT_HERE = -(2**63)
"""Result of a conversion that this path leaves to the general one; also the value of an absent cell."""

MAX_NUMBER_CHARACTERS = 24
MAX_EXACT_DIGITS = 15  # every decimal of so many digits survives a double and its shortest text
MAX_MICRO = 10**15

ONES, QUOTES, BACKSLASHES, SPACES, HIGHS = (
    u64(byte * 0x0101010101010101) for byte in (0x01, 0x22, 0x5C, 0x20, 0x80)
)
POWERS = np.array([10**i for i in range(16)], np.int64)
# Days before each month of a common year.
MONTH_DAYS = np.array([0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334, 365], np.int64)

# States of the scanner.
FIRST_KEY, NEXT_KEY, ONE_VALUE, FIRST_VALUE, AFTER_VALUE = 0, 1, 2, 3, 4


@kernel
def _is_hex(byte: int) -> bool:
    return 48 <= byte <= 57 or 65 <= byte <= 70 or 97 <= byte <= 102


@kernel
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


@kernel
def _utf8_end(data: Bytes, at: int) -> int:
    """End of the multi-byte character at `at`, -1 when it is not one (Unicode 15, table 3-7)."""
    lead = load8(data, at)
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
    if lead < 224:
        return at + 2
    if load8(data, at + 2) & 192 != 128:
        return -1
    if lead < 240:
        return at + 3
    return at + 4 if load8(data, at + 3) & 192 == 128 else -1


@kernel
def scan_string(data: Bytes, at: int, end: int) -> tuple[int, int]:
    """Closing quote of the string whose first character is at `at`, and whether it has escapes; (-1, 0) when it has no end.

    Eight bytes at a time: a byte stops the run when it is a quote, a backslash, a control character or not ASCII. The
    lowest stop is exact, since a subtraction borrows only from above a true one.
    """
    escaped = 0
    while at < end:
        word = load64(data, at)
        quote = word ^ QUOTES
        backslash = word ^ BACKSLASHES
        stops = (
            ((word - SPACES) & ~word) | ((quote - ONES) & ~quote) | ((backslash - ONES) & ~backslash) | word
        ) & HIGHS
        if stops == 0:
            at += 8
            continue
        at += first_byte(stops)
        if at >= end:
            return -1, 0
        byte = load8(data, at)
        if byte == 34:
            return at, escaped
        if byte == 92:
            escaped = 1
            at = _escape_end(data, at)
        elif byte < 32:
            return -1, 0
        else:
            at = _utf8_end(data, at)
        if at < 0:
            return -1, 0
    return -1, 0


@kernel
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


@kernel
def _scalar(data: Bytes, at: int, end: int) -> tuple[int, int]:
    """End and kind of the scalar at `at`; (-1, 0) when it is none that is read here."""
    byte = load8(data, at)
    if byte == 34:
        close, escaped = scan_string(data, at + 1, end)
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


@kernel
def _skip(data: Bytes, at: int) -> int:
    """First byte at or after `at` that is not JSON white space; the padding after the data is none."""
    byte = load8(data, at)
    while byte in (32, 10, 13, 9):
        at += 1
        byte = load8(data, at)
    return at


@kernel
def scan(data: Bytes, at: int, end: int, tape: Ints, stack: Ints, limits: Ints) -> int:
    """Validate the object in `data[at:end]` and write its members to `tape`.

    Args:
        data: Bytes, with at least 16 zero bytes after the last object.
        at: First byte.
        end: One past the last byte.
        tape: int64[capacity, 6], columns as named above; a container comes before its members.
        stack: int64[max_depth + 2], scratch.
        limits: Most nested containers, most members over all levels.

    Returns:
        Members on the tape, or -1 when this path does not read the object.
    """
    count = 0
    members = 0
    depth = 1
    own = ROOT
    in_array = 0
    current = UNRECORDED
    state = FIRST_KEY
    at = _skip(data, at)
    if load8(data, at) != 123 or limits[0] < 1:
        return -1
    at += 1
    while True:
        at = _skip(data, at)
        if at >= end:
            return -1
        byte = load8(data, at)
        closes = byte == (93 if in_array else 125)
        if closes and state not in (NEXT_KEY, ONE_VALUE):
            at += 1
            if own >= 0:
                tape[own, VALUE_END] = at
            depth -= 1
            if depth == 0:
                break
            own = stack[depth] >> 1
            in_array = stack[depth] & 1
            state = AFTER_VALUE
            continue
        if state == AFTER_VALUE:
            if byte != 44:
                return -1
            at += 1
            current = UNRECORDED
            state = ONE_VALUE if in_array else NEXT_KEY
            continue
        if state <= NEXT_KEY:
            members += 1
            if byte != 34 or members > limits[1] or count >= len(tape):
                return -1
            close, escaped = scan_string(data, at + 1, end)
            if close < 0 or escaped:
                return -1
            current = UNRECORDED
            if own != UNRECORDED:
                current = count
                tape[count, KEY] = at + 1
                tape[count, KEY_LENGTH] = close - at - 1
                tape[count, PARENT] = own
                count += 1
            at = _skip(data, close + 1)
            if load8(data, at) != 58:
                return -1
            at += 1
            state = ONE_VALUE
            continue
        if byte in (123, 91):
            if depth >= limits[0]:
                return -1
            stack[depth] = own << 1 | in_array
            depth += 1
            in_array = 1 if byte == 91 else 0
            own = current
            if current >= 0:
                tape[current, VALUE] = at
                tape[current, KIND] = ARRAY if in_array else OBJECT
            current = UNRECORDED
            at += 1
            state = FIRST_VALUE if in_array else FIRST_KEY
            continue
        stop, kind = _scalar(data, at, end)
        if stop < 0 or stop > end:
            return -1
        if current >= 0:
            tape[current, VALUE] = at
            tape[current, VALUE_END] = stop
            tape[current, KIND] = kind
        at = stop
        state = AFTER_VALUE
    return count if _skip(data, at) >= end else -1


@kernel
def _hex(byte: int) -> Any:
    """Value of a hexadecimal digit."""
    return byte - 48 if byte <= 57 else (byte | 32) - 87


@kernel
def unescape(data: Bytes, start: int, end: int, out: Bytes, at: int) -> Any:
    """Write the string `data[start:end]`, whose escapes the scanner has checked, to `out` from `at` on.

    Returns:
        One past the last byte written; never more than the escaped string has.
    """
    while start < end:
        byte = load8(data, start)
        if byte != 92:
            out[at] = byte
            at += 1
            start += 1
            continue
        byte = load8(data, start + 1)
        if byte != 117:
            if byte == 98:
                byte = 8
            elif byte == 102:
                byte = 12
            elif byte == 110:
                byte = 10
            elif byte == 114:
                byte = 13
            elif byte == 116:
                byte = 9
            out[at] = byte
            at += 1
            start += 2
            continue
        code = 0
        for i in range(2, 6):
            code = code * 16 + _hex(load8(data, start + i))
        start += 6
        if code < 0x80:
            out[at] = code
            at += 1
        elif code < 0x800:
            out[at] = 0xC0 | code >> 6
            out[at + 1] = 0x80 | code & 0x3F
            at += 2
        else:
            out[at] = 0xE0 | code >> 12
            out[at + 1] = 0x80 | code >> 6 & 0x3F
            out[at + 2] = 0x80 | code & 0x3F
            at += 3
    return at


@kernel
def micro_of(data: Bytes, start: int, end: int) -> Any:
    """Millionths of a number of the scanner's form, as `catalog.to_micro` gives them; `NOT_HERE` beyond 15 digits or the limit."""
    at = start
    negative = load8(data, at) == 45
    if negative:
        at += 1
    mantissa = 0
    digits = 0
    decimals = -1
    while at < end:
        byte = load8(data, at)
        if byte == 46:
            decimals = 0
        else:
            mantissa = mantissa * 10 + (byte - 48)
            digits += 1
            if decimals >= 0:
                decimals += 1
            if digits > MAX_EXACT_DIGITS:
                return NOT_HERE
        at += 1
    decimals = max(decimals, 0)
    if decimals <= 6:
        factor = POWERS[6 - decimals]
        if mantissa > MAX_MICRO // factor:
            return NOT_HERE
        micro = mantissa * factor
    else:
        divisor = POWERS[decimals - 6]
        micro = mantissa // divisor
        twice_rest = (mantissa - micro * divisor) * 2
        if twice_rest > divisor or (twice_rest == divisor and micro & 1):
            micro += 1
    return -micro if negative else micro


@kernel
def _digits(data: Bytes, at: int, count: int) -> Any:
    """Value of `count` digits at `at`; far below zero when one is none."""
    value = 0
    for i in range(count):
        byte = load8(data, at + i)
        if byte < 48 or byte > 57:
            return -1_000_000
        value = value * 10 + (byte - 48)
    return value


@kernel
def milliseconds_of(data: Bytes, start: int, end: int) -> Any:
    """Milliseconds UTC of ``YYYY-MM-DDTHH:MM:SS[.d{1,9}]Z``; `NOT_HERE` for every other form, which RFC 3339 may still allow."""
    length = end - start
    if length < 20 or length > 30 or length == 21:
        return NOT_HERE
    if load8(data, start + 4) != 45 or load8(data, start + 7) != 45 or load8(data, start + 10) != 84:
        return NOT_HERE
    if load8(data, start + 13) != 58 or load8(data, start + 16) != 58 or load8(data, end - 1) != 90:
        return NOT_HERE
    year, month, day = _digits(data, start, 4), _digits(data, start + 5, 2), _digits(data, start + 8, 2)
    hour, minute, second = (
        _digits(data, start + 11, 2),
        _digits(data, start + 14, 2),
        _digits(data, start + 17, 2),
    )
    if year < 1 or month < 1 or month > 12 or day < 1 or hour > 23 or minute > 59 or second > 59:
        return NOT_HERE
    if hour < 0 or minute < 0 or second < 0:
        return NOT_HERE
    leap = 1 if year % 4 == 0 and (year % 100 != 0 or year % 400 == 0) else 0
    if day > MONTH_DAYS[month] - MONTH_DAYS[month - 1] + (leap if month == 2 else 0):
        return NOT_HERE
    fraction = 0
    if length > 20:
        if load8(data, start + 19) != 46:
            return NOT_HERE
        decimals = length - 21
        fraction = _digits(data, start + 20, decimals)
        if fraction < 0:
            return NOT_HERE
        fraction = fraction * POWERS[3 - decimals] if decimals <= 3 else fraction // POWERS[decimals - 3]
    before = year - 1
    days = before * 365 + before // 4 - before // 100 + before // 400 - 719_162
    days += MONTH_DAYS[month - 1] + (leap if month > 2 else 0) + day - 1
    return ((days * 24 + hour) * 60 + minute) * 60_000 + second * 1_000 + fraction
