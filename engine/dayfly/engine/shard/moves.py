"""What a shard remembers of persons who came from other shards or went there."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Self

import msgspec

from dayfly.engine.errors import SnapshotError

__all__ = ["Moves", "read_moves"]


class _Stored(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """Wire form in a snapshot."""

    guests: list[bytes]
    departures: int
    outbox: dict[int, bytes]
    arrived: dict[int, int]


@dataclass(slots=True)
class Moves:
    """What a shard remembers of moves.

    Attributes:
        guests: Pseudonyms that came by a move: other shards may have seen their earlier events.
        departures: Number of the newest parcel sent.
        outbox: Parcels that are not known to have arrived, by number.
        arrived: Number of the newest parcel received, by source.
    """

    guests: set[bytes] = field(default_factory=set)
    departures: int = 0
    outbox: dict[int, bytes] = field(default_factory=dict)
    arrived: dict[int, int] = field(default_factory=dict)

    @property
    def any(self) -> bool:
        """Whether there ever was one that still matters."""
        return bool(self.guests or self.departures or self.arrived)

    def forget(self, names: Iterable[bytes]) -> None:
        """Forget pseudonyms of somebody who is erased, or who leaves."""
        self.guests.difference_update(names)

    def copy(self) -> Self:
        """As it is now."""
        return type(self)(self.guests.copy(), self.departures, self.outbox.copy(), self.arrived.copy())

    def to_bytes(self) -> bytes:
        """For a snapshot; equal moves give equal bytes."""
        return msgspec.msgpack.encode(
            _Stored(
                sorted(self.guests),
                self.departures,
                dict(sorted(self.outbox.items())),
                dict(sorted(self.arrived.items())),
            )
        )


def read_moves(data: memoryview) -> Moves:
    """What `Moves.to_bytes` wrote.

    Raises:
        SnapshotError: the bytes are nothing of the kind.
    """
    try:
        stored = msgspec.msgpack.decode(data, type=_Stored)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise SnapshotError(
            f"moves of {len(data)} bytes must be readable: {error}; use an older snapshot"
        ) from error
    return Moves(set(stored.guests), stored.departures, stored.outbox, stored.arrived)
