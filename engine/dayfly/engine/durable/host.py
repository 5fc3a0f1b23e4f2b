"""The host: a `MemoryEngine` whose every input and every effect becomes a log frame. Used by one thread at a time.

Inputs are logged when the shard has applied them, effects when they were carried out in memory; both before anybody is
told. What a call brought is released when the log is durable up to `Turn.position`.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Final, Protocol

from dayfly.engine.decisions import Decisions
from dayfly.engine.durable import recording
from dayfly.engine.durable.cutting import check_fits, effects_frames, fitting, inputs_frames
from dayfly.engine.durable.effects import Effects, Leased, Unminted
from dayfly.engine.durable.feed import FeedItem
from dayfly.engine.durable.places import Letters, in_submissions
from dayfly.engine.durable.standing import Standing
from dayfly.engine.errors import EngineFailed, ShardError
from dayfly.engine.health.meter import ChannelMeter
from dayfly.engine.inputs import Input
from dayfly.engine.intake import IntakeResult, RejectedEvent
from dayfly.engine.runtime import MemoryEngine, Outcome
from dayfly.privacy.errors import DayflyError
from dayfly.privacy.fragments import Lease, LeaseRequest
from dayfly.privacy.fragments.tombstones.durable import DurableGraveyard

__all__ = ["EFFECTS", "INPUTS", "FrameLog", "Host", "Turn"]

INPUTS: Final = 1
EFFECTS: Final = 2
"""Kinds of frames."""


class FrameLog(Protocol):
    """What the host needs of a log."""

    def append_all(self, frames: Sequence[tuple[int, bytes]]) -> int:
        """Buffer frames, kind and payload each; returns the position of the last."""
        ...

    def wait(self, position: int, timeout_seconds: float | None = None) -> None:
        """Return when a position is durable."""


@dataclass(slots=True)
class Turn:
    """What one turn leaves to be released.

    Attributes:
        position: Log position that must be durable first.
        items: Feed items.
        audit: Lines of the audit log.
        lineage: Writes to the lineage vault, in the order of the log.
        letters: Dead letters of the intake.
        stones: Size of the tombstone log.
    """

    position: int = 0
    items: list[FeedItem] = field(default_factory=list)
    audit: list[bytes] = field(default_factory=list)
    lineage: list[Callable[[], object]] = field(default_factory=list)
    letters: list[RejectedEvent] = field(default_factory=list)
    stones: int = 0


class Host:
    """One engine and its log.

    Args:
        standing: Folded effects of all earlier frames.
        log: Takes the frames.
        position: Of the newest frame in it; nobody else appends.
        meter: Counts of all earlier frames.
        frame_bytes: Most bytes of a frame.
        tags_in_feed: Whether tag changes become feed items.

    Attributes:
        engine: Set by `use`.
        position: Of the newest frame, in the log after `hand_over`.
        logged_bytes: Of all frames since the last `forget_logged`.
    """

    def __init__(
        self,
        standing: Standing,
        log: FrameLog,
        position: int,
        *,
        meter: ChannelMeter,
        frame_bytes: int,
        tags_in_feed: bool,
    ) -> None:
        self.standing = standing
        self.meter = meter
        self.engine: MemoryEngine
        self.position = position
        self.logged_bytes = 0
        self._log = log
        self._frames: list[tuple[int, bytes]] = []
        self._limit = frame_bytes
        self._tags_in_feed = tags_in_feed
        self._lineage: recording.LineageView
        self._graves: DurableGraveyard
        self._covers = standing.covers
        self._turn = Turn()
        self._outcomes: list[Outcome] = []
        self._leased: list[Leased] = []
        self._audit: list[bytes] = []
        self._letters: list[RejectedEvent] = []
        self._erased = 0

    def use(self, engine: MemoryEngine, lineage: recording.LineageView, graves: DurableGraveyard) -> None:
        """Take the engine whose recorders these are."""
        self.engine = engine
        self._lineage = lineage
        self._graves = graves

    # --- recorders: given to the engine --------------------------------------------------------------------------------

    def tap(self, inputs: Sequence[Input], now_ms: int, decisions: Decisions) -> None:
        """Log what the shard was told. Time that passes without a decision needs no frame: the next one brings it."""
        if inputs or decisions.orders or decisions.recalls or decisions.tags or decisions.refusals:
            for payload in inputs_frames(inputs, now_ms, self._limit):
                self._covers = self._lineage.inputs = self._append(INPUTS, payload)
            self.meter.inputs(inputs, now_ms, decisions)

    def audit(self, line: bytes) -> None:
        """Note a line of the audit log."""
        self._audit.append(line)

    def ready(self, _size: int) -> None:
        """Make everything up to now durable, before a checkpoint of the tombstone log is signed."""
        self.log_effects(last=True)
        self._log.wait(self.position)

    @property
    def fresh_items(self) -> list[FeedItem]:
        """Feed items of the turn that has not ended."""
        return self._turn.items

    def _append(self, kind: int, payload: bytes) -> int:
        self._frames.append((kind, payload))
        self.logged_bytes += len(payload)
        self.position += 1
        return self.position

    def hand_over(self) -> None:
        """Give the log what was appended since the last time, at once: inputs and effects of a turn are then one write.

        Raises:
            EngineFailed: the log does not take it. The state has it and the log has not: nothing may be decided with this
                state any more.
        """
        frames, self._frames = self._frames, []
        if not frames:
            return
        try:
            newest = self._log.append_all(frames)
        except DayflyError as error:
            raise EngineFailed(
                f"engine=<failed> must be opened again: {error}; what was acknowledged is safe on disk"
            ) from error
        if newest != self.position:
            raise EngineFailed(
                f"position={newest} of the log must be {self.position}; open the store again, and append nothing beside it"
            )

    # --- acting --------------------------------------------------------------------------------------------------------

    def segment(
        self, payloads: Sequence[bytes], channel: str, received_ms: int, *, ends: Sequence[int]
    ) -> Letters:
        """Take Segment or RudderStack payloads of several submissions in; returns what is no event, by submission.

        Args:
            payloads: Of all submissions, one after the other.
            channel: Of all of them.
            received_ms: When.
            ends: For each submission the number of the payload behind its last one.

        Raises:
            CatalogError: the channel is not declared.
            ValueOutOfRange: a payload is too large for the log; nothing was taken.
        """
        letters: Letters = []
        read = partial(self.engine.intake.segment, channel=channel, received_ms=received_ms)
        for start, found in list(fitting(read, payloads, self._limit)):
            result, told = in_submissions(found, start, ends)
            self.take(result, received_ms)
            letters += told
        return letters

    def take(self, result: IntakeResult, now_ms: int) -> None:
        """Take the outcome of an intake call in.

        Raises:
            ValueOutOfRange: it is too large for the log; nothing was taken.
        """
        check_fits([result.batch], self._limit)
        self._letters += result.dead_letters
        if len(result.batch) or result.merges:
            with _whole():
                self.note(self.engine.take(result, now_ms))

    def apply(self, inputs: Sequence[Input], now_ms: int) -> Outcome:
        """Tell the shard something, and note what it brings.

        Raises:
            ShardError: a policy does not compile; nothing was changed.
            ValueOutOfRange: it is too large for the log; nothing was changed.
        """
        check_fits(inputs, self._limit)
        # What time brings is noted first: where the inputs are refused, deaths of this instant must not be lost with them.
        with _whole():
            self.note(self.engine.apply([], now_ms))
            return self.note(self.engine.apply(inputs, now_ms))

    def erase(self, subject: bytes, now_ms: int) -> tuple[int, Outcome]:
        """Erase a person from the shard; returns the log position and what it brought. `Erasures` does the rest."""
        self.note(self.engine.apply([], now_ms))
        self.log_effects()  # what was decided before is told of before
        names = self.engine.shard.names_of(subject)
        with _whole():
            outcome = self.note(self.engine.erase(subject, now_ms))
        for name in names:
            self.engine.lineage.erase(name)
        self.standing.erasing[self._covers] = names
        return self._covers, outcome

    def erased(self, position: int) -> None:
        """Note that erasures up to a position are complete."""
        self._erased = position

    def carried_out(self, position: int) -> None:
        """The decisions of all inputs up to a position are carried out by what is noted now."""
        self._covers = max(self._covers, position)

    def note(self, outcome: Outcome) -> Outcome:
        """Remember what an engine call brought, to be logged at the end of the turn."""
        self._outcomes.append(outcome)
        return outcome

    def lease(self, request: LeaseRequest, now_ms: int) -> Lease:
        """Give a key, and remember to whom.

        Raises:
            LeaseRefused: as `MemoryEngine.lease`.
        """
        # What time brings is noted first, so that no fragment is minted inside the lease without being logged.
        self.note(self.engine.apply([], now_ms))
        lease = self.engine.lease(request, now_ms)
        self._leased.append(Leased(lease.jti, now_ms))
        return lease

    # --- logging -------------------------------------------------------------------------------------------------------

    def log_effects(self, *, last: bool = False) -> None:
        """Log what was noted since the last time, as one frame; none where there was nothing.

        Args:
            last: Nothing more comes in this turn, so the log gets everything at once, and writes it while it is folded here.
        """
        effects = self._effects()
        parts = [] if effects is None else list(effects_frames(effects, self.standing.covers, self._limit))
        for _, payload in parts:
            self._append(EFFECTS, payload)
        if last:
            self.hand_over()
        if effects is not None:
            for part, _ in parts:
                self.standing.fold(part)
                self._turn.items += self.standing.items_of(part)
            self._lineage.logged(self.position)
            self.meter.effects(effects.letters, effects.audit, effects.at_ms)
            self._turn.audit += effects.audit
            self._turn.letters += effects.letters
        self._outcomes, self._leased, self._audit, self._letters = [], [], [], []
        self._erased = 0

    def _effects(self) -> Effects | None:
        """What was noted; None when it was nothing."""
        tags = (
            [tag for outcome in self._outcomes for tag in outcome.decisions.tags]
            if self._tags_in_feed
            else ()
        )
        minted = [item for outcome in self._outcomes for item in recording.minted(outcome)]
        recalled = [item for outcome in self._outcomes for item in outcome.decisions.recalls]
        ended = [item for outcome in self._outcomes for item in recording.ended(outcome.destroyed)]
        refused = [item for outcome in self._outcomes for item in outcome.mint_refusals]
        counted = self.standing.transfers.drain()
        known = self.standing.stones
        stones = self._graves.entries(known) if len(self._graves) > known else ()
        if not (
            tags or minted or recalled or ended or refused or counted or stones
            or self._leased or self._audit or self._letters or self._erased
        ):  # fmt: skip
            return None
        return Effects(
            at_ms=self.engine.shard.clock_ms,
            covers=self._covers,
            first_item=self.standing.next_item,
            minted=tuple(minted),
            recalled=tuple(recalled),
            ended=tuple(ended),
            unminted=tuple(Unminted(item.order_id, item.reason) for item in refused),
            leased=tuple(self._leased),
            counted=counted,
            tags=tuple(tags),
            audit=tuple(self._audit),
            letters=tuple(self._letters),
            erased=self._erased,
            first_stone=known,
            stones=stones,
        )

    def end_turn(self) -> Turn:
        """Log the effects and hand over everything that now waits for the log."""
        self.log_effects(last=True)
        turn, self._turn = self._turn, Turn()
        turn.position = self.position
        turn.lineage = self._lineage.take_waiting()
        turn.stones = self.standing.stones
        return turn

    def close_fragments(self) -> None:
        """Destroy every live fragment and sign the last checkpoint. The shard is told when the store is opened again."""
        self.note(Outcome(Decisions(), destroyed=self.engine.fragments.close()))


@contextmanager
def _whole() -> Iterator[None]:
    """Around what tells the shard something: it refuses before it changes anything (`ShardError`), or it must not refuse.

    Any other error comes from the middle, when the state has something that the log has not.

    Raises:
        EngineFailed: that happened.
    """
    try:
        yield
    except ShardError:
        raise
    except DayflyError as error:
        raise EngineFailed(
            f"engine=<failed> must be opened again: {error}; what was acknowledged is safe on disk"
        ) from error
