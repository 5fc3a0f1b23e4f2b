"""`Intake`: raw bytes of any channel in, checked and de-identified batches out, dead letters beside them."""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Final

from dayfly.engine.errors import IntakeError
from dayfly.engine.intake.bulk import SegmentBulk
from dayfly.engine.intake.cloudevents import (
    BATCHED,
    STRUCTURED,
    CloudEventReader,
    content_type_of,
    split_batch,
)
from dayfly.engine.intake.context import Context
from dayfly.engine.intake.documents import check_size
from dayfly.engine.intake.files import BadRow, RowOrBad, csv_rows, jsonl_rows, parquet_rows
from dayfly.engine.intake.identity import IntakeKeys
from dayfly.engine.intake.mapping import FileMapping, check_mapping
from dayfly.engine.intake.reasons import DeadLetterReason
from dayfly.engine.intake.results import IntakeResult, Parsed
from dayfly.engine.intake.rows import Row, RowReader
from dayfly.engine.intake.taker import Taker
from dayfly.engine.policy.model import Policy

__all__ = ["Intake"]

MAX_BATCH_BYTES: Final = 4 << 20
MAX_BATCH_EVENTS: Final = 10_000
CHUNK_ROWS: Final = 4_096


class Intake:
    """Reads every supported form under one policy and one set of keys.

    Bad data never raises: it becomes a dead letter and the rest proceeds. Only wrong use raises (an undeclared channel,
    a mapping that does not fit the catalogue). Not safe for use from several threads at once.

    Args:
        policy: What is declared.
        keys: Pseudonym, probe and digest keys.
        fast: Take the compiled path for Segment payloads where it applies.
        max_batch_bytes: Largest body with several events, and longest line of a file whose lines are exploded.
        max_batch_events: Most events in one body.

    Guarantees:
        No raw identifier, undeclared field or unmasked value is in any result or outlives the call.
    """

    def __init__(
        self,
        policy: Policy,
        keys: IntakeKeys,
        *,
        fast: bool = True,
        max_batch_bytes: int = MAX_BATCH_BYTES,
        max_batch_events: int = MAX_BATCH_EVENTS,
    ) -> None:
        self._context = Context(policy, keys)
        self._segment = SegmentBulk(
            self._context, fast=fast, max_batch_bytes=max_batch_bytes, max_batch_events=max_batch_events
        )
        self._cloudevents = CloudEventReader(self._context)
        self._max_batch_bytes = max_batch_bytes
        self._max_batch_events = max_batch_events

    def segment(self, payloads: Sequence[bytes] | bytes, channel: str, received_ms: int) -> IntakeResult:
        """Segment or RudderStack calls; each payload is one call or a ``{"batch": [...]}`` envelope.

        Raises:
            CatalogError: the channel is not declared.
        """
        bodies = [payloads] if isinstance(payloads, bytes) else payloads
        return self._segment.read(bodies, self._context.channel(channel), received_ms)

    def cloudevents(
        self, headers: Mapping[str, str], body: bytes, channel: str, received_ms: int
    ) -> IntakeResult:
        """One HTTP message of CloudEvents 1.0: binary, structured or batched mode by its `Content-Type`.

        Raises:
            CatalogError: the channel is not declared.
        """
        taker = Taker(self._context, self._context.channel(channel), received_ms)
        reader = self._cloudevents
        mode = content_type_of(headers)
        if mode == STRUCTURED:
            taker.take(partial(reader.read_structured, body, taker.channel, received_ms), body, "body")
        elif mode == BATCHED:
            self._cloudevents_batch(body, taker)
        elif mode.startswith("application/cloudevents"):
            refused = IntakeError(
                DeadLetterReason.UNSUPPORTED_CONTENT,
                f"Content-Type must be {STRUCTURED} or {BATCHED}; send CloudEvents as JSON",
            )
            taker.reject(refused, body, "body")
        else:
            taker.take(
                partial(reader.read_binary, headers, body, taker.channel, received_ms), body, "message"
            )
        return taker.collector.result()

    def _cloudevents_batch(self, body: bytes, taker: Taker) -> None:
        try:
            check_size(body, self._max_batch_bytes)
            events = split_batch(body)
        except IntakeError as error:
            taker.reject(error, body, "body")
            return
        if not taker.too_many(len(events), self._max_batch_events, body, "body"):
            for index, raw in enumerate(events):
                read = partial(self._cloudevents.read_structured, raw, taker.channel, taker.received_ms)
                taker.take(read, raw, f"batch {index}")

    def jsonl(
        self,
        source: Path | bytes,
        mapping: FileMapping,
        received_ms: int | None = None,
        *,
        chunk_rows: int = CHUNK_ROWS,
    ) -> Iterator[IntakeResult]:
        """JSON Lines by `mapping`, in results of at most `chunk_rows` rows.

        Without `received_ms` history is replayed: each event arrives at its own time, or at that of the latest before it.

        Raises:
            CatalogError: the mapping does not fit the catalogue.
        """
        check_mapping(mapping, self._context.policy.catalog)
        rows = jsonl_rows(source, mapping, self._context, self._max_batch_bytes)
        return self._rows(rows, mapping, received_ms, chunk_rows)

    def csv(
        self,
        path: Path,
        mapping: FileMapping,
        received_ms: int | None = None,
        *,
        chunk_rows: int = CHUNK_ROWS,
    ) -> Iterator[IntakeResult]:
        """A CSV file with a header line by `mapping`; otherwise as `jsonl`."""
        check_mapping(mapping, self._context.policy.catalog)
        return self._rows(csv_rows(path, mapping), mapping, received_ms, chunk_rows)

    def parquet(
        self,
        path: Path,
        mapping: FileMapping,
        received_ms: int | None = None,
        *,
        chunk_rows: int = CHUNK_ROWS,
    ) -> Iterator[IntakeResult]:
        """A Parquet file by `mapping`; otherwise as `jsonl`."""
        check_mapping(mapping, self._context.policy.catalog)
        return self._rows(parquet_rows(path, mapping), mapping, received_ms, chunk_rows)

    def _rows(
        self, rows: Iterator[RowOrBad], mapping: FileMapping, received_ms: int | None, chunk_rows: int
    ) -> Iterator[IntakeResult]:
        reader = RowReader(self._context, mapping)
        clock = _Arrival(received_ms)
        while chunk := list(islice(rows, chunk_rows)):
            taker = Taker(self._context, self._context.channel(mapping.channel), clock.now_ms)
            for row in chunk:
                if isinstance(row, BadRow):
                    taker.reject(row.error, row.raw, row.place)
                elif not reader.wanted(row):
                    taker.collector.counts["skipped"] += 1
                else:
                    taker.take(partial(_read_row, reader, row, clock), row.raw, row.place)
            yield taker.collector.result()


def _read_row(reader: RowReader, row: Row, clock: "_Arrival") -> Parsed:
    time_ms = reader.time_ms(row)
    return reader.read(row, time_ms, clock.at(time_ms))


class _Arrival:
    """When rows arrive: at a given time, or with the event times of replayed history, which never fall."""

    def __init__(self, received_ms: int | None) -> None:
        self._replay = received_ms is None
        self.now_ms = 0 if received_ms is None else received_ms

    def at(self, time_ms: int) -> int:
        if self._replay:
            self.now_ms = max(self.now_ms, time_ms)
        return self.now_ms
