"""Sources: tables of customers' rows that only a sandbox reads. What can be shown of one is its schema."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, TypeAlias, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from dayfly.privacy.bounding.salts import SaltedKeys
from dayfly.privacy.errors import InvalidQuery

from .language import Kind, kind_of_arrow, normal

__all__ = ["Customers", "Data", "Source"]

Data: TypeAlias = pa.Table | Mapping[str, NDArray[Any]] | Path | str | Sequence[Path | str]
"""An Arrow table, NumPy columns by name, or paths of Parquet files with one schema."""

_T = TypeVar("_T")
_KEPT: Final = 24
_DENSE: Final = 1 << 20


class Customers:
    """Customers of a source as codes.

    Attributes:
        codes: Of each row; negative where a row has no customer.
        keys: Key of each code (int64 or large_string); None where the code is the key.
    """

    __slots__ = ("codes", "keys")

    def __init__(self, codes: NDArray[Any], keys: pa.Array | None) -> None:
        self.codes: Final = codes
        self.keys: Final = keys

    def words(self, salt: bytes) -> NDArray[np.uint64] | None:
        """Secret word of each code; None where bounding makes the same words from the codes."""
        return None if self.keys is None else SaltedKeys.of(salt).customer_words(self.keys)


class Source:
    """A table of rows that belong to customers, for a `Sandbox`.

    Args:
        data: The table, or where it is.
        customer: Column that says whose row it is (integers or texts); a row without is left out. Queries cannot name it.
        data_set: Whose budget its queries spend; the name of the source in the sandbox where none is given. Sources about
            the same customers must have the same.

    Raises:
        InvalidQuery: the columns are of different lengths, or the customer column is not there or no key.

    Guarantees:
        Its representation, attributes and errors hold no value of a row; only names and kinds of columns.
    """

    __slots__ = ("_cache", "_customer", "_lock", "_table", "data_set", "schema")

    def __init__(self, data: Data, *, customer: str, data_set: str = "") -> None:
        self._table = _table(data)
        self._customer: Final = customer
        self.data_set: Final = data_set
        self.schema: Final[Mapping[str, Kind]] = _schema(self._table.schema, customer)
        self._cache: OrderedDict[Hashable, Any] = OrderedDict()
        self._lock: Final = threading.Lock()

    def __repr__(self) -> str:
        columns = ", ".join(f"{name}: {kind}" for name, kind in self.schema.items())
        return f"Source({columns})"

    def __getstate__(self) -> object:
        raise InvalidQuery(
            "source must not be pickled, because it holds private rows; open it where it is used"
        )

    def column(self, name: str) -> Any:
        """A column as expressions see it; private."""
        return self.kept(("column", name), lambda: normal(self._table[name]))

    def customers(self) -> Customers:
        """Customers as codes; private."""
        return self.kept("customers", lambda: _encoded(self._table[self._customer]))

    def kept(self, key: Hashable, make: Callable[[], _T]) -> _T:
        """What was prepared before under a key, or made now; the most recent two dozen are kept."""
        with self._lock:
            if key in self._cache:
                self._cache.move_to_end(key)
                found: _T = self._cache[key]
                return found
        made = make()
        with self._lock:
            self._cache[key] = made
            while len(self._cache) > _KEPT:
                self._cache.popitem(last=False)
        return made


def _table(data: Data) -> pa.Table:
    if isinstance(data, pa.Table):
        return data
    if isinstance(data, Mapping):
        if len({len(column) for column in data.values()}) > 1:
            raise InvalidQuery("columns of a source must have one length; pass whole columns")
        return pa.table({name: pa.array(column) for name, column in data.items()})
    paths = [data] if isinstance(data, str | Path) else list(data)
    if not paths:
        raise InvalidQuery("paths of a source must be at least one; pass a Parquet file")
    return pa.concat_tables([pq.read_table(path) for path in paths])


def _schema(schema: pa.Schema, customer: str) -> dict[str, Kind]:
    if customer not in schema.names:
        raise InvalidQuery(
            f"customer={customer!r} must be a column of {', '.join(schema.names)}; check the name"
        )
    if kind_of_arrow(schema.field(customer).type) not in {Kind.INTEGER, Kind.TEXT}:
        raise InvalidQuery(f"customer={customer!r} must hold integers or texts; convert the column")
    kinds = {field.name: kind_of_arrow(field.type) for field in schema if field.name != customer}
    return {name: kind for name, kind in kinds.items() if kind is not None}


def _encoded(column: pa.ChunkedArray) -> Customers:
    """Dense codes. Integers that are dense already are their own codes, which bounding treats alike."""
    kind = kind_of_arrow(column.type)
    if kind is Kind.INTEGER and not pa.types.is_dictionary(column.type) and column.null_count == 0:
        values = column.to_numpy()
        if values.size and values.min() >= 0 and values.max() < max(_DENSE, 2 * values.size):
            return Customers(values, None)
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    wide = column.cast(pa.int64(), safe=False) if kind is Kind.INTEGER else column.cast(pa.large_string())
    encoded = wide.combine_chunks().dictionary_encode()
    if isinstance(encoded, pa.ChunkedArray):
        encoded = encoded.chunk(0) if encoded.num_chunks else pa.array([], wide.type).dictionary_encode()
    codes = encoded.indices.fill_null(-1).to_numpy(zero_copy_only=False)
    return Customers(codes, encoded.dictionary)
