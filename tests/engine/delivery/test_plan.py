"""The scheduler against a plain model, and what each rule of it means."""

from dataclasses import dataclass

import pytest
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from dayfly.engine.delivery.outcomes import Outcome, Result
from dayfly.engine.delivery.plan import Plan
from dayfly.engine.delivery.schedule import Backoff

from .naive_plan import DELAYS_MS, FAILURES_TO_OPEN, MAX_REST_MS, REST_MS, Lane, NaivePlan
from .support import ERROR, OK, middle

FAST = Backoff(
    delays_ms=DELAYS_MS, failures_to_open=FAILURES_TO_OPEN, rest_ms=REST_MS, max_rest_ms=MAX_REST_MS
)
SLOW_DOWN = Result(Outcome.THROTTLED, "http_429", wait_ms=5_000)
REFUSED = Result(Outcome.REFUSED, "http_400")
GONE = Result(Outcome.GONE, "http_410")
ABORTED = Result(Outcome.ABORTED, "aborted")


@dataclass(frozen=True)
class Rules:
    """The plan's view of an endpoint."""

    max_in_flight: int = 2
    backoff: Backoff = FAST


class PlanAgainstModel(RuleBasedStateMachine):
    """Any history leaves plan and model with the same answers."""

    @initialize()
    def start(self) -> None:
        self.plan = Plan({"a": Rules(1), "b": Rules(3)}, random=middle)
        self.model = NaivePlan({"a": Lane(1), "b": Lane(3)})
        self.now_ms = 10_000
        self.used = 0
        self.flying: list[int] = []
        self.wake_ms: int | None = None

    @rule(
        lane=st.sampled_from(["a", "b"]),
        life_ms=st.integers(-1, 5_000),
        wait_ms=st.integers(0, 300),
        urgent=st.booleans(),
    )
    def add(self, lane: str, life_ms: int, wait_ms: int, *, urgent: bool) -> None:
        self.used += 1
        end_ms, due_ms = self.now_ms + life_ms, self.now_ms + wait_ms
        self.plan.add(self.used, lane, end_ms=end_ms, due_ms=due_ms, urgent=urgent)
        self.model.add(self.used, lane, end_ms, due_ms, urgent=urgent)
        self.wake_ms = self.now_ms

    @rule(data=st.data())
    def drop(self, data: st.DataObject) -> None:
        job_id = data.draw(st.integers(1, max(1, self.used)))
        assert self.plan.drop(job_id) == self.model.drop(job_id)

    @rule(passed_ms=st.integers(0, 1_200))
    def go_on(self, passed_ms: int) -> None:
        self.now_ms += passed_ms
        self.step()

    @rule()
    def sleep_until_woken(self) -> None:
        """Nothing may have been due before the plan said."""
        if self.wake_ms is None:
            begun, ended = self.model.next(self.now_ms + 10**9)
            assert (begun, ended) == ([], set())
            return
        if self.wake_ms - 1 > self.now_ms:
            begun, ended = self.model.next(self.wake_ms - 1)
            assert (begun, ended) == ([], set())
        self.now_ms = max(self.now_ms, self.wake_ms)
        self.step()

    @precondition(lambda self: self.flying)
    @rule(
        data=st.data(),
        result=st.sampled_from([OK, ERROR, ERROR, ERROR, SLOW_DOWN, REFUSED, GONE, ABORTED]),
        passed_ms=st.integers(0, 300),
    )
    def settle(self, data: st.DataObject, result: Result, passed_ms: int) -> None:
        job_id = data.draw(st.sampled_from(self.flying))
        self.flying.remove(job_id)
        self.now_ms += passed_ms
        ending, due_ms = self.plan.settle(job_id, result, self.now_ms)
        assert ending == self.model.settle(job_id, result.outcome.value, result.wait_ms, self.now_ms)
        if ending is None:
            message = self.model.find(job_id)
            assert message is not None
            assert due_ms == message.due_ms
        self.wake_ms = self.now_ms

    @rule(lane=st.sampled_from(["a", "b"]))
    def disable(self, lane: str) -> None:
        assert set(self.plan.disable(lane)) == self.model.disable(lane)

    @rule(lane=st.sampled_from(["a", "b"]))
    def enable(self, lane: str) -> None:
        self.plan.enable(lane)
        self.model.enable(lane)
        self.wake_ms = self.now_ms

    @invariant()
    def same_depth(self) -> None:
        for lane in ("a", "b"):
            assert self.plan.depth(lane) == sum(m.lane == lane for m in self.model.messages)
            assert self.plan.in_flight(lane) == self.model.flying(lane)

    def step(self) -> None:
        step = self.plan.next(self.now_ms)
        begun, ended = self.model.next(self.now_ms)
        assert list(step.begin) == begun
        assert set(step.ended) == ended
        assert step.wake_ms is None or step.wake_ms > self.now_ms
        self.flying += begun
        self.wake_ms = step.wake_ms


TestPlanAgainstModel = PlanAgainstModel.TestCase
TestPlanAgainstModel.settings = hypothesis_settings(stateful_step_count=60)


def plan_of(count: int, *, limit: int = 2, end_ms: int = 10_000) -> Plan:
    plan = Plan({"a": Rules(limit)}, random=middle)
    for job_id in range(count):
        plan.add(job_id, "a", end_ms=end_ms, due_ms=0)
    return plan


def test_a_message_may_begin_one_millisecond_before_its_end_and_not_at_it() -> None:
    assert plan_of(1).next(9_999).begin == (0,)
    step = plan_of(1).next(10_000)
    assert (step.begin, step.ended) == ((), (0,))


@pytest.mark.parametrize(("settled_ms", "expected"), [(9_999, (None, 10_099)), (10_000, ("expired", 0))])
def test_a_failure_at_the_end_of_a_message_is_its_last(
    settled_ms: int, expected: tuple[str | None, int]
) -> None:
    plan = plan_of(1)
    plan.next(0)
    assert plan.settle(0, ERROR, settled_ms) == expected


def test_no_more_messages_are_in_flight_than_allowed() -> None:
    plan = plan_of(5)
    assert plan.next(0).begin == (0, 1)
    assert plan.next(0).begin == ()
    plan.settle(0, OK, 1)
    assert plan.next(1).begin == (2,)


def test_a_recall_goes_before_the_fragments_that_wait() -> None:
    plan = plan_of(3, limit=1)
    plan.add(9, "a", end_ms=10_000, due_ms=0, urgent=True)
    assert plan.next(0).begin == (9,)


def test_failures_open_the_circuit_and_one_probe_decides() -> None:
    plan = plan_of(5, limit=3)
    for job_id in plan.next(0).begin:
        plan.settle(job_id, ERROR, 10)
    assert plan.state("a", 10) == "resting"
    assert plan.next(10 + REST_MS - 1).begin == ()
    (probe,) = plan.next(10 + REST_MS).begin
    assert plan.state("a", 260) == "probing"
    plan.settle(probe, ERROR, 270)
    assert plan.next(270 + 2 * REST_MS - 1).begin == ()
    (probe,) = plan.next(270 + 2 * REST_MS).begin
    plan.settle(probe, OK, 800)
    assert plan.state("a", 800) == "open"
    assert len(plan.next(800).begin) == 3


def test_an_endpoint_that_answers_again_gets_what_waits_without_more_delay() -> None:
    patient = Backoff(delays_ms=(0, 5_000), failures_to_open=3, rest_ms=REST_MS, max_rest_ms=MAX_REST_MS)
    plan = Plan({"a": Rules(3, patient)}, random=middle)
    for job_id in range(3):
        plan.add(job_id, "a", end_ms=10_000, due_ms=0)
    for job_id in plan.next(0).begin:
        assert plan.settle(job_id, ERROR, 0) == (None, 5_000)
    plan.add(7, "a", end_ms=10_000, due_ms=0)
    assert plan.next(REST_MS).begin == (7,)
    plan.settle(7, OK, 300)
    assert plan.next(300).begin == (0, 1, 2)


def test_retry_after_holds_back_the_whole_endpoint() -> None:
    plan = plan_of(3, limit=1)
    (job_id,) = plan.next(0).begin
    assert plan.settle(job_id, SLOW_DOWN, 100) == (None, 5_100)
    assert plan.state("a", 100) == "paused"
    step = plan.next(5_099)
    assert (step.begin, step.wake_ms) == ((), 5_100)
    assert len(plan.next(5_100).begin) == 1


def test_a_retry_after_of_nothing_does_not_become_a_flood() -> None:
    plan = plan_of(1)
    plan.next(0)
    now = Result(Outcome.THROTTLED, "http_429", wait_ms=0)
    assert plan.settle(0, now, 0) == (None, DELAYS_MS[1])


def test_a_clock_that_goes_back_loses_no_end() -> None:
    plan = plan_of(1)
    plan.next(9_000)
    plan.next(20_000)
    assert plan.settle(0, ERROR, 5_000) == (None, 5_100)
    assert plan.next(10_000).ended == (0,)


def test_only_what_is_in_flight_can_be_settled() -> None:
    plan = plan_of(1)
    with pytest.raises(KeyError):
        plan.settle(0, OK, 0)
