"""The background step that keeps the next segment ready, so that a commit never waits for a new file."""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from dayfly.engine.errors import StoreError
from dayfly.privacy.keys import DataKeys

from .files import Disk, store_error
from .segments import PreparedSegment, Stopped, prepare
from .settings import LogSettings

__all__ = ["Preparer", "Workshop"]


@dataclass(frozen=True, slots=True)
class Workshop:
    """What making a segment takes."""

    disk: Disk
    folder: Path
    keys: DataKeys
    tenant: bytes
    settings: LogSettings
    random_bytes: Callable[[int], bytes]

    def make(
        self, number: int, *, spare: Path | None = None, stopped: Callable[[], bool] = lambda: False
    ) -> PreparedSegment:
        """Make segment `number` ready.

        Raises:
            StoreError: the system refuses; nothing is left of it.
            Stopped: `stopped` said so.
        """
        try:
            return prepare(
                self.disk,
                self.folder,
                number,
                self.keys,
                tenant=self.tenant,
                settings=self.settings,
                random_bytes=self.random_bytes,
                spare=spare,
                stopped=stopped,
            )
        except OSError as error:
            raise store_error(error, self.folder, "preparing the next log segment") from error


class Preparer:
    """Keeps one segment ready. `take` is called by the committer thread, everything else by any thread.

    Args:
        workshop: What making a segment takes.
        ready: A segment that is ready already.
        following: Number of the next one to make.
        spare: Gives a file to use again, or None.
        report: Told when attempts begin to fail, when they fail for another reason, and with None when one succeeds again.
    """

    def __init__(
        self,
        workshop: Workshop,
        *,
        ready: PreparedSegment | None,
        following: int,
        spare: Callable[[], Path | None],
        report: Callable[[StoreError | None], None],
    ) -> None:
        self._workshop = workshop
        self._ready = ready
        self._following = following
        self._spare = spare
        self._report = report
        self._changed = threading.Condition()
        self._attempts = 0
        self._asked = False
        self._taken = False
        self._error: StoreError | None = None
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="dayfly-log-preparer", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def take(self) -> PreparedSegment:
        """The next segment. Waits while it is being made; asks for one more attempt where that failed.

        The one behind it is made when `used` was called: so never more than one segment is prepared and not in use.

        Raises:
            StoreError: the attempt made after this call failed too.
        """
        with self._changed:
            enough = self._attempts + 2
            while self._ready is None:
                if self._error is not None and (self._closing or self._attempts >= enough):
                    raise self._error
                self._asked = True
                self._changed.notify_all()
                self._changed.wait()
            segment, self._ready = self._ready, None
            self._taken = True
            return segment

    def used(self) -> None:
        """The segment taken is in use, durably; make the next one."""
        with self._changed:
            self._taken = False
            self._changed.notify_all()

    def close(self) -> None:
        """Stop; an unfinished segment is removed."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._thread.join()

    def _run(self) -> None:
        while self._wanted():
            try:
                segment = self._workshop.make(
                    self._following, spare=self._spare(), stopped=lambda: self._closing
                )
            except Stopped:
                self._ended(None, StoreError("log=closing must be open to make segments; open it again"))
            except StoreError as error:
                self._ended(None, error)
            except Exception as error:  # noqa: BLE001 - whatever the keys raise must reach who waits in `take`
                refused = StoreError(
                    f"keys={type(error).__name__} must give a key for the next segment: {error}; see to the keys"
                )
                refused.__cause__ = error
                self._ended(None, refused)
            else:
                self._ended(segment, None)

    def _wanted(self) -> bool:
        """Wait until a segment is to be made; False when closing."""
        with self._changed:
            while not self._closing:
                missing = self._ready is None and not self._taken
                if missing and (self._error is None or self._asked):
                    break
                pause = self._workshop.settings.retry_seconds if missing else None
                if not self._changed.wait(pause):
                    break
            self._asked = False
            return not self._closing

    def _ended(self, segment: PreparedSegment | None, error: StoreError | None) -> None:
        with self._changed:
            known, self._error = self._error, error
            self._ready = segment
            self._following += segment is not None
            self._attempts += 1
            closing = self._closing
            self._changed.notify_all()
        if not closing and type(error) is not type(known):
            self._report(error)
