"""Times as people and exports read them."""

from datetime import UTC, datetime, timedelta
from typing import Final

__all__ = ["utc_text"]

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_LAST_MS: Final = 253_402_300_799_999
_FIRST_MS: Final = -62_135_596_800_000


def utc_text(time_ms: int) -> str:
    """RFC 3339 text in UTC with milliseconds; ends that no calendar can hold become the calendar's first or last instant.

    >>> utc_text(1_773_144_000_120)
    '2026-03-10T12:00:00.120Z'
    """
    bounded = min(max(time_ms, _FIRST_MS), _LAST_MS)  # "until withdrawn" is int64 max
    text = (_EPOCH + timedelta(milliseconds=bounded)).isoformat(timespec="milliseconds")
    return text.replace("+00:00", "Z")
