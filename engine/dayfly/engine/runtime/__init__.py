"""Runtimes: hosts of the shard. `MemoryEngine` keeps everything in one process."""

from .keys import EngineKeys
from .memory import MemoryEngine, MintRefusal, Outcome

__all__ = ["EngineKeys", "MemoryEngine", "MintRefusal", "Outcome"]
