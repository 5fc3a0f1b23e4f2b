"""Rows of an event batch as a batch of their own, with nothing of the other rows in it."""

from dataclasses import replace
from typing import Final

import numpy as np
import numpy.typing as npt

from dayfly.engine.catalog import NULL, Catalog, FieldType
from dayfly.engine.events import LENGTH_BITS, MAX_STRING_BYTES, EventBatch
from dayfly.engine.intake.results import take_rows

__all__ = ["rows_of"]

Words = npt.NDArray[np.int64]
_NONE: Final = np.zeros(0, np.int64)


def rows_of(batch: EventBatch, rows: npt.NDArray[np.intp], catalog: Catalog) -> EventBatch:
    """The rows at `rows`, in that order, over buffers that hold their values and texts only.

    A shard logs what it is told: values of a person of another shard would outlive that person's erasure there.
    """
    taken = take_rows(batch, rows)
    widths = np.array([*(len(kind.fields) for kind in catalog.types), 0], np.int64)[taken.type]
    source = _spread(taken.value_offset, widths)
    values = batch.values[source]
    starts = np.cumsum(widths) - widths
    texts = _text_cells(taken.type, starts, values, catalog)
    packed = values[texts]
    lengths = packed & MAX_STRING_BYTES
    strings = batch.strings[_spread(packed >> LENGTH_BITS, lengths)]
    values[texts] = ((np.cumsum(lengths) - lengths) << LENGTH_BITS) | lengths
    used, numbers = np.unique(taken.consent, return_inverse=True)
    kept = used[used >= 0]
    return replace(
        taken,
        value_offset=starts,
        values=values,
        strings=strings,
        consent=(numbers - (len(used) - len(kept))).astype(np.int32),
        consents=tuple(batch.consents[number] for number in kept.tolist()),
    )


def _spread(starts: Words, lengths: Words) -> Words:
    """Indexes of many ranges, one after another."""
    total = int(lengths.sum())
    if not total:
        return _NONE
    ends = np.cumsum(lengths)
    return np.repeat(starts - (ends - lengths), lengths) + np.arange(total)


def _text_cells(
    types: npt.NDArray[np.int32], starts: Words, values: Words, catalog: Catalog
) -> npt.NDArray[np.intp]:
    """Indexes of the cells that hold a text."""
    is_text = np.zeros(len(values), bool)
    for number, kind in enumerate(catalog.types):
        first = starts[types == number]
        for slot, field in enumerate(kind.fields):
            if field.type is FieldType.STRING:
                is_text[first + slot] = True
    return np.flatnonzero(is_text & (values != NULL))
