"""Segment payloads in bulk: envelopes are opened, the compiled path reads what it can, the general path the rest."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType

import numpy as np
import numpy.typing as npt

from dayfly.engine.catalog import NULL
from dayfly.engine.errors import IntakeError
from dayfly.engine.events import EventBatch
from dayfly.engine.intake.context import Context
from dayfly.engine.intake.documents import split_envelope
from dayfly.engine.intake.fast import FastRows, SegmentFast
from dayfly.engine.intake.kernels_members import UNREADABLE
from dayfly.engine.intake.results import IntakeResult, join_batches, take_rows
from dayfly.engine.intake.segment import SegmentReader
from dayfly.engine.intake.taker import Taker
from dayfly.engine.intake.times import rfc3339_to_ms
from dayfly.engine.policy.model import Channel

__all__ = ["SegmentBulk"]


@dataclass(slots=True)
class _Calls:
    """Single calls, out of their envelopes, in the order of arrival.

    Attributes:
        raw: Bytes of each call.
        sent_at: `sentAt` of its envelope, None without one.
        places: Where it stood: payload and, in an envelope, index.
    """

    raw: list[bytes]
    sent_at: list[str | None]
    places: list[tuple[int, int]]

    def add(self, raw: bytes, sent_at: str | None, payload: int, index: int) -> None:
        self.raw.append(raw)
        self.sent_at.append(sent_at)
        self.places.append((payload, index))

    def place(self, position: int) -> str:
        payload, index = self.places[position]
        return f"payload {payload}" if index < 0 else f"payload {payload}, batch {index}"

    def sent_ms(self) -> npt.NDArray[np.int64] | None:
        """`sentAt` of the envelopes in milliseconds; one that is no time is left to the general path by its row."""
        if not any(self.sent_at):
            return None
        known = {text: _milliseconds(text) for text in set(self.sent_at)}
        return np.array([known[text] for text in self.sent_at], np.int64)


class SegmentBulk:
    """Reads many payloads at once; the result is the same with and without the compiled path.

    Args:
        context: Policy and keys.
        fast: Whether to use the compiled path.
        max_batch_bytes: Largest envelope.
        max_batch_events: Most calls in one envelope.
    """

    def __init__(self, context: Context, *, fast: bool, max_batch_bytes: int, max_batch_events: int) -> None:
        self._context = context
        self._general = SegmentReader(context)
        self._fast = SegmentFast(context) if fast else None
        self._max_batch_bytes = max_batch_bytes
        self._max_batch_events = max_batch_events

    def read(self, payloads: Sequence[bytes], channel: Channel, received_ms: int) -> IntakeResult:
        """All calls in `payloads` that may enter, and the dead letters."""
        rows = None if self._fast is None else self._fast.read(payloads, channel, received_ms)
        if rows is not None and rows.complete:
            return _all_fast(rows)
        taker = Taker(self._context, channel, received_ms)
        calls = self._open(payloads, rows, taker)
        if rows is not None and any(index >= 0 for _, index in calls.places) and self._fast is not None:
            rows = self._fast.read(calls.raw, channel, received_ms, calls.sent_ms())
        elif len(calls.raw) != len(payloads):
            rows = None
        return self._with_general(rows, calls, taker)

    def _open(self, payloads: Sequence[bytes], rows: FastRows | None, taker: Taker) -> _Calls:
        """The single calls of `payloads`; a row that the compiled path has read is no envelope."""
        calls = _Calls([], [], [])
        read = None if rows is None else rows.read
        for number, body in enumerate(payloads):
            closed = (
                (read is not None and read[number])
                or len(body) > self._max_batch_bytes
                or b'"batch"' not in body
            )
            envelope = None if closed else split_envelope(body)
            if envelope is None:
                calls.add(body, None, number, -1)
            elif not taker.too_many(len(envelope[0]), self._max_batch_events, body, f"payload {number}"):
                for index, raw in enumerate(envelope[0]):
                    calls.add(raw, envelope[1], number, index)
        return calls

    def _with_general(self, rows: FastRows | None, calls: _Calls, taker: Taker) -> IntakeResult:
        """Read what `rows` lacks by the general path and put everything into the order of arrival."""
        read = np.zeros(len(calls.raw), np.bool_) if rows is None else rows.read
        for position in np.flatnonzero(~read).tolist():
            raw, sent_at = calls.raw[position], calls.sent_at[position]
            one = partial(self._general.read, raw, taker.channel, taker.received_ms, sent_at=sent_at)
            taker.take(one, raw, calls.place(position), position=position)
        collector = taker.collector
        general = EventBatch.from_events(collector.events, self._context.policy.catalog)
        if rows is None or not len(rows.batch):
            return collector.result_with(general)
        joined = join_batches(rows.batch, general, self._context.policy.catalog)
        positions = np.concatenate([np.flatnonzero(read), np.array(collector.positions, np.intp)])
        return _finished(take_rows(joined, np.argsort(positions, kind="stable")), taker, fast=len(rows.batch))


def _all_fast(rows: FastRows) -> IntakeResult:
    """What `_finished` gives when no row went the general way, which is nearly every call and must cost next to nothing."""
    events = len(rows.batch)
    counts = {"accepted": events, "fast": events, "received": events}
    if rows.undeclared:
        counts["undeclared"] = rows.undeclared
    return IntakeResult(rows.batch, counts=MappingProxyType(counts))


def _finished(batch: EventBatch, taker: Taker, *, fast: int) -> IntakeResult:
    """The result with `fast` rows of `batch` counted, which the collector has not seen."""
    counts = taker.collector.counts
    counts["received"] += fast
    counts["accepted"] += fast
    counts["fast"] += fast
    counts["undeclared"] = int((batch.type < 0).sum())
    return taker.collector.result_with(batch)


def _milliseconds(text: str | None) -> int:
    """Milliseconds of an envelope's `sentAt`, `NULL` for none, `UNREADABLE` for what the general path must refuse."""
    if text is None:
        return NULL
    try:
        return rfc3339_to_ms(text)
    except IntakeError:
        return UNREADABLE
