"""From the engine's feed to delivery: a thread that hands items over, and resumes where delivery stands.

Delivery keeps the position of the last item that it took, in the same transaction as what it made of it. So an item is taken
once, whichever of the two processes' parts ended in between.
"""

from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import Final, Generic, Protocol, TypeAlias, TypeVar

from dayfly.engine.delivery import Delivery
from dayfly.engine.delivery.background import Background
from dayfly.engine.delivery.items import FragmentEnded, FragmentReady, FragmentRecalled
from dayfly.engine.durable.feed import FeedItem, Subscription, TagChanged
from dayfly.engine.errors import DeliveryError, EngineClosed, FeedGap

__all__ = ["AT_ONCE", "Deliverable", "Dispatcher", "FeedDispatcher", "FragmentFeed"]

PlaceT = TypeVar("PlaceT")

Deliverable: TypeAlias = FragmentReady | FragmentRecalled | FragmentEnded
"""What of a feed is delivered."""

AT_ONCE: Final = 256
_LOOK_SECONDS: Final = 0.2
"""How long `stop` may have to wait."""


class FragmentFeed(Protocol):
    """What is needed of an `Engine`."""

    def fragments(self, after: int | None = None) -> Subscription:
        """The feed after a position."""
        ...


class Reading(Protocol[PlaceT]):
    """What is needed of a subscription."""

    position: PlaceT

    def get(self, timeout_seconds: float | None = None) -> FeedItem | None:
        """The next item; None when none came in time."""
        ...

    def close(self) -> None:
        """Read no more."""
        ...


class FeedDispatcher(Background, Generic[PlaceT]):
    """Gives a `Delivery` a feed until it is stopped. A context manager: `with` runs it in a thread.

    Where the feed no longer reaches back to what delivery took last, it goes on with the oldest item kept. With a feed kept
    longer than fragments live (as by default) nothing that is alive is passed over: the keys of everything older are
    destroyed, so what a CRM still holds of it can no longer be opened.

    Args:
        delivery: Stays open.
        now_ms: The clock.
        on_error: Told (in this thread) what ended it other than `stop` or the closing of the engine.

    Attributes:
        taken: Items handed over.
        gaps: How often the feed did not reach back.
    """

    def __init__(
        self,
        delivery: Delivery,
        *,
        now_ms: Callable[[], int],
        on_error: Callable[[BaseException], object],
    ) -> None:
        super().__init__("dayfly-dispatcher", on_error)
        self._delivery: Final = delivery
        self._now_ms: Final = now_ms
        self.taken = 0
        self.gaps = 0

    @abstractmethod
    def _place(self) -> PlaceT:
        """Where delivery stands in the feed."""

    @abstractmethod
    def _reading(self, after: PlaceT) -> Reading[PlaceT]:
        """The feed behind a place. Raises `FeedGap`."""

    @abstractmethod
    def _behind(self, gap: FeedGap, place: PlaceT) -> PlaceT | None:
        """Where the feed goes on behind a gap; None where that is before `place`."""

    @abstractmethod
    def _deliver(self, items: Sequence[Deliverable], place: PlaceT) -> None:
        """Give delivery items, the last of which stands at `place`."""

    def work(self) -> None:
        """As `run`."""
        self.run()

    def run(self) -> None:
        """Hand over until stopped or until the engine is closed, for callers with a thread of their own.

        Raises:
            DeliveryError: delivery cannot go on, or has taken items that this engine never gave.
        """
        feed = self._begun(self._place())
        while not self.stopping.is_set():
            try:
                self._turn(feed)
            except FeedGap as gap:
                feed.close()
                feed = self._after(gap, feed.position)
            except EngineClosed:
                return
        feed.close()

    def _turn(self, feed: Reading[PlaceT]) -> None:
        """Take whatever has arrived; what was read is handed over also where the feed ends or has a gap behind it."""
        items: list[Deliverable] = []
        try:
            item = feed.get(_LOOK_SECONDS)
            while item is not None:
                if not isinstance(item, TagChanged):
                    items.append(item)
                item = feed.get(0) if len(items) < AT_ONCE and not self.stopping.is_set() else None
        finally:
            if items:
                self._deliver(items, feed.position)
                self.taken += len(items)

    def _begun(self, after: PlaceT) -> Reading[PlaceT]:
        try:
            return self._reading(after)
        except FeedGap as gap:
            return self._after(gap, after)

    def _after(self, gap: FeedGap, place: PlaceT) -> Reading[PlaceT]:
        """Go on behind a gap."""
        resume = self._behind(gap, place)
        if resume is None:
            raise DeliveryError(
                f"position={place} of delivery must not be ahead of the feed's"
                f" {gap.resume_positions or gap.resume_after}; it belongs to a later state of the store: remove delivery.db"
            ) from gap
        self.gaps += 1
        return self._reading(resume)


class Dispatcher(FeedDispatcher[int]):
    """Gives a `Delivery` the feed of an engine; see `FeedDispatcher`.

    Args:
        engine: Whose feed.
        delivery, now_ms, on_error: As of `FeedDispatcher`.
    """

    def __init__(
        self,
        engine: FragmentFeed,
        delivery: Delivery,
        *,
        now_ms: Callable[[], int],
        on_error: Callable[[BaseException], object],
    ) -> None:
        super().__init__(delivery, now_ms=now_ms, on_error=on_error)
        self._engine: Final = engine

    def _place(self) -> int:
        return self._delivery.position

    def _reading(self, after: int) -> Subscription:
        return self._engine.fragments(after)

    def _behind(self, gap: FeedGap, place: int) -> int | None:
        return None if gap.resume_after < place else gap.resume_after

    def _deliver(self, items: Sequence[Deliverable], place: int) -> None:  # noqa: ARG002 - items bear their positions
        self._delivery.take(items, now_ms=self._now_ms())
