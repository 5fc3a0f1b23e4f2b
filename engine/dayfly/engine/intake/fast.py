"""Segment payloads in bulk: the compiled path, and what it needs to hand a whole batch over at once."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from dayfly.engine.catalog import NULL
from dayfly.engine.events import EventBatch, ObservedConsent
from dayfly.engine.intake.context import Context
from dayfly.engine.intake.documents import read_json
from dayfly.engine.intake.identity import consent_digest
from dayfly.engine.intake.kernels_blake2b import blake2b_many
from dayfly.engine.intake.kernels_segment import (
    CELLS,
    CHARACTERS,
    CONSENTS,
    JOBS,
    USED,
    Columns,
    Job,
    read_batch,
)
from dayfly.engine.intake.tables import build_tables, serves
from dayfly.engine.policy.model import Channel

__all__ = ["FastRows", "SegmentFast"]

PADDING: Final = bytes(128)
_FORMS: Final = {1: "segment", 2: "rudderstack"}


@dataclass(frozen=True, slots=True)
class FastRows:
    """What the compiled path read.

    Attributes:
        batch: The rows that it read, in order.
        read: bool[N], which of the call's rows they are.
    """

    batch: EventBatch
    read: npt.NDArray[np.bool_]


class SegmentFast:
    """The compiled path under one policy and key set.

    Tables are built at the first payload of a channel. Probe channels (whose keys rotate) and tenants with more than two
    pseudonym key versions alive have none: there every payload takes the general path.
    """

    def __init__(self, context: Context) -> None:
        self._context = context
        self._tables = {
            channel.name: build_tables(context, channel)
            for channel in context.policy.channels
            if self._serves(channel)
        }
        widths = [len(event_type.fields) for event_type in context.policy.catalog.types]
        self._widest = max(widths, default=0)

    def _serves(self, channel: Channel) -> bool:
        return not channel.probe and self._context.identities.older_versions <= 1 and serves(self._context)

    def read(
        self,
        payloads: Sequence[bytes],
        channel: Channel,
        received_ms: int,
        sent_ms: npt.NDArray[np.int64] | None = None,
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
        settings = self._context.settings
        count = len(payloads)
        joined = b"".join((*payloads, PADDING))
        data = np.frombuffer(joined, np.uint8)
        offsets = np.zeros(count + 1, np.int64)
        np.cumsum(np.fromiter(map(len, payloads), np.int64, count), out=offsets[1:])
        numbers = np.array(
            [
                received_ms,
                channel.correct_clock_skew,
                self._context.identities.older_versions,
                settings.max_event_bytes,
                settings.max_string_bytes,
                settings.future_skew_ms,
                settings.allowed_lateness_ms,
            ],
            np.int64,
        )
        limits = np.array([settings.max_depth, settings.max_properties], np.int64)
        job = Job(offsets, np.full(count, NULL, np.int64) if sent_ms is None else sent_ms, numbers, limits)
        columns = self._columns(count, len(data))
        used = np.zeros(USED, np.int64)
        read_batch(data, tables, columns, used, job)
        blake2b_many(data, columns.jobs[: used[JOBS]], tables.states, columns.ids)
        return self._rows(columns, used, joined, channel, received_ms)

    def _columns(self, count: int, size: int) -> Columns:
        return Columns(
            status=np.empty(count, np.int64),
            time_ms=np.empty(count, np.int64),
            type=np.empty(count, np.int64),
            value_offset=np.empty(count, np.int64),
            ids=np.empty((4 * count, 2), np.uint64),
            jobs=np.empty((4 * count, 4), np.int64),
            consent=np.empty(count, np.int64),
            consents=np.empty((count, 3), np.int64),
            values=np.empty(count * self._widest, np.int64),
            strings=np.empty(size, np.uint8),
        )

    def _rows(
        self, columns: Columns, used: npt.NDArray[np.int64], joined: bytes, channel: Channel, received_ms: int
    ) -> FastRows:
        read = columns.status.astype(np.bool_)
        whole = bool(read.all())
        ids = columns.ids.reshape(-1, 8)
        ids = ids if whole else ids[read]
        consent_rows = columns.consent if whole else columns.consent[read]
        time_ms = columns.time_ms if whole else columns.time_ms[read]
        objects, numbers = _consents(columns.consents[: used[CONSENTS]], joined)
        consent = np.append(numbers, np.int32(-1))[consent_rows]
        digests = np.array([item.digest for item in objects] + [0], np.uint64)
        batch = EventBatch(
            received_ms=np.full(len(time_ms), received_ms, np.int64),
            time_ms=time_ms,
            subject=ids[:, 0:2],
            link=ids[:, 2:4],
            event_id=ids[:, 4:6],
            digest=ids[:, 6:8],
            type=(columns.type if whole else columns.type[read]).astype(np.int32),
            channel=np.full(len(time_ms), self._context.policy.catalog.channel_index(channel.name), np.int32),
            consent=consent,
            consent_digest=digests[consent],
            value_offset=columns.value_offset if whole else columns.value_offset[read],
            values=columns.values[: used[CELLS]].copy(),
            strings=columns.strings[: used[CHARACTERS]].copy(),
            consents=tuple(objects),
        )
        return FastRows(batch, read)


def _consents(
    spans: npt.NDArray[np.int64], joined: bytes
) -> tuple[list[ObservedConsent], npt.NDArray[np.int32]]:
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
