"""Crash safety: what is not deterministic is recorded, and a process that was killed does again what it did."""

from .grid import JournaledGrid
from .journal import Journal, JournalHead, journal_secret, sweep
from .party import JournaledParty
from .recording import RecordedClock, RecordedNoise, RecordedRandom

__all__ = [
    "Journal",
    "JournalHead",
    "JournaledGrid",
    "JournaledParty",
    "RecordedClock",
    "RecordedNoise",
    "RecordedRandom",
    "journal_secret",
    "sweep",
]
