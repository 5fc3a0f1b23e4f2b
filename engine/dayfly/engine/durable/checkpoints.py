"""Checkpoints of the tombstone log beside the engine's thread, which must not wait for six `fsync`s once a second.

What a checkpoint says is read between two turns. It is signed when the log is durable that far, on a thread of its own.
"""

import threading
from typing import Final, Protocol

from dayfly.privacy.fragments.tombstones.durable import DurableGraveyard
from dayfly.privacy.fragments.tombstones.note import Checkpoint

__all__ = ["Checkpoints"]


class Service(Protocol):
    """What is needed of the fragment service."""

    def live_count(self) -> int:
        """Fragments alive."""
        ...

    def checkpoint(self, now_ms: int) -> str:
        """Sign the tombstone log as it stands."""
        ...


class Checkpoints:
    """Signs the tombstone log while it grows. All methods are for the engine's thread, or for when that has ended.

    Args:
        graves: The tombstone log.

    Attributes:
        signed: Tombstones under the newest checkpoint that was asked for.
    """

    def __init__(self, graves: DurableGraveyard) -> None:
        self._graves: Final = graves
        self._due: tuple[int, Checkpoint] | None = None
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None
        self.signed = 0

    def begin(self, service: Service, position: int, now_ms: int) -> None:
        """Between two turns: fix what the next checkpoint says, where the log has grown and none is under way.

        Args:
            service: Knows who is alive.
            position: Of the log frame behind which all tombstones stand.
            now_ms: Now.
        """
        if len(self._graves) > self.signed and self._due is None and not self._busy:
            self._due = (position, self._graves.begin(service.live_count(), now_ms))

    def go_on(self, durable: int) -> None:
        """Sign what was begun, once the log is durable up to its position.

        Raises:
            OSError: the checkpoint before could not be written.
            DayflyError: likewise.
        """
        if self._error is not None:
            raise self._error
        if self._due is not None and self._due[0] <= durable and not self._busy:
            checkpoint, self._due = self._due[1], None
            self._graves.release(checkpoint.size, at_once=True)
            self.signed = checkpoint.size
            self._thread = threading.Thread(
                target=self._finish, args=(checkpoint,), name="dayfly-checkpoint", daemon=True
            )
            self._thread.start()

    def sign_now(self, service: Service, now_ms: int) -> None:
        """Sign the log as it stands, and wait until that is durable; nothing where it has not grown."""
        self.stop()
        if len(self._graves) > self.signed:
            service.checkpoint(now_ms)
            self.signed = len(self._graves)

    def stop(self) -> None:
        """Wait for what is under way, and drop what was begun."""
        self._due = None
        if self._thread is not None:
            self._thread.join()

    @property
    def _busy(self) -> bool:
        return self._thread is not None and self._thread.is_alive()

    def _finish(self, checkpoint: Checkpoint) -> None:
        try:
            self._graves.finish(checkpoint)
        except Exception as error:  # noqa: BLE001 - raised again on the engine's thread, which ends the engine
            self._error = error
