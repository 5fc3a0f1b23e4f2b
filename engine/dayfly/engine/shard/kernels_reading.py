"""One walk over a person's history for all that an order shows."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from dayfly.engine.shard.kernels_layout import (
    H_CHANNEL,
    H_PREVIOUS,
    H_TIME,
    H_TYPE,
    H_VALUES,
    LAST_EVENT,
    NULL,
)
from dayfly.engine.shard.kernels_predicates import predicate_holds
from dayfly.privacy._jit import lean_kernel

__all__ = ["Found", "Past", "gather"]

Words = npt.NDArray[np.int64]


class Past(NamedTuple):
    """The arrays of a shard that say what happened, and no others: each array of a call costs time.

    Attributes:
        people: As in `Core`.
        history: As in `Core`.
        values: As in `Rows`.
        text_bits: As in `Rows`.
        predicates: As in `Program`.
        predicate_range: As in `Program`.
    """

    people: Words
    history: Words
    values: Words
    text_bits: npt.NDArray[np.uint64]
    predicates: Words
    predicate_range: Words


class Found(NamedTuple):
    """What was found for each want.

    Attributes:
        counts: int64[wants, 2]: events found; 1 where they are in order, newest first by (time, arrival).
        cells: int64[wants, room, 2]: event number and the cell asked for, newest arrival first.
    """

    counts: Words
    cells: Words


@lean_kernel
def gather(past: Past, person: int, now: int, wants: Words, found: Found) -> int:
    """Find the events of a person that each want asks for.

    Args:
        past: What happened.
        person: Number of the person.
        now: The present instant.
        wants: int64[n, 4]: event type, predicate, window in ms (events with time > now - window), and the slot of a cell
            that must be present (-1: none is asked for).
        found: Room for the answer; what does not fit is counted and not written.

    Returns:
        The largest count.

    Oracle: tests.oracles.reading.matching
    """
    most = np.int64(0)
    room = found.cells.shape[1]
    for want in range(len(wants)):
        found.counts[want, 0], found.counts[want, 1] = 0, 1
    event = past.people[person, LAST_EVENT]
    while event >= 0:
        kind, time = past.history[event, H_TYPE], past.history[event, H_TIME]
        offset, channel = past.history[event, H_VALUES], past.history[event, H_CHANNEL]
        for want in range(len(wants)):
            if wants[want, 0] != kind or time <= now - wants[want, 2]:
                continue
            cell = np.int64(0)
            if wants[want, 3] >= 0:
                cell = past.values[offset + wants[want, 3]]
                if cell == NULL:
                    continue
            if not predicate_holds(past, past.text_bits, (past.values, offset), wants[want, 1], channel):  # type: ignore[arg-type]  # has what a program has for it
                continue
            count = found.counts[want, 0]
            if count < room:
                found.cells[want, count, 0], found.cells[want, count, 1] = event, cell
                if count and past.history[found.cells[want, count - 1, 0], H_TIME] < time:
                    found.counts[want, 1] = 0
            found.counts[want, 0] = count + 1
            most = max(most, count + 1)
        event = past.history[event, H_PREVIOUS]
    return int(most)
