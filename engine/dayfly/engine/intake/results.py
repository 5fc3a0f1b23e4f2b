"""What intake hands back: the batch that may enter, what may not and why, and the counts for the health board."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Final

import numpy as np
import numpy.typing as npt

from dayfly.engine.catalog import NULL, Catalog, FieldType
from dayfly.engine.errors import IntakeError
from dayfly.engine.events import LENGTH_BITS, Event, EventBatch
from dayfly.engine.inputs import Merge
from dayfly.engine.intake.reasons import DeadLetterReason

__all__ = ["Collector", "IntakeResult", "Parsed", "RejectedEvent", "join_batches", "take_rows"]


@dataclass(frozen=True, slots=True)
class RejectedEvent:
    """An input that did not become an event. It holds none of the input's content.

    Attributes:
        at_ms: When intake took it, UTC.
        channel: Name of the channel it came through.
        reason: Why.
        place: Where it stood, for example ``payload 3, batch 17`` or ``line 90``.
        digest: 16-byte keyed hash of its bytes, as lineage would hold it.
        detail: The rule that it broke and the way out, in words.
    """

    at_ms: int
    channel: str
    reason: DeadLetterReason
    place: str
    digest: bytes
    detail: str


@dataclass(frozen=True, slots=True)
class IntakeResult:
    """Outcome of one intake call.

    Attributes:
        batch: Events that may enter, in the order of arrival.
        dead_letters: Everything else, in the order of arrival.
        merges: Further identities that `batch` ties together, to be applied after it.
        counts: ``received`` = ``accepted`` + ``dead``; ``undeclared`` and ``randomised`` are among the accepted;
            ``dead.REASON`` per reason; ``fast`` counts rows that took the compiled path.
    """

    batch: EventBatch
    dead_letters: tuple[RejectedEvent, ...] = ()
    merges: tuple[Merge, ...] = ()
    counts: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))


@dataclass(frozen=True, slots=True)
class Parsed:
    """One checked event with what has no place in its columns.

    Attributes:
        event: The event.
        also: Further pseudonyms of the same person, each with the pseudonym it belongs to.
        randomised: Its probe id was a randomised hardware address.
    """

    event: Event
    also: tuple[tuple[bytes, bytes], ...] = ()
    randomised: bool = False


class Collector:
    """Gathers the outcome of one intake call, input by input."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self.events: list[Event] = []
        self.positions: list[int] = []
        self.dead_letters: list[RejectedEvent] = []
        self.merges: list[Merge] = []
        self.counts: Counter[str] = Counter()

    def accept(self, parsed: Parsed, *, position: int = 0) -> None:
        """Take a checked event; `position` is its place in the order of arrival."""
        self.events.append(parsed.event)
        self.positions.append(position)
        self.merges += [Merge(parsed.event.received_ms, subject, other) for subject, other in parsed.also]
        self.counts["received"] += 1
        self.counts["accepted"] += 1
        self.counts["randomised"] += parsed.randomised
        self.counts["undeclared"] += self._catalog.type_index(parsed.event.type) < 0

    def reject(self, error: IntakeError, *, at_ms: int, channel: str, place: str, digest: bytes) -> None:
        """Take an input that `error` refused."""
        reason = DeadLetterReason(error.reason)
        self.dead_letters.append(RejectedEvent(at_ms, channel, reason, place, digest, str(error)))
        self.counts["received"] += 1
        self.counts["dead"] += 1
        self.counts[f"dead.{reason}"] += 1

    def result(self) -> IntakeResult:
        """Everything gathered, with the events packed in columns."""
        return self.result_with(EventBatch.from_events(self.events, self._catalog))

    def result_with(self, batch: EventBatch) -> IntakeResult:
        """Everything gathered, with `batch` as the events."""
        counts = {name: number for name, number in sorted(self.counts.items()) if number}
        return IntakeResult(batch, tuple(self.dead_letters), tuple(self.merges), MappingProxyType(counts))


_ROW_COLUMNS: Final = (
    "received_ms",
    "time_ms",
    "subject",
    "link",
    "event_id",
    "digest",
    "type",
    "channel",
    "consent",
    "consent_digest",
    "value_offset",
)


def join_batches(first: EventBatch, second: EventBatch, catalog: Catalog) -> EventBatch:
    """Rows of `first`, then rows of `second`, over joined buffers. Costs a Python loop over the rows of `second`."""
    known = {item.digest: index for index, item in enumerate(first.consents)}
    extra = [item for item in second.consents if item.digest not in known]
    known |= {item.digest: len(first.consents) + index for index, item in enumerate(extra)}
    renumbered = np.array([*(known[item.digest] for item in second.consents), -1], np.int32)
    moved = replace(
        second,
        consent=renumbered[second.consent],
        value_offset=second.value_offset + len(first.values),
        values=_moved_values(second, catalog, len(first.strings)),
    )
    columns = {name: np.concatenate([getattr(first, name), getattr(moved, name)]) for name in _ROW_COLUMNS}
    return EventBatch(
        **columns,
        values=np.concatenate([first.values, moved.values]),
        strings=np.concatenate([first.strings, moved.strings]),
        consents=(*first.consents, *extra),
    )


def take_rows(batch: EventBatch, rows: npt.NDArray[np.intp]) -> EventBatch:
    """The rows at `rows`, in that order, over the same buffers."""
    return replace(batch, **{name: getattr(batch, name)[rows] for name in _ROW_COLUMNS})


def _moved_values(batch: EventBatch, catalog: Catalog, offset: int) -> npt.NDArray[np.int64]:
    """Values whose packed strings start `offset` bytes later."""
    values = batch.values.copy()
    for start, position in zip(batch.value_offset.tolist(), batch.type.tolist(), strict=True):
        if position < 0:
            continue
        for slot, spec in enumerate(catalog.types[position].fields):
            if spec.type is FieldType.STRING and values[start + slot] != NULL:
                values[start + slot] += offset << LENGTH_BITS
    return values
