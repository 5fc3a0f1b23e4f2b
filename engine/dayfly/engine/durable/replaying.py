"""Replay of frames: the shard is told again what it was told, effects are folded, and what nobody carried out is found."""

from collections.abc import Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Final, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from dayfly.engine.decisions import Decisions
from dayfly.engine.durable.effects import Effects
from dayfly.engine.durable.feed_tail import FeedKept, FeedTail
from dayfly.engine.durable.input_frames import decode_inputs
from dayfly.engine.durable.joining import AT_ONCE, Piece, joined
from dayfly.engine.durable.reading_ahead import Decoded, StoredFrame
from dayfly.engine.durable.recovered import Recovered
from dayfly.engine.events import EventBatch
from dayfly.engine.inputs import Erase, Input, Merge

__all__ = ["Replay", "replaying"]

T = TypeVar("T")

_MOST: Final = 4
"""Times `AT_ONCE` that wait for the effects that tell what was carried out."""


@contextmanager
def replaying(recovered: Recovered, kept: FeedKept) -> Iterator["Replay"]:
    """A replay into a state, and the thread that it applies events with."""
    with ThreadPoolExecutor(1, thread_name_prefix="dayfly-replay") as applying:
        yield Replay(recovered, kept, applying)


class _Running(NamedTuple):
    """Events that are being applied, for each the instant after its frame, and the position of the last frame."""

    decisions: "Future[Decisions]"
    batch: EventBatch
    at_ms: npt.NDArray[np.int64]
    position: int


class Replay:
    """Tells the shard again what it was told: frames of events are gathered and applied together.

    Effects are folded as they come. What they cover is not decided anew, only the state is brought there. While the shard
    takes events in on a thread of its own, the next ones are gathered here; nothing else touches the shard meanwhile.

    Args:
        recovered: The state.
        kept: How much of the feed is wanted.
        applying: Has one thread.
    """

    def __init__(self, recovered: Recovered, kept: FeedKept, applying: Executor) -> None:
        self._recovered: Final = recovered
        self._applying: Final = applying
        self._running: _Running | None = None
        self._may_wait = bool(len(recovered.shard.waiting))
        """Whether events may wait in the shard for their time to come."""
        self._pieces: list[Piece] = []
        self._timely = 0
        """Pieces known to hold no event ahead of its time."""
        self._events = 0
        self._covers = recovered.standing.covers
        self._feed: Final = FeedTail(recovered, kept)

    def take(self, decoded: Decoded) -> None:
        """Take the next frame in."""
        frame, piece, effects = decoded
        if effects is not None:
            self._effects(frame.position, effects)
            return
        if piece is not None and not piece.size:
            piece = self._empty(piece)
        if self._pieces and (piece is None or not piece.follows(self._pieces[-1])):
            self._settle()
        if piece is None:
            self._alone(frame)
            return
        self._pieces.append(piece)
        self._events += piece.size
        if self._events >= AT_ONCE:
            self._settle(whole=self._events >= _MOST * AT_ONCE)

    def finish(self) -> None:
        """Apply what waits, and make the feed items that are kept."""
        self._settle()
        self._wait()
        self._recovered.items = self._feed.items()

    def _empty(self, piece: Piece) -> Piece | None:
        """A piece in which only time passed as one that can be joined with others; None where it must be taken alone.

        Of time that passes events come out that waited: they were counted under no channel then.
        """
        if any(self._pieces[at].early for at in range(self._timely, len(self._pieces))):
            return None
        self._timely = len(self._pieces)
        if self._may_wait:
            self._wait()
        if self._may_wait:
            return None
        return piece._replace(channel=self._pieces[-1].channel) if self._pieces else piece

    def _settle(self, *, whole: bool = True) -> None:
        """Apply the pieces that wait: those whose decisions were carried out, then (if `whole`) the others."""
        covered = [piece for piece in self._pieces if piece.position <= self._covers]
        others = self._pieces[len(covered) :]
        if covered:
            self._apply(covered)
        if others and whole:
            self._apply(others)
        self._pieces = [] if whole else others
        self._timely = 0
        self._events = sum(piece.size for piece in self._pieces)

    def _apply(self, pieces: list[Piece]) -> None:
        """Have the shard take events in, as soon as it has taken in those before them."""
        shard, last, before = self._recovered.shard, pieces[-1], self._running
        batch, at_ms = joined(pieces, shard.policy.catalog)
        told = last.position > self._covers
        columns = None if self._may_wait or not len(batch) else shard.columns(batch, ahead=True)
        if before is not None:
            before.decisions.result()
        if columns is None and len(batch):
            columns = shard.columns(batch)
        inputs = [batch] if len(batch) else []
        decisions = self._applying.submit(shard.apply, inputs, last.now_ms, told=told, columns=columns)
        self._running = _Running(decisions, batch, at_ms, last.position)
        self._may_wait = self._may_wait or bool((batch.time_ms > batch.received_ms).any())
        if before is not None:
            self._count(before)
        if told:  # what follows tells which of its decisions were carried out
            self._wait()

    def _wait(self) -> None:
        """Until the shard has taken everything in."""
        if self._running is not None:
            self._running.decisions.result()
            self._count(self._running)
            self._running = None
        self._may_wait = bool(len(self._recovered.shard.waiting))

    def _count(self, done: _Running) -> None:
        recovered, decisions = self._recovered, done.decisions.result()
        if len(done.batch):
            recovered.meter.joined(done.batch, done.at_ms, decisions)
        recovered.events += len(done.batch)
        self._keep(decisions, done.position)

    def _alone(self, frame: StoredFrame) -> None:
        self._wait()
        recovered = self._recovered
        inputs, now_ms = decode_inputs(frame.payload)
        for item in inputs:
            _note(recovered, item, frame.position)
        decisions = recovered.shard.apply(inputs, now_ms)
        recovered.meter.inputs(inputs, now_ms, decisions)
        recovered.events += sum(len(item) for item in inputs if isinstance(item, EventBatch))
        self._keep(decisions, frame.position)
        self._may_wait = bool(len(recovered.shard.waiting))

    def _keep(self, decisions: Decisions, position: int) -> None:
        """Remember what is to be carried out, unless later effects say that it was.

        Effects cover all inputs before them, so the decisions of a group may stand under its last position.
        """
        recovered = self._recovered
        if position <= self._covers:
            return
        for undone, made in (
            (recovered.orders, decisions.orders),
            (recovered.recalls, decisions.recalls),
            (recovered.tags, decisions.tags),
        ):
            if made:
                undone[position] = list(made)  # type: ignore[arg-type]

    def _effects(self, position: int, effects: Effects) -> None:
        recovered = self._recovered
        if self._pieces and effects.covers < self._pieces[-1].position:  # not the last frame of its turn
            self._settle()
        self._covers = max(self._covers, effects.covers)
        recovered.standing.fold(effects)
        self._feed.add(effects)
        recovered.meter.effects(effects.letters, effects.audit, effects.at_ms)
        recovered.lineage += [(position, minted) for minted in effects.minted]
        recovered.audit += effects.audit
        if effects.letters:
            recovered.letters.append((position, effects.letters))
        if effects.stones:
            recovered.stones.append((effects.first_stone, effects.stones))
        _drop_covered(recovered.orders, effects.covers)
        _drop_covered(recovered.recalls, effects.covers)
        _drop_covered(recovered.tags, effects.covers)
        if recovered.orders or recovered.recalls or recovered.tags:
            _drop_told(recovered, effects)


def _note(recovered: Recovered, item: Input, position: int) -> None:
    """Remember what is done beside the shard; before the shard is told, while it still knows who is who."""
    if isinstance(item, Erase):
        names = recovered.shard.names_of(item.subject)
        recovered.standing.erasing[position] = names
        recovered.lineage.append((position, names))
    elif isinstance(item, Merge):
        recovered.lineage.append((position, item))


def _drop_covered(undone: dict[int, list[T]], covers: int) -> None:
    for position in [position for position in undone if position <= covers]:
        del undone[position]


def _drop_told(recovered: Recovered, effects: Effects) -> None:
    """Take out what a frame tells that is not the last one of its turn."""
    orders = {minted.order.order_id for minted in effects.minted} | {
        item.order_id for item in effects.unminted
    }
    sequences = {item.sequence for item in effects.tags} | {item.sequence for item in effects.recalled}
    for made in recovered.orders.values():
        made[:] = [item for item in made if item.order.order_id not in orders]
    for recalls in recovered.recalls.values():
        recalls[:] = [item for item in recalls if item.sequence not in sequences]
    for tags in recovered.tags.values():
        tags[:] = [item for item in tags if item.sequence not in sequences]
