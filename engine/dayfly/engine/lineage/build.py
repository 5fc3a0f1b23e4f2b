"""From what a rule saw to a `LineageBlock`: events named once, newest first, the most telling kept when there are many."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from dayfly.engine.errors import LineageError

from .block import MAX_EVENTS, ConsentUse, FieldLineage, LineageBlock, SourceEvent, encode_sorted
from .shape import LineageShape

__all__ = ["DEFAULT_LISTED_EVENTS", "FieldEvidence", "Source", "block_bytes", "make_block"]

DEFAULT_LISTED_EVENTS: Final = 7
"""Events named per fragment; with eight fields the block then stays within 250 bytes."""


Source = tuple[int, bytes, int]
"""An event: minus its time (so that sources sort newest first), its digest, its channel."""


@dataclass(frozen=True, slots=True)
class FieldEvidence:
    """What one field rests on.

    Attributes:
        events: Contributing events, the most telling first (the newest of a count, the deciding step of a sequence).
        total: Number of contributing events where more contributed than are given, or None: exactly `events`.
    """

    events: Sequence[SourceEvent] = ()
    total: int | None = None


def make_block(
    shape: LineageShape,
    *,
    as_of_ms: int,
    consents: Sequence[ConsentUse],
    fields: Mapping[str, FieldEvidence],
    max_events: int = DEFAULT_LISTED_EVENTS,
) -> LineageBlock:
    """Block for a fragment that carries `fields`.

    Of more than `max_events` distinct events, every field keeps its first before any keeps its second, and so on; totals tell
    how many contributed. The result does not depend on the order of `fields`.

    Args:
        shape: Shape of the trigger that fired.
        as_of_ms: Instant of the decision, UTC.
        consents: Consent records it rests on.
        fields: Evidence by field name; fields that the fragment leaves out are left out here.
        max_events: Most events to name, at most 64.

    Raises:
        LineageError: unknown field name, `max_events` out of range, or a `total` below the number of events given.
    """
    if not 0 <= max_events <= MAX_EVENTS:
        raise LineageError(f"max_events={max_events} must lie in [0, {MAX_EVENTS}]; pass a value inside")
    by_index = {shape.index(name): evidence for name, evidence in fields.items()}
    listed = _choose(by_index, max_events)
    position = {event.digest: index for index, event in enumerate(listed)}
    entries = []
    for index, evidence in sorted(by_index.items()):
        digests = {event.digest for event in evidence.events}
        total = len(digests) if evidence.total is None else evidence.total
        if total < len(digests):
            raise LineageError(
                f"total={total} must be at least the {len(digests)} events given; count them all"
            )
        mask = sum(1 << position[digest] for digest in digests if digest in position)
        entries.append(FieldLineage(index, mask, total))
    return LineageBlock(shape.digest, as_of_ms, tuple(consents), listed, tuple(entries))


def _choose(fields: Mapping[int, FieldEvidence], most: int) -> tuple[SourceEvent, ...]:
    rank: dict[bytes, tuple[int, int, bytes]] = {}
    events: dict[bytes, SourceEvent] = {}
    for evidence in fields.values():
        for place, event in enumerate(evidence.events):
            key = (place, -event.time_ms, event.digest)
            if event.digest not in rank or key < rank[event.digest]:
                rank[event.digest] = key
                events[event.digest] = event
    kept = sorted(rank.values())[:most]
    return tuple(events[digest] for _, _, digest in sorted(kept, key=lambda key: key[1:]))


def block_bytes(
    shape: LineageShape,
    *,
    as_of_ms: int,
    consent: ConsentUse,
    fields: Sequence[tuple[int, Sequence[Source], int]],
    max_events: int = DEFAULT_LISTED_EVENTS,
) -> bytes:
    """`encode(make_block(...))` without the objects between: the path of every order.

    Args:
        shape: As for `make_block`.
        as_of_ms: As for `make_block`.
        consent: The consent record it rests on.
        fields: Index in the shape, events (the most telling first, each once) and total of each field, by rising index.
        max_events: As for `make_block`.

    Raises:
        LineageError: As `encode`.
    """
    rank: dict[Source, int] = {}
    for _, sources, _ in fields:
        for place, source in enumerate(sources):
            if place < rank.get(source, MAX_EVENTS):
                rank[source] = place
    listed = sorted(rank)
    if len(listed) > max_events:
        listed = sorted(sorted(rank, key=lambda source: (rank[source], source))[:max_events])
    bit = {source: 1 << place for place, source in enumerate(listed)}
    masked = [
        (index, sum([bit[source] for source in sources if source in bit]), total)
        for index, sources, total in fields
    ]
    return encode_sorted(shape.digest, as_of_ms, consent, listed, masked)
