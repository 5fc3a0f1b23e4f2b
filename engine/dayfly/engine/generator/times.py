"""Times as channels write them."""

from datetime import UTC, datetime
from functools import lru_cache
from typing import Final

__all__ = ["DAY_MS", "iso_ms", "local_hour"]

DAY_MS: Final = 86_400_000
SHANGHAI_OFFSET_MS: Final = 8 * 3_600_000
"""The shop's people live at UTC+8, without summer time."""


def iso_ms(time_ms: int) -> str:
    """RFC 3339 text of `time_ms` in UTC with milliseconds.

    >>> iso_ms(1_773_144_000_120)
    '2026-03-10T12:00:00.120Z'
    """
    minute, rest = divmod(time_ms, 60_000)
    return f"{_minute_text(minute)}{rest // 1_000:02d}.{rest % 1_000:03d}Z"


@lru_cache(maxsize=4_096)  # most times of a stream lie close together
def _minute_text(minute: int) -> str:
    return datetime.fromtimestamp(minute * 60, UTC).strftime("%Y-%m-%dT%H:%M:")


def local_hour(time_ms: int) -> int:
    """Hour of the day where the people live, 0 to 23."""
    return (time_ms + SHANGHAI_OFFSET_MS) % DAY_MS // 3_600_000
