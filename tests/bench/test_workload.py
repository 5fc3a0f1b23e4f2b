"""The bench's stream is deterministic, realistic in size, read whole by the compiled path, and compiles for both engines."""

from collections import Counter

import msgspec
import numpy as np

from dayfly.bench.peer_engine import PeerEngine
from dayfly.bench.population import PEER_KEY, bench_intake_keys, peer_subjects, subjects_of
from dayfly.bench.workload import CHANNEL, HOUR_MS, MINTING, START_MS, Stream, bench_policy, grants, zipf
from dayfly.engine.intake import Intake
from dayfly.engine.shard.consent_needs import tag_request
from dayfly.engine.tags.tree import Absent, And, Comparison, Sequence
from dayfly.privacy.consent import PersonConsents, decide


def _kind(when: object) -> str:
    if isinstance(when, And):
        return "absent" if any(isinstance(part, Absent) for part in when.parts) else "count"
    return when.measure.function if isinstance(when, Comparison) else type(when).__name__


def test_the_mix_is_the_documented_one() -> None:
    found = Counter(_kind(tag.when) for tag in bench_policy(50).tags)
    assert found == {"count": 30, "distinct": 8, "sum": 4, Sequence.__name__: 4, "absent": 4}
    assert sum(isinstance(tag.when, And) for tag in bench_policy(50).tags) == 14


def test_the_peer_takes_every_tag() -> None:
    PeerEngine(bench_policy(500))


def test_tags_of_one_size_hardly_repeat() -> None:
    texts = [tag.text for tag in bench_policy(500).tags]
    assert len(set(texts)) > 380


def test_equal_seeds_give_equal_bytes() -> None:
    stream = Stream(1_000, 500, HOUR_MS)
    assert list(stream.payloads()) == list(stream.payloads())
    assert list(Stream(1_000, 500, HOUR_MS, seed=2).payloads()) != list(stream.payloads())


def test_calls_have_the_size_and_shares_they_should() -> None:
    calls = list(Stream(1_000, 20_000, HOUR_MS).payloads())
    assert 350 < np.mean([len(call) for call in calls]) < 400
    assert 0.008 < sum(MINTING in call for call in calls) / len(calls) < 0.012
    assert len({msgspec.json.decode(call)["messageId"] for call in calls}) == len(calls)


def test_the_compiled_path_reads_every_call_and_none_is_ahead_of_its_arrival() -> None:
    stream = Stream(1_000, 1_024, HOUR_MS)
    intake = Intake(bench_policy(1), bench_intake_keys())
    for payloads, now_ms in stream.batches(256):
        result = intake.segment(payloads, CHANNEL, now_ms)
        assert result.counts["fast"] == result.counts["accepted"] == 256
        assert (result.batch.time_ms <= now_ms).all()
        assert (result.batch.type >= 0).all()


def test_both_engines_pseudonyms_are_known_in_advance() -> None:
    stream = Stream(50, 256, HOUR_MS)
    payloads, now_ms = next(stream.batches(256))
    people = stream.customers().tolist()
    batch = Intake(bench_policy(1), bench_intake_keys()).segment(payloads, CHANNEL, now_ms).batch
    assert [words.tobytes() for words in batch.subject] == subjects_of(people)
    rows = PeerEngine(bench_policy(1), key=PEER_KEY).rows(payloads, now_ms)
    assert [row[1] for row in rows] == peer_subjects(people)


def test_the_grants_allow_every_tag() -> None:
    policy = bench_policy(5)
    (given,) = grants(subjects_of([7]), START_MS)
    person = PersonConsents(given.subject.hex()).with_record(given.record)
    assert all(decide(tag_request(tag, policy), person, START_MS).allowed for tag in policy.tags)


def test_the_law_is_zipf_with_the_stated_exponent() -> None:
    counts = np.sort(np.bincount(zipf(1_000, 2_000_000, np.random.default_rng(1)), minlength=1_000))[::-1]
    slope = np.polyfit(np.log(np.arange(1, 201)), np.log(counts[:200]), 1)[0]
    assert -1.1 < slope < -1.0
    flat = np.sort(
        np.bincount(zipf(1_000, 2_000_000, np.random.default_rng(1), offset=100), minlength=1_000)
    )[::-1]
    assert flat[0] < counts[0] / 10
