"""An `EventBatch` read back row by row with the standard library, from the description of its columns alone."""

from collections.abc import Iterator
from decimal import Decimal
from typing import NamedTuple

from dayfly.engine.catalog import NULL, Catalog, FieldType
from dayfly.engine.events import Event, EventBatch, ObservedConsent
from tests.oracles.recount import Cell

__all__ = ["Arrived", "events_of", "rows_of"]


class Arrived(NamedTuple):
    """One event of a batch; `type` is an index, -1 for an undeclared one."""

    event_id: bytes
    channel: str
    subject: bytes
    link: bytes | None
    type: int
    time_ms: int
    received_ms: int
    values: tuple[Cell, ...]
    digest: bytes
    consent: ObservedConsent | None


def rows_of(batch: EventBatch, catalog: Catalog) -> Iterator[Arrived]:
    """The events of `batch` in order."""
    cells, strings = batch.values.tolist(), batch.strings.tobytes()
    ids, subjects = batch.event_id.astype("<u8").tobytes(), batch.subject.astype("<u8").tobytes()
    links, digests = batch.link.astype("<u8").tobytes(), batch.digest.astype("<u8").tobytes()
    times, received = batch.time_ms.tolist(), batch.received_ms.tolist()
    columns = zip(
        batch.type.tolist(),
        batch.channel.tolist(),
        batch.value_offset.tolist(),
        batch.consent.tolist(),
        strict=True,
    )
    for row, (kind, channel, offset, consent) in enumerate(columns):
        at = slice(16 * row, 16 * row + 16)
        fields = catalog.types[kind].fields if kind >= 0 else ()
        yield Arrived(
            event_id=ids[at],
            channel=catalog.channels[channel],
            subject=subjects[at],
            link=links[at] if any(links[at]) else None,
            type=kind,
            time_ms=times[row],
            received_ms=received[row],
            values=tuple(_cell(cells[offset + slot], spec.type, strings) for slot, spec in enumerate(fields)),
            digest=digests[at],
            consent=batch.consents[consent] if consent >= 0 else None,
        )


def _cell(packed: int, kind: FieldType, strings: bytes) -> Cell:
    if packed == NULL:
        return None
    if kind is FieldType.STRING:
        offset, length = divmod(packed, 2**20)
        return strings[offset : offset + length].decode()
    if kind is FieldType.BOOLEAN:
        return packed == 1
    return packed if kind is FieldType.TIME else Decimal(packed).scaleb(-6)


def events_of(batch: EventBatch, catalog: Catalog) -> list[Event]:
    """The batch as `Event` values; those of undeclared types are named ``?`` and have no properties."""
    found = []
    for row in rows_of(batch, catalog):
        kind = catalog.types[row.type] if row.type >= 0 else None
        names = [spec.name for spec in kind.fields] if kind else []
        plain = [float(cell) if isinstance(cell, Decimal) else cell for cell in row.values]
        properties = {name: cell for name, cell in zip(names, plain, strict=True) if cell is not None}
        found.append(
            Event(
                event_id=row.event_id,
                channel=row.channel,
                subject=row.subject,
                type=kind.name if kind else "?",
                time_ms=row.time_ms,
                received_ms=row.received_ms,
                properties=properties,
                digest=row.digest,
                link=row.link,
                consent=row.consent,
            )
        )
    return found
