"""The router: sends every input to the shard of its person, and moves persons together before something links them.

A move changes nothing that is decided (see `dayfly.engine.shard.moving`), so that it may be made early: all links of a
batch are looked at before its first event is sent, whether or not the shard will refuse the events that state them.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Final, Protocol

import numpy as np
import numpy.typing as npt

from dayfly.engine.catalog import Catalog
from dayfly.engine.events import EventBatch
from dayfly.engine.inputs import Arrive, Confirm, Depart
from dayfly.engine.shard.parcels import read_parcel
from dayfly.engine.sharded.routes import Ids, Routes
from dayfly.engine.sharded.splitting import rows_of

__all__ = ["MovingPort", "Pair", "Router"]

Pair = tuple[bytes, bytes]
"""Two pseudonyms of one person; the first one's shard is preferred."""


class MovingPort(Protocol):
    """What moves need of a shard. Calls take effect in their order, also among those that send it inputs."""

    def depart(self, item: Depart) -> bytes:
        """Take persons out; returns their parcel when that is durable."""
        ...

    def arrive(self, item: Arrive) -> None:
        """Take a parcel in; returns when that is durable."""
        ...

    def confirm(self, item: Confirm) -> None:
        """Empty the outbox of a parcel."""
        ...

    def seen(self, ids: Ids, received_ms: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
        """Which event ids it took in and remembers at these instants."""
        ...

    def outbox(self) -> Sequence[bytes]:
        """Parcels that are not known to have arrived."""
        ...


class Router:
    """Knows who lives where. Used by one thread at a time.

    Args:
        ports: The shards, by number.
        routes: Where pseudonyms live.
    """

    def __init__(self, ports: Sequence[MovingPort], routes: Routes) -> None:
        self.routes: Final = routes
        self.moves = 0
        self._ports: Final = ports

    # --- moving -------------------------------------------------------------------------------------------------------

    def bring_together(self, pairs: Iterable[Pair], at_ms: int) -> None:
        """See to it that the two pseudonyms of each pair live in one shard, with all that belongs to them."""
        groups = _Groups()
        for one, other in pairs:
            groups.join(one, other)
        while (wanted := self._next_move(groups)) is not None:
            source, to, names = wanted
            for name in self._move(source, to, names, at_ms):
                groups.join(names[0], name)

    def _next_move(self, groups: "_Groups") -> tuple[int, int, list[bytes]] | None:
        """Everybody who must leave one shard for another, the first such pair of shards; None when all are together."""
        found: dict[tuple[int, int], list[bytes]] = {}
        for name in groups:
            home, wanted = self.routes.home(name), self.routes.home(groups.first(name))
            if home != wanted:
                found.setdefault((home, wanted), []).append(name)
        for (home, wanted), names in found.items():
            return home, wanted, names
        return None

    def _move(self, source: int, to: int, names: Sequence[bytes], at_ms: int) -> list[bytes]:
        """Move persons; returns all pseudonyms that went along."""
        parcel = self._ports[source].depart(Depart(at_ms, tuple(names), source, to))
        return self._deliver(parcel, at_ms)

    def _deliver(self, data: bytes, at_ms: int) -> list[bytes]:
        parcel = read_parcel(data)
        self._ports[parcel.to].arrive(Arrive(max(at_ms, parcel.clock_ms), data))
        self._ports[parcel.source].confirm(Confirm(at_ms, parcel.number))
        self.routes.moved(parcel.names, parcel.to)
        self.moves += 1
        return parcel.names

    def heal(self, at_ms: int) -> int:
        """Finish the moves that a crash left half done; returns how many there were."""
        undone = [parcel for port in self._ports for parcel in port.outbox()]
        for parcel in undone:
            self._deliver(parcel, at_ms)
        return len(undone)

    # --- splitting ----------------------------------------------------------------------------------------------------

    def split(self, batch: EventBatch, catalog: Catalog) -> list[tuple[int, EventBatch]]:
        """The events of each shard, after moving together whom they link; duplicates that another shard saw are left out."""
        if not len(batch):
            return []
        self._bring_linked_together(batch)
        homes, guests = self.routes.homes(batch.subject)
        if len(guests):
            homes[guests[self._seen_elsewhere(batch, guests, homes)]] = -1
        shards = np.unique(homes).tolist()
        return [
            (shard, rows_of(batch, np.flatnonzero(homes == shard), catalog)) for shard in shards if shard >= 0
        ]

    def _bring_linked_together(self, batch: EventBatch) -> None:
        linked = np.flatnonzero(batch.link.any(axis=1))
        if not len(linked):
            return
        subjects, links = batch.subject[linked], batch.link[linked]
        if (self.routes.homes(subjects)[0] == self.routes.homes(links)[0]).all():
            return
        pairs = zip(_names(subjects), _names(links), strict=True)
        self.bring_together(pairs, int(batch.received_ms[0]))

    def _seen_elsewhere(
        self, batch: EventBatch, rows: npt.NDArray[np.intp], homes: npt.NDArray[np.int64]
    ) -> npt.NDArray[np.bool_]:
        """Which of these events another shard than their own took in before their person moved."""
        seen = np.zeros(len(rows), bool)
        for shard, port in enumerate(self._ports):
            asked = np.flatnonzero(homes[rows] != shard)
            if len(asked):
                seen[asked] |= port.seen(batch.event_id[rows[asked]], batch.received_ms[rows[asked]])
        return seen


class _Groups:
    """Pseudonyms that belong together, each group with a first member (union-find)."""

    def __init__(self) -> None:
        self._above: dict[bytes, bytes] = {}

    def __iter__(self) -> Iterator[bytes]:
        """All pseudonyms."""
        return iter(list(self._above))

    def first(self, name: bytes) -> bytes:
        """The first member of a pseudonym's group."""
        above = self._above.setdefault(name, name)
        while above != name:
            self._above[name] = self._above[above]
            name = above
            above = self._above[name]
        return name

    def join(self, one: bytes, other: bytes) -> None:
        """Make two groups one, led by the first member of `one`'s."""
        self._above[self.first(other)] = self.first(one)


def _names(ids: Ids) -> list[bytes]:
    data = ids.astype("<u8").tobytes()
    return [data[start : start + 16] for start in range(0, len(data), 16)]
