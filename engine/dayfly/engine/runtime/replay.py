"""Replay: recorded arrivals drive an engine on the events' own clock, as fast as the machine can or at a chosen pace."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from dayfly.engine.errors import RunError
from dayfly.engine.intake import IntakeResult, RejectedEvent
from dayfly.engine.runtime.arrivals import Arrival, RawMessage, Rows
from dayfly.engine.runtime.memory import MemoryEngine, Outcome

__all__ = ["Replay", "Step"]

MAX_GROUP: Final = 256
"""Messages taken in with one call at most; where intake's cost per message no longer falls."""

QUIET_AFTER_MS: Final = 3_600_000
QUIET_TICK_MS: Final = 30_000
"""After an hour without arrivals no fragment of before is alive: time may pass in longer steps."""

_STRUCTURED: Final = {"Content-Type": "application/cloudevents+json"}


@dataclass(frozen=True, slots=True)
class Step:
    """One call to the engine.

    Attributes:
        now_ms: The events' clock.
        outcome: What it brought.
        rejected: Messages that did not become events.
        group: What was taken in; empty when only time passed.
        nanoseconds: How long it took.
    """

    now_ms: int
    outcome: Outcome
    rejected: tuple[RejectedEvent, ...] = ()
    group: tuple[Arrival, ...] = ()
    nanoseconds: int = 0

    @property
    def eventful(self) -> bool:
        """Whether anything was decided, minted, destroyed or rejected."""
        outcome, decisions = self.outcome, self.outcome.decisions
        return bool(
            decisions.tags
            or decisions.orders
            or decisions.recalls
            or decisions.refusals
            or decisions.dead_letters
            or decisions.counts
            or outcome.destroyed
            or self.rejected
        )


class Replay:
    """Drives one engine.

    Args:
        engine: The engine.
        clock_ns: A monotonic clock, for latencies and pace only.
        tick_ms: Time passes in steps of this size between arrivals, so that timers fire and fragments die on time.
        batch_ms: Messages of one channel that arrive within this time are taken in together, as arriving with the last.
        speed: Event time per real time; 0 does not wait.
        sleep: Waits so many seconds; used only with a `speed`.

    Raises:
        RunError: a setting is out of its range.
    """

    def __init__(
        self,
        engine: MemoryEngine,
        *,
        clock_ns: Callable[[], int],
        tick_ms: int = 1_000,
        batch_ms: int = 20,
        speed: float = 0.0,
        sleep: Callable[[float], None] | None = None,
    ) -> None:
        if not 1 <= tick_ms <= 60_000:
            raise RunError(f"tick_ms={tick_ms!r} must be 1 to 60000; a second is usual")
        if not 0 <= batch_ms <= 60_000:
            raise RunError(f"batch_ms={batch_ms!r} must be 0 to 60000; 20 is usual")
        if speed and (speed < 0 or sleep is None):
            raise RunError(f"speed={speed!r} must be >= 0 and come with a way to wait; use 0 for no waiting")
        self._engine = engine
        self._clock_ns = clock_ns
        self._tick_ms = tick_ms
        self._batch_ms = batch_ms
        self._speed = speed
        self._sleep = sleep
        self._started: tuple[int, int] | None = None
        self.now_ms = 0

    def steps(self, arrivals: Iterable[Arrival]) -> Iterator[Step]:
        """Take everything in, letting time pass between, and tell after each call what it brought.

        Args:
            arrivals: In order of receipt.
        """
        for group in _groups(arrivals, self._batch_ms):
            if self._started is None:
                self.now_ms = group[0].received_ms
                self._started = (self.now_ms, self._clock_ns())
            yield from self.until(group[0].received_ms - 1)
            self._wait(group[-1].received_ms)
            yield self._take(group)

    def until(self, end_ms: int) -> Iterator[Step]:
        """Let time pass up to `end_ms`, tick by tick; whole seconds, where ticks are."""
        quiet_from = self.now_ms + QUIET_AFTER_MS
        while True:
            size = self._tick_ms if self.now_ms < quiet_from else max(self._tick_ms, QUIET_TICK_MS)
            after = (self.now_ms // size + 1) * size
            if after > end_ms:
                return
            self._wait(after)
            started = self._clock_ns()
            outcome = self._engine.apply([], after)
            self.now_ms = after
            yield Step(after, outcome, nanoseconds=self._clock_ns() - started)

    def _take(self, group: tuple[Arrival, ...]) -> Step:
        self.now_ms = max(self.now_ms, group[-1].received_ms)
        started = self._clock_ns()
        results = list(self._results(group))
        outcomes = [self._engine.take(result, self.now_ms) for result in results]
        took = self._clock_ns() - started
        rejected = tuple(letter for result in results for letter in result.dead_letters)
        return Step(self.now_ms, Outcome.joined(outcomes), rejected, group, took)

    def _results(self, group: tuple[Arrival, ...]) -> Iterator[IntakeResult]:
        """Intake of a group, whose members came through one channel in one form."""
        channel, intake = group[0].channel, self._engine.intake
        messages = [item for item in group if isinstance(item, RawMessage)]
        yield from (item.result for item in group if isinstance(item, Rows))
        if messages and messages[0].form == "segment":
            yield intake.segment([item.payload for item in messages], channel, self.now_ms)
        else:
            for item in messages:
                yield intake.cloudevents(_STRUCTURED, item.payload, channel, item.received_ms)

    def _wait(self, until_ms: int) -> None:
        """Keep the pace, where one was asked for."""
        if not self._speed or self._started is None or self._sleep is None:
            return
        start_ms, start_ns = self._started
        due_ns = start_ns + int((until_ms - start_ms) * 1e6 / self._speed)
        ahead = due_ns - self._clock_ns()
        if ahead > 0:
            self._sleep(ahead / 1e9)


def _groups(arrivals: Iterable[Arrival], batch_ms: int) -> Iterator[tuple[Arrival, ...]]:
    """Neighbours that can be taken in with one call: one channel, one kind, close in time."""
    group: list[Arrival] = []
    for arrival in arrivals:
        if group and not (
            arrival.channel == group[0].channel
            and type(arrival) is type(group[0])
            and arrival.received_ms - group[0].received_ms <= batch_ms
            and len(group) < MAX_GROUP
        ):
            yield tuple(group)
            group = []
        group.append(arrival)
    if group:
        yield tuple(group)
