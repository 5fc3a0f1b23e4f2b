"""Between `EventBatch` and the kernels: strings are interned, columns take the kernels' types."""

import numpy as np

from dayfly.engine.catalog import NULL, Catalog, FieldType, from_micro
from dayfly.engine.events import Event, EventBatch, Value, unpack_string
from dayfly.engine.shard.kernels_core import Batch
from dayfly.engine.shard.kernels_strings import intern_rows
from dayfly.engine.shard.state import Arrays

__all__ = ["columns_of", "single_event"]

_NO_IDS = np.zeros((0, 2), np.uint64)
_NO_WORDS = np.zeros(0, np.int64)
_NO_INDEXES = np.zeros(0, np.int32)


def columns_of(arrays: Arrays, batch: EventBatch | None, *, trusted: bool = False) -> Batch:
    """Columns for the kernels; the strings of `batch` are in the shard's table afterwards."""
    if batch is None or not len(batch):
        return Batch(
            _NO_WORDS,
            _NO_WORDS,
            _NO_IDS,
            _NO_IDS,
            _NO_IDS,
            _NO_IDS,
            _NO_INDEXES,
            _NO_INDEXES,
            np.zeros(0, np.uint64),
            _NO_WORDS,
            _NO_WORDS,
            trusted,
        )
    values = batch.values.copy()
    arrays.make_room_for_strings(len(values), len(batch.strings))
    intern_rows(
        arrays.strings,
        arrays.compiled.tests,
        batch.type,
        batch.value_offset,
        values,
        np.ascontiguousarray(batch.strings),
    )
    return Batch(
        batch.received_ms,
        batch.time_ms,
        np.ascontiguousarray(batch.subject),
        np.ascontiguousarray(batch.link),
        np.ascontiguousarray(batch.event_id),
        np.ascontiguousarray(batch.digest),
        batch.type,
        batch.channel,
        batch.consent_digest,
        batch.value_offset,
        values,
        trusted,
    )


def single_event(batch: EventBatch, index: int, catalog: Catalog) -> Event:
    """One event of a batch as a value."""
    kind = catalog.types[int(batch.type[index])]
    start = int(batch.value_offset[index])
    cells = batch.values[start : start + len(kind.fields)].tolist()
    properties = {
        spec.name: _value(batch, packed, spec.type)
        for spec, packed in zip(kind.fields, cells, strict=True)
        if packed != NULL
    }
    link = batch.link[index].astype("<u8").tobytes()
    return Event(
        event_id=batch.event_id[index].astype("<u8").tobytes(),
        channel=catalog.channels[int(batch.channel[index])],
        subject=batch.subject[index].astype("<u8").tobytes(),
        type=kind.name,
        time_ms=int(batch.time_ms[index]),
        received_ms=int(batch.received_ms[index]),
        properties=properties,
        digest=batch.digest[index].astype("<u8").tobytes(),
        link=link if any(link) else None,
    )


def _value(batch: EventBatch, packed: int, kind: FieldType) -> Value:
    if kind is FieldType.STRING:
        offset, length = unpack_string(packed)
        return batch.strings[offset : offset + length].tobytes().decode()
    if kind is FieldType.BOOLEAN:
        return bool(packed)
    return packed if kind is FieldType.TIME else from_micro(packed)
