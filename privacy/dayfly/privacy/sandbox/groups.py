"""Groups of a query: a code per row, and the keys that codes stand for."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from dayfly.privacy.bounding.salts import SaltedKeys

from .frames import Frame, dense, dictionary_codes, numbers_of
from .language import Kind, instant_of
from .numbers import exact
from .queries import GroupKey

__all__ = ["Groups", "groups_of", "known_keys", "word_table"]

_TIME: Final = pa.timestamp("ms")


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
        return Groups(_left(frame, np.zeros(frame.rows, np.int32)), 1, pa.table({}), known=True)
    found = [_codes(frame, key, kinds[key.column]) for key in keys]
    names, values = [key.column for key in keys], [values for _, values in found]
    if all(key.known for key in keys):
        codes = found[0][0]
        for (column, _), size in zip(found[1:], map(len, values[1:]), strict=True):
            codes = np.where((codes < 0) | (column < 0), -1, codes.astype(np.int64) * size + column)
        keyed = _product(names, values)
        return Groups(_left(frame, codes), keyed.num_rows, keyed, known=True)
    return _occurring(frame, [codes for codes, _ in found], names, values)


def known_keys(keys: tuple[GroupKey, ...], kinds: Mapping[str, Kind]) -> pa.Table:
    """Key columns of known groups, without looking at any row."""
    return _product([key.column for key in keys], [_asked(key, kinds[key.column]) for key in keys])


def _codes(frame: Frame, key: GroupKey, kind: Kind) -> tuple[NDArray[Any], Any]:
    """Code of each row in one key column, and the values."""

    def make() -> tuple[NDArray[Any], Any]:
        column = frame.columns[key.column]
        if key.edges is not None:
            return _binned(numbers_of(column), [float(exact(edge, "edge")) for edge in key.edges]), _asked(
                key, kind
            )
        if key.keys is not None:
            asked = _asked(key, kind)
            return _looked_up(column, asked), asked
        return dictionary_codes(column)

    return frame.source.kept(("group", key), make) if key.column in frame.raw else make()


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


def _binned(numbers: NDArray[Any], edges: list[float]) -> NDArray[Any]:
    values = numbers.astype(np.float64, copy=False)
    codes = np.searchsorted(edges, values, side="right") - 1
    codes[values == edges[-1]] = len(edges) - 2
    codes[~((values >= edges[0]) & (values <= edges[-1]))] = -1
    return codes.astype(np.int32)


def _looked_up(column: Any, asked: Any) -> NDArray[Any]:
    wanted = asked
    if pa.types.is_integer(column.type) and column.type != asked.type:
        column = column.cast(pa.int64(), safe=False)
    elif column.type != asked.type and not pa.types.is_floating(column.type):
        wanted = asked.cast(column.type)
    elif pa.types.is_floating(column.type):
        wanted = asked.cast(pa.float64(), safe=False)
    found = pc.fill_null(pc.index_in(column, value_set=wanted), -1)
    return numbers_of(found)


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


def _occurring(frame: Frame, columns: list[NDArray[Any]], names: list[str], values: list[Any]) -> Groups:
    """Only the groups that occur, numbered as they appear; the numbers are never shown.

    Codes are made dense at each column, so that no product leaves int64 whatever the data hold.
    """
    some = _left(frame, columns[0]) >= 0
    for column in columns[1:]:
        some &= column >= 0
    order = np.zeros(int(some.sum()), np.int64)
    first = order[:0]
    for column, size in zip(columns, map(len, values), strict=True):
        order, first = dense(order * size + column[some])
    codes = np.full(frame.rows, -1, np.int64)
    codes[some] = order
    keyed = [
        pc.take(value, pa.array(column[some][first])) for column, value in zip(columns, values, strict=True)
    ]
    return Groups(codes, int(first.size), pa.table(keyed, names=names), known=False)
