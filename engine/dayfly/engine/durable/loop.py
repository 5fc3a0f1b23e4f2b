"""The engine's one thread: takes whatever has arrived, lets time pass, ends the turn, keeps the views and snapshots up."""

import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from dayfly.engine.durable.clock import SteadyClock
from dayfly.engine.durable.host import Host
from dayfly.engine.durable.places import ends_of
from dayfly.engine.durable.release import Answer, Releases
from dayfly.engine.durable.settings import EngineSettings
from dayfly.engine.durable.work import Work, WorkQueue
from dayfly.engine.errors import EngineFailed
from dayfly.engine.intake import RejectedEvent
from dayfly.privacy.errors import DayflyError

__all__ = ["Loop", "Receipt", "groups_of"]


@dataclass(frozen=True, slots=True)
class Receipt:
    """A submission that is durable.

    Attributes:
        position: Of the log frame that holds it.
        received_ms: When it was taken in, UTC.
        payloads: How many it had.
        dead_letters: What of it did not become an event, and why.
    """

    position: int
    received_ms: int
    payloads: int
    dead_letters: tuple[RejectedEvent, ...] = ()


class Loop:
    """Runs works against a host, turn by turn.

    Args:
        host: The engine and its log.
        queue: Calls.
        releases: Where turns go to be released.
        clock: Time.
        settings: Sizes and steps.
        after_turn: Called after each turn with its instant: views, snapshots, checkpoints.
        failed: Called once when the loop cannot go on.
    """

    def __init__(
        self,
        host: Host,
        queue: WorkQueue,
        releases: Releases,
        clock: SteadyClock,
        settings: EngineSettings,
        *,
        after_turn: Callable[[int], object],
        failed: Callable[[BaseException], object],
    ) -> None:
        self._host: Final = host
        self._queue: Final = queue
        self._releases: Final = releases
        self._clock: Final = clock
        self._settings: Final = settings
        self._after_turn: Final = after_turn
        self._failed: Final = failed
        self._stop = threading.Event()
        self._halted = False
        self._next_tick_ms = 0
        self._thread = threading.Thread(target=self._run, name="dayfly-engine", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """Finish the turn and end the thread; from the thread itself this only marks the end."""
        self._stop.set()
        if threading.current_thread() is not self._thread and self._thread.is_alive():
            self._thread.join()

    def halt(self) -> None:
        """Take no further turn, without waiting; for an engine that has failed."""
        self._halted = True

    @property
    def running(self) -> bool:
        """Whether calls are done by the loop's thread; False also for that thread itself."""
        return self._thread.is_alive() and threading.current_thread() is not self._thread

    def _run(self) -> None:
        settings = self._settings
        try:
            while not self._halted and (not self._stop.is_set() or len(self._queue)):
                works = self._queue.take(settings.max_batch_events, settings.tick_ms / 1000)
                self._turn(works)
        except BaseException as error:  # noqa: BLE001 - whatever it is, the state can no longer be trusted
            self._failed(error)

    def _turn(self, works: Sequence[Work]) -> None:
        now_ms = self._clock()
        answers: list[Answer] = []
        try:
            if now_ms >= self._next_tick_ms:
                self._next_tick_ms = now_ms + self._settings.tick_ms
                self._host.note(self._host.engine.apply([], now_ms))
            for group in groups_of(works):
                answers += self._answers(group, now_ms)
            turn = self._host.end_turn()
        except BaseException as error:
            for work in works:
                if not any(answer.future is work.future for answer in answers):
                    answers.append(Answer(work.future))
            for answer in answers:
                Answer(answer.future, error=_failure(error)).give()
            raise
        self._releases.add(turn, answers)
        self._after_turn(now_ms)

    def _answers(self, group: Sequence[Work], now_ms: int) -> list[Answer]:
        """Do a group and say what its callers will be told. Errors of the library leave the state as it was."""
        first = group[0]
        try:
            if first.run is None:
                return self._taken_in(group, now_ms)
            return [Answer(first.future, first.run(now_ms))]
        except EngineFailed:
            raise
        except DayflyError as error:
            return [Answer(work.future, error=error) for work in group]

    def _taken_in(self, group: Sequence[Work], now_ms: int) -> list[Answer]:
        payloads = [payload for work in group for payload in work.payloads]
        dead = self._host.segment(payloads, group[0].channel, now_ms, ends=ends_of(group))
        position = self._host.position
        answers: list[Answer] = []
        for number, work in enumerate(group):
            mine = tuple(letter for which, letter in dead if which == number) if dead else ()
            answers.append(Answer(work.future, Receipt(position, now_ms, len(work.payloads), mine)))
        return answers


def _failure(error: BaseException) -> EngineFailed:
    failure = EngineFailed(
        f"engine=<failed> must be opened again: {type(error).__name__}: {error}; what was acknowledged is safe on disk"
    )
    failure.__cause__ = error
    return failure


def groups_of(works: Sequence[Work]) -> Iterator[list[Work]]:
    """Neighbours that can be taken in with one call: payloads of one channel."""
    group: list[Work] = []
    for work in works:
        if group and not (work.run is None and group[0].run is None and work.channel == group[0].channel):
            yield group
            group = []
        group.append(work)
    if group:
        yield group
