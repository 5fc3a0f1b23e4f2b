"""Values of a JSON document as cells: numbers to millionths, times to milliseconds, escaped strings to their bytes.

Oracle: decimal through catalog.to_micro (micro_of), datetime (milliseconds_of), json (unescape)
"""

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from dayfly.engine.intake.kernels_memory import i64, load8, load64, store64, u64
from dayfly.privacy._jit import inlined_kernel, lean_kernel

__all__ = ["NOT_HERE", "copy_bytes", "micro_of", "milliseconds_of", "unescape"]

Bytes: TypeAlias = npt.NDArray[np.uint8]

NOT_HERE = -(2**63)
"""Result of a conversion that this path leaves to the general one; also the value of an absent cell."""

MAX_EXACT_DIGITS = 15  # every decimal of so many digits survives a double and its shortest text
MAX_MICRO = 10**15

POWERS = np.array([10**i for i in range(16)], np.int64)
# Patterns of a time, ``YYYY-MM-``, ``DDTHH:MM`` and ``:SS``: a digit's character is 48 and its value, and adding the room
# to a character's difference from the pattern sets its high bit where it is no digit or not the mark between digits.
DATE, DATE_ROOM = u64(0x2D30302D30303030), u64(0x7F76767F76767676)
CLOCK, CLOCK_ROOM = u64(0x30303A3030543030), u64(0x76767F76767F7676)
SECOND, SECOND_ROOM, SECOND_BYTES = u64(0x30303A), u64(0x76767F), u64(0xFFFFFF)
HIGHS = u64(0x8080808080808080)
TEN, HUNDRED, EIGHT, BYTE = u64(10), u64(100), u64(8), u64(0xFF)

# Days before each month of a common year.
MONTH_DAYS = np.array([0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334, 365], np.int64)


@inlined_kernel
def copy_bytes(data: Bytes, start: int, length: int, out: Bytes, at: int) -> None:
    """Copy `length` bytes, eight at a time: up to seven more are read and written, which the next text overwrites."""
    i = 0
    while i < length:
        store64(out, at + i, load64(data, start + i))
        i += 8


@lean_kernel
def _hex(byte: int) -> Any:
    """Value of a hexadecimal digit."""
    return byte - 48 if byte <= 57 else (byte | 32) - 87


@lean_kernel
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


@lean_kernel
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


@lean_kernel
def _digits(data: Bytes, at: int, count: int) -> Any:
    """Value of `count` digits at `at`; far below zero when one is none."""
    value = 0
    for i in range(count):
        byte = load8(data, at + i)
        if byte < 48 or byte > 57:
            return -1_000_000
        value = value * 10 + (byte - 48)
    return value


@lean_kernel
def milliseconds_of(data: Bytes, start: int, end: int) -> Any:
    """Milliseconds UTC of ``YYYY-MM-DDTHH:MM:SS[.d{1,9}]Z``; `NOT_HERE` for every other form, which RFC 3339 may still allow."""
    length = end - start
    if length < 20 or length > 30 or length == 21 or load8(data, end - 1) != 90:
        return NOT_HERE
    # Eight characters at a time: what differs from the pattern must be a digit's value or, between digits, nothing.
    date = load64(data, start) ^ DATE
    clock = load64(data, start + 8) ^ CLOCK
    second = (load64(data, start + 16) & SECOND_BYTES) ^ SECOND
    wrong = (date + DATE_ROOM) | date | (clock + CLOCK_ROOM) | clock | (second + SECOND_ROOM) | second
    if wrong & HIGHS != 0:
        return NOT_HERE
    date, clock, second = (
        date * TEN + (date >> EIGHT),
        clock * TEN + (clock >> EIGHT),
        second * TEN + (second >> EIGHT),
    )
    year = i64((date & BYTE) * HUNDRED + ((date >> u64(16)) & BYTE))
    month, day = i64((date >> u64(40)) & BYTE), i64(clock & BYTE)
    hour, minute, seconds = (
        i64((clock >> u64(24)) & BYTE),
        i64((clock >> u64(48)) & BYTE),
        i64((second >> EIGHT) & BYTE),
    )
    if year < 1 or month < 1 or month > 12 or day < 1 or hour > 23 or minute > 59 or seconds > 59:
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
    return ((days * 24 + hour) * 60 + minute) * 60_000 + seconds * 1_000 + fraction
