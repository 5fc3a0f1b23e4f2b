"""From the feeds of all shards to one delivery; see `dayfly.engine.durable.dispatch`.

Delivery numbers what it takes and keeps, in the same transaction, how far each shard's feed was read.
"""

from collections.abc import Callable
from typing import Final

import msgspec

from dayfly.engine.delivery import Delivery
from dayfly.engine.delivery.items import FragmentEnded, FragmentReady, FragmentRecalled
from dayfly.engine.durable.dispatch import AT_ONCE, LOOK_SECONDS, FeedThread
from dayfly.engine.durable.feed import TagChanged
from dayfly.engine.errors import DeliveryError, EngineClosed, FeedGap
from dayfly.engine.sharded.engine import ShardedEngine
from dayfly.engine.sharded.feed import Positions, ShardedSubscription

__all__ = ["ShardedDispatcher"]


def _mark(shard: int) -> str:
    return f"shard-{shard:02}"


class ShardedDispatcher(FeedThread):
    """Gives a `Delivery` the feeds of a sharded engine until it is stopped; otherwise as `Dispatcher`.

    Args:
        engine: Whose feeds.
        delivery: Stays open; it serves this engine only.
        now_ms: The clock.
        on_error: Told (in this thread) what ended it other than `stop` or the closing of the engine.

    Attributes:
        taken: Items handed over.
        gaps: How often a feed did not reach back.
    """

    def __init__(
        self,
        engine: ShardedEngine,
        delivery: Delivery,
        *,
        now_ms: Callable[[], int],
        on_error: Callable[[BaseException], object],
    ) -> None:
        super().__init__(on_error)
        self._engine: Final = engine
        self._delivery: Final = delivery
        self._now_ms: Final = now_ms
        self.taken = 0
        self.gaps = 0

    def run(self) -> None:
        """Hand over until stopped or until the engine is closed, for callers with a thread of their own.

        Raises:
            DeliveryError: delivery cannot go on, or has taken items that this engine never gave.
        """
        marks = self._delivery.marks
        feed = self._subscribed(tuple(marks.get(_mark(shard), 0) for shard in range(self._engine.shards)))
        while not self.stopping.is_set():
            try:
                self._turn(feed)
            except FeedGap as gap:
                feed.close()
                feed = self._after(gap, feed.position)
            except EngineClosed:
                return
        feed.close()

    def _turn(self, feed: ShardedSubscription) -> None:
        """Take whatever has arrived; what was read is handed over also where the feed ends or has a gap behind it."""
        items: list[FragmentReady | FragmentRecalled | FragmentEnded] = []
        next_position = self._delivery.position + 1
        try:
            item = feed.get(LOOK_SECONDS)
            while item is not None:
                if not isinstance(item, TagChanged):
                    items.append(msgspec.structs.replace(item, position=next_position + len(items)))
                item = feed.get(0) if len(items) < AT_ONCE and not self.stopping.is_set() else None
        finally:
            if items:
                marks = {_mark(shard): position for shard, position in enumerate(feed.position)}
                self._delivery.take(items, now_ms=self._now_ms(), marks=marks)
                self.taken += len(items)

    def _subscribed(self, after: Positions) -> ShardedSubscription:
        try:
            return self._engine.fragments(after)
        except FeedGap as gap:
            return self._after(gap, after)

    def _after(self, gap: FeedGap, position: Positions) -> ShardedSubscription:
        """Go on behind a gap."""
        resume = gap.resume_positions
        if any(there < here for there, here in zip(resume, position, strict=True)):
            raise DeliveryError(
                f"positions={position} of delivery must not be ahead of the feed's {resume}; they belong to a later state of"
                " the store: remove delivery.db"
            ) from gap
        self.gaps += 1
        return self._engine.fragments(resume)
