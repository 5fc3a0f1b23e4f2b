"""Taking the inputs of one call: what is refused becomes a dead letter, and the rest proceeds."""

from collections.abc import Callable

from dayfly.engine.errors import IntakeError
from dayfly.engine.intake.context import Context
from dayfly.engine.intake.reasons import DeadLetterReason
from dayfly.engine.intake.results import Collector, Parsed
from dayfly.engine.policy.model import Channel

__all__ = ["Taker"]


class Taker:
    """Takes the inputs of one call through one channel."""

    def __init__(self, context: Context, channel: Channel, received_ms: int) -> None:
        self.channel = channel
        self.received_ms = received_ms
        self.collector = Collector(context.policy.catalog)
        self._identities = context.identities

    def take(self, read: Callable[[], Parsed], raw: bytes, place: str, *, position: int = 0) -> None:
        """Read one input; `position` is its place in the order of arrival."""
        try:
            parsed = read()
        except IntakeError as error:
            self.reject(error, raw, place)
        else:
            self.collector.accept(parsed, position=position)

    def reject(self, error: IntakeError, raw: bytes, place: str) -> None:
        """Put one input aside, with the digest of its bytes."""
        digest = self._identities.digest(raw)
        self.collector.reject(
            error, at_ms=self.received_ms, channel=self.channel.name, place=place, digest=digest
        )

    def too_many(self, events: int, most: int, raw: bytes, place: str) -> bool:
        """Put a body with more than `most` events aside as a whole."""
        if events <= most:
            return False
        refused = IntakeError(
            DeadLetterReason.TOO_LARGE, f"events={events} must be at most {most}; send smaller batches"
        )
        self.reject(refused, raw, place)
        return True
