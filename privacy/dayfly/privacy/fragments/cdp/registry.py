"""Live fragments and the ways to find them: by name, order, consent record, subject, second of death."""

import heapq
from collections.abc import Iterable, Iterator
from typing import Generic, TypeVar

import msgspec

from dayfly.privacy.fragments.orders import OrderView

from .slab import Slot

__all__ = ["Entry", "Registry", "Wheel"]


class Entry(msgspec.Struct, kw_only=True, eq=False, gc=False):
    """One live fragment. Mutable, owned by the service, touched only under its lock.

    Attributes:
        jti: 128 random bits, base64url. Deliberately no slot number: that would tell a CRM how many are alive.
        slot: Where the key stands, or None for a clear fragment.
        view: The order without its values.
        iat: Issued, in seconds.
        exp: Dead from this second on.
        budget: Leases allowed, or None.
        version: Supersession version.
        kc: Key commitment, or empty.
        jkt: Thumbprint of the recipient's key.
        leases: Leases given.
        token_hash: SHA-256 of the token; empty until it was published.
        answers: Sealed answers of an F2 fragment.
    """

    jti: str
    slot: Slot | None
    view: OrderView
    iat: int
    exp: int
    budget: int | None
    version: int
    kc: str
    jkt: str
    leases: int = 0
    token_hash: bytes = b""
    answers: bytes = b""


T = TypeVar("T")


class Wheel(Generic[T]):
    """Things to do at a second: one bucket per second, the seconds in a heap. O(1) to add among known seconds."""

    def __init__(self) -> None:
        self._buckets: dict[int, list[T]] = {}
        self._seconds: list[int] = []

    def add(self, second: int, thing: T) -> None:
        """Put `thing` into the bucket of `second`."""
        bucket = self._buckets.get(second)
        if bucket is None:
            self._buckets[second] = [thing]
            heapq.heappush(self._seconds, second)
        else:
            bucket.append(thing)

    def due(self, now_ms: int) -> Iterator[T]:
        """Take out everything whose second has begun, earliest first."""
        while self._seconds and self._seconds[0] * 1000 <= now_ms:
            yield from self._buckets.pop(heapq.heappop(self._seconds))


class Registry:
    """Live fragments with their indexes.

    Guarantees:
        Every entry is in all its indexes or in none; `remove` leaves nothing behind in any of them.
    """

    def __init__(self) -> None:
        self._by_jti: dict[str, Entry] = {}
        self._by_order: dict[str, Entry] = {}
        self._by_consent: dict[str, dict[str, Entry]] = {}
        self._by_subject: dict[bytes, dict[str, Entry]] = {}
        self._expiry: Wheel[str] = Wheel()

    def __len__(self) -> int:
        """Number of live fragments."""
        return len(self._by_jti)

    def __iter__(self) -> Iterator[Entry]:
        """Live fragments in the order of their minting."""
        return iter(self._by_jti.values())

    def add(self, entry: Entry) -> None:
        """Add an entry to all indexes."""
        jti, view = entry.jti, entry.view
        self._by_jti[jti] = entry
        self._by_order[view.order_id] = entry
        for ref in view.consent:
            self._by_consent.setdefault(ref.record_id, {})[jti] = entry
        self._by_subject.setdefault(view.subject, {})[jti] = entry
        self._expiry.add(entry.exp, jti)

    def remove(self, entry: Entry) -> None:
        """Take an entry out of all indexes; its place in the expiry wheel empties by itself."""
        jti, view = entry.jti, entry.view
        del self._by_jti[jti]
        del self._by_order[view.order_id]
        for record_id in {ref.record_id for ref in view.consent}:
            _drop(self._by_consent, record_id, jti)
        _drop(self._by_subject, view.subject, jti)

    def get(self, jti: str) -> Entry | None:
        """The live fragment of that name."""
        return self._by_jti.get(jti)

    def of_order(self, order_id: str) -> Entry | None:
        """The live fragment of that order."""
        return self._by_order.get(order_id)

    def of_consent(self, record_id: str, below_version: int | None) -> list[Entry]:
        """Live fragments resting on that consent record (of an older version only, where one is given)."""
        return [
            entry
            for entry in self._by_consent.get(record_id, {}).values()
            if below_version is None
            or any(ref.record_id == record_id and ref.version < below_version for ref in entry.view.consent)
        ]

    def of_subject(self, subject: bytes, audience: str | None) -> list[Entry]:
        """Live fragments about that subject (for that audience only, where one is given)."""
        found: Iterable[Entry] = self._by_subject.get(subject, {}).values()
        return [entry for entry in found if audience is None or entry.view.audience == audience]

    def due(self, now_ms: int) -> Iterator[Entry]:
        """Live fragments whose time is over."""
        for jti in self._expiry.due(now_ms):
            entry = self._by_jti.get(jti)
            if entry is not None:
                yield entry


_K = TypeVar("_K")


def _drop(index: dict[_K, dict[str, Entry]], key: _K, jti: str) -> None:
    group = index[key]
    del group[jti]
    if not group:
        del index[key]
