"""The lineage store: from a fragment's id to why its audience sees each field.

It keeps blocks and rule texts, never values: a copy of the store is not a copy of the profile. Subjects stand in it as keyed
digests, which only serve to erase.
"""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final

import msgspec

from dayfly.engine.errors import LineageError
from dayfly.privacy.fragments import FragmentOrder

from .block import Covered, covered
from .entry import SUBJECT_BYTES, Entry, decode_entry, encode_entry, subject_digest
from .explain import FragmentLineage
from .explaining import Explaining
from .records import FileRecords, MemoryRecords, Records
from .shape import LineageShape, shape_from_bytes

__all__ = ["DEFAULT_MAX_FRAGMENTS", "LineageStore", "check_lineage"]

DEFAULT_MAX_FRAGMENTS: Final = 1_000_000
_SHAPE, _FRAGMENT, _MERGE = 1, 2, 3


class LineageStore(Explaining):
    """Lineage of the newest `max_fragments` fragments; older ones are erased as new ones come.

    Not thread-safe: one writer and its readers share one thread or a lock.

    Args:
        records: Where records lie; what is in them is read once.
        subject_key: Key of the subject digests, 16 to 64 bytes; without it nobody can tell whose fragment it was.
        max_fragments: Most fragments kept.

    Raises:
        LineageError: a setting is out of range, or a record cannot be read.
    """

    def __init__(
        self, records: Records, *, subject_key: bytes, max_fragments: int = DEFAULT_MAX_FRAGMENTS
    ) -> None:
        if not 16 <= len(subject_key) <= 64:
            raise LineageError(
                f"subject_key of {len(subject_key)} bytes must have 16 to 64; pass a random key"
            )
        if max_fragments < 1:
            raise LineageError(f"max_fragments={max_fragments} must be > 0; pass a larger bound")
        self._records = records
        self._subject_key = subject_key
        self._max_fragments = max_fragments
        self._shapes: dict[bytes, LineageShape] = {}
        self._positions: dict[str, int] = {}
        self._orders: dict[str, str] = {}
        self._subjects: dict[bytes, dict[str, None]] = {}
        self._merges: dict[bytes, list[tuple[bytes, int]]] = {}
        self._merged_into: dict[bytes, bytes] = {}
        for position, kind, payload in records.scan():
            self._load(position, kind, payload)

    @classmethod
    def in_memory(cls, *, subject_key: bytes, max_fragments: int = DEFAULT_MAX_FRAGMENTS) -> "LineageStore":
        """An empty store that ends with the process."""
        return cls(MemoryRecords(), subject_key=subject_key, max_fragments=max_fragments)

    @classmethod
    def open(
        cls, path: Path, *, subject_key: bytes, max_fragments: int = DEFAULT_MAX_FRAGMENTS
    ) -> "LineageStore":
        """The store in file `path`, made if absent. The same `subject_key` as before is needed to erase what is in it."""
        return cls(FileRecords(path), subject_key=subject_key, max_fragments=max_fragments)

    def __len__(self) -> int:
        """Number of fragments kept."""
        return len(self._positions)

    def declare(self, shapes: Iterable[LineageShape]) -> None:
        """Keep the shapes of a policy's triggers; call at each publication, before its first fragment."""
        for shape in shapes:
            if shape.digest not in self._shapes:
                self._records.append(_SHAPE, shape.content)
                self._shapes[shape.digest] = shape

    def put(self, jti: str, order: FragmentOrder) -> None:
        """Keep the lineage of a minted fragment. The same again changes nothing, so a replay may repeat it.

        Raises:
            LineageError: the block is malformed, its shape was not declared, it does not cover exactly the order's fields and
                consents, or `jti` or the order has other lineage already.
        """
        check_lineage(order, self._shape)
        entry = Entry.of(jti, order, self._digest(order.subject))
        payload = encode_entry(entry)
        if jti in self._positions or order.order_id in self._orders:
            known = self._positions.get(jti)
            if known is None or self._records.read(known) != payload:
                raise LineageError(
                    f"jti={jti!r} or its order must not have lineage already; mint a new fragment for new content"
                )
            return
        self._index(entry, self._records.append(_FRAGMENT, payload))

    def fragment(self, jti: str) -> FragmentLineage:
        """Everything kept about fragment `jti`.

        Raises:
            LineageError: unknown, erased, or older than what the store keeps.
        """
        entry = self._entry(jti)
        return entry.lineage(self._shape)

    def jti_of(self, order_id: str) -> str:
        """Fragment that was minted for an order.

        Raises:
            LineageError: none is kept.
        """
        if order_id not in self._orders:
            raise LineageError(
                f"order_id={order_id!r} must have a fragment whose lineage is kept; check the id"
            )
        return self._orders[order_id]

    def merge(self, subject: bytes, other: bytes) -> None:
        """Fragments of `other` belong to `subject` from now on: both pseudonyms are one person."""
        kept, gone = self._owner(self._digest(subject)), self._owner(self._digest(other))
        if kept != gone:
            self._merge(kept, gone, self._records.append(_MERGE, kept + gone))

    def erase(self, subject: bytes) -> int:
        """Destroy the lineage of everything minted for `subject`, durably; returns the number of fragments."""
        owner = self._owner(self._digest(subject))
        jtis = list(self._subjects.get(owner, ()))
        for jti in jtis:
            self._forget(jti)
        for gone, position in self._merges.pop(owner, ()):
            del self._merged_into[gone]
            self._records.erase(position)
        self._records.sync()
        return len(jtis)

    def sync(self) -> None:
        """Make everything so far durable."""
        self._records.sync()

    def close(self) -> None:
        """Flush and release the records."""
        self._records.close()

    def _digest(self, subject: bytes) -> bytes:
        return subject_digest(subject, self._subject_key)

    def _shape(self, digest: bytes) -> LineageShape:
        shape = self._shapes.get(digest)
        if shape is None:
            raise LineageError(
                f"shape={digest.hex()} must be declared; declare the policy's shapes before its fragments"
            )
        return shape

    def _entry(self, jti: str) -> Entry:
        position = self._positions.get(jti)
        if position is None:
            raise LineageError(
                f"jti={jti!r} must be among the newest {self._max_fragments} fragments and not erased; check the id"
            )
        return decode_entry(self._records.read(position))

    def _load(self, position: int, kind: int, payload: bytes) -> None:
        if kind == _SHAPE:
            shape = shape_from_bytes(payload)
            self._shapes[shape.digest] = shape
        elif kind == _FRAGMENT:
            try:
                entry = decode_entry(payload)
            except (msgspec.MsgspecError, UnicodeDecodeError) as error:
                raise LineageError(
                    f"fragment record at {position} must be readable: {error}; restore it from a copy"
                ) from error
            self._index(entry, position)
        elif kind == _MERGE and len(payload) == 2 * SUBJECT_BYTES:
            self._merge(payload[:SUBJECT_BYTES], payload[SUBJECT_BYTES:], position)
        else:
            raise LineageError(
                f"record kind={kind} at {position} must be known; read it with the release that wrote it"
            )

    def _index(self, entry: Entry, position: int) -> None:
        self._positions[entry.jti] = position
        self._orders[entry.order_id] = entry.jti
        self._subjects.setdefault(self._owner(entry.subject), {})[entry.jti] = None
        if len(self._positions) > self._max_fragments:
            self._forget(next(iter(self._positions)))

    def _merge(self, kept: bytes, gone: bytes, position: int) -> None:
        self._merged_into[gone] = kept
        self._merges.setdefault(kept, []).extend((*self._merges.pop(gone, ()), (gone, position)))
        fragments = self._subjects.pop(gone, {})
        if fragments:
            self._subjects.setdefault(kept, {}).update(fragments)

    def _owner(self, digest: bytes) -> bytes:
        """Whoever the subject was merged into, in the end."""
        while digest in self._merged_into:
            digest = self._merged_into[digest]
        return digest

    def _forget(self, jti: str) -> None:
        entry = self._entry(jti)
        position = self._positions.pop(jti)
        del self._orders[entry.order_id]
        owner = self._owner(entry.subject)
        del self._subjects[owner][jti]
        if not self._subjects[owner]:
            del self._subjects[owner]
        self._records.erase(position)


def _check_covers(order: FragmentOrder, block: Covered, shape: LineageShape) -> None:
    """Every field explained, every consent named, every index resolvable."""
    highest = block.fields[-1] if block.fields else -1
    if highest >= len(shape.fields) or block.channels > len(shape.channels):
        raise LineageError(
            f"lineage of order {order.order_id!r} must index fields and channels of its shape; use make_block"
        )
    explained = {shape.fields[index].name for index in block.fields}
    carried = {entry.name for entry in order.fields}
    if explained != carried:
        odd = ", ".join(sorted(explained ^ carried))
        raise LineageError(
            f"lineage of order {order.order_id!r} must cover exactly its fields; differs in: {odd}"
        )
    named = set(block.consents)
    rests = {(ref.record_id, ref.version) for ref in order.consent}
    if named != rests:
        odd = ", ".join(sorted(record_id for record_id, _ in named ^ rests))
        raise LineageError(
            f"lineage of order {order.order_id!r} must name exactly its consents; differs in: {odd}"
        )


def check_lineage(order: FragmentOrder, shape_of: Callable[[bytes], LineageShape]) -> None:
    """Check that an order's block is well formed and covers exactly its fields and consents.

    Args:
        order: About to be kept.
        shape_of: The declared shape of a digest; raises where there is none.

    Raises:
        LineageError: As `LineageStore.put`.
    """
    block = covered(order.lineage)
    _check_covers(order, block, shape_of(block.shape))
