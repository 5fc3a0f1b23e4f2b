"""What a recovery brings back: state after replay, and what the crash left undone."""

from dataclasses import dataclass, field

from dayfly.engine.decisions import OrderMade, Recall, TagChange
from dayfly.engine.durable.effects import Minted
from dayfly.engine.durable.feed import FeedItem
from dayfly.engine.durable.standing import Standing
from dayfly.engine.health.meter import ChannelMeter
from dayfly.engine.inputs import Merge
from dayfly.engine.intake import RejectedEvent
from dayfly.engine.shard import Shard

__all__ = ["Recovered"]


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
