"""The end of the feed, as replay finds it: items are made of the effects that the feed would still keep, and of no others."""

from collections import deque
from dataclasses import dataclass
from typing import Final

from dayfly.engine.durable.effects import Effects
from dayfly.engine.durable.feed import FeedItem, item_count
from dayfly.engine.durable.recovered import Recovered

__all__ = ["FeedKept", "FeedTail"]


@dataclass(frozen=True, slots=True)
class FeedKept:
    """How much the feed keeps: items so young in milliseconds, and at most so many; by default everything."""

    retention_ms: int = 1 << 62
    items: int = 1 << 62


class FeedTail:
    """Feed items of the effects replayed, made at the end, and only those that the feed would keep."""

    def __init__(self, recovered: Recovered, kept: FeedKept) -> None:
        self._standing: Final = recovered.standing
        self._before: Final = recovered.items
        self._kept: Final = kept
        self._effects: deque[tuple[int, Effects]] = deque()
        self._items = 0
        self._whole = True

    def add(self, effects: Effects) -> None:
        """The next frame."""
        count = item_count(effects)
        if not count:
            return
        self._effects.append((count, effects))
        self._items += count
        edge_ms = effects.at_ms - self._kept.retention_ms
        while self._effects and (
            self._effects[0][1].at_ms < edge_ms or self._items - self._effects[0][0] >= self._kept.items
        ):
            self._items -= self._effects.popleft()[0]
            self._whole = False

    def items(self) -> list[FeedItem]:
        """The items, without a hole up to the newest."""
        items = list(self._before) if self._whole else []
        for _, effects in self._effects:
            items += self._standing.items_of(effects)
        return items
