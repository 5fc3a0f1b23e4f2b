"""Instants on the command line."""

import time
from datetime import UTC, datetime

import typer

__all__ = ["instant", "instant_or_now", "instant_text", "whole_hours"]


def instant(text: str, option: str) -> int:
    """Milliseconds UTC of an RFC 3339 time or of whole milliseconds since 1970.

    Raises:
        typer.BadParameter: neither.
    """
    from dayfly.engine.errors import IntakeError  # noqa: PLC0415 - `--version` must not pay for it
    from dayfly.engine.intake.times import rfc3339_to_ms  # noqa: PLC0415 - as above

    if text.isascii() and text.isdigit() and len(text) <= 15:
        return int(text)
    try:
        return rfc3339_to_ms(text)
    except IntakeError as error:
        raise typer.BadParameter(
            f"{option}={text!r} must be a time such as 2026-11-16T08:00:00Z or milliseconds since 1970"
        ) from error


def instant_or_now(text: str | None, option: str) -> int:
    """As `instant`; without a text the machine's clock is read."""
    return time.time_ns() // 1_000_000 if text is None else instant(text, option)


def whole_hours(hours: float) -> int:
    """Hours as milliseconds."""
    return int(hours * 3_600_000)


def instant_text(time_ms: int) -> str:
    """Milliseconds UTC as people read them.

    >>> instant_text(1_773_144_000_120)
    '2026-03-10T12:00:00.120Z'
    """
    return (
        datetime.fromtimestamp(time_ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    )
