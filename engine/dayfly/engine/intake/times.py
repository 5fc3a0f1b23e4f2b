"""Times on the wire to int64 milliseconds UTC, exactly: integers throughout, fractions cut to the millisecond."""

import re
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Final

from dayfly.engine.errors import IntakeError
from dayfly.engine.intake.reasons import DeadLetterReason

__all__ = ["MAX_TIME_MS", "MIN_TIME_MS", "datetime_to_ms", "rfc3339_to_ms"]

_RFC3339: Final = re.compile(
    r"([0-9]{4})-([0-9]{2})-([0-9]{2})[Tt ]([0-9]{2}):([0-9]{2}):([0-9]{2})(?:\.([0-9]+))?(?:[Zz]|([+-])([0-9]{2}):?([0-9]{2}))",
)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND: Final = timedelta(milliseconds=1)

MIN_TIME_MS: Final = -62_135_596_800_000
"""0001-01-01T00:00:00Z, the first instant accepted."""

MAX_TIME_MS: Final = 253_402_300_799_999
"""9999-12-31T23:59:59.999Z, the last instant accepted."""


def rfc3339_to_ms(text: str, *, place: str = "time") -> int:
    """Milliseconds UTC of an RFC 3339 date-time (section 5.6); an offset without its colon is read too.

    Digits beyond the millisecond are cut, never rounded up, so that no event moves into the future.

    Args:
        text: For example ``2026-03-10T12:00:00.120Z``.
        place: What to call it in the error; the text itself is personal and stays out.

    Raises:
        IntakeError: `BAD_TIME`.
    """
    match = _RFC3339.fullmatch(text)
    if match is None:
        raise _refused(place)
    year, month, day, hour, minute, second = (int(part) for part in match.group(1, 2, 3, 4, 5, 6))
    offset_minutes = 0
    if match[8] is not None:
        if int(match[9]) > 23 or int(match[10]) > 59:
            raise _refused(place)
        offset_minutes = (int(match[9]) * 60 + int(match[10])) * (-1 if match[8] == "-" else 1)
    try:
        moment = datetime(year, month, day, hour, minute, second, tzinfo=UTC)
    except ValueError as error:
        raise _refused(place) from error
    fraction_ms = int((match[7] or "0")[:3].ljust(3, "0"))
    result = (moment - _EPOCH) // _MILLISECOND + fraction_ms - offset_minutes * 60_000
    if not MIN_TIME_MS <= result <= MAX_TIME_MS:
        raise _refused(place)
    return result


def datetime_to_ms(moment: datetime, *, zone: tzinfo = UTC) -> int:
    """Milliseconds UTC of `moment`; without an offset it is read in `zone` (the earlier of two in an autumn's repeated hour).

    >>> datetime_to_ms(datetime(1970, 1, 2))
    86400000
    """
    aware = moment.replace(tzinfo=zone) if moment.tzinfo is None else moment
    return (aware.astimezone(UTC) - _EPOCH) // _MILLISECOND


def _refused(place: str) -> IntakeError:
    return IntakeError(
        DeadLetterReason.BAD_TIME,
        f"{place}=<hidden> must be an RFC 3339 date-time with an offset; send for example 2026-03-10T12:00:00.120Z",
    )
