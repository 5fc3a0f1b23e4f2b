"""The scheduler once more, slow and plain: everything is looked up in lists at each step. Shares no code with the plan."""

from dataclasses import dataclass, field

DELAYS_MS = (0, 100, 400, 900)
FAILURES_TO_OPEN = 3
REST_MS = 250
MAX_REST_MS = 1_000


@dataclass
class Message:
    id: int
    lane: str
    end_ms: int
    due_ms: int
    urgent: bool
    attempts: int = 0
    in_flight: bool = False
    dropped: bool = False


@dataclass
class Lane:
    limit: int
    disabled: bool = False
    failures: int = 0
    rests: int = 0
    rest_until_ms: int | None = None
    probe: int | None = None
    pause_until_ms: int = 0


@dataclass
class NaivePlan:
    lanes: dict[str, Lane]
    messages: list[Message] = field(default_factory=list)

    def add(self, job_id: int, lane: str, end_ms: int, due_ms: int, *, urgent: bool) -> None:
        self.messages.append(Message(job_id, lane, end_ms, due_ms, urgent))

    def find(self, job_id: int) -> Message | None:
        return next((message for message in self.messages if message.id == job_id), None)

    def drop(self, job_id: int) -> str:
        message = self.find(job_id)
        if message is None:
            return "gone"
        if message.in_flight:
            message.dropped = True
            return "in_flight"
        self.messages.remove(message)
        return "dropped"

    def flying(self, lane: str) -> int:
        return sum(message.lane == lane and message.in_flight for message in self.messages)

    def next(self, now_ms: int) -> tuple[list[int], set[int]]:
        ended = [m for m in self.messages if not m.in_flight and m.end_ms <= now_ms]
        for message in ended:
            self.messages.remove(message)
        begun = []
        for name, lane in self.lanes.items():
            while True:
                limit = lane.limit if lane.rest_until_ms is None else 1
                closed = lane.disabled or now_ms < max(lane.pause_until_ms, lane.rest_until_ms or 0)
                due = [m for m in self.messages if m.lane == name and not m.in_flight and m.due_ms <= now_ms]
                if closed or not due or self.flying(name) >= limit:
                    break
                message = min(due, key=lambda m: (not m.urgent, m.due_ms, m.id))
                message.in_flight = True
                message.attempts += 1
                if lane.rest_until_ms is not None:
                    lane.probe = message.id
                begun.append(message.id)
        return begun, {message.id for message in ended}

    def settle(self, job_id: int, outcome: str, wait_ms: int, now_ms: int) -> str | None:
        message = self.find(job_id)
        assert message is not None
        message.in_flight = False
        self.learn(message, outcome, wait_ms, now_ms)
        how: str | None = None
        if outcome == "delivered":
            how = "delivered"
        elif message.dropped:
            how = "dropped"
        elif outcome in {"refused", "gone"}:
            how = "refused"
        elif message.end_ms <= now_ms:
            how = "expired"
        if how is not None:
            self.messages.remove(message)
        elif outcome == "throttled":
            message.due_ms = now_ms + max(DELAYS_MS[1], wait_ms)
        else:
            message.due_ms = now_ms + (DELAYS_MS + (DELAYS_MS[-1],) * 100)[message.attempts]
        return how

    def learn(self, message: Message, outcome: str, wait_ms: int, now_ms: int) -> None:
        lane = self.lanes[message.lane]
        probed = lane.probe == message.id
        if probed:
            lane.probe = None
        if outcome == "failed":
            lane.failures += 1
            if probed or (lane.rest_until_ms is None and lane.failures >= FAILURES_TO_OPEN):
                lane.rest_until_ms = now_ms + min(REST_MS * 2**lane.rests, MAX_REST_MS)
                lane.rests += 1
        elif outcome != "aborted":
            lane.failures = lane.rests = 0
            if lane.rest_until_ms is not None:
                lane.rest_until_ms = None
                for other in self.messages:
                    if other.lane == message.lane and not other.in_flight:
                        other.due_ms = min(other.due_ms, now_ms)
            if outcome == "throttled":
                lane.pause_until_ms = max(lane.pause_until_ms, now_ms + wait_ms)

    def disable(self, name: str) -> set[int]:
        self.lanes[name].disabled = True
        leaving = [m for m in self.messages if m.lane == name and not m.in_flight]
        for message in leaving:
            self.messages.remove(message)
        for message in self.messages:
            message.dropped = message.dropped or message.lane == name
        return {message.id for message in leaving}

    def enable(self, name: str) -> None:
        self.lanes[name] = Lane(self.lanes[name].limit)
