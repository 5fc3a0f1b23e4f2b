"""The router's thread: takes whatever has arrived, reads payloads, and sends each shard its part."""

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from dayfly.engine.durable.clock import SteadyClock
from dayfly.engine.durable.cutting import fitting
from dayfly.engine.durable.input_frames import encode_inputs
from dayfly.engine.durable.loop import groups_of
from dayfly.engine.durable.places import Letters, ends_of, in_submissions
from dayfly.engine.durable.release import Answer
from dayfly.engine.durable.running import UPKEEP_MS
from dayfly.engine.durable.work import Work, WorkQueue
from dayfly.engine.errors import EngineFailed
from dayfly.engine.events import EventBatch
from dayfly.engine.inputs import Input
from dayfly.engine.intake import Intake, IntakeResult, RejectedEvent
from dayfly.engine.policy.model import Policy
from dayfly.engine.sharded.clients import Port
from dayfly.engine.sharded.router import Pair, Router

__all__ = ["Desk", "Limits", "ShardedReceipt"]

_WAIT_SECONDS: Final = 0.1


@dataclass(frozen=True, slots=True)
class ShardedReceipt:
    """A submission that is durable in every shard that has a part of it.

    Attributes:
        positions: Log position by shard number, of those that have a part.
        received_ms, payloads, dead_letters: As of `Receipt`.
    """

    positions: Mapping[int, int]
    received_ms: int
    payloads: int
    dead_letters: tuple[RejectedEvent, ...] = ()


@dataclass(frozen=True, slots=True)
class Limits:
    """How much the router takes at once.

    Attributes:
        batch_events: Most events read at once.
        waiting_events: Most events on their way to one shard.
        frame_bytes: Most bytes of a frame of a shard's log.
    """

    batch_events: int
    waiting_events: int
    frame_bytes: int


class Desk:
    """Runs works in order.

    Args:
        ports: The shards.
        router: Over them.
        queue: Calls.
        clock: Time.
        limits: Sizes.
        upkeep: Called from time to time with the instant.

    Attributes:
        failure: What ended it; None while it runs. Without one of its shards, or after a move or a publication that was cut
            short, the engine cannot go on until the store is opened again.
    """

    def __init__(
        self,
        ports: Sequence[Port],
        router: Router,
        queue: WorkQueue,
        clock: SteadyClock,
        limits: Limits,
        *,
        upkeep: Callable[[int], object],
    ) -> None:
        self.router: Final = router
        self.intake: Intake
        self.policy: Policy
        self.failure: EngineFailed | None = None
        self._ports: Final = ports
        self._queue: Final = queue
        self._clock: Final = clock
        self._limits: Final = limits
        self._upkeep: Final = upkeep
        self._next_upkeep_ms = 0
        self._room: Final = [_Room(limits.waiting_events) for _ in ports]
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="dayfly-router", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """Finish what waits and end the thread."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()

    @property
    def waiting(self) -> int:
        """Events that wait for the router, or are on their way to a shard."""
        return len(self._queue) + sum(room.events for room in self._room)

    # --- the thread -----------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        while self.failure is None and (not self._stop.is_set() or len(self._queue)):
            works = self._queue.take(self._limits.batch_events, _WAIT_SECONDS)
            now_ms = self._clock()
            for group in groups_of(works):
                self._answer(group, now_ms)
            if now_ms >= self._next_upkeep_ms:
                self._next_upkeep_ms = now_ms + UPKEEP_MS
                self._upkeep(now_ms)
        if self.failure is not None:
            for work in self._queue.close():
                Answer(work.future, error=self.failure).give()

    def _answer(self, group: Sequence[Work], now_ms: int) -> None:
        """Do a group; what goes wrong is told to its callers, and others go on."""
        try:
            self._check()
            if group[0].run is None:
                self._payloads(group, now_ms)
            else:
                self._one(group[0], group[0].run, now_ms)
        except BaseException as error:  # noqa: BLE001 - the callers get it
            for work in group:
                if not work.future.done():
                    Answer(work.future, error=error).give()

    def _check(self) -> None:
        if self.failure is not None:
            raise EngineFailed(str(self.failure)) from self.failure

    @staticmethod
    def _one(work: Work, run: Callable[[int], object], now_ms: int) -> None:
        done = run(now_ms)
        if isinstance(done, Future):
            done.add_done_callback(partial(_pass_on, work.future))
        else:
            Answer(work.future, done).give()

    def fatal(self, error: BaseException) -> None:
        """Take nothing more; from any thread."""
        if self.failure is None:
            self.failure = EngineFailed(
                f"engine=<failed> must be opened again: {type(error).__name__}: {error}; what was acknowledged is safe on disk"
            )
            self.failure.__cause__ = error

    # --- events ---------------------------------------------------------------------------------------------------------

    def _payloads(self, group: Sequence[Work], now_ms: int) -> None:
        payloads = [payload for work in group for payload in work.payloads]
        read = partial(self.intake.segment, channel=group[0].channel, received_ms=now_ms)
        ends = ends_of(group)
        results: list[IntakeResult] = []
        dead: Letters = []
        for start, found in list(fitting(read, payloads, self._limits.frame_bytes)):
            result, letters = in_submissions(found, start, ends)
            results.append(result)
            dead += letters
        sent = self.send(results, now_ms)
        sent.add_done_callback(lambda future: _give_receipts(group, future, now_ms, dead))

    def send(self, results: Iterable[IntakeResult], now_ms: int) -> "Future[Mapping[int, int]]":
        """Send every shard its part of intake results; the log positions by shard, when all parts are durable."""
        together = _Together()
        for result in results:
            self._send(result, now_ms, together)
        together.complete()
        return together.done

    def _send(self, result: IntakeResult, now_ms: int, together: "_Together") -> None:
        if result.merges:
            self.bring_together([(item.subject, item.other) for item in result.merges], now_ms)
        parts = dict(self._split(result.batch))
        merges: dict[int, list[Input]] = {}
        for item in result.merges:
            merges.setdefault(self.router.routes.home(item.subject), []).append(item)
        letters = result.dead_letters
        for shard in sorted({*parts, *merges}) or ([0] if letters else []):
            part = parts.get(shard)
            if part is None:
                part = EventBatch.from_events([], self.policy.catalog)
            room, weight = self._room[shard], max(1, len(part))
            room.take(weight)
            data = encode_inputs([part, *merges.get(shard, [])], now_ms)
            future = self._ports[shard].client.call("take", data, letters)
            future.add_done_callback(partial(room.give_back, weight))
            future.add_done_callback(self._seen_failing)
            together.add(shard, future)
            letters = ()

    def _seen_failing(self, future: "Future[Any]") -> None:
        """A shard that has failed ends the engine: its persons may be linked with anybody."""
        error = future.exception()
        if isinstance(error, EngineFailed):
            self.fatal(error)

    def _split(self, batch: EventBatch) -> list[tuple[int, EventBatch]]:
        try:
            return self.router.split(batch, self.policy.catalog)
        except BaseException as error:
            self.fatal(error)
            raise

    def bring_together(self, pairs: Iterable[Pair], now_ms: int) -> None:
        """As `Router.bring_together`; when it fails, nothing more is taken: somebody may be on the way."""
        try:
            self.router.bring_together(pairs, now_ms)
        except BaseException as error:
            self.fatal(error)
            raise


class _Room:
    """Events on their way to one shard."""

    def __init__(self, most: int) -> None:
        self._most: Final = most
        self.events = 0
        self._changed: Final = threading.Condition()

    def take(self, events: int) -> None:
        """Wait until there is room."""
        with self._changed:
            self._changed.wait_for(lambda: not self.events or self.events + events <= self._most)
            self.events += events

    def give_back(self, events: int, _: object) -> None:
        """They are answered."""
        with self._changed:
            self.events -= events
            self._changed.notify()


class _Together:
    """The parts of one submission."""

    def __init__(self) -> None:
        self.done: Final[Future[Mapping[int, int]]] = Future()
        self._left = 1  # `complete` is the last one
        self._positions: dict[int, int] = {}
        self._error: BaseException | None = None
        self._lock = threading.Lock()

    def add(self, shard: int, future: "Future[Any]") -> None:
        """One more part."""
        with self._lock:
            self._left += 1
        future.add_done_callback(partial(self._answered, shard))

    def complete(self) -> None:
        """All parts were added."""
        self._one_less()

    def _answered(self, shard: int, future: "Future[Any]") -> None:
        error = future.exception()
        with self._lock:
            if error is None:
                self._positions[shard] = max(self._positions.get(shard, 0), future.result())
            self._error = self._error or error
        self._one_less()

    def _one_less(self) -> None:
        with self._lock:
            self._left -= 1
            if self._left:
                return
        if self._error is not None:
            self.done.set_exception(self._error)
        else:
            self.done.set_result(self._positions)


def _give_receipts(
    group: Sequence[Work],
    sent: "Future[Mapping[int, int]]",
    now_ms: int,
    dead: Letters,
) -> None:
    error = sent.exception()
    for number, work in enumerate(group):
        if error is not None:
            Answer(work.future, error=error).give()
            continue
        mine = tuple(letter for which, letter in dead if which == number) if dead else ()
        receipt = ShardedReceipt(sent.result(), now_ms, len(work.payloads), mine)
        Answer(work.future, receipt).give()


def _pass_on(target: "Future[Any]", source: "Future[Any]") -> None:
    error = source.exception()
    if error is None:
        Answer(target, source.result()).give()
    else:
        Answer(target, error=error).give()
