"""The thread that keeps `health.json` fresh and checks the audit log, beside the engine's own."""

import threading
from pathlib import Path
from typing import Final, Protocol

from dayfly.engine.errors import EngineClosed, EngineError, HealthError
from dayfly.engine.health.files import HealthFile, read_health, with_point, write_health
from dayfly.engine.health.model import HealthReport, Point

__all__ = ["Reporter", "Reports"]

BREATH_SECONDS: Final = 0.02
"""Between two pieces of the audit log, so that checking a long one takes no core from the engine."""


class _Audit(Protocol):
    def step(self) -> bool:
        """Check a piece of the audit log; False when there is nothing more for now."""
        ...


class Reports(Protocol):
    """What makes reports; `Board` is one."""

    file_error: str

    @property
    def audit(self) -> _Audit:
        """The check of the audit log."""
        ...

    def report(self) -> HealthReport:
        """A report of an open engine."""
        ...

    def last_report(self, now_ms: int) -> HealthReport:
        """A report of an engine whose thread has ended."""
        ...


class Reporter:
    """Writes a report into the store's folder again and again.

    Args:
        board: Makes the reports.
        folder: The store's.
        every_seconds: How often; 0: never.
    """

    def __init__(self, board: Reports, folder: Path, *, every_seconds: float) -> None:
        self._board: Final = board
        self._folder: Final = folder
        self._every_seconds: Final = every_seconds
        self._points = _earlier(folder)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="dayfly-health", daemon=True)

    def start(self) -> None:
        """Begin."""
        if self._every_seconds:
            self._thread.start()

    def stop(self, now_ms: int) -> None:
        """End, and write the last report; when the engine's thread has ended."""
        if not self._thread.is_alive():
            return
        self._stop.set()
        self._thread.join()
        self._write(self._board.last_report(now_ms))

    def _run(self) -> None:
        while True:
            while not self._stop.is_set() and self._board.audit.step():
                self._stop.wait(BREATH_SECONDS)
            try:
                self._write(self._board.report())
            except EngineClosed:
                return
            except EngineError as error:
                self._board.file_error = str(error)
            if self._stop.wait(self._every_seconds):
                return

    def _write(self, report: HealthReport) -> None:
        self._points = with_point(self._points, report)
        health = HealthFile(report=report, every_seconds=self._every_seconds, points=self._points)
        try:
            write_health(self._folder, health)
        except OSError as error:  # a full disk stops the log, not the board
            self._board.file_error = error.strerror or str(error)
        else:
            self._board.file_error = ""


def _earlier(folder: Path) -> tuple[Point, ...]:
    """Points of the file that an earlier process left, if it can be read."""
    try:
        return read_health(folder).points
    except HealthError:
        return ()
