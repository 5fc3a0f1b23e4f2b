"""Key tables: the distinct keys behind dense codes, in one canonical order and three types."""

from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from dayfly.privacy.errors import InvalidColumns

from .kernels import code_range, rename_codes

__all__ = [
    "as_arrow",
    "codes_of_column",
    "codes_of_columns",
    "key_array",
    "key_tuples",
    "known_table",
    "match_keys",
    "order_of_keys",
    "present_codes",
    "restored",
]

_DENSE_SHARE: Final = 4
_DENSE_FLOOR: Final = 2**16
_BLOCK_ROWS: Final = 2**16


def as_arrow(name: str, column: Any) -> pa.ChunkedArray:
    """A column of any kind as an Arrow column.

    Raises:
        InvalidColumns: It is not one column of values of one type.
    """
    if isinstance(column, pa.ChunkedArray):
        return column
    try:
        return pa.chunked_array([column if isinstance(column, pa.Array) else pa.array(column)])
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError, ValueError, TypeError):
        raise InvalidColumns(
            f"{name}={type(column).__name__} must be one column of values of one type; convert it to an Arrow array"
        ) from None  # Arrow's message shows a value


def key_array(name: str, column: Any) -> pa.ChunkedArray:
    """A key column as integers, large_string, or a dictionary of int64 or large_string.

    Integers stay as wide as they are (their codes' keys will be int64), booleans, dates, times and timestamps become the int64 behind them,
    strings of every kind become large_string. Nulls stay.

    Raises:
        InvalidColumns: The column holds floats, nested values, or integers beyond int64.
    """
    column = as_arrow(name, column)
    if pa.types.is_dictionary(column.type):
        target = pa.dictionary(column.type.index_type, _key_type(name, column.type.value_type))
        return column if column.type == target else _cast(name, column.cast(column.type.value_type))
    return _cast(name, column)


def _cast(name: str, column: pa.ChunkedArray) -> pa.ChunkedArray:
    target = _key_type(name, column.type)
    if pa.types.is_integer(column.type) and column.type != pa.uint64():
        return column
    try:
        if pa.types.is_date32(column.type) or pa.types.is_time32(column.type):
            column = column.cast(pa.int32())
        return column if column.type == target else column.cast(target)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        raise InvalidColumns(
            f"{name}={column.type} must fit int64 keys; cast the column to string"
        ) from None  # Arrow's message shows a value


def _key_type(name: str, kind: pa.DataType) -> pa.DataType:
    types = pa.types
    if types.is_integer(kind) or types.is_boolean(kind) or types.is_temporal(kind) or types.is_null(kind):
        return pa.int64()
    if types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind):
        return pa.large_string()
    raise InvalidColumns(
        f"{name}={kind} must be integers, strings, booleans or dates; cast the column, floats by rounding them to integers"
    )


def codes_of_column(column: pa.ChunkedArray) -> tuple[NDArray[np.int32], pa.Array]:
    """Dense codes and the key of each code, null being a key like any other; keys are distinct, in no stated order."""
    if pa.types.is_dictionary(column.type):
        return _codes_of_dictionary(column.unify_dictionaries())
    if pa.types.is_integer(column.type) and column.null_count == 0 and len(column):
        dense = _codes_of_range(column)
        if dense is not None:
            return dense
    encoded = column.dictionary_encode(null_encoding="encode")
    if encoded.num_chunks == 0:
        return np.empty(0, np.int32), _key_values(pa.array([], column.type))
    codes = np.concatenate([np.asarray(chunk.indices, dtype=np.int32) for chunk in encoded.chunks])
    return codes, _key_values(encoded.chunk(encoded.num_chunks - 1).dictionary)


def _key_values(keys: pa.Array) -> pa.Array:
    return keys.cast(pa.int64()) if pa.types.is_integer(keys.type) else keys


def _codes_of_range(column: pa.ChunkedArray) -> tuple[NDArray[np.int32], pa.Array] | None:
    """`key - least key`, where that leaves few codes without rows; the keys are then in order."""
    edges = pc.min_max(column).as_py()
    low, high = int(edges["min"]), int(edges["max"])
    if high - low >= max(_DENSE_FLOOR, len(column) // _DENSE_SHARE):
        return None
    codes = np.empty(len(column), np.int32)
    present = np.zeros(high - low + 1, np.bool_)
    start = 0
    for chunk in column.chunks:
        values = np.asarray(chunk)
        for first in range(0, values.size, _BLOCK_ROWS):
            part = values[first : first + _BLOCK_ROWS].astype(np.int64)
            code_range(part, low, codes[start : start + part.size], present)
            start += part.size
    keys = np.flatnonzero(present)
    if keys.size < present.size:
        renamed = np.zeros(present.size, np.int32)
        renamed[keys] = np.arange(keys.size, dtype=np.int32)
        rename_codes(codes, renamed)
    return codes, pa.array(keys + low, pa.int64())


def _codes_of_dictionary(column: pa.ChunkedArray) -> tuple[NDArray[np.int32], pa.Array]:
    """Codes of a column that has a dictionary already; values listed twice or never used, and nulls in it, are allowed."""
    if column.num_chunks == 0:
        return np.empty(0, np.int32), pa.array([], column.type.value_type)
    listed = pa.chunked_array([column.chunk(0).dictionary, pa.nulls(1, column.type.value_type)])
    renamed, keys = codes_of_column(listed)
    parts = [np.asarray(chunk.indices.fill_null(len(listed) - 1)).astype(np.int64) for chunk in column.chunks]
    return drop_unused(renamed[np.concatenate(parts)], keys)


def drop_unused(codes: NDArray[np.int32], keys: pa.Array) -> tuple[NDArray[np.int32], pa.Array]:
    """Codes and keys without keys that no row has."""
    used = np.flatnonzero(present_codes(codes, len(keys)))
    if used.size == len(keys):
        return codes, keys
    renamed = np.full(len(keys), -1, np.int32)
    renamed[used] = np.arange(used.size, dtype=np.int32)
    rename_codes(codes, renamed)
    return codes, keys.take(pa.array(used))


def present_codes(codes: NDArray[np.int32], count: int) -> NDArray[np.bool_]:
    """Which of the codes below `count` occur; negative ones are passed over."""
    present = np.zeros(count + 1, np.bool_)
    for first in range(0, codes.size, _BLOCK_ROWS):
        present[np.maximum(codes[first : first + _BLOCK_ROWS], -1)] = True
    return present[:count]


def codes_of_columns(columns: list[pa.ChunkedArray], names: list[str]) -> tuple[NDArray[np.int32], pa.Table]:
    """Dense codes of the combinations of several columns that occur, and the key table: row i is the key of code i."""
    codes, keys = codes_of_column(columns[0])
    table = pa.table([keys], names=names[:1])
    for name, column in zip(names[1:], columns[1:], strict=True):
        more, further = codes_of_column(column)
        width = max(len(further), 1)
        wide = np.int32 if table.num_rows * width < 2**31 else np.int64
        pairs = np.multiply(codes, width, dtype=wide)
        pairs += more
        codes, distinct = codes_of_column(pa.chunked_array([pa.array(pairs)]))
        pair = np.asarray(distinct, dtype=np.int64)
        table = table.take(pa.array(pair // width)).append_column(name, further.take(pa.array(pair % width)))
    return codes, table


def order_of_keys(table: pa.Table) -> NDArray[np.int64]:
    """Row numbers in canonical order: by column, integers by size, strings by UTF-8 bytes, nulls last."""
    by = [(name, "ascending") for name in table.column_names]
    order: NDArray[np.int64] = np.asarray(pc.sort_indices(table, sort_keys=by), np.int64)
    return order


def known_table(known: Any, columns: list[pa.ChunkedArray], names: list[str]) -> pa.Table:
    """Given keys as a table of the same types as the columns.

    Args:
        known: Values (one column), tuples (several), or an Arrow table with the columns' names.
        columns: The key columns, for their types.
        names: Names of the columns.

    Raises:
        InvalidColumns: None is given, a key does not fit its column, or a key is given twice.
    """
    if isinstance(known, pa.Table):
        if sorted(known.column_names) != sorted(names):
            raise InvalidColumns(
                f"known_keys={known.column_names} must have the columns {names}; select and rename them"
            )
        given = [known.column(name) for name in names]
    else:
        keys = list(known)
        rows = [(key,) for key in keys] if len(names) == 1 else keys
        for row in rows:
            if not isinstance(row, tuple) or len(row) != len(names):
                raise InvalidColumns(
                    f"known_keys={row!r} must be a tuple of {len(names)} values ({names}); pass such"
                )
        given = [[row[place] for row in rows] for place in range(len(names))]
    typed = []
    for name, column, values in zip(names, columns, given, strict=True):
        kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
        kind = pa.int64() if pa.types.is_integer(kind) else kind
        typed.append(_typed(name, values, kind))
    table = pa.table(typed, names=names)
    if table.num_rows == 0:
        raise InvalidColumns("known_keys=[] must list a key at least; pass None to find keys in the data")
    if table.group_by(names).aggregate([]).num_rows < table.num_rows:
        raise InvalidColumns("known_keys must list each key once; take the repeated ones out")
    return table


def _typed(name: str, values: Any, kind: pa.DataType) -> pa.ChunkedArray:
    """Given keys of one column in the type of that column's keys."""
    column = key_array(name, values)
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if pa.types.is_integer(column.type):
        column = column.cast(pa.int64())
    if column.type != kind and column.null_count < len(column):
        raise InvalidColumns(
            f"known_keys of {name!r} are {column.type}, must be {kind} as in the table; convert them"
        )
    return column.cast(kind)


def match_keys(table: pa.Table, known: pa.Table) -> NDArray[np.int32]:
    """For each row of `table` its row in `known`, or -1."""
    if known.num_columns == 1:
        where = pc.index_in(table.column(0), value_set=known.column(0).combine_chunks()).fill_null(-1)
        return np.asarray(where, dtype=np.int32)
    places = {key: place for place, key in enumerate(key_tuples(known))}
    return np.array([places.get(key, -1) for key in key_tuples(table)], dtype=np.int32)


def key_tuples(table: pa.Table) -> list[tuple[Any, ...]]:
    """Rows of a key table as Python integers and strings."""
    columns = (key_array(name, table.column(name)).to_pylist() for name in table.column_names)
    return list(zip(*columns, strict=True))


def restored(keys: pa.ChunkedArray, kind: pa.DataType) -> pa.ChunkedArray:
    """Keys in the type of the column they came from; views of strings and untyped nulls stay as they are held."""
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    if pa.types.is_string_view(kind) or pa.types.is_null(kind) or keys.type == kind:
        return keys
    if pa.types.is_date32(kind) or pa.types.is_time32(kind):
        keys = keys.cast(pa.int32())
    return keys.cast(kind)
