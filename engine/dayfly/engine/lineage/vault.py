"""The lineage vault: lineage of millions of fragments on disk, encrypted under keys that end with their period.

It answers what `LineageStore` answers, and keeps what that keeps: blocks and rule texts, never values, subjects only as keyed
digests. On disk nothing stands in the clear but numbers, the tenant's id and keyed digests.

Files: `NAME.db` (SQLite) and `NAME.secrets/` (16 bytes per record, one file per period, overwritten in place at erasure). Who
holds a copy of the database alone can read no record, whatever keys he holds. Who holds a copy of the database, of the secrets
*and* the period's data key still reads what was erased after the copy was made: keep secrets out of backups, or seal a backup
under a data key of its own and destroy that at erasure. After an erasure a file shows how many records a period ever had, not
whose the missing ones were.
"""

import hashlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final

import msgspec

from dayfly.engine.errors import LineageError
from dayfly.privacy.fragments import FragmentOrder
from dayfly.privacy.keys import DataKeys

from .block import decode
from .explain import FragmentLineage
from .explaining import Explaining
from .shape import LineageShape, shape_from_bytes
from .store import check_lineage
from .vault_opening import VaultSettings
from .vault_periods import Period
from .vault_records import VaultRecords

__all__ = ["LineageVault", "VaultSettings"]

_SUBJECT_BYTES: Final = 16
_JTI, _ORDER, _SUBJECT = b"j", b"o", b"s"


class _Entry(msgspec.Struct, frozen=True, array_like=True):
    """What is sealed of a fragment."""

    jti: str
    order_id: str
    subject: bytes
    audience: str
    purpose: str
    topic: str
    trigger_event: bytes
    issued_at_ms: int
    expires_at_ms: int
    block: bytes


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(_Entry).decode


class LineageVault(Explaining):
    """Lineage by fragment, by order and by person; erased by person, ended by period. One writer; not thread-safe.

    The vault is a view of its caller's log. With `position` on `put` and `merge`, what was put stays in memory until
    `flush(through)` says that the log holds it; `applied` is then the position behind which a recovery has to put again.
    Without positions every `at_once` fragments are written together, and `sync` makes them durable.

    Args:
        path: The database; made if absent.
        keys: Where the data keys of periods live (purpose "lineage").
        subject_key: 16 to 64 bytes; key of the subject digests. Another key than the vault was made with is refused.
        tenant: Whose vault this is; another tenant's file is refused.
        random_bytes: For secrets, nonces and the vault's id.
        settings: Limits.

    Raises:
        LineageError: Damaged, foreign, newer, open elsewhere, or keys that are not its own. Nothing was overwritten.

    Guarantees:
        No file of the vault holds a value of a field, a pseudonym, or anything of a record that could be read once the data key
        of its period or its own secret is destroyed.
    """

    def __init__(
        self,
        path: Path,
        *,
        keys: DataKeys,
        subject_key: bytes,
        tenant: bytes,
        random_bytes: Callable[[int], bytes],
        settings: VaultSettings | None = None,
    ) -> None:
        if not 16 <= len(subject_key) <= 64:
            raise LineageError(
                f"subject_key of {len(subject_key)} bytes must have 16 to 64; pass a random key"
            )
        self._subject_key = subject_key
        self._records = VaultRecords(
            path,
            keys=keys,
            subject_key=subject_key,
            tenant=tenant,
            random_bytes=random_bytes,
            settings=settings or VaultSettings(),
        )
        try:
            shapes = [shape_from_bytes(content) for content in self._records.shapes()]
        except BaseException:
            self._records.close()
            raise
        self._shapes = {shape.digest: shape for shape in shapes}
        self._open = True

    def __len__(self) -> int:
        """Number of fragments kept."""
        return len(self._records)

    @property
    def applied(self) -> int:
        """Everything put at a position up to this one is in the file."""
        return self._records.applied

    # --- writing -----------------------------------------------------------------------------------------------------

    def declare(self, shapes: Iterable[LineageShape]) -> None:
        """Keep the shapes of a policy's triggers; call at each publication, before its first fragment."""
        for shape in shapes:
            if shape.digest not in self._shapes:
                self._records.add_shape(shape.content)
                self._shapes[shape.digest] = shape

    def put(self, jti: str, order: FragmentOrder, *, position: int = 0) -> None:
        """Keep the lineage of a minted fragment. The same again changes nothing, so a replay may repeat it.

        A fragment of a period whose retention has ended is not kept. With a position, repeated fragments are known by it and
        only the newest records are searched for contradictions.

        Args:
            jti: Fragment id.
            order: What it was minted for.
            position: Where the caller's log holds it, never falling, from 1; 0: there is no such log.

        Raises:
            LineageError: As `LineageStore.put`, or the file cannot be written.
        """
        if self._records.has_seen(position):
            return
        check_lineage(order, self._shape)
        period = self._records.period_of(order.issued_at_ms)
        if period is None:
            return
        subject = self._digest(order.subject)
        payload = _encode(
            _Entry(
                jti,
                order.order_id,
                subject,
                order.audience,
                order.purpose,
                order.topic,
                order.trigger_id,
                order.issued_at_ms,
                order.expires_at_ms,
                order.lineage,
            )
        )
        by_jti, by_order = period.name(_JTI, jti.encode()), period.name(_ORDER, order.order_id.encode())
        for name in (by_jti, by_order):
            for number in self._records.numbers(period, name, whole=self._records.may_repeat(position)):
                if self._is_same(period, number, jti, order.order_id, payload):
                    return
        self._records.add(period, by_jti + by_order + period.name(_SUBJECT, subject), payload, position)
        if position == 0 and self._records.full:
            self._records.flush()

    def merge(self, subject: bytes, other: bytes, *, position: int = 0) -> None:
        """Fragments of `other` belong to `subject` from now on: both pseudonyms are one person."""
        if not self._records.has_seen(position):
            self._records.tie(self._digest(subject), self._digest(other), position)
            if position == 0 and self._records.full:
                self._records.flush()

    def flush(self, through: int | None = None) -> None:
        """Commit what was put at positions up to `through` (default: everything). An error leaves it to be tried again.

        Raises:
            LineageError: The file cannot be written.
        """
        self._records.flush(through)

    def erase(self, subject: bytes, *, position: int = 0) -> int:
        """Destroy the lineage of everything minted for `subject`, durably; returns the number of fragments.

        Secrets are overwritten first; from then on no copy of the database tells anything of these fragments. A crash before
        the end leaves unreadable records, which the same call removes when it is repeated. What was put before is written
        first, so the caller's log must hold it already. More may follow at the same position, so `applied` stays before it
        until the next `flush`.

        Guarantees:
            When it returns, neither secrets, ciphertexts, names nor ties of the person are in any file of the vault.
        """
        if self._records.has_seen(position):
            return 0
        self._records.flush(unfinished=position)
        group = self._records.group(self._digest(subject))
        erased = 0
        for period in self._records.readable():
            numbers = sorted({number for digest in group for number in self._of_person(period, digest)})
            if numbers:
                self._records.destroy(period, numbers)
                erased += len(numbers)
        self._records.untie(group, position)
        return erased

    def expire(self, now_ms: int, *, max_records: int = 20_000) -> int:
        """End the periods whose retention is over: their keys are destroyed at once, their bytes removed in strides.

        Args:
            now_ms: Current time, milliseconds UTC.
            max_records: Most records removed from the file by this call; the next call goes on.

        Returns:
            Fragments that became unreadable.
        """
        return self._records.expire(now_ms, max_records)

    def sync(self, through: int | None = None) -> None:
        """Make everything so far (or up to a position) durable against a power cut."""
        self._records.flush(through)
        self._records.sync()

    def copy(self, path: Path) -> None:
        """Copy the database as it was flushed, for a backup; without its secrets no record of it can be read.

        Raises:
            LineageError: The file cannot be written.
        """
        self._records.copy(path)

    def close(self, through: int | None = None) -> None:
        """Sync and close; what was put at positions after `through` is left to the caller's log."""
        if self._open:
            self._open = False
            try:
                self.sync(through)
            finally:
                self._records.close()

    # --- reading -----------------------------------------------------------------------------------------------------

    def fragment(self, jti: str) -> FragmentLineage:
        """Everything kept about fragment `jti`.

        Raises:
            LineageError: Unknown, erased, ended with its period, or damaged.
        """
        for entry in self._find(_JTI, jti):
            if entry.jti == jti:
                break
        else:
            raise LineageError(f"jti={jti!r} must be a fragment whose lineage is kept; check the id")
        block = decode(entry.block)
        return FragmentLineage(
            jti=jti,
            order_id=entry.order_id,
            audience=entry.audience,
            purpose=entry.purpose,
            topic=entry.topic,
            trigger_event=entry.trigger_event,
            issued_at_ms=entry.issued_at_ms,
            expires_at_ms=entry.expires_at_ms,
            block=block,
            shape=self._shape(block.shape),
        )

    def jti_of(self, order_id: str) -> str:
        """Fragment that was minted for an order.

        Raises:
            LineageError: None is kept.
        """
        for entry in self._find(_ORDER, order_id):
            if entry.order_id == order_id:
                return entry.jti
        raise LineageError(f"order_id={order_id!r} must have a fragment whose lineage is kept; check the id")

    def _find(self, kind: bytes, value: str) -> Iterable[_Entry]:
        """Entries that bear a name, the newest period first."""
        encoded = value.encode()
        for period in self._records.readable():
            for number in self._records.numbers(period, period.name(kind, encoded)):
                payload = self._records.read(period, number)
                if payload is not None:
                    yield _decode(payload)

    def _of_person(self, period: Period, digest: bytes) -> list[int]:
        """Records of a person in a period, also those whose secret an interrupted erasure has destroyed."""
        found = []
        for number in self._records.numbers(period, period.name(_SUBJECT, digest)):
            payload = self._records.read(period, number)
            if payload is None or _decode(payload).subject == digest:
                found.append(number)
        return found

    def _is_same(self, period: Period, number: int, jti: str, order_id: str, payload: bytes) -> bool:
        known = self._records.read(period, number)
        if known is None or known == payload:
            return known is not None
        entry = _decode(known)
        if entry.jti == jti or entry.order_id == order_id:
            raise LineageError(
                f"jti={jti!r} or its order must not have lineage already; mint a new fragment for new content"
            )
        return False

    def _digest(self, subject: bytes) -> bytes:
        return hashlib.blake2b(
            subject, digest_size=_SUBJECT_BYTES, key=self._subject_key, person=b"dayfly-lineage-s"
        ).digest()

    def _shape(self, digest: bytes) -> LineageShape:
        shape = self._shapes.get(digest)
        if shape is None:
            raise LineageError(
                f"shape={digest.hex()} must be declared; declare the policy's shapes before its fragments"
            )
        return shape
