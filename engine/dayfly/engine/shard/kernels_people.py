"""Tables keyed by 16-byte ids: pseudonym -> person, and the ids of events already seen."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from dayfly.engine.shard.kernels_prefetch import prefetch_row
from dayfly.privacy._jit import inlined_kernel, lean_kernel

__all__ = ["VALUE", "Ids", "find_id", "id_home", "put_id", "put_ids", "rehash_ids", "remove_id"]

Words = npt.NDArray[np.int64]

VALUE = 2
_AHEAD = 16  # ids between asking the cache for a row and needing it


class Ids(NamedTuple):
    """An open-addressing table from 16 bytes to an int64.

    Attributes:
        keys: uint64[capacity, 4], the id in the first two columns; both zero: free. (An id of sixteen zero bytes does not
            occur: ids are keyed hashes.)
        values: The same memory as int64, the value in column `VALUE`: one cache line holds both.
        meta: int64[1]: rows in use.
    """

    keys: npt.NDArray[np.uint64]
    values: Words
    meta: Words


@inlined_kernel
def id_home(low: int, high: int, mask: int) -> int:
    """Home slot; ids are keyed hashes already, so that folding them is enough."""
    x = (np.uint64(low) ^ (np.uint64(high) >> np.uint64(7))) * np.uint64(0x9E3779B97F4A7C15)
    return np.int64((x ^ (x >> np.uint64(32))) & np.uint64(mask))


@inlined_kernel
def find_id(ids: Ids, low: int, high: int) -> int:
    """Row of an id, or -1 minus the free row where it belongs."""
    mask = ids.keys.shape[0] - 1
    row = id_home(low, high, mask)
    while True:
        if ids.keys[row, 0] == low and ids.keys[row, 1] == high:
            return row
        if ids.keys[row, 0] == 0 and ids.keys[row, 1] == 0:
            return -1 - row
        row = (row + 1) & mask


@inlined_kernel
def put_id(ids: Ids, low: int, high: int, value: int) -> None:
    """Set the value of an id, new or not. The caller keeps the load below one.

    Oracle: dict
    """
    row = find_id(ids, low, high)
    if row < 0:
        row = -1 - row
        ids.keys[row, 0], ids.keys[row, 1] = low, high
        ids.meta[0] += 1
    ids.values[row, VALUE] = value


@lean_kernel
def put_ids(ids: Ids, rows: npt.NDArray[np.uint64]) -> None:
    """Set many values: `rows` is uint64[n, 3], an id and its value.

    Oracle: dict
    """
    mask = ids.keys.shape[0] - 1
    for row in range(len(rows)):
        if row + _AHEAD < len(rows):
            prefetch_row(ids.keys, id_home(rows[row + _AHEAD, 0], rows[row + _AHEAD, 1], mask))
        put_id(ids, rows[row, 0], rows[row, 1], np.int64(rows[row, 2]))


@lean_kernel
def rehash_ids(source: Ids, target: Ids, least: int) -> None:
    """Copy all ids whose value is at least `least` into an empty table."""
    for row in range(source.keys.shape[0]):
        if (source.keys[row, 0] != 0 or source.keys[row, 1] != 0) and source.values[row, VALUE] >= least:
            put_id(target, source.keys[row, 0], source.keys[row, 1], source.values[row, VALUE])


@lean_kernel
def remove_id(ids: Ids, low: int, high: int) -> None:
    """Take an id out and close the gap, so that nothing of it stays in the table.

    Oracle: dict
    """
    mask = ids.keys.shape[0] - 1
    gap = find_id(ids, low, high)
    if gap < 0:
        return
    ids.meta[0] -= 1
    row = gap
    while True:
        row = (row + 1) & mask
        if ids.keys[row, 0] == 0 and ids.keys[row, 1] == 0:
            break
        wanted = id_home(ids.keys[row, 0], ids.keys[row, 1], mask)
        if ((row - wanted) & mask) >= ((row - gap) & mask):
            ids.keys[gap, 0], ids.keys[gap, 1] = ids.keys[row, 0], ids.keys[row, 1]
            ids.values[gap, VALUE] = ids.values[row, VALUE]
            gap = row
    ids.keys[gap, 0], ids.keys[gap, 1] = np.uint64(0), np.uint64(0)
    ids.values[gap, VALUE] = 0
