"""The engine that open loops run against: 200 tags, a trigger that one event in a hundred fires, warm state, real minting."""

import os
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np
import numpy.typing as npt
from cryptography.hazmat.primitives.asymmetric import ec

from dayfly.engine.runtime import EngineKeys, MemoryEngine
from dayfly.privacy.fragments.wire import thumbprint

from .measuring import quiet_heap
from .open_loop import Latencies, drive, poisson_arrivals
from .population import bench_intake_keys, enrol_all, subjects_of
from .workload import AUDIENCE, CHANNEL, HOUR_MS, MINTING, START_MS, Stream, bench_policy, grants

__all__ = ["LoadedEngine", "Measured"]

TAGS: Final = 200
WARM_BATCH: Final = 4_096


@dataclass(frozen=True, slots=True)
class Measured:
    """One open loop.

    Attributes:
        loop: Latency of every event to its decision.
        sealed_s: float64[fragments], latency from planned arrival to sealed fragment.
        planned: Events that should have minted.
    """

    loop: Latencies
    sealed_s: npt.NDArray[np.float64]
    planned: int


@dataclass(slots=True)
class LoadedEngine:
    """A warm engine with a population.

    Attributes:
        people: Customers, all known and consented.
        warm_events: Events taken in before anything is measured, over two days of event time.
    """

    people: int
    warm_events: int
    engine: MemoryEngine = field(init=False)
    _subjects: list[bytes] = field(init=False)
    _granted: set[int] = field(default_factory=set)
    _now_ms: int = START_MS
    _runs: int = 0

    def __post_init__(self) -> None:
        """Set everything up; takes about ten microseconds per customer and per warm event."""
        crm = ec.generate_private_key(ec.SECP256R1())
        keys = replace(EngineKeys.generate("bench", os.urandom), intake=bench_intake_keys())
        self.engine = MemoryEngine(
            bench_policy(TAGS, minting=True),
            keys,
            recipients={AUDIENCE: thumbprint(crm.public_key())},
            random_bytes=os.urandom,
            expected_people=self.people,
        )
        self._subjects = subjects_of(range(self.people))
        enrol_all(self.engine.shard, self._subjects)
        warm = Stream(self.people, self.warm_events, 48 * HOUR_MS)
        for payloads, now_ms in warm.batches(WARM_BATCH):
            self.engine.segment(payloads, CHANNEL, now_ms)
            self._now_ms = now_ms

    def measure(self, rate: float, seconds: float) -> Measured:
        """Run one open loop at `rate` events per second.

        Raises:
            BadLoad: Rate or duration is not positive.
        """
        self._runs += 1
        arrivals = poisson_arrivals(rate, seconds, np.random.default_rng(100 + self._runs))
        base_ms = self._now_ms + 1_000
        stream = Stream(self.people, len(arrivals), 0, seed=1_000 + self._runs)
        payloads = list(stream.payloads(base_ms + (arrivals * 1_000).astype(np.int64)))
        minting = [index for index, payload in enumerate(payloads) if MINTING in payload]
        self._grant(stream.customers()[minting].tolist(), base_ms)
        sealed: list[int] = []
        engine = self.engine

        def serve(start: int, end: int, now_s: float) -> None:
            outcome = engine.segment(payloads[start:end], CHANNEL, base_ms + int(now_s * 1_000))
            if outcome.fragments:
                sealed.append(len(outcome.fragments))

        serve(0, 0, 0.0)
        with quiet_heap():
            loop = drive(arrivals, serve)
        self._now_ms = base_ms + int(loop.elapsed_s * 1_000) + 1
        if sum(sealed) != len(minting):
            raise AssertionError(
                f"sealed={sum(sealed)} must be {len(minting)}; the workload and the policy disagree"
            )
        return Measured(loop, loop.seconds[minting], len(minting))

    def _grant(self, people: list[int], now_ms: int) -> None:
        """Give those who are about to be minted for a consent record, which the mint's full decision reads."""
        fresh = sorted(set(people) - self._granted)
        self._granted |= set(fresh)
        for start in range(0, len(fresh), 1_000):
            part = [self._subjects[person] for person in fresh[start : start + 1_000]]
            self.engine.apply(list(grants(part, now_ms)), now_ms)
