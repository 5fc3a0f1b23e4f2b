"""What minting, leasing and destroying share: one lock, one clock, the live fragments, their keys and their graves."""

import threading
from collections.abc import Callable, Iterable

from dayfly.privacy.errors import FragmentServiceClosed
from dayfly.privacy.fragments.orders import Destroyed, DestroyReason, EventKind, FragmentEvent
from dayfly.privacy.fragments.tombstones.graveyard import Graves
from dayfly.privacy.fragments.wire import MAX_TTL_SECONDS

from .registry import Entry, Registry, Wheel
from .slab import KeySlab

__all__ = ["State"]


class State:
    """The service's state. Every method but `tell` and `key_of` is called with `lock` held.

    Args:
        slab: Keys of live fragments.
        graves: Tombstone log.
        log: Receives events, or None.

    Attributes:
        lock: Held around every decision and every change.
        live: Live fragments.
        now_ms: The largest time seen.
        unreported: Deaths that no call has returned yet.
    """

    def __init__(self, slab: KeySlab, graves: Graves, log: Callable[[FragmentEvent], None] | None) -> None:
        self.lock = threading.RLock()
        self.live = Registry()
        self.slab = slab
        self.graves = graves
        self.now_ms = 0
        self.unreported: list[Destroyed] = []
        self.closed = False
        self._log = log
        self._next_due_ms = 0
        self._known_orders: set[str] = set()
        self._floors: dict[tuple[bytes, str], tuple[int, int]] = {}
        self._forget: Wheel[str | tuple[bytes, str]] = Wheel()

    def advance(self, now_ms: int) -> int:
        """Move time forward, never back, and destroy what is over.

        Raises:
            FragmentServiceClosed: Closed.
        """
        if self.closed:
            raise FragmentServiceClosed("service=<closed> must be open; start a new one")
        self.now_ms = now_ms = max(now_ms, self.now_ms)
        if now_ms >= self._next_due_ms:
            self.unreported.extend(self.destroy(self.live.due(now_ms), DestroyReason.EXPIRED))
            self._forget_due(now_ms)
            self._next_due_ms = (now_ms // 1000 + 1) * 1000  # every bucket begins at a whole second
        return now_ms

    def key_of(self, entry: Entry) -> memoryview:
        """The key of an entry, in place.

        Raises:
            KeyError: It died meanwhile, or never had a key.
        """
        if entry.slot is None:
            raise KeyError(entry.jti)
        return self.slab.view(entry.slot)

    def destroy(self, entries: Iterable[Entry], reason: DestroyReason) -> tuple[Destroyed, ...]:
        """Overwrite all keys first, then record the deaths, then tell."""
        dead = []
        for entry in list(entries):
            if self.live.get(entry.jti) is entry:
                if entry.slot is not None:
                    self.slab.shred(entry.slot)
                self.live.remove(entry)
                dead.append(entry)
        destroyed = tuple([self.graves.bury(entry, reason, self.now_ms) for entry in dead])
        for entry in dead:
            self.tell("destroyed", jti=entry.jti, order_id=entry.view.order_id, reason=reason)
        return destroyed

    def supersede_orders(self, order_ids: Iterable[str]) -> tuple[Destroyed, ...]:
        """Destroy the fragments of these orders and refuse to mint them later."""
        entries = []
        for order_id in order_ids:
            self.remember_order(order_id)
            entry = self.live.of_order(order_id)
            if entry is not None:
                entries.append(entry)
        return self.destroy(entries, DestroyReason.SUPERSEDED)

    def knows_order(self, order_id: str) -> bool:
        """Whether this order was minted or superseded already."""
        return order_id in self._known_orders

    def remember_order(self, order_id: str) -> None:
        """Refuse this order id until every order issued up to now is over."""
        if order_id not in self._known_orders:
            self._known_orders.add(order_id)
            self._forget.add(self.now_ms // 1000 + MAX_TTL_SECONDS + 1, order_id)

    def version_floor(self, subject: bytes, audience: str) -> int:
        """Lowest version of an order about this subject that may still be minted for this audience."""
        return self._floors.get((subject, audience), (0, 0))[0]

    def raise_floor(self, subject: bytes, audience: str, below_version: int) -> None:
        """Refuse older versions until every order issued up to now is over."""
        key, until = (subject, audience), self.now_ms // 1000 + MAX_TTL_SECONDS + 1
        self._floors[key] = (max(below_version, self.version_floor(subject, audience)), until)
        self._forget.add(until, key)

    def tell(self, kind: EventKind, *, jti: str = "", order_id: str = "", reason: str = "") -> None:
        """Log one event."""
        if self._log is not None:
            self._log(FragmentEvent(kind=kind, at_ms=self.now_ms, jti=jti, order_id=order_id, reason=reason))

    def _forget_due(self, now_ms: int) -> None:
        for forgotten in self._forget.due(now_ms):
            if isinstance(forgotten, str):
                self._known_orders.discard(forgotten)
            elif self._floors[forgotten][1] * 1000 <= now_ms:  # not raised again since
                del self._floors[forgotten]
