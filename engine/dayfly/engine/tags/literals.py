"""Literals of the language: durations, numbers, times, strings and field names, read and written.

Readers raise `ValueError` with the second half of an error message; the caller knows the place.
"""

import re
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Final

__all__ = [
    "MAX_TIME_MS",
    "MIN_TIME_MS",
    "duration_text",
    "field_text",
    "number_text",
    "quote",
    "read_duration",
    "read_field",
    "read_time",
    "time_text",
    "unquote",
]

_UNITS: Final = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000, "w": 604_800_000}
_DURATION: Final = re.compile(r"([0-9]{1,15})(ms|s|m|h|d|w)")
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_TIME: Final = re.compile(
    r"([0-9]{4})-([0-9]{2})-([0-9]{2})T([0-9]{2}):([0-9]{2}):([0-9]{2})(?:\.([0-9]{1,9}))?(Z|[+-][0-9]{2}:[0-9]{2})"
)
MIN_TIME_MS: Final = -62_135_596_800_000
"""0001-01-01T00:00:00Z; CEL's timestamps and RFC 3339 start there."""
MAX_TIME_MS: Final = 253_402_300_799_999
"""9999-12-31T23:59:59.999Z."""

_WORD: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_FIELD: Final = re.compile(r"properties(?:\.(?:[A-Za-z_][A-Za-z0-9_]*|`[^`\r\n]*`))+")
_PART: Final = re.compile(r"`[^`]*`|[^.`]+")
_QUOTED_WORD: Final = re.compile(r"[\w$][\w $-]*")
_ESCAPES: Final = {
    "a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v",
    "\\": "\\", "?": "?", '"': '"', "'": "'", "`": "`",
}  # fmt: skip
_ESCAPE: Final = re.compile(
    r"\\(?:[xX]([0-9A-Fa-f]{2})|u([0-9A-Fa-f]{4})|U([0-9A-Fa-f]{8})|([0-3][0-7]{2})|(.)|$)", re.DOTALL
)
_WRITTEN: Final = {"\\": "\\\\", '"': '\\"', "\n": "\\n", "\r": "\\r", "\t": "\\t"}


def read_duration(text: str) -> int:
    """Milliseconds of ``7d``, ``30m``, ``250ms``; units are ms s m h d w, and a day is 24 hours.

    Raises:
        ValueError: not of that form.
    """
    match = _DURATION.fullmatch(text)
    if match is None:
        raise ValueError(
            f"duration={text!r} must be a whole number and a unit; write 30m, 12h, 7d (ms s m h d w)"
        )
    return int(match[1]) * _UNITS[match[2]]


def duration_text(milliseconds: int) -> str:
    """A duration in the largest unit up to days that is exact.

    >>> duration_text(604_800_000), duration_text(90_000)
    ('7d', '90s')
    """
    unit = next(unit for unit in ("d", "h", "m", "s", "ms") if milliseconds % _UNITS[unit] == 0)
    return f"{milliseconds // _UNITS[unit]}{unit}" if milliseconds else "0ms"


def read_time(text: str) -> Decimal:
    """Milliseconds of an RFC 3339 time with zone; finer than a millisecond is refused.

    Raises:
        ValueError: not of that form, or no such day.
    """
    match = _TIME.fullmatch(text)
    way_out = "write RFC 3339 with a zone, such as 2026-01-01T00:00:00Z"
    if match is None:
        raise ValueError(f"timestamp={text!r} must be a time with zone; {way_out}")
    fraction = (match[7] or "").ljust(9, "0")
    if fraction[3:].strip("0"):
        raise ValueError(f"timestamp={text!r} must have whole milliseconds; drop the finer digits")
    try:
        base = datetime.fromisoformat(f"{text[:19]}{'+00:00' if match[8] == 'Z' else match[8]}")
        whole = (base - _EPOCH) // timedelta(milliseconds=1)
    except (ValueError, OverflowError) as error:
        raise ValueError(f"timestamp={text!r} must be a day and time that exist; {way_out}") from error
    return Decimal(whole + int(fraction[:3]))


def time_text(milliseconds: int) -> str:
    """RFC 3339 text in UTC; `read_time` reversed for times from year 1 to year 9999."""
    moment = _EPOCH + timedelta(milliseconds=milliseconds)
    return (
        moment.replace(tzinfo=None).isoformat(timespec="milliseconds" if milliseconds % 1000 else "seconds")
        + "Z"
    )


def number_text(number: Decimal) -> str:
    """Plain decimal text without exponent and trailing zeros."""
    text = f"{number:f}"
    if "." in text:
        text = text.rstrip("0").rstrip(".")
    return "0" if text == "-0" else text


def quote(text: str) -> str:
    """A double-quoted string literal."""
    return (
        '"'
        + "".join(_WRITTEN.get(char) or (f"\\u{ord(char):04x}" if ord(char) < 32 else char) for char in text)
        + '"'
    )


def unquote(literal: str) -> str:
    """Value of a string literal in single or double quotes, with CEL's escapes (CEL language definition, "String values").

    Raises:
        ValueError: an unknown escape, or one that is no Unicode character.
    """

    def expand(match: re.Match[str]) -> str:
        digits = match[1] or match[2] or match[3]
        code = int(digits, 16) if digits else int(match[4], 8) if match[4] else -1
        if code > 0x10FFFF or 0xD800 <= code < 0xE000:
            raise ValueError(f"escape={match[0]!r} must be a Unicode character; write the character itself")
        if code >= 0:
            return chr(code)
        if match[5] not in _ESCAPES:
            raise ValueError(f"escape={match[0]!r} must be one of CEL's; write \\\\ for a backslash")
        return _ESCAPES[match[5]]

    return _ESCAPE.sub(expand, literal[1:-1])


def read_field(text: str) -> str:
    """Field path of ``properties.a.b``, with a part that is no plain word in backquotes, or ``channel``.

    Raises:
        ValueError: another root, or an empty or odd part.
    """
    if text == "channel":
        return text
    if _FIELD.fullmatch(text) is None:
        raise ValueError(
            f"field={text!r} must start with properties. (or be channel); write properties.{text}"
        )
    parts = _PART.findall(text)[1:]
    words = [part[1:-1] if part.startswith("`") else part for part in parts]
    for part, word in zip(parts, words, strict=True):
        if _QUOTED_WORD.fullmatch(word) is None:
            raise ValueError(
                f"field part={part!r} must be letters, digits, _ $ - or spaces; rename the field in its mapping"
            )
    return ".".join(("properties", *words))


def field_text(field: str) -> str:
    """A field path as text, `read_field` reversed."""
    return ".".join(part if _WORD.fullmatch(part) else f"`{part}`" for part in field.split("."))
