"""The health board of a sharded engine: one report over all shards, and what is watched beside them."""

import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

import msgspec

from dayfly.engine.errors import EngineFailed
from dayfly.engine.health.channels import check_expected
from dayfly.engine.health.collect import Watched, completed
from dayfly.engine.health.joined import joined_report
from dayfly.engine.health.model import HealthReport
from dayfly.engine.health.reporter import Reporter
from dayfly.engine.sharded.desk import Desk

__all__ = ["ShardedBoard"]


class _Nothing:
    """Each shard checks its own audit log."""

    def step(self) -> bool:
        """There is nothing to check."""
        return False


class ShardedBoard:
    """Makes reports, and writes `health.json` into the folder of the whole store.

    Args:
        folder: Of the store.
        every_seconds: How often the file is written; 0: never.
        now_ms: The clock.
        gather: Each shard's report and meter.
        desk: The router's thread: its policy, its queue and its failure.
    """

    def __init__(
        self,
        folder: Path,
        every_seconds: float,
        now_ms: Callable[[], int],
        gather: Callable[[], tuple[tuple[HealthReport, bytes], ...]],
        desk: Desk,
    ) -> None:
        self.watched = Watched()
        self.file_error = ""
        self.audit: Final = _Nothing()
        self._now_ms: Final = now_ms
        self._gather: Final = gather
        self._desk: Final = desk
        self._lock: Final = threading.Lock()
        self._last: HealthReport | None = None
        self._reporter: Final = Reporter(self, folder, every_seconds=every_seconds)

    def start(self) -> None:
        """Begin to write reports. A first one is made now: it is shown should the engine fail."""
        self.report()
        self._reporter.start()

    def stop(self) -> None:
        """Write the last one, while the shards are still open."""
        self._reporter.stop(self._now_ms())

    def watch(self, watched: Watched) -> None:
        """Show other things from the next report on.

        Raises:
            InvalidArgument: an expectation names no declared channel, or is no number above zero.
        """
        check_expected(watched.expected, self._desk.policy.catalog)
        self.watched = watched

    def report(self, expected: Mapping[str, float] | None = None) -> HealthReport:
        """As `Board.report`; of an engine that has failed, the last one with the failure."""
        if expected is not None:
            check_expected(expected, self._desk.policy.catalog)
        due = self.watched.expected if expected is None else expected
        try:
            reports = self._gather()
        except EngineFailed as error:
            gathered = self._failed(error)
        else:
            gathered = joined_report(
                reports, self._desk.policy, self._now_ms(), due, queue=self._desk.waiting
            )
            with self._lock:
                self._last = gathered
        return completed(gathered, self.watched, self.file_error)

    def _failed(self, error: EngineFailed) -> HealthReport:
        with self._lock:
            last = self._last
        if last is None:
            raise error
        engine = msgspec.structs.replace(
            last.engine, state="failed", trouble=str(self._desk.failure or error)
        )
        return msgspec.structs.replace(last, engine=engine)

    def last_report(self, now_ms: int) -> HealthReport:
        """The report of an engine that is being closed."""
        report = self.report()
        if report.engine.state == "failed":
            return report
        engine = msgspec.structs.replace(report.engine, state="closed")
        return msgspec.structs.replace(report, at_ms=now_ms, engine=engine)
