"""Memberships, changes and captured values are those of a brute-force recount: random lives, every function, every fault.

`DAYFLY_BAR_EVENTS` scales the slow test of the bar (one million events, two hundred tags); CI runs a bounded slice of it.
"""

import os
import random

import pytest

from dayfly.engine.inputs import ConsentGiven, Input
from dayfly.engine.tags.tree import And, Expression, InTag, Not, Or, Tag
from tests.engine.shard.judging import Judged, cut_at_questions
from tests.engine.workload import (
    EPOCH_MS,
    Mix,
    as_batches,
    consent_record,
    pseudonym,
    random_inputs,
    random_policy,
)
from tests.oracles.membership import FOREVER

SOME = Mix(observed=0.1, merge=0.01, erase=0.006, link=0.005, consent=0.05)
"""More of what is rare, so that a short life has all of it."""


def live(seed: int, *, events: int, people: int, tags: int, edits: int = 2) -> None:
    """A random life, told to both in random cuts, with stops and starts on the way."""
    rng = random.Random(seed)
    policy = random_policy(rng, tags)
    inputs = random_inputs(rng, policy, events=events, people=people, edits=edits, mix=SOME)
    judged = Judged(policy)
    for part, now_ms in as_batches(inputs, random.Random(seed + 1)):
        judged.apply(part, now_ms)
        if rng.random() < 0.05:
            judged.restart()
        if rng.random() < 0.3:
            judged.compare_person(pseudonym(rng.randrange(people)))
    for person in range(people):
        judged.compare_person(pseudonym(person))
    assert judged.oracle.counts["accepted"] > events // 2


@pytest.mark.parametrize("seed", range(4))
def test_every_change_is_the_recounts(seed: int) -> None:
    live(seed, events=200 + 50 * seed, people=8 + 2 * seed, tags=40)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(100, 130))
def test_every_change_of_a_longer_life_is_the_recounts(seed: int) -> None:
    live(seed, events=800, people=3 + seed % 20, tags=30 + seed % 40, edits=seed % 5)


# --- until when --------------------------------------------------------------------------------------------------------


def asks_for_tags(expression: Expression) -> bool:
    if isinstance(expression, And | Or):
        return any(asks_for_tags(part) for part in expression.parts)
    return asks_for_tags(expression.part) if isinstance(expression, Not) else isinstance(expression, InTag)


def everything_for_ever(person: int) -> list[Input]:
    purposes = ("service", "marketing", "analytics")
    records = [consent_record(person, EPOCH_MS, purpose, "*", until_ms=FOREVER) for purpose in purposes]
    return [ConsentGiven(EPOCH_MS, pseudonym(person), record) for record in records]


def test_an_enter_says_when_the_tag_ends_by_itself() -> None:
    """Everybody consents for ever, so that the condition alone decides. What is said is never too late, and nearly always exact."""
    mix = Mix(consent=0.0, merge=0.0, link=0.0, erase=0.0, future=0.0)
    exact = ends = 0
    for seed in range(3):
        rng = random.Random(seed)
        policy = random_policy(rng, 40)
        tags: dict[str, Tag] = {tag.name: tag for tag in policy.tags if not asks_for_tags(tag.when)}
        judged = Judged(policy, untils=True)
        lives = random_inputs(rng, policy, events=150, people=4, edits=0, mix=mix, first_consents=False)
        inputs = [given for person in range(4) for given in everything_for_ever(person)] + list(lives)
        for part, now_ms in as_batches(inputs, rng):
            made, recounted = judged.apply(part, now_ms)
            said = {(change.at_ms, change.subject, change.tag): change.until_ms for change in recounted}
            for change in made.tags:
                if change.change == "enter" and change.tag in tags:
                    truth = said[change.at_ms, change.subject, change.tag]
                    assert change.at_ms < change.until_ms <= truth, change
                    exact += change.until_ms == truth
                    ends += 1
    assert ends > 200
    assert exact >= 0.98 * ends


# --- the bar -----------------------------------------------------------------------------------------------------------


def bar(seed: int, *, events: int, people: int, tags: int, questions: int) -> int:
    """Questions at edges of windows about all tags of a person; returns how many memberships were compared."""
    rng = random.Random(seed)
    policy = random_policy(rng, tags)
    mix = Mix(observed=0.01)
    inputs = random_inputs(rng, policy, events=events, people=people, edits=3, mix=mix)
    judged = Judged(policy, track=False)
    asked = compared = 0
    restarts = set(random.Random(seed).sample(range(questions), min(10, questions // 4)))
    for part, now_ms, subject in cut_at_questions(
        inputs, random.Random(seed + 1), per_event=1.02 * questions / events, people=people
    ):
        judged.apply(part, now_ms)
        if subject is not None:
            compared += judged.compare_person(subject)
            if asked in restarts:
                judged.restart()
            asked += 1
    assert asked >= questions
    assert judged.oracle.counts["accepted"] > 0.9 * events
    return compared


def test_no_membership_is_wrong_in_a_slice_of_the_bar() -> None:
    assert bar(7, events=4_000, people=80, tags=200, questions=100) >= 19_000


@pytest.mark.slow
def test_no_membership_is_wrong_in_a_million_events() -> None:
    """The bar: a million events (5 % out of order, 2 % twice, 1 % too late), 200 tags, 10,000 instants, none wrong."""
    events = int(os.environ.get("DAYFLY_BAR_EVENTS", "100000" if os.environ.get("CI") else "1000000"))
    questions = max(events // 100, 20)
    assert (
        bar(2, events=events, people=max(events // 50, 20), tags=200, questions=questions) >= 180 * questions
    )
