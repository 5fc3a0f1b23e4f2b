"""The feed: minted fragments, recalls and ends (and tag changes, where asked for), each once and in order, with a position.

Items are published when the frame that states them is durable, never before. A consumer remembers the position of the last
item it handled and goes on after it, also after a crash: positions are part of the log.
"""

import threading
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator
from itertools import count
from types import TracebackType
from typing import Final, Self, TypeAlias

import msgspec

from dayfly.engine.decisions import TagChange
from dayfly.engine.delivery.items import FragmentEnded, FragmentReady, FragmentRecalled
from dayfly.engine.durable.effects import Effects
from dayfly.engine.errors import EngineClosed, FeedGap

__all__ = ["Feed", "FeedItem", "Listening", "Subscription", "TagChanged", "item_count", "items_of"]


class TagChanged(msgspec.Struct, frozen=True, kw_only=True, gc=False, tag="tag"):
    """A person entered or left a tag."""

    position: int
    at_ms: int
    change: TagChange


FeedItem: TypeAlias = FragmentReady | FragmentRecalled | FragmentEnded | TagChanged
"""One decision, with its position (1, 2, 3, ... over the life of the store) and the instant of its turn."""


def items_of(effects: Effects, series: Callable[[bytes, str], bytes]) -> list[FeedItem]:
    """Feed items that a frame of effects stands for: tags, fragments, recalls, ends.

    Args:
        effects: The frame.
        series: Keyed digest of a subject and a trigger: fragments of one series replace each other by version.
    """
    at_ms = effects.at_ms
    numbers = count(effects.first_item)
    items: list[FeedItem] = [
        TagChanged(position=next(numbers), at_ms=at_ms, change=change) for change in effects.tags
    ]
    items += [
        FragmentReady(
            position=next(numbers),
            at_ms=at_ms,
            jti=minted.jti,
            order_id=minted.order.order_id,
            audience=minted.order.audience,
            version=minted.order.version,
            token=minted.token,
            expires_at_ms=minted.exp * 1000,
            subject_digest=series(minted.order.subject, minted.order.rule.id),
        )
        for minted in effects.minted
    ]
    items += [
        FragmentRecalled(
            position=next(numbers),
            at_ms=at_ms,
            audience=recall.audience,
            reason=recall.reason,
            order_ids=recall.order_ids,
        )
        for recall in effects.recalled
    ]
    items += [
        FragmentEnded(
            position=next(numbers),
            at_ms=at_ms,
            jti=ended.jti,
            audience=ended.audience,
            reason=ended.reason,
            leases=ended.leases,
        )
        for ended in effects.ended
    ]
    return items


def item_count(effects: Effects) -> int:
    """How many items a frame of effects stands for."""
    return len(effects.tags) + len(effects.minted) + len(effects.recalled) + len(effects.ended)


class Feed:
    """Items of the recent past, and everybody who waits for more. Thread-safe.

    Args:
        next_position: Position of the next item.
        retention_ms: Items older than this are let go.
        max_items: Most items kept.
    """

    def __init__(
        self, *, next_position: int = 1, retention_ms: int = 3_600_000, max_items: int = 1_000_000
    ) -> None:
        self._retention_ms: Final = retention_ms
        self._max_items: Final = max_items
        self._items: deque[FeedItem] = deque()
        self._next = next_position
        self._changed = threading.Condition()
        self._listeners: tuple[Listening, ...] = ()
        self._closed = False

    @property
    def newest(self) -> int:
        """Position of the newest item, 0 when there was none."""
        return self._next - 1

    @property
    def oldest(self) -> int:
        """Position of the oldest item still kept; `newest + 1` when none is."""
        with self._changed:
            return self._items[0].position if self._items else self._next

    def publish(self, items: Iterable[FeedItem]) -> None:
        """Add durable items, in order; items known already are passed over."""
        with self._changed:
            fresh = [item for item in items if item.position >= self._next]
            self._items.extend(fresh)
            if fresh:
                self._next = fresh[-1].position + 1
            self._let_go()
            self._changed.notify_all()
            listeners = self._listeners
        for listener in listeners:
            listener.tell(fresh)

    def _let_go(self) -> None:
        items = self._items
        if not items:
            return
        edge_ms = items[-1].at_ms - self._retention_ms
        while len(items) > self._max_items or items[0].at_ms < edge_ms:
            items.popleft()

    def __len__(self) -> int:
        """Items kept."""
        return len(self._items)

    def kept(self) -> tuple[FeedItem, ...]:
        """All items kept, oldest first."""
        with self._changed:
            return tuple(self._items)

    def forget(self, subjects: Collection[bytes]) -> None:
        """Take persons out of the tag changes kept; their positions stay."""
        with self._changed:
            for index, item in enumerate(self._items):
                if isinstance(item, TagChanged) and item.change.subject in subjects:
                    blank = TagChange(item.change.sequence, item.at_ms, b"", "", "leave", reason="erased")
                    self._items[index] = TagChanged(position=item.position, at_ms=item.at_ms, change=blank)

    def subscribe(self, after: int | None = None) -> "Subscription":
        """Items after a position, then new ones as they come.

        Args:
            after: Position of the last item handled; 0: everything kept from the very first; None: only new ones.

        Raises:
            FeedGap: items between `after` and the oldest kept are gone.
        """
        start = self.newest if after is None else after
        self._check(start)
        return Subscription(self, start)

    def listen(self, hear: Callable[[FeedItem], object], after: int | None = None) -> "Listening":
        """Have a function called with items after a position, then with each new one; see `Engine.listen`.

        Raises:
            FeedGap: items between `after` and the oldest kept are gone.
        """
        with self._changed:
            start = self.newest if after is None else after
            self._check(start)
            listening = Listening(self, hear, start)
            listening.tell(self._items)
            self._listeners = (*self._listeners, listening)
        return listening

    def leave(self, listening: "Listening") -> None:
        """Tell a listener nothing more."""
        with self._changed:
            self._listeners = tuple(other for other in self._listeners if other is not listening)

    def _check(self, after: int) -> None:
        with self._changed:
            oldest = self._items[0].position if self._items else self._next
            if not 0 <= after < self._next:
                raise FeedGap(
                    f"after={after} must be a position from 0 to {self._next - 1}; pass the last one you handled",
                    resume_after=self._next - 1,
                )
            if after + 1 < oldest:
                raise FeedGap(
                    f"after={after} must be at least {oldest - 1}, older items are gone; fetch live fragments anew and"
                    f" subscribe after={oldest - 1}",
                    resume_after=oldest - 1,
                )

    def take(self, after: int, limit: int, timeout_seconds: float | None) -> list[FeedItem]:
        """Up to `limit` items after a position; waits for the first one, empty when the time is up.

        Raises:
            FeedGap: items in between are gone.
            EngineClosed: the engine was closed and nothing more will come.
        """
        with self._changed:
            ready = self._changed.wait_for(lambda: self._closed or self._next > after + 1, timeout_seconds)
            if not ready:
                return []
            if self._next <= after + 1:
                raise EngineClosed(
                    "engine=<closed> must be open; open the store again and subscribe after the last position"
                )
            oldest = self._items[0].position if self._items else self._next
            if after + 1 < oldest:
                raise FeedGap(
                    f"after={after} must be at least {oldest - 1}, older items are gone; fetch live fragments anew and"
                    f" subscribe after={oldest - 1}",
                    resume_after=oldest - 1,
                )
            start = after + 1 - oldest
            return [self._items[index] for index in range(start, min(start + limit, len(self._items)))]

    def close(self) -> None:
        """Wake everybody who waits."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()


class Listening:
    """A function that is called with each item. Made by `Feed.listen`.

    Attributes:
        position: Of the last item that it was called with; store it with what you did, and listen after it next time.
        error: What the function raised, None when nothing: it is not called any more then.
    """

    def __init__(self, feed: Feed, hear: Callable[[FeedItem], object], after: int) -> None:
        self._feed = feed
        self._hear: Callable[[FeedItem], object] | None = hear
        self.position = after
        self.error: Exception | None = None

    def tell(self, items: Iterable[FeedItem]) -> None:
        """Call the function with the items behind `position`, in order."""
        for item in items:
            if self._hear is None:
                return
            if item.position <= self.position:
                continue
            try:
                self._hear(item)
            except Exception as error:  # noqa: BLE001 - a consumer's mistake must not fail the log
                self.error = error
                self.close()
                return
            self.position = item.position

    def close(self) -> None:
        """Call it no more; it may still be in a call on another thread."""
        self._hear = None
        self._feed.leave(self)

    def __enter__(self) -> Self:
        """The listening itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close."""
        self.close()


class Subscription:
    """One consumer's place in the feed. An iterator that ends when the engine is closed; use it from one thread.

    Attributes:
        position: Of the last item handed out; store it with what you did, and subscribe after it next time.
    """

    def __init__(self, feed: Feed, after: int) -> None:
        self._feed = feed
        self._ahead: deque[FeedItem] = deque()
        self._stopped = False
        self.position = after

    def get(self, timeout_seconds: float | None = None) -> FeedItem | None:
        """The next item; None when none came in time.

        Raises:
            FeedGap: the consumer was so slow that items it has not seen are gone.
            EngineClosed: nothing more will come.
        """
        if not self._ahead:
            after = self.position
            self._ahead.extend(self._feed.take(after, 256, timeout_seconds))
        if not self._ahead:
            return None
        item = self._ahead.popleft()
        self.position = item.position
        return item

    def __iter__(self) -> Iterator[FeedItem]:
        """Items until the engine is closed."""
        while not self._stopped:
            try:
                item = self.get()
            except EngineClosed:
                return
            if item is not None:
                yield item

    def close(self) -> None:
        """End the iteration."""
        self._stopped = True

    def __enter__(self) -> Self:
        """The subscription itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close."""
        self.close()
