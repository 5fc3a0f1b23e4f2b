"""The keeper: writes snapshots while the engine works, and forgets the log that they make superfluous."""

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Protocol, TypeAlias

from dayfly.engine.durable.feed import FeedItem
from dayfly.engine.durable.host import Host
from dayfly.engine.durable.recovery import METER, POLICY, SHARD, STANDING
from dayfly.engine.durable.settings import EngineSettings

__all__ = ["Content", "Keeper"]


Content: TypeAlias = bytes | Sequence[bytes | memoryview]
"""A part of a snapshot, at once or in pieces."""


class DurableLog(Protocol):
    """What the keeper needs of the log."""

    def wait(self, position: int, timeout_seconds: float | None = None) -> None:
        """Return when a position is durable."""

    def truncate_before(self, position: int) -> None:
        """Forget segments that end before a position."""

    def turn(self) -> int:
        """Put the next frame into a new segment."""
        ...


class SnapshotFiles(Protocol):
    """What the keeper needs of the snapshot folder."""

    def write(self, position: int, parts: Mapping[str, Content], *, verify: bool = False) -> None:
        """Write a snapshot, durably."""

    def drop_before(self, position: int) -> None:
        """Destroy older snapshots."""

    def positions(self) -> tuple[int, ...]:
        """Positions of the snapshots there are, ascending."""
        ...


class Keeper:
    """Takes snapshots on the engine's thread and writes them on another.

    Args:
        host: Whose state.
        log, files: Where it goes.
        items: Feed items up to now, those that wait for the log included: the log before the snapshot will be gone.
        settings: How often, and how many are kept.
        sync_views: Makes durable whatever lags behind the log; called by the writing thread before it writes.
        monotonic: Seconds of a clock that only measures time between snapshots.

    Attributes:
        newest: Log position of the newest snapshot.
        written, last_error: How many were written by this process, and what the last failure was.
    """

    def __init__(
        self,
        host: Host,
        log: DurableLog,
        files: SnapshotFiles,
        items: Callable[[], list[FeedItem]],
        settings: EngineSettings,
        *,
        sync_views: Callable[[], object],
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._host: Final = host
        self._log: Final = log
        self._files: Final = files
        self._items: Final = items
        self._settings: Final = settings
        self._sync_views: Final = sync_views
        self._monotonic: Final = monotonic
        self._writing = threading.Lock()
        self._thread: threading.Thread | None = None
        self._since = monotonic()
        self.newest = max(files.positions(), default=0)
        self.written = 0
        self.last_error: BaseException | None = None

    def due(self) -> bool:
        """Whether it is time for a snapshot."""
        logged_bytes = self._host.logged_bytes
        if self._thread is not None and self._thread.is_alive():
            return False
        aged = self._monotonic() - self._since >= self._settings.snapshot_seconds
        return (aged and logged_bytes > 0) or logged_bytes >= self._settings.snapshot_bytes

    def image(self, *, roll: bool = False) -> tuple[int, Callable[[], dict[str, Content]]]:
        """The state now, and how its parts are made; on the engine's thread, between turns.

        Args:
            roll: Begin a new log segment, so that everything up to now can be destroyed.
        """
        host = self._host
        host.log_effects(last=True)
        if roll:
            self._log.turn()
        self._since = self._monotonic()
        host.logged_bytes = 0
        shard = host.engine.shard.image()
        standing = host.standing.to_bytes([*self._items(), *host.fresh_items])
        meter = host.meter.to_bytes()
        source = host.engine.shard.policy.source
        return host.position, lambda: {POLICY: source, SHARD: shard(), STANDING: standing, METER: meter}

    def begin(self) -> None:
        """Take a snapshot now and write it in the background."""
        position, parts = self.image()
        self._thread = threading.Thread(
            target=self._try_write, args=(position, parts), name="dayfly-snapshot", daemon=True
        )
        self._thread.start()

    def take_now(self, do: Callable[[Callable[[int], Any]], Any]) -> int:
        """Take a snapshot and wait until it is written; returns its position."""
        position, parts = do(lambda _: self.image())
        self.write(position, parts)
        return int(position)

    def _try_write(self, position: int, parts: Callable[[], dict[str, Content]]) -> None:
        try:
            self.write(position, parts)
        except Exception as error:  # noqa: BLE001 - the log stays longer; health shows it
            self.last_error = error

    def write(
        self,
        position: int,
        parts: Callable[[], dict[str, Content]],
        *,
        keep: int | None = None,
        verify: bool = False,
    ) -> None:
        """Write a snapshot and forget what it makes superfluous.

        Args:
            position: Log position that it stands for.
            parts: Makes its content.
            keep: Snapshots to keep, this one included; default: as the settings say.
            verify: Read it back before anything older is destroyed.
        """
        with self._writing:
            self._log.wait(position)
            self._sync_views()  # first: once the snapshot is there, nothing before it is replayed into them any more
            newest = max(self._files.positions(), default=-1)
            # One that was overtaken is not written: an erasure may have come between, and it still holds the person.
            if newest < position or (newest == position and verify):
                self._files.write(position, parts(), verify=verify)
            kept = self._files.positions()[-(keep or self._settings.snapshots_kept) :]
            self._files.drop_before(kept[0])
            self._log.truncate_before(kept[0] + 1)
            self.newest = max(self.newest, position)
            self.written += 1
            self.last_error = None

    def stop(self) -> None:
        """Wait for a snapshot that is being written."""
        if self._thread is not None:
            self._thread.join()
