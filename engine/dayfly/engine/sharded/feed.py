"""The feeds of all shards as one: each item once, with a position per shard.

Items of one person come from one shard in its order, until the person moves. Between shards there is no order but time.
"""

import queue
import threading
from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import Final, Self, TypeAlias

from dayfly.engine.durable.feed import FeedItem
from dayfly.engine.errors import EngineClosed, EngineError, FeedGap
from dayfly.engine.sharded.clients import Client
from dayfly.privacy.errors import InvalidArgument

__all__ = ["Positions", "ShardedSubscription", "subscribe"]

Positions: TypeAlias = tuple[int, ...]
"""Position of the last item handled, for each shard. Opaque to a consumer: store it, and subscribe after it next time."""

_LIMIT: Final = 256
_WAIT_SECONDS: Final = 0.5


def subscribe(clients: Sequence[Client], after: Positions | None) -> "ShardedSubscription":
    """As `ShardedEngine.fragments`."""
    if after is None:
        after = tuple(future.result() for future in [client.call("newest") for client in clients])
    if len(after) != len(clients):
        raise InvalidArgument(
            f"after={after!r} must have {len(clients)} positions; pass the position of a subscription"
        )
    resume, gap = list(after), None
    for number, (client, position) in enumerate(zip(clients, after, strict=True)):
        error = client.call("check", position).exception()
        if isinstance(error, FeedGap):
            resume[number], gap = error.resume_after, gap or error
        elif error is not None:
            raise error
    if gap is not None:
        raise _gap(gap, tuple(resume)) from gap
    return ShardedSubscription(clients, after)


def _gap(gap: FeedGap, resume: Positions) -> FeedGap:
    return FeedGap(str(gap), resume_after=gap.resume_after, resume_positions=resume)


class ShardedSubscription:
    """One consumer's place in the feeds of all shards; use it from one thread.

    Attributes:
        position: Of the last items handed out.
        shard: That the last item came from.
    """

    def __init__(self, clients: Sequence[Client], after: Positions) -> None:
        self.position: Positions = after
        self.shard = 0
        self._ready: queue.Queue[tuple[int, FeedItem | Exception]] = queue.Queue(len(clients) * _LIMIT)
        self._stopped = threading.Event()
        for shard, client in enumerate(clients):
            threading.Thread(
                target=self._pull, args=(shard, client, after[shard]), name="dayfly-feed", daemon=True
            ).start()

    def _pull(self, shard: int, client: Client, after: int) -> None:
        try:
            while not self._stopped.is_set():
                for item in client.call("feed", after, _LIMIT, _WAIT_SECONDS).result():
                    after = item.position
                    self._hand_over(shard, item)
        except Exception as error:  # noqa: BLE001 - the consumer gets it
            self._hand_over(shard, error)

    def _hand_over(self, shard: int, item: FeedItem | Exception) -> None:
        while not self._stopped.is_set():
            try:
                self._ready.put((shard, item), timeout=_WAIT_SECONDS)
            except queue.Full:
                continue
            return

    def get(self, timeout_seconds: float | None = None) -> FeedItem | None:
        """The next item; None when none came in time.

        Raises:
            FeedGap: the consumer was so slow that items it has not seen are gone.
            EngineFailed: a shard has failed.
            EngineClosed: nothing more will come.
        """
        try:
            shard, item = self._ready.get(timeout=timeout_seconds)
        except queue.Empty:
            return None
        if isinstance(item, FeedGap):
            raise _gap(item, self._with(shard, item.resume_after)) from item
        if isinstance(item, EngineError):
            raise item
        if isinstance(item, Exception):
            raise EngineClosed(f"engine=<closed> must be open: {item}") from item
        self.shard = shard
        self.position = self._with(shard, item.position)
        return item

    def _with(self, shard: int, position: int) -> Positions:
        return (*self.position[:shard], position, *self.position[shard + 1 :])

    def __iter__(self) -> Iterator[FeedItem]:
        """Items until the engine is closed."""
        while not self._stopped.is_set():
            try:
                item = self.get(_WAIT_SECONDS)
            except EngineClosed:
                return
            if item is not None:
                yield item

    def close(self) -> None:
        """End the iteration."""
        self._stopped.set()

    def __enter__(self) -> Self:
        """The subscription itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close."""
        self.close()
