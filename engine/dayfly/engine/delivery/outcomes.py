"""What an attempt came to, and what follows from it."""

from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from enum import StrEnum
from typing import Final

__all__ = ["Outcome", "Result", "from_status", "retry_after_ms"]

_MAX_WAIT_MS: Final = 3_600_000


class Outcome(StrEnum):
    """Consequence of an attempt."""

    DELIVERED = "delivered"
    """2xx: done."""
    REFUSED = "refused"
    """A 4xx that another attempt would not change: given up."""
    GONE = "gone"
    """410: the endpoint is switched off."""
    THROTTLED = "throttled"
    """429 or 503 with Retry-After: the endpoint rests as long as it asked."""
    FAILED = "failed"
    """Anything else: another attempt later."""
    ABORTED = "aborted"
    """We broke it off: recalled, superseded or shut down meanwhile. Says nothing about the endpoint."""


@dataclass(frozen=True, slots=True)
class Result:
    """An attempt that has ended.

    Attributes:
        outcome: What follows.
        reason: Code for the counts: `http_500`, `timeout`, `connect`, `reset`, `address`, `name`, `tls`, `protocol`, …
        reached: Whether a byte of the request may have arrived; False only when certainly none has.
        wait_ms: What Retry-After asked for (`THROTTLED` only).
    """

    outcome: Outcome
    reason: str
    reached: bool = True
    wait_ms: int = 0


def from_status(status: int, retry_after: str | None, *, now_ms: int) -> Result:
    """Judge an answer by its status (Standard Webhooks, "Sending").

    A redirect is a failure and is never followed.
    """
    reason = f"http_{status}"
    if 200 <= status < 300:
        return Result(Outcome.DELIVERED, reason)
    if status == 410:
        return Result(Outcome.GONE, reason)
    if status in {429, 503}:
        wait_ms = retry_after_ms(retry_after, now_ms=now_ms)
        if wait_ms is not None:
            return Result(Outcome.THROTTLED, reason, wait_ms=wait_ms)
        return Result(Outcome.FAILED, reason)
    if 400 <= status < 500:
        return Result(Outcome.REFUSED, reason)
    return Result(Outcome.FAILED, reason)


def retry_after_ms(value: str | None, *, now_ms: int) -> int | None:
    """Wait that a Retry-After header asks for (RFC 9110, 10.2.3), at most an hour; None when it says nothing readable."""
    if value is None:
        return None
    value = value.strip()
    if value.isascii() and value.isdigit():
        return min(int(value[:9]) * 1000, _MAX_WAIT_MS)
    try:
        at = parsedate_to_datetime(value)
    except ValueError:
        return None
    if at.tzinfo is None:  # "-0000": UTC of unknown origin
        at = at.replace(tzinfo=UTC)
    return max(0, min(_milliseconds(at) - now_ms, _MAX_WAIT_MS))


def _milliseconds(at: datetime) -> int:
    return int(at.timestamp() * 1000)
