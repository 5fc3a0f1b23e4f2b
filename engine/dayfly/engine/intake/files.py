"""Files in bounded memory: rows of JSON Lines, CSV and Parquet, each with its place; a row that cannot be read is an error value."""

import gzip
import io
import zlib
from collections.abc import Iterator, Mapping
from datetime import date, datetime
from pathlib import Path
from typing import Any, Final, TypeAlias

import orjson
import pyarrow as pa
from pyarrow import csv as pa_csv
from pyarrow import parquet as pa_parquet

from dayfly.engine.errors import IntakeError
from dayfly.engine.intake.context import Context
from dayfly.engine.intake.documents import check_shape, read_json, read_object
from dayfly.engine.intake.mapping import FileMapping
from dayfly.engine.intake.reasons import DeadLetterReason
from dayfly.engine.intake.rows import Row

__all__ = ["BadRow", "csv_rows", "jsonl_rows", "parquet_rows"]

BLOCK_BYTES: Final = 1 << 20
PARQUET_ROWS: Final = 8_192


class BadRow:
    """A row that no reader could read: why, where, and its bytes."""

    def __init__(self, error: IntakeError, place: str, raw: bytes) -> None:
        self.error = error
        self.place = place
        self.raw = raw


RowOrBad: TypeAlias = Row | BadRow


def jsonl_rows(
    source: Path | bytes, mapping: FileMapping, context: Context, max_line_bytes: int
) -> Iterator[RowOrBad]:
    """Rows of a JSON Lines file (gzip by its name) or of bytes; empty lines are passed over.

    A line longer than its limit is reported once and skipped without being held in memory.
    """
    limit = max_line_bytes if mapping.explode is not None else context.settings.max_event_bytes
    number = 0
    try:
        with _open(source) as stream:
            while line := stream.readline(limit + 2):
                number += 1
                place = f"line {number}"
                if len(line.rstrip(b"\r\n")) > limit:
                    while line and not line.endswith(b"\n"):
                        line = stream.readline(BLOCK_BYTES)
                    yield BadRow(_too_long(limit), place, b"")
                elif line.strip():
                    yield from _line_rows(line.rstrip(b"\r\n"), place, mapping, context)
    except (OSError, EOFError, zlib.error) as error:
        yield _unreadable(error, number)


def _line_rows(line: bytes, place: str, mapping: FileMapping, context: Context) -> Iterator[RowOrBad]:
    try:
        if mapping.explode is None:
            value = read_object(line, context.settings)
            yield Row(lambda column: _at(value, column), line, place)
            return
        outer = read_json(line)
        elements = _array_at(outer, mapping.explode)
    except IntakeError as error:
        yield BadRow(error, place, line)
        return
    prefix = f"{mapping.explode}."
    for index, element in enumerate(elements):
        raw = line + b"\0%d" % index
        inner_place = f"{place}, element {index}"
        try:
            check_shape(element, context.settings)
        except IntakeError as error:
            yield BadRow(error, inner_place, raw)
            continue
        yield Row(_exploded(outer, element, prefix), raw, inner_place)


def _array_at(outer: Any, path: str) -> list[Any]:
    elements = _at(outer, path)
    if not isinstance(elements, list):
        raise IntakeError(
            DeadLetterReason.NOT_AN_OBJECT, f"path={path!r} must lead to an array; fix the mapping's explode"
        )
    return elements


def _exploded(outer: Any, element: Any, prefix: str) -> Any:
    def get(column: str) -> Any:
        return _at(element, column.removeprefix(prefix)) if column.startswith(prefix) else _at(outer, column)

    return get


def csv_rows(path: Path, mapping: FileMapping) -> Iterator[RowOrBad]:
    """Rows of a CSV file with a header line (gzip by its name), read block by block; only mapped columns are decoded.

    A row with too few or too many cells is reported and skipped; when the file itself breaks, the rest is one bad row.
    """
    columns = mapping.columns()
    broken: list[BadRow] = []

    def on_invalid(row: Any) -> str:
        place = "a row" if row.number is None else f"row {row.number}"
        error = IntakeError(
            DeadLetterReason.UNREADABLE_FILE,
            f"cells={row.actual_columns} must be {row.expected_columns}; quote the cells that hold the delimiter",
        )
        broken.append(BadRow(error, place, row.text.encode(errors="replace")))
        return "skip"

    convert = pa_csv.ConvertOptions(
        include_columns=list(columns),
        column_types={name: pa.binary() for name in columns},
        strings_can_be_null=False,
    )
    parse = pa_csv.ParseOptions(
        delimiter=mapping.delimiter, newlines_in_values=True, invalid_row_handler=on_invalid
    )
    read = pa_csv.ReadOptions(block_size=BLOCK_BYTES, use_threads=False)
    number = 0
    try:
        with pa_csv.open_csv(path, read_options=read, parse_options=parse, convert_options=convert) as reader:
            for batch in reader:
                for cells in zip(*(batch.column(name).to_pylist() for name in columns), strict=True):
                    number += 1
                    yield _csv_row(columns, cells, f"record {number}")
                yield from broken
                broken.clear()
    except (pa.ArrowException, OSError, EOFError) as error:
        yield _unreadable(error, number)
    yield from broken


def _csv_row(columns: tuple[str, ...], cells: tuple[bytes, ...], place: str) -> RowOrBad:
    raw = b"\x1f".join(cells)
    try:
        values = {name: cell.decode() for name, cell in zip(columns, cells, strict=True) if cell}
    except UnicodeDecodeError:
        error = IntakeError(
            DeadLetterReason.INVALID_UTF8, "row=<hidden> must be UTF-8 text; convert the file"
        )
        return BadRow(error, place, raw)
    return Row(values.get, raw, place)


def parquet_rows(path: Path, mapping: FileMapping) -> Iterator[RowOrBad]:
    """Rows of a Parquet file, read batch by batch and only in the mapped columns. A row's bytes are its values as JSON."""
    columns = mapping.columns()
    number = 0
    try:
        with pa_parquet.ParquetFile(path) as file:
            missing = [name for name in columns if name not in file.schema_arrow.names]
            if missing:
                raise pa.ArrowInvalid(f"columns {missing} are missing")
            for batch in file.iter_batches(batch_size=PARQUET_ROWS, columns=list(columns), use_threads=False):
                lists = [_python_values(batch.column(name)) for name in columns]
                for cells in zip(*lists, strict=True):
                    number += 1
                    values = dict(zip(columns, cells, strict=True))
                    yield Row(values.get, orjson.dumps(cells, default=_jsonable), f"row {number}")
    except (pa.ArrowException, OSError) as error:
        yield _unreadable(error, number)


def _python_values(column: Any) -> list[Any]:
    if pa.types.is_timestamp(column.type) and column.type.unit == "ns":
        column = column.cast(pa.timestamp("us", column.type.tz), safe=False)
    return list(column.to_pylist())


def _jsonable(value: Any) -> Any:
    return value.isoformat() if isinstance(value, datetime | date) else str(value)


def _open(source: Path | bytes) -> io.BufferedIOBase:
    if isinstance(source, bytes):
        return io.BytesIO(source)
    return gzip.open(source, "rb") if source.suffix == ".gz" else source.open("rb")


def _at(value: Any, column: str) -> Any:
    for step in column.split("."):
        if not isinstance(value, Mapping):
            return None
        value = value.get(step)
    return value


def _too_long(limit: int) -> IntakeError:
    return IntakeError(
        DeadLetterReason.TOO_LARGE, f"line must have at most {limit} bytes; split it or raise the limit"
    )


def _unreadable(error: Exception, rows: int) -> BadRow:
    """The rest of a file that broke; pyarrow's message may quote cells, so only its class is told."""
    refused = IntakeError(
        DeadLetterReason.UNREADABLE_FILE,
        f"file must be readable after row {rows} ({type(error).__name__}); check format and columns",
    )
    return BadRow(refused, f"after row {rows}", b"")
