"""The queue of an engine: calls of any thread, taken by the one thread that may touch the state."""

import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Final

from dayfly.engine.errors import EngineBusy, EngineClosed

__all__ = ["Work", "WorkQueue"]


@dataclass(slots=True)
class Work:
    """One call.

    Attributes:
        run: Does it at an instant; None for payloads, which are taken in together with their neighbours'.
        future: Where the caller waits.
        payloads, channel: Events in Segment's form.
        weight: Events in it.
    """

    run: Callable[[int], object] | None
    future: "Future[Any]"
    payloads: tuple[bytes, ...] = ()
    channel: str = ""
    weight: int = 1


class WorkQueue:
    """First in, first out, bounded by events. Thread-safe for callers; `take` is for one thread.

    Args:
        max_events: Callers wait while more than this wait already.
        patience_seconds: How long they do, before they get `EngineBusy`.
    """

    def __init__(self, *, max_events: int, patience_seconds: float) -> None:
        self._max_events: Final = max_events
        self._patience_seconds: Final = patience_seconds
        self._works: deque[Work] = deque()
        self._events = 0
        self._lock = threading.Lock()
        self._filled = threading.Condition(self._lock)
        self._room = threading.Condition(self._lock)
        self._closed = False

    def __len__(self) -> int:
        """Events that wait."""
        return self._events

    def put(self, work: Work) -> None:
        """Add a call.

        Raises:
            EngineBusy: the queue stayed full.
            EngineClosed: nothing is taken any more.
        """
        with self._lock:
            if self._events and self._events + work.weight > self._max_events:
                self._wait_for_room(work.weight)
            if self._closed:
                raise EngineClosed("engine=<closed> must be open; open the store again")
            self._works.append(work)
            self._events += work.weight
            if len(self._works) == 1:
                self._filled.notify()

    def _wait_for_room(self, weight: int) -> None:
        def fits() -> bool:
            return self._closed or not self._events or self._events + weight <= self._max_events

        if not self._room.wait_for(fits, self._patience_seconds):
            raise EngineBusy(
                f"waiting={self._events} events must be fewer than {self._max_events - weight}; submit more slowly or"
                " raise max_waiting_events"
            )

    def take(self, max_events: int, timeout_seconds: float) -> list[Work]:
        """Whatever has arrived, up to a number of events; waits for the first one, empty when the time is up."""
        with self._lock:
            if not self._works and not self._closed:
                self._filled.wait(timeout_seconds)
            taken: list[Work] = []
            events = 0
            works = self._works
            while works and (not taken or events + works[0].weight <= max_events):
                work = works.popleft()
                events += work.weight
                taken.append(work)
            self._events -= events
            if taken:
                self._room.notify_all()
            return taken

    def refuse(self) -> None:
        """Take nothing more; what waits is still done."""
        with self._lock:
            self._closed = True
            self._filled.notify_all()
            self._room.notify_all()

    def close(self) -> list[Work]:
        """Take nothing more; returns what nobody will do."""
        with self._lock:
            self._closed = True
            left, self._events = list(self._works), 0
            self._works.clear()
            self._filled.notify_all()
            self._room.notify_all()
            return left
