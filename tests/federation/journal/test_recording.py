"""Draws that are made once, and parties and grids that go on."""

import os
from collections.abc import Callable, Iterator, Mapping
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from dayfly.federation.errors import InvalidSetting, JournalDiverged, Refused, WrongIdentity
from dayfly.federation.grid import Failure
from dayfly.federation.journal import (
    Journal,
    JournaledGrid,
    JournaledParty,
    JournalHead,
    RecordedClock,
    RecordedNoise,
    RecordedRandom,
)
from dayfly.federation.journal.recording import Draws
from dayfly.privacy.noise import OpenDpNoise

HEAD = JournalHead(b"r" * 16, "shop", "test", b"")
VALUES = np.array([5, -7, 11])
SCALE = Fraction(7, 2)


class Paper:
    """A journal of draws in memory."""

    def __init__(self) -> None:
        self.written: list[tuple[str, bytes]] = []

    def again(self) -> Draws:
        draws = Draws(lambda what, drawn: self.written.append((what, drawn)))
        draws.serve(list(self.written))
        return draws


@pytest.mark.parametrize(
    "ask",
    [
        lambda noise: noise.laplace(VALUES, SCALE, l1=2),
        lambda noise: noise.gaussian(VALUES, SCALE, l2_squared=3),
        lambda noise: noise.laplace_threshold({1: 100, 2: 1}, SCALE, 30),
        lambda noise: noise.gaussian_threshold({1: 100, 2: 1}, SCALE, 30),
    ],
    ids=["laplace", "gaussian", "laplace_threshold", "gaussian_threshold"],
)
def test_noise_is_drawn_once(ask: Callable[[RecordedNoise], object]) -> None:
    paper = Paper()
    first = ask(RecordedNoise(paper.again().take, OpenDpNoise()))
    again = ask(RecordedNoise(paper.again().take, OpenDpNoise()))
    assert len(paper.written) == 1
    if isinstance(first, np.ndarray):
        assert isinstance(again, np.ndarray)
        assert again.tolist() == first.tolist()
        again += 1  # not a view of what was recorded
    else:
        assert again == first


def test_noise_is_not_given_to_other_values_or_at_another_scale() -> None:
    paper = Paper()
    RecordedNoise(paper.again().take, OpenDpNoise()).gaussian(VALUES, SCALE)
    for values, scale in ((VALUES + 1, SCALE), (VALUES, SCALE * 2)):
        with pytest.raises(JournalDiverged, match="must be 'gaussian 7/2"):
            RecordedNoise(paper.again().take, OpenDpNoise()).gaussian(values, scale)
    with pytest.raises(JournalDiverged, match="restart with the same version and data"):
        RecordedNoise(paper.again().take, OpenDpNoise()).laplace(VALUES, SCALE)


def test_random_bytes_and_instants_are_drawn_once_and_in_order() -> None:
    paper = Paper()
    draws = paper.again()
    random, clock = RecordedRandom(draws.take, os.urandom), RecordedClock(draws.take, lambda: -5)
    said = (random(32), clock(), random(16))
    draws = paper.again()
    random, clock = RecordedRandom(draws.take, os.urandom), RecordedClock(draws.take, lambda: 9)
    assert (random(32), clock(), random(16)) == said
    assert draws.left == 0
    assert random(16) != said[2]  # behind the record it draws on


# --- a party -------------------------------------------------------------------------------------------------------------


class Dice:
    """A party that adds up what it draws and is asked."""

    def __init__(self, random: RecordedRandom) -> None:
        self.random = random
        self.state = random(4)
        self.answered = 0

    @property
    def name(self) -> str:
        return "shop"

    def handle(self, message: bytes) -> bytes:
        self.answered += 1
        if message == b"stranger":
            raise WrongIdentity("server", "must sign")
        if message == b"too much":
            self.state += b"!"
            raise Refused("asked for too much")
        if message == b"defect":
            raise ZeroDivisionError
        if message != b"nothing":
            self.state += self.random(4)
        self.state += message
        return self.state


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "journal"


def journal_of(folder: Path) -> Journal:
    return Journal.open(folder, HEAD, secret=bytes(range(32)), random_bytes=os.urandom, now_ms=lambda: 1)


def party_of(journal: Journal, made: Callable[[RecordedRandom], Dice] = Dice) -> JournaledParty:
    return JournaledParty(
        journal,
        lambda random, _noise, _clock: made(random),
        random_bytes=os.urandom,
        noise=OpenDpNoise(),
        now_ms=lambda: 1,
    )


def test_a_party_goes_on_with_the_bytes_that_it_sent(folder: Path) -> None:
    with journal_of(folder) as journal:
        party = party_of(journal)
        said = [party.handle(b"one"), party.handle(b"nothing")]
        with pytest.raises(Refused, match="asked for too much"):
            party.handle(b"too much")
        said.append(party.handle(b"two"))
        assert party.handle(b"two") == said[-1]
    with journal_of(folder) as journal:
        party = party_of(journal)
        assert party.requests == 4
        assert party.handle(b"two") == said[-1]
        more = party.handle(b"three")
        assert more.startswith(said[-1])
        assert b"!" in more


def test_strangers_fill_no_journal(folder: Path) -> None:
    with journal_of(folder) as journal:
        party = party_of(journal)
        for _ in range(3):
            with pytest.raises(WrongIdentity):
                party.handle(b"stranger")
        assert party.requests == 0
    with journal_of(folder) as journal:
        assert len(list(journal.entries())) == 1  # what its making drew


def test_after_a_defect_a_party_answers_nothing_until_it_is_opened_again(folder: Path) -> None:
    with journal_of(folder) as journal:
        party = party_of(journal)
        said = party.handle(b"one")
        with pytest.raises(ZeroDivisionError):
            party.handle(b"defect")
        with pytest.raises(JournalDiverged, match="party='shop' must be opened again after a defect"):
            party.handle(b"two")
    with journal_of(folder) as journal:
        assert party_of(journal).handle(b"two").startswith(said)


def test_a_party_that_answers_otherwise_than_before_does_not_go_on(folder: Path) -> None:
    class Other(Dice):
        def handle(self, message: bytes) -> bytes:
            return super().handle(message) + b"?"

    class Greedy(Dice):
        def handle(self, message: bytes) -> bytes:
            self.random(8)
            return super().handle(message)

    class Frugal(Dice):
        def handle(self, message: bytes) -> bytes:
            return self.state + message

    with journal_of(folder) as journal:
        party_of(journal).handle(b"one")
    for made in (Other, Greedy, Frugal):
        with (
            journal_of(folder) as journal,
            pytest.raises(JournalDiverged, match="restart with the same version and data"),
        ):
            party_of(journal, made)
    with journal_of(folder) as journal:
        party_of(journal).handle(b"two")


def test_a_party_that_draws_less_than_before_does_not_go_on_even_if_it_says_the_same(folder: Path) -> None:
    class Idle(Dice):
        def handle(self, message: bytes) -> bytes:
            self.random(4)
            return message

    class Lazy(Dice):
        def handle(self, message: bytes) -> bytes:
            return message

    with journal_of(folder) as journal:
        party_of(journal, Idle).handle(b"one")
    with journal_of(folder) as journal, pytest.raises(JournalDiverged, match="must be answered as before"):
        party_of(journal, Lazy)


# --- a coordinator ---------------------------------------------------------------------------------------------------------


class Line:
    """A grid that says what it is told to; counts what it was asked."""

    def __init__(self, *answers: Mapping[str, bytes | Failure]) -> None:
        self.answers: Iterator[Mapping[str, bytes | Failure]] = iter(answers)
        self.asked: list[Mapping[str, bytes]] = []

    def parties(self) -> tuple[str, ...]:
        return ("a", "b")

    def ask(
        self, requests: Mapping[str, bytes], *, timeout_seconds: float = 10.0
    ) -> dict[str, bytes | Failure]:
        del timeout_seconds
        self.asked.append(dict(requests))
        return {party: answer for party, answer in next(self.answers).items() if party in requests}


GONE = Failure("b", "is gone", lost=True)
NO = Failure("b", "does not want to", lost=False)


def test_a_coordinator_hears_what_it_heard(folder: Path) -> None:
    with journal_of(folder) as journal:
        grid = JournaledGrid(Line({"a": b"1", "b": NO}, {"a": b"2", "b": b"3"}), journal)
        drawn = grid.random_bytes(os.urandom)(16)
        said = [grid.ask({"a": b"x", "b": b"y"}), grid.ask({"a": b"z", "b": b"z"})]
    line = Line({"a": b"4", "b": b"5"})
    with journal_of(folder) as journal:
        grid = JournaledGrid(line, journal)
        assert grid.parties() == ("a", "b")
        assert grid.random_bytes(os.urandom)(16) == drawn
        assert [grid.ask({"a": b"x", "b": b"y"}), grid.ask({"a": b"z", "b": b"z"})] == said
        assert line.asked == []
        assert (grid.asked, grid.served) == (2, 2)
        assert grid.ask({"a": b"new"}) == {"a": b"4"}


def test_a_coordinator_that_asks_otherwise_does_not_go_on(folder: Path) -> None:
    with journal_of(folder) as journal:
        grid = JournaledGrid(Line({"a": b"1"}), journal)
        grid.clock(lambda: 7)()
        grid.ask({"a": b"x"})
    for wrong in ({"a": b"y"}, {"b": b"x"}):
        with journal_of(folder) as journal:
            grid = JournaledGrid(Line(), journal)
            assert grid.clock(lambda: 8)() == 7
            with pytest.raises(JournalDiverged, match="question=1 must be the one that was asked before"):
                grid.ask(wrong)
    with journal_of(folder) as journal, pytest.raises(JournalDiverged, match="does not repeat what it did"):
        JournaledGrid(Line(), journal).ask({"a": b"x"})


def test_who_was_away_at_the_last_question_is_asked_again_after_a_restart(folder: Path) -> None:
    with journal_of(folder) as journal:
        JournaledGrid(Line({"a": b"1", "b": GONE}), journal).ask({"a": b"x", "b": b"y"})
    line = Line({"b": b"2"})
    with journal_of(folder) as journal:
        assert JournaledGrid(line, journal).ask({"a": b"x", "b": b"y"}) == {"a": b"1", "b": b"2"}
        assert line.asked == [{"b": b"y"}]
    with journal_of(folder) as journal:
        assert JournaledGrid(Line(), journal).ask({"a": b"x", "b": b"y"}) == {"a": b"1", "b": b"2"}


def test_who_was_away_before_a_later_question_stays_away(folder: Path) -> None:
    with journal_of(folder) as journal:
        grid = JournaledGrid(Line({"a": b"1", "b": GONE}, {"a": b"2"}), journal)
        grid.ask({"a": b"x", "b": b"y"})
        grid.ask({"a": b"without b"})
    with journal_of(folder) as journal:
        assert JournaledGrid(Line(), journal).ask({"a": b"x", "b": b"y"}) == {"a": b"1", "b": GONE}


def test_who_is_lost_is_waited_for_as_long_as_the_plan_says(folder: Path) -> None:
    clock = iter(range(100))
    slept: list[float] = []
    line = Line({"a": b"1", "b": GONE}, {"b": GONE}, {"b": b"2"})
    with journal_of(folder) as journal:
        grid = JournaledGrid(
            line, journal, return_within_seconds=3.5, monotonic=lambda: float(next(clock)), sleep=slept.append
        )
        assert grid.ask({"a": b"x", "b": b"y"}) == {"a": b"1", "b": b"2"}
        assert len(line.asked) == 3
        assert slept == [1.0, 1.0]
        line.answers = iter([{"a": GONE}] * 9)
        assert grid.ask({"a": b"x"}) == {"a": GONE}
        assert len(line.asked) < 9


def test_the_setting_of_a_run_that_never_ends_is_refused() -> None:
    from dayfly.federation.runs import checked_until

    assert checked_until(5, 1.0) == 3_600_005
    for hours in (0.0, -1.0, 2161.0, float("nan")):
        with pytest.raises(InvalidSetting, match="must be above 0 and at most 90 days"):
            checked_until(5, hours)
