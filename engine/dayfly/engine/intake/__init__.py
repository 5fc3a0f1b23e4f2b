"""Intake: raw bytes of any channel to checked, de-identified batches; everything else to a dead letter with its reason."""

from .core import Intake
from .dead_letters import DeadLetterFile
from .identity import IntakeKeys
from .mapping import FileMapping, check_mapping, parse_mapping
from .reasons import DeadLetterReason
from .results import IntakeResult, RejectedEvent

__all__ = [
    "DeadLetterFile",
    "DeadLetterReason",
    "FileMapping",
    "Intake",
    "IntakeKeys",
    "IntakeResult",
    "RejectedEvent",
    "check_mapping",
    "parse_mapping",
]
