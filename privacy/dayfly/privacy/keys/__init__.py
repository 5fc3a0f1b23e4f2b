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
from .provider import (
    BareSeal,
    EnvelopeKeyProvider,
    FileKeyProvider,
    KeyringBackend,
    KeyringSeal,
    KeyStatus,
    PassphraseSeal,
    ScryptCost,
    Seal,
    SigningRotation,
)
from .slots import SlotKeys, record_path

__all__ = [
    "KEY_BYTES",
    "BareSeal",
    "DataKeys",
    "DayKeys",
    "DestroyedKey",
    "EnvelopeKeyProvider",
    "FileKeyProvider",
    "KekRing",
    "KeyName",
    "KeyProvider",
    "KeyStatus",
    "KeyringBackend",
    "KeyringSeal",
    "Kms",
    "ListedKeys",
    "MemoryKeys",
    "NotesKey",
    "PassphraseSeal",
    "ProbeDayKeys",
    "ScryptCost",
    "Seal",
    "SigningRotation",
    "SlotKeys",
    "record_path",
]
