"""The rows of a source after the steps of a query. Every step turns a customer's rows into that customer's rows.

Claim: without one customer's rows, the rows of all others come out of the steps unchanged and in the same order. Precondition:
the steps passed `check`. Argument: filters and derived columns are element-wise (`language.evaluating`); a per-customer step
groups by customer first, and adds up the values of one customer (and of one key) in row order, one after the other, so that
not even a float's last bit depends on anybody else.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from .language import evaluate, parse
from .queries import Derive, PerCustomer, PerCustomerValue, Step, Where
from .sources import Customers, Source

__all__ = ["Frame", "dense", "dictionary_codes", "frame_of", "numbers_of"]


class _Lazy(Mapping[str, Any]):
    """Columns of a source, prepared when they are asked for."""

    def __init__(self, source: Source) -> None:
        self._source: Final = source

    def __getitem__(self, name: str) -> Any:
        if name not in self._source.schema:
            raise KeyError(name)
        return self._source.column(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._source.schema)

    def __len__(self) -> int:
        return len(self._source.schema)


@dataclass(frozen=True, slots=True, repr=False, eq=False)
class Frame:
    """Rows in the middle of a query; private.

    Attributes:
        source: Where they come from.
        customers: Whose they are.
        columns: Arrow columns by name, over all rows.
        raw: Names of columns that are still those of the source, so that what is made of them may be kept.
        mask: Which rows are left; None for all.
    """

    source: Source
    customers: Customers
    columns: Mapping[str, Any]
    raw: frozenset[str]
    mask: NDArray[np.bool_] | None

    @property
    def rows(self) -> int:
        """Number of rows, those that were filtered out included."""
        return int(self.customers.codes.size)


def frame_of(source: Source, steps: tuple[Step, ...]) -> Frame:
    """The rows of a source after some steps."""
    frame = Frame(source, source.customers(), _Lazy(source), frozenset(source.schema), None)
    for step in steps:
        if isinstance(step, Where):
            frame = _where(frame, step)
        elif isinstance(step, Derive):
            frame = _derive(frame, step)
        else:
            frame = _per_customer(frame, step)
    return frame


def _where(frame: Frame, step: Where) -> Frame:
    true = evaluate(parse(step.condition), frame.columns)
    kept = np.full(frame.rows, bool(true.as_py())) if isinstance(true, pa.Scalar) else _truth(true)
    mask = kept if frame.mask is None else frame.mask & kept
    return Frame(frame.source, frame.customers, frame.columns, frame.raw, mask)


def _truth(values: Any) -> NDArray[np.bool_]:
    found: NDArray[np.bool_] = np.asarray(pc.fill_null(values, pa.scalar(value=False)))
    return found


def _derive(frame: Frame, step: Derive) -> Frame:
    made = {
        name: _column(evaluate(parse(text), frame.columns), frame.rows) for name, text in step.columns.items()
    }
    return Frame(
        frame.source, frame.customers, {**frame.columns, **made}, frame.raw - made.keys(), frame.mask
    )


def _column(values: Any, rows: int) -> Any:
    return pa.repeat(values, rows) if isinstance(values, pa.Scalar) else values


# --- per-customer tables ---------------------------------------------------------------------------------------------


def _per_customer(frame: Frame, step: PerCustomer) -> Frame:
    here = frame.customers.codes >= 0
    if frame.mask is not None:
        here &= frame.mask
    codes = frame.customers.codes[here].astype(np.int64)
    keys = {name: dictionary_codes(frame.columns[name]) for name in step.by}
    order, first = dense(codes)
    for key_codes, key_values in keys.values():  # dense again at each key, so that no product leaves int64
        order, first = dense(order * (len(key_values) + 1) + key_codes[here] + 1)
    rows = int(first.size)
    columns: dict[str, Any] = {
        name: pa.array(np.asarray(key_codes)[here][first], mask=key_codes[here][first] < 0)
        for name, (key_codes, _) in keys.items()
    }
    columns = {name: pc.take(keys[name][1], column) for name, column in columns.items()}
    for name, value in step.columns.items():
        columns[name] = _aggregate(frame, value, here, order, rows)
    return Frame(frame.source, Customers(codes[first], frame.customers.keys), columns, frozenset(), None)


def _aggregate(
    frame: Frame, value: PerCustomerValue, here: NDArray[np.bool_], order: NDArray[np.int64], rows: int
) -> Any:
    if value.column is None:
        return pa.array(np.bincount(order, minlength=rows).astype(np.int64))
    if value.function == "distinct":
        return _distinct(dictionary_codes(frame.columns[value.column])[0][here], order, rows)
    numbers = numbers_of(frame.columns[value.column])[here].astype(np.float64)
    some = ~np.isnan(numbers)
    order, numbers = order[some], numbers[some]
    count = np.bincount(order, minlength=rows)
    if value.function in {"sum", "mean"}:
        with np.errstate(all="ignore"):
            total = np.bincount(order, weights=numbers, minlength=rows)
            found = total if value.function == "sum" else total / count
        empty = count == 0 if value.function == "mean" else np.zeros(rows, np.bool_)
        return pa.array(found, mask=empty | np.isnan(found))
    least = value.function == "min"
    found = np.full(rows, np.inf if least else -np.inf)
    (np.minimum if least else np.maximum).at(found, order, numbers)
    return pa.array(found, mask=count == 0)


def _distinct(codes: NDArray[np.int64], order: NDArray[np.int64], rows: int) -> Any:
    some = codes >= 0
    span = int(codes.max(initial=0)) + 1
    pairs = np.unique(order[some] * span + codes[some])
    return pa.array(np.bincount(pairs // span, minlength=rows).astype(np.int64))


# --- columns as numbers and codes ------------------------------------------------------------------------------------


def numbers_of(column: Any) -> NDArray[Any]:
    """A numeric column as NumPy; where a value is missing, all become float64 and it is NaN."""
    if isinstance(column, pa.ChunkedArray):
        return np.asarray(column.to_numpy())
    return np.asarray(column.to_numpy(zero_copy_only=False))


def dense(values: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Codes 0, 1, ... of values, in order of first appearance, and the row of each first appearance."""
    _, first, inverse = np.unique(values, return_index=True, return_inverse=True)
    rank = np.empty(first.size, np.int64)
    by_row = np.argsort(first, kind="stable")
    rank[by_row] = np.arange(first.size)
    return rank[inverse], first[by_row]


def dictionary_codes(column: Any) -> tuple[NDArray[np.int64], Any]:
    """Codes of a key column, negative where there is no value, and the values."""
    if isinstance(column, pa.ChunkedArray):
        column = column.combine_chunks()
    if isinstance(column, pa.ChunkedArray):
        column = pa.concat_arrays(column.chunks)
    encoded = column.dictionary_encode()
    codes = encoded.indices.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64)
    return codes, encoded.dictionary
