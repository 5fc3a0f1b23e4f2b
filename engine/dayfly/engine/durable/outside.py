"""What an engine takes from outside: clock, randomness, addresses, disk, limits of what stands beside it."""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from dayfly.engine.deadletters import DeadLetterSettings
from dayfly.engine.lineage.vault import VaultSettings
from dayfly.engine.store import LOCAL_DISK, Disk, LogSettings
from dayfly.privacy.fragments import ServiceSettings

__all__ = ["Outside"]


def _wall_ms() -> int:
    return time.time_ns() // 1_000_000


@dataclass(frozen=True, slots=True)
class Outside:
    """What an engine takes from outside.

    Attributes:
        now_ms: The wall clock, int64 milliseconds UTC.
        random_bytes: Randomness for token ids, salts and nonces.
        issuer: `iss` of every fragment.
        lease_url: Where CRMs lease keys.
        fragments: Limits of the fragment service.
        log: How the log is laid out and commits.
        disk: File operations of log and snapshots.
        lineage, letters: Periods and retention of lineage and dead letters.
    """

    now_ms: Callable[[], int] = _wall_ms
    random_bytes: Callable[[int], bytes] = os.urandom
    issuer: str = "https://cdp.example"
    lease_url: str = "https://cdp.example/lease"
    fragments: ServiceSettings = field(default_factory=ServiceSettings)
    log: LogSettings = field(default_factory=LogSettings)
    disk: Disk = LOCAL_DISK
    lineage: VaultSettings = field(default_factory=VaultSettings)
    letters: DeadLetterSettings = field(default_factory=DeadLetterSettings)
