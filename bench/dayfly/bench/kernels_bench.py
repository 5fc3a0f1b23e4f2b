"""Kernels that only measuring needs: people by the million put into a shard at once, and bare window updates.

The window kernel is the shard's own `find_line` and `insert` in the order in which `kernels_run.run` uses them, prefetch
included, without events, history, tags or time around them.
"""

import numpy as np
import numpy.typing as npt

from dayfly.engine.shard.kernels_core import Core
from dayfly.engine.shard.kernels_lines import (
    STAMPS,
    Lines,
    find_line,
    first_after,
    home,
    insert,
    line_key,
    view,
)
from dayfly.engine.shard.kernels_prefetch import prefetch_row
from dayfly.engine.shard.kernels_run import add_person
from dayfly.privacy._jit import lean_kernel

__all__ = ["enrol", "update_windows"]

Words = npt.NDArray[np.int64]

_AHEAD = 16
_CREATE = True
_HOUR_MS = 3_600_000


@lean_kernel
def enrol(core: Core, subjects: npt.NDArray[np.uint64], mask: npt.NDArray[np.uint64]) -> None:
    """Add people to a shard with a compiled consent mask each, as if each had given that consent.

    The caller has made room (`Shard(expected_people=...)`).
    """
    for index in range(len(subjects)):
        person = add_person(core, subjects[index, 0], subjects[index, 1])
        for word in range(len(mask)):
            core.masks[person, word] = mask[word]


@lean_kernel
def update_windows(
    lines: Lines, customers: Words, features: npt.NDArray[np.int32], times: Words, thresholds: Words
) -> int:
    """Insert one time stamp per event and check two thresholds; the number of times that one was just passed.

    Args:
        lines: Window state with room for every line.
        customers: int64[events].
        features: int32[events].
        times: int64[events], rising.
        thresholds: int64[2, 2]: window in ms and k of "more than k within the window".

    Oracle: tests.bench.test_kernels.passed
    """
    table = lines.table
    cap = max(thresholds[0, 1], thresholds[1, 1]) + 1
    span = max(thresholds[0, 0], thresholds[1, 0])
    passed = 0
    for index in range(len(customers)):
        ahead = index + _AHEAD
        if ahead < len(customers):
            prefetch_row(table, home(line_key(customers[ahead], features[ahead]), table.shape[0]))
        time = times[index]
        row = find_line(table, lines.meta, line_key(customers[index], features[index]), _CREATE)
        replaced = insert(lines, row, STAMPS, cap, time - span, (time, 0))
        array, offset, stride, count = view(lines, row, STAMPS)
        for rule in range(2):
            lower = time - thresholds[rule, 0]
            if replaced > lower:
                continue
            live = count - first_after(array, offset, stride, count, lower)
            passed += live == thresholds[rule, 1] + 1
    return passed
