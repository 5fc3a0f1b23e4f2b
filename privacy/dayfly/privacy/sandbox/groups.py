"""Groups of a query: a code per row, and the keys that codes stand for."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from dayfly.privacy._compute import pc
from dayfly.privacy.bounding.salts import SaltedKeys

from .frames import Frame, dense, dictionary_codes, numbers_of
from .language import Kind, instant_of
from .numbers import exact
from .queries import GroupKey

__all__ = ["Groups", "groups_of", "known_keys", "word_table"]

_TIME: Final = pa.timestamp("ms")
_CHUNK_ROWS: Final = 1 << 18
_NO_KEYS: Final = pa.table({})


@dataclass(frozen=True, slots=True, repr=False, eq=False)
class Groups:
    """Groups of a frame; private where `known` is false.

    Attributes:
        codes: Of each row; negative: in no group (filtered out, no customer, a key without value or not asked for).
        count: Number of groups.
        keys: Key columns, one row per group; no column where there is one group.
        known: Whether count and keys follow from the query alone.
    """

    codes: NDArray[Any]
    count: int
    keys: pa.Table
    known: bool

    def words(self, salt: bytes) -> NDArray[np.uint64] | None:
        """Secret word of each group, made of its key so that it does not depend on which others there are."""
        if self.known:
            return None
        return SaltedKeys.of(salt).group_words(word_table(self.keys.columns))


def word_table(columns: Sequence[Any]) -> pa.Table:
    """Keys as the hash takes them: int64 or large_string."""
    return pa.table(
        [_hashable(column) for column in columns], names=[str(number) for number in range(len(columns))]
    )


def _hashable(column: Any) -> Any:
    kind = column.type
    if pa.types.is_boolean(kind) or pa.types.is_integer(kind) or kind == _TIME:
        return column.cast(pa.int64(), safe=False)
    return column.cast(pa.large_string())


def groups_of(frame: Frame, keys: tuple[GroupKey, ...], kinds: Mapping[str, Kind]) -> Groups:
    """The groups of the rows of a frame."""
    if not keys:
        return Groups(_left(frame, _together(frame)), 1, _NO_KEYS, known=True)
    if all(key.known for key in keys):
        raw = all(key.column in frame.raw for key in keys)
        codes = (
            frame.source.kept(("groups", keys), lambda: _joined(frame, keys, kinds))
            if raw
            else _joined(frame, keys, kinds)
        )
        keyed = known_keys(keys, kinds)
        return Groups(_left(frame, codes), keyed.num_rows, keyed, known=True)
    return _occurring(frame, keys, kinds)


def _together(frame: Frame) -> NDArray[Any]:
    """One group for every row; kept where the rows are those of the source."""
    if not frame.raw:
        return np.zeros(frame.rows, np.int32)
    return frame.source.kept("one group", lambda: np.zeros(frame.rows, np.int32))


def _joined(frame: Frame, keys: tuple[GroupKey, ...], kinds: Mapping[str, Kind]) -> NDArray[Any]:
    """Code of each row over all known key columns, chunk by chunk; `check` saw that there are few enough for int32."""
    columns = [frame.columns[key.column] for key in keys]
    asked = [_asked(key, kinds[key.column]) for key in keys]
    count = math.prod(len(values) for values in asked)
    codes = np.empty(frame.rows, np.int16 if count < 1 << 15 else np.int32)
    for start in range(0, frame.rows, _CHUNK_ROWS):
        joined = np.zeros(min(_CHUNK_ROWS, frame.rows - start), np.int32)
        for key, column, values in zip(keys, columns, asked, strict=True):
            part = _known_codes(column.slice(start, _CHUNK_ROWS), key, values)
            outside = (joined < 0) | (part < 0)
            joined = joined * np.int32(len(values)) + part
            joined[outside] = -1
        codes[start : start + joined.size] = joined
    return codes


def known_keys(keys: tuple[GroupKey, ...], kinds: Mapping[str, Kind]) -> pa.Table:
    """Key columns of known groups, without looking at any row."""
    return _product([key.column for key in keys], [_asked(key, kinds[key.column]) for key in keys])


def _codes(frame: Frame, key: GroupKey, kind: Kind) -> tuple[NDArray[Any], Any]:
    """Code of each row in one key column, and the values."""
    column = frame.columns[key.column]
    if not key.known:
        return dictionary_codes(column)
    asked = _asked(key, kind)
    return _known_codes(column, key, asked), asked


def _known_codes(column: Any, key: GroupKey, asked: Any) -> NDArray[np.int32]:
    if key.edges is not None:
        return _binned(numbers_of(column), [float(exact(edge, "edge")) for edge in key.edges])
    return _looked_up(column, asked)


def _asked(key: GroupKey, kind: Kind) -> Any:
    """The values that are asked for, as an Arrow array."""
    if key.edges is not None:
        return pa.array(_bins([float(exact(edge, "edge")) for edge in key.edges]))
    assert key.keys is not None
    if kind is Kind.TIME:
        return pa.array([instant_of(str(value)) for value in key.keys], pa.int64()).cast(_TIME)
    return pa.array(key.keys, {Kind.TEXT: pa.string(), Kind.INTEGER: pa.int64(), Kind.BOOL: pa.bool_()}[kind])


def _bins(edges: list[float]) -> list[str]:
    last = len(edges) - 2
    return [
        f"[{low:g}, {high:g}{']' if number == last else ')'}"
        for number, (low, high) in enumerate(pairwise(edges))
    ]


def _binned(numbers: NDArray[Any], edges: list[float]) -> NDArray[np.int32]:
    values = numbers.astype(np.float64, copy=False)
    codes = np.searchsorted(edges, values, side="right") - 1
    codes[values == edges[-1]] = len(edges) - 2
    codes[~((values >= edges[0]) & (values <= edges[-1]))] = -1
    return codes.astype(np.int32)


def _looked_up(column: Any, asked: Any) -> NDArray[np.int32]:
    if pa.types.is_integer(column.type):
        return _integers_looked_up(column, asked.to_numpy())
    wanted = asked.cast(column.type, safe=False) if column.type != asked.type else asked
    found = pc.fill_null(pc.index_in(column, value_set=wanted), -1)
    return numbers_of(found).astype(np.int32, copy=False)


def _integers_looked_up(column: Any, asked: NDArray[np.int64]) -> NDArray[np.int32]:
    """Integer keys; a run of them, as codes of categories are, needs no table."""
    if column.null_count or not np.array_equal(asked, np.arange(asked[0], asked[0] + asked.size)):
        found = pc.fill_null(pc.index_in(column.cast(pa.int64()), value_set=pa.array(asked)), -1)
        return numbers_of(found).astype(np.int32, copy=False)
    values, first = numbers_of(column), int(asked[0])
    outside = (values < first) | (values >= first + asked.size)
    codes = np.subtract(values, first, dtype=np.int64, casting="unsafe") if first else values
    codes = codes.astype(np.int32)
    codes[outside] = -1
    return codes


def _left(frame: Frame, codes: NDArray[Any]) -> NDArray[Any]:
    """Codes of the rows that were not filtered out."""
    return codes if frame.mask is None else np.where(frame.mask, codes, -1)


def _product(names: list[str], values: list[Any]) -> pa.Table:
    count = int(np.prod([len(column) for column in values], dtype=np.int64)) if values else 1
    columns, each = [], count
    for column in values:
        each //= max(1, len(column))
        columns.append(pc.take(column, pa.array(np.arange(count) // max(1, each) % max(1, len(column)))))
    return pa.table(columns, names=names)


def _occurring(frame: Frame, keys: tuple[GroupKey, ...], kinds: Mapping[str, Kind]) -> Groups:
    """Only the groups that occur, numbered as they appear; the numbers are never shown.

    Codes are made dense at each column, so that no product leaves int64 whatever the data hold.
    """
    found = [_codes(frame, key, kinds[key.column]) for key in keys]
    some = _left(frame, found[0][0]) >= 0
    for column, _ in found[1:]:
        some &= column >= 0
    order = np.zeros(int(some.sum()), np.int64)
    first = order[:0]
    for column, values in found:
        order, first = dense(order * len(values) + column[some])
    codes = np.full(frame.rows, -1, np.int64)
    codes[some] = order
    keyed = [pc.take(values, pa.array(column[some][first])) for column, values in found]
    return Groups(codes, int(first.size), pa.table(keyed, names=[key.column for key in keys]), known=False)
