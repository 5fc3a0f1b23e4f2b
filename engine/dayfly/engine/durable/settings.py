"""Settings of a durable engine; the defaults are the documented ones."""

from dataclasses import dataclass

from dayfly.engine.errors import RunError

__all__ = ["EngineSettings"]

_RANGES = {
    "tick_ms": (1, 1_000),
    "max_batch_events": (1, 1 << 20),
    "max_waiting_events": (1, 1 << 24),
    "patience_seconds": (0, 3_600),
    "snapshot_seconds": (1, 86_400 * 7),
    "snapshot_bytes": (1 << 12, 1 << 40),
    "snapshots_kept": (1, 100),
    "feed_retention_ms": (1_000, 86_400_000 * 7),
    "feed_items": (1, 1 << 28),
    "checkpoint_ms": (100, 3_600_000),
    "health_seconds": (0, 3_600),
}


@dataclass(frozen=True, slots=True)
class EngineSettings:
    """How an engine works, not what it decides.

    Attributes:
        tick_ms: Time passes in steps of this size when nothing arrives; an expiry is carried out at most so much late.
        max_batch_events: Most events taken in with one turn.
        max_waiting_events: Callers wait while more events than this wait already (`EngineBusy` after
            `patience_seconds`).
        snapshot_seconds, snapshot_bytes: A snapshot is taken after this time or this much log, whichever is first; it
            bounds the recovery.
        snapshots_kept: Snapshots kept, with the log between them, in case the newest is damaged. An erasure leaves one.
        feed_retention_ms, feed_items: How long and how many feed items are kept for consumers that come back.
        tags_in_feed: Whether tags entered and left are feed items.
        checkpoint_ms: How often the tombstone log is signed while it grows.
        health_seconds: How often `health.json` is written into the folder; 0: never.
        expected_people: Tables are made large enough for so many persons at once.
    """

    tick_ms: int = 100
    max_batch_events: int = 4_096
    max_waiting_events: int = 65_536
    patience_seconds: float = 5.0
    snapshot_seconds: float = 300.0
    snapshot_bytes: int = 256 << 20
    snapshots_kept: int = 2
    feed_retention_ms: int = 3_600_000
    feed_items: int = 1_000_000
    tags_in_feed: bool = True
    checkpoint_ms: int = 1_000
    health_seconds: float = 10.0
    expected_people: int = 1_000

    def __post_init__(self) -> None:
        """Check all ranges."""
        for name, (low, high) in _RANGES.items():
            value = getattr(self, name)
            if isinstance(value, bool) or not low <= value <= high:
                raise RunError(f"{name}={value!r} must be {low} to {high}; see EngineSettings")
