"""What reaches an engine, in the order in which it arrived: raw messages and rows of files, of all channels together."""

import heapq
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Final, Literal, TypeAlias

import numpy as np

from dayfly.engine.intake import IntakeResult
from dayfly.engine.intake.results import take_rows

__all__ = ["Arrival", "Form", "RawMessage", "Rows", "in_order", "pieces"]

Form: TypeAlias = Literal["segment", "cloudevents"]
"""How a raw message is read; RudderStack speaks Segment."""

PIECE_MS: Final = 1_000
"""Rows of one piece arrived within this time."""


@dataclass(frozen=True, slots=True)
class RawMessage:
    """One message as the channel sent it; `received_ms` is when it arrived, UTC."""

    received_ms: int
    channel: str
    form: Form
    payload: bytes


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows of a mapped file that intake has read already; `received_ms` is when the last of them arrived."""

    received_ms: int
    channel: str
    result: IntakeResult


Arrival: TypeAlias = RawMessage | Rows


def in_order(sources: Iterable[Iterable[Arrival]]) -> Iterator[Arrival]:
    """All arrivals by time of receipt; those of one source keep their order, equal times that of the sources."""
    return heapq.merge(*sources, key=lambda arrival: arrival.received_ms)


def pieces(results: Iterable[IntakeResult], channel: str, *, piece_ms: int = PIECE_MS) -> Iterator[Rows]:
    """Cut what intake read from a file into pieces of at most `piece_ms`, so that other channels can come between.

    Args:
        results: Rows in order of receipt.
        channel: Where they came from.
        piece_ms: Longest time from the first to the last row of a piece.
    """
    latest = 0
    for result in results:
        received = result.batch.received_ms
        if not len(received):
            latest = max([latest, *(letter.at_ms for letter in result.dead_letters)])
            yield Rows(latest, channel, result)
            continue
        cuts = np.flatnonzero(np.diff(received // piece_ms)) + 1
        bounds = [0, *cuts.tolist(), len(received)]
        for number, (start, end) in enumerate(pairwise(bounds)):
            latest = int(received[end - 1])
            rows = take_rows(result.batch, np.arange(start, end))
            # Counts and dead letters go with the first piece, identities with the last, whose events they follow.
            first, last = number == 0, end == len(received)
            piece = IntakeResult(
                rows,
                result.dead_letters if first else (),
                result.merges if last else (),
                result.counts if first else {},
            )
            yield Rows(latest, channel, piece)
