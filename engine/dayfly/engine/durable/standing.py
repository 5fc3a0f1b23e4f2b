"""Where the host stands: what follows from all effects so far. Live and at recovery the same fold over the same frames."""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Final

import msgspec

from dayfly.engine.durable.effects import Effects, Ended, Minted
from dayfly.engine.durable.feed import FeedItem, item_count, items_of
from dayfly.engine.durable.recording import RecordedCounts
from dayfly.engine.errors import FrameError
from dayfly.privacy.audit_log import AuditHead
from dayfly.privacy.fragments import DestroyReason
from dayfly.privacy.transfers import FieldClass, TransferCounts

__all__ = ["Alive", "Standing", "read_standing"]

_FORMAT: Final = 1
_WITHOUT_SHARD: Final = frozenset({DestroyReason.CLOSED.value, DestroyReason.LOST.value})


class Alive(msgspec.Struct, array_like=True):
    """A fragment that was minted and has not ended, and how often its key was leased."""

    minted: Minted
    leases: int = 0


class _Stored(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """Wire form of a `Standing` in a snapshot."""

    format: int
    covers: int
    next_item: int
    audit: tuple[int, str]
    transfers: bytes
    alive: list[Alive]
    items: list[FeedItem]
    counts: dict[str, int]
    stones: int
    untold: dict[str, int]
    erasing: dict[int, tuple[bytes, ...]]
    purging: int


class Standing:
    """Folded effects.

    Args:
        series: Keyed digest of a subject and a trigger, for the feed.

    Attributes:
        covers: Position of the newest inputs whose decisions are carried out.
        next_item: Number of the next feed item.
        audit: Head of the audit log.
        transfers: People counted at the border this year.
        alive: Fragments minted and not ended, by jti. Their keys are in memory only: after a restart all of them are dead.
        stones: Tombstones in the tombstone log.
        untold: Orders whose fragments died while no shard could be told (closed, lost), with their leases.
        erasing: Log position of an erasure to the pseudonyms of the person, until their traces beside the shard are gone.
        purging: Everything written up to this position must still be destroyed, because of erasures; 0: nothing.
        counts: Fragments minted, leased, ended by reason, orders refused by reason; since the store was made.
    """

    def __init__(self, series: Callable[[bytes, str], bytes]) -> None:
        self._series = series
        self.covers = 0
        self.next_item = 1
        self.audit = AuditHead(0, "0" * 64)
        self.transfers = RecordedCounts()
        self.alive: dict[str, Alive] = {}
        self.counts: Counter[str] = Counter()
        self.stones = 0
        self.untold: dict[str, int] = {}
        self.erasing: dict[int, tuple[bytes, ...]] = {}
        self.purging = 0

    def fold(self, effects: Effects) -> None:
        """Take one frame of effects in."""
        self.covers = max(self.covers, effects.covers)
        for minted in effects.minted:
            self.alive[minted.jti] = Alive(minted)
            self.counts["minted"] += 1
        for leased in effects.leased:
            fragment = self.alive.get(leased.jti)
            if fragment is not None:
                fragment.leases += 1
            self.counts["leased"] += 1
        for ended in effects.ended:
            self.alive.pop(ended.jti, None)
            if ended.reason in _WITHOUT_SHARD:
                self.untold[ended.order_id] = ended.leases
            self.counts[_end_name(ended)] += 1
        for refused in effects.unminted:
            self.counts[f"unminted.{refused.reason}"] += 1
        for counted in effects.counted:
            TransferCounts.count(
                self.transfers,
                counted.subject,
                counted.recipient,
                FieldClass(counted.field_class),
                counted.at_ms,
            )
        for line in effects.audit:
            digest = hashlib.sha256(line.removesuffix(b"\n")).hexdigest()
            self.audit = AuditHead(self.audit.lines + 1, digest)
        self.stones = max(self.stones, effects.first_stone + len(effects.stones))
        if effects.erased:
            self.erasing = {at: names for at, names in self.erasing.items() if at > effects.erased}
            self.purging = 0 if self.purging <= effects.erased else self.purging
        self.next_item = effects.first_item + item_count(effects)

    def items_of(self, effects: Effects) -> list[FeedItem]:
        """Feed items of a frame of effects."""
        return items_of(effects, self._series)

    def to_bytes(self, items: Iterable[FeedItem]) -> bytes:
        """For a snapshot, with the feed items to keep."""
        stored = _Stored(
            _FORMAT,
            self.covers,
            self.next_item,
            (self.audit.lines, self.audit.sha256),
            self.transfers.to_bytes(),
            list(self.alive.values()),
            list(items),
            dict(self.counts),
            self.stones,
            self.untold,
            self.erasing,
            self.purging,
        )
        return msgspec.msgpack.encode(stored)


def _end_name(ended: Ended) -> str:
    unopened = ended.reason == "expired" and ended.leases == 0
    return "ended.expired_unused" if unopened else f"ended.{ended.reason}"


def read_standing(data: bytes, series: Callable[[bytes, str], bytes]) -> tuple[Standing, list[FeedItem]]:
    """What `Standing.to_bytes` wrote, and the feed items kept with it.

    Raises:
        FrameError: the bytes are nothing of the kind, or of a newer format.
    """
    try:
        stored = msgspec.msgpack.decode(data, type=_Stored)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise FrameError(
            f"host state of {len(data)} bytes must be readable: {error}; use an older snapshot"
        ) from error
    if stored.format != _FORMAT:
        raise FrameError(
            f"host state format={stored.format} must be {_FORMAT}; use the release that wrote it"
        )
    standing = Standing(series)
    standing.covers, standing.next_item = stored.covers, stored.next_item
    standing.audit = AuditHead(*stored.audit)
    standing.transfers = RecordedCounts.from_bytes(stored.transfers)
    standing.alive = {entry.minted.jti: entry for entry in stored.alive}
    standing.counts = Counter(stored.counts)
    standing.stones, standing.untold = stored.stones, stored.untold
    standing.erasing, standing.purging = stored.erasing, stored.purging
    return standing, stored.items
