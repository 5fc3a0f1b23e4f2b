"""`health.json`: the last report and the way to it, in the store's folder, for everybody who may not open the store."""

import os
from pathlib import Path
from typing import Final, Literal

import msgspec

from dayfly.engine.errors import HealthError
from dayfly.engine.health.model import Attention, HealthReport, Point

__all__ = ["HEALTH_FILE", "HealthFile", "read_health", "up_to_date", "with_point", "write_health"]

HEALTH_FILE: Final = "health.json"
LATE_PERIODS: Final = 3
"""A report is out of date when so many should have been written since."""
POINT_MS: Final = 300_000
POINTS_KEPT: Final = 288
"""A point every five minutes, for a day."""


class HealthFile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is in the file.

    Attributes:
        report: The last one.
        every_seconds: How often a running engine writes it.
        points: Of earlier reports, oldest first.
    """

    report: HealthReport
    every_seconds: float
    points: tuple[Point, ...] = ()
    format: Literal[1] = 1


def with_point(points: tuple[Point, ...], report: HealthReport) -> tuple[Point, ...]:
    """The points with that of a report, where the last one is old enough."""
    if points and report.at_ms - points[-1].at_ms < POINT_MS:
        return points
    return (*points, report.point)[-POINTS_KEPT:]


def write_health(folder: Path, health: HealthFile) -> None:
    """Put the file in the place of the last one. A reader sees the old or the new, never a part; a crash may lose the new.

    Raises:
        OSError: as the system says; the old file is still there.
    """
    part = folder / f".{HEALTH_FILE}.part"
    part.write_bytes(msgspec.json.encode(health) + b"\n")
    os.replace(part, folder / HEALTH_FILE)  # noqa: PTH105 - the atomic one


def read_health(folder: Path) -> HealthFile:
    """The last report of the store in a folder.

    Raises:
        HealthError: there is none, or it cannot be read.
    """
    path = folder / HEALTH_FILE
    try:
        return msgspec.json.decode(path.read_bytes(), type=HealthFile)
    except FileNotFoundError:
        raise HealthError(
            f"folder={str(folder)!r} must hold {HEALTH_FILE}; give the folder of a store that an engine has open, or had"
        ) from None
    except OSError as error:
        raise HealthError(
            f"path={str(path)!r} must be readable: {error.strerror}; check permissions"
        ) from error
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise HealthError(
            f"path={str(path)!r} must hold a health report of this release: {error}; wait for the next one, or remove it"
        ) from error


def up_to_date(health: HealthFile, now_ms: int) -> HealthReport:
    """The report, with a finding where it says nothing about now.

    Args:
        health: As read.
        now_ms: By the reader's clock.
    """
    report = health.report
    age_seconds = max(0, now_ms - report.at_ms) / 1000
    if report.engine.state == "closed":
        found = Attention(
            code="engine_closed",
            what="the engine is closed",
            way_out="open the store again to take events in",
        )
    elif age_seconds > LATE_PERIODS * health.every_seconds:
        found = Attention(
            code="report_old",
            what=f"the last report is {age_seconds:,.0f} s old, one is due every {health.every_seconds:g} s",
            way_out="see whether the engine's process lives; if it hangs, end it and open the store again",
        )
    else:
        return report
    return msgspec.structs.replace(report, attention=(found, *report.attention))
