"""A run put together: engine, replay, tally and, where wanted, the folder that it leaves behind."""

import os
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec

from dayfly.engine.policy.model import Policy
from dayfly.engine.runtime import EngineKeys, MemoryEngine, Replay, RunFolder, RunTally, Step
from dayfly.privacy.audit_log import AuditLog
from dayfly.privacy.fragments.wire import thumbprint

__all__ = ["ISSUER", "LEASE_URL", "LOG_ORIGIN", "Pace", "Running", "open_run"]

TENANT = "demo"
LOG_ORIGIN = f"dayfly.example/{TENANT}"
ISSUER = "https://cdp.example"
LEASE_URL = "https://cdp.example/lease"


@dataclass(frozen=True, slots=True)
class Pace:
    """How time passes in a run; see `Replay`."""

    speed: float = 0.0
    tick_ms: int = 1_000
    batch_ms: int = 20


@dataclass(slots=True)
class Running:
    """A run under way. `jtis` are the fragments minted so far."""

    engine: MemoryEngine
    keys: EngineKeys
    replay: Replay
    tally: RunTally
    folder: RunFolder | None
    started_ns: int
    jtis: list[str] = field(default_factory=list)

    def note(self, step: Step) -> Step:
        """Count a step and keep what it brought."""
        self.tally.add(step)
        self.jtis += [fragment.jti for fragment in step.outcome.fragments]
        if self.folder is not None:
            self.folder.add(step)
        return step

    @property
    def seconds(self) -> float:
        """Real time since the run began."""
        return (time.perf_counter_ns() - self.started_ns) / 1e9

    def summary(self) -> dict[str, object]:
        """What was counted, with the real time it took."""
        seconds = self.seconds
        return {
            "seconds": round(seconds, 3),
            "events_per_second": round(self.tally.received / seconds) if seconds else 0,
            "out": None if self.folder is None else str(self.folder.folder),
            **self.tally.as_json(),
        }

    def finish(self) -> dict[str, object]:
        """End the run: destroy what is alive, prove it, and put the folder in its place; the summary."""
        summary = self.summary()
        jwks = dict(self.engine.fragments.jwks(self.tally.now_ms))
        self.engine.close()
        if self.folder is not None:
            self.folder.finish(
                jwks=jwks,
                log_key=self.keys.notes_public,
                receipts=map(self.engine.fragments.receipt, self.jtis),
                summary=summary,
            )
        return summary


@contextmanager
def open_run(
    policy: Policy, *, recipients: Mapping[str, str], out: Path | None, pace: Pace, people: int = 1_000
) -> Iterator[Running]:
    """An engine under new keys, ready to take events in; without `Running.finish` nothing stays behind.

    Args:
        policy: The policy in force.
        recipients: Audience to the thumbprint of its key; an audience not named gets a key that nobody holds.
        out: Folder for what the run leaves behind, or None.
        pace: How time passes.
        people: For how many persons the tables are made at once.

    Raises:
        RunError: the folder or the pace is refused.
    """
    keys = EngineKeys.generate(TENANT, os.urandom)
    with ExitStack() as stack:
        folder = None
        if out is not None:
            who = AuditLog(len, key=keys.audit).who  # for its keyed names only: it writes nothing
            folder = stack.enter_context(RunFolder(out, lineage_key=keys.lineage, who=who))
        engine = MemoryEngine(
            policy,
            keys,
            recipients={**_unheld_keys(policy), **recipients},
            random_bytes=os.urandom,
            issuer=ISSUER,
            lease_url=LEASE_URL,
            audit=None if folder is None else folder.audit,
            tombstones=None if folder is None else folder.tombstones,
            lineage=None if folder is None else folder.lineage,
            expected_people=people,
        )
        stack.enter_context(engine)
        replay = Replay(
            engine,
            clock_ns=time.perf_counter_ns,
            tick_ms=pace.tick_ms,
            batch_ms=pace.batch_ms,
            speed=pace.speed,
            sleep=time.sleep,
        )
        yield Running(engine, keys, replay, RunTally(), folder, time.perf_counter_ns())


def _unheld_keys(policy: Policy) -> dict[str, str]:
    return {
        trigger.audience: thumbprint(ec.generate_private_key(ec.SECP256R1()).public_key())
        for trigger in policy.triggers
    }
