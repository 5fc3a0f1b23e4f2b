"""Keys: long-lived secrets behind one seam (`KeyProvider`), and data keys that are destroyed with their data (`DataKeys`)."""

from .interfaces import (
    KEY_BYTES,
    DataKeys,
    DayKeys,
    DestroyedKey,
    KeyName,
    KeyProvider,
    Kms,
    ListedKeys,
    NotesKey,
)
from .kek import KekRing
from .memory import MemoryKeys
from .probe_days import ProbeDayKeys
from .slots import SlotKeys, record_path

__all__ = [
    "KEY_BYTES",
    "DataKeys",
    "DayKeys",
    "DestroyedKey",
    "KekRing",
    "KeyName",
    "KeyProvider",
    "Kms",
    "ListedKeys",
    "MemoryKeys",
    "NotesKey",
    "ProbeDayKeys",
    "SlotKeys",
    "record_path",
]
