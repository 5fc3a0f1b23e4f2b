"""What is generated enters through the real intake under the example policy, and only what was broken on purpose does not."""

from collections import Counter
from pathlib import Path

import pytest

from dayfly.engine.generator import FILE_NAMES, Generator, RawEvent, Shares, write
from dayfly.engine.intake import Intake, IntakeKeys, IntakeResult
from dayfly.engine.policy.load import example_policy_folder, load_policy
from dayfly.engine.policy.model import Policy
from dayfly.privacy.deident import ProbeKeys, PseudonymKeys

START_MS = 1_795_305_600_000
DAY_MS = 86_400_000
CLOUDEVENT = {"Content-Type": "application/cloudevents+json"}


@pytest.fixture(scope="module")
def policy() -> Policy:
    return load_policy(example_policy_folder(), version=1)


@pytest.fixture(scope="module")
def events() -> list[RawEvent]:
    return list(Generator(3, 250, START_MS, 2 * DAY_MS, shares=Shares(malformed=0.02)))


def intake(policy: Policy) -> Intake:
    key = bytes(range(32))
    probes = ProbeKeys("shop", claim_key=key, random_bytes=lambda count: bytes(range(count)))
    return Intake(policy, IntakeKeys(PseudonymKeys("shop", {1: key}), bytes(32), probes))


def taken(reader: Intake, event: RawEvent) -> IntakeResult:
    if event.form == "cloudevents":
        return reader.cloudevents(CLOUDEVENT, event.payload, event.channel, event.received_ms)
    return reader.segment(event.payload, event.channel, event.received_ms)


def test_messages_enter_unless_they_were_broken(policy: Policy, events: list[RawEvent]) -> None:
    reader = intake(policy)
    outcomes: Counter[tuple[bool, bool]] = Counter()
    for event in events:
        if event.channel in {"app", "web", "wifi"}:
            outcomes[event.fault == "malformed", bool(taken(reader, event).dead_letters)] += 1
    assert outcomes[True, False] == outcomes[False, True] == 0
    assert outcomes[True, True] > 100
    assert outcomes[False, False] > 5_000


def test_only_the_consent_event_is_of_an_undeclared_type(policy: Policy, events: list[RawEvent]) -> None:
    reader = intake(policy)
    undeclared = [
        event
        for event in events
        if event.channel in {"app", "web", "wifi"} and taken(reader, event).counts.get("undeclared", 0)
    ]
    assert undeclared
    assert all(b'"event":"Segment Consent Preference Updated"' in event.payload for event in undeclared)


@pytest.mark.parametrize("channel", ["marketplace", "hotline"])
def test_files_enter_through_the_example_mappings(
    policy: Policy, events: list[RawEvent], tmp_path: Path, channel: str
) -> None:
    write([event for event in events if event.fault != "malformed"], tmp_path)
    (mapping,) = [mapping for mapping in policy.mappings.values() if mapping.channel == channel]  # type: ignore[attr-defined]
    reader = intake(policy)
    read = reader.csv if channel == "marketplace" else reader.jsonl
    counts: Counter[str] = Counter()
    for result in read(tmp_path / FILE_NAMES[channel], mapping):  # type: ignore[arg-type]
        counts.update(result.counts)
    expected = sum(1 for event in events if event.channel == channel and event.fault != "malformed")
    assert counts["accepted"] == expected > 10
    assert counts["dead"] == counts["undeclared"] == 0
