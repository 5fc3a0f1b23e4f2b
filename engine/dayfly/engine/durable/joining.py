"""Neighbouring frames of events as one batch, for replay: what a call of the shard costs is then paid once for thousands.

At 5,000 events a second a frame holds three events, and applying each alone takes ten times as long as applying them together.
`Shard.apply` gives the same state wherever its inputs are cut, so frames may be joined, as long as time runs through them as it
did.
"""

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from dayfly.engine.catalog import NULL, Catalog, FieldType
from dayfly.engine.durable.input_frames import COLUMNS, Events, events_of
from dayfly.engine.events import LENGTH_BITS, EventBatch, ObservedConsent
from dayfly.engine.health.meter import HOUR_MS

__all__ = ["AT_ONCE", "Piece", "joined", "piece_of"]

AT_ONCE: Final = 4_096
"""Events that are applied together."""
_PLACE: Final = {name: place for place, (name, _, _) in enumerate(COLUMNS)}
_RECEIVED, _TIME, _CHANNEL = _PLACE["received_ms"], _PLACE["time_ms"], _PLACE["channel"]
_NOTHING: Final = Events([b""] * len(COLUMNS), [])
_STAMP_BYTES: Final = 8
_NUMBER_BYTES: Final = 4


class Piece(NamedTuple):
    """A frame that holds events of one channel, or none: only time passed.

    Attributes:
        position: Of the frame in the log.
        now_ms: The instant after them.
        first_ms: When the first of them was received; `now_ms` where there is none.
        channel: Its number, as in the frame; empty where there is no event.
        size: How many there are.
        events: Their columns.
    """

    position: int
    now_ms: int
    first_ms: int
    channel: bytes
    size: int
    events: Events

    @property
    def early(self) -> bool:
        """Whether an event lies ahead of the instant at which it was received, so that it may have to wait."""
        columns = self.events.columns
        return bool((np.frombuffer(columns[_TIME], "<i8") > np.frombuffer(columns[_RECEIVED], "<i8")).any())

    def follows(self, before: "Piece") -> bool:
        """Whether it can be applied in one call with the frame before it, and counted with it: one channel, one hour."""
        return (
            (self.channel == before.channel or not before.channel)
            and before.now_ms <= self.first_ms
            and before.now_ms <= self.now_ms
            and before.now_ms // HOUR_MS == self.now_ms // HOUR_MS
        )


def piece_of(position: int, payload: bytes) -> Piece | None:
    """The frame as a piece; None when it holds something else, or several channels.

    Raises:
        FrameError: as `decode_inputs`.
    """
    events, now_ms = events_of(payload)
    if events is None:
        return None
    if not events.columns:
        return Piece(position, now_ms, now_ms, b"", 0, _NOTHING)
    received, channels = events.columns[_RECEIVED], events.columns[_CHANNEL]
    count = len(received) // _STAMP_BYTES
    channel = channels[:_NUMBER_BYTES]
    if not count or channels != channel * count:
        return None
    first_ms = int.from_bytes(received[:_STAMP_BYTES], "little", signed=True)
    return Piece(position, now_ms, first_ms, channel, count, events)


def joined(pieces: Sequence[Piece], catalog: Catalog) -> tuple[EventBatch, npt.NDArray[np.int64]]:
    """All events of some pieces in their order, and for each the instant after its frame: int64[N].

    Args:
        pieces: Each `follows` the one before.
        catalog: Of the policy in force there.
    """
    columns = {
        name: _column(b"".join([piece.events.columns[place] for piece in pieces]), kind, width)
        for place, (name, kind, width) in enumerate(COLUMNS)
    }
    counts = np.array([piece.size for piece in pieces])
    if len(pieces) > 1:
        _move(columns, pieces, counts, catalog)
    consents = tuple(
        ObservedConsent(form, content, digest)  # type: ignore[arg-type]
        for piece in pieces
        for form, content, digest in piece.events.consents
    )
    at_ms = np.repeat(np.array([piece.now_ms for piece in pieces], np.int64), counts)
    return EventBatch(**columns, consents=consents), at_ms


def _move(
    columns: "dict[str, np.ndarray[Any, Any]]",
    pieces: Sequence[Piece],
    counts: npt.NDArray[np.int64],
    catalog: Catalog,
) -> None:
    """Make offsets and numbers that count within a frame count within all."""
    columns["value_offset"] += _before(
        [len(piece.events.columns[_PLACE["values"]]) // 8 for piece in pieces], counts
    )
    consent = columns["consent"]
    consent += np.where(
        consent >= 0, _before([len(piece.events.consents) for piece in pieces], counts), 0
    ).astype(np.int32)
    texts = _before([len(piece.events.columns[_PLACE["strings"]]) for piece in pieces], counts) << LENGTH_BITS
    kind, offset, values = columns["type"], columns["value_offset"], columns["values"]
    text = _text_slots(catalog)
    for slot in range(text.shape[1]):
        rows = np.flatnonzero(text[kind, slot])  # an undeclared type is -1: the last row, without texts
        cells = offset[rows] + slot
        present = values[cells] != NULL
        values[cells[present]] += texts[rows[present]]


def _before(sizes: Sequence[int], counts: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """For each event the sum of what the frames before its own have."""
    ends = np.cumsum(sizes, dtype=np.int64)
    return np.repeat(ends - sizes, counts)


def _text_slots(catalog: Catalog) -> npt.NDArray[np.bool_]:
    """bool[types + 1, slots]: which fields are texts; the last row is for undeclared types."""
    widest = max((len(kind.fields) for kind in catalog.types), default=0)
    text = np.zeros((len(catalog.types) + 1, widest), np.bool_)
    for number, kind in enumerate(catalog.types):
        for slot, spec in enumerate(kind.fields):
            text[number, slot] = spec.type is FieldType.STRING
    return text


def _column(data: bytes, kind: str, width: int) -> "np.ndarray[Any, Any]":
    stored = np.dtype(kind)
    flat = np.frombuffer(data, stored).astype(stored.newbyteorder("="))
    return flat if width == 1 else flat.reshape(-1, width)
