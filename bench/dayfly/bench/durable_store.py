"""A durable engine with a population for the durable cases, in a folder of its own that is removed afterwards."""

import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import numpy as np
from cryptography.hazmat.primitives.asymmetric import ec

from dayfly.engine.durable import Engine, EngineSettings, Outside
from dayfly.engine.policy.model import Policy
from dayfly.engine.store import LOCAL_DISK, Disk, LocalDisk
from dayfly.privacy.consent import ConsentRecord
from dayfly.privacy.fragments.wire import thumbprint
from dayfly.privacy.keys import BareSeal, FileKeyProvider

from .kernels_bench import enrol
from .workload import AUDIENCE, START_MS, grants, user_id

__all__ = ["BenchClock", "BenchStore", "Unsynced", "bench_store"]

DAY_MS: Final = 86_400_000


class BenchClock:
    """The stream's clock: starts at its first event and goes on at the speed of the wall clock."""

    def __init__(self) -> None:
        self.offset_ms = START_MS - time.time_ns() // 1_000_000

    def __call__(self) -> int:
        """Now, in the stream's time."""
        return time.time_ns() // 1_000_000 + self.offset_ms

    def at(self, now_ms: int) -> None:
        """Set it forward to an instant of the stream."""
        self.offset_ms = max(self.offset_ms, now_ms - time.time_ns() // 1_000_000)


class Unsynced(LocalDisk):
    """The same files with commits switched off: writes end in the page cache."""

    def open(self, path: Path, flags: int) -> int:
        """Open without synchronous writes."""
        return super().open(path, flags & ~(os.O_DSYNC | os.O_SYNC))

    def sync(self, descriptor: int) -> None:
        """Do nothing."""


class BenchStore:
    """A folder with keys and a store.

    Args:
        folder: Empty.
        policy: In force.
        people: Tables are made large enough for so many.
        disk: File operations.
        settings: As of `EngineSettings`; snapshots only when asked for.
    """

    def __init__(
        self, folder: Path, policy: Policy, people: int, *, disk: Disk = LOCAL_DISK, **settings: int
    ) -> None:
        self.folder = folder / "store"
        self.policy, self.people, self.disk = policy, people, disk
        (folder / "keys").mkdir(mode=0o700)
        self.keys = FileKeyProvider.create(
            folder / "keys" / "bench.keys", "bench", seal=BareSeal(), random_bytes=os.urandom, now_ms=START_MS
        )
        self.clock = BenchClock()
        self.recipients = {AUDIENCE: thumbprint(ec.generate_private_key(ec.SECP256R1()).public_key())}
        self.settings = EngineSettings(
            **{"snapshot_bytes": 1 << 40, "snapshot_seconds": 86_400, "expected_people": people, **settings}  # type: ignore[arg-type]
        )

    def open(self) -> Engine:
        """Open the store."""
        return Engine.open(
            self.folder,
            self.keys,
            policy=self.policy,
            recipients=self.recipients,
            settings=self.settings,
            outside=Outside(now_ms=self.clock, disk=self.disk),
        )

    def subject(self, person: int) -> bytes:
        """Pseudonym of a customer."""
        return self.keys.pseudonyms().current("user", user_id(person)).value

    def enrol(self, engine: Engine) -> list[bytes]:
        """Make everybody known with a consent to everything; see `population.enrol_all`. Not in the log: snapshot next.

        Returns:
            Everybody's pseudonym.
        """
        current = self.keys.pseudonyms().current
        subjects = [current("user", user_id(person)).value for person in range(self.people)]
        first: ConsentRecord = next(iter(grants(subjects[:1], START_MS))).record
        engine.consent(subjects[0], first)
        others = np.frombuffer(b"".join(subjects[1:]), np.uint64).reshape(-1, 2)

        def known(_: int) -> None:
            core = engine._running.host.engine.shard.arrays.core  # noqa: SLF001 - a population by the million
            enrol(core, others, core.masks[0].copy())

        engine._running.do(known)  # noqa: SLF001 - on the engine's own thread
        return subjects


@contextmanager
def bench_store(
    policy: Policy, people: int, *, disk: Disk = LOCAL_DISK, **settings: int
) -> Iterator[BenchStore]:
    """A store in a temporary folder, removed at the end."""
    folder = Path(tempfile.mkdtemp(prefix="dayfly-bench-", dir=os.environ.get("DAYFLY_BENCH_DIR")))
    try:
        yield BenchStore(folder, policy, people, disk=disk, **settings)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
