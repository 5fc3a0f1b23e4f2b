"""From the feeds of all shards to one delivery; see `dayfly.engine.durable.dispatch`.

Delivery numbers what it takes and keeps, in the same transaction, how far each shard's feed was read.
"""

from collections.abc import Callable, Sequence
from typing import Final

import msgspec

from dayfly.engine.delivery import Delivery
from dayfly.engine.durable.dispatch import Deliverable, FeedDispatcher
from dayfly.engine.errors import FeedGap
from dayfly.engine.sharded.engine import ShardedEngine
from dayfly.engine.sharded.feed import Positions, ShardedSubscription

__all__ = ["ShardedDispatcher"]


def _mark(shard: int) -> str:
    return f"shard-{shard:02}"


class ShardedDispatcher(FeedDispatcher[Positions]):
    """Gives a `Delivery` the feeds of a sharded engine; see `FeedDispatcher`.

    Args:
        engine: Whose feeds.
        delivery: Stays open; it serves this engine only.
        now_ms, on_error: As of `FeedDispatcher`.
    """

    def __init__(
        self,
        engine: ShardedEngine,
        delivery: Delivery,
        *,
        now_ms: Callable[[], int],
        on_error: Callable[[BaseException], object],
    ) -> None:
        super().__init__(delivery, now_ms=now_ms, on_error=on_error)
        self._engine: Final = engine

    def _place(self) -> Positions:
        marks = self._delivery.marks
        return tuple(marks.get(_mark(shard), 0) for shard in range(self._engine.shards))

    def _reading(self, after: Positions) -> ShardedSubscription:
        return self._engine.fragments(after)

    def _behind(self, gap: FeedGap, place: Positions) -> Positions | None:
        resume = gap.resume_positions
        return None if any(there < here for there, here in zip(resume, place, strict=True)) else resume

    def _deliver(self, items: Sequence[Deliverable], place: Positions) -> None:
        first = self._delivery.position + 1
        numbered = [msgspec.structs.replace(item, position=first + at) for at, item in enumerate(items)]
        marks = {_mark(shard): position for shard, position in enumerate(place)}
        self._delivery.take(numbered, now_ms=self._now_ms(), marks=marks)
