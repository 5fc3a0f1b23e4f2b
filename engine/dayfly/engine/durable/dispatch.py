"""From the engine's feed to delivery: a thread that hands items over, and resumes where delivery stands.

Delivery keeps the position of the last item that it took, in the same transaction as what it made of it. So an item is taken
once, whichever of the two processes' parts ended in between.
"""

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable
from types import TracebackType
from typing import Final, Protocol, Self

from dayfly.engine.delivery import Delivery
from dayfly.engine.durable.feed import Subscription, TagChanged
from dayfly.engine.errors import DeliveryError, EngineClosed, FeedGap

__all__ = ["AT_ONCE", "LOOK_SECONDS", "Dispatcher", "FeedThread", "FragmentFeed"]

AT_ONCE: Final = 256
LOOK_SECONDS: Final = 0.2
"""How long `stop` may have to wait."""


class FragmentFeed(Protocol):
    """What is needed of an `Engine`."""

    def fragments(self, after: int | None = None) -> Subscription:
        """The feed after a position."""
        ...


class FeedThread(ABC):
    """A thread that runs until it is stopped. A context manager.

    Args:
        on_error: Told (in this thread) what ended it other than `stop` or the closing of the engine.
    """

    def __init__(self, on_error: Callable[[BaseException], object]) -> None:
        self._on_error: Final = on_error
        self.stopping: Final = threading.Event()
        self._thread: threading.Thread | None = None

    @abstractmethod
    def run(self) -> None:
        """What the thread does."""

    def __enter__(self) -> Self:
        """Start."""
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Stop."""
        self.stop()

    def start(self) -> None:
        """Run in a thread of its own."""
        self._thread = threading.Thread(target=self._main, name="dayfly-dispatcher", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Finish the items at hand and end."""
        self.stopping.set()
        if self._thread is not None:
            self._thread.join()

    def _main(self) -> None:
        try:
            self.run()
        except Exception as error:  # noqa: BLE001 - handed on whole: a thread has no caller
            self._on_error(error)


class Dispatcher(FeedThread):
    """Gives a `Delivery` the feed of an engine until it is stopped. A context manager: `with Dispatcher(...):` runs it in a thread.

    Where the feed no longer reaches back to what delivery took last, it goes on with the oldest item kept. With a feed kept
    longer than fragments live (as by default) nothing that is alive is passed over: the keys of everything older are
    destroyed, so what a CRM still holds of it can no longer be opened.

    Args:
        engine: Whose feed.
        delivery: Stays open.
        now_ms: The clock.
        on_error: Told (in this thread) what ended it other than `stop` or the closing of the engine.

    Attributes:
        taken: Items handed over.
        gaps: How often the feed did not reach back.
    """

    def __init__(
        self,
        engine: FragmentFeed,
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
        feed = self._subscribed(self._delivery.position)
        while not self.stopping.is_set():
            try:
                self._turn(feed)
            except FeedGap as gap:
                feed = self._after(gap, feed.position)
            except EngineClosed:
                return

    def _turn(self, feed: Subscription) -> None:
        """Take whatever has arrived; what was read is handed over also where the feed ends or has a gap behind it."""
        items = []
        try:
            item = feed.get(LOOK_SECONDS)
            while item is not None:
                if not isinstance(item, TagChanged):
                    items.append(item)
                item = feed.get(0) if len(items) < AT_ONCE and not self.stopping.is_set() else None
        finally:
            if items:
                self._delivery.take(items, now_ms=self._now_ms())
                self.taken += len(items)

    def _subscribed(self, after: int) -> Subscription:
        try:
            return self._engine.fragments(after)
        except FeedGap as gap:
            return self._after(gap, after)

    def _after(self, gap: FeedGap, position: int) -> Subscription:
        """Go on behind a gap."""
        if gap.resume_after < position:
            raise DeliveryError(
                f"position={position} of delivery must not be ahead of the feed's {gap.resume_after}; it belongs to a later"
                " state of the store: remove delivery.db"
            ) from gap
        self.gaps += 1
        return self._engine.fragments(gap.resume_after)
