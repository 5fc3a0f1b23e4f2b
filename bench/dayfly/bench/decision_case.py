"""Raw Segment JSON to decisions: 50 tags, batches of 256, one core, nothing minted; against plain Python on the same stream.

All engines take in the whole stream; a round times either state and rules only (parsed events) or everything from bytes.
Every tag entered, with its customer and millisecond, is compared. The bars count against the straightforward engine
(`peer_plain`), as the issue words them; the ratio to the tuned one (`peer_engine`) stands beside it.
"""

from dataclasses import dataclass, field
from itertools import islice, pairwise
from typing import Any, Final

from dayfly.engine.decisions import Decisions
from dayfly.engine.intake import Intake
from dayfly.engine.shard import Shard

from .measuring import median, quiet_heap, stopwatch
from .peer_engine import Fire, PeerEngine
from .peer_plain import PlainEngine
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
    """Two rows with bars, and one that says whether all engines decided the same."""
    people, warm, rounds, batches = (100_000, 240, 12, 16) if quick else (1_000_000, 2_000, 20, 60)
    stream = Stream(people, (warm + rounds * batches) * BATCH, 48 * HOUR_MS)
    duel = Duel(people, bench_policy(TAGS))
    source = stream.batches(BATCH)
    with quiet_heap():
        for batch in islice(source, warm):
            duel.end_to_end([batch])
        state: list[list[float]] = [[], [], []]
        whole: list[list[float]] = [[], [], []]
        for number in range(rounds):
            part = list(islice(source, batches))
            times = duel.state_only(part) if number % 2 else duel.end_to_end(part)
            for kept, time_us in zip(state if number % 2 else whole, times, strict=True):
                kept.append(time_us)
    return _rows(duel, [median(times) for times in (*state, *whole)], stream)


def _rows(duel: "Duel", times: list[float], stream: Stream) -> list[Row]:
    """Rows from microseconds per event: state and rules of ours, plain and tuned; then the same three from bytes."""
    mine, plain, tuned, whole, plain_whole, tuned_whole = times
    note = f"{stream.people:,} customers, {stream.events:,} events, all consented; set-up not timed"
    ratio, whole_ratio, rate = plain / mine, plain_whole / whole, 1e6 / whole
    entered, differ = len(duel.entered), sum(len(duel.entered ^ theirs) for theirs in duel.peers_entered)
    common: dict[str, Any] = {"suite": "realtime", "peer": "Python dict and deque"}
    whole_bar = at_least(rate, END_TO_END_BAR, "events/s")
    return [
        Row(
            case="parsed event to decision: state and rules, 50 tags",
            measured=round(mine, 3),
            unit="us/event",
            ratio=round(ratio, 2),
            note=f"peer {plain:.2f} us; a tuned Python engine {tuned:.2f} us: {tuned / mine:.1f}x; {note}",
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
            note=f"{whole:.2f} us, peer {plain_whole:.2f} us, tuned {tuned_whole:.2f} us: {tuned_whole / whole:.1f}x; {note}",
            **common,
        ),
        Row(
            case="tags entered that one engine has and another has not",
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
    """Three engines over one stream.

    Attributes:
        entered: Instant, customer and tag of every tag entered; `peers_entered` the same of the plain and the tuned peer.
    """

    people: int
    policy: Any
    entered: set[tuple[int, int, str]] = field(default_factory=set)
    peers_entered: tuple[set[tuple[int, int, str]], ...] = field(default_factory=lambda: (set(), set()))
    _shard: Shard = field(init=False)
    _intake: Intake = field(init=False)
    _peers: tuple[PeerEngine, ...] = field(init=False)
    _names: dict[bytes, int] = field(init=False)
    _peer_names: dict[bytes, int] = field(init=False)

    def __post_init__(self) -> None:
        """Make everybody known to the shard; the peers take everybody's consent as given."""
        everybody = range(self.people)
        subjects = subjects_of(everybody)
        self._names = dict(zip(subjects, everybody, strict=True))
        self._peer_names = dict(zip(peer_subjects(everybody), everybody, strict=True))
        self._shard = Shard(self.policy, expected_people=self.people)
        enrol_all(self._shard, subjects)
        self._intake = Intake(self.policy, bench_intake_keys())
        self._peers = (PlainEngine(self.policy, key=PEER_KEY), PeerEngine(self.policy, key=PEER_KEY))

    def end_to_end(self, batches: list[Batch]) -> list[float]:
        """Microseconds per event from bytes to decisions: ours and the peers'."""
        instants = [stopwatch()]
        decisions = [
            self._shard.apply([self._intake.segment(payloads, CHANNEL, now_ms).batch], now_ms)
            for payloads, now_ms in batches
        ]
        instants.append(stopwatch())
        fires = []
        for peer in self._peers:
            fires.append([peer.feed_raw(payloads, now_ms) for payloads, now_ms in batches])
            instants.append(stopwatch())
        return self._settled(batches, decisions, fires, instants)

    def state_only(self, batches: list[Batch]) -> list[float]:
        """Microseconds per event from parsed events to decisions: ours and the peers'."""
        parsed = [
            (self._intake.segment(payloads, CHANNEL, now_ms).batch, now_ms) for payloads, now_ms in batches
        ]
        rows = [self._peers[0].rows(payloads, now_ms) for payloads, now_ms in batches]
        instants = [stopwatch()]
        decisions = [self._shard.apply([batch], now_ms) for batch, now_ms in parsed]
        instants.append(stopwatch())
        fires = []
        for peer in self._peers:
            fires.append([peer.feed_events(part) for part in rows])
            instants.append(stopwatch())
        return self._settled(batches, decisions, fires, instants)

    def _settled(
        self,
        batches: list[Batch],
        decisions: list[Decisions],
        fires: list[list[list[Fire]]],
        instants: list[int],
    ) -> list[float]:
        """Note what was entered, outside the timing."""
        for made in decisions:
            self.entered |= {
                (change.at_ms, self._names[change.subject], change.tag)
                for change in made.tags
                if change.change == "enter"
            }
        for entered, rounds in zip(self.peers_entered, fires, strict=True):
            for found in rounds:
                entered |= {(at_ms, self._peer_names[subject], tag) for at_ms, subject, tag in found}
        events = sum(len(payloads) for payloads, _ in batches)
        return [(end - begin) / events / 1e3 for begin, end in pairwise(instants)]
