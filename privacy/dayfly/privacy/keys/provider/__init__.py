"""Long-lived secrets of one tenant in one sealed file."""

from .keyfile import KeyFileHead, read_head
from .providers import EnvelopeKeyProvider, FileKeyProvider, SigningRotation
from .seals import BareSeal, KeyringBackend, KeyringSeal, KmsSeal, PassphraseSeal, ScryptCost, Seal
from .status import KeyStatus, SigningState, SigningStatus, VersionStatus

__all__ = [
    "BareSeal",
    "EnvelopeKeyProvider",
    "FileKeyProvider",
    "KeyFileHead",
    "KeyStatus",
    "KeyringBackend",
    "KeyringSeal",
    "KmsSeal",
    "PassphraseSeal",
    "ScryptCost",
    "Seal",
    "SigningRotation",
    "SigningState",
    "SigningStatus",
    "VersionStatus",
    "read_head",
]
