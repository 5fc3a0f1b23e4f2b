"""Raw Segment JSON to decisions: 50 tags, batches of 256, one core, nothing minted; against plain Python on the same stream.

Both engines take in the whole stream; a round times either state and rules only (parsed events) or everything from bytes.
Every tag entered, with its customer and millisecond, is compared.
"""

from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Final

from dayfly.engine.decisions import Decisions
from dayfly.engine.intake import Intake
from dayfly.engine.shard import Shard

from .measuring import median, quiet_heap, stopwatch
from .peer_engine import Fire, PeerEngine
from .population import PEER_KEY, bench_intake_keys, enrol_all, peer_subjects, subjects_of
from .rows import Row, at_least
from .workload import CHANNEL, HOUR_MS, Batch, Stream, bench_policy

__all__ = ["Duel", "run"]

STATE_RATIO_BAR: Final = 15.0
END_TO_END_BAR: Final = 400_000.0
END_TO_END_RATIO_BAR: Final = 2.0
TAGS: Final = 50
BATCH: Final = 256


def run(*, quick: bool) -> list[Row]:
    """Two rows with bars, and one that says whether both engines decided the same."""
    people, warm, rounds, batches = (100_000, 240, 12, 16) if quick else (1_000_000, 2_000, 20, 60)
    stream = Stream(people, (warm + rounds * batches) * BATCH, 48 * HOUR_MS)
    duel = Duel(people, bench_policy(TAGS))
    source = stream.batches(BATCH)
    with quiet_heap():
        for batch in islice(source, warm):
            duel.end_to_end([batch])
        state = [[], []]  # type: list[list[float]]
        whole = [[], []]  # type: list[list[float]]
        for number in range(rounds):
            part = list(islice(source, batches))
            mine, peers = duel.state_only(part) if number % 2 else duel.end_to_end(part)
            pair = state if number % 2 else whole
            pair[0].append(mine)
            pair[1].append(peers)
    return _rows(duel, [median(times) for times in (*state, *whole)], stream)


def _rows(duel: "Duel", times: list[float], stream: Stream) -> list[Row]:
    """Rows from microseconds per event: state and peer's state, whole and peer's whole."""
    mine, peers, whole, peers_whole = times
    note = f"{stream.people:,} customers, {stream.events:,} events, all consented; set-up not timed"
    ratio, whole_ratio, rate = peers / mine, peers_whole / whole, 1e6 / whole
    entered, differ = len(duel.entered), len(duel.entered ^ duel.peer_entered)
    common: dict[str, Any] = {"suite": "realtime", "peer": "Python dict and deque"}
    whole_bar = at_least(rate, END_TO_END_BAR, "events/s")
    return [
        Row(
            case="parsed event to decision: state and rules, 50 tags",
            measured=round(mine, 3),
            unit="us/event",
            ratio=round(ratio, 2),
            note=f"peer {peers:.2f} us; {note}",
            **at_least(ratio, STATE_RATIO_BAR, "x the peer"),
            **common,
        ),
        Row(
            case="raw Segment JSON to decision, 50 tags, batches of 256",
            measured=round(rate),
            unit="events/s per core",
            ratio=round(whole_ratio, 2),
            bar=f"{whole_bar['bar']} and >= {END_TO_END_RATIO_BAR:g} x the peer",
            holds=whole_bar["holds"] and whole_ratio >= END_TO_END_RATIO_BAR,
            note=f"{whole:.2f} us, peer {peers_whole:.2f} us from bytes; {note}",
            **common,
        ),
        Row(
            case="tags entered that one engine has and the other has not",
            measured=differ,
            unit=f"of {entered:,}",
            bar="== 0",
            holds=differ == 0,
            note="customer, tag and millisecond compared",
            **common,
        ),
    ]


@dataclass(slots=True)
class Duel:
    """Both engines over one stream.

    Attributes:
        entered, peer_entered: Instant, customer and tag of every tag entered.
    """

    people: int
    policy: Any
    entered: set[tuple[int, int, str]] = field(default_factory=set)
    peer_entered: set[tuple[int, int, str]] = field(default_factory=set)
    _shard: Shard = field(init=False)
    _intake: Intake = field(init=False)
    _peer: PeerEngine = field(init=False)
    _names: dict[bytes, int] = field(init=False)
    _peer_names: dict[bytes, int] = field(init=False)

    def __post_init__(self) -> None:
        """Make everybody known to the shard; the peer takes everybody's consent as given."""
        everybody = range(self.people)
        subjects = subjects_of(everybody)
        self._names = dict(zip(subjects, everybody, strict=True))
        self._peer_names = dict(zip(peer_subjects(everybody), everybody, strict=True))
        self._shard = Shard(self.policy, expected_people=self.people)
        enrol_all(self._shard, subjects)
        self._intake = Intake(self.policy, bench_intake_keys())
        self._peer = PeerEngine(self.policy, key=PEER_KEY)

    def end_to_end(self, batches: list[Batch]) -> tuple[float, float]:
        """Microseconds per event from bytes to decisions: ours and the peer's."""
        begin = stopwatch()
        decisions = [
            self._shard.apply([self._intake.segment(payloads, CHANNEL, now_ms).batch], now_ms)
            for payloads, now_ms in batches
        ]
        middle = stopwatch()
        fires = [self._peer.feed_raw(payloads, now_ms) for payloads, now_ms in batches]
        return self._settled(batches, decisions, fires, (begin, middle, stopwatch()))

    def state_only(self, batches: list[Batch]) -> tuple[float, float]:
        """Microseconds per event from parsed events to decisions: ours and the peer's."""
        parsed = [
            (self._intake.segment(payloads, CHANNEL, now_ms).batch, now_ms) for payloads, now_ms in batches
        ]
        rows = [self._peer.rows(payloads, now_ms) for payloads, now_ms in batches]
        begin = stopwatch()
        decisions = [self._shard.apply([batch], now_ms) for batch, now_ms in parsed]
        middle = stopwatch()
        fires = [self._peer.feed_events(part) for part in rows]
        return self._settled(batches, decisions, fires, (begin, middle, stopwatch()))

    def _settled(
        self,
        batches: list[Batch],
        decisions: list[Decisions],
        fires: list[list[Fire]],
        instants: tuple[int, int, int],
    ) -> tuple[float, float]:
        """Note what was entered, outside the timing."""
        for made in decisions:
            self.entered |= {
                (change.at_ms, self._names[change.subject], change.tag)
                for change in made.tags
                if change.change == "enter"
            }
        for found in fires:
            self.peer_entered |= {(at_ms, self._peer_names[subject], tag) for at_ms, subject, tag in found}
        events = sum(len(payloads) for payloads, _ in batches)
        begin, middle, end = instants
        return (middle - begin) / events / 1e3, (end - middle) / events / 1e3
