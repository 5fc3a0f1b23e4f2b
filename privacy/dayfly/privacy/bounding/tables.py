"""Where columns come from: Arrow tables, Parquet files, mappings of NumPy columns, and whatever speaks Arrow's C stream."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from dayfly.privacy.errors import InvalidColumns

from .keys import as_arrow

__all__ = ["read_columns", "value_column"]


def read_columns(source: Any, names: Sequence[str]) -> dict[str, Any]:
    """The named columns of a table, and no others.

    Args:
        source: An Arrow table or record batch, the path of a Parquet file, a mapping of columns (Arrow, NumPy, lists), or an object with
            `__arrow_c_stream__` such as a Polars or pandas data frame.
        names: Columns to read.

    Returns:
        Name -> column, as it is in the source.

    Raises:
        InvalidColumns: The source is of another type or cannot be read, a column is missing, or columns differ in length.
    """
    if isinstance(source, str | Path):
        return _parquet(Path(source), names)
    if isinstance(source, Mapping):
        _known_names(list(source), names)
        found = {name: source[name] for name in names}
        lengths = {name: len(column) for name, column in found.items()}
        if len(set(lengths.values())) > 1:
            raise InvalidColumns(f"columns={lengths} must be of one length; pass whole columns")
        return found
    if isinstance(source, pa.RecordBatch):
        source = pa.table(source)
    elif not isinstance(source, pa.Table):
        if not hasattr(source, "__arrow_c_stream__"):
            raise InvalidColumns(
                f"source={type(source).__name__} must be a table, a mapping of columns or a Parquet path; convert it to one"
            )
        source = pa.table(source)
    _known_names(source.column_names, names)
    return {name: source.column(name) for name in names}


def _parquet(path: Path, names: Sequence[str]) -> dict[str, Any]:
    import pyarrow.parquet as pq  # noqa: PLC0415 - slow to import, and most callers have tables

    try:
        with pq.ParquetFile(path) as file:
            _known_names(file.schema_arrow.names, names)
            table = file.read(columns=list(dict.fromkeys(names)))
    except (OSError, pa.ArrowInvalid) as error:
        raise InvalidColumns(f"source={str(path)!r} must be a readable Parquet file; {error}") from error
    return {name: table.column(name) for name in names}


def _known_names(have: Sequence[Any], names: Sequence[str]) -> None:
    for name in names:
        if have.count(name) != 1:
            raise InvalidColumns(
                f"column={name!r} must be in the table exactly once; choose from {sorted(map(str, have))}"
            )


def value_column(name: str, column: Any) -> NDArray[Any]:
    """Numbers of a value column; nulls become NaN.

    Raises:
        InvalidColumns: The column holds something else than integers, floats, decimals or booleans.
    """
    if (
        isinstance(column, np.ndarray)
        and column.dtype.kind in "iufb"
        and not isinstance(column, np.ma.MaskedArray)
    ):
        return column
    column = as_arrow(name, column)
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    kind = column.type
    types = pa.types
    if not (
        types.is_integer(kind)
        or types.is_floating(kind)
        or types.is_decimal(kind)
        or types.is_boolean(kind)
        or types.is_null(kind)
    ):
        raise InvalidColumns(
            f"{name}={kind} must be integers, floats, decimals or booleans; cast the column first"
        )
    if column.null_count or types.is_decimal(kind) or types.is_boolean(kind) or types.is_float16(kind):
        column = column.cast(pa.float64(), safe=False)
    values: NDArray[Any] = (
        column.to_numpy() if isinstance(column, pa.ChunkedArray) else column.to_numpy(zero_copy_only=False)
    )
    return values
