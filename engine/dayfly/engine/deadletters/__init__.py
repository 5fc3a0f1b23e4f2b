"""Dead letters on disk: what did not become an event and why, sealed by period, counted, and ended with its retention."""

from .letters import DeadLetters, DeadLetterSettings

__all__ = ["DeadLetterSettings", "DeadLetters"]
