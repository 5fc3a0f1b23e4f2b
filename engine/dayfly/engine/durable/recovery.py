"""Coming back: the newest snapshot, then every durable frame after it, then what the crash left undone.

Replay tells the shard again what it was told and folds the effects that were carried out. Orders whose effects are not in
the log were shown to nobody: they are handed back to be carried out now. Fragments whose end is not in the log died with
their keys, which were in memory only: they get their tombstones now.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Protocol, TypeVar

from dayfly.engine.decisions import OrderMade, Recall, TagChange
from dayfly.engine.durable.effects import Effects, Minted, decode_effects
from dayfly.engine.durable.feed import FeedItem
from dayfly.engine.durable.host import EFFECTS, INPUTS
from dayfly.engine.durable.input_frames import decode_inputs
from dayfly.engine.durable.standing import Standing, read_standing
from dayfly.engine.errors import FrameError
from dayfly.engine.events import EventBatch
from dayfly.engine.health.meter import ChannelMeter
from dayfly.engine.inputs import Erase, Input, Merge
from dayfly.engine.intake import RejectedEvent
from dayfly.engine.policy.load import policy_from_source
from dayfly.engine.policy.model import Policy
from dayfly.engine.shard import Shard

__all__ = ["METER", "POLICY", "SHARD", "STANDING", "Recovered", "fresh_parts", "recover"]

T = TypeVar("T")

POLICY: Final = "policy"
SHARD: Final = "shard"
STANDING: Final = "standing"
METER: Final = "meter"
"""Parts of a snapshot."""


class StoredFrame(Protocol):
    """A frame as the log gives it back."""

    @property
    def position(self) -> int:
        """Its place in the log."""
        ...

    @property
    def kind(self) -> int:
        """What it holds."""
        ...

    @property
    def payload(self) -> bytes:
        """Its content."""
        ...


@dataclass(slots=True)
class Recovered:
    """State after replay.

    Attributes:
        shard: As it was after the newest durable inputs.
        standing: Folded effects.
        meter: What came in, counted.
        items: Feed items still kept.
        orders, recalls, tags: Decided by durable inputs and not carried out, by the position of the inputs.
        lineage: What the lineage vault may have missed, with log positions: fragments minted, subjects merged, and the
            pseudonyms of persons erased.
        audit, letters: Audit lines, and dead letters with log positions, that their files may have missed.
        stones: What the tombstone log may have missed: index of the first entry, and the entries.
        position: Of the newest frame, or of the snapshot.
        frames, events: Replayed.
    """

    shard: Shard
    standing: Standing
    meter: ChannelMeter
    items: list[FeedItem]
    orders: dict[int, list[OrderMade]] = field(default_factory=dict)
    recalls: dict[int, list[Recall]] = field(default_factory=dict)
    tags: dict[int, list[TagChange]] = field(default_factory=dict)
    lineage: list[tuple[int, Minted | Merge | tuple[bytes, ...]]] = field(default_factory=list)
    audit: list[bytes] = field(default_factory=list)
    letters: list[tuple[int, tuple[RejectedEvent, ...]]] = field(default_factory=list)
    stones: list[tuple[int, tuple[bytes, ...]]] = field(default_factory=list)
    position: int = 0
    frames: int = 0
    events: int = 0

    @property
    def undone_orders(self) -> list[OrderMade]:
        """Orders that nobody carried out, oldest first."""
        return [made for position in sorted(self.orders) for made in self.orders[position]]

    @property
    def undone_recalls(self) -> list[Recall]:
        """Recalls that nobody carried out, oldest first."""
        return [recall for position in sorted(self.recalls) for recall in self.recalls[position]]

    @property
    def undone_tags(self) -> list[TagChange]:
        """Tag changes that no feed item tells of, oldest first."""
        return [change for position in sorted(self.tags) for change in self.tags[position]]


def fresh_parts(policy: Policy, series: Callable[[bytes, str], bytes]) -> dict[str, bytes]:
    """The first snapshot of a store: nobody known, a policy in force.

    Raises:
        ShardError: the policy does not compile.
    """
    return {
        POLICY: policy.source,
        SHARD: Shard(policy).snapshot(),
        STANDING: Standing(series).to_bytes(()),
        METER: ChannelMeter(policy.catalog).to_bytes(),
    }


def recover(
    position: int,
    parts: Mapping[str, bytes],
    frames: Iterable[StoredFrame],
    *,
    series: Callable[[bytes, str], bytes],
    progress: Callable[[int], object] | None = None,
    **shard_options: Any,
) -> Recovered:
    """State after a snapshot and the frames that follow it.

    Args:
        position: Log position of the snapshot.
        parts: Its content.
        frames: Every durable frame after it, in order.
        series: Keyed digest of subject and trigger, for the feed.
        progress: Told the number of frames replayed, after each.
        **shard_options: As for `Shard.restore`.

    Raises:
        FrameError: a frame or part cannot be read, or the frames do not follow the snapshot.
        SnapshotError: the shard's part is not of this version.
    """
    for name in (POLICY, SHARD, STANDING, METER):
        if name not in parts:
            raise FrameError(f"part={name!r} must be in the snapshot; use an older snapshot")
    policy = policy_from_source(bytes(parts[POLICY]))
    standing, items = read_standing(bytes(parts[STANDING]), series)
    shard = Shard.restore(bytes(parts[SHARD]), policy, **shard_options)
    meter = ChannelMeter.from_bytes(bytes(parts[METER]), policy.catalog)
    recovered = Recovered(shard, standing, meter, items, position=position)
    for frame in frames:
        if frame.position != recovered.position + 1:
            raise FrameError(
                f"frame position={frame.position} must be {recovered.position + 1}; restore the store from a backup"
            )
        recovered.position = frame.position
        recovered.frames += 1
        _take(recovered, frame)
        if progress is not None:
            progress(recovered.frames)
    return recovered


def _take(recovered: Recovered, frame: StoredFrame) -> None:
    if frame.kind == INPUTS:
        _inputs(recovered, frame)
    elif frame.kind == EFFECTS:
        _effects(recovered, frame)
    else:
        raise FrameError(f"frame kind={frame.kind} must be known; read it with the release that wrote it")


def _inputs(recovered: Recovered, frame: StoredFrame) -> None:
    inputs, now_ms = decode_inputs(frame.payload)
    for item in inputs:
        _note(recovered, item, frame.position)
    decisions = recovered.shard.apply(inputs, now_ms)
    recovered.meter.inputs(inputs, now_ms, decisions)
    if decisions.orders:
        recovered.orders[frame.position] = list(decisions.orders)
    if decisions.recalls:
        recovered.recalls[frame.position] = list(decisions.recalls)
    if decisions.tags:
        recovered.tags[frame.position] = list(decisions.tags)
    recovered.events += sum(len(item) for item in inputs if isinstance(item, EventBatch))


def _note(recovered: Recovered, item: Input, position: int) -> None:
    """Remember what is done beside the shard; before the shard is told, while it still knows who is who."""
    if isinstance(item, Erase):
        names = recovered.shard.names_of(item.subject)
        recovered.standing.erasing[position] = names
        recovered.lineage.append((position, names))
    elif isinstance(item, Merge):
        recovered.lineage.append((position, item))


def _effects(recovered: Recovered, frame: StoredFrame) -> None:
    effects = decode_effects(frame.payload)
    recovered.items += recovered.standing.fold(effects)
    recovered.meter.effects(effects.letters, effects.audit, effects.at_ms)
    recovered.lineage += [(frame.position, minted) for minted in effects.minted]
    recovered.audit += effects.audit
    if effects.letters:
        recovered.letters.append((frame.position, effects.letters))
    if effects.stones:
        recovered.stones.append((effects.first_stone, effects.stones))
    _drop_covered(recovered.orders, effects.covers)
    _drop_covered(recovered.recalls, effects.covers)
    _drop_covered(recovered.tags, effects.covers)
    if recovered.orders or recovered.recalls or recovered.tags:
        _drop_told(recovered, effects)


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
