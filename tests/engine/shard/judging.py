"""A shard and the brute-force recount side by side: both are told the same, and every answer is compared."""

import heapq
import random
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from decimal import ROUND_HALF_EVEN, Decimal
from fractions import Fraction
from typing import Any

import numpy as np

from dayfly.engine.decisions import Decisions, TagChange
from dayfly.engine.events import EventBatch
from dayfly.engine.inputs import Input
from dayfly.engine.policy.model import Policy
from dayfly.engine.shard.shard import Shard
from tests.engine.workload import EPOCH_MS, part_of, pseudonym
from tests.engine.workload_rules import SPANS_MS
from tests.oracles.consent_real import RealConsent
from tests.oracles.membership import OracleChange, OracleEngine

__all__ = ["Judged", "Question", "cut_at_questions", "restored"]

_SIX_PLACES = Decimal("0.000001")


def restored(shard: Shard) -> Shard:
    """The shard after a stop and a start; what it saved is what it would save again."""
    saved = shard.snapshot()
    again = Shard.restore(saved, shard.policy)
    assert again.snapshot() == saved
    return again


@dataclass(slots=True)
class Judged:
    """A shard whose decisions are compared with the recount after each call.

    Attributes:
        told: Tags that the decisions so far say each pseudonym carries.
    """

    policy: Policy
    track: bool = True
    untils: bool = False
    shard: Shard = field(init=False)
    oracle: OracleEngine = field(init=False)
    told: dict[bytes, set[str]] = field(default_factory=dict)
    sequence: int = 0

    def __post_init__(self) -> None:
        self.shard = Shard(self.policy)
        self.oracle = OracleEngine(self.policy, RealConsent(), track=self.track, untils=self.untils)

    def apply(self, inputs: list[Input], now_ms: int) -> tuple[Decisions, list[OracleChange]]:
        """Tell both; with `track`, every change must be the recount's."""
        before = dict(self.oracle.counts)
        made = self.shard.apply(inputs, now_ms)
        recounted = self.oracle.apply(inputs, now_ms)
        self._listen(made)
        counted = {name: count - before.get(name, 0) for name, count in self.oracle.counts.items()}
        self._compare_counts(made.counts, counted)
        if self.track:
            self._compare_changes(made.tags, recounted)
        return made, recounted

    def _listen(self, made: Decisions) -> None:
        """Sequences rise, an enter follows a leave and a leave an enter, and nobody enters twice."""
        for change in made.tags:
            assert change.sequence > self.sequence
            self.sequence = change.sequence
            tags = self.told.setdefault(change.subject, set())
            assert (change.tag in tags) is (change.change == "leave"), change
            (tags.discard if change.change == "leave" else tags.add)(change.tag)

    @staticmethod
    def _compare_counts(mine: Mapping[str, int], recounted: Mapping[str, int]) -> None:
        """An old event that comes twice is late for a shard, which forgets ids, and a duplicate for the recount."""
        assert _outcomes(mine, "not_collected") == _outcomes(recounted, "refused")

    @staticmethod
    def _compare_changes(mine: Iterable[TagChange], recounted: Iterable[OracleChange]) -> None:
        ours = sorted(mine, key=_place)
        theirs = sorted(recounted, key=_place)
        assert [_place(change) for change in ours] == [_place(change) for change in theirs]
        for change, other in zip(ours, theirs, strict=True):
            if change.change == "leave":
                assert change.reason in other.reasons, (change, other)

    def compare_person(self, subject: bytes) -> int:
        """All tags of a person, what they capture, and what the decisions told; returns how many answers agreed."""
        held = self.shard.tags(subject)
        assert frozenset(held) == self.oracle.tags(subject), self.shard.clock_ms
        if self.told.get(subject):  # decisions name the pseudonym that stays
            assert self.told[subject] == set(held)
        for name, captured in held.items():
            assert captured == _shown(self.oracle.captures(subject, name)), name
        return len(self.policy_tags)

    @property
    def policy_tags(self) -> tuple[str, ...]:
        """Names of the tags in force."""
        return tuple(tag.name for tag in self.shard.policy.tags)

    def restart(self) -> None:
        """Stop and start the shard."""
        self.shard = restored(self.shard)


def _outcomes(counts: Mapping[str, int], refused: str) -> tuple[int, ...]:
    names = ("too_far_ahead", "undeclared", refused)
    repeated_or_late = counts.get("duplicate", 0) + counts.get("too_late", 0)
    return (repeated_or_late, *(counts.get(name, 0) for name in names))


def _place(change: TagChange | OracleChange) -> tuple[int, bytes, str, str]:
    return change.at_ms, change.subject, change.tag, change.change


def _shown(captured: Mapping[str, object]) -> dict[str, object]:
    """The recount's values as a shard shows them: averages at six places, distinct values sorted."""
    return {name: _value(value) for name, value in captured.items()}


def _value(value: Any) -> object:
    if isinstance(value, frozenset):
        return sorted(value)
    if isinstance(value, Fraction):
        exact = Decimal(value.numerator) / Decimal(value.denominator)
        return exact.quantize(_SIX_PLACES, rounding=ROUND_HALF_EVEN)
    return value


# --- questions at instants ---------------------------------------------------------------------------------------------

Question = tuple[int, bytes]
"""(instant, pseudonym): who carries which tags then?"""


def cut_at_questions(
    inputs: Iterable[Input], rng: random.Random, *, per_event: float, people: int
) -> Iterator[tuple[list[Input], int, bytes | None]]:
    """The inputs as (inputs, now_ms, whom to ask about then or None), cut at random and at each question.

    A question is an event's time plus a window constant plus -1, 0 or 1 ms, two times in three about the person of that event.
    """
    waiting: list[Question] = []
    part: list[Input] = []
    now_ms = EPOCH_MS
    for item in inputs:
        if isinstance(item, EventBatch):
            for question in _questions(item, rng, per_event, people):
                heapq.heappush(waiting, question)
        rest: Input | None = item
        while rest is not None:
            while waiting and waiting[0][0] < _first_instant(rest):
                at_ms, subject = heapq.heappop(waiting)
                yield part, max(at_ms, now_ms), subject
                part, now_ms = [], max(at_ms, now_ms)
            piece, rest = _until(rest, waiting[0][0] if waiting else 2**62)
            part.append(piece)
            now_ms = _last_instant(piece)
            if rng.random() < 0.3:
                yield part, now_ms, None
                part = []
    yield part, now_ms, None
    for at_ms, subject in sorted(waiting):
        yield [], max(at_ms, now_ms), subject


def _questions(batch: EventBatch, rng: random.Random, per_event: float, people: int) -> Iterator[Question]:
    count = int(len(batch) * per_event + rng.random())
    for _ in range(count):
        index = rng.randrange(len(batch))
        subject = batch.subject[index].astype("<u8").tobytes()
        instant = int(batch.time_ms[index]) + rng.choice((0, *SPANS_MS)) + rng.randrange(-1, 2)
        yield instant, subject if rng.random() < 2 / 3 else pseudonym(rng.randrange(people))


def _until(item: Input, instant_ms: int) -> tuple[Input, Input | None]:
    """What of `item` comes at or before an instant, and the rest."""
    if not isinstance(item, EventBatch) or item.received_ms[-1] <= instant_ms:
        return item, None
    rows = int(np.searchsorted(item.received_ms, instant_ms, side="right"))
    return part_of(item, 0, rows), part_of(item, rows, len(item))


def _first_instant(item: Input) -> int:
    return int(item.received_ms[0]) if isinstance(item, EventBatch) else item.at_ms


def _last_instant(item: Input) -> int:
    return int(item.received_ms[-1]) if isinstance(item, EventBatch) else item.at_ms
