"""The router's thread: takes whatever has arrived, reads payloads, and sends each shard its part."""

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Final

from dayfly.engine.durable.clock import SteadyClock
from dayfly.engine.durable.input_frames import encode_inputs
from dayfly.engine.durable.loop import groups_of
from dayfly.engine.durable.work import Work, WorkQueue
from dayfly.engine.events import EventBatch
from dayfly.engine.inputs import Input
from dayfly.engine.intake import Intake, IntakeResult, RejectedEvent
from dayfly.engine.policy.model import Policy
from dayfly.engine.sharded.clients import Port
from dayfly.engine.sharded.router import Router

__all__ = ["Desk", "ShardedReceipt"]

_WAIT_SECONDS: Final = 0.1


@dataclass(frozen=True, slots=True)
class ShardedReceipt:
    """A submission that is durable in every shard that has a part of it.

    Attributes:
        positions: Log position by shard number, of those that have a part.
        received_ms, payloads, dead_letters: As of `Receipt`.
    """

    positions: dict[int, int]
    received_ms: int
    payloads: int
    dead_letters: tuple[RejectedEvent, ...] = ()


class Desk:
    """Runs works in order.

    Args:
        ports: The shards.
        router: Over them.
        queue: Calls.
        clock: Time.
        max_events: Most events read at once.
    """

    def __init__(
        self, ports: Sequence[Port], router: Router, queue: WorkQueue, clock: SteadyClock, max_events: int
    ) -> None:
        self.router: Final = router
        self.intake: Intake
        self.policy: Policy
        self._ports: Final = ports
        self._queue: Final = queue
        self._clock: Final = clock
        self._max_events: Final = max_events
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="dayfly-router", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """Finish what waits and end the thread."""
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.is_set() or len(self._queue):
            for group in groups_of(self._queue.take(self._max_events, _WAIT_SECONDS)):
                try:
                    self._do(group)
                except Exception as error:  # noqa: BLE001 - the callers get it, others go on
                    for work in group:
                        if not work.future.done():
                            work.future.set_exception(error)

    def _do(self, group: Sequence[Work]) -> None:
        now_ms = self._clock()
        if group[0].run is None:
            self._payloads(group, now_ms)
            return
        (work,) = group
        assert work.run is not None
        done = work.run(now_ms)
        if isinstance(done, Future):
            done.add_done_callback(lambda future: _pass_on(future, work.future))
        else:
            work.future.set_result(done)

    def _payloads(self, group: Sequence[Work], now_ms: int) -> None:
        payloads = [payload for work in group for payload in work.payloads]
        result = self.intake.segment(payloads, group[0].channel, now_ms)
        dead = [
            (int(one.place.removeprefix("payload ").partition(",")[0]), one) for one in result.dead_letters
        ]

        def receipts(positions: dict[int, int]) -> None:
            start = 0
            for work in group:
                end = start + len(work.payloads)
                mine = tuple(letter for at, letter in dead if start <= at < end)
                work.future.set_result(ShardedReceipt(positions, now_ms, len(work.payloads), mine))
                start = end

        def failed(error: BaseException) -> None:
            for work in group:
                work.future.set_exception(error)

        self.send(result, now_ms, receipts, failed)

    def send(
        self,
        result: IntakeResult,
        now_ms: int,
        done: Callable[[dict[int, int]], object],
        failed: Callable[[BaseException], object],
    ) -> None:
        """Send every shard its part of an intake result; `done` is told the log positions when all are durable."""
        if result.merges:
            self.router.bring_together(((item.subject, item.other) for item in result.merges), now_ms)
        parts = dict(self.router.split(result.batch, self.policy.catalog))
        merges: dict[int, list[Input]] = {}
        for item in result.merges:
            merges.setdefault(self.router.routes.home(item.subject), []).append(item)
        letters = result.dead_letters
        shards = sorted({*parts, *merges}) or ([0] if letters else [])
        none = EventBatch.from_events([], self.policy.catalog)
        waiting = _Together(len(shards), done, failed)
        for shard in shards:
            inputs: list[Input] = [parts.get(shard, none), *merges.get(shard, [])]
            future = self._ports[shard].client.call("take", encode_inputs(inputs, now_ms), letters)
            waiting.add(shard, future)
            letters = ()


class _Together:
    """Waits for the parts of one submission."""

    def __init__(
        self,
        parts: int,
        done: Callable[[dict[int, int]], object],
        failed: Callable[[BaseException], object],
    ) -> None:
        self._left = parts
        self._done = done
        self._failed = failed
        self._positions: dict[int, int] = {}
        self._error: BaseException | None = None
        self._lock = threading.Lock()
        if not parts:
            done({})

    def add(self, shard: int, future: "Future[Any]") -> None:
        """One more part."""
        future.add_done_callback(lambda answered: self._answered(shard, answered))

    def _answered(self, shard: int, future: "Future[Any]") -> None:
        with self._lock:
            error = future.exception()
            if error is None:
                self._positions[shard] = future.result()
            self._error = self._error or error
            self._left -= 1
            if self._left:
                return
        if self._error is not None:
            self._failed(self._error)
        else:
            self._done(self._positions)


def _pass_on(source: "Future[Any]", target: "Future[Any]") -> None:
    error = source.exception()
    if error is None:
        target.set_result(source.result())
    else:
        target.set_exception(error)
