"""Events dated ahead of the clock wait here until their time comes."""

import heapq
from collections.abc import Iterable
from dataclasses import dataclass, field

from dayfly.engine.events import Event
from dayfly.privacy.consent import INT64_MAX

__all__ = ["WaitingRoom"]


@dataclass(slots=True)
class WaitingRoom:
    """Waiting events in order of (time, arrival)."""

    _queue: list[tuple[int, int, Event]] = field(default_factory=list)
    _arrivals: int = 0

    def __len__(self) -> int:
        """How many wait."""
        return len(self._queue)

    @property
    def next_ms(self) -> int:
        """Time of the next one, int64 max when nobody waits."""
        return self._queue[0][0] if self._queue else INT64_MAX

    def add(self, event: Event) -> None:
        """Let an event wait."""
        self._arrivals += 1
        heapq.heappush(self._queue, (event.time_ms, self._arrivals, event))

    def due(self, now_ms: int) -> list[Event]:
        """Take out all whose time has come, in order."""
        found = []
        while self._queue and self._queue[0][0] <= now_ms:
            found.append(heapq.heappop(self._queue)[2])
        return found

    def forget(self, subjects: Iterable[bytes]) -> None:
        """Forget what waits under these pseudonyms."""
        gone = set(subjects)
        self._queue = [item for item in self._queue if item[2].subject not in gone]
        heapq.heapify(self._queue)

    def in_order(self) -> list[Event]:
        """All that wait, in order."""
        return [event for _, _, event in sorted(self._queue, key=lambda item: item[:2])]
