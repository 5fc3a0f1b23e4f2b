"""Runtimes: hosts of the shard. `MemoryEngine` keeps everything in one process; `Replay` feeds it recorded events."""

from .arrivals import Arrival, RawMessage, Rows, in_order
from .event_files import EventFile, open_event_files
from .keys import EngineKeys
from .memory import MemoryEngine, MintRefusal, Outcome, Resume
from .replay import Replay, Step
from .run_folder import RunFolder
from .tally import RunTally

__all__ = [
    "Arrival",
    "EngineKeys",
    "EventFile",
    "MemoryEngine",
    "MintRefusal",
    "Outcome",
    "RawMessage",
    "Replay",
    "Resume",
    "Rows",
    "RunFolder",
    "RunTally",
    "Step",
    "in_order",
    "open_event_files",
]
