"""Which message goes next: the scheduler, a state machine without clock, disk or network.

Each endpoint has a lane of its own with its own limits and its own circuit breaker (Nygard, Release It!, 2007): nothing that
happens in one lane delays another. Messages wait in heaps by due time, recalls before fragments, and leave at the latest when
they end.
"""

import heapq
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final, Literal, Protocol

from .outcomes import Outcome, Result
from .schedule import Backoff

__all__ = ["Ending", "LaneRules", "LaneState", "Plan", "Step"]

Ending = Literal["delivered", "refused", "dropped", "expired"]
"""How a message leaves the plan."""
LaneState = Literal["open", "resting", "probing", "paused", "disabled"]
"""Of the endpoint: taking messages, resting after failures, being tried, asked us to wait, switched off."""

_NEVER: Final = 2**63 - 1


class LaneRules(Protocol):
    """What the plan needs to know about an endpoint."""

    @property
    def max_in_flight(self) -> int:
        """Most messages begun and not settled."""
        ...

    @property
    def backoff(self) -> Backoff:
        """Waiting times."""
        ...


@dataclass(frozen=True, slots=True)
class Step:
    """What is to be done now.

    Attributes:
        begin: Messages to send; they are in flight until settled.
        ended: Messages whose time is over, given up.
        wake_ms: When to ask again if nothing else happens; None: nothing waits.
    """

    begin: tuple[int, ...]
    ended: tuple[int, ...]
    wake_ms: int | None


@dataclass(slots=True)
class _Job:
    id: int
    lane: "_Lane"
    urgent: bool
    end_ms: int
    due_ms: int
    attempts: int
    in_flight: bool = False
    dropped: bool = False


@dataclass(slots=True)
class _Lane:
    rules: LaneRules
    disabled: bool = False
    in_flight: int = 0
    failures: int = 0
    rests: int = 0
    rest_until_ms: int | None = None
    """Set while the circuit is open."""
    probe: int | None = None
    pause_until_ms: int = 0
    urgent: list[tuple[int, int]] = field(default_factory=list)
    waiting: list[tuple[int, int]] = field(default_factory=list)
    jobs: dict[int, _Job] = field(default_factory=dict)

    def opens_ms(self) -> int:
        """First instant at which a message may begin, `_NEVER` while something must be settled before."""
        if self.disabled:
            return _NEVER
        resting = self.rest_until_ms is not None
        if self.in_flight >= (1 if resting else self.rules.max_in_flight):
            return _NEVER
        return max(self.pause_until_ms, self.rest_until_ms or 0)

    def heap(self, job: _Job) -> list[tuple[int, int]]:
        return self.urgent if job.urgent else self.waiting

    def push(self, job: _Job) -> None:
        heapq.heappush(self.heap(job), (job.due_ms, job.id))

    def first(self, heap: list[tuple[int, int]]) -> _Job | None:
        """Earliest message of a heap; what has left or moved meanwhile is thrown away."""
        while heap:
            due_ms, job_id = heap[0]
            job = self.jobs.get(job_id)
            if job is not None and not job.in_flight and job.due_ms == due_ms:
                return job
            heapq.heappop(heap)
        return None


class Plan:
    """The queue of every endpoint. Not thread-safe; times are milliseconds UTC and may be given with steps backwards.

    Args:
        lanes: The endpoints.
        random: Numbers in [0, 1), for jitter.
    """

    def __init__(self, lanes: Mapping[str, LaneRules], *, random: Callable[[], float]) -> None:
        self._lanes = {name: _Lane(rules) for name, rules in lanes.items()}
        self._jobs: dict[int, _Job] = {}
        self._ends: list[tuple[int, int]] = []
        self._random = random

    def add(
        self, job_id: int, lane: str, *, end_ms: int, due_ms: int, attempts: int = 0, urgent: bool = False
    ) -> None:
        """Queue a message that is of use before `end_ms` and may be sent from `due_ms`; ids are the caller's and unique."""
        home = self._lanes[lane]
        job = _Job(job_id, home, urgent, end_ms, due_ms, attempts)
        self._jobs[job_id] = home.jobs[job_id] = job
        home.push(job)
        heapq.heappush(self._ends, (end_ms, job_id))

    def drop(self, job_id: int) -> Literal["gone", "dropped", "in_flight"]:
        """Send this message no more; one in flight is to be broken off by the caller and stays until it is settled."""
        job = self._jobs.get(job_id)
        if job is None:
            return "gone"
        if job.in_flight:
            job.dropped = True
            return "in_flight"
        self._remove(job)
        return "dropped"

    def next(self, now_ms: int) -> Step:
        """Begin everything that may begin at `now_ms`, and give up what has ended."""
        ended = self._end(now_ms)
        begin: list[int] = []
        wake_ms = self._ends[0][0] if self._ends else _NEVER
        for lane in self._lanes.values():
            while (job := self._ready(lane, now_ms)) is not None:
                self._begin(job)
                begin.append(job.id)
            wake_ms = min(wake_ms, _wake(lane))
        return Step(tuple(begin), tuple(ended), None if wake_ms == _NEVER else wake_ms)

    def settle(self, job_id: int, result: Result, now_ms: int) -> tuple[Ending | None, int]:
        """Take the result of a message in flight.

        Returns:
            How it left, or None and the instant of its next attempt.
        """
        job = self._jobs[job_id]
        if not job.in_flight:
            raise KeyError(job_id)
        lane = job.lane
        job.in_flight = False
        lane.in_flight -= 1
        self._learn(lane, job, result, now_ms)
        ending: Ending | None = None
        if result.outcome is Outcome.DELIVERED:
            ending = "delivered"
        elif job.dropped:
            ending = "dropped"
        elif result.outcome in {Outcome.REFUSED, Outcome.GONE}:
            ending = "refused"
        elif now_ms >= job.end_ms:
            ending = "expired"
        if ending is not None:
            self._remove(job)
            return ending, 0
        throttled = result.outcome is Outcome.THROTTLED  # it says itself when to come back
        delay_ms = lane.rules.backoff.delay_ms(1 if throttled else job.attempts, self._random)
        job.due_ms = now_ms + max(delay_ms, result.wait_ms)
        lane.push(job)
        heapq.heappush(self._ends, (job.end_ms, job.id))  # may have been passed over while in flight
        return None, job.due_ms

    def disable(self, lane: str) -> tuple[int, ...]:
        """Switch an endpoint off; its waiting messages leave and are returned, those in flight leave when settled."""
        home = self._lanes[lane]
        home.disabled = True
        leaving = tuple(job.id for job in home.jobs.values() if not job.in_flight)
        for job_id in leaving:
            self._remove(self._jobs[job_id])
        for job in home.jobs.values():
            job.dropped = True
        return leaving

    def enable(self, lane: str) -> None:
        """Take messages for an endpoint again, with its past forgotten."""
        home = self._lanes[lane]
        home.disabled = False
        home.failures = home.rests = home.pause_until_ms = 0
        home.rest_until_ms = home.probe = None

    def state(self, lane: str, now_ms: int) -> LaneState:
        """How an endpoint is doing."""
        home = self._lanes[lane]
        if home.disabled:
            return "disabled"
        if home.rest_until_ms is not None:
            return "probing" if home.probe is not None else "resting"
        return "paused" if home.pause_until_ms > now_ms else "open"

    def in_flight(self, lane: str) -> int:
        """Messages begun and not settled."""
        return self._lanes[lane].in_flight

    def depth(self, lane: str) -> int:
        """Messages queued or in flight."""
        return len(self._lanes[lane].jobs)

    def _ready(self, lane: _Lane, now_ms: int) -> _Job | None:
        """The message that begins next in this lane, recalls first."""
        if lane.opens_ms() > now_ms:
            return None
        for heap in (lane.urgent, lane.waiting):
            job = lane.first(heap)
            if job is not None and job.due_ms <= now_ms:
                return job
        return None

    def _begin(self, job: _Job) -> None:
        lane = job.lane
        heapq.heappop(lane.heap(job))
        job.in_flight = True
        job.attempts += 1
        lane.in_flight += 1
        if lane.rest_until_ms is not None:
            lane.probe = job.id

    def _end(self, now_ms: int) -> list[int]:
        """Remove what has ended; what is in flight is left to its settlement."""
        ended = []
        while self._ends:
            end_ms, job_id = self._ends[0]
            job = self._jobs.get(job_id)
            if job is not None and end_ms > now_ms:
                break
            heapq.heappop(self._ends)
            if job is not None and not job.in_flight:
                self._remove(job)
                ended.append(job_id)
        return ended

    def _remove(self, job: _Job) -> None:
        del self._jobs[job.id]
        del job.lane.jobs[job.id]

    def _learn(self, lane: _Lane, job: _Job, result: Result, now_ms: int) -> None:
        """What a result says about the endpoint."""
        probed = lane.probe == job.id
        if probed:
            lane.probe = None
        if result.outcome is Outcome.ABORTED:
            return
        if result.outcome is not Outcome.FAILED:
            lane.failures = lane.rests = 0
            if lane.rest_until_ms is not None:
                lane.rest_until_ms = None
                _bring_forward(lane, now_ms)
            if result.outcome is Outcome.THROTTLED:
                lane.pause_until_ms = max(lane.pause_until_ms, now_ms + result.wait_ms)
            return
        lane.failures += 1
        backoff = lane.rules.backoff
        if probed or (lane.rest_until_ms is None and lane.failures >= backoff.failures_to_open):
            lane.rest_until_ms = now_ms + backoff.rest_after_ms(lane.rests, self._random)
            lane.rests += 1


def _wake(lane: _Lane) -> int:
    """When this lane may have something to begin."""
    opens_ms = lane.opens_ms()
    if opens_ms == _NEVER:
        return _NEVER
    firsts = (lane.first(heap) for heap in (lane.urgent, lane.waiting))
    due_ms = min((job.due_ms for job in firsts if job is not None), default=_NEVER)
    return _NEVER if due_ms == _NEVER else max(due_ms, opens_ms)


def _bring_forward(lane: _Lane, now_ms: int) -> None:
    """The endpoint answers again: what waits for another attempt need not wait longer."""
    for job in lane.jobs.values():
        if not job.in_flight and job.due_ms > now_ms:
            job.due_ms = now_ms
            lane.push(job)
