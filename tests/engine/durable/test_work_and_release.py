"""Calls wait in order and not without bound; answers are given in order, when durable and not before."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from typing import Any

import pytest

from dayfly.engine.durable import EngineSettings, Feed
from dayfly.engine.durable.host import Turn
from dayfly.engine.durable.release import Answer, Releases
from dayfly.engine.durable.settings import _RANGES
from dayfly.engine.durable.work import Work, WorkQueue
from dayfly.engine.errors import EngineBusy, EngineClosed, RunError

from .test_feed import item


def work(weight: int = 1) -> Work:
    return Work(None, Future(), weight=weight)


def queue(max_events: int = 10, patience_seconds: float = 0.0) -> WorkQueue:
    return WorkQueue(max_events=max_events, patience_seconds=patience_seconds)


# --- the queue ---------------------------------------------------------------------------------------------------------------


def test_works_come_out_as_they_went_in_up_to_so_many_events() -> None:
    line = queue()
    works = [work(3), work(4), work(2)]
    for each in works:
        line.put(each)
    assert len(line) == 9
    assert line.take(7, 0) == works[:2]
    assert line.take(1, 0) == works[2:], "a work that is larger than a turn is taken alone"
    assert line.take(7, 0) == []
    assert len(line) == 0


def test_a_full_queue_refuses_after_the_patience_is_over_and_takes_one_that_is_too_large_alone() -> None:
    line = queue(max_events=10)
    line.put(work(25))
    with pytest.raises(
        EngineBusy, match="waiting=25 events must be fewer than 9; submit more slowly or raise"
    ):
        line.put(work(1))
    line.take(1, 0)
    line.put(work(10))
    with pytest.raises(EngineBusy):
        line.put(work(1))


def test_a_caller_waits_for_room() -> None:
    line = queue(max_events=2, patience_seconds=10)
    line.put(work())
    line.put(work())
    done = threading.Event()

    def put() -> None:
        line.put(work(1))
        done.set()

    thread = threading.Thread(target=put)
    thread.start()
    assert not done.wait(0.05)
    line.take(1, 0)  # now it fits exactly
    assert done.wait(10)
    thread.join()


def test_a_taker_wakes_for_a_work_and_for_the_end() -> None:
    line = queue()
    taken: list[list[Work]] = []
    threads = [threading.Thread(target=lambda: taken.append(line.take(10, 10))) for _ in range(1)]
    threads[0].start()
    given = work()
    line.put(given)
    threads[0].join(10)
    assert taken == [[given]]
    other = threading.Thread(target=lambda: taken.append(line.take(10, 10)))
    other.start()
    time.sleep(0.01)
    line.refuse()
    other.join(10)
    assert taken[1] == []


def test_a_queue_that_refuses_still_gives_what_it_has_and_a_closed_one_hands_it_back() -> None:
    line = queue()
    first, second = work(), work()
    line.put(first)
    line.refuse()
    with pytest.raises(EngineClosed, match="open the store again"):
        line.put(work())
    assert line.take(10, 0) == [first]
    other = queue()
    other.put(second)
    assert other.close() == [second]
    assert len(other) == 0
    with pytest.raises(EngineClosed):
        other.put(work())


def test_a_caller_who_waits_for_room_is_told_when_the_queue_closes() -> None:
    line = queue(max_events=1, patience_seconds=10)
    line.put(work())
    told: list[BaseException] = []

    def put() -> None:
        try:
            line.put(work())
        except EngineClosed as error:
            told.append(error)

    thread = threading.Thread(target=put)
    thread.start()
    time.sleep(0.01)
    line.close()
    thread.join(10)
    assert len(told) == 1


# --- releases ----------------------------------------------------------------------------------------------------------------


def noted(order: list[int], number: int, _: "Future[Any]") -> None:
    order.append(number)


def future() -> "Future[Any]":
    return Future()


def test_nothing_is_told_before_it_is_durable_and_all_of_it_in_order_then() -> None:
    feed = Feed()
    releases = Releases(feed)
    answers = [future(), future(), future()]
    order: list[int] = []
    for number, answer in enumerate(answers):
        answer.add_done_callback(partial(noted, order, number))
        releases.add(
            Turn(position=number + 1, items=[item(number + 1)], audit=[b"line"]), [Answer(answer, number)]
        )
    releases.durable(0)
    assert (order, feed.newest, list(releases.take_views())) == ([], 0, [])
    assert [entry.position for entry in releases.items()] == [1, 2, 3], "a snapshot would hold them"
    releases.durable(2)
    assert (order, feed.newest) == ([0, 1], 2)
    assert [turn.position for turn in releases.take_views()] == [1, 2]
    assert [entry.position for entry in releases.items()] == [1, 2, 3]
    releases.durable(1)  # the log never says less; another thread may
    assert order == [0, 1]
    releases.durable(3)
    assert [answer.result(0) for answer in answers] == [0, 1, 2]


def test_a_turn_that_is_durable_already_is_released_at_once() -> None:
    releases = Releases(Feed())
    releases.durable(5)
    answer = future()
    releases.add(Turn(position=5), [Answer(answer, "done")])
    assert answer.result(0) == "done"


def test_errors_are_given_as_errors_and_callers_who_left_are_passed_over() -> None:
    releases = Releases(Feed())
    left, wrong = future(), future()
    assert left.cancel()
    releases.add(Turn(position=1), [Answer(left, 1), Answer(wrong, error=ValueError("no"))])
    releases.durable(1)
    assert isinstance(wrong.exception(0), ValueError)


def test_after_a_failure_everybody_is_told_also_who_comes_later() -> None:
    releases = Releases(Feed())
    early, late = future(), future()
    releases.add(Turn(position=1), [Answer(early)])
    releases.fail(RuntimeError("gone"))
    releases.add(Turn(position=2), [Answer(late)])
    assert isinstance(early.exception(0), RuntimeError)
    assert isinstance(late.exception(0), RuntimeError)


# --- settings ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(_RANGES))
def test_every_setting_is_held_to_its_range(name: str) -> None:
    low, high = _RANGES[name]
    made: Callable[..., EngineSettings] = EngineSettings
    for value in (low, high):
        assert getattr(made(**{name: value}), name) == value
    for value in (low - 1, high + 1, True):
        with pytest.raises(RunError, match=f"{name}={value!r} must be {low} to {high}; see EngineSettings"):
            made(**{name: value})
