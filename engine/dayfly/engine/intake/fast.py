"""Segment payloads in bulk: the compiled path, and what it needs to hand a whole batch over at once."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from dayfly.engine.events import EventBatch, ObservedConsent
from dayfly.engine.intake.context import Context
from dayfly.engine.intake.documents import read_json
from dayfly.engine.intake.identity import consent_digest
from dayfly.engine.intake.kernels_layout import (
    CHANNEL_INDEX,
    CONSENT,
    CONSENT_DIGEST,
    DIGESTS,
    EVENT_IDS,
    FORM,
    GRID_ROWS,
    ID_BLOCKS,
    JOB_COUNT,
    JOB_LENGTHS,
    JOB_RECEIVED,
    LAST,
    LINK_IDS,
    RECEIVED_MS,
    STATUS,
    SUBJECT_IDS,
    TIME_MS,
    TOTALS,
    TYPE_INDEX,
    VALUE_OFFSET,
    WIDEST,
    desk_words,
    result_words,
)
from dayfly.engine.intake.kernels_segment import read_calls
from dayfly.engine.intake.tables import Ints, build_tables, serves
from dayfly.engine.policy.model import Channel

__all__ = ["FastRows", "SegmentFast"]

PADDING: Final = bytes(128)
_FORMS: Final = {1: "segment", 2: "rudderstack"}


@dataclass(frozen=True, slots=True)
class FastRows:
    """What the compiled path read.

    Attributes:
        batch: The rows that it read, in order. It owns its arrays, no later call touches them.
        undeclared: How many of them are of types that the catalogue does not declare.
        status: int64[N], not zero for those of the call's rows that were read.
    """

    batch: EventBatch
    undeclared: int
    status: Ints

    @property
    def complete(self) -> bool:
        """Whether it read every row of the call."""
        return len(self.batch) == len(self.status)

    @property
    def read(self) -> npt.NDArray[np.bool_]:
        """bool[N], which of the call's rows it read."""
        return self.status.astype(np.bool_)


class SegmentFast:
    """The compiled path under one policy and key set.

    Probe channels (whose keys rotate) and tenants with more than two pseudonym key versions alive have no tables: there
    every payload takes the general path.
    """

    def __init__(self, context: Context) -> None:
        self._context = context
        self._tables = {
            channel.name: build_tables(context, channel)
            for channel in context.policy.channels
            if self._serves(channel)
        }
        # One working space for all channels and calls: it holds places and counts, and hashing wipes its part.
        words = [desk_words(tables) for tables in self._tables.values()]
        self._work = np.zeros(max(words, default=0), np.int64)

    def _serves(self, channel: Channel) -> bool:
        return not channel.probe and self._context.identities.older_versions <= 1 and serves(self._context)

    def read(
        self, payloads: Sequence[bytes], channel: Channel, received_ms: int, sent_ms: Ints | None = None
    ) -> FastRows | None:
        """Read what this path can of `payloads`, None when it reads nothing of the channel.

        Args:
            payloads: One call each.
            channel: Where they came through.
            received_ms: When, UTC.
            sent_ms: int64[N], the envelope's `sentAt` of each, `NULL` for none; by default none has one.
        """
        tables = self._tables.get(channel.name)
        if tables is None or not payloads:
            return None
        count = len(payloads)
        joined = b"".join((*payloads, PADDING))
        job = np.empty(JOB_LENGTHS + count, np.int64)
        job[JOB_RECEIVED], job[JOB_COUNT] = received_ms, count
        job[JOB_LENGTHS:] = np.fromiter(map(len, payloads), np.int64, count)
        if sent_ms is not None:
            job = np.concatenate([job, sent_ms])
        # The result is made anew for every call and becomes the batch's: a receiver may keep a batch for as long as it likes.
        out = np.empty(result_words(count, int(tables[WIDEST])), np.int64)
        strings = np.empty(len(joined), np.uint8)
        read_calls(np.frombuffer(joined, np.uint8), tables, self._work, out, strings, job)
        return _rows(out, strings, count, joined)


def _rows(out: Ints, strings: npt.NDArray[np.uint8], count: int, joined: bytes) -> FastRows:
    """Columns of a batch as views of the kernel's result; only the texts are copied, being far fewer than there was room for."""
    filled, cells, characters, distinct, undeclared = out[:TOTALS].tolist()
    values = TOTALS + GRID_ROWS * count
    # Rows are taken by number, one by one: unpacking an array makes the same views at four times the price.
    grid = out[TOTALS:values].reshape(GRID_ROWS, count)
    ids = grid[: 2 * ID_BLOCKS].view(np.uint64).reshape(ID_BLOCKS, count, 2)[:, :filled]
    kinds = grid[TYPE_INDEX : CONSENT + 1, :filled].astype(np.int32)
    consent = kinds[CONSENT - TYPE_INDEX]
    consent_digest = grid[CONSENT_DIGEST, :filled].view(np.uint64)
    objects: list[ObservedConsent] = []
    if distinct:
        objects, numbers = _consents(grid[FORM : LAST + 1, :distinct].T, joined)
        consent = np.append(numbers, np.int32(-1))[consent]
        consent_digest = np.array([item.digest for item in objects] + [0], np.uint64)[consent]
    batch = EventBatch(
        received_ms=grid[RECEIVED_MS, :filled],
        time_ms=grid[TIME_MS, :filled],
        subject=ids[SUBJECT_IDS],
        link=ids[LINK_IDS],
        event_id=ids[EVENT_IDS],
        digest=ids[DIGESTS],
        type=kinds[0],
        channel=kinds[CHANNEL_INDEX - TYPE_INDEX],
        consent=consent,
        consent_digest=consent_digest,
        value_offset=grid[VALUE_OFFSET, :filled],
        values=out[values : values + cells],
        strings=strings[:characters].copy(),
        consents=tuple(objects),
    )
    return FastRows(batch, undeclared, grid[STATUS])


def _consents(spans: Ints, joined: bytes) -> tuple[list[ObservedConsent], npt.NDArray[np.int32]]:
    """The distinct consent objects, and for each row of `spans` which of them it is."""
    objects: list[ObservedConsent] = []
    numbers = np.empty(len(spans), np.int32)
    known: dict[int, int] = {}
    for row, (code, start, end) in enumerate(spans.tolist()):
        raw = joined[start:end]
        form = _FORMS[code]
        digest = consent_digest(form, raw)
        if digest not in known:
            known[digest] = len(objects)
            objects.append(ObservedConsent(form, read_json(raw), digest))  # type: ignore[arg-type]
        numbers[row] = known[digest]
    return objects, numbers
