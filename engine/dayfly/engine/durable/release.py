"""What waits for the log: results of calls, feed items and writes to views, released in order as the log becomes durable."""

import threading
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Final

from dayfly.engine.durable.feed import Feed, FeedItem
from dayfly.engine.durable.host import Turn

__all__ = ["Answer", "Releases"]


@dataclass(frozen=True, slots=True)
class Answer:
    """What a caller is told when its call is durable: a value or an error."""

    future: "Future[Any]"
    value: object = None
    error: BaseException | None = None

    def give(self) -> None:
        """Tell the caller; one who has gone away is passed over."""
        if not self.future.set_running_or_notify_cancel():
            return
        if self.error is not None:
            self.future.set_exception(self.error)
        else:
            self.future.set_result(self.value)


class Releases:
    """Turns in order of their positions. `add` and `take_views` are called by the engine's thread, `durable` by the committer's.

    Args:
        feed: Gets the items.
    """

    def __init__(self, feed: Feed) -> None:
        self._feed: Final = feed
        self._lock = threading.Lock()
        self._waiting: deque[tuple[Turn, Sequence[Answer]]] = deque()
        self._views: deque[Turn] = deque()
        self._durable = 0
        self._stones = 0
        self._error: BaseException | None = None

    def add(self, turn: Turn, answers: Sequence[Answer]) -> None:
        """Release a turn as soon as its position is durable; after `fail`, its callers are told at once."""
        with self._lock:
            self._waiting.append((turn, answers))
            if self._error is not None:
                self._refuse(self._error)
        self.durable(0)

    def durable(self, position: int) -> None:
        """Everything up to a position is durable."""
        with self._lock:
            self._durable = max(self._durable, position)
            while self._waiting and self._waiting[0][0].position <= self._durable:
                turn, answers = self._waiting.popleft()
                if turn.items:
                    self._feed.publish(turn.items)
                if turn.audit or turn.lineage or turn.letters or turn.stones > self._stones:
                    self._stones = turn.stones
                    self._views.append(turn)
                for answer in answers:
                    answer.give()

    def items(self) -> list[FeedItem]:
        """The items that the feed keeps, and those that still wait for the log; no gap between them."""
        with self._lock:
            return [*self._feed.kept(), *(item for turn, _ in self._waiting for item in turn.items)]

    def take_views(self) -> Iterator[Turn]:
        """Turns that became durable since the last call, to be written into the views."""
        while self._views:
            yield self._views.popleft()

    def fail(self, error: BaseException) -> None:
        """Tell everybody who waits that the log has failed."""
        with self._lock:
            self._error = error
            self._refuse(error)

    def _refuse(self, error: BaseException) -> None:
        while self._waiting:
            _, answers = self._waiting.popleft()
            for answer in answers:
                Answer(answer.future, error=error).give()
