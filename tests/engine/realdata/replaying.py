"""One shard under the policy of one data set: files in by their mappings, everybody consented, every change of a tag kept."""

import random
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, tzinfo
from pathlib import Path
from typing import cast

import numpy as np

from dayfly.engine.decisions import Decisions, TagChange
from dayfly.engine.inputs import ConsentGiven, ConsentWithdrawn, Input
from dayfly.engine.intake import FileMapping, Intake, IntakeKeys
from dayfly.engine.policy.load import load_policy
from dayfly.engine.policy.model import Policy
from dayfly.engine.runtime.arrivals import Arrival, Rows
from dayfly.engine.shard.shard import Shard
from dayfly.privacy.consent import ConsentRecord
from dayfly.privacy.deident import ProbeKeys, PseudonymKeys

from ..runtime.world import consent_record

DAY_MS = 86_400_000
FOREVER_MS = 4_000_000_000_000

Transition = tuple[bytes, int, bool]
"""Who, when, and whether the tag is carried from then on."""


def policy_of(name: str) -> Policy:
    """The policy that is kept beside these tests for one data set."""
    return load_policy(Path(__file__).parent / "policies" / name, version=1)


def mapping_of(policy: Policy, name: str) -> FileMapping:
    return cast("FileMapping", policy.mappings[name])


def yes_to_everything(subject: bytes, at_ms: int) -> tuple[ConsentRecord, ...]:
    return (consent_record(subject, at_ms, purposes=("service",), valid_until_ms=FOREVER_MS),)


class Replay:
    """Feeds one shard with what intake makes of a data set's rows, on the data's own time."""

    def __init__(
        self, name: str, *, zone: tzinfo = UTC, people: int = 1_000, policy: Policy | None = None
    ) -> None:
        draw = random.Random(name)
        self.policy = policy or policy_of(name)
        self.keys = IntakeKeys(
            PseudonymKeys("realdata", {1: draw.randbytes(32)}),
            draw.randbytes(32),
            ProbeKeys("realdata", claim_key=draw.randbytes(32), random_bytes=draw.randbytes, zone=zone),
        )
        self.intake = Intake(self.policy, self.keys)
        self.shard = Shard(self.policy, expected_people=people)
        self.decided: list[Decisions] = []
        self.counts: Counter[str] = Counter()
        self.intake_counts: Counter[str] = Counter()
        self._met: set[bytes] = set()

    def mapping(self, name: str) -> FileMapping:
        return mapping_of(self.policy, name)

    def person(self, user: object) -> bytes:
        return self.keys.pseudonyms.current("user", str(user)).value

    def consent(self, people: Iterable[bytes], at_ms: int) -> None:
        """A consent to everything, of each of `people`, at one instant."""
        said = [(who, record) for who in people for record in yes_to_everything(who, at_ms)]
        self._apply([ConsentGiven(at_ms, who, record) for who, record in said], at_ms)

    def take(
        self,
        arrivals: Iterable[Arrival],
        *,
        on_meeting: Callable[[bytes, int], Sequence[ConsentRecord]] | None = None,
    ) -> None:
        """Take rows in at the instants of their receipt; whoever is met for the first time is heard just before."""
        for rows in arrivals:
            assert isinstance(rows, Rows)
            batch = rows.result.batch
            self.intake_counts.update(rows.result.counts)
            first_ms = int(batch.received_ms[0]) if len(batch) else rows.received_ms
            inputs: list[Input] = []
            if on_meeting is not None:
                for who in subjects(batch.subject):
                    if who not in self._met:
                        self._met.add(who)
                        inputs += [ConsentGiven(first_ms, who, said) for said in on_meeting(who, first_ms)]
            self._apply([*inputs, batch], rows.received_ms)

    def until(self, now_ms: int) -> None:
        self._apply([], now_ms)

    def withdraw(self, who: bytes, purpose: str, now_ms: int) -> None:
        self._apply([ConsentWithdrawn(now_ms, who, purpose)], now_ms)

    def _apply(self, inputs: Sequence[Input], now_ms: int) -> None:
        decisions = self.shard.apply(inputs, now_ms)
        self.counts.update(decisions.counts)
        self.decided.append(decisions)

    # --- what it decided ------------------------------------------------------------------------------------------------

    def changes(self, tag: str) -> list[TagChange]:
        return [change for decisions in self.decided for change in decisions.tags if change.tag == tag]

    def transitions(self, tag: str) -> set[Transition]:
        """The tag's changes; what was undone within its own millisecond is no change. They take turns, or it fails."""
        held: dict[bytes, bool] = {}
        within: dict[tuple[bytes, int], list[bool]] = defaultdict(list)
        for change in self.changes(tag):
            enters = change.change == "enter"
            assert held.get(change.subject, False) != enters, change
            held[change.subject] = enters
            within[change.subject, change.at_ms].append(enters)
        return {(who, at_ms, turns[-1]) for (who, at_ms), turns in within.items() if len(turns) % 2}

    def members(self, tag: str, instants: Iterable[int]) -> Mapping[int, set[bytes]]:
        """Who carries the tag at each instant, by the changes up to and at it."""
        changes = sorted(self.changes(tag), key=lambda change: change.sequence)
        assert [change.at_ms for change in changes] == sorted(change.at_ms for change in changes)
        found: dict[int, set[bytes]] = {}
        now: set[bytes] = set()
        position = 0
        for instant in sorted(set(instants)):
            while position < len(changes) and changes[position].at_ms <= instant:
                change = changes[position]
                (now.add if change.change == "enter" else now.discard)(change.subject)
                position += 1
            found[instant] = set(now)
        return found


def subjects(words: "np.ndarray[tuple[int, ...], np.dtype[np.uint64]]") -> list[bytes]:
    """The pseudonym of each row."""
    data = words.astype("<u8").tobytes()
    return [data[start : start + 16] for start in range(0, len(data), 16)]
